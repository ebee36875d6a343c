//! Bounds on the memory of one kind that all clients together may fill.
//!
//! [`Budget`] is for rare and large allocations. A holder takes its [`Share`] before it fills memory, and
//! is refused if nothing is left. Each change of a share is an atomic operation.
//!
//! [`Total`] is for memory that changes with every message. Each thread counts in its own [`Slack`], and
//! adds to the total one chunk at a time. A holder checks whether the total [is over](Total::is_over)
//! before it adds, and then uses less memory.

use std::cell::Cell;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};

use metrics::Gauge;

use crate::metrics::{Metrics, metrics};

/// A total for the whole process, in bytes.
pub(crate) struct Budget {
    most: usize,
    used: AtomicUsize,
    /// The gauge that shows the used bytes.
    gauge: fn(&Metrics) -> &Gauge,
}

impl Budget {
    /// A budget of `most` unused bytes.
    pub(crate) const fn new(most: usize, gauge: fn(&Metrics) -> &Gauge) -> Self {
        Self {
            most,
            used: AtomicUsize::new(0),
            gauge,
        }
    }

    /// Takes bytes if enough are left.
    fn take(&self, bytes: usize) -> bool {
        let take = |used: usize| used.checked_add(bytes).filter(|used| *used <= self.most);
        let taken = self
            .used
            .try_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok();
        if taken {
            self.show();
        }
        taken
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        self.show();
    }

    fn show(&self) {
        (self.gauge)(metrics()).set(self.used.load(Ordering::Relaxed) as f64);
    }
}

/// The bytes of one holder. Dropping the share gives them back.
pub(crate) struct Share {
    budget: &'static Budget,
    bytes: usize,
}

impl Share {
    /// An empty share.
    pub(crate) const fn of(budget: &'static Budget) -> Self {
        Self { budget, bytes: 0 }
    }

    /// Changes the share to `bytes`. Returns `false` and changes nothing if the budget has too little left.
    #[must_use]
    pub(crate) fn resize(&mut self, bytes: usize) -> bool {
        if bytes > self.bytes {
            if !self.budget.take(bytes - self.bytes) {
                return false;
            }
        } else if bytes < self.bytes {
            self.budget.give_back(self.bytes - bytes);
        }
        self.bytes = bytes;
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.budget.give_back(self.bytes);
        }
    }
}

/// A total for the whole process, in bytes. It is counted in chunks, so it is not exact.
pub(crate) struct Total {
    most: isize,
    used: AtomicIsize,
    /// The gauge that shows the used bytes.
    gauge: fn(&Metrics) -> &Gauge,
}

impl Total {
    /// A total that starts at 0 and is over beyond `most` bytes.
    pub(crate) const fn new(most: isize, gauge: fn(&Metrics) -> &Gauge) -> Self {
        Self {
            most,
            used: AtomicIsize::new(0),
            gauge,
        }
    }

    /// Whether the total exceeds its bound. Each thread may be off by a chunk.
    pub(crate) fn is_over(&self) -> bool {
        self.used.load(Ordering::Relaxed) > self.most
    }

    /// The bytes in use. Each thread may be off by a chunk.
    #[cfg(feature = "server")]
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed).max(0).unsigned_abs()
    }

    fn add(&self, bytes: isize) {
        let used = self.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        (self.gauge)(metrics()).set(used.max(0) as f64);
    }
}

/// The bytes that one thread has not yet added to its total. Belongs in a `thread_local` beside the total.
pub(crate) struct Slack(Cell<isize>);

impl Slack {
    /// Bytes that a thread collects before it adds them to the total.
    const CHUNK: usize = 256 * 1024;

    /// An empty slack.
    pub(crate) const fn new() -> Self {
        Self(Cell::new(0))
    }

    /// Counts a holder that changes from `before` bytes to `after`.
    pub(crate) fn count(&self, total: &Total, before: usize, after: usize) {
        let counted = self.0.get() + after.cast_signed() - before.cast_signed();
        if counted.unsigned_abs() < Self::CHUNK {
            self.0.set(counted);
        } else {
            self.0.set(0);
            total.add(counted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_together_are_never_over_their_budget() {
        static BUDGET: Budget = Budget::new(100, |metrics| &metrics.unfinished_bytes);
        let (mut ann, mut bob) = (Share::of(&BUDGET), Share::of(&BUDGET));
        assert!(ann.resize(60));
        assert!(!bob.resize(41), "it would be 101");
        assert!(bob.resize(40));
        assert!(!ann.resize(61));
        assert!(ann.resize(10), "it may always shrink");
        assert!(bob.resize(90));
        drop(ann);
        assert!(bob.resize(100));
        assert!(!bob.resize(usize::MAX));
        drop(bob);
        assert_eq!(BUDGET.used.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_total_is_right_but_for_a_chunk_of_each_thread() {
        static TOTAL: Total = Total::new(1_000_000, |metrics| &metrics.outbox_bytes);
        let (ann, bob) = (Slack::new(), Slack::new());
        for held in 0..1_000 {
            ann.count(&TOTAL, held * 1_000, (held + 1) * 1_000);
        }
        assert!(!TOTAL.is_over());
        bob.count(&TOTAL, 0, 500_000);
        assert!(TOTAL.is_over());
        // Bytes that one thread has counted may be freed by another.
        bob.count(&TOTAL, 1_000_000, 0);
        assert!(!TOTAL.is_over());
        bob.count(&TOTAL, 500_000, 0);
        let left = TOTAL.used.load(Ordering::Relaxed).unsigned_abs();
        assert!(left < 2 * Slack::CHUNK, "{left}");
    }
}
