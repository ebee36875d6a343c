//! One joined topic of one client: what an application writes. Phoenix: `Phoenix.Channel`.
//!
//! A type that implements [`Channel`] is one client in one topic. [`Channel::join`] makes its value, whose
//! fields are the channel's own state. All its callbacks run on the worker thread of the client's
//! connection, one at a time and in the order of the messages. A callback may await whatever it likes: that
//! suspends this channel and nothing else.
//!
//! `?` works in every callback. In `join` and `handle_in` it makes a [`Failure`] of an error: an error reply
//! of what the client is to know, and a crash of anything else. In the others it ends the channel.
//!
//! ```
//! use serde::Deserialize;
//! use slackir::channel::{
//!     Channel, Context, Failure, HandleIn, HandleInResult, Join, JoinResult, Refused,
//! };
//! use slackir::message::Payload;
//!
//! struct Room {
//!     name: String,
//! }
//!
//! #[derive(Deserialize)]
//! struct Hello {
//!     name: String,
//! }
//!
//! impl Channel for Room {
//!     type Info = ();
//!
//!     async fn join(params: Payload, ctx: &mut Context<Self>) -> JoinResult<Self> {
//!         if ctx.topic() == "room:secret" {
//!             return Err(Refused::reason("unauthorized").into());
//!         }
//!         // Without a name: {"reason": "invalid payload", "field": "name", "detail": "missing"}.
//!         let Hello { name } = params.parse()?;
//!         Ok(Join::ok(Room { name }))
//!     }
//!
//!     async fn handle_in(
//!         &mut self,
//!         event: &str,
//!         payload: Payload,
//!         ctx: &mut Context<Self>,
//!     ) -> HandleInResult {
//!         match event {
//!             "ping" => Ok(HandleIn::ok(payload)),
//!             "shout" => {
//!                 ctx.broadcast("shout", payload)?;
//!                 Ok(HandleIn::NoReply)
//!             }
//!             "whoami" => Ok(HandleIn::ok(serde_json::json!({"name": self.name}))),
//!             _ => Err(Failure::unhandled(event)),
//!         }
//!     }
//! }
//! ```

mod callback;
mod catch_up;
mod context;
mod failure;
mod join;
mod link;
mod log;
mod replay;
mod server;
mod timer;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

