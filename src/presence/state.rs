//! [`State`]: the presences of all nodes of a cluster, as data that merges.
//!
//! Pure: no I/O, no actor, no wall clock. A tracker holds one `State` for each node. It sends every
//! [`Diff`] to the topic's subscribers, sends the result of [`State::take_delta`] to the other nodes, and
//! merges the deltas that it receives. Metas are opaque here; the caller sets `phx_ref`. Phoenix:
//! `Phoenix.Tracker.State`.
//!
//! **The set.** Every join and every leave takes the next [`Clock`] of its replica; an update is one of
//! each. An entry has the clock of its join. Only an entry's own node adds or removes it, so each replica
//! has its own [`Record`]: the clocks that were seen, and the entries that are present. An entry whose
//! clock was seen and that is not present has left for good. An entry whose clock was not seen may still
//! arrive. A merge keeps an entry if either side has it and the other has not seen it leave. Deltas may be
//! lost, repeated or reordered: a leave never removes a join that it did not know of.
//!
//! **The clock** also advances past every clock that a merge brings (a Lamport clock); the numbers that a
//! replica skips count as seen. Clocks order the metas of a key, so lists are in join order and equal on
//! every node.
//!
//! **Known replicas.** The record of a peer is kept from [`State::replica_up`] to
//! [`State::remove_replica`], for one incarnation of each name. Nothing is kept of other replicas. A peer
//! that is down is hidden, and still merged.

mod record;
mod succession;
mod visible;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;

pub(crate) use self::record::{Clocks, Record};
use self::visible::{Place, Visible};

/// The number of a change of a replica, from 1. Nodes trust each other: after a clock of `u64::MAX` no
/// other node would have a next one.
pub(crate) type Clock = u64;

/// One run of one node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Replica {
    /// The node's name, the same in every run.
    pub(crate) name: Arc<str>,
    /// Grows with every restart, for example the start time.
    pub(crate) incarnation: u64,
}

/// One process, present in one topic under one key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry<P, M> {
    /// The process that is present. It has a meaning only on the entry's own node.
    pub(crate) process: P,
    /// The topic.
    pub(crate) topic: Arc<str>,
    /// The key. Several processes may share it.
    pub(crate) key: Arc<str>,
    /// The application's data. An update makes a new entry.
    pub(crate) meta: M,
}

/// The effect of a change on queries, by topic; empty if there is none. The joins of one replica are in
/// join order.
pub(crate) type Diff<P, M> = BTreeMap<Arc<str>, TopicDiff<P, M>>;

/// The entries that joined and left a topic. An update is one of each.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TopicDiff<P, M> {
    /// New entries.
    pub(crate) joins: Vec<Arc<Entry<P, M>>>,
    /// Removed entries.
    pub(crate) leaves: Vec<Arc<Entry<P, M>>>,
}

impl<P, M> Default for TopicDiff<P, M> {
    fn default() -> Self {
        Self {
            joins: Vec::new(),
            leaves: Vec::new(),
        }
    }
}

/// The data that nodes exchange: the latest changes of one replica, or all that is known of several.
pub(crate) type Delta<P, M> = BTreeMap<Replica, Record<P, M>>;

/// The process already has this key in this topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("already tracked")]
pub(crate) struct AlreadyTracked;

/// The process does not have this key in this topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not tracked")]
pub(crate) struct NotTracked;

/// The presences of one node and of the nodes that it knows. Entries are stored once and shared between the
/// indices. The caller bounds their number.
#[derive(Debug)]
pub(crate) struct State<P, M> {
    me: Replica,
    /// The highest clock of any known replica.
    clock: Clock,
    own: Record<P, M>,
    /// The clocks of the changes to `own` since the last [`State::take_delta`]. One range if nobody calls that.
    pending: Clocks,
    /// The clocks of the entries of `own` by their holder.
    held: BTreeMap<Holder<P>, Clock>,
    /// The other known replicas by name.
    peers: BTreeMap<Arc<str>, Peer<P, M>>,
    /// The entries that queries see: `own`, and the records of the peers that are up.
    visible: Visible<P, M>,
    /// The entries whose processes have ended, and that stay until a successor joins: the replica's name and
    /// the clock.
    over: BTreeSet<(Arc<str>, Clock)>,
    /// The clocks of own entries that became part of `over` since the last [`State::take_ended`].
    ended: Vec<Clock>,
}

