//! [`Identity`]: the user behind a socket. [`Identified`]: a socket that determines it.

use std::fmt;
use std::sync::{Arc, Mutex};

use serde_json::{Map, Value};

use super::authority::{Authority, IdentityKeys, Renewal};
use super::limits::{PresenceBucket, UserConnections};
use super::random::random_id;
use crate::assigns::Assigns;
use crate::ban::Bans;
use crate::lock::lock;
use crate::pattern::TopicPattern;
use crate::rate::SharedRate;
use crate::revocation::Revocations;
use crate::server::config::JwtSetupError;
use crate::server::hook::{Hook, PassedHeaders};
use crate::server::language::IdentityConfig;
use crate::server::language::template::{TooLong, Values};
use crate::server::tokens::TokenSetupError;
use crate::socket::{ConnectInfo, ConnectRefused, Params, Socket};
use crate::token::SecretTooShort;

/// The longest identity, in bytes of JSON.
pub(super) const MAX_BYTES: usize = 16_384;

const NO_SECRET: &str =
    "phoenix_token: it needs SECRET_KEY_BASE, the secret that the tokens are signed with";

/// Lets everybody connect, anonymously.
#[derive(Debug)]
pub struct UserSocket;

impl Socket for UserSocket {}

/// The fields of a user, which a renewed token changes.
pub(super) type SharedUser = Arc<Mutex<Arc<Value>>>;

/// `user.*` of the rooms. A socket of your own may assign it in `connect`.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Shared by all memberships of the connection: a renewed token changes it for all of them.
    user: SharedUser,
    pub(super) socket_id: String,
    /// Headers of the handshake for calls to the backend.
    pub(super) headers: PassedHeaders,
    /// Phoenix's `id/1`.
    pub(super) name: Option<String>,
    /// Of an identity by JWT.
    pub(super) renewal: Option<Arc<Renewal>>,
}

impl Identity {
    /// An identity with these fields.
    pub fn new(user: Value) -> Self {
        Self {
            user: Arc::new(Mutex::new(Arc::new(user))),
            socket_id: random_id(),
            headers: PassedHeaders::default(),
            name: None,
            renewal: None,
        }
    }

    /// The same, with these fields laid over it. Renewed tokens of the connection do not change it any more.
    ///
    /// # Errors
    /// If it becomes too large.
    pub(super) fn with(&self, fields: &Map<String, Value>) -> Result<Self, TooLong> {
        let mut user = self.user().as_object().cloned().unwrap_or_default();
        user.extend(fields.clone());
        let user = Value::Object(user);
        if user.to_string().len() > MAX_BYTES {
            return Err(TooLong { max: MAX_BYTES });
        }
        Ok(Self {
            user: Arc::new(Mutex::new(Arc::new(user))),
            ..self.clone()
        })
    }

    /// `user.*`
    pub(super) fn user(&self) -> Arc<Value> {
        Arc::clone(&lock(&self.user))
    }

    /// `user.id`, as text. `None` if it is null.
    pub(super) fn user_id(&self) -> Option<String> {
        let user = self.user();
        let values = Values {
            user: Some(&user),
            ..Values::default()
        };
        values.label("user.id")
    }

    /// The user that lists, revocations and bans name: `user.id` as text, without it the `sub` of a JWT.
    pub(super) fn user_name(&self) -> Option<String> {
        let subject = || self.renewal.as_ref()?.subject().map(Into::into);
        self.user_id().or_else(subject)
    }

    pub(super) fn shared_user(&self) -> SharedUser {
        Arc::clone(&self.user)
    }

    pub(super) fn set_user(&self, user: Value) {
        *lock(&self.user) = Arc::new(user);
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        (self.user(), &self.socket_id, &self.name) == (other.user(), &other.socket_id, &other.name)
    }
}

/// Determines the identity by `[identity]`, and then calls another socket.
pub struct Identified<S> {
    authority: Option<Arc<Authority>>,
    /// `None`: no limit.
    connections: Option<Arc<UserConnections>>,
    /// Changes of presences by one client. `None` if no room lets clients change theirs.
    presences: Option<Arc<SharedRate>>,
    inner: S,
}

