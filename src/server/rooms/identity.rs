//! [`Identity`]: the user behind a socket. [`Identified`]: a socket that determines it.

use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::backend;
use super::random::{Uuid, random_id};
use crate::assigns::Assigns;
use crate::server::hook::{Hook, PassedHeaders};
use crate::server::language::template::{TooLong, Values};
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
    /// Headers of the handshake for calls to the backend.
    pub(super) headers: PassedHeaders,
    /// Phoenix's `id/1`.
    name: Option<String>,
}

impl Identity {
    /// An identity with these fields.
    pub fn new(user: Value) -> Self {
        Self {
            user: Arc::new(user),
            socket_id: random_id(),
            headers: PassedHeaders::default(),
            name: None,
        }
    }

    /// The same, with these fields laid over it.
    ///
    /// # Errors
    /// If it becomes too large.
    pub(super) fn with(&self, fields: &Map<String, Value>) -> Result<Self, TooLong> {
        let mut user = self.user.as_object().cloned().unwrap_or_default();
        user.extend(fields.clone());
        let user = Value::Object(user);
        if user.to_string().len() > MAX_BYTES {
            return Err(TooLong { max: MAX_BYTES });
        }
        Ok(Self {
            user: Arc::new(user),
            ..self.clone()
        })
    }
}

/// Determines the identity by `[identity]`, and then calls another socket.
pub struct Identified<S> {
    config: Option<IdentityConfig>,
    /// Verifies the tokens of `phoenix_token`.
    signer: Option<Signer>,
    hook: Option<Arc<Hook>>,
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
        hook: Option<Arc<Hook>>,
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
            hook,
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
                // It stands last: the client has sent no token.
                (Source::Hook, Some(_)) => {}
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
            let user = fields(config, params, &token)?;
            let identity = Identity {
                headers: info.headers.as_slice().into(),
                ..Identity::new(user)
            };
            let identity = match &self.hook {
                _ if !config.asks_hook() => identity,
                Some(hook) => backend::connect(hook, identity, params).await?,
                None => return Err(ConnectRefused::unavailable("there is no hook")),
            };
            assigns.insert(named(config, identity)?);
        }
        self.inner.connect(params, info, assigns).await
    }

    fn id(&self, assigns: &Assigns) -> Option<String> {
        let inner = self.inner.id(assigns);
        inner.or_else(|| assigns.get::<Identity>()?.name.clone())
    }
}

/// `user.*` of the client's params or token.
fn fields(
    config: &IdentityConfig,
    params: &Params,
    token: &Value,
) -> Result<Value, ConnectRefused> {
    let connect = Value::Object(params.as_map().clone());
    let uuid = Uuid::random().to_string();
    let values = Values {
        connect: Some(&connect),
        token: Some(token),
        uuid: &uuid,
        now: Some(std::time::SystemTime::now()),
        ..Values::default()
    };
    let Some(fields) = &config.fields else {
        return Ok(json!({}));
    };
    let rendered = fields.render(&values, MAX_BYTES);
    let rendered = rendered.map_err(|_| ConnectRefused::because("identity too long"))?;
    // A template writes JSON.
    Ok(serde_json::from_str(&rendered.with_id("")).unwrap_or_default())
}

/// The identity, with the socket's name, if it has every required field.
fn named(config: &IdentityConfig, identity: Identity) -> Result<Identity, ConnectRefused> {
    let user = &identity.user;
    let lacks = |name: &&String| user.get(&**name).is_none_or(Value::is_null);
    if let Some(name) = config.require.iter().find(lacks) {
        return Err(ConnectRefused::because(format!(
            "no {name} in the identity"
        )));
    }
    let values = Values {
        user: Some(user),
        ..Values::default()
    };
    let name = config.socket_id.as_ref();
    let name = name.and_then(|template| template.text(&values));
    Ok(Identity { name, ..identity })
}
