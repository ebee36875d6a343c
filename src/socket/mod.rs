//! One client connection, many topics. Phoenix: `Phoenix.Socket`.
//!
//! An application implements [`Socket`], which lets clients in, and makes a [`SocketRouter`], which gives each topic
//! its channel.

mod channels;
mod connect_info;
mod connection;
mod ending;
mod expiry;
mod held;
mod idle;
mod inspect;
mod limits;
mod permit;
mod registry;
mod server;
mod shared_limits;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use futures_core::future::LocalBoxFuture;
use futures_util::FutureExt;

pub use self::connect_info::{ConnectInfo, Params, UriInfo};
pub(crate) use self::connection::{Connection, Incoming};
pub(crate) use self::ending::ConnectionEnd;
pub use self::expiry::Expiry;
pub(crate) use self::idle::{Activity, Sign};
pub use self::inspect::{ConnectionFilter, ConnectionId, ConnectionInfo, ListedSockets, Traffic};
pub use self::limits::RateLimits;
pub use self::permit::Permit;
pub use self::registry::DrainOptions;
pub(crate) use self::registry::{OpenStream, Sockets};
pub(crate) use self::server::SocketServer;
pub use self::shared_limits::SharedLimits;
use crate::assigns::Assigns;
use crate::channel::{self, Channel, Start, Started};
pub use crate::flow::FlowLimits;
use crate::metrics::RouteId;
pub use crate::outbox::OutboxLimits;
use crate::pattern::{ForTopics, IntoPattern, TopicPattern, first_match, shadowed};
use crate::token::TokenError;

/// Lets clients in, and names them. Phoenix: the callbacks `connect/3` and `id/1`.
///
/// ```
/// use slackir::Assigns;
/// use slackir::socket::{ConnectInfo, ConnectRefused, Params, Socket};
///
/// struct UserSocket;
/// struct UserId(String);
///
/// impl Socket for UserSocket {
///     async fn connect(
///         &self,
///         params: &Params,
///         _info: &ConnectInfo,
///         assigns: &mut Assigns,
///     ) -> Result<(), ConnectRefused> {
///         let user = params.get("user_id").ok_or(ConnectRefused::because("no user_id"))?;
///         assigns.insert(UserId(user.to_owned()));
///         Ok(())
///     }
///
///     fn id(&self, assigns: &Assigns) -> Option<String> {
///         assigns.get::<UserId>().map(|user| format!("users:{}", user.0))
///     }
/// }
/// ```
#[expect(
    async_fn_in_trait,
    reason = "a connection lives on one thread; a Send bound is not wanted"
)]
pub trait Socket: Send + Sync + 'static {
    /// A client connects. Every channel of the connection starts with a copy of `assigns`. The default lets
    /// everybody in.
    ///
    /// # Errors
    /// A refusal is answered with 403, one that is [`unavailable`](ConnectRefused::unavailable) with 503, one for
    /// [`too_many`](ConnectRefused::too_many) connections with 429.
    ///
    /// ```
    /// # use slackir::prelude::*;
    /// # struct UserSocket;
    /// # impl Socket for UserSocket {
    /// async fn connect(
    ///     &self,
    ///     params: &Params,
    ///     _: &ConnectInfo,
    ///     _: &mut Assigns,
    /// ) -> Result<(), ConnectRefused> {
    ///     match params.get("key") {
    ///         Some("sesame") => Ok(()),
    ///         _ => Err(ConnectRefused::because("wrong key")),
    ///     }
    /// }
    /// # }
    /// ```
    async fn connect(
        &self,
        params: &Params,
        info: &ConnectInfo,
        assigns: &mut Assigns,
    ) -> Result<(), ConnectRefused> {
        let _ = (params, info, assigns);
        Ok(())
    }

    /// The topic that names this client's connections: a broadcast of the event `disconnect` there
    /// closes them. `None`, the default, for an anonymous client.
    ///
    /// ```
    /// # use slackir::prelude::*;
    /// # struct UserSocket;
    /// # struct UserId(u64);
    /// # impl Socket for UserSocket {
    /// fn id(&self, assigns: &Assigns) -> Option<String> {
    ///     assigns.get::<UserId>().map(|user| format!("users:{}", user.0))
    /// }
    /// # }
    /// ```
    fn id(&self, assigns: &Assigns) -> Option<String> {
        let _ = assigns;
        None
    }

    /// The user behind this client, as lists of connections show it, and as bans name it. `None`, the default, if
    /// nobody knows.
    ///
    /// ```
    /// # use slackir::prelude::*;
    /// # struct UserSocket;
    /// # struct UserId(u64);
    /// # impl Socket for UserSocket {
    /// fn user(&self, assigns: &Assigns) -> Option<String> {
    ///     assigns.get::<UserId>().map(|user| user.0.to_string())
    /// }
    /// # }
    /// ```
    fn user(&self, assigns: &Assigns) -> Option<String> {
        let _ = assigns;
        None
    }
}

/// The client may not connect.
///
/// ```
/// use slackir::socket::ConnectRefused;
///
/// assert_eq!(ConnectRefused::because("banned").to_string(), "connection refused: banned");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("connection refused: {reason}")]
pub struct ConnectRefused {
    reason: Cow<'static, str>,
    cause: Cause,
}

