//! [`Renewals`]: which topics' keys the server is asked to keep.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cluster::topics::Topics;

/// Which topics' keys are to be kept by the server for another week: each attached one, once a day.
#[derive(Debug)]
pub(super) struct Renewals {
    /// The begin of the next round.
    next_round: Instant,
    /// The rest of this round.
    due: Vec<Arc<str>>,
}

impl Renewals {
    /// The time from one round to the next.
    const EVERY: Duration = Duration::from_secs(24 * 60 * 60);

    /// How many topics are renewed at once.
    const AT_ONCE: usize = 256;

    /// The time to the first round: a node may be restarted more often than once a day.
    const FIRST: Duration = Duration::from_secs(60);

    /// Begins the first round soon.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            next_round: now + Self::FIRST,
            due: Vec::new(),
        }
    }

    /// Topics that are due now.
    pub(super) fn take(&mut self, now: Instant, topics: &Topics) -> Vec<Arc<str>> {
        if now >= self.next_round {
            self.next_round = now + Self::EVERY;
            self.due = topics.names().cloned().collect();
        }
        let rest = self.due.len().saturating_sub(Self::AT_ONCE);
        self.due.split_off(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_topic_is_renewed_once_a_round() {
        let mut topics = Topics::default();
        for number in 0..300 {
            topics.attach(&number.to_string().into());
        }
        let start = Instant::now();
        let mut renewals = Renewals::new(start);
        assert!(renewals.take(start, &topics).is_empty());
        let soon = start + Renewals::FIRST;
        let mut all = renewals.take(soon, &topics);
        assert_eq!(all.len(), Renewals::AT_ONCE);
        all.extend(renewals.take(soon, &topics));
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 300);
        assert!(renewals.take(soon, &topics).is_empty());
        assert!(!renewals.take(soon + Renewals::EVERY, &topics).is_empty());
    }
}
