//! One worker thread's table: from a topic to its members on this thread.
//!
//! A broadcast crosses threads once for each worker, in its [`Inbox`], and not once for each socket. Tables
//! are keyed by PubSub instance, because several servers can live in one process.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use slab::Slab;

use super::topic::Topic;
use super::{Broadcast, PubSub, Subscriber};
use crate::lock::lock;
use crate::metrics::{Hot, count, fanned_out, keep_adding, metrics};
use crate::outbox::Pushed;

/// Above this size the server stops reading from publishers until the inbox is half empty.
const INBOX_BYTES: usize = 64_000_000;

/// How often a worker expires remembered client_refs.
const REFS_TICK: Duration = Duration::from_secs(10);

thread_local! {
    /// The tables of this thread. They are never removed, because a thread serves few PubSub instances.
    static TABLES: RefCell<HashMap<u64, Rc<Table>, RandomState>> = RefCell::default();
}

/// Broadcasts on their way to one worker thread. Every publisher writes, only the worker reads.
#[derive(Default)]
pub(crate) struct Inbox {
    state: Mutex<InboxState>,
}

#[derive(Default)]
struct InboxState {
    queue: VecDeque<Arc<Broadcast>>,
    bytes: usize,
    /// The worker's drain task.
    worker: Option<Waker>,
    /// Publishers that wait for a full inbox to drain.
    waiting: Vec<Waker>,
}

impl Inbox {
    /// Queues a broadcast and wakes the worker. `local`: the caller is the worker itself and drains at
    /// once, so no wake is needed. Returns whether the inbox is over its bound.
    pub(super) fn push(&self, broadcast: &Arc<Broadcast>, local: bool) -> bool {
        let mut state = lock(&self.state);
        state.bytes += broadcast.cost();
        state.queue.push_back(Arc::clone(broadcast));
        let worker = if local { None } else { state.worker.take() };
        let congested = state.bytes > INBOX_BYTES;
        drop(state);
        if let Some(worker) = worker {
            worker.wake();
        }
        if congested {
            metrics().inbox_congested.increment(1);
        }
        congested
    }

    /// Whether publishers must wait.
    pub(super) fn is_full(&self) -> bool {
        lock(&self.state).bytes > INBOX_BYTES
    }

    /// Ready when the inbox is at most half full.
    pub(crate) fn poll_drained(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = lock(&self.state);
        if state.bytes <= INBOX_BYTES / 2 {
            return Poll::Ready(());
        }
        if !state
            .waiting
            .iter()
            .any(|waker| waker.will_wake(cx.waker()))
        {
            state.waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// The number of pending broadcasts.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        lock(&self.state).queue.len()
    }

    /// Takes all pending broadcasts.
    fn take(&self) -> VecDeque<Arc<Broadcast>> {
        let mut state = lock(&self.state);
        if state.queue.is_empty() {
            return VecDeque::new();
        }
        state.bytes = 0;
        let waiting = std::mem::take(&mut state.waiting);
        let queue = std::mem::take(&mut state.queue);
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
        queue
    }

    /// Stores the drain task's waker. `false` if a broadcast has arrived in the meantime.
    fn park(&self, cx: &Context<'_>) -> bool {
        let mut state = lock(&self.state);
        state.worker = Some(cx.waker().clone());
        state.queue.is_empty()
    }
}

/// The table of one PubSub instance on one thread.
pub(super) struct Table {
    inbox: Arc<Inbox>,
    topics: RefCell<HashMap<Arc<str>, Slab<Subscriber>, RandomState>>,
}

impl Table {
    /// This thread's table, if one exists.
    pub(super) fn existing(pubsub: u64) -> Option<Rc<Self>> {
        TABLES.with_borrow(|tables| tables.get(&pubsub).cloned())
    }

    /// This thread's table. If it is missing, creates it with its drain task. Needs an actix runtime.
    pub(super) fn current(pubsub: &PubSub) -> Rc<Self> {
        let (id, refs) = (pubsub.id(), Arc::downgrade(&pubsub.shared.refs));
        if let Some(table) = Self::existing(id) {
            return table;
        }
        let table = Rc::new(Self {
            inbox: Arc::default(),
            topics: RefCell::default(),
        });
        TABLES.with_borrow_mut(|tables| tables.insert(id, Rc::clone(&table)));
        keep_adding();
        actix_rt::spawn(async move {
            loop {
                tokio::time::sleep(REFS_TICK).await;
                let Some(refs) = refs.upgrade() else { return };
                refs.expire(Instant::now());
            }
        });
        let drained = Rc::clone(&table);
        actix_rt::spawn(std::future::poll_fn(move |cx| -> Poll<()> {
            loop {
                drained.drain();
                if drained.inbox.park(cx) {
                    return Poll::Pending;
                }
            }
        }));
        table
    }

    pub(super) fn inbox(&self) -> &Arc<Inbox> {
        &self.inbox
    }

    /// Delivers all pending broadcasts, in order.
    pub(super) fn drain(&self) {
        for broadcast in self.inbox.take() {
            let topics = self.topics.borrow();
            if let Some(members) = topics.get(broadcast.shared_topic().name()) {
                deliver(&broadcast, members);
            }
        }
    }

    /// Adds a member. The cost does not depend on the number of members.
    pub(super) fn insert(&self, topic: &Arc<Topic>, subscriber: Subscriber) -> usize {
        let mut topics = self.topics.borrow_mut();
        topics
            .entry(Arc::clone(topic.shared_name()))
            .or_default()
            .insert(subscriber)
    }

    /// Removes a member. Returns whether it was a channel of a client.
    fn remove(&self, topic: &Topic, key: usize) -> bool {
        let mut topics = self.topics.borrow_mut();
        let Some(members) = topics.get_mut(topic.name()) else {
            return false;
        };
        let gone = members.try_remove(key);
        if members.is_empty() {
            topics.remove(topic.name());
        }
        // Dropping its fields may use the table, so nothing may be borrowed here.
        drop(topics);
        gone.is_some_and(|gone| gone.fastlane.is_some())
    }
}

/// Gives a broadcast to the members, and counts.
fn deliver(broadcast: &Arc<Broadcast>, members: &Slab<Subscriber>) {
    let mut queued = 0;
    for (_, subscriber) in members {
        match subscriber.deliver(broadcast) {
            Some(Pushed::Queued) => queued += 1,
            Some(lost) => count_lost(lost),
            None => {}
        }
    }
    count(Hot::Deliveries, queued);
    if let Some(made) = broadcast.made() {
        fanned_out(made);
    }
}

#[cold]
fn count_lost(lost: Pushed) {
    let reason = match lost {
        Pushed::Queued => return,
        Pushed::Closed => Hot::DroppedClosed,
        Pushed::Slow => Hot::DroppedSlow,
        Pushed::Unmade => Hot::DroppedWire,
    };
    count(reason, 1);
}

/// Membership of one topic, held by the member. Dropping it leaves the topic at once.
pub(crate) struct Subscription {
    pubsub: PubSub,
    table: Rc<Table>,
    topic: Arc<Topic>,
    key: usize,
}

impl Subscription {
    pub(super) fn new(pubsub: PubSub, table: Rc<Table>, topic: Arc<Topic>, key: usize) -> Self {
        Self {
            pubsub,
            table,
            topic,
            key,
        }
    }

    pub(crate) fn topic(&self) -> &Arc<Topic> {
        &self.topic
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let was_channel = self.table.remove(&self.topic, self.key);
        self.pubsub.release(&self.topic, &self.table, was_channel);
    }
}
