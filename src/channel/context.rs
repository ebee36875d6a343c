//! [`Context`]: a callback's access to its client, its topic and its own later work.
//! Phoenix: the functions of `Phoenix.Channel` that take a socket.

use std::any::type_name;
use std::fmt;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use actix::WeakRecipient;
use serde_json::json;

use super::callback::LiveCell;
use super::guard::{Guard, Guards};
use super::handle::{Handle, SocketRef};
use super::link::Link;
use super::seldom::{Elsewhere, Seldom};
use super::timer::{Timer, Timers};
use super::{Channel, HandleIn, Refused};
use crate::assigns::Assigns;
use crate::client::Client;
use crate::message::{IntoPayload, Payload, Ref, Reply};
use crate::pubsub::{Broadcast, Draft, Labels, PubSub, PublishError, Published, SubscriberId, Tap};
use crate::serializer::EncodeError;

/// Why a push or a broadcast failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// `join` has not returned yet: use [`Join::then`](super::Join::then), or send an info to the channel itself.
    #[error("the channel has not joined its topic yet")]
    NotJoined,
    /// The payload has no form on this client's wire.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The broadcast was refused.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

/// The channel's view of its client and its topic. Phoenix: `Phoenix.Socket` inside a channel.
///
/// ```
/// use serde_json::json;
/// use slackir::channel::{Channel, Context, SendError};
///
/// async fn welcome<C: Channel>(ctx: &Context<C>, name: &str) -> Result<(), SendError> {
///     ctx.push("welcome", json!({"topic": ctx.topic()}))?;
///     ctx.broadcast_from("joined", json!({"name": name})).await
/// }
/// ```
pub struct Context<C: Channel> {
    link: Rc<Link>,
    pubsub: PubSub,
    assigns: Assigns,
    /// The ref of the message that `handle_in` is handling; null at any other time.
    pub(super) reference: Ref,
    /// The broadcast that `handle_out` or `handle_replay` is handling.
    pub(super) passing: Option<Arc<Broadcast>>,
    /// Subscriptions, a timeout, and pushes that are listed.
    pub(super) seldom: Seldom,
    /// Timers of its own infos.
    timers: Timers,
    /// Dropped with the channel.
    pub(super) guards: Guards,
    /// The cell that holds this context.
    cell: Weak<LiveCell<C>>,
}

impl<C: Channel> fmt::Debug for Context<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("topic", &self.topic())
            .finish_non_exhaustive()
    }
}

impl<C: Channel> Context<C> {
    pub(super) fn new(
        link: Rc<Link>,
        pubsub: PubSub,
        assigns: Assigns,
        cell: Weak<LiveCell<C>>,
    ) -> Self {
        Self {
            link,
            pubsub,
            assigns,
            reference: Ref::NULL,
            passing: None,
            seldom: Seldom::default(),
            timers: Timers::default(),
            guards: Guards::default(),
            cell,
        }
    }

    /// Clears the state of the callback before, which may have been dropped half-way.
    pub(super) fn begin(&mut self) {
        self.reference = Ref::NULL;
        self.passing = None;
        self.seldom.take_list();
        self.seldom.take_timeout();
    }

    fn cell(&self) -> Rc<LiveCell<C>> {
        let cell = self.cell.upgrade();
        cell.expect("only callbacks have the context, and they hold its cell")
    }

    /// The joined topic.
    ///
    /// ```
    /// # use slackir::channel::{Channel, Context};
    /// # fn example<C: Channel>(ctx: &Context<C>) {
    /// let room = ctx.topic().strip_prefix("room:");
    /// # let _ = room;
    /// # }
    /// ```
    pub fn topic(&self) -> &str {
        self.link.topic()
    }

    /// The values assigned by `connect` and by this channel.
    ///
    /// ```
    /// # use slackir::channel::{Channel, Context};
    /// # fn example<C: Channel>(ctx: &Context<C>) {
    /// struct UserId(u64);
    ///
    /// let user = ctx.assigns().get::<UserId>().map(|user| user.0);
    /// # let _ = user;
    /// # }
    /// ```
    pub fn assigns(&self) -> &Assigns {
        &self.assigns
    }

