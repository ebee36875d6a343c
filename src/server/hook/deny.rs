//! [`DenyCache`]: joins that the backend has refused, and refuses again without a call for a while.
//!
//! phoenix.js repeats a refused join as it repeats one that failed.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::request::WrittenCall;
use crate::lock::lock;
use crate::message::RawJson;

/// The most refusals that are remembered.
const MAX_ENTRIES: usize = 10_000;
/// The longest error that is remembered, in bytes.
const MAX_ERROR: usize = 1_024;

/// Names joins that the backend must answer alike: same user, memory, topic, params and headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct DenyKey([u8; 32]);

impl DenyKey {
    pub(crate) fn new(parts: &[&str], call: &WrittenCall) -> Self {
        let mut hash = Sha256::new();
        let headers = call.headers.iter();
        let headers = headers.flat_map(|(name, value)| [&**name, &**value]);
        for part in parts.iter().copied().chain(headers) {
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        }
        Self(hash.finalize().into())
    }
}

/// The refused joins of the last moments, for all workers.
pub(super) struct DenyCache {
    keep: Duration,
    refusals: Mutex<HashMap<DenyKey, (Instant, RawJson)>>,
}

impl DenyCache {
    /// Nothing is remembered if `keep` is zero.
    pub(super) fn new(keep: Duration) -> Self {
        Self {
            keep,
            refusals: Mutex::default(),
        }
    }

    pub(super) fn is_on(&self) -> bool {
        !self.keep.is_zero()
    }

    /// The error of a join that was refused within the time.
    pub(super) fn find(&self, key: DenyKey, now: Instant) -> Option<RawJson> {
        let refusals = lock(&self.refusals);
        let (until, error) = refusals.get(&key)?;
        (now < *until).then(|| error.clone())
    }

    /// Remembers a refusal. If the cache is full of refusals in force, it forgets the new one.
    pub(super) fn remember(&self, key: DenyKey, error: &RawJson, now: Instant) {
        if !self.is_on() || error.get().len() > MAX_ERROR {
            return;
        }
        let mut refusals = lock(&self.refusals);
        if refusals.len() >= MAX_ENTRIES {
            refusals.retain(|_, (until, _)| now < *until);
        }
        if refusals.len() < MAX_ENTRIES {
            refusals.insert(key, (now + self.keep, error.detach()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_remembered_for_its_time_and_the_cache_is_bounded() {
        let cache = DenyCache::new(Duration::from_secs(10));
        let (now, error) = (Instant::now(), RawJson::EMPTY_OBJECT);
        let key = |n: usize| {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&n.to_be_bytes());
            DenyKey(key)
        };
        cache.remember(key(0), &error, now);
        assert_eq!(cache.find(key(0), now), Some(error.clone()));
        assert_eq!(cache.find(key(1), now), None);
        let later = now + Duration::from_secs(10);
        assert_eq!(cache.find(key(0), later), None);
        for n in 1..=MAX_ENTRIES {
            cache.remember(key(n), &error, now);
        }
        assert_eq!(lock(&cache.refusals).len(), MAX_ENTRIES);
        cache.remember(key(MAX_ENTRIES + 1), &error, later);
        assert_eq!(lock(&cache.refusals).len(), 1);
        let off = DenyCache::new(Duration::ZERO);
        off.remember(key(0), &error, now);
        assert_eq!(off.find(key(0), now), None);
    }
}
