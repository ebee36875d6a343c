//! How much of one kind of memory all clients together may fill.
//!
//! [`Budget`] is for what is out of the ordinary: a holder takes its [`Share`] before it fills memory,
//! and is refused when nothing is left. Each step of a share is a step of an atomic.
//!
//! [`Total`] is for what goes up and down with every message: each thread counts for itself, in a
//! [`Slack`], and tells the total by the chunk. Who adds asks first whether the total
//! [is over](Total::is_over), and does with less then.

use std::cell::Cell;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};

use metrics::Gauge;

use crate::metrics::{Metrics, metrics};

/// A total for the whole process, in bytes.
pub(crate) struct Budget {
    most: usize,
    used: AtomicUsize,
    /// Shows what is used.
    gauge: fn(&Metrics) -> &Gauge,
}

impl Budget {
    /// A budget of `most` bytes, none of which is used.
    pub(crate) const fn new(most: usize, gauge: fn(&Metrics) -> &Gauge) -> Self {
        Self {
            most,
            used: AtomicUsize::new(0),
            gauge,
        }
    }

    /// Takes bytes, if that many are left.
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

/// What one holder has of a budget; dropping it gives it back.
pub(crate) struct Share {
    budget: &'static Budget,
    bytes: usize,
}

impl Share {
    /// Nothing yet.
    pub(crate) const fn of(budget: &'static Budget) -> Self {
        Self { budget, bytes: 0 }
    }

    /// Makes it `bytes` large; `false`, and nothing changes, when the budget has not that much left.
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

/// A total for the whole process, in bytes, that is counted by the chunk.
pub(crate) struct Total {
    most: isize,
    used: AtomicIsize,
    /// Shows what is used.
    gauge: fn(&Metrics) -> &Gauge,
}

impl Total {
    /// A total that is over from `most` bytes on; none are used.
    pub(crate) const fn new(most: isize, gauge: fn(&Metrics) -> &Gauge) -> Self {
        Self {
            most,
            used: AtomicIsize::new(0),
            gauge,
        }
    }

    /// Whether more is used than may be. Every thread may be wrong by a chunk.
    pub(crate) fn is_over(&self) -> bool {
        self.used.load(Ordering::Relaxed) > self.most
    }

    fn add(&self, bytes: isize) {
        let used = self.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        (self.gauge)(metrics()).set(used.max(0) as f64);
    }
}

/// What one thread has not told its total yet. Belongs into a `thread_local` beside the total.
pub(crate) struct Slack(Cell<isize>);

impl Slack {
    /// What a thread counts for itself.
    const CHUNK: usize = 256 * 1024;

    /// Nothing counted yet.
    pub(crate) const fn new() -> Self {
        Self(Cell::new(0))
    }

    /// The holder had `before` bytes and has `after`.
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
        // What one thread has counted another may give back.
        bob.count(&TOTAL, 1_000_000, 0);
        assert!(!TOTAL.is_over());
        bob.count(&TOTAL, 500_000, 0);
        let left = TOTAL.used.load(Ordering::Relaxed).unsigned_abs();
        assert!(left < 2 * Slack::CHUNK, "{left}");
    }
}
