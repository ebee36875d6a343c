//! [`IdentityConfig`]: the section `[identity]`.

use std::num::NonZeroUsize;

use serde::Deserialize;
use serde::de::{Deserializer, Error};
use serde_json::Value;

use super::accepted_token::{JwtConfig, PhoenixTokenConfig};
use super::table::only_tables;
use super::template::{Scope, Template, Variable};

/// The section `[identity]`. It is applied once for each socket, before the server accepts it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields, remote = "Self")]
pub(crate) struct IdentityConfig {
    /// The sources of the identity, in order. The first one that the client provides counts. Default: the tokens that
    /// are set, else the connect params.
    pub(crate) from: Option<Vec<Source>>,
    /// The accepted tokens of a Phoenix application.
    pub(crate) phoenix_token: Option<PhoenixTokenConfig>,
    /// The accepted JSON Web Tokens.
    pub(crate) jwt: Option<JwtConfig>,
    /// A table: `user.*` of the rooms.
    #[serde(deserialize_with = "fields")]
    pub(crate) fields: Option<Template>,
    /// Names of fields that must not be null; else the handshake is refused.
    pub(crate) require: Vec<String>,
    /// The most open connections of one `user.id`. `None`: no limit.
    pub(crate) max_connections: Option<NonZeroUsize>,
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
    /// A JSON Web Token.
    Jwt,
    /// The backend, with the fields of the source before it.
    Hook,
}

only_tables!(IdentityConfig);

impl IdentityConfig {
    /// The sources, in order.
    pub(crate) fn sources(&self) -> Vec<Source> {
        if let Some(from) = &self.from {
            return from.clone();
        }
        let phoenix = self.phoenix_token.iter().map(|_| Source::PhoenixToken);
        let sources: Vec<_> = phoenix
            .chain(self.jwt.iter().map(|_| Source::Jwt))
            .collect();
        if sources.is_empty() {
            return vec![Source::Params];
        }
        sources
    }

    /// Whether the identity may come from a token.
    pub(crate) fn has_tokens(&self) -> bool {
        self.phoenix_token.is_some() || self.jwt.is_some()
    }

    /// The fields that come from the connect params: nobody verifies them.
    pub(crate) fn claims(&self) -> Vec<String> {
        self.fields.as_ref().map_or_else(Vec::new, |fields| {
            fields.members_that_name(Variable::Connect)
        })
    }

    /// Whether the backend is asked about connections.
    pub(crate) fn asks_hook(&self) -> bool {
        self.sources().contains(&Source::Hook)
    }

    /// The contradiction in the section, if there is one.
    pub(crate) fn contradiction(&self) -> Option<&'static str> {
        let sources = self.sources();
        let reads = |variable| {
            let fields = self.fields.as_ref();
            fields.is_some_and(|fields| fields.used().has(variable))
        };
        let before_hook = sources.split(|source| *source == Source::Hook).next();
        let phoenix = self.phoenix_token.as_ref().map(|tokens| &tokens.param);
        let jwt = self.jwt.as_ref().map(|tokens| &tokens.param);
        if sources.is_empty() {
            Some("from: must name \"params\", \"phoenix_token\", \"jwt\" or \"hook\"")
        } else if before_hook.is_some_and(|before| before.len() + 1 < sources.len()) {
            Some("from: \"hook\" is asked after the other sources, so it must be the last")
        } else if sources.contains(&Source::PhoenixToken) != phoenix.is_some() {
            Some("from: \"phoenix_token\" and the key phoenix_token belong together")
        } else if sources.contains(&Source::Jwt) != jwt.is_some() {
            Some("from: \"jwt\" and the key jwt belong together")
        } else if phoenix.is_some() && phoenix == jwt {
            Some("phoenix_token and jwt: each needs a \"param\" of its own")
        } else if !self.has_tokens() && reads(Variable::Token) {
            Some("fields: {token} is there with phoenix_token or jwt alone")
        } else if self.max_connections.is_some() && self.fields.is_none() && !self.asks_hook() {
            Some(
                "max_connections: it counts connections by user.id, so it needs fields = { id = .. }",
            )
        } else {
            None
        }
    }
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
