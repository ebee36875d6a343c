//! One joined topic of one client, as the application writes it. Phoenix: `Phoenix.Channel`.
//!
//! A type that implements [`Channel`] is one client in one topic. [`Channel::join`] makes its value, whose
//! fields are the channel's own state. All its callbacks run on the worker thread of the client's
//! connection, one at a time and in the order of the messages. A callback may await: that suspends this channel
//! and nothing else.
//!
//! `?` works in every callback. In `join` and `handle_in` it makes a [`Failure`] of an error: an error reply if the
//! client may know it, else a crash. In the others it ends the channel.
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
//!             return Err(Refused::because("unauthorized").into());
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
//!                 ctx.broadcast("shout", payload).await?;
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
mod guard;
mod handle;
mod history;
mod join;
mod link;
mod outcome;
mod replay;
mod seldom;
mod server;
mod start;
mod timer;
mod work;

use std::fmt;
use std::sync::Arc;

use futures_core::future::LocalBoxFuture;

pub use self::context::{Context, SendError};
pub use self::failure::{Failure, Refused};
pub(crate) use self::guard::Guard;
pub use self::handle::{ChannelEnded, Handle, SocketRef};
pub use self::history::{HistoryMode, LogRequest, stored_messages};
#[cfg(feature = "server")]
pub(crate) use self::history::{MESSAGES, MESSAGES_HISTORY};
pub(crate) use self::link::Link;
pub use self::outcome::{HandleIn, StopReason};
pub(crate) use self::start::{ChannelSignal, JoinState, Signals, Start, Started, start};
pub use self::timer::Timer;
pub(crate) use self::work::ChannelWork;
use crate::message::{IntoPayload, Payload};
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
    /// The infos that the application sends to this channel through a [`Handle`]; `()` if it sends none.
    type Info: Send + 'static;

    /// A client joins: makes its channel. `ctx` has the topic, and the values assigned by `connect` and the
    /// router. Until this returns, the client's later messages wait, as in Phoenix. `push` and `broadcast` are
    /// refused here: [`Join::then`] runs once the client is a member.
    ///
    /// # Errors
    /// A [`Failure::Refused`] is the client's error reply, and there is no channel. With any other failure the
    /// join has crashed: the client receives error with `{"reason": "join crashed"}`.
    ///
    /// ```
    /// use slackir::prelude::*;
    ///
    /// struct Room;
    ///
    /// impl Channel for Room {
    ///     type Info = ();
    ///
    ///     async fn join(_: Payload, ctx: &mut Context<Self>) -> JoinResult<Self> {
    ///         match ctx.topic() {
    ///             "room:secret" => Err(Refused::because("unauthorized").into()),
    ///             _ => Ok(Join::ok(Room)),
    ///         }
    ///     }
    /// }
    /// ```
    async fn join(params: Payload, ctx: &mut Context<Self>) -> JoinResult<Self>;

    /// A message of the client. The default crashes the channel, as a Phoenix channel without a matching
    /// clause does.
    ///
    /// # Errors
    /// See [`Failure`]: an error reply, or the end of the channel.
    ///
    /// ```
    /// # use slackir::prelude::*;
    /// # struct Room;
    /// # impl Channel for Room {
    /// #     type Info = ();
    /// #     async fn join(_: Payload, _: &mut Context<Self>) -> JoinResult<Self> {
    /// #         Ok(Join::ok(Room))
    /// #     }
    /// async fn handle_in(
    ///     &mut self,
    ///     event: &str,
    ///     payload: Payload,
    ///     _: &mut Context<Self>,
    /// ) -> HandleInResult {
    ///     match event {
    ///         "ping" => Ok(HandleIn::ok(payload)),
    ///         _ => Err(Failure::unhandled(event)),
    ///     }
    /// }
    /// # }
    /// ```
    async fn handle_in(
        &mut self,
        event: &str,
        payload: Payload,
        ctx: &mut Context<Self>,
    ) -> HandleInResult {
        let _ = (payload, ctx);
        Err(Failure::unhandled(event))
    }

    /// A broadcast of an event that [`Channel::intercept`] names. The default passes it on. A push of the same
    /// event made here carries the stored message's `_meta` if the client asked for it.
    ///
    /// # Errors
    /// The channel ends for this reason, as in all callbacks below.
    ///
    /// ```
    /// # use slackir::prelude::*;
    /// # use std::sync::Arc;
    /// # fn is_day() -> bool { true }
    /// # struct Room;
    /// # impl Channel for Room {
    /// #     type Info = ();
    /// #     async fn join(_: Payload, _: &mut Context<Self>) -> JoinResult<Self> {
    /// #         Ok(Join::ok(Room))
    /// #     }
    /// fn intercept() -> &'static [&'static str] {
    ///     &["shout"]
    /// }
    ///
    /// async fn handle_out(&mut self, broadcast: Arc<Broadcast>, ctx: &mut Context<Self>) -> Handled {
    ///     // Passed on in the daytime alone.
    ///     if is_day() {
    ///         ctx.push(broadcast.event(), broadcast.payload())?;
    ///     }
    ///     Ok(())
    /// }
    /// # }
    /// ```
    async fn handle_out(&mut self, broadcast: Arc<Broadcast>, ctx: &mut Context<Self>) -> Handled {
        ctx.push(broadcast.event(), broadcast.payload())?;
        Ok(())
    }

    /// A stored message of an event that [`Channel::intercept`] names, in the history or the resume of a join:
    /// oldest first, before anything live. A push made here takes the message's place; in a history that is a
    /// list, its payload does. The default calls [`Channel::handle_out`]. If the history is part of the join's
    /// reply, broadcasts are refused, and a stop is answered as a crashed join.
    ///
    /// An error ends the channel, and the client joins again and meets the same message: pass over a stored message that
    /// this version cannot read, with `Ok(())`, instead of failing.
    ///
    /// ```
    /// # use slackir::prelude::*;
    /// # use std::sync::Arc;
    /// # struct Room;
    /// # impl Channel for Room {
    /// #     type Info = ();
    /// #     async fn join(_: Payload, _: &mut Context<Self>) -> JoinResult<Self> {
    /// #         Ok(Join::ok(Room))
    /// #     }
    /// async fn handle_replay(
    ///     &mut self,
    ///     broadcast: Arc<Broadcast>,
    ///     ctx: &mut Context<Self>,
    /// ) -> Handled {
    ///     ctx.push("old_shout", broadcast.payload())?;
    ///     Ok(())
    /// }
    /// # }
    /// ```
    async fn handle_replay(
        &mut self,
        broadcast: Arc<Broadcast>,
        ctx: &mut Context<Self>,
    ) -> Handled {
        self.handle_out(broadcast, ctx).await
    }

    /// An info from elsewhere in the application, or from the channel itself. The default ignores it.
    ///
    /// ```
    /// # use slackir::prelude::*;
    /// # struct Room;
    /// # impl Channel for Room {
    /// #     type Info = u32;
    /// #     async fn join(_: Payload, _: &mut Context<Self>) -> JoinResult<Self> {
    /// #         Ok(Join::ok(Room))
    /// #     }
    /// async fn handle_info(&mut self, points: u32, ctx: &mut Context<Self>) -> Handled {
    ///     ctx.push("score", serde_json::json!({"points": points}))?;
    ///     Ok(())
    /// }
    /// # }
    /// ```
    async fn handle_info(&mut self, info: Self::Info, ctx: &mut Context<Self>) -> Handled {
        let _ = (info, ctx);
        Ok(())
    }

    /// A broadcast on another topic that the channel subscribed to with [`Context::subscribe`]. The
    /// default ignores it. Phoenix: `handle_info` with a `Broadcast`.
    ///
    /// ```
    /// # use slackir::prelude::*;
    /// # use std::sync::Arc;
    /// # struct Room;
    /// # impl Channel for Room {
    /// #     type Info = ();
    /// #     async fn join(_: Payload, _: &mut Context<Self>) -> JoinResult<Self> {
    /// #         Ok(Join::ok(Room))
    /// #     }
    /// async fn handle_broadcast(
    ///     &mut self,
    ///     broadcast: Arc<Broadcast>,
    ///     ctx: &mut Context<Self>,
    /// ) -> Handled {
    ///     ctx.push("announcement", broadcast.payload())?;
    ///     Ok(())
    /// }
    /// # }
    /// ```
    async fn handle_broadcast(
        &mut self,
        broadcast: Arc<Broadcast>,
        ctx: &mut Context<Self>,
    ) -> Handled {
        let _ = (broadcast, ctx);
        Ok(())
    }

    /// The silence that [`Context::timeout_after`] asked for is over. The default ignores it.
    /// Phoenix: `handle_info(:timeout, ..)`.
    ///
    /// ```
    /// # use slackir::prelude::*;
    /// # struct Room;
    /// # impl Channel for Room {
    /// #     type Info = ();
    /// #     async fn join(_: Payload, _: &mut Context<Self>) -> JoinResult<Self> {
    /// #         Ok(Join::ok(Room))
    /// #     }
    /// async fn handle_timeout(&mut self, _: &mut Context<Self>) -> Handled {
    ///     Err(StopReason::Normal)
    /// }
    /// # }
    /// ```
    async fn handle_timeout(&mut self, ctx: &mut Context<Self>) -> Handled {
        let _ = ctx;
        Ok(())
    }

    /// The channel ends. Runs on leave, stop, crash and the end of the connection, for at most
    /// 5 seconds; not after a duplicate join or a crash in `join`. Pushes made here follow
    /// `phx_close`, and precede `phx_error`.
    ///
    /// ```
    /// # use slackir::prelude::*;
    /// # struct Room;
    /// # impl Channel for Room {
    /// #     type Info = ();
    /// #     async fn join(_: Payload, _: &mut Context<Self>) -> JoinResult<Self> {
    /// #         Ok(Join::ok(Room))
    /// #     }
    /// async fn terminate(&mut self, reason: &StopReason, ctx: &mut Context<Self>) {
    ///     if reason.is_crash() {
    ///         let _ = ctx.broadcast("crashed", serde_json::json!({})).await;
    ///     }
    /// }
    /// # }
    /// ```
    async fn terminate(&mut self, reason: &StopReason, ctx: &mut Context<Self>) {
        let _ = (reason, ctx);
    }

    /// Events whose broadcasts go to [`Channel::handle_out`] instead of straight to the client, and
    /// whose stored messages go to [`Channel::handle_replay`]. The default names none.
    ///
    /// ```
    /// # use slackir::prelude::*;
    /// # struct Room;
    /// # impl Channel for Room {
    /// #     type Info = ();
    /// #     async fn join(_: Payload, _: &mut Context<Self>) -> JoinResult<Self> {
    /// #         Ok(Join::ok(Room))
    /// #     }
    /// fn intercept() -> &'static [&'static str] {
    ///     &["shout"]
    /// }
    /// # }
    /// ```
    fn intercept() -> &'static [&'static str] {
        &[]
    }
}

