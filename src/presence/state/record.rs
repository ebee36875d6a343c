//! What is known of one replica: [`Record`], and the [`Clocks`] that it has seen.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Clock, Entry};

/// The knowledge about one replica, or a part of it. Records of the same replica merge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record<P, M> {
    /// The changes that this record knows. An entry with another clock is not merged.
    pub(crate) seen: Clocks,
    /// The seen entries that have not left, by their clock.
    pub(crate) present: BTreeMap<Clock, Arc<Entry<P, M>>>,
}

impl<P, M> Default for Record<P, M> {
    fn default() -> Self {
        Self {
            seen: Clocks::default(),
            present: BTreeMap::new(),
        }
    }
}

/// Entries with their clocks.
pub(super) type Tagged<P, M> = Vec<(Clock, Arc<Entry<P, M>>)>;

impl<P, M> Record<P, M> {
    /// Merges another record of the same replica. Returns the entries that joined and left.
    pub(super) fn merge(&mut self, other: &Self) -> (Tagged<P, M>, Tagged<P, M>) {
        let (mut joins, mut leaves) = (Vec::new(), Vec::new());
        for (first, last) in other.seen.ranges() {
            let gone = |clock: &Clock, _: &mut _| !other.present.contains_key(clock);
            leaves.extend(self.present.extract_if(first..=last, gone));
            for (&clock, entry) in other.present.range(first..=last) {
                if !self.seen.contains(clock) {
                    self.present.insert(clock, Arc::clone(entry));
                    joins.push((clock, Arc::clone(entry)));
                }
            }
            self.seen.insert(first, last);
        }
        (joins, leaves)
    }
}

/// A set of clocks. The first range has no gap before it. Each later range follows a lost or late delta,
/// and joins the range before it when the gap is filled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Clocks {
    /// The first clock of each range, mapped to its last. Ranges are not empty and do not touch.
    ranges: BTreeMap<Clock, Clock>,
}

impl Clocks {
    /// Adds a range, both ends included; an empty one adds nothing. Takes amortized O(log n) of the ranges:
    /// it absorbs those that it touches.
    pub(crate) fn insert(&mut self, mut first: Clock, mut last: Clock) {
        if first > last {
            return;
        }
        while let Some((&start, &end)) = self.ranges.range(..=last.saturating_add(1)).next_back()
            && end.saturating_add(1) >= first
        {
            self.ranges.remove(&start);
            first = first.min(start);
            last = last.max(end);
        }
        self.ranges.insert(first, last);
    }

    /// The ranges in order, both ends included.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = (Clock, Clock)> {
        self.ranges.iter().map(|(&first, &last)| (first, last))
    }

    pub(super) fn contains(&self, clock: Clock) -> bool {
        let before = self.ranges.range(..=clock).next_back();
        before.is_some_and(|(_, &last)| clock <= last)
    }

    /// The clock up to which all are in the set; 0 for none.
    pub(super) fn contiguous(&self) -> Clock {
        match self.ranges.first_key_value() {
            Some((&first, &last)) if first <= 1 => last,
            _ => 0,
        }
    }

    /// The highest clock; 0 for none.
    pub(crate) fn last(&self) -> Clock {
        self.ranges.last_key_value().map_or(0, |(_, &last)| last)
    }
}
