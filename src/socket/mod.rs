//! One client connection, many topics. Phoenix: `Phoenix.Socket`.
//!
//! An application implements [`Socket`] to say who may connect, and makes a [`SocketRouter`] to say
//! which channel serves which topic.

mod idle;
mod limiter;
mod registry;
mod server;

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_core::future::LocalBoxFuture;
use futures_util::FutureExt;
use serde_json::{Map, Value};

pub(crate) use self::idle::{Activity, Sign};
pub use self::limiter::RateLimits;
pub use self::registry::DrainOptions;
pub(crate) use self::registry::{OpenStream, Sockets};
pub(crate) use self::server::{Connection, Ending, Incoming, SocketServer};
use crate::assigns::Assigns;
use crate::channel::{self, Channel, Start, Started};
pub use crate::flow::FlowLimits;
pub use crate::outbox::OutboxLimits;
use crate::pubsub::topic_matches;
use crate::token::Term;

/// Says who may connect. Phoenix: the callbacks `connect/3` and `id/1`.
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
    /// A client wants to connect. What it may see and do can be kept in `assigns`, which every
    /// channel of the connection starts with. The default lets everybody in.
    ///
    /// # Errors
    /// A refusal is answered with 403.
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
    fn id(&self, assigns: &Assigns) -> Option<String> {
        let _ = assigns;
        None
    }
}

/// The client may not connect.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("connection refused: {0}")]
pub struct ConnectRefused(Cow<'static, str>);

impl ConnectRefused {
    /// Refuses without a reason. Phoenix: `:error`.
    pub fn new() -> Self {
        Self::default()
    }

    /// Refuses; the reason goes to the log and to the mount's error handler, if it has one.
    /// Phoenix: `{:error, reason}`.
    pub fn because(reason: impl Into<Cow<'static, str>>) -> Self {
        Self(reason.into())
    }

    /// The reason, empty if none was given.
    pub fn reason(&self) -> &str {
        &self.0
    }

    pub(crate) fn has_reason(&self) -> bool {
        !self.0.is_empty()
    }
}

/// The parameters of a connection: its query, decoded as Plug does. Values are strings, objects
/// (`a[b]=1`) or lists (`l[]=1`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Params(Map<String, Value>);

impl Params {
    pub(crate) fn new(values: Map<String, Value>) -> Self {
        Self(values)
    }

    /// A parameter, if it is a string.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }

    /// All parameters, nested ones included.
    pub fn as_map(&self) -> &Map<String, Value> {
        &self.0
    }
}

/// What is known of the connection besides its parameters: as much as the mount lets through.
/// Phoenix: `connect_info`.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ConnectInfo {
    /// The other end of the TCP connection; a proxy's where there is one.
    pub peer_data: Option<SocketAddr>,
    /// `traceparent` and `tracestate`, as (name, value).
    pub trace_context_headers: Vec<(String, String)>,
    /// Headers that begin with `x-`, as (name, value).
    pub x_headers: Vec<(String, String)>,
    /// Headers that begin with `sec-websocket-`, as (name, value).
    pub sec_websocket_headers: Vec<(String, String)>,
    /// What the client asked for.
    pub uri: Option<UriInfo>,
    /// The `User-Agent` header.
    pub user_agent: Option<String>,
    /// The client's `authToken`, where the mount takes it.
    pub auth_token: Option<String>,
    /// The session of a Phoenix application, a map with string keys, where the mount reads it.
    /// `None` where the cookie or the CSRF token is missing or wrong.
    pub session: Option<Term>,
}

/// The parts of a request's URI.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UriInfo {
    /// `http` or `https`.
    pub scheme: String,
    /// From the `Host` header, without the port.
    pub host: String,
    /// The port, or the scheme's own.
    pub port: Option<u16>,
    /// The path.
    pub path: String,
    /// The query, undecoded.
    pub query: String,
}

