//! [`Replication`]: connects presences with those of other nodes, over a bus that carries their messages.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::Value;

use super::builder::Changes;
use super::shared::{Diff, Entry, Process, SHARDS, Shared, State};
use super::tracker::{self, Rule, STEP, Sets, Tracker};
use super::{Presence, count};
use crate::cluster::NodeId;
use crate::lock::lock;
use crate::message::RawJson;
use crate::notice::Notice;

/// Sends messages to other nodes. It must not wait, and must not call [`Replication`] before it returns.
pub(crate) trait Peers: Send + Sync {
    /// Sends a message to all nodes, this one included.
    fn to_all(&self, message: Bytes);
    /// Sends a message to one other node.
    fn to_node(&self, node: NodeId, message: Bytes);
}

/// One node's part in a cluster. Its methods may be called on any thread, and never wait for the network.
pub(crate) struct Replication {
    shared: Arc<Shared>,
    peers: Arc<dyn Peers>,
    tracker: Mutex<Tracker>,
    started: Instant,
    malformed: Notice,
}

impl Presence {
    /// Shares these presences with other nodes: those are listed here, and their members get their changes. `node`
    /// is this run of the node; `name` is the same in all of its runs, and no other node has it. Call it once, before
    /// the first client comes. Nothing is sent before [`Replication::bus_up`].
    pub(crate) fn replicate(&self, node: NodeId, name: &str, peers: Arc<dyn Peers>) -> Replication {
        let shared = Arc::clone(&self.shared);
        let me = tracker::replica(node, shared.refs.started);
        shared.replicated.store(true, Ordering::Relaxed);
        for shard in &shared.shards {
            let mut shard = lock(shard);
            shard.listed.rename(me.clone());
            shard.numbers.rename(me.clone());
            let topics: BTreeSet<_> = shard.keys.keys().cloned().collect();
            let counted = |topic: &Arc<str>| shared.callbacks.changes(topic) == Changes::Count;
            shard.renumbered = topics.into_iter().filter(counted).collect();
        }
        Replication {
            shared,
            peers,
            tracker: Mutex::new(Tracker::new(node, me, name)),
            started: Instant::now(),
            malformed: Notice::default(),
        }
    }
}

impl Replication {
    /// How often [`Replication::tick`] is to be called.
    pub(crate) const STEP: Duration = STEP;

    /// The bus carries messages, for the first time or again.
    pub(crate) fn bus_up(&self) {
        self.up_at(self.now());
    }

    /// The bus carries no messages. Changes wait until it is up.
    pub(crate) fn bus_down(&self) {
        lock(&self.tracker).down();
    }

    /// A message of a node has come, to all nodes or to this one. Messages of this node itself belong to them: they
    /// show that it hears the others.
    pub(crate) fn heard(&self, from: NodeId, bytes: &Bytes) {
        self.heard_at(self.now(), from, bytes);
    }

    /// Sends the changes of the last moment, and does what is due. Call it every [`Replication::STEP`], also while
    /// the bus is down.
    pub(crate) fn tick(&self) {
        self.tick_at(self.now());
    }

    /// Call it before the server sends its clients away, and go on calling [`Replication::tick`] meanwhile. From now
    /// on the presences of ended channels stay, on all nodes, until their clients are present on another node; at
    /// most 10 s.
    pub(crate) fn stop_gracefully(&self) {
        self.stop_at(self.now());
    }

