//! [`Link`]: what a channel and its socket share. One thread, no actor in between.
//!
//! The SocketServer holds it in the topic's entry, the ChannelServer and its context hold it to
//! send. It is what makes the steps synchronous that must not wait for a mailbox: an entry whose
//! channel has ended is seen as gone at once, and a channel that was replaced is silent at once.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytestring::ByteString;

use super::StopReason;
use crate::budget::{Slack, Total};
use crate::flow::{Flow, Ticket};
use crate::frame::Frame;
use crate::message::{Name, PHX_CLOSE, PHX_ERROR, Payload, RawJson, Ref, Reply};
use crate::metrics::metrics;
use crate::outbox::Outbox;
use crate::pubsub::{
    Broadcast, Draft, PubSub, PublishError, Published, SubscriberId, Subscription, Topic,
};
use crate::serializer::{EncodeError, Serializer};
use crate::waker::WakerSlot;

/// How many broadcasts, intercepted or from elsewhere, may wait for one channel before it ends with
/// `phx_error`.
const BACKLOG: usize = 1_024;
/// How many bytes of them may wait; one broadcast may be larger.
const BACKLOG_BYTES: usize = 8_000_000;
/// What may wait for all channels together, counting each broadcast once for each channel.
const TOTAL_BYTES: isize = 256_000_000;
/// What may still wait for one while more waits for all.
const CROWDED_BYTES: usize = 64_000;

static TOTAL: Total = Total::new(TOTAL_BYTES, |metrics| &metrics.intercepted_bytes);

thread_local! {
    static SLACK: Slack = const { Slack::new() };
}

/// From the socket and the fan-out to the channel. All of them live on one thread.
pub(crate) enum ToChannel {
    /// A message of the client.
    Event {
        event: Name,
        payload: Payload,
        reference: Ref,
        ticket: Ticket,
    },
    /// The client leaves.
    Leave { reference: Ref, ticket: Ticket },
    /// An intercepted broadcast.
    Out(Arc<Broadcast>),
    /// A broadcast on another topic that the channel has subscribed to.
    Elsewhere(Arc<Broadcast>),
    /// More broadcasts wait for the channel than may.
    BacklogOverflow,
    /// The connection has ended.
    Closed(StopReason),
    /// A duplicate join has taken the topic over: end without a word.
    Kill,
}

/// The connection's side of one channel.
pub(crate) struct Link {
    pub(super) id: SubscriberId,
    pub(super) topic: ByteString,
    /// What pushes and replies of this channel carry: the join's join_ref, or its ref if that was
    /// null.
    pub(super) join_ref: Ref,
    /// The join's join_ref was null.
    joined_without_ref: bool,
    pub(super) serializer: Serializer,
    pub(super) outbox: Rc<Outbox>,
    pub(super) flow: Rc<Flow>,
    /// Whether messages of the client find this channel.
    routed: Cell<bool>,
    /// Replaced by a duplicate join: whatever it still says is not sent.
    muted: Cell<bool>,
    subscription: RefCell<Option<Subscription>>,
    /// The topic, from the join on; `terminate` may still broadcast to it.
    joined: OnceCell<Arc<Topic>>,
    /// What waits for the channel's actor; bounded by the connection's flow and the backlog.
    inbox: RefCell<VecDeque<ToChannel>>,
    /// The channel's actor, waiting for the inbox.
    actor: WakerSlot,
    /// Broadcasts that wait for `handle_out` or `handle_broadcast`.
    backlog: Cell<usize>,
    backlog_bytes: Cell<usize>,
    /// More wait than may: the channel ends.
    overflowed: Cell<bool>,
}

impl Link {
    pub(super) fn new(
        topic: ByteString,
        entry_ref: &Ref,
        reference: &Ref,
        serializer: Serializer,
        outbox: Rc<Outbox>,
        flow: Rc<Flow>,
    ) -> Rc<Self> {
        let joined_without_ref = entry_ref.is_null();
        let join_ref = if joined_without_ref {
            reference.detach()
        } else {
            entry_ref.detach()
        };
        Rc::new(Self {
            id: SubscriberId::next(),
            topic,
            join_ref,
            joined_without_ref,
            serializer,
            outbox,
            flow,
            routed: Cell::new(true),
            muted: Cell::new(false),
            subscription: RefCell::default(),
            joined: OnceCell::new(),
            inbox: RefCell::default(),
            actor: WakerSlot::default(),
            backlog: Cell::new(0),
            backlog_bytes: Cell::new(0),
            overflowed: Cell::new(false),
        })
    }

    /// Hands the channel a message; it is looked at in this thread's next turn.
    pub(crate) fn deliver(&self, message: ToChannel) {
        self.inbox.borrow_mut().push_back(message);
        self.actor.wake();
    }

    /// Hands the channel a broadcast, up to the backlog's bound.
    pub(super) fn deliver_broadcast(
        &self,
        broadcast: &Arc<Broadcast>,
        message: impl FnOnce(Arc<Broadcast>) -> ToChannel,
    ) {
        if self.overflowed.get() {
            return;
        }
        let waiting = self.backlog.get();
        let bytes = self.backlog_bytes.get() + broadcast.cost();
        let is_over = bytes > BACKLOG_BYTES || (bytes > CROWDED_BYTES && TOTAL.is_over());
        if waiting >= BACKLOG || (waiting > 0 && is_over) {
            self.overflowed.set(true);
            metrics().intercepts_overflowed.increment(1);
            return self.deliver(ToChannel::BacklogOverflow);
        }
        self.backlog.set(waiting + 1);
        self.set_backlog_bytes(bytes);
        self.deliver(message(Arc::clone(broadcast)));
    }

