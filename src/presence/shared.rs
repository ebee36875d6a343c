//! What all clones of a [`Presence`](super::Presence) share: the presences, in shards by their topics.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::Value;
use tokio::runtime::Handle;

use super::builder::{Callbacks, Changes};
use super::count::{self, Keys};
use super::meta::{self, Metas};
use super::refs::Refs;
use super::state::{self, Replica};
use super::{MAX_BYTES, PRESENCE_DIFF, PresenceError, Presences};
use crate::lock::lock;
use crate::message::{Payload, RawJson};
use crate::metrics::{RouteId, metrics};
use crate::pubsub::{PubSub, SubscriberId};

/// A topic belongs to one of them by its hash, on every node to the same. A change waits only for changes in the
/// same shard.
pub(super) const SHARDS: usize = 16;

/// How long the presences of a node that stops stay at most.
pub(super) const LEAVING: Duration = Duration::from_secs(10);

/// The channel that an entry belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Process {
    /// A channel of this node.
    Here(SubscriberId),
    /// A channel of another node. Its id has no meaning here.
    Elsewhere,
    /// No channel: the number of keys that this node has in a topic.
    Number,
}

pub(super) type State = state::State<Process, RawJson>;
pub(super) type Diff = state::Diff<Process, RawJson>;
pub(super) type Entry = state::Entry<Process, RawJson>;
type TopicDiff = state::TopicDiff<Process, RawJson>;

pub(super) struct Shared {
    /// Identifies this instance among the guards of a channel.
    pub(super) id: u64,
    pub(super) pubsub: PubSub,
    pub(super) callbacks: Callbacks,
    pub(super) refs: Refs,
    pub(super) shards: [Mutex<Shard>; SHARDS],
    /// The bytes of all presences of this node's clients.
    pub(super) bytes: AtomicUsize,
    /// Other nodes are told of changes.
    pub(super) replicated: AtomicBool,
    /// This node stops in order.
    pub(super) leaving: AtomicBool,
    /// The time of the replication's last tick, in milliseconds.
    pub(super) ticked: AtomicU64,
}

/// The presences in some of the topics.
pub(super) struct Shard {
    /// Those of all nodes.
    pub(super) listed: State,
    /// Those of this node in topics whose members get numbers ([`Changes::Count`]).
    pub(super) counted: State,
    /// For each of these topics and each node the number of keys, as an entry under the key "".
    pub(super) numbers: State,
    pub(super) keys: Keys,
    /// The topics whose number has changed since the other nodes were told.
    pub(super) renumbered: BTreeSet<Arc<str>>,
    /// The channels that have ended while this node was leaving, with the time when their presences leave.
    pub(super) ended: VecDeque<(Duration, Process)>,
}

impl Shard {
    fn new(me: &Replica) -> Self {
        Self {
            listed: State::new(me.clone()),
            counted: State::new(me.clone()),
            numbers: State::new(me.clone()),
            keys: Keys::default(),
            renumbered: BTreeSet::new(),
            ended: VecDeque::new(),
        }
    }

    /// The name of a topic, shared with its other presences.
    pub(super) fn topic(&self, topic: &str) -> Arc<str> {
        let known = self.keys.get_key_value(topic);
        known.map_or_else(|| Arc::from(topic), |(topic, _)| Arc::clone(topic))
    }

    fn state(&mut self, changes: Changes) -> &mut State {
        match changes {
            Changes::Count => &mut self.counted,
            Changes::Diffs | Changes::Nothing => &mut self.listed,
        }
    }

    /// The number of keys in a topic on all nodes.
    pub(super) fn count(&self, topic: &str) -> usize {
        self.keys.get(topic).map_or(0, count::TopicKeys::total)
    }
}

