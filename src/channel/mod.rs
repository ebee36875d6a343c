//! One joined topic of one client: what an application writes. Phoenix: `Phoenix.Channel`.
//!
//! A type that implements [`Channel`] is one client in one topic. Its fields are the channel's own
//! state; each join makes a new value. All its callbacks run on the worker thread of the client's
//! connection, one at a time and in the order of the messages. A callback may await whatever it
//! likes: that suspends this channel and nothing else.
//!
//! ```
//! use slackir::channel::{Channel, Context, HandleIn, Join, JoinResult};
//! use slackir::message::{Payload, Reply};
//!
//! struct Room;
//!
//! impl Channel for Room {
//!     type Info = ();
//!
//!     async fn join(&mut self, _params: Payload, ctx: &mut Context<Self>) -> JoinResult {
//!         if ctx.topic() == "room:secret" {
//!             return Err(slackir::channel::Refused::reason("unauthorized"));
//!         }
//!         Ok(Join::ok())
//!     }
//!
//!     async fn handle_in(&mut self, event: &str, payload: Payload, ctx: &mut Context<Self>) -> HandleIn {
//!         match event {
//!             "ping" => HandleIn::Reply(Reply::ok(payload)),
//!             "shout" => match ctx.broadcast("shout", payload) {
//!                 Ok(()) => HandleIn::NoReply,
//!                 Err(error) => HandleIn::Reply(Reply::error_reason(&error.to_string())),
//!             },
//!             _ => HandleIn::unhandled(event),
//!         }
//!     }
//! }
//! ```

mod callback;
mod catch_up;
mod context;
mod join;
mod link;
mod log;
mod replay;
mod server;
mod timer;

use std::borrow::Cow;
use std::sync::Arc;

pub use self::context::{ChannelEnded, Context, Handle, SendError, SocketRef};
pub(crate) use self::join::Start;
pub(crate) use self::link::{Link, ToChannel};
pub use self::log::{HistoryMode, LogRequest, stored_messages};
pub(crate) use self::server::{ChannelSignal, JoinState, Started, start};
pub use self::timer::Timer;
use crate::message::{Payload, Reply};
use crate::pubsub::Broadcast;
pub use crate::serializer::EncodeError;

/// One client in one topic. See the [module](self) for an example.
///
/// A callback that panics ends its channel with `phx_error` after `terminate` has run; the client's
/// other channels go on. Everything but `join` has a default.
#[expect(
    async_fn_in_trait,
    reason = "a channel lives on one thread; a Send bound is not wanted"
)]
pub trait Channel: Sized + 'static {
    /// What other parts of the application send to this channel through a [`Handle`]; `()` if
    /// nothing.
    type Info: Send + 'static;

    /// The client wants in. Until this returns, the client's later messages wait, as in Phoenix.
    /// `push` and `broadcast` are refused here: send yourself an info instead.
    ///
    /// # Errors
    /// A refusal reaches the client as the error reply; `terminate` runs with
    /// [`StopReason::Shutdown`].
    async fn join(&mut self, params: Payload, ctx: &mut Context<Self>) -> JoinResult;

    /// A message of the client. The default crashes the channel, as a Phoenix channel without a
    /// matching clause does.
    async fn handle_in(
        &mut self,
        event: &str,
        payload: Payload,
        ctx: &mut Context<Self>,
    ) -> HandleIn {
        let _ = (payload, ctx);
        HandleIn::unhandled(event)
    }

    /// A broadcast of an event that [`Channel::intercept`] names. The default passes it on. What is
    /// pushed here under the broadcast's event carries the stored message's `_meta` where the client
    /// asked for it.
    async fn handle_out(&mut self, broadcast: Arc<Broadcast>, ctx: &mut Context<Self>) -> Handled {
        match ctx.push(broadcast.event(), broadcast.payload().clone()) {
            Ok(()) => Handled::NoReply,
            Err(error) => Handled::Stop(StopReason::error(error.to_string())),
        }
    }

    /// A stored message of an event that [`Channel::intercept`] names, on its way to a client that
    /// joins: in a history or a resume, oldest first, before anything live. What is pushed here
    /// takes the message's place; in a history that is a list, its payload does. The default calls
    /// [`Channel::handle_out`]. Broadcasts are refused where the history stands in the join's reply,
    /// and a stop there is answered as a crashed join.
    async fn handle_replay(
        &mut self,
        broadcast: Arc<Broadcast>,
        ctx: &mut Context<Self>,
    ) -> Handled {
        self.handle_out(broadcast, ctx).await
    }

    /// A message from elsewhere in the application. The default ignores it.
    async fn handle_info(&mut self, info: Self::Info, ctx: &mut Context<Self>) -> Handled {
        let _ = (info, ctx);
        Handled::NoReply
    }

    /// A broadcast on another topic that the channel subscribed to with [`Context::subscribe`]. The
    /// default ignores it. Phoenix: `handle_info` with a `Broadcast`.
    async fn handle_broadcast(
        &mut self,
        broadcast: Arc<Broadcast>,
        ctx: &mut Context<Self>,
    ) -> Handled {
        let _ = (broadcast, ctx);
        Handled::NoReply
    }

    /// Nothing has come for as long as [`Context::timeout_after`] said. The default ignores it.
    /// Phoenix: `handle_info(:timeout, ..)`.
    async fn handle_timeout(&mut self, ctx: &mut Context<Self>) -> Handled {
        let _ = ctx;
        Handled::NoReply
    }

    /// The channel ends. Runs on leave, stop, crash and the end of the connection, for at most
    /// 5 seconds; not after a duplicate join or a crash in `join`. Pushes made here follow
    /// `phx_close`, and precede `phx_error`.
    async fn terminate(&mut self, reason: &StopReason, ctx: &mut Context<Self>) {
        let _ = (reason, ctx);
    }

    /// Events whose broadcasts go to [`Channel::handle_out`] instead of straight to the client, and
    /// whose stored messages go to [`Channel::handle_replay`].
    fn intercept() -> &'static [&'static str] {
        &[]
    }
}

