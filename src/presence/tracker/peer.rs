//! [`Peer`]: what a node knows of another one.

use std::sync::Arc;
use std::time::Duration;

use crate::cluster::NodeId;
use crate::presence::shared::SHARDS;
use crate::presence::state::{Clock, Replica};
use crate::presence::wire::{Heartbeat, SETS};

/// A gap that lasts so long will not close by itself.
const GAP: Duration = Duration::from_millis(500);
/// When a request is repeated.
const PATIENCE: Duration = Duration::from_secs(3);

/// Another node, in one run.
pub(super) struct Peer {
    pub(super) node: NodeId,
    /// As the sets know it.
    pub(super) replica: Replica,
    /// The same in all runs.
    pub(super) name: Arc<str>,
    pub(super) status: Status,
    /// When it was heard, in the time during which this node heard itself.
    pub(super) heard: Duration,
    pub(super) sets: [Progress; SETS],
    /// The shards from which it was removed, a bit each.
    removed: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Up,
    /// It stops in order.
    Leaving,
    /// It is silent: its presences are hidden.
    Down {
        since: Duration,
    },
    /// It never comes back: its presences are removed.
    Gone,
}

/// How far this node knows the changes of a peer in a set.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    /// All changes up to this clock are known.
    known: Clock,
    /// The highest clock that is known to exist.
    highest: Clock,
    /// Since when changes are missing before others that have arrived.
    gap: Option<Duration>,
    /// When the peer was asked for everything, or when the last part of its answer came.
    asked: Option<Duration>,
}

impl Progress {
    /// Changes have arrived: all are known up to the first clock, and some up to the second.
    pub(super) fn learn(&mut self, (known, last): (Clock, Clock), now: Duration) {
        self.known = known;
        self.highest = self.highest.max(last);
        if known >= self.highest {
            self.gap = None;
            self.asked = None;
        } else {
            self.gap.get_or_insert(now);
            self.asked = self.asked.map(|_| now);
        }
    }

    /// Whether to ask for everything now.
    fn asks(&mut self, now: Duration) -> bool {
        let is_due = |asked: Duration| now.saturating_sub(asked) > PATIENCE;
        let asks = self.known < self.highest && self.asked.is_none_or(is_due);
        if asks {
            self.asked = Some(now);
        }
        asks
    }
}

impl Peer {
    pub(super) fn new(node: NodeId, heartbeat: &Heartbeat, heard: Duration) -> Self {
        Self {
            node,
            replica: replica(node, heartbeat.incarnation),
            name: Arc::clone(&heartbeat.name),
            status: Status::Up,
            heard,
            sets: [Progress::default(); SETS],
            removed: 0,
        }
    }

    /// Takes the clocks of a heartbeat. Returns the sets to ask for: the peer sends changes before the heartbeat
    /// that counts them, so those that are missing were lost.
    pub(super) fn compare(&mut self, clocks: &[Clock; SETS], now: Duration) -> Vec<usize> {
        let sets = self.sets.iter_mut().zip(clocks).enumerate();
        let behind = sets.filter_map(|(set, (progress, clock))| {
            progress.highest = progress.highest.max(*clock);
            progress.asks(now).then_some(set)
        });
        behind.collect()
    }

    /// The sets to ask for because a gap did not close.
    pub(super) fn gaps(&mut self, now: Duration) -> Vec<usize> {
        if !matches!(self.status, Status::Up | Status::Leaving) {
            return Vec::new();
        }
        let sets = self.sets.iter_mut().enumerate();
        let open = sets.filter_map(|(set, progress)| {
            let is_old = progress
                .gap
                .is_some_and(|since| now.saturating_sub(since) > GAP);
            (is_old && progress.asks(now)).then_some(set)
        });
        open.collect()
    }

    /// It was removed from a shard. Returns whether it was from all.
    pub(super) fn remove(&mut self, shard: usize) -> bool {
        self.removed |= 1 << shard;
        self.removed.count_ones() as usize == SHARDS
    }
}

/// The name of a node in the sets is that of one run: the presences of two runs can stand beside each other.
pub(in crate::presence) fn replica(node: NodeId, incarnation: u64) -> Replica {
    Replica {
        name: node.to_string().into(),
        incarnation,
    }
}