    /// The channel's own copy of the assigns. Phoenix: `assign/3`.
    ///
    /// ```
    /// # use slackir::channel::{Channel, Context};
    /// # fn example<C: Channel>(ctx: &mut Context<C>) {
    /// struct Seat(u32);
    ///
    /// ctx.assigns_mut().insert(Seat(7));
    /// # }
    /// ```
    pub fn assigns_mut(&mut self) -> &mut Assigns {
        &mut self.assigns
    }

    /// The value of this type that the router's [`state`](crate::socket::SocketRouter::state), `connect` or
    /// the channel has assigned.
    ///
    /// # Panics
    /// If there is none: a mistake of the program. It crashes the join.
    ///
    /// ```
    /// # use slackir::channel::{Channel, Context};
    /// # fn example<C: Channel>(ctx: &Context<C>) {
    /// struct Greeting(String);
    ///
    /// let greeting = ctx.state::<Greeting>();
    /// println!("{}", greeting.0);
    /// # }
    /// ```
    pub fn state<T: Send + Sync + 'static>(&self) -> Arc<T> {
        let state = self.assigns.get_shared();
        state.unwrap_or_else(|| panic!("no state of type {}", type_name::<T>()))
    }

    /// Gives the client labels, by which messages and [`PubSub::close`] can select it among the members of its topic:
    /// `labels` returns the value of a label by its name. It replaces the labels before. It is called for each message
    /// [to](Draft::to) selected members, on the way to them, so it must be quick and must not send anything.
    ///
    /// ```
    /// # use serde_json::json;
    /// # use slackir::channel::{Channel, Context, SendError};
    /// # use slackir::pubsub::{Draft, Selector};
    /// # async fn example<C: Channel>(ctx: &Context<C>, user: u64, callee: u64) -> Result<(), SendError> {
    /// ctx.label(move |label| (label == "user").then(|| user.to_string()));
    ///
    /// let ring = Draft::new("ring", json!({"from": user}));
    /// ctx.publish(&ring.to(Selector::label("user", callee.to_string()))).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn label(&self, labels: impl Fn(&str) -> Option<String> + 'static) {
        self.link.label(Labels::new(labels));
    }

    /// The topics of this server, to broadcast to others than this channel's.
    ///
    /// ```
    /// # use serde_json::json;
    /// # use slackir::channel::{Channel, Context};
    /// # async fn example<C: Channel>(ctx: &Context<C>) -> Result<(), slackir::pubsub::PublishError> {
    /// let opened = json!({"room": ctx.topic()});
    /// ctx.pubsub().broadcast("admins", "room_opened", opened).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn pubsub(&self) -> &PubSub {
        &self.pubsub
    }

    /// Sends an event to this client only.
    ///
    /// # Errors
    /// If the join is not complete, or the payload is neither an object nor, for a V2 client, binary.
    ///
    /// ```
    /// # use serde_json::json;
    /// # use slackir::channel::{Channel, Context, SendError};
    /// # fn example<C: Channel>(ctx: &Context<C>) -> Result<(), SendError> {
    /// ctx.push("score", json!({"points": 3}))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn push(&self, event: &str, payload: impl IntoPayload) -> Result<(), SendError> {
        let payload = self.with_meta(event, payload.into_payload());
        if self.seldom.list(&payload)? {
            return Ok(());
        }
        self.assert_joined()?;
        Ok(self.link.push(event, &payload)?)
    }

    /// A refusal of a message over a limit of the application's own: the error reply
    /// `{"reason": "rate limited", "limit": limit, "retry_after_ms": wait}`. After 100 of them in 10 seconds the server
    /// does not read from the connection for a second at a time.
    ///
    /// ```
    /// use std::time::Duration;
    /// # use slackir::channel::{Channel, Context, Refused};
    /// use slackir::rate::{Bucket, Rate};
    ///
    /// const UPLOADS: Rate = Rate::in_period(5, Duration::from_secs(60));
    ///
    /// fn check<C: Channel>(uploads: &mut Bucket, now: Duration, ctx: &Context<C>) -> Result<(), Refused> {
    ///     uploads.take(UPLOADS, 1, now).map_err(|wait| ctx.rate_limited("uploads", wait))
    /// }
    /// ```
    pub fn rate_limited(&self, limit: &str, wait: Duration) -> Refused {
        self.link.flow.count_limited();
        self.link.flow.count_refusal();
        Refused::rate_limited(Some(limit), wait)
    }

    /// As [`rate_limited`](Self::rate_limited), for the one limit of an event.
    #[cfg(feature = "server")]
    pub(crate) fn event_rate_limited(&self, wait: Duration) -> Refused {
        self.link.flow.count_limited();
        self.link.flow.count_refusal();
        Refused::rate_limited(None, wait)
    }

    /// The refusal of a message whose sender is muted for this long. After 100 refusals the server rests, as in
    /// [`rate_limited`](Self::rate_limited).
    #[cfg(feature = "server")]
    pub(crate) fn muted(&self, left: Duration) -> Refused {
        self.link.flow.count_refusal();
        Refused::muted(left)
    }

    /// Adds the `_meta` of the broadcast that is passed on, as one that was not intercepted has it.
    fn with_meta(&self, event: &str, payload: Payload) -> Payload {
        match (&self.passing, payload) {
            (Some(broadcast), Payload::Json(json))
                if self.link.meta.get() && broadcast.event() == event =>
            {
                Payload::Json(broadcast.with_meta(&json))
            }
            (_, payload) => payload,
        }
    }

    /// Sends an event to everybody in the topic, this client included.
    ///
    /// # Errors
    /// If the join is not complete, or the message was refused: then it is neither stored nor sent, unless the
    /// error is [`PublishError::Unconfirmed`].
    ///
    /// ```
    /// # use serde_json::json;
    /// # use slackir::channel::{Channel, Context, SendError};
    /// # async fn example<C: Channel>(ctx: &Context<C>) -> Result<(), SendError> {
    /// ctx.broadcast("shout", json!({"message": "hello"})).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn broadcast(&self, event: &str, payload: impl IntoPayload) -> Result<(), SendError> {
        self.publish(&Draft::new(event, payload)).await.map(drop)
    }

    /// As [`Context::broadcast`], for a message with a client_ref or a receipt, or a change of a stored message.
    ///
    /// # Errors
    /// As [`Context::broadcast`].
    ///
    /// ```
    /// # use serde_json::json;
    /// # use slackir::pubsub::Draft;
    /// # use slackir::channel::{Channel, Context, SendError};
    /// # async fn example<C: Channel>(ctx: &Context<C>) -> Result<(), SendError> {
    /// let draft = Draft::new("shout", json!({"message": "hello"})).with_receipt();
    /// let published = ctx.publish(&draft).await?;
    /// # let _ = published;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn publish(&self, draft: &Draft) -> Result<Published, SendError> {
        self.assert_joined()?;
        Ok(self.link.publish(&self.pubsub, draft, None).await?)
    }

    /// As [`Context::publish`], to everybody but this channel.
    ///
    /// ```
    /// # use serde_json::json;
    /// # use slackir::pubsub::Draft;
    /// # use slackir::channel::{Channel, Context, SendError};
    /// # async fn example<C: Channel>(ctx: &Context<C>) -> Result<(), SendError> {
    /// let moved = Draft::new("moved", json!({"x": 3, "y": 4})).with_receipt();
    /// let id = ctx.publish_from(&moved).await?.id;
    /// # let _ = id;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Context::broadcast`].
    pub async fn publish_from(&self, draft: &Draft) -> Result<Published, SendError> {
        self.assert_joined()?;
        let from = Some(self.link.id);
        Ok(self.link.publish(&self.pubsub, draft, from).await?)
    }

    /// Answers the message that `handle_in` is handling once its published message is committed: ok
    /// `{"id": ..}`, or error with a reason. The channel goes on meanwhile. `published` must come from a draft
    /// [with a receipt](Draft::with_receipt); for a topic that stores nothing the id is `null`, at once.
    /// No reply comes if the connection or the server ends first: a client that must know sends a client_ref, and
    /// retries.
    ///
    /// ```
    /// # use slackir::message::Payload;
    /// # use slackir::pubsub::Draft;
    /// # use slackir::channel::{Channel, Context, HandleInResult};
    /// # async fn example<C: Channel>(ctx: &Context<C>, payload: Payload) -> HandleInResult {
    /// let draft = Draft::new("shout", payload).with_receipt();
    /// let published = ctx.publish(&draft).await?;
    /// Ok(ctx.reply_when_stored(published))
    /// # }
    /// ```
    pub fn reply_when_stored(&self, published: Published) -> HandleIn {
        let Some(receipt) = published.receipt else {
            return HandleIn::ok(json!({ "id": null }));
        };
        if let Some(socket_ref) = self.socket_ref() {
            actix_rt::spawn(async move {
                // An object has a form on every wire.
                let _ = socket_ref.reply(&receipt.reply().await);
            });
        }
        HandleIn::NoReply
    }

    /// Sends an event to everybody in the topic but this channel.
    ///
    /// # Errors
    /// As [`Context::broadcast`].
    ///
    /// ```
    /// # use serde_json::json;
    /// # use slackir::channel::{Channel, Context, SendError};
    /// # async fn example<C: Channel>(ctx: &Context<C>) -> Result<(), SendError> {
    /// ctx.broadcast_from("typing", json!({"name": "ada"})).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn broadcast_from(
        &self,
        event: &str,
        payload: impl IntoPayload,
    ) -> Result<(), SendError> {
        self.publish_from(&Draft::new(event, payload))
            .await
            .map(drop)
    }

    /// Captures the message that is being handled, to reply to it later, from anywhere.
    ///
    /// `None` outside `handle_in`, and for a message without a ref, whose client expects no reply.
    ///
    /// ```
    /// # use serde_json::json;
    /// # use slackir::message::Reply;
    /// # use slackir::channel::{Channel, Context};
    /// # fn example<C: Channel>(ctx: &Context<C>) {
    /// if let Some(socket_ref) = ctx.socket_ref() {
    ///     std::thread::spawn(move || socket_ref.reply(&Reply::ok(json!({"sum": 3}))));
    /// }
    /// # }
    /// ```
    pub fn socket_ref(&self) -> Option<SocketRef> {
        if self.reference.is_null() || !self.link.is_joined() {
            return None;
        }
        Some(SocketRef {
            signals: WeakRecipient::clone(&self.cell().signals),
            serializer: self.link.serializer,
            join_ref: self.link.join_ref.clone(),
            reference: self.reference.detach(),
            topic: self.link.name().clone(),
        })
    }

    /// Listens to another topic until the channel ends: its broadcasts reach [`Channel::handle_broadcast`].
    /// Subscribing twice delivers twice. Phoenix: `Endpoint.subscribe/1` in a channel.
    ///
    /// ```
    /// # use slackir::channel::{Channel, Context};
    /// # fn example<C: Channel>(ctx: &mut Context<C>) {
    /// ctx.subscribe("announcements");
    /// # }
    /// ```
    pub fn subscribe(&mut self, topic: &str) {
        let tap: Rc<dyn Tap> = Rc::new(Elsewhere(Rc::clone(&self.link)));
        let subscription = self.pubsub.subscribe_tap(topic, self.link.id, &tap);
        self.seldom.keep(subscription);
    }

    /// Ends all subscriptions of this channel to another topic.
    ///
    /// ```
    /// # use slackir::channel::{Channel, Context};
    /// # fn example<C: Channel>(ctx: &mut Context<C>) {
    /// ctx.unsubscribe("announcements");
    /// # }
    /// ```
    pub fn unsubscribe(&mut self, topic: &str) {
        self.seldom.unsubscribe(topic);
    }

    /// Asks for [`Channel::handle_timeout`] after this much silence behind the running callback. Any other
    /// callback cancels it. Phoenix: `{:noreply, socket, timeout}`.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use slackir::channel::{Channel, Context};
    /// # fn example<C: Channel>(ctx: &mut Context<C>) {
    /// ctx.timeout_after(Duration::from_secs(30));
    /// # }
    /// ```
    pub fn timeout_after(&mut self, silence: Duration) {
        self.seldom.ask_timeout(silence);
    }

    /// Replies to a captured message, in order with this channel's pushes and broadcasts, which may overtake
    /// [`SocketRef::reply`].
    ///
    /// # Errors
    /// If the response has no form on the client's wire.
    ///
    /// ```
    /// # use serde_json::json;
    /// # use slackir::message::Reply;
    /// # use slackir::channel::{Channel, Context, SendError, SocketRef};
    /// # fn example<C: Channel>(ctx: &Context<C>, asked: &SocketRef) -> Result<(), SendError> {
    /// ctx.reply(asked, &Reply::ok(json!({"sum": 3})))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn reply(&self, to: &SocketRef, reply: &Reply) -> Result<(), SendError> {
        Ok(self.link.reply(&to.join_ref, &to.reference, reply)?)
    }

    /// A handle through which any thread sends this channel infos. Phoenix: the channel's pid.
    ///
    /// ```
    /// # use slackir::channel::{Channel, Context};
    /// # fn example<C: Channel<Info = &'static str>>(ctx: &Context<C>) {
    /// let handle = ctx.handle();
    /// std::thread::spawn(move || handle.send("done"));
    /// # }
    /// ```
    pub fn handle(&self) -> Handle<C::Info> {
        Handle {
            infos: self.cell().mailbox.address().clone().recipient(),
        }
    }

    /// Sends this channel an info after a delay. The timer ends with the channel. Phoenix:
    /// `Process.send_after(self(), ..)`.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use slackir::channel::{Channel, Context};
    /// # fn example<C: Channel<Info = &'static str>>(ctx: &Context<C>) {
    /// let timer = ctx.send_after(Duration::from_secs(5), "too late");
    /// timer.cancel();
    /// # }
    /// ```
    pub fn send_after(&self, delay: Duration, info: C::Info) -> Timer {
        let handle = self.handle();
        // A channel that is ending takes no more infos.
        let send = move || {
            let _ = handle.send(info);
        };
        self.timers.once(delay, send)
    }

    /// Sends this channel an info after every period. The timer ends with the channel. While an info waits for a
    /// callback that takes longer than the period, no other is sent. Phoenix: `:timer.send_interval`.
    ///
    /// # Panics
    /// If the period is zero.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use slackir::channel::{Channel, Context};
    /// # fn example<C: Channel<Info = &'static str>>(ctx: &Context<C>) {
    /// ctx.send_every(Duration::from_secs(60), || "tick");
    /// # }
    /// ```
    pub fn send_every(&self, period: Duration, info: impl Fn() -> C::Info + 'static) -> Timer {
        let handle = self.handle();
        self.timers.every(period, move |tick| {
            let _ = handle.tick(info(), tick);
        })
    }

    pub(crate) fn client(&self) -> &Client {
        self.link.outbox.client()
    }

    pub(crate) fn id(&self) -> SubscriberId {
        self.link.id
    }

    /// Keeps a guard until the channel has ended; one of each owner.
    pub(crate) fn end_with(&mut self, owner: u64, guard: impl FnOnce() -> Box<dyn Guard>) {
        self.guards.add(owner, guard);
    }

    fn assert_joined(&self) -> Result<(), SendError> {
        if self.link.is_joined() {
            Ok(())
        } else {
            Err(SendError::NotJoined)
        }
    }
}