    /// Sends all changes at once. The last call before the process ends.
    pub(crate) fn flush(&self) {
        self.flush_at(self.now());
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    pub(super) fn up_at(&self, now: Duration) {
        let mut tracker = self.tracker(now);
        tracker.up(now, &self.shared);
        self.send(tracker);
    }

    pub(super) fn heard_at(&self, now: Duration, from: NodeId, bytes: &[u8]) {
        let mut tracker = self.tracker(now);
        let read = tracker.heard(now, from, bytes, &self.shared);
        self.send(tracker);
        if let Err(error) = read
            && let Some(count) = self.malformed.count()
        {
            tracing::warn!(
                %from, count, %error,
                "presence.message.malformed: skipped, and asked for again; see that only servers of \
                 this cluster use its bus"
            );
        }
    }

    pub(super) fn tick_at(&self, now: Duration) {
        let mut tracker = self.tracker(now);
        tracker.tick(now, &self.shared);
        self.send(tracker);
    }

    pub(super) fn stop_at(&self, now: Duration) {
        let mut tracker = self.tracker(now);
        let keeps = !tracker.breaks(Rule::Grace);
        self.shared.leaving.store(keeps, Ordering::Relaxed);
        tracker.leave(now, &self.shared);
        self.send(tracker);
    }

    pub(super) fn flush_at(&self, now: Duration) {
        let mut tracker = self.tracker(now);
        tracker.flush(now, &self.shared);
        self.send(tracker);
    }

    #[cfg(test)]
    pub(super) fn break_rule(&self, rule: Option<Rule>) {
        lock(&self.tracker).broken = rule;
    }

    fn tracker(&self, now: Duration) -> MutexGuard<'_, Tracker> {
        let tracker = lock(&self.tracker);
        let millis = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        self.shared.ticked.store(millis, Ordering::Relaxed);
        tracker
    }

    /// Sends what the tracker says. Under its lock, so that messages leave in order.
    fn send(&self, mut tracker: MutexGuard<'_, Tracker>) {
        for outgoing in tracker.take_outgoing() {
            match outgoing.to {
                None => self.peers.to_all(outgoing.message),
                Some(node) => self.peers.to_node(node, outgoing.message),
            }
        }
        for notice in tracker.take_notices() {
            match notice {
                tracker::Notice::Up(node) => tracing::info!(%node, "presence.node.up"),
                tracker::Notice::Down(node) => tracing::info!(%node, "presence.node.down"),
                tracker::Notice::NameTaken(node) => tracing::warn!(
                    %node,
                    "presence.node.name_taken: another server runs with this name, and one of them \
                     is not listed; give each its own node_name"
                ),
            }
        }
    }
}

impl Sets for Arc<Shared> {
    fn with<T>(&self, set: usize, change: impl FnOnce(&mut State) -> (Diff, T)) -> T {
        let mut shard = lock(&self.shards[set % SHARDS]);
        if set < SHARDS {
            let (diff, result) = change(&mut shard.listed);
            for (topic, diff) in &diff {
                let changes = self.callbacks.changes(topic);
                self.tell(&mut shard, topic, diff, changes);
            }
            return result;
        }
        // The numbers of other nodes: `renumber` writes those of this node.
        let (diff, result) = change(&mut shard.numbers);
        for (topic, diff) in &diff {
            let sum = |entries: &[Arc<Entry>]| {
                let numbers = entries.iter().map(|entry| entry.meta.parse::<usize>());
                numbers.map(Result::unwrap_or_default).sum()
            };
            let change = (sum(&diff.joins), sum(&diff.leaves));
            let changed = count::count_elsewhere(&mut shard.keys, topic, change);
            if changed && self.callbacks.changes(topic) == Changes::Count {
                count::tell(self, &mut shard.keys, topic);
            }
        }
        result
    }

    fn topic(&self, set: usize, topic: &str) -> Arc<str> {
        lock(&self.shards[set % SHARDS]).topic(topic)
    }

    fn renumber(&self, set: usize) {
        let mut shard = lock(&self.shards[set % SHARDS]);
        let key = Arc::from("");
        for topic in std::mem::take(&mut shard.renumbered) {
            let count = shard.keys.get(&topic).map_or(0, |keys| keys.count);
            let numbers = &mut shard.numbers;
            if count == 0 {
                numbers.leave(&Process::Number, &topic, &key);
                continue;
            }
            let number = RawJson::from(Value::from(count));
            let updated = numbers.update(&Process::Number, &topic, &key, |_| number.clone());
            if updated.is_err() {
                let joined = numbers.join(Process::Number, &topic, &key, number);
                debug_assert!(joined.is_ok(), "there was none to update");
            }
        }
    }

    fn end_overdue(&self, now: Duration) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            while let Some((_, process)) = shard.ended.pop_front_if(|(due, _)| *due <= now) {
                let diff = shard.listed.leave_process(&process);
                for (topic, diff) in &diff {
                    let changes = self.callbacks.changes(topic);
                    self.tell(&mut shard, topic, diff, changes);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