/// The unique key of an entry on its own node: process, topic and key.
type Holder<P> = (P, Arc<str>, Arc<str>);

/// Changes on this node. Each returns the diff that it makes.
impl<P: Ord + Clone, M: Clone> State<P, M> {
    /// Makes a state without entries and peers.
    pub(crate) fn new(me: Replica) -> Self {
        Self {
            me,
            clock: 0,
            own: Record::default(),
            pending: Clocks::default(),
            held: BTreeMap::new(),
            peers: BTreeMap::new(),
            visible: Visible(BTreeMap::new()),
            over: BTreeSet::new(),
            ended: Vec::new(),
        }
    }

    /// Gives this node another name and incarnation. Nothing must have been sent under the old ones.
    pub(crate) fn rename(&mut self, me: Replica) {
        let old = mem::replace(&mut self.me, me);
        for (clock, entry) in &self.own.present {
            let mut same = Diff::new();
            self.visible.hide(&old.name, *clock, entry, &mut same);
            self.visible.show(&self.me.name, *clock, entry, &mut same);
        }
    }

    /// Adds an entry. Takes O(log n), like every change of one entry.
    pub(crate) fn join(
        &mut self,
        process: P,
        topic: &Arc<str>,
        key: &Arc<str>,
        meta: M,
    ) -> Result<Diff<P, M>, AlreadyTracked> {
        let holder = (process, Arc::clone(topic), Arc::clone(key));
        if self.held.contains_key(&holder) {
            return Err(AlreadyTracked);
        }
        let mut diff = Diff::new();
        let clock = self.tick();
        self.add(clock, holder, meta, &mut diff);
        self.succeed(&mut diff);
        Ok(diff)
    }

    /// Like [`State::try_update`], with a change that cannot fail.
    pub(crate) fn update(
        &mut self,
        process: &P,
        topic: &Arc<str>,
        key: &Arc<str>,
        change: impl FnOnce(&M) -> M,
    ) -> Result<Diff<P, M>, NotTracked> {
        self.try_update(process, topic, key, |old| Ok(change(old)))
    }

    /// Replaces the meta by one made from it, unless `change` fails. The entry moves to the end of the join
    /// order.
    pub(crate) fn try_update<E: From<NotTracked>>(
        &mut self,
        process: &P,
        topic: &Arc<str>,
        key: &Arc<str>,
        change: impl FnOnce(&M) -> Result<M, E>,
    ) -> Result<Diff<P, M>, E> {
        let holder = (process.clone(), Arc::clone(topic), Arc::clone(key));
        let old = self.held.get(&holder);
        let old = old.and_then(|clock| self.own.present.get_key_value(clock));
        let (&old, entry) = old.ok_or(NotTracked)?;
        let meta = change(&entry.meta)?;
        let mut diff = Diff::new();
        self.tick();
        self.take(old, &mut diff);
        let clock = self.tick();
        self.add(clock, holder, meta, &mut diff);
        Ok(diff)
    }

    /// Removes an entry. Does nothing if there is none.
    pub(crate) fn leave(&mut self, process: &P, topic: &Arc<str>, key: &Arc<str>) -> Diff<P, M> {
        let mut diff = Diff::new();
        let holder = (process.clone(), Arc::clone(topic), Arc::clone(key));
        if let Some(clock) = self.held.remove(&holder) {
            self.tick();
            self.take(clock, &mut diff);
        }
        diff
    }

    /// Removes all entries of a process that has ended. Takes O(log n) for each of them.
    pub(crate) fn leave_process(&mut self, process: &P) -> Diff<P, M> {
        let mut diff = Diff::new();
        let first = (process.clone(), Arc::default(), Arc::default());
        let held = self.held.range(first..);
        let held = held.take_while(|(holder, _)| holder.0 == *process);
        let held: Vec<_> = held
            .map(|(holder, &clock)| (holder.clone(), clock))
            .collect();
        if !held.is_empty() {
            self.tick();
        }
        for (holder, clock) in held {
            self.held.remove(&holder);
            self.take(clock, &mut diff);
        }
        diff
    }

