//! [`Pace`]: the limit on how slowly a client may send a body or read an answer.

use std::time::Duration;

/// The rate, in bytes a second, that a transfer needs once its patience is used up.
const BYTES_PER_SECOND: u64 = 1_000;

/// The time limit of one transfer. Only the time spent waiting for the client counts. Has no clock: the
/// caller measures its waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// How long one wait may last, and how far all waits together may fall behind the rate.
    patience: Duration,
    /// Waiting time that the client has earned: one second for each kilobyte.
    earned: Duration,
    waited: Duration,
}

impl Pace {
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            patience,
            earned: Duration::ZERO,
            waited: Duration::ZERO,
        }
    }

    /// How long the next wait may last. Zero once the client has used up its time.
    pub(super) fn next_wait(&self) -> Duration {
        let left = (self.patience + self.earned).saturating_sub(self.waited);
        left.min(self.patience)
    }

    /// Notes a wait and the bytes that ended it.
    pub(super) fn note(&mut self, waited: Duration, bytes: usize) {
        self.waited += waited;
        self.earned += Duration::from_millis(bytes as u64 * 1_000 / BYTES_PER_SECOND);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    #[test]
    fn a_wait_is_bounded_whatever_was_sent_before() {
        let mut pace = Pace::new(PATIENCE);
        pace.note(Duration::ZERO, 1_000_000_000);
        assert_eq!(pace.next_wait(), PATIENCE);
    }

    #[test]
    fn single_bytes_do_not_renew_the_patience() {
        let mut pace = Pace::new(PATIENCE);
        pace.note(Duration::from_secs(30), 1);
        assert!(pace.next_wait() < Duration::from_secs(31));
        pace.note(Duration::from_secs(30), 1);
        assert!(pace.next_wait() < Duration::from_secs(1));
        pace.note(Duration::from_secs(30), 1);
        assert_eq!(pace.next_wait(), Duration::ZERO);
    }

    #[test]
    fn who_keeps_to_the_rate_may_take_any_time() {
        let mut pace = Pace::new(PATIENCE);
        for _ in 0..1_000 {
            pace.note(Duration::from_secs(10), 10_000);
        }
        assert_eq!(pace.next_wait(), PATIENCE);
    }
}