impl<S> fmt::Debug for Identified<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identified")
            .field("authority", &self.authority)
            .finish_non_exhaustive()
    }
}

/// Why the identity cannot be configured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// `phoenix_token` without a secret.
    #[error("[identity] {NO_SECRET}")]
    NoSecret,
    /// The secret is too short.
    #[error("SECRET_KEY_BASE: {0}")]
    Secret(#[from] SecretTooShort),
    /// A key of `jwt` cannot be read or used.
    #[error("[identity] {0}")]
    Jwt(#[from] JwtSetupError),
    /// The same, of the tokens that the joins of a room need.
    #[error("[[rooms]] topics = \"{topics}\": join.token: {problem}")]
    Join {
        /// The room's topics.
        topics: String,
        /// The problem of its tokens.
        problem: String,
    },
}

impl From<TokenSetupError> for IdentityError {
    fn from(error: TokenSetupError) -> Self {
        match error {
            TokenSetupError::NoSecret => Self::NoSecret,
            TokenSetupError::Secret(error) => Self::Secret(error),
        }
    }
}

impl IdentityError {
    /// The same error of the tokens that the joins of these topics need.
    pub(super) fn of_join(self, topics: &TopicPattern) -> Self {
        let problem = match self {
            Self::NoSecret => NO_SECRET.to_owned(),
            Self::Jwt(error) => error.to_string(),
            other @ (Self::Secret(_) | Self::Join { .. }) => return other,
        };
        Self::Join {
            topics: topics.to_string(),
            problem,
        }
    }
}

impl<S: Socket> Identified<S> {
    /// The connections of each user, if `max_connections` limits them.
    pub(crate) fn connections(&self) -> Option<Arc<UserConnections>> {
        self.connections.clone()
    }

    /// The keys of its tokens.
    pub(crate) fn keys(&self) -> IdentityKeys {
        self.authority.clone().into()
    }

    /// The revocations and bans that end connections; `None`: there can be none.
    ///
    /// # Errors
    /// If the identity comes from tokens, and there is no key for them or it cannot be used.
    pub(crate) fn new(
        config: Option<IdentityConfig>,
        secret: Option<&str>,
        hook: Option<Arc<Hook>>,
        presences: Option<Arc<SharedRate>>,
        (revocations, bans): (Option<&Revocations>, Option<&Bans>),
        inner: S,
    ) -> Result<Self, IdentityError> {
        let max = config.as_ref().and_then(|config| config.max_connections);
        let authority = config.map(|config| {
            Authority::new(config, secret, hook, revocations.cloned(), bans.cloned()).map(Arc::new)
        });
        Ok(Self {
            authority: authority.transpose()?,
            connections: max.map(|max| UserConnections::new(max.get())),
            presences,
            inner,
        })
    }
}

impl<S: Socket> Socket for Identified<S> {
    async fn connect(
        &self,
        params: &Params,
        info: &ConnectInfo,
        assigns: &mut Assigns,
    ) -> Result<(), ConnectRefused> {
        if let Some(authority) = &self.authority {
            authority.identify(params, info, assigns).await?;
        }
        if let Some(connections) = &self.connections
            && let Some(user) = assigns.get::<Identity>().and_then(Identity::user_id)
        {
            assigns.insert(connections.admit(user)?);
        }
        if let Some(rate) = &self.presences {
            assigns.insert(PresenceBucket::new(Arc::clone(rate)));
        }
        self.inner.connect(params, info, assigns).await
    }

    fn id(&self, assigns: &Assigns) -> Option<String> {
        let inner = self.inner.id(assigns);
        inner.or_else(|| assigns.get::<Identity>()?.name.clone())
    }

    fn user(&self, assigns: &Assigns) -> Option<String> {
        let inner = self.inner.user(assigns);
        inner.or_else(|| assigns.get::<Identity>()?.user_name())
    }
}