pub use self::context::{ChannelEnded, Context, Handle, SendError, SocketRef};
pub use self::failure::{Failure, Refused};
pub(crate) use self::join::Start;
pub(crate) use self::link::{Link, ToChannel};
pub use self::log::{HistoryMode, LogRequest, stored_messages};
pub(crate) use self::server::{ChannelSignal, JoinState, Started, start};
pub use self::timer::Timer;
use crate::message::{IntoPayload, Payload, Reply};
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

    /// The client wants in: makes its channel. The topic is `ctx`'s, and so is what `connect` and the router
    /// have assigned. Until this returns, the client's later messages wait, as in Phoenix. `push` and
    /// `broadcast` are refused here: [`Join::then`] runs once the client is a member.
    ///
    /// # Errors
    /// A [`Failure::Refused`] reaches the client as the error reply, and there is no channel. With any other
    /// the join has crashed: the client receives error with `{"reason": "join crashed"}`.
    async fn join(params: Payload, ctx: &mut Context<Self>) -> JoinResult<Self>;

    /// A message of the client. The default crashes the channel, as a Phoenix channel without a matching
    /// clause does.
    ///
    /// # Errors
    /// See [`Failure`]: an error reply, or the end of the channel.
    async fn handle_in(
        &mut self,
        event: &str,
        payload: Payload,
        ctx: &mut Context<Self>,
    ) -> HandleInResult {
        let _ = (payload, ctx);
        Err(Failure::unhandled(event))
    }

    /// A broadcast of an event that [`Channel::intercept`] names. The default passes it on. What is
    /// pushed here under the broadcast's event carries the stored message's `_meta` where the client
    /// asked for it.
    ///
    /// # Errors
    /// The channel ends for this reason, as in all callbacks below.
    async fn handle_out(&mut self, broadcast: Arc<Broadcast>, ctx: &mut Context<Self>) -> Handled {
        ctx.push(broadcast.event(), broadcast.payload())?;
        Ok(())
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

    /// A message from elsewhere in the application, or from the channel itself. The default ignores it.
    async fn handle_info(&mut self, info: Self::Info, ctx: &mut Context<Self>) -> Handled {
        let _ = (info, ctx);
        Ok(())
    }

    /// A broadcast on another topic that the channel subscribed to with [`Context::subscribe`]. The
    /// default ignores it. Phoenix: `handle_info` with a `Broadcast`.
    async fn handle_broadcast(
        &mut self,
        broadcast: Arc<Broadcast>,
        ctx: &mut Context<Self>,
    ) -> Handled {
        let _ = (broadcast, ctx);
        Ok(())
    }

    /// Nothing has come for as long as [`Context::timeout_after`] said. The default ignores it.
    /// Phoenix: `handle_info(:timeout, ..)`.
    async fn handle_timeout(&mut self, ctx: &mut Context<Self>) -> Handled {
        let _ = ctx;
        Ok(())
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
pub type JoinResult<C> = Result<Join<C>, Failure>;

/// What `handle_in` answers.
pub type HandleInResult = Result<HandleIn, Failure>;

/// What the other callbacks answer: `Ok(())` goes on, an error ends the channel. `?` makes a crash of any
/// error; `Err(StopReason::Normal)` ends it in order.
pub type Handled = Result<(), StopReason>;

/// What runs when a client has become a member.
type Then<C> = Box<dyn FnOnce(&mut C, &mut Context<C>) -> Handled>;

/// An accepted join: the channel, the reply, and how the client gets the topic's history.
pub struct Join<C: Channel> {
    channel: C,
    reply: Payload,
    log: LogRequest,
    then: Vec<Then<C>>,
}

impl<C: Channel> Join<C> {
    /// Accepted; the client receives ok `{}`.
    pub fn ok(channel: C) -> Self {
        Self::reply(channel, Payload::EMPTY)
    }

    /// Accepted; the client receives ok with this reply.
    ///
    /// # Panics
    /// When the reply has no JSON form.
    pub fn reply(channel: C, reply: impl IntoPayload) -> Self {
        Self {
            channel,
            reply: reply.into_payload(),
            log: LogRequest::default(),
            then: Vec::new(),
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

    /// Runs once the client is a member of the topic and has its history, before any message or broadcast
    /// reaches the channel. Several run in their order. An error ends the channel. Phoenix:
    /// `send(self(), :after_join)`.
    ///
    /// ```
    /// # use slackir::channel::{Channel, Context, Join, JoinResult};
    /// # use slackir::message::Payload;
    /// # struct Room { name: String }
    /// # impl Channel for Room {
    /// #     type Info = ();
    /// async fn join(_params: Payload, _ctx: &mut Context<Self>) -> JoinResult<Self> {
    ///     let room = Room { name: "lobby".to_owned() };
    ///     Ok(Join::ok(room).then(|room, ctx| {
    ///         ctx.push("welcome", serde_json::json!({"to": room.name}))?;
    ///         Ok(())
    ///     }))
    /// }
    /// # }
    /// ```
    pub fn then(mut self, run: impl FnOnce(&mut C, &mut Context<C>) -> Handled + 'static) -> Self {
        self.then.push(Box::new(run));
        self
    }
}

impl<C: Channel> fmt::Debug for Join<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Join")
            .field("reply", &self.reply)
            .field("log", &self.log)
            .finish_non_exhaustive()
    }
}

/// What `handle_in` answers where nothing has failed.
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

impl HandleIn {
    /// The client receives ok with this response; [`Payload::EMPTY`] where there is none.
    ///
    /// # Panics
    /// When the response has no JSON form.
    pub fn ok(response: impl IntoPayload) -> Self {
        Reply::ok(response).into()
    }

    /// The client receives error with this response.
    ///
    /// # Panics
    /// When the response has no JSON form.
    pub fn error(response: impl IntoPayload) -> Self {
        Reply::error(response).into()
    }
}

impl From<Reply> for HandleIn {
    fn from(reply: Reply) -> Self {
        Self::Reply(reply)
    }
}

/// What the reason of a channel begins with that has no clause for an event.
const NO_HANDLER: &str = "no handler for event";

/// Why a channel ends. Phoenix's exit reasons, as [`Channel::terminate`] sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// `:normal`: the channel is done. The client receives `phx_close`.
    Normal,
    /// `:shutdown`: told to end. The client receives `phx_close`.
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
