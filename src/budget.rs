//! [`Budget`]: how much of one kind of memory all clients together may fill, and [`Share`], what one
//! of them has of it.
//!
//! A budget is one number for the process, so a share must not follow each small step of its holder:
//! take it in large steps, or only for what is out of the ordinary.

use std::sync::atomic::{AtomicUsize, Ordering};

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
}