/// FNV-1a, equal on all nodes. Its last bytes reach few bits of the hash; the product spreads them.
fn shard_of(topic: &str) -> usize {
    let hash = topic.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let spread = (hash ^ hash >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (spread >> 60) as usize % SHARDS
}

impl Shared {
    pub(super) fn new(id: u64, pubsub: PubSub, callbacks: Callbacks) -> Self {
        let refs = Refs::new();
        let me = Replica {
            name: Arc::from("local"),
            incarnation: refs.started,
        };
        Self {
            id,
            pubsub,
            callbacks,
            refs,
            shards: std::array::from_fn(|_| Mutex::new(Shard::new(&me))),
            bytes: AtomicUsize::new(0),
            replicated: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            ticked: AtomicU64::new(0),
        }
    }

    /// The presences of the topic and of others, locked.
    pub(super) fn shard(&self, topic: &str) -> MutexGuard<'_, Shard> {
        lock(&self.shards[shard_of(topic)])
    }

    /// Makes a change in a topic and tells its members, in one critical section.
    pub(super) fn change(
        self: &Arc<Self>,
        topic: &str,
        change: impl FnOnce(&mut State, &Arc<str>) -> Result<Diff, PresenceError>,
    ) -> Result<(), PresenceError> {
        let changes = self.callbacks.changes(topic);
        let mut shard = self.shard(topic);
        let topic = shard.topic(topic);
        let diff = change(shard.state(changes), &topic)?;
        for (topic, diff) in &diff {
            self.tell(&mut shard, topic, diff, changes);
        }
        Ok(())
    }

    /// Tracks a channel under a key.
    pub(super) fn track(
        self: &Arc<Self>,
        process: Process,
        topic: &str,
        key: &str,
        meta: RawJson,
    ) -> Result<(), PresenceError> {
        let key: Arc<str> = Arc::from(key);
        self.change(topic, |state, topic| {
            let bytes = key.len() + meta.get().len();
            self.reserve(bytes, 0)?;
            state.join(process, topic, &key, meta).map_err(|_| {
                self.bytes.fetch_sub(bytes, Ordering::Relaxed);
                PresenceError::AlreadyTracked
            })
        })
    }

    /// Replaces a meta by one that `renew` makes of it.
    pub(super) fn update(
        self: &Arc<Self>,
        process: Process,
        topic: &str,
        key: &str,
        renew: impl FnOnce(&RawJson) -> Result<RawJson, PresenceError>,
    ) -> Result<(), PresenceError> {
        let key: Arc<str> = Arc::from(key);
        self.change(topic, |state, topic| {
            state.try_update(&process, topic, &key, |old| {
                let new = renew(old)?;
                let size = |meta: &RawJson| key.len() + meta.get().len();
                self.reserve(size(&new), size(old))?;
                Ok(new)
            })
        })
    }

    /// Removes the presences of a channel that has ended, with one diff. If this node is leaving they stay until
    /// their client is present on another node.
    pub(super) fn leave_process(self: &Arc<Self>, process: Process, topic: &str) {
        let changes = self.callbacks.changes(topic);
        let mut shard = self.shard(topic);
        if changes != Changes::Count && self.leaving.load(Ordering::Relaxed) {
            let now = Duration::from_millis(self.ticked.load(Ordering::Relaxed));
            shard.listed.end(&process);
            shard.ended.push_back((now + LEAVING, process));
            return;
        }
        let diff = shard.state(changes).leave_process(&process);
        for (topic, diff) in &diff {
            self.tell(&mut shard, topic, diff, changes);
        }
    }

    /// The client of a channel was lost. Its presences stay for the topic's grace, or until the client is present again.
    pub(super) fn lose_process(self: &Arc<Self>, process: Process, topic: &str) {
        let grace = self.callbacks.grace(topic);
        let runtime = Handle::try_current().ok();
        // A node that leaves keeps them anyway.
        let leaves = self.leaving.load(Ordering::Relaxed);
        let Some(runtime) = runtime.filter(|_| !grace.is_zero() && !leaves) else {
            return self.leave_process(process, topic);
        };
        let changes = self.callbacks.changes(topic);
        let mut shard = self.shard(topic);
        let state = shard.state(changes);
        state.end(&process);
        if changes == Changes::Count || !self.replicated.load(Ordering::Relaxed) {
            // No other node needs to know.
            state.take_ended();
        }
        drop(shard);
        let (shared, topic) = (Arc::downgrade(self), topic.to_owned());
        runtime.spawn(async move {
            tokio::time::sleep(grace).await;
            if let Some(shared) = shared.upgrade() {
                shared.leave_process(process, &topic);
            }
        });
    }

    /// Takes room for a presence in place of an old one, whose room the diff gives back.
    fn reserve(&self, new: usize, old: usize) -> Result<(), PresenceError> {
        let room =
            |bytes: usize| (bytes + new - old.min(bytes) <= MAX_BYTES).then_some(bytes + new);
        let relaxed = Ordering::Relaxed;
        let reserved = self.bytes.fetch_update(relaxed, relaxed, room);
        reserved.map(drop).map_err(|_| PresenceError::Full)
    }

    /// Counts what a change has brought to a topic, and tells the members.
    pub(super) fn tell(
        self: &Arc<Self>,
        shard: &mut Shard,
        topic: &Arc<str>,
        diff: &TopicDiff,
        changes: Changes,
    ) {
        self.account(topic, diff);
        let state = match changes {
            Changes::Count => &shard.counted,
            Changes::Diffs | Changes::Nothing => &shard.listed,
        };
        let count_changed = count::count(&mut shard.keys, state, topic, diff);
        if changes == Changes::Count && count_changed {
            if self.replicated.load(Ordering::Relaxed) {
                shard.renumbered.insert(Arc::clone(topic));
            }
            count::tell(self, &mut shard.keys, topic);
        }
        if changes == Changes::Diffs || self.callbacks.handle_metas.is_some() {
            self.tell_diff(state, topic, diff, changes);
        }
    }

    /// The metrics and the bound are those of this node's own clients.
    fn account(&self, topic: &str, TopicDiff { joins, leaves }: &TopicDiff) {
        let own = |entry: &&Arc<Entry>| matches!(entry.process, Process::Here(_));
        let of = |entries: &[Arc<Entry>]| {
            let own = entries.iter().filter(own);
            own.fold((0, 0), |(count, bytes), entry| {
                (count + 1, bytes + meta::size(entry))
            })
        };
        let ((joined, new), (left, old)): ((u32, usize), (u32, usize)) = (of(joins), of(leaves));
        if joined + left == 0 {
            return;
        }
        self.bytes.fetch_sub(old, Ordering::Relaxed);
        let of_pattern = RouteId::of_topic(topic).metrics();
        of_pattern
            .presences
            .increment(f64::from(joined) - f64::from(left));
        metrics().presence_bytes.increment(new as f64 - old as f64);
    }

    /// Sends a diff to the members of its topic, if they get diffs, and to `handle_metas`.
    fn tell_diff(&self, state: &State, topic: &str, diff: &TopicDiff, changes: Changes) {
        let (joins, leaves) = (meta::grouped(&diff.joins), meta::grouped(&diff.leaves));
        let Callbacks {
            fetch,
            handle_metas,
            ..
        } = &self.callbacks;
        let mut text = r#"{"joins":"#.to_owned();
        if fetch.is_none() && handle_metas.is_none() {
            meta::write(&mut text, &joins);
            text.push_str(r#","leaves":"#);
            meta::write(&mut text, &leaves);
            text.push('}');
            self.send_diff(topic, text);
            return;
        }
        let joins = self.fetched(topic, meta::presences(joins));
        let leaves = self.fetched(topic, meta::presences(leaves));
        if changes == Changes::Diffs {
            let diff = serde_json::json!({"joins": &joins, "leaves": &leaves});
            self.send_diff(topic, diff.to_string());
        }
        if let Some(handle_metas) = handle_metas {
            let now = meta::presences(state.list(topic));
            handle_metas(topic, &joins, &leaves, &now);
        }
    }

    fn send_diff(&self, topic: &str, diff: String) {
        let diff = Payload::Json(RawJson::trusted(diff.into()));
        self.pubsub.broadcast_live(topic, PRESENCE_DIFF, &diff);
    }

    fn fetched(&self, topic: &str, presences: Presences) -> Presences {
        match &self.callbacks.fetch {
            Some(fetch) => fetch(topic, presences),
            None => presences,
        }
    }

    /// Reads the metas of a topic, under its lock.
    fn read<T>(&self, topic: &str, read: impl FnOnce(&State) -> T) -> T {
        let changes = self.callbacks.changes(topic);
        read(self.shard(topic).state(changes))
    }

    /// Everybody in a topic.
    pub(super) fn list(&self, topic: &str) -> Presences {
        self.read(topic, |state| {
            self.fetched(topic, meta::presences(state.list(topic)))
        })
    }

    /// Everybody in a topic, as a client gets it.
    pub(super) fn list_payload(&self, topic: &str) -> Payload {
        if self.callbacks.fetch.is_some() {
            return Payload::from(Value::Object(self.list(topic)));
        }
        let mut text = String::new();
        self.read(topic, |state| meta::write(&mut text, &state.list(topic)));
        Payload::Json(RawJson::trusted(text.into()))
    }

    /// One key of a topic.
    pub(super) fn get_by_key(&self, topic: &str, key: &str) -> Option<Value> {
        self.read(topic, |state| {
            let metas = state.get_by_key(topic, key);
            if metas.is_empty() {
                return None;
            }
            let one = meta::presences(Metas::from([(key, metas)]));
            self.fetched(topic, one).remove(key)
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::presence::Presence;

    #[test]
    fn the_bytes_of_all_shards_have_one_bound_and_each_refusal_gives_its_room_back() {
        let presence = Presence::new(PubSub::new());
        let shared = &presence.shared;
        let meta = |text: &str| RawJson::from(json!({ "text": text }));
        let [one, other] = [(); 2].map(|()| Process::Here(SubscriberId::next()));
        let bytes = || shared.bytes.load(Ordering::Relaxed);
        assert_eq!(shared.track(one, "a", "k", meta("12345")), Ok(()));
        let first = bytes();
        assert_eq!(first, 1 + meta("12345").get().len());
        let again = shared.track(one, "a", "k", meta("12345"));
        assert_eq!(again, Err(PresenceError::AlreadyTracked));
        assert_eq!(bytes(), first);
        let rest = MAX_BYTES - first;
        shared.bytes.fetch_add(rest, Ordering::Relaxed);
        let full = shared.track(other, "b", "k", meta(""));
        assert_eq!(full, Err(PresenceError::Full), "in another shard, too");
        let update = |text| shared.update(one, "a", "k", |_| Ok(meta(text)));
        assert_eq!(update("123456"), Err(PresenceError::Full));
        assert_eq!(update("54321"), Ok(()), "in place of the old one");
        assert_eq!(update("1"), Ok(()));
        assert_eq!(bytes(), MAX_BYTES - 4);
        shared.leave_process(one, "a");
        assert_eq!(bytes(), rest);
    }

    #[test]
    fn topics_spread_over_all_shards() {
        let mut topics = [0; SHARDS];
        for n in 0..1_600 {
            topics[shard_of(&format!("room:{n}"))] += 1;
        }
        assert!(
            topics.iter().all(|&topics| (60..140).contains(&topics)),
            "{topics:?}"
        );
        assert_eq!(shard_of("room:1"), shard_of("room:1"));
    }
}