/// The kind of a refusal, which decides the status of its response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Cause {
    /// 403
    #[default]
    Forbidden,
    /// 403, because of the client's token.
    Token,
    /// 429
    TooMany,
    /// 503
    Unavailable,
}

/// `?` on a token in [`Socket::connect`].
impl From<TokenError> for ConnectRefused {
    fn from(error: TokenError) -> Self {
        Self::of_token(error.to_string())
    }
}

impl ConnectRefused {
    /// Refuses without a reason. Phoenix: `:error`.
    pub fn new() -> Self {
        Self::default()
    }

    /// Refuses; the reason goes to the log and to the mount's error handler, if it has one.
    /// Phoenix: `{:error, reason}`.
    pub fn because(reason: impl Into<Cow<'static, str>>) -> Self {
        Self {
            reason: reason.into(),
            cause: Cause::Forbidden,
        }
    }

    /// The application cannot decide at present: 503 instead of 403. phoenix.js connects again later.
    ///
    /// ```
    /// use slackir::socket::ConnectRefused;
    ///
    /// assert!(ConnectRefused::unavailable("the user database is down").is_unavailable());
    /// ```
    pub fn unavailable(reason: impl Into<Cow<'static, str>>) -> Self {
        Self {
            reason: reason.into(),
            cause: Cause::Unavailable,
        }
    }

    /// The client has too many connections, or connects too often: 429 instead of 403. phoenix.js connects again
    /// later.
    ///
    /// ```
    /// use slackir::socket::ConnectRefused;
    ///
    /// assert!(ConnectRefused::too_many("ada has 5 connections").is_too_many());
    /// ```
    pub fn too_many(reason: impl Into<Cow<'static, str>>) -> Self {
        Self {
            reason: reason.into(),
            cause: Cause::TooMany,
        }
    }

    /// Refuses the client's token. The metrics tell it from other refusals.
    pub(crate) fn of_token(reason: String) -> Self {
        Self {
            reason: reason.into(),
            cause: Cause::Token,
        }
    }

    /// The reason; empty if there is none.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Whether it is refused by [`unavailable`](Self::unavailable).
    pub fn is_unavailable(&self) -> bool {
        self.cause == Cause::Unavailable
    }

    /// Whether it is refused by [`too_many`](Self::too_many).
    pub fn is_too_many(&self) -> bool {
        self.cause == Cause::TooMany
    }

    /// Whether it is refused because of its token.
    pub(crate) fn is_of_token(&self) -> bool {
        self.cause == Cause::Token
    }

    pub(crate) fn has_reason(&self) -> bool {
        !self.reason.is_empty()
    }
}

/// The limits of one mounted socket's clients.
///
/// ```
/// use slackir::socket::SocketOptions;
///
/// let options = SocketOptions::default().max_channels(10);
/// # let _ = options;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SocketOptions {
    /// A connection that sends no byte for this long is closed as idle. Default 60 s; phoenix.js
    /// sends a heartbeat every 30 s.
    pub timeout: Duration,
    /// A message may take this long from its first byte to its last; then its connection is closed.
    /// The clock stands still while the server does not read. Default 60 s.
    pub message_timeout: Duration,
    /// The longest frame a client may send, header included, in bytes. Default 10,000,000.
    pub max_frame_size: usize,
    /// Channels of one connection; a further join is refused with `too many channels joined`. Default 100.
    pub max_channels: usize,
    /// The queue of frames to one client.
    pub outbox: OutboxLimits,
    /// The messages that one client may have in flight to its channels.
    pub flow: FlowLimits,
    /// The rates of one client's joins, messages and bytes.
    pub rates: RateLimits,
}

setters!(SocketOptions {
    timeout: Duration,
    message_timeout: Duration,
    max_frame_size: usize,
    max_channels: usize,
    outbox: OutboxLimits,
    flow: FlowLimits,
    rates: RateLimits,
});

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(60),
            message_timeout: Duration::from_secs(60),
            max_frame_size: 10_000_000,
            max_channels: 100,
            outbox: OutboxLimits::default(),
            flow: FlowLimits::default(),
            rates: RateLimits::default(),
        }
    }
}

/// A pattern and its channel.
struct Routed {
    pattern: TopicPattern,
    /// Starts a channel, whose type only the route knows.
    start: fn(Start) -> Started,
    assigns: Assigns,
    id: RouteId,
}

impl ForTopics for Routed {
    fn pattern(&self) -> &TopicPattern {
        &self.pattern
    }
}