/// What one mounted socket allows its clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketOptions {
    /// A connection that sends no byte for this long is closed (1002). Default 60 s; phoenix.js
    /// sends a heartbeat every 30 s.
    pub timeout: Duration,
    /// How long a message may take from its first byte to its last; its client is closed then (1002).
    /// The clock stands still while the server does not read. Default 60 s.
    pub message_timeout: Duration,
    /// The longest frame a client may send, header included, in bytes. Default 10,000,000.
    pub max_frame_size: usize,
    /// Channels of one connection. Default 100.
    pub max_channels: usize,
    /// What may wait to be sent to one client.
    pub outbox: OutboxLimits,
    /// What one client may have in flight to its channels.
    pub flow: FlowLimits,
    /// How often one client may join and push, and how much.
    pub rates: RateLimits,
}

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

/// A pattern and what serves it.
struct Routed {
    pattern: String,
    /// Starts a channel of a type that only the route knows.
    start: fn(Start) -> Started,
    assigns: Assigns,
}

/// Which channel serves which topic: in the order of declaration, the first match counts.
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
    /// No routes yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A value that all channels of this router find with [`Context::state`](crate::channel::Context::state):
    /// a database, settings, a `Presence`. It is made once, shared, and found by its type; what `connect` or
    /// [`channel_with`](Self::channel_with) assigns counts more. The order of these calls means nothing.
    pub fn state<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        self.state.insert(value);
        self
    }

    /// Topics that match `pattern` are served by channels of this type. A pattern is a topic, or a prefix
    /// with `*` at its end.
    ///
    /// # Panics
    /// When `*` stands elsewhere in the pattern: a mistake of the program, found at its start.
    pub fn channel<C: Channel>(self, pattern: &str) -> Self {
        self.channel_with::<C>(pattern, Assigns::default())
    }

    /// As [`SocketRouter::channel`], with assigns that are put over the socket's own at each join.
    /// Phoenix: `channel "room:*", Room, assigns: %{..}`.
    ///
    /// # Panics
    /// As [`SocketRouter::channel`].
    pub fn channel_with<C: Channel>(mut self, pattern: &str, assigns: Assigns) -> Self {
        let fixed = pattern.strip_suffix('*').unwrap_or(pattern);
        assert!(
            !fixed.contains('*'),
            "'*' may only stand at the end of a pattern: {pattern:?}"
        );
        self.routes.push(Routed {
            pattern: pattern.to_owned(),
            start: channel::start::<C>,
            assigns,
        });
        self
    }

    /// # Panics
    /// When a route never matches.
    pub(crate) fn check(&self) {
        for (index, routed) in self.routes.iter().enumerate() {
            let (pattern, before) = (&routed.pattern, &self.routes[..index]);
            let taken = before
                .iter()
                .find(|before| covers(&before.pattern, pattern));
            if let Some(Routed { pattern: first, .. }) = taken {
                panic!("no topic comes to {pattern:?}: {first:?} before it takes them all");
            }
        }
    }

    /// What a channel of the route is given, of a connection with these assigns.
    fn assigns(&self, routed: &Routed, connection: &Assigns) -> Assigns {
        let mut assigns = self.state.clone();
        assigns.extend(connection);
        assigns.extend(&routed.assigns);
        assigns
    }

    fn find(&self, topic: &str) -> Option<&Routed> {
        self.routes
            .iter()
            .find(|routed| topic_matches(&routed.pattern, topic))
    }
}

/// Whether the first pattern takes all topics of the second.
fn covers(first: &str, second: &str) -> bool {
    first == second || first.ends_with('*') && topic_matches(first, second.trim_end_matches('*'))
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
}

/// One mounted socket, shared by all workers.
pub(crate) struct Served {
    pub(crate) socket: Box<dyn AnySocket>,
    pub(crate) router: Arc<SocketRouter>,
    pub(crate) options: SocketOptions,
}