    /// Takes the clock for a join or a leave. No entry has the clock of a leave: a node that misses the
    /// leave has a gap there, which later joins cannot fill.
    fn tick(&mut self) -> Clock {
        let first = self.own.seen.contiguous() + 1;
        self.clock += 1;
        self.own.seen.insert(first, self.clock);
        self.pending.insert(first, self.clock);
        self.clock
    }

    fn add(&mut self, clock: Clock, holder: Holder<P>, meta: M, diff: &mut Diff<P, M>) {
        let (process, topic, key) = holder.clone();
        self.held.insert(holder, clock);
        let entry = Arc::new(Entry {
            process,
            topic,
            key,
            meta,
        });
        self.visible.show(&self.me.name, clock, &entry, diff);
        self.own.present.insert(clock, entry);
    }

    fn take(&mut self, clock: Clock, diff: &mut Diff<P, M>) {
        self.pending.insert(clock, clock);
        if !self.over.is_empty() {
            self.over.remove(&(Arc::clone(&self.me.name), clock));
        }
        if let Some(entry) = self.own.present.remove(&clock) {
            self.visible.hide(&self.me.name, clock, &entry, diff);
        }
    }
}

/// Queries: the entries of this node and of the peers that are up.
impl<P: Ord + Clone, M: Clone> State<P, M> {
    /// The metas of every key of a topic, in join order. Takes O(log n) for each entry of the topic.
    pub(crate) fn list(&self, topic: &str) -> BTreeMap<&str, Vec<&M>> {
        let mut keys: BTreeMap<&str, Vec<&M>> = BTreeMap::new();
        let from = Place::first(topic, "");
        for entry in self.visible.from(from, |place| &*place.topic == topic) {
            keys.entry(&entry.key).or_default().push(&entry.meta);
        }
        keys
    }

    /// The metas of one key of a topic, in join order; none if the key is absent.
    pub(crate) fn get_by_key(&self, topic: &str, key: &str) -> Vec<&M> {
        let within = |place: &Place| &*place.topic == topic && &*place.key == key;
        let entries = self.visible.from(Place::first(topic, key), within);
        entries.map(|entry| &entry.meta).collect()
    }

    /// The number of entries under one key of a topic. Counts no further than `most`.
    pub(crate) fn holders(&self, topic: &str, key: &str, most: usize) -> usize {
        let within = |place: &Place| &*place.topic == topic && &*place.key == key;
        let entries = self.visible.from(Place::first(topic, key), within);
        entries.take(most).count()
    }
}

/// The exchange between nodes.
impl<P: Ord + Clone, M: Clone> State<P, M> {
    /// The changes on this node since the last call, for all peers; `None` if there were none.
    pub(crate) fn take_delta(&mut self) -> Option<Delta<P, M>> {
        let seen = mem::take(&mut self.pending);
        if seen.last() == 0 {
            return None;
        }
        let present = &self.own.present;
        let new = seen
            .ranges()
            .flat_map(|(first, last)| present.range(first..=last));
        let present = new.map(|(&clock, entry)| (clock, Arc::clone(entry)));
        let present = present.collect();
        Some(Delta::from([(self.me.clone(), Record { seen, present })]))
    }

    /// Up to which clock the changes of a peer are known without a gap, and the highest known clock; 0 and 0 if
    /// the peer is not known. If the first equals the peer's own clock, the record here is complete. If it is
    /// lower, the peer has something to [`State::extract`].
    pub(crate) fn known_of(&self, replica: &Replica) -> (Clock, Clock) {
        let peer = self.peers.get(&replica.name);
        let peer = peer.filter(|peer| peer.incarnation == replica.incarnation);
        peer.map_or((0, 0), |peer| {
            let seen = &peer.record.seen;
            (seen.contiguous(), seen.last())
        })
    }

    /// For every known replica, the clock up to which its changes are known here without a gap.
    #[cfg(test)]
    pub(crate) fn clocks(&self) -> BTreeMap<Replica, Clock> {
        let records = self.records();
        let clocks = records.map(|(replica, record)| (replica, record.seen.contiguous()));
        clocks.collect()
    }

    /// All that is known of the wanted replicas, for a node that has missed changes. Linear in their
    /// entries, which it shares.
    pub(crate) fn extract(&self, wanted: impl Fn(&Replica) -> bool) -> Delta<P, M> {
        let records = self.records().filter(|(replica, _)| wanted(replica));
        let delta = records.map(|(replica, record)| (replica, record.clone()));
        delta.collect()
    }

