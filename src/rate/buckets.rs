//! [`Buckets`]: one token bucket for each of many users, topics, addresses or tokens. [`BucketTable`]: the same, of many
//! rates.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use foldhash::fast::RandomState;

use super::{Bucket, Rate};
use crate::lock::lock;

/// The parts of the table, each with its own lock.
const SHARDS: usize = 16;
/// The most buckets of a part, 16 bytes each: about 100,000 in all.
const MAX_BUCKETS: usize = 6_250;
/// A part with fewer buckets is not swept.
const MIN_SWEPT: usize = 64;

/// Buckets of one rate by key, in a [`BucketTable`].
#[derive(Debug)]
pub(crate) struct Buckets {
    rate: Rate,
    table: BucketTable,
}

/// Buckets by the hash of a key. A full bucket takes no room: it is dropped some time after it was refilled. If too many
/// are not full, the half that will be full first is dropped, and those clients begin with full buckets.
#[derive(Default)]
pub(crate) struct BucketTable {
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Default)]
struct Shard {
    /// By the hash of the key. Two keys with the same hash share a bucket.
    buckets: HashMap<u64, Bucket, RandomState>,
    /// The number of buckets at which full ones are dropped.
    sweep_at: usize,
}

impl fmt::Debug for BucketTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BucketTable").finish_non_exhaustive()
    }
}

impl Buckets {
    /// Full buckets of this rate.
    pub(crate) fn new(rate: Rate) -> Self {
        Self {
            rate,
            table: BucketTable::default(),
        }
    }

    /// Takes one token of this key. `now` counts from any moment that is the same in all calls.
    ///
    /// # Errors
    /// If there is none: the time until there is one.
    pub(crate) fn take(&self, key: impl Hash, now: Duration) -> Result<(), Duration> {
        if self.rate.tokens == 0 {
            return Ok(());
        }
        self.table.take(self.table.hash(key), self.rate, now)
    }
}

impl BucketTable {
    /// The hash of a key, by which its bucket is found.
    pub(crate) fn hash(&self, key: impl Hash) -> u64 {
        self.hasher.hash_one(key)
    }

    /// Takes one token of the bucket with this hash.
    ///
    /// # Errors
    /// If there is none: the time until there is one.
    pub(crate) fn take(&self, hash: u64, rate: Rate, now: Duration) -> Result<(), Duration> {
        let mut shard = self.shard(hash);
        if shard.buckets.len() >= shard.sweep_at && !shard.buckets.contains_key(&hash) {
            shard.sweep(now);
        }
        let bucket = shard.buckets.entry(hash).or_default();
        bucket.take(rate, 1, now)
    }

    /// Fills the bucket with this hash.
    pub(crate) fn fill(&self, hash: u64) {
        self.shard(hash).buckets.remove(&hash);
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard> {
        lock(&self.shards[hash as usize % SHARDS])
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        let shards = self.shards.iter();
        shards.map(|shard| lock(shard).buckets.len()).sum()
    }
}

impl Shard {
    /// Drops the full buckets, and of too many others the half that will be full first.
    fn sweep(&mut self, now: Duration) {
        self.buckets.retain(|_, bucket| !bucket.is_full(now));
        if self.buckets.len() >= MAX_BUCKETS {
            let mut buckets: Vec<Bucket> = self.buckets.values().copied().collect();
            let middle = buckets.len() / 2;
            let (_, &mut median, _) = buckets.select_nth_unstable_by_key(middle, |it| it.full_at);
            self.buckets
                .retain(|_, bucket| bucket.full_at > median.full_at);
        }
        self.sweep_at = (2 * self.buckets.len()).clamp(MIN_SWEPT, MAX_BUCKETS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_a_bucket_of_its_own() {
        let buckets = Buckets::new(Rate::new(1, 2));
        let take = |key: &str, seconds| buckets.take(key, Duration::from_secs(seconds));
        assert_eq!(take("ada", 0), Ok(()));
        assert_eq!(take("ada", 0), Ok(()));
        assert_eq!(take("ada", 0), Err(Duration::from_secs(1)));
        assert_eq!(take("bob", 0), Ok(()));
        assert_eq!(take("ada", 1), Ok(()));
    }

    #[test]
    fn without_a_limit_nothing_is_kept() {
        let buckets = Buckets::new(Rate::new(0, 2));
        assert!((0..5).all(|_| buckets.take("ada", Duration::ZERO).is_ok()));
        assert_eq!(buckets.table.len(), 0);
    }

    #[test]
    fn full_buckets_are_dropped() {
        let buckets = Buckets::new(Rate::new(1, 2));
        for key in 0..100_000_u64 {
            assert_eq!(buckets.take(key, Duration::from_millis(key)), Ok(()));
        }
        // A bucket is full again after a second, in which 1,000 keys come.
        assert!(buckets.table.len() < 5_000, "{}", buckets.table.len());
    }

    #[test]
    fn too_many_buckets_drop_those_with_the_most_tokens() {
        let buckets = Buckets::new(Rate::in_period(2, Duration::from_secs(86_400)));
        let used_up = [(); 2].map(|()| buckets.take("ada", Duration::ZERO));
        assert_eq!(used_up, [Ok(()), Ok(())]);
        for key in 0..200_000_u64 {
            assert_eq!(buckets.take(key, Duration::ZERO), Ok(()));
        }
        assert!(
            buckets.table.len() <= SHARDS * MAX_BUCKETS,
            "{}",
            buckets.table.len()
        );
        assert!(buckets.take("ada", Duration::ZERO).is_err());
    }
}
