//! [`Link`]: the state that a channel and its socket share, on one thread.
//!
//! The SocketServer holds it in the topic's entry, the ChannelServer and its context hold it to send. Some steps must
//! not wait for a mailbox, and are synchronous by it: the entry of an ended channel is gone at once, and a replaced
//! channel is silent at once.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;

use bytestring::ByteString;

use super::StopReason;
use super::work::ChannelWork;
use crate::budget::{Slack, Total};
use crate::flow::Flow;
use crate::frame::Frame;
use crate::message::{Name, PHX_CLOSE, PHX_ERROR, Payload, RawJson, Ref, Reply};
use crate::metrics::metrics;
use crate::outbox::Outbox;
use crate::pubsub::{
    Broadcast, Draft, Labels, PubSub, PublishError, Published, Selector, SubscriberId,
    Subscription, Tap, Topic,
};
use crate::serializer::{EncodeError, Serializer};
use crate::waker::WakerSlot;

/// At most so many broadcasts, intercepted or of other topics, wait for one channel; then it ends with `phx_error`.
const BACKLOG: usize = 1_024;
/// The same in bytes; one broadcast may be larger.
const BACKLOG_BYTES: usize = 8_000_000;
/// What that one may have at most.
const MOST_BYTES: usize = u32::MAX as usize;
/// A larger inbox gives its memory back once it is empty.
const INBOX: usize = 8;
/// The bytes that wait for all channels together; a broadcast counts once for each channel.
const TOTAL_BYTES: isize = 256_000_000;
/// The bytes that may wait for one channel while all are over their total.
const CROWDED_BYTES: usize = 64_000;

static TOTAL: Total = Total::new(TOTAL_BYTES, |metrics| &metrics.intercepted_bytes);

thread_local! {
    static SLACK: Slack = const { Slack::new() };
}

