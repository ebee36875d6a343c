//! One worker thread's table: topic -> the sockets of this thread that have joined it.
//!
//! What crosses threads is one message a worker, never one a socket: [`Inbox`]. The table is keyed
//! by PubSub instance, because several servers can live in one process.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use slab::Slab;

use super::topic::Topic;
use super::{Broadcast, PubSub, Subscriber, lock};
use crate::metrics::metrics;

/// Bytes that may wait in one worker's inbox before those who fill it are no longer read.
const INBOX_BYTES: usize = 64_000_000;

/// How often a worker looks for client_refs that are too old.
const REFS_TICK: Duration = Duration::from_secs(10);

thread_local! {
    /// The tables of this thread. Never removed: a thread serves few PubSub instances in its life.
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
    /// Readers of connections that published into a full inbox.
    waiting: Vec<Waker>,
}

impl Inbox {
    /// Queues a broadcast and wakes the worker, unless the caller *is* the worker and drains at
    /// once. Whether the inbox is over its bound.
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

    /// Whether those who fill it are no longer to be read.
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

    /// How many broadcasts wait.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        lock(&self.state).queue.len()
    }

    /// Takes everything that waits.
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

    /// Keeps the drain task's waker; `false` when something came in meanwhile.
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
    /// This thread's table, if anything on this thread has ever subscribed.
    pub(super) fn existing(pubsub: u64) -> Option<Rc<Self>> {
        TABLES.with_borrow(|tables| tables.get(&pubsub).cloned())
    }

    /// This thread's table, made with its drain task if need be. Needs an actix runtime.
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

    /// Delivers everything that waits in the inbox, in order.
    pub(super) fn drain(&self) {
        for broadcast in self.inbox.take() {
            let topics = self.topics.borrow();
            if let Some(members) = topics.get(broadcast.shared_topic().name()) {
                for (_, subscriber) in members {
                    subscriber.deliver(&broadcast);
                }
            }
        }
    }

    /// Adds a member. Joining and leaving cost the same whatever the number of members.
    pub(super) fn insert(&self, topic: &Arc<Topic>, subscriber: Subscriber) -> usize {
        let mut topics = self.topics.borrow_mut();
        topics
            .entry(Arc::clone(topic.shared_name()))
            .or_default()
            .insert(subscriber)
    }

    fn remove(&self, topic: &Topic, key: usize) {
        let mut topics = self.topics.borrow_mut();
        if let Some(members) = topics.get_mut(topic.name()) {
            let gone = members.try_remove(key);
            if members.is_empty() {
                topics.remove(topic.name());
            }
            // What the member holds is dropped when nothing here is borrowed.
            drop(topics);
            drop(gone);
        }
    }
}

/// Membership of one topic, held by the member; dropping it leaves the topic at once.
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
        self.table.remove(&self.topic, self.key);
        self.pubsub.release(&self.topic, &self.table);
    }
}
