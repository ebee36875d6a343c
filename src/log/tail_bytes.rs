//! [`TailBytes`]: the bytes of one tail, counted together with those of all topics.

use crate::budget::{Slack, Total};

/// The most bytes of all tails together.
const TAILS_BYTES: isize = 256_000_000;
/// The most bytes of one tail while all together are over their bound. The next join of its topic reads the
/// rest from the store.
pub(super) const CROWDED_BYTES: usize = 16_000;

static TAILS: Total = Total::new(TAILS_BYTES, |metrics| &metrics.tail_bytes);

thread_local! {
    static SLACK: Slack = const { Slack::new() };
}

/// The bytes of one tail, as a part of the total.
#[derive(Default)]
pub(super) struct TailBytes(usize);

impl TailBytes {
    pub(super) fn get(&self) -> usize {
        self.0
    }

    /// Counts a message that changes from `before` bytes to `after`.
    pub(super) fn change(&mut self, before: usize, after: usize) {
        self.0 = self.0 - before + after;
        SLACK.with(|slack| slack.count(&TAILS, before, after));
    }

    /// Whether the tail must shrink, because the total is over its bound and this tail is not small.
    pub(super) fn is_too_much(&self) -> bool {
        self.0 > CROWDED_BYTES && TAILS.is_over()
    }
}

/// For tests: makes the total exceed its bound.
#[cfg(test)]
pub(crate) fn crowd() -> impl Drop {
    let mut others = TailBytes::default();
    others.change(0, 2 * TAILS_BYTES.unsigned_abs());
    others
}

impl Drop for TailBytes {
    fn drop(&mut self) {
        self.change(self.0, 0);
    }
}
