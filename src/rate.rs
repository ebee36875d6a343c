//! [`Rate`]: a limit on how often something may be done. [`Bucket`]: the count of one client. Pure, except for
//! `now`: the clock is an argument.

mod buckets;
mod limit;
mod shared;

use std::sync::LazyLock;
use std::time::{Duration, Instant};

pub(crate) use self::buckets::{BucketTable, Buckets};
pub(crate) use self::limit::Limit;
pub(crate) use self::shared::SharedRate;

/// The start of [`now`].
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The present, for buckets.
pub(crate) fn now() -> Duration {
    START.elapsed()
}

/// This moment, for buckets.
pub(crate) fn at(moment: Instant) -> Duration {
    moment.saturating_duration_since(*START)
}

/// `retry_after_ms` of a refusal: a wait in whole milliseconds, rounded up.
pub(crate) fn retry_after_ms(wait: Duration) -> u64 {
    u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// A time in nanoseconds, at most 584 years.
const fn nanos(time: Duration) -> u64 {
    let nanos = time.as_nanos();
    if nanos > u64::MAX as u128 {
        u64::MAX
    } else {
        nanos as u64
    }
}

/// A token bucket that holds `burst` tokens and is refilled at so many tokens a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Tokens in a period; 0 sets no limit.
    tokens: u32,
    /// In nanoseconds.
    period: u64,
    /// Tokens that a full bucket holds; at least one.
    burst: u32,
}

impl Rate {
    /// No limit.
    pub const UNLIMITED: Self = Self::new(0, 0);

    /// A rate of `per_second`, with a burst of `burst`.
    pub const fn new(per_second: u32, burst: u32) -> Self {
        Self {
            tokens: per_second,
            period: nanos(Duration::from_secs(1)),
            burst,
        }
    }

    /// A rate of `count` in each period, all of them at once if need be.
    pub const fn in_period(count: u32, period: Duration) -> Self {
        Self {
            tokens: count,
            period: nanos(period),
            burst: count,
        }
    }

    /// The time to refill this many tokens, in nanoseconds.
    fn time_of(self, tokens: u64) -> u64 {
        tokens.saturating_mul(self.period) / u64::from(self.tokens)
    }
}

/// The token bucket of one client, full at first. It stores a single moment, by the generic cell rate
/// algorithm: the time at which the bucket will be full again, in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bucket {
    full_at: u64,
}

impl Bucket {
    /// Whether all its tokens are there.
    fn is_full(self, now: Duration) -> bool {
        Duration::from_nanos(self.full_at) <= now
    }

    /// Takes tokens. More than a full bucket of them can only be taken when the bucket is full. `now`
    /// counts from any moment that is the same in all calls.
    ///
    /// # Errors
    /// If there are too few tokens: the time until there are enough. Then none are taken.
    pub fn take(&mut self, rate: Rate, tokens: u64, now: Duration) -> Result<(), Duration> {
        if rate.tokens == 0 {
            return Ok(());
        }
        let burst = rate.time_of(rate.burst.max(1).into());
        let cost = rate.time_of(tokens);
        // In nanoseconds, because each message takes tokens, and `Duration` computes with two numbers.
        let now = nanos(now);
        let full_at = self.full_at.max(now);
        // The tokens that would be missing after this call, as a time.
        let missing = (full_at - now).saturating_add(cost.min(burst));
        if missing > burst {
            return Err(Duration::from_nanos(missing - burst));
        }
        self.full_at = full_at.saturating_add(cost);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let (mut bucket, rate, now) = (Bucket::default(), Rate::new(10, 3), Duration::ZERO);
        let passed = (0..5).filter(|_| bucket.take(rate, 1, now).is_ok());
        assert_eq!(passed.count(), 3);
        let tenth = Duration::from_millis(100);
        assert_eq!(bucket.take(rate, 1, now), Err(tenth));
        assert_eq!(bucket.take(rate, 2, now), Err(2 * tenth));
        assert_eq!(bucket.take(rate, 1, now + tenth), Ok(()));
        assert_eq!(bucket.take(rate, 1, now + tenth), Err(tenth));
    }

    #[test]
    fn what_costs_more_than_the_burst_passes_a_full_bucket() {
        let (mut bucket, rate, now) = (Bucket::default(), Rate::new(10, 3), Duration::ZERO);
        assert_eq!(bucket.take(rate, 10, now), Ok(()));
        assert_eq!(bucket.take(rate, 1, now), Err(Duration::from_millis(800)));
    }

    #[test]
    fn no_rate_is_no_limit() {
        let mut bucket = Bucket::default();
        assert_eq!(
            bucket.take(Rate::UNLIMITED, u64::MAX, Duration::ZERO),
            Ok(())
        );
    }

    proptest! {
        /// In any span of time at most the burst and the refilled tokens pass. A call passes after the wait
        /// that the refusal returned.
        #[test]
        fn no_span_has_more_than_the_burst_and_the_rate(
            per_second in 1u32..1_000,
            burst in 1u32..50,
            steps in prop::collection::vec((0u64..20_000, 1u64..5), 1..200),
        ) {
            let rate = Rate::new(per_second, burst.max(5));
            let (mut bucket, mut now) = (Bucket::default(), Duration::ZERO);
            let mut passed: Vec<(Duration, u64)> = Vec::new();
            for (micros, tokens) in steps {
                now += Duration::from_micros(micros);
                match bucket.take(rate, tokens, now) {
                    Ok(()) => passed.push((now, tokens)),
                    Err(wait) => {
                        let mut later = bucket;
                        prop_assert_eq!(later.take(rate, tokens, now + wait), Ok(()));
                    }
                }
            }
            for first in 0..passed.len() {
                let mut sum = 0;
                for (at, tokens) in &passed[first..] {
                    sum += tokens;
                    let span = (*at - passed[first].0).as_secs_f64();
                    let most = f64::from(rate.burst) + span * f64::from(per_second) + 0.001;
                    prop_assert!(sum as f64 <= most, "{sum} in {span} s");
                }
            }
        }
    }
}