    /// The channel's side: this broadcast waits no more.
    pub(super) fn broadcast_taken(&self, broadcast: &Broadcast) {
        self.backlog.set(self.backlog.get() - 1);
        self.set_backlog_bytes(self.backlog_bytes.get() - broadcast.cost());
    }

    fn set_backlog_bytes(&self, bytes: usize) {
        let before = self.backlog_bytes.replace(bytes);
        SLACK.with(|slack| slack.count(&TOTAL, before, bytes));
    }

    /// The channel's side: the next message, if there is one.
    pub(super) fn take(&self) -> Option<ToChannel> {
        self.inbox.borrow_mut().pop_front()
    }

    /// The channel's side: the next message.
    pub(super) fn poll_take(&self, cx: &mut Context<'_>) -> Poll<ToChannel> {
        match self.take() {
            Some(message) => Poll::Ready(message),
            None => {
                self.actor.remember(cx);
                Poll::Pending
            }
        }
    }

    /// The topic that the channel was joined to.
    pub(crate) fn topic(&self) -> &str {
        &self.topic
    }

    /// Names this channel among those that have joined the same topic over time.
    pub(crate) fn id(&self) -> SubscriberId {
        self.id
    }

    /// Whether the entry still stands: the channel has not ended.
    pub(crate) fn is_routed(&self) -> bool {
        self.routed.get()
    }

    /// Whether a message with this join_ref is meant for this channel. Phoenix 1.8.3 to 1.8.9
    /// refuses null on a channel joined with a ref, and 1.8.12 refuses a ref on one joined with null;
    /// both are accepted here.
    pub(crate) fn accepts(&self, join_ref: &Ref) -> bool {
        join_ref.is_null() || self.joined_without_ref || *join_ref == self.join_ref
    }

    /// Whether the channel has ever joined its topic.
    pub(super) fn is_joined(&self) -> bool {
        self.joined.get().is_some()
    }

    /// The join is accepted: the channel may send.
    pub(super) fn joined(&self, topic: &Arc<Topic>) {
        // A channel joins once.
        let _ = self.joined.set(Arc::clone(topic));
    }

    /// The channel is a member of its topic, unless it has ended meanwhile.
    pub(super) fn attach(&self, subscription: Subscription) {
        if self.is_routed() {
            *self.subscription.borrow_mut() = Some(subscription);
        }
    }

    /// The connection has ended: the channel terminates with this reason, once it has handled what
    /// came before the end.
    pub(crate) fn close(&self, reason: StopReason) {
        self.routed.set(false);
        self.deliver(ToChannel::Closed(reason));
    }

    /// The entry is gone and no broadcast reaches the client any more.
    pub(super) fn detach(&self) {
        self.routed.set(false);
        let subscription = self.subscription.borrow_mut().take();
        drop(subscription);
    }

    /// A duplicate join takes the topic over: the channel is silent from now on and its actor
    /// ends. Returns the `phx_close` that the client must get after the reply to the new join.
    pub(crate) fn replace(&self) -> Frame {
        self.detach();
        self.muted.set(true);
        // What the client had in flight for the old channel is lost, as in Phoenix.
        let lost = self.inbox.take();
        drop(lost);
        self.deliver(ToChannel::Kill);
        self.ending(PHX_CLOSE, &RawJson::EMPTY_OBJECT)
    }

    /// The channel has ended in order, or has crashed: tells the client.
    pub(crate) fn end(&self, crashed: bool) {
        let was_routed = self.routed.get();
        self.detach();
        if was_routed {
            self.send(if crashed {
                self.ending(PHX_ERROR, &RawJson::CHANNEL_CRASH)
            } else {
                self.ending(PHX_CLOSE, &RawJson::EMPTY_OBJECT)
            });
        }
    }

    fn ending(&self, event: &str, payload: &RawJson) -> Frame {
        // It carries what the client has sent with its join.
        let null = Ref::NULL;
        let entry_ref = if self.joined_without_ref {
            &null
        } else {
            &self.join_ref
        };
        self.serializer
            .ending(entry_ref, &self.name(), event, payload)
    }

    /// Whether the client gets what the channel sends. If not, nothing is encoded for it.
    pub(super) fn is_heard(&self) -> bool {
        !self.muted.get() && self.outbox.closed().is_none()
    }

    pub(super) fn reply(
        &self,
        join_ref: &Ref,
        reference: &Ref,
        reply: &Reply,
    ) -> Result<(), EncodeError> {
        if !self.is_heard() {
            return Ok(());
        }
        let frame = self
            .serializer
            .reply(join_ref, reference, &self.name(), reply)?;
        self.send(frame);
        Ok(())
    }

    pub(super) fn push(&self, event: &str, payload: &Payload) -> Result<(), EncodeError> {
        if !self.is_heard() {
            return Ok(());
        }
        let frame = self
            .serializer
            .push(&self.join_ref, &self.name(), event, payload)?;
        self.send(frame);
        Ok(())
    }

    /// Publishes to the channel's topic, on which it was joined.
    pub(super) fn publish(
        &self,
        pubsub: &PubSub,
        draft: &Draft,
        from: Option<SubscriberId>,
    ) -> Result<Published, PublishError> {
        let topic = self.joined.get().ok_or(PublishError::NotLoaded)?;
        let (published, congested) = pubsub.publish_to(topic, draft, from)?;
        if let Some(inbox) = congested {
            self.flow.wait_for(inbox);
        }
        Ok(published)
    }

    pub(super) fn name(&self) -> Name {
        Name::Text(self.topic.clone())
    }

    fn send(&self, frame: Frame) {
        if !self.muted.get() {
            self.outbox.push(frame);
        }
    }
}

/// A channel that has ended leaves what waited for it.
impl Drop for Link {
    fn drop(&mut self) {
        self.set_backlog_bytes(0);
    }
}
