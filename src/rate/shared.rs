//! [`SharedRate`]: a rate that can change while clients are counted by it.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Rate;

/// A rate that can change while clients are counted by it. Reading it takes no lock: during a change, one message may
/// be counted with the tokens of one rate and the period of the other.
#[derive(Debug)]
pub(crate) struct SharedRate {
    /// The tokens in the upper half, the burst in the lower one.
    tokens: AtomicU64,
    /// In nanoseconds.
    period: AtomicU64,
}

impl SharedRate {
    pub(crate) fn new(rate: Rate) -> Self {
        let shared = Self {
            tokens: AtomicU64::new(0),
            period: AtomicU64::new(0),
        };
        shared.set(rate);
        shared
    }

    pub(crate) fn set(&self, rate: Rate) {
        let tokens = u64::from(rate.tokens) << 32 | u64::from(rate.burst);
        self.tokens.store(tokens, Ordering::Relaxed);
        self.period.store(rate.period, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> Rate {
        let tokens = self.tokens.load(Ordering::Relaxed);
        Rate {
            tokens: (tokens >> 32) as u32,
            period: self.period.load(Ordering::Relaxed),
            burst: tokens as u32,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_rate_is_read_as_it_was_set() {
        let shared = SharedRate::new(Rate::UNLIMITED);
        for rate in [
            Rate::UNLIMITED,
            Rate::new(7, u32::MAX),
            Rate::new(u32::MAX, 1),
            Rate::in_period(20, Duration::from_secs(86_400)),
        ] {
            shared.set(rate);
            assert_eq!(shared.get(), rate);
        }
    }
}
