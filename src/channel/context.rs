//! What a callback may do: push, broadcast, reply later, keep assigns.
//! Phoenix: the functions of `Phoenix.Channel` that take a socket.

use std::any::{Any, type_name};
use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{Recipient, WeakAddr, WeakRecipient};
use serde_json::json;

use super::link::{Link, ToChannel};
use super::server::{ChannelServer, ChannelSignal, Info};
use super::timer::{Timer, Timers};
use super::{Channel, HandleIn};
use crate::assigns::Assigns;
use crate::client::Client;
use crate::message::{IntoPayload, Name, Payload, RawJson, Ref, Reply};
use crate::pubsub::{
    Broadcast, Draft, PubSub, PublishError, Published, SubscriberId, Subscription, Tap,
};
use crate::serializer::{EncodeError, Serializer};

/// Why a push or a broadcast was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Before `join` has returned there is nobody to send to; send yourself an info instead.
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
pub struct Context<C: Channel> {
    link: Rc<Link>,
    pubsub: PubSub,
    assigns: Assigns,
    /// The ref of the message that `handle_in` is handling; null at any other time.
    pub(super) reference: Ref,
    /// The silence after which the callback that is running wants a timeout.
    pub(super) timeout: Option<Duration>,
    /// Whether the client asked for the ids of stored messages.
    pub(super) meta: bool,
    /// The broadcast that `handle_out` or `handle_replay` is handling.
    pub(super) passing: Option<Arc<Broadcast>>,
    /// While a history is made that is a list: what was pushed into it.
    pub(super) listed: RefCell<Option<Vec<RawJson>>>,
    /// Other topics that the channel listens to.
    subscriptions: Vec<(String, Subscription)>,
    /// Its infos that come later.
    timers: Timers,
    /// What else ends with the channel, by who has put it here.
    guards: Vec<(u64, Box<dyn Any>)>,
    /// The channel's own actor, which holds this.
    server: WeakAddr<ChannelServer<C>>,
    /// To the socket; shared by all channels of the connection.
    signals: Rc<Recipient<ChannelSignal>>,
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
        server: WeakAddr<ChannelServer<C>>,
        signals: Rc<Recipient<ChannelSignal>>,
    ) -> Self {
        Self {
            link,
            pubsub,
            assigns,
            reference: Ref::NULL,
            timeout: None,
            meta: false,
            passing: None,
            listed: RefCell::default(),
            subscriptions: Vec::new(),
            timers: Timers::default(),
            guards: Vec::new(),
            server,
            signals,
        }
    }

    /// Forgets what an earlier callback, which may have been dropped half-way, has left.
    pub(super) fn begin(&mut self) {
        self.reference = Ref::NULL;
        self.timeout = None;
        self.passing = None;
        self.listed.take();
    }

    /// The topic that was joined.
    pub fn topic(&self) -> &str {
        &self.link.topic
    }

    /// What `connect` and this channel have assigned.
    pub fn assigns(&self) -> &Assigns {
        &self.assigns
    }

    /// The channel's own copy of the assigns.
    pub fn assigns_mut(&mut self) -> &mut Assigns {
        &mut self.assigns
    }

    /// The value of this type that the router's [`state`](crate::socket::SocketRouter::state), `connect` or
    /// the channel has assigned.
    ///
    /// # Panics
    /// When nobody has: a mistake of the program. It crashes the join.
    pub fn state<T: Send + Sync + 'static>(&self) -> Arc<T> {
        let state = self.assigns.get_shared();
        state.unwrap_or_else(|| panic!("no state of type {}", type_name::<T>()))
    }

    /// The topics of this server, to broadcast to others than this channel's.
    pub fn pubsub(&self) -> &PubSub {
        &self.pubsub
    }

    /// Sends an event to this client only.
    ///
    /// # Errors
    /// Before the join is complete, and when the payload is not an object (or binary, to a V2
    /// client).
    pub fn push(&self, event: &str, payload: impl IntoPayload) -> Result<(), SendError> {
        let payload = self.with_meta(event, payload.into_payload());
        if let Some(list) = &mut *self.listed.borrow_mut() {
            list.push(listable(payload)?);
            return Ok(());
        }
        self.assert_joined()?;
        Ok(self.link.push(event, &payload)?)
    }

    /// A broadcast that is passed on says which message it is, as one that was not intercepted does.
    fn with_meta(&self, event: &str, payload: Payload) -> Payload {
        match (&self.passing, payload) {
            (Some(broadcast), Payload::Json(json)) if self.meta && broadcast.event() == event => {
                Payload::Json(broadcast.with_meta(&json))
            }
            (_, payload) => payload,
        }
    }

    /// Sends an event to everybody in the topic, this client included.
    ///
    /// # Errors
    /// Before the join is complete, and when the message was refused: it is then neither stored
    /// nor sent to anybody.
    pub fn broadcast(&self, event: &str, payload: impl IntoPayload) -> Result<(), SendError> {
        self.publish(&Draft::new(event, payload)).map(drop)
    }

    /// As [`Context::broadcast`], for a message with a client_ref, a change of a stored message, or
    /// where somebody wants to know when it is committed.
    ///
    /// # Errors
    /// As [`Context::broadcast`].
    pub fn publish(&self, draft: &Draft) -> Result<Published, SendError> {
        self.assert_joined()?;
        Ok(self.link.publish(&self.pubsub, draft, None)?)
    }

    /// Answers the message that `handle_in` is handling once what it published is committed: ok
    /// `{"id": ..}`, or error with the reason why it is not. The channel goes on meanwhile. `published` is of a
    /// draft [with a receipt](Draft::with_receipt); where nothing is stored the id is `null`, at once.
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
    pub fn broadcast_from(&self, event: &str, payload: impl IntoPayload) -> Result<(), SendError> {
        self.assert_joined()?;
        let draft = Draft::new(event, payload);
        self.link
            .publish(&self.pubsub, &draft, Some(self.link.id))?;
        Ok(())
    }

    /// Captures the message that is being handled, to reply to it later, from anywhere.
    ///
    /// `None` outside `handle_in`, and for a message without a ref: nobody waits for a reply.
    pub fn socket_ref(&self) -> Option<SocketRef> {
        if self.reference.is_null() || !self.link.is_joined() {
            return None;
        }
        Some(SocketRef {
            signals: Recipient::clone(&self.signals),
            serializer: self.link.serializer,
            join_ref: self.link.join_ref.clone(),
            reference: self.reference.detach(),
            topic: self.link.name(),
        })
    }

    /// Listens to another topic: its broadcasts reach [`Channel::handle_broadcast`]. Subscribing
    /// twice delivers twice. Ends with the channel. Phoenix: `Endpoint.subscribe/1` in a channel.
    pub fn subscribe(&mut self, topic: &str) {
        let tap: Rc<dyn Tap> = Rc::new(Elsewhere(Rc::clone(&self.link)));
        let subscription = self.pubsub.subscribe_tap(topic, self.link.id, &tap);
        self.subscriptions.push((topic.to_owned(), subscription));
    }

    /// Stops listening to another topic, however often it was subscribed to.
    pub fn unsubscribe(&mut self, topic: &str) {
        self.subscriptions.retain(|(name, _)| name != topic);
    }

    /// Asks for [`Channel::handle_timeout`] if nothing comes for this long after the callback that
    /// is running. Whatever comes calls it off. Phoenix: `{:noreply, socket, timeout}`.
    pub fn timeout_after(&mut self, silence: Duration) {
        self.timeout = Some(silence);
    }

    /// Replies to a message that was captured before, in order with what this channel pushes and
    /// broadcasts. [`SocketRef::reply`] from inside a channel may be overtaken by them.
    ///
    /// # Errors
    /// When the response has no form on the client's wire.
    pub fn reply(&self, to: &SocketRef, reply: &Reply) -> Result<(), SendError> {
        Ok(self.link.reply(&to.join_ref, &to.reference, reply)?)
    }

    /// A handle through which any thread sends this channel infos. Phoenix: the channel's pid.
    pub fn handle(&self) -> Handle<C::Info> {
        Handle {
            infos: self.server.clone().recipient(),
        }
    }

    /// Sends this channel an info after a delay, unless the timer is cancelled before. It ends with
    /// the channel. Phoenix: `Process.send_after(self(), ..)`.
    pub fn send_after(&self, delay: Duration, info: C::Info) -> Timer {
        let handle = self.handle();
        // A channel that is ending wants no more infos.
        let send = move || {
            let _ = handle.send(info);
        };
        self.timers.once(delay, send)
    }

    /// Sends this channel an info after every period, until the timer is cancelled. It ends with the channel.
    /// Phoenix: `:timer.send_interval`.
    ///
    /// # Panics
    /// When the period is zero.
    pub fn send_every(&self, period: Duration, info: impl Fn() -> C::Info + 'static) -> Timer {
        let handle = self.handle();
        self.timers.every(period, move || {
            let _ = handle.send(info());
        })
    }

    /// Whose connection it is.
    pub(crate) fn client(&self) -> &Client {
        self.link.outbox.client()
    }

    pub(crate) fn id(&self) -> SubscriberId {
        self.link.id
    }

    /// Keeps a guard until the channel has ended, whatever way it ends; one of each owner.
    pub(crate) fn end_with(&mut self, owner: u64, guard: impl FnOnce() -> Box<dyn Any>) {
        if !self.guards.iter().any(|(known, _)| *known == owner) {
            self.guards.push((owner, guard()));
        }
    }

    fn assert_joined(&self) -> Result<(), SendError> {
        if self.link.is_joined() {
            Ok(())
        } else {
            Err(SendError::NotJoined)
        }
    }
}

