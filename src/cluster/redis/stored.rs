//! [`Stored`]: the journal rows that can be removed, because the database has them.

use std::collections::HashMap;
use std::sync::Arc;

use crate::cluster::counters::{BusCounters, add};
use crate::log::Seq;

/// The rows of one topic that one command removes.
pub(super) type Removal = (Arc<str>, Vec<Seq>);

/// Gathers the rows while the commands of the last round are under way. A row that is left in the journal does no
/// harm: whoever reads it stores it again, without effect, and removes it.
#[derive(Debug, Default)]
pub(super) struct Stored {
    gathered: HashMap<Arc<str>, Vec<Seq>>,
    /// How many rows are gathered.
    rows: usize,
    /// What is written and not confirmed.
    under_way: Vec<Removal>,
    /// How many commands are not confirmed.
    unconfirmed: usize,
}

impl Stored {
    /// How many rows may be gathered.
    const MOST_ROWS: usize = 1 << 18;

    /// How many topics a round has.
    const MOST_TOPICS: usize = 512;

    /// Adds rows.
    pub(super) fn add(&mut self, topic: Arc<str>, seqs: Vec<Seq>, counters: &BusCounters) {
        if self.rows + seqs.len() > Self::MOST_ROWS {
            add(&counters.left_in_journal, seqs.len() as u64);
            return;
        }
        self.rows += seqs.len();
        self.gathered.entry(topic).or_default().extend(seqs);
    }

    /// Begins the next round, once the last one is confirmed: one command a topic.
    pub(super) fn next_round(&mut self) -> &[Removal] {
        if self.unconfirmed > 0 || self.gathered.is_empty() {
            return &[];
        }
        let topics = self.gathered.keys().take(Self::MOST_TOPICS);
        let topics: Vec<_> = topics.cloned().collect();
        self.under_way.clear();
        for topic in topics {
            if let Some(removal) = self.gathered.remove_entry(&topic) {
                self.rows -= removal.1.len();
                self.under_way.push(removal);
            }
        }
        self.unconfirmed = self.under_way.len();
        &self.under_way
    }

    /// Whether all rows are removed.
    pub(super) fn is_done(&self) -> bool {
        self.unconfirmed == 0 && self.gathered.is_empty()
    }

    /// One command of the round is confirmed.
    pub(super) fn confirmed(&mut self) {
        self.unconfirmed = self.unconfirmed.saturating_sub(1);
    }

    /// The connection is lost: the round that is not confirmed comes again.
    pub(super) fn lost(&mut self) {
        if std::mem::take(&mut self.unconfirmed) == 0 {
            return;
        }
        for (topic, seqs) in std::mem::take(&mut self.under_way) {
            self.rows += seqs.len();
            self.gathered.entry(topic).or_default().extend(seqs);
        }
    }

    /// The journals are gone.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seqs(numbers: &[i64]) -> Vec<Seq> {
        numbers.iter().copied().map(Seq::new).collect()
    }

    #[test]
    fn rows_gather_while_a_round_is_under_way() {
        let counters = BusCounters::default();
        let mut stored = Stored::default();
        assert!(stored.next_round().is_empty());
        stored.add("a".into(), seqs(&[1]), &counters);
        assert_eq!(stored.next_round(), [("a".into(), seqs(&[1]))]);
        stored.add("a".into(), seqs(&[2, 3]), &counters);
        stored.add("a".into(), seqs(&[4]), &counters);
        assert!(stored.next_round().is_empty());
        stored.confirmed();
        assert_eq!(stored.next_round(), [("a".into(), seqs(&[2, 3, 4]))]);
        stored.lost();
        stored.add("a".into(), seqs(&[5]), &counters);
        let round = stored.next_round();
        assert_eq!(round, [("a".into(), seqs(&[2, 3, 4, 5]))]);
        stored.clear();
        assert!(stored.next_round().is_empty());
    }

    #[test]
    fn rows_over_the_bound_are_left_and_counted() {
        let counters = BusCounters::default();
        let mut stored = Stored::default();
        let many: Vec<i64> = (0..Stored::MOST_ROWS as i64).collect();
        stored.add("a".into(), seqs(&many), &counters);
        stored.add("b".into(), seqs(&[1]), &counters);
        assert_eq!(stored.next_round().len(), 1);
        assert_eq!(counters.left_in_journal.into_inner(), 1);
    }
}