/// The result of `join`.
pub type JoinResult<C> = Result<Join<C>, Failure>;

/// The result of `handle_in`.
pub type HandleInResult = Result<HandleIn, Failure>;

/// The result of the other callbacks: with `Ok(())` the channel goes on, an error ends it. `?` makes a crash of any
/// error; `Err(StopReason::Normal)` ends the channel in order.
pub type Handled = Result<(), StopReason>;

/// A step that runs once the client is a member.
type Then<C> =
    Box<dyn for<'a> FnOnce(&'a mut C, &'a mut Context<C>) -> LocalBoxFuture<'a, Handled>>;

/// An accepted join: the channel, the reply, and how the client gets the topic's history.
pub struct Join<C: Channel> {
    channel: C,
    reply: Payload,
    log: LogRequest,
    then: Vec<Then<C>>,
}

impl<C: Channel> Join<C> {
    /// Accepted; the client receives ok `{}`.
    ///
    /// ```
    /// # use slackir::channel::{Channel, Join};
    /// # fn example<C: Channel>(room: C) -> Join<C> {
    /// Join::ok(room)
    /// # }
    /// ```
    pub fn ok(channel: C) -> Self {
        Self::reply(channel, Payload::EMPTY)
    }

    /// Accepted; the client receives ok with this reply.
    ///
    /// # Panics
    /// If the reply has no JSON form.
    ///
    /// ```
    /// # use slackir::channel::{Channel, Join};
    /// # fn example<C: Channel>(room: C) -> Join<C> {
    /// Join::reply(room, serde_json::json!({"greeting": "hello"}))
    /// # }
    /// ```
    pub fn reply(channel: C, reply: impl IntoPayload) -> Self {
        Self {
            channel,
            reply: reply.into_payload(),
            log: LogRequest::default(),
            then: Vec::new(),
        }
    }