/// What may stand in a list of messages.
fn listable(payload: Payload) -> Result<RawJson, EncodeError> {
    match payload {
        Payload::Json(json) if json.is_object() => Ok(json),
        Payload::Json(_) => Err(EncodeError::NotAnObject),
        Payload::Binary(_) => Err(EncodeError::NoBinary),
    }
}

/// Hands broadcasts of other topics to the channel.
struct Elsewhere(Rc<Link>);

impl Tap for Elsewhere {
    fn receive(&self, broadcast: &Arc<Broadcast>) {
        self.0.deliver_broadcast(broadcast, ToChannel::Elsewhere);
    }
}

/// Replies to one client message, at any time, from any thread, any number of times; also after
/// its channel has ended. Phoenix: `Phoenix.Channel.socket_ref/1` and `reply/2`.
#[derive(Clone)]
pub struct SocketRef {
    signals: Recipient<ChannelSignal>,
    serializer: Serializer,
    join_ref: Ref,
    reference: Ref,
    topic: Name,
}

named_debug!(SocketRef, topic);

impl SocketRef {
    /// Sends one reply. If the connection is gone, so is the reply.
    ///
    /// # Errors
    /// When the response has no form on the client's wire.
    pub fn reply(&self, reply: &Reply) -> Result<(), EncodeError> {
        let frame = self
            .serializer
            .reply(&self.join_ref, &self.reference, &self.topic, reply)?;
        self.signals.do_send(ChannelSignal::Deliver(frame));
        Ok(())
    }
}

/// Sends infos to one channel. Cheap to clone, usable from any thread.
pub struct Handle<I: Send + 'static> {
    infos: WeakRecipient<Info<I>>,
}

impl<I: Send + 'static> fmt::Debug for Handle<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

impl<I: Send + 'static> Clone for Handle<I> {
    fn clone(&self) -> Self {
        Self {
            infos: self.infos.clone(),
        }
    }
}

/// The channel has ended; it takes no more infos.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the channel has ended")]
pub struct ChannelEnded;

impl<I: Send + 'static> Handle<I> {
    /// Delivers an info to the channel's `handle_info`. The application bounds what it sends:
    /// this queue is not one that a client can fill.
    ///
    /// # Errors
    /// When the channel has ended.
    pub fn send(&self, info: I) -> Result<(), ChannelEnded> {
        let channel = self.infos.upgrade().filter(Recipient::connected);
        channel.ok_or(ChannelEnded)?.do_send(Info(Box::new(info)));
        Ok(())
    }
}
