//! [`Identity`]: the user behind a socket. [`Identified`]: a socket that determines it.

use std::fmt;
use std::sync::Arc;

use serde_json::{Value, json};

use super::random::{Uuid, random_id};
use crate::assigns::Assigns;
use crate::server::language::template::Values;
use crate::server::language::{IdentityConfig, Source};
use crate::socket::{ConnectInfo, ConnectRefused, Params, Socket};
use crate::token::{KeyOptions, MaxAge, SecretKeyBase, SecretTooShort, Signer, VerifyOptions};

/// The longest identity, in bytes of JSON.
const MAX_BYTES: usize = 16_384;

/// Lets everybody connect, anonymously.
#[derive(Debug)]
pub struct UserSocket;

impl Socket for UserSocket {}

/// `user.*` of the rooms. A socket of your own may assign it in `connect`.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    pub(super) user: Arc<Value>,
    pub(super) socket_id: String,
    /// Phoenix's `id/1`.
    name: Option<String>,
}

impl Identity {
    /// An identity with these fields.
    pub fn new(user: Value) -> Self {
        Self {
            user: Arc::new(user),
            socket_id: random_id(),
            name: None,
        }
    }
}

/// Determines the identity by `[identity]`, and then calls another socket.
pub struct Identified<S> {
    config: Option<IdentityConfig>,
    /// Verifies the tokens of `phoenix_token`.
    signer: Option<Signer>,
    inner: S,
}

impl<S> fmt::Debug for Identified<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identified")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// Why the identity cannot be configured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// `phoenix_token` without a secret.
    #[error(
        "[identity] phoenix_token: it needs SECRET_KEY_BASE, the secret that the tokens are signed with"
    )]
    NoSecret,
    /// The secret is too short.
    #[error("SECRET_KEY_BASE: {0}")]
    Secret(#[from] SecretTooShort),
}

impl<S: Socket> Identified<S> {
    /// # Errors
    /// If the identity comes from tokens, and there is no secret for them or it is too short.
    pub(crate) fn new(
        config: Option<IdentityConfig>,
        secret: Option<&str>,
        inner: S,
    ) -> Result<Self, IdentityError> {
        let tokens = config
            .as_ref()
            .and_then(|config| config.phoenix_token.as_ref());
        let signer = match tokens {
            None => None,
            Some(tokens) => {
                let secret = SecretKeyBase::new(secret.ok_or(IdentityError::NoSecret)?)?;
                Some(Signer::new(&secret, &tokens.salt, KeyOptions::default()))
            }
        };
        Ok(Self {
            config,
            signer,
            inner,
        })
    }

    /// The content of the client's token; null if the identity comes from its params.
    ///
    /// # Errors
    /// If the token is wrong or expired. Then the server does not fall back to the params.
    fn token(&self, config: &IdentityConfig, params: &Params) -> Result<Value, ConnectRefused> {
        let tokens = self.signer.as_ref().zip(config.phoenix_token.as_ref());
        for source in config.sources() {
            match (source, tokens) {
                (Source::Params, _) | (_, None) => return Ok(Value::Null),
                (Source::PhoenixToken, Some((signer, tokens))) => {
                    let Some(token) = params.get(&tokens.param) else {
                        continue;
                    };
                    let options = VerifyOptions {
                        max_age: tokens.max_age.map(MaxAge::from),
                        ..VerifyOptions::now()
                    };
                    let term = signer.verify(Some(token), options)?;
                    let value = Value::try_from(term);
                    return value.map_err(|error| ConnectRefused::because(error.to_string()));
                }
            }
        }
        Err(ConnectRefused::because("no token"))
    }
}

impl<S: Socket> Socket for Identified<S> {
    async fn connect(
        &self,
        params: &Params,
        info: &ConnectInfo,
        assigns: &mut Assigns,
    ) -> Result<(), ConnectRefused> {
        if let Some(config) = &self.config {
            let token = self.token(config, params)?;
            assigns.insert(identify(config, params, &token)?);
        }
        self.inner.connect(params, info, assigns).await
    }

    fn id(&self, assigns: &Assigns) -> Option<String> {
        let inner = self.inner.id(assigns);
        inner.or_else(|| assigns.get::<Identity>()?.name.clone())
    }
}

fn identify(
    config: &IdentityConfig,
    params: &Params,
    token: &Value,
) -> Result<Identity, ConnectRefused> {
    let connect = Value::Object(params.as_map().clone());
    let uuid = Uuid::random().to_string();
    let values = Values {
        connect: Some(&connect),
        token: Some(token),
        uuid: &uuid,
        now: Some(std::time::SystemTime::now()),
        ..Values::default()
    };
    let user = match &config.fields {
        None => json!({}),
        Some(fields) => {
            let rendered = fields.render(&values, MAX_BYTES);
            let rendered = rendered.map_err(|_| ConnectRefused::because("identity too long"))?;
            // A template writes JSON.
            serde_json::from_str(&rendered.with_id("")).unwrap_or_default()
        }
    };
    let lacks = |name: &&String| user.get(&**name).is_none_or(Value::is_null);
    if let Some(name) = config.require.iter().find(lacks) {
        return Err(ConnectRefused::because(format!(
            "no {name} in the identity"
        )));
    }
    let values = Values {
        user: Some(&user),
        ..Values::default()
    };
    let name = config.socket_id.as_ref();
    let name = name.and_then(|template| template.text(&values));
    Ok(Identity {
        name,
        ..Identity::new(user)
    })
}
