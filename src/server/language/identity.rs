//! [`IdentityConfig`]: the section `[identity]`.

use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error};
use serde_json::Value;

use super::age::age;
use super::template::{Scope, Template, Variable};

/// The section `[identity]`. It is applied once for each socket, before the server accepts it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct IdentityConfig {
    /// The sources of the identity, in order. The first one that the client provides counts. Default: the token if
    /// `phoenix_token` is set, else the connect params.
    pub(crate) from: Option<Vec<Source>>,
    /// The accepted tokens.
    pub(crate) phoenix_token: Option<PhoenixTokenConfig>,
    /// A table: `user.*` of the rooms.
    #[serde(deserialize_with = "fields")]
    pub(crate) fields: Option<Template>,
    /// Names of fields that must not be null; else the handshake is refused.
    pub(crate) require: Vec<String>,
    /// The socket's id: a broadcast of `disconnect` on it closes its sockets.
    #[serde(deserialize_with = "socket_id")]
    pub(crate) socket_id: Option<Template>,
}

/// The source of an identity.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Source {
    /// The connect params: the client's own claims.
    Params,
    /// A Phoenix.Token, signed with `SECRET_KEY_BASE`.
    PhoenixToken,
    /// The backend, with the fields of the source before it.
    Hook,
}

/// `phoenix_token`: the accepted tokens, and the connect param that carries them.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct PhoenixTokenConfig {
    pub(crate) param: String,
    pub(crate) salt: String,
    /// The age that ends a token; without it the token's own counts.
    #[serde(deserialize_with = "max_age")]
    pub(crate) max_age: Option<Duration>,
}

impl Default for PhoenixTokenConfig {
    fn default() -> Self {
        Self {
            param: "token".to_owned(),
            salt: "user socket".to_owned(),
            max_age: None,
        }
    }
}

impl IdentityConfig {
    /// The sources, in order.
    pub(crate) fn sources(&self) -> Vec<Source> {
        match (&self.from, &self.phoenix_token) {
            (Some(from), _) => from.clone(),
            (None, Some(_)) => vec![Source::PhoenixToken],
            (None, None) => vec![Source::Params],
        }
    }

    /// Whether the backend is asked about connections.
    pub(crate) fn asks_hook(&self) -> bool {
        self.sources().contains(&Source::Hook)
    }

    /// The contradiction in the section, if there is one.
    pub(crate) fn contradiction(&self) -> Option<&'static str> {
        let sources = self.sources();
        let tokens = sources.contains(&Source::PhoenixToken);
        let reads = |variable| {
            let fields = self.fields.as_ref();
            fields.is_some_and(|fields| fields.used().has(variable))
        };
        let before_hook = sources.split(|source| *source == Source::Hook).next();
        if sources.is_empty() {
            Some("from: must name \"params\", \"phoenix_token\" or \"hook\"")
        } else if before_hook.is_some_and(|before| before.len() + 1 < sources.len()) {
            Some("from: \"hook\" is asked after the other sources, so it must be the last")
        } else if tokens != self.phoenix_token.is_some() {
            Some("from: \"phoenix_token\" and the key phoenix_token belong together")
        } else if !tokens && reads(Variable::Token) {
            Some("fields: {token} is there with phoenix_token alone")
        } else {
            None
        }
    }
}

fn max_age<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(input)?;
    age(&text)
        .map(Some)
        .map_err(|problem| D::Error::custom(format!("max_age: {text:?} {problem}")))
}

const FIELDS: Scope = Scope::of(&[
    Variable::Connect,
    Variable::Token,
    Variable::Uuid,
    Variable::Now,
]);

fn fields<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Template>, D::Error> {
    let value = Value::deserialize(input)?;
    if !value.is_object() {
        return Err(D::Error::custom("must be a table"));
    }
    let template = Template::parse(&value, FIELDS);
    template.map(Some).map_err(D::Error::custom)
}

fn socket_id<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Template>, D::Error> {
    let value = Value::deserialize(input)?;
    let template = Template::parse(&value, Scope::of(&[Variable::User]));
    template.map(Some).map_err(D::Error::custom)
}