/// The channels of a socket's topics. The routes are tried in the order of declaration; the first match counts.
///
/// ```
/// use slackir::Assigns;
/// use slackir::channel::{Channel, Context, Join, JoinResult};
/// use slackir::message::Payload;
/// use slackir::socket::SocketRouter;
///
/// struct Greeting(&'static str);
/// struct Room;
///
/// impl Channel for Room {
///     type Info = ();
///     async fn join(_: Payload, ctx: &mut Context<Self>) -> JoinResult<Self> {
///         let greeting = ctx.state::<Greeting>();
///         Ok(Join::reply(Room, serde_json::json!({"greeting": greeting.0})))
///     }
/// }
///
/// let router = SocketRouter::new()
///     .state(Greeting("hello"))
///     .channel_with::<Room>("room:lobby", Assigns::of(Greeting("everybody is here")))
///     .channel::<Room>("room:*");
/// # let _ = router;
/// ```
#[derive(Default)]
pub struct SocketRouter {
    routes: Vec<Routed>,
    state: Assigns,
}

named_debug!(SocketRouter);

impl SocketRouter {
    /// A router without routes.
    ///
    /// ```
    /// # use slackir::socket::SocketRouter;
    /// let router = SocketRouter::new();
    /// # let _ = router;
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    /// A value that all channels of this router share and find with
    /// [`Context::state`](crate::channel::Context::state), by its type: a database, settings, a `Presence`. A
    /// value of the same type that `connect` or [`channel_with`](Self::channel_with) assigns takes its place. The
    /// order of these calls means nothing.
    ///
    /// ```
    /// # use slackir::socket::SocketRouter;
    /// struct Settings {
    ///     greeting: &'static str,
    /// }
    ///
    /// let router = SocketRouter::new().state(Settings { greeting: "hello" });
    /// # let _ = router;
    /// ```
    pub fn state<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        self.state.insert(value);
        self
    }

    /// Serves topics that match `pattern` by channels of this type. A pattern is a topic, or a prefix
    /// with `*` at its end.
    ///
    /// # Panics
    /// If `*` stands elsewhere in the pattern: a mistake of the program, found at its start.
    ///
    /// ```
    /// # use slackir::channel::Channel;
    /// # use slackir::socket::SocketRouter;
    /// # fn example<Room: Channel>() -> SocketRouter {
    /// SocketRouter::new().channel::<Room>("room:*")
    /// # }
    /// ```
    pub fn channel<C: Channel>(self, pattern: impl IntoPattern) -> Self {
        self.channel_with::<C>(pattern, Assigns::default())
    }

    /// As [`SocketRouter::channel`], with assigns that are put over the socket's own at each join.
    /// Phoenix: `channel "room:*", Room, assigns: %{..}`.
    ///
    /// # Panics
    /// As [`SocketRouter::channel`].
    ///
    /// ```
    /// # use slackir::Assigns;
    /// # use slackir::channel::Channel;
    /// # use slackir::socket::SocketRouter;
    /// # struct MaxLength(usize);
    /// # fn example<Room: Channel>() -> SocketRouter {
    /// SocketRouter::new().channel_with::<Room>("room:*", Assigns::of(MaxLength(280)))
    /// # }
    /// ```
    pub fn channel_with<C: Channel>(mut self, pattern: impl IntoPattern, assigns: Assigns) -> Self {
        let pattern = pattern.into_pattern();
        self.routes.push(Routed {
            id: RouteId::of(&pattern.to_string()),
            pattern,
            start: channel::start::<C>,
            assigns,
        });
        self
    }

    /// # Panics
    /// If a route never matches.
    pub(crate) fn check(&self) {
        if let Some((first, later)) = shadowed(&self.routes) {
            let [first, later] = [first, later].map(|at| &self.routes[at].pattern);
            panic!("no topic comes to \"{later}\": \"{first}\" before it takes them all");
        }
    }

    /// The assigns of a channel of this route, on a connection with these assigns.
    fn assigns(&self, routed: &Routed, connection: &Assigns) -> Assigns {
        let mut assigns = self.state.clone();
        assigns.extend(connection);
        assigns.extend(&routed.assigns);
        assigns
    }

    fn find(&self, topic: &str) -> Option<&Routed> {
        first_match(&self.routes, topic)
    }
}

/// A [`Socket`] behind a pointer.
pub(crate) trait AnySocket: Send + Sync {
    fn connect<'a>(
        &'a self,
        params: &'a Params,
        info: &'a ConnectInfo,
        assigns: &'a mut Assigns,
    ) -> LocalBoxFuture<'a, Result<(), ConnectRefused>>;

    fn id(&self, assigns: &Assigns) -> Option<String>;

    fn user(&self, assigns: &Assigns) -> Option<String>;
}

impl<S: Socket> AnySocket for S {
    fn connect<'a>(
        &'a self,
        params: &'a Params,
        info: &'a ConnectInfo,
        assigns: &'a mut Assigns,
    ) -> LocalBoxFuture<'a, Result<(), ConnectRefused>> {
        Socket::connect(self, params, info, assigns).boxed_local()
    }

    fn id(&self, assigns: &Assigns) -> Option<String> {
        Socket::id(self, assigns)
    }

    fn user(&self, assigns: &Assigns) -> Option<String> {
        Socket::user(self, assigns)
    }
}

/// One mounted socket, shared by all workers.
pub(crate) struct Served {
    pub(crate) socket: Box<dyn AnySocket>,
    pub(crate) router: Arc<SocketRouter>,
    pub(crate) options: SocketOptions,
    /// Begin as the options say.
    pub(crate) limits: SharedLimits,
}
