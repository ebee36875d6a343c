//! Logged topics without members: kept for a while, because their log is loaded, and then given up.
//! Clients can invent topics, so there is a bound.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::topic::Topic;
use super::worker::Table;
use super::{Flushed, MessageStore, PubSub, lock};

/// How long a topic's log stays loaded after its last member has left.
const IDLE_TOPIC: Duration = Duration::from_secs(300);
/// How many topics without members stay loaded.
const MAX_IDLE_TOPICS: usize = 10_000;
/// What the tails of topics without members may hold together.
const MAX_IDLE_BYTES: usize = 64_000_000;

/// A logged topic that may be without members.
pub(super) struct Idle {
    pub(super) since: Instant,
    pub(super) topic: Arc<Topic>,
    /// What its tail held then.
    pub(super) bytes: usize,
}

/// The topics that may be without members, oldest first; one may stand here more than once.
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

    /// The oldest, if it is time for it to go.
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
    /// The last member of a worker has left: gives the topic up, now or later.
    pub(super) fn release(&self, topic: &Arc<Topic>, table: &Table) {
        let mut state = topic.lock();
        state.members.remove(table.inbox());
        if !state.members.is_empty() {
            return;
        }
        if topic.has_log() {
            drop(state);
            self.note_idle(topic);
        } else {
            state.evicted = true;
            drop(state);
            lock(&self.shared.topics).remove(topic.name());
        }
    }

    /// Remembers that a logged topic may be without members, and gives up those that were for too
    /// long, are too many, or hold too much.
    pub(super) fn note_idle(&self, topic: &Arc<Topic>) {
        let now = Instant::now();
        let mut idle = lock(&self.shared.idle);
        idle.push(Idle {
            since: now,
            bytes: topic.lock().log_bytes(),
            topic: Arc::clone(topic),
        });
        // One round at most: a topic that cannot be given up goes to the end.
        for _ in 0..idle.queue.len() {
            let Some(oldest) = idle.pop_surplus(now) else {
                return;
            };
            if let Some(waits) = self.evict(oldest, now) {
                idle.push(waits);
            }
        }
    }

    /// Forgets a topic without members whose rows are all settled. One with rows on their way is
    /// returned, to wait for another round.
    pub(super) fn evict(&self, idle: Idle, now: Instant) -> Option<Idle> {
        let mut state = idle.topic.lock();
        if state.evicted || !state.members.is_empty() {
            return None;
        }
        if state.erasures > 0 || state.newest_unsettled().is_some() {
            drop(state);
            return Some(Idle { since: now, ..idle });
        }
        // Before anybody can open the log again.
        state.close_log();
        drop(state);
        lock(&self.shared.topics).remove(idle.topic.name());
        None
    }

    /// For the end of a server, when nobody publishes any more: waits until the stores have everything, and
    /// ends the runs of all logs in order, so that clients resume after a restart. Where messages still wait
    /// after `limit`, the runs stay open, and the next start will know. Each of the two steps has the limit.
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
            if !stores.iter().any(|known| Arc::ptr_eq(known, &rule.store)) {
                stores.push(&rule.store);
            }
        }
        let all = join_all(stores.into_iter().map(|store| store.flush(limit))).await;
        all.into_iter()
            .fold(Flushed::default(), |sum, one| Flushed {
                waiting: sum.waiting.max(one.waiting),
                at_risk: sum.at_risk.max(one.at_risk),
            })
    }

    /// Ends the runs of all logs in order, so that a restart goes on with their epochs. What is published
    /// afterwards begins new runs.
    pub(crate) fn close_logs(&self) {
        for topic in self.topics() {
            let mut state = topic.lock();
            if topic.has_log() && !state.evicted {
                state.close_log();
                drop(state);
                lock(&self.shared.topics).remove(topic.name());
            }
        }
    }
}