    /// Merges a delta of another node: its own changes or its knowledge of others, in any order and any
    /// number of times. Takes O(log n) for each entry and range of a delta, and for each entry here that an
    /// extract covers. A record of this node itself is ignored.
    pub(crate) fn merge(&mut self, delta: &Delta<P, M>) -> Diff<P, M> {
        let mut diff = Diff::new();
        for (replica, record) in delta {
            let Some(peer) = known(&mut self.peers, replica) else {
                continue;
            };
            let (joins, leaves) = peer.record.merge(record);
            self.clock = self.clock.max(peer.record.seen.last());
            if peer.up {
                for (clock, entry) in &leaves {
                    self.visible.hide(&replica.name, *clock, entry, &mut diff);
                }
                for (clock, entry) in &joins {
                    self.visible.show(&replica.name, *clock, entry, &mut diff);
                }
            }
            if !self.over.is_empty() {
                for (clock, _) in leaves {
                    self.over.remove(&(Arc::clone(&replica.name), clock));
                }
            }
        }
        self.succeed(&mut diff);
        diff
    }

    /// Call when a peer was heard: shows its entries, and removes an earlier incarnation of it. Ignores an
    /// older incarnation than the known one, and this node's own name.
    pub(crate) fn replica_up(&mut self, replica: &Replica) -> Diff<P, M> {
        if replica.name == self.me.name {
            return Diff::new();
        }
        let mut diff = Diff::new();
        if let Some(peer) = self.peers.get(&replica.name) {
            match peer.incarnation.cmp(&replica.incarnation) {
                Ordering::Less => diff = self.remove_replica(&peer.replica(&replica.name)),
                Ordering::Equal => {}
                Ordering::Greater => return diff,
            }
        }
        let peer = self.peers.entry(Arc::clone(&replica.name));
        let peer = peer.or_insert_with(|| Peer::new(replica.incarnation));
        if !mem::replace(&mut peer.up, true) {
            for (clock, entry) in &peer.record.present {
                self.visible.show(&replica.name, *clock, entry, &mut diff);
            }
        }
        diff
    }

    /// Call when a peer has been silent for some time: hides its entries until it is up again.
    pub(crate) fn replica_down(&mut self, replica: &Replica) -> Diff<P, M> {
        let mut diff = Diff::new();
        if let Some(peer) = known(&mut self.peers, replica)
            && mem::replace(&mut peer.up, false)
        {
            for (clock, entry) in &peer.record.present {
                self.visible.hide(&replica.name, *clock, entry, &mut diff);
            }
        }
        diff
    }

    /// Call when a peer is gone for good, whether up or down: forgets its entries. Its deltas are ignored
    /// until it is up again.
    pub(crate) fn remove_replica(&mut self, replica: &Replica) -> Diff<P, M> {
        let diff = self.replica_down(replica);
        if known(&mut self.peers, replica).is_some() {
            self.peers.remove(&replica.name);
            self.over.retain(|(name, _)| *name != replica.name);
        }
        diff
    }

    fn records(&self) -> impl Iterator<Item = (Replica, &Record<P, M>)> {
        let peers = self.peers.iter();
        let peers = peers.map(|(name, peer)| (peer.replica(name), &peer.record));
        peers.chain([(self.me.clone(), &self.own)])
    }
}

/// A known incarnation of another node.
#[derive(Debug)]
struct Peer<P, M> {
    incarnation: u64,
    /// Whether its entries are visible.
    up: bool,
    record: Record<P, M>,
}

impl<P, M> Peer<P, M> {
    fn new(incarnation: u64) -> Self {
        Self {
            incarnation,
            up: false,
            record: Record::default(),
        }
    }

    fn replica(&self, name: &Arc<str>) -> Replica {
        Replica {
            name: Arc::clone(name),
            incarnation: self.incarnation,
        }
    }
}

/// The peer, if this incarnation of it is known.
fn known<'a, P, M>(
    peers: &'a mut BTreeMap<Arc<str>, Peer<P, M>>,
    replica: &Replica,
) -> Option<&'a mut Peer<P, M>> {
    let peer = peers.get_mut(&replica.name)?;
    (peer.incarnation == replica.incarnation).then_some(peer)
}

#[cfg(test)]
mod tests;
