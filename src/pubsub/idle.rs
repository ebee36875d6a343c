//! Logged topics without members stay in memory for a while, so that a client that returns need not wait
//! for the log. Clients can invent topics, so the number of such topics is bounded.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::PubSub;
use super::node::Joint;
use super::topic::Topic;
use super::worker::Table;
use crate::lock::lock;
use crate::log::{Flushed, MessageStore};

/// How long a topic stays loaded after its last member has left.
const IDLE_TOPIC: Duration = Duration::from_secs(300);
/// The most topics without members.
const MAX_IDLE_TOPICS: usize = 10_000;
/// The most bytes in the tails of topics without members.
const MAX_IDLE_BYTES: usize = 64_000_000;

/// A logged topic that may have no members.
pub(super) struct Idle {
    pub(super) since: Instant,
    pub(super) topic: Arc<Topic>,
    /// The bytes of its tail at `since`.
    pub(super) bytes: usize,
}

/// Topics that may have no members, oldest first. A topic may be listed more than once.
#[derive(Default)]
pub(super) struct IdleTopics {
    queue: VecDeque<Idle>,
    bytes: usize,
}

impl IdleTopics {
    fn push(&mut self, idle: Idle) {
        self.bytes += idle.bytes;
        self.queue.push_back(idle);
    }

    /// Takes the oldest topic if there are too many, if they have too many bytes, or if its time is over.
    fn pop_surplus(&mut self, now: Instant) -> Option<Idle> {
        let oldest = self.queue.front()?;
        let surplus = self.queue.len() > MAX_IDLE_TOPICS
            || self.bytes > MAX_IDLE_BYTES
            || now.duration_since(oldest.since) > IDLE_TOPIC;
        if !surplus {
            return None;
        }
        let oldest = self.queue.pop_front()?;
        self.bytes -= oldest.bytes;
        Some(oldest)
    }
}

impl PubSub {
    /// Call when a worker's last member has left. Evicts the topic if it has no other members: at once if
    /// it keeps no log, else later.
    pub(super) fn release(&self, topic: &Arc<Topic>, table: &Table, was_channel: bool) {
        let mut state = topic.lock();
        state.members.remove(table.inbox());
        state.channels -= u32::from(was_channel);
        if !state.members.is_empty() {
            return;
        }
        if topic.has_log() {
            drop(state);
            self.note_idle(topic);
        } else {
            state.evicted = true;
            drop(state);
            self.forget(topic);
        }
    }

    /// Takes a topic out of the registry.
    fn forget(&self, topic: &Topic) {
        let mut topics = lock(&self.shared.topics);
        // First, and under the lock: who opens the topic anew attaches it after this.
        if let Some(joint) = topic.joint() {
            joint.detach(topic.name());
        }
        if topics.remove(topic.name()).is_some() {
            topic.metrics().topics.decrement(1.0);
        }
    }

    /// Lists a logged topic that may have no members. Evicts listed topics that are too old, too many or
    /// too large.
    pub(super) fn note_idle(&self, topic: &Arc<Topic>) {
        let now = Instant::now();
        let mut idle = lock(&self.shared.idle);
        idle.push(Idle {
            since: now,
            bytes: topic.lock().log_bytes(),
            topic: Arc::clone(topic),
        });
        // At most one pass over the list: a topic that cannot be evicted goes to its end.
        for _ in 0..idle.queue.len() {
            let Some(oldest) = idle.pop_surplus(now) else {
                return;
            };
            if let Some(waits) = self.evict(oldest, now) {
                idle.push(waits);
            }
        }
    }

    /// Evicts a topic that has no members. Returns it, to be listed again, if it has pending messages or a
    /// running erasure.
    pub(super) fn evict(&self, idle: Idle, now: Instant) -> Option<Idle> {
        let mut state = idle.topic.lock();
        if state.evicted || !state.members.is_empty() {
            return None;
        }
        let is_publishing = |joint: &Joint| joint.node().is_publishing_to(&idle.topic);
        if state.erasures > 0
            || state.newest_unsettled().is_some()
            || idle.topic.joint().is_some_and(is_publishing)
        {
            drop(state);
            return Some(Idle { since: now, ..idle });
        }
        // Before the topic leaves the registry, so that its log cannot be opened again too early.
        state.close_log();
        drop(state);
        self.forget(&idle.topic);
        None
    }

    /// For a shutdown, after publishing has stopped: waits until the stores have committed everything, and
    /// ends the runs of all logs, so that clients can resume after a restart. If messages are still pending
    /// after `limit`, the runs stay open, and the next start treats them as ended uncleanly. Each of the
    /// two steps may take `limit`.
    pub async fn save(&self, limit: Duration) -> Flushed {
        let flushed = self.flush(limit).await;
        if flushed.waiting > 0 {
            return flushed;
        }
        self.close_logs();
        self.flush(limit).await
    }

    async fn flush(&self, limit: Duration) -> Flushed {
        let mut stores: Vec<&Arc<dyn MessageStore>> = Vec::new();
        for rule in &self.shared.rules {
            if !stores.iter().any(|known| Arc::ptr_eq(known, rule.store())) {
                stores.push(rule.store());
            }
        }
        let all = join_all(stores.into_iter().map(|store| store.flush(limit))).await;
        all.into_iter()
            .fold(Flushed::default(), |sum, one| Flushed {
                waiting: sum.waiting.max(one.waiting),
                at_risk: sum.at_risk.max(one.at_risk),
            })
    }

    /// Ends the runs of all logs in order, so that clients can resume from them after a restart. Later
    /// messages begin new runs.
    pub(crate) fn close_logs(&self) {
        for topic in self.topics() {
            let mut state = topic.lock();
            if topic.has_log() && !state.evicted {
                state.close_log();
                drop(state);
                self.forget(&topic);
            }
        }
    }
}
