//! [`TailBytes`]: what a tail holds, counted together with those of all topics.

use crate::budget::{Slack, Total};

/// What the tails of all topics may hold together.
const TAILS_BYTES: isize = 256_000_000;
/// What one may still hold while they hold more; its topic's next join reads the rest.
pub(super) const CROWDED_BYTES: usize = 16_000;

static TAILS: Total = Total::new(TAILS_BYTES, |metrics| &metrics.tail_bytes);

thread_local! {
    static SLACK: Slack = const { Slack::new() };
}

/// What one tail holds, as a part of what all hold.
#[derive(Default)]
pub(super) struct TailBytes(usize);

impl TailBytes {
    pub(super) fn get(&self) -> usize {
        self.0
    }

    /// Something that cost `before` costs `after`.
    pub(super) fn change(&mut self, before: usize, after: usize) {
        self.0 = self.0 - before + after;
        SLACK.with(|slack| slack.count(&TAILS, before, after));
    }

    /// Whether it is one of those that make all tails too large.
    pub(super) fn is_too_much(&self) -> bool {
        self.0 > CROWDED_BYTES && TAILS.is_over()
    }
}

/// As if other topics held more than all may.
#[cfg(test)]
pub(in crate::pubsub) fn crowd() -> impl Drop {
    let mut others = TailBytes::default();
    others.change(0, 2 * TAILS_BYTES.unsigned_abs());
    others
}

impl Drop for TailBytes {
    fn drop(&mut self) {
        self.change(self.0, 0);
    }
}