/// What `join` answers.
pub type JoinResult = Result<Join, Refused>;

/// An accepted join: the reply, and how the client gets the topic's history.
#[derive(Clone, Debug)]
pub struct Join {
    reply: Payload,
    log: LogRequest,
}

impl Join {
    /// Accepted; the client receives ok `{}`.
    pub fn ok() -> Self {
        Self::reply(Payload::EMPTY)
    }

    /// Accepted; the client receives ok with this reply.
    pub fn reply(reply: impl Into<Payload>) -> Self {
        Self {
            reply: reply.into(),
            log: LogRequest::default(),
        }
    }

    /// Gives the client the newest stored messages of the topic, up to the very message after
    /// which its live ones begin. Without a log nothing is sent.
    pub fn with_history(self, mode: HistoryMode) -> Self {
        self.with_log(LogRequest::new(mode))
    }

    /// Gives the client what it asks of the topic's log: a resume, or a history.
    pub fn with_log(mut self, request: LogRequest) -> Self {
        self.log = request;
        self
    }
}

/// A refused join: the client receives error with this reply.
#[derive(Clone, Debug)]
pub struct Refused(Payload);

impl Refused {
    /// Refused with any reply.
    pub fn new(reply: impl Into<Payload>) -> Self {
        Self(reply.into())
    }

    /// Refused with `{"reason": reason}`.
    pub fn reason(reason: &str) -> Self {
        Self::new(serde_json::json!({ "reason": reason }))
    }
}

/// What `handle_in` answers.
#[derive(Clone, Debug)]
pub enum HandleIn {
    /// Nothing is sent to the client.
    NoReply,
    /// The client receives this reply.
    Reply(Reply),
    /// The channel ends.
    Stop(StopReason),
    /// The client receives this reply, then the channel ends.
    StopReply(StopReason, Reply),
}

/// What the reason of a channel begins with that has no clause for an event.
const NO_HANDLER: &str = "no handler for event";

impl HandleIn {
    /// No clause for this event: the channel crashes, as in Phoenix.
    pub fn unhandled(event: &str) -> Self {
        Self::Stop(StopReason::error(format!("{NO_HANDLER} {event:?}")))
    }
}

/// What `handle_out` and `handle_info` answer.
#[derive(Clone, Debug)]
pub enum Handled {
    /// The channel goes on.
    NoReply,
    /// The channel ends.
    Stop(StopReason),
}

/// Why a channel ends. Phoenix's exit reasons, as [`Channel::terminate`] sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// `:normal`: the channel is done. The client receives `phx_close`.
    Normal,
    /// `:shutdown`: told to end, or its join was refused. The client receives `phx_close`.
    Shutdown,
    /// `{:shutdown, :left}`: the client left.
    Left,
    /// `{:shutdown, :local_closed}`: the client closed its connection.
    LocalClosed,
    /// `{:shutdown, :peer_closed}`: the connection was lost.
    PeerClosed,
    /// `{:shutdown, :read_timeout}`: the connection was idle for too long.
    ReadTimeout,
    /// `{:shutdown, :disconnected}`: a `disconnect` broadcast on the socket's id.
    Disconnected,
    /// `:inactive`: a long-polling client has stopped polling.
    Inactive,
    /// `:draining`: the server is going down.
    Draining,
    /// The connection broke the protocol, or its client did not read: what happened.
    Aborted(&'static str),
    /// Any other reason of the application. The client receives `phx_error`.
    Error(Cow<'static, str>),
    /// A callback panicked with this message. The client receives `phx_error`.
    Panicked(Cow<'static, str>),
}

impl StopReason {
    /// An error of the application's own.
    pub fn error(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Error(reason.into())
    }

    /// Whether the channel has crashed in the client's eyes.
    pub fn is_crash(&self) -> bool {
        matches!(self, Self::Error(_) | Self::Panicked(_))
    }
}