/// The connection's side of one channel.
pub(crate) struct Link {
    pub(super) id: SubscriberId,
    /// The topic, in the form that frames take it.
    name: Name,
    /// The join_ref of pushes and replies: the join's own, or the join's ref if that was null.
    pub(super) join_ref: Ref,
    /// The join's join_ref was null.
    joined_without_ref: bool,
    pub(super) serializer: Serializer,
    pub(super) outbox: Rc<Outbox>,
    pub(super) flow: Rc<Flow>,
    /// Whether messages of the client reach this channel.
    routed: Cell<bool>,
    /// Replaced by a duplicate join: its frames are dropped.
    muted: Cell<bool>,
    /// Whether the client asked for the ids of stored messages.
    pub(super) meta: Cell<bool>,
    subscription: Cell<Option<Subscription>>,
    /// The topic, from the join on; `terminate` may still broadcast to it.
    joined: OnceCell<Arc<Topic>>,
    /// The work that waits for the channel's actor; bounded by the connection's flow and the backlog.
    inbox: RefCell<VecDeque<ChannelWork>>,
    /// The channel's actor, waiting for the inbox.
    actor: WakerSlot,
    /// Broadcasts that wait for `handle_out` or `handle_broadcast`.
    backlog: Cell<u16>,
    backlog_bytes: Cell<u32>,
    /// The backlog was over its bound: the channel ends.
    overflowed: Cell<bool>,
    /// The client's labels, by which messages select it.
    labels: Cell<Option<Box<Labels>>>,
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
            name: Name::Text(topic),
            join_ref,
            joined_without_ref,
            serializer,
            outbox,
            flow,
            routed: Cell::new(true),
            muted: Cell::new(false),
            meta: Cell::new(false),
            subscription: Cell::default(),
            joined: OnceCell::new(),
            inbox: RefCell::default(),
            actor: WakerSlot::default(),
            backlog: Cell::new(0),
            backlog_bytes: Cell::new(0),
            overflowed: Cell::new(false),
            labels: Cell::default(),
        })
    }

    /// Hands the channel work, which its actor takes in this thread's next turn.
    pub(crate) fn deliver(&self, work: ChannelWork) {
        let mut inbox = self.inbox.borrow_mut();
        if inbox.capacity() == 0 {
            // Mostly one piece of work waits, and each channel keeps the room for it.
            inbox.reserve_exact(1);
        }
        inbox.push_back(work);
        drop(inbox);
        self.actor.wake();
    }

    /// Hands the channel a broadcast, up to the backlog's bound.
    pub(super) fn deliver_broadcast(
        &self,
        broadcast: &Arc<Broadcast>,
        work: impl FnOnce(Arc<Broadcast>) -> ChannelWork,
    ) {
        if self.overflowed.get() {
            return;
        }
        let waiting = self.backlog.get();
        let bytes = self.backlog_bytes() + broadcast.cost();
        let is_over = bytes > BACKLOG_BYTES || (bytes > CROWDED_BYTES && TOTAL.is_over());
        let has_room = if waiting > 0 {
            usize::from(waiting) < BACKLOG && !is_over
        } else {
            bytes <= MOST_BYTES
        };
        if !has_room {
            self.overflowed.set(true);
            metrics().intercepts_overflowed.increment(1);
            return self.deliver(ChannelWork::Overflow);
        }
        self.backlog.set(waiting + 1);
        self.set_backlog_bytes(bytes);
        self.deliver(work(Arc::clone(broadcast)));
    }

    /// The channel's side: this broadcast no longer waits.
    pub(super) fn broadcast_taken(&self, broadcast: &Broadcast) {
        self.backlog.set(self.backlog.get() - 1);
        self.set_backlog_bytes(self.backlog_bytes() - broadcast.cost());
    }

    fn backlog_bytes(&self) -> usize {
        self.backlog_bytes.get() as usize
    }

    fn set_backlog_bytes(&self, bytes: usize) {
        let before = self.backlog_bytes();
        // `deliver_broadcast` sees that it is at most `MOST_BYTES`.
        self.backlog_bytes.set(bytes as u32);
        SLACK.with(|slack| slack.count(&TOTAL, before, bytes));
    }

    /// The channel's side: the next work, if there is any.
    pub(super) fn take(&self) -> Option<ChannelWork> {
        let mut inbox = self.inbox.borrow_mut();
        let work = inbox.pop_front();
        if inbox.is_empty() && inbox.capacity() > INBOX {
            *inbox = VecDeque::new();
        }
        work
    }

    /// The channel's side: wakes this task for the next work.
    pub(super) fn wait(&self, cx: &Context<'_>) {
        self.actor.remember(cx);
    }

    /// Replaces the client's labels.
    pub(super) fn label(&self, labels: Labels) {
        self.labels.set(Some(Box::new(labels)));
    }

    /// The topic that the channel was joined to.
    pub(crate) fn topic(&self) -> &str {
        // `new` has made it a text.
        self.name.as_str().unwrap_or_default()
    }

    /// Names this channel among those that have joined the same topic over time.
    pub(crate) fn id(&self) -> SubscriberId {
        self.id
    }

    /// Whether the entry still stands: the channel has not ended.
    pub(crate) fn is_routed(&self) -> bool {
        self.routed.get()
    }

    /// Whether a message with this join_ref is for this channel. Phoenix 1.8.3 to 1.8.9
    /// refuses null on a channel joined with a ref, and 1.8.12 refuses a ref on one joined with null;
    /// both are accepted here.
    pub(crate) fn accepts(&self, join_ref: &Ref) -> bool {
        join_ref.is_null() || self.joined_without_ref || *join_ref == self.join_ref
    }

    /// Whether the channel has ever joined its topic.
    pub(crate) fn is_joined(&self) -> bool {
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
            self.subscription.set(Some(subscription));
        }
    }

    /// The connection has ended: the channel terminates with this reason, after the work that came before.
    pub(crate) fn close(&self, reason: StopReason) {
        self.routed.set(false);
        self.deliver(ChannelWork::Closed(reason));
    }

    /// The entry is gone and no broadcast reaches the client any more.
    pub(super) fn detach(&self) {
        self.routed.set(false);
        drop(self.subscription.take());
    }

    /// A duplicate join takes the topic over: the channel is silent from now on and its actor
    /// ends. Returns the `phx_close` that the client must get after the reply to the new join.
    pub(crate) fn replace(&self) -> Frame {
        self.detach();
        self.muted.set(true);
        // Messages in flight for the old channel are lost, as in Phoenix.
        let lost = self.inbox.take();
        drop(lost);
        self.deliver(ChannelWork::Kill);
        self.ending(PHX_CLOSE, &RawJson::EMPTY_OBJECT)
    }

    /// The channel has ended in order, or has crashed: sends `phx_close` or `phx_error`.
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
        // Its join_ref is the one of the client's join.
        let null = Ref::NULL;
        let entry_ref = if self.joined_without_ref {
            &null
        } else {
            &self.join_ref
        };
        self.serializer
            .ending(entry_ref, &self.name, event, payload)
    }

    /// Whether frames of the channel reach the client. If not, none is encoded.
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
            .reply(join_ref, reference, &self.name, reply)?;
        self.send(frame);
        Ok(())
    }

    pub(super) fn push(&self, event: &str, payload: &Payload) -> Result<(), EncodeError> {
        if !self.is_heard() {
            return Ok(());
        }
        let frame = self
            .serializer
            .push(&self.join_ref, &self.name, event, payload)?;
        self.send(frame);
        Ok(())
    }

    /// Publishes to the channel's topic, on which it was joined.
    pub(super) async fn publish(
        &self,
        pubsub: &PubSub,
        draft: &Draft,
        from: Option<SubscriberId>,
    ) -> Result<Published, PublishError> {
        let topic = self.joined.get().ok_or(PublishError::NotLoaded)?;
        let (published, congested) = pubsub.publish_to(topic, draft, from).await?;
        if let Some(inbox) = congested {
            self.flow.wait_for(inbox);
        }
        Ok(published)
    }

    pub(super) fn name(&self) -> &Name {
        &self.name
    }

    fn send(&self, frame: Frame) {
        if !self.muted.get() {
            self.outbox.push(frame);
        }
    }
}

/// The membership in the channel's own topic.
impl Tap for Link {
    fn receive(&self, broadcast: &Arc<Broadcast>) {
        self.deliver_broadcast(broadcast, ChannelWork::Out);
    }

    fn is_selected(&self, selector: &Selector) -> bool {
        let labels = self.labels.take();
        let is_selected = labels
            .as_ref()
            .is_some_and(|labels| selector.selects(labels));
        self.labels.set(labels);
        is_selected
    }

    fn close(&self) {
        self.deliver(ChannelWork::Closed(StopReason::Shutdown));
    }

    #[cfg(feature = "_cluster")]
    fn fail(&self) {
        let missed = StopReason::error("this node has missed too many messages of the topic");
        self.deliver(ChannelWork::Closed(missed));
    }
}

/// The broadcasts that waited no longer count.
impl Drop for Link {
    fn drop(&mut self) {
        self.set_backlog_bytes(0);
    }
}