    /// Sends the client the newest stored messages of the topic; its live messages follow without a gap. For a
    /// topic without a log nothing is sent.
    ///
    /// ```
    /// # use slackir::channel::{Channel, HistoryMode, Join};
    /// # fn example<C: Channel>(room: C) -> Join<C> {
    /// Join::ok(room).with_history(HistoryMode::PerEvent)
    /// # }
    /// ```
    pub fn with_history(self, mode: HistoryMode) -> Self {
        self.with_log(LogRequest::new(mode))
    }

    /// Sends the client the resume or the history that it asks for.
    ///
    /// ```
    /// # use slackir::channel::{Channel, HistoryMode, Join, LogRequest};
    /// # use slackir::message::Payload;
    /// # fn example<C: Channel>(room: C, params: &Payload) -> Join<C> {
    /// Join::ok(room).with_log(LogRequest::from_params(HistoryMode::Reply, params))
    /// # }
    /// ```
    pub fn with_log(mut self, request: LogRequest) -> Self {
        self.log = request;
        self
    }

    /// Runs once the client is a member of the topic and has its history, before any message or broadcast
    /// reaches the channel. Several run in their order. An error ends the channel. Phoenix: `send(self(), :after_join)`.
    ///
    /// ```
    /// # use slackir::channel::{Channel, Context, Join, JoinResult};
    /// # use slackir::message::Payload;
    /// # struct Room { name: String }
    /// # impl Channel for Room {
    /// #     type Info = ();
    /// async fn join(_params: Payload, _ctx: &mut Context<Self>) -> JoinResult<Self> {
    ///     let room = Room { name: "lobby".to_owned() };
    ///     Ok(Join::ok(room).then(async |room, ctx| {
    ///         ctx.push("welcome", serde_json::json!({"to": room.name}))?;
    ///         Ok(())
    ///     }))
    /// }
    /// # }
    /// ```
    pub fn then(
        mut self,
        run: impl AsyncFnOnce(&mut C, &mut Context<C>) -> Handled + 'static,
    ) -> Self {
        let run: Then<C> = Box::new(|channel, ctx| Box::pin(async { run(channel, ctx).await }));
        self.then.push(run);
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
