//! [`JwksCache`]: decides when the keys behind a URL are fetched. It fetches nothing itself, and reads no clock.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::jwks::JwkSet;

/// The age at which keys are fetched anew.
const REFRESH: Duration = Duration::from_secs(10 * 60);
/// The age from which keys do not count any more, if no newer ones can be had.
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);
/// The least time between two fetches, whatever tokens clients send.
const PAUSE: Duration = Duration::from_secs(30);

/// The keys that were fetched last, and the time of the last fetch.
#[derive(Debug, Default)]
pub(crate) struct JwksCache {
    keys: Option<(Arc<JwkSet>, Instant)>,
    /// The beginning of the last fetch, also of one that failed.
    fetched: Option<Instant>,
}

impl JwksCache {
    /// The keys, unless they are too old.
    pub(crate) fn keys(&self, now: Instant) -> Option<Arc<JwkSet>> {
        let (keys, since) = self.keys.as_ref()?;
        (now.duration_since(*since) < MAX_AGE).then(|| Arc::clone(keys))
    }

    /// Whether the keys are so old that they should be fetched.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        let age = self
            .keys
            .as_ref()
            .map(|(_, since)| now.duration_since(*since));
        age.is_none_or(|age| age >= REFRESH) && self.may_fetch(now)
    }

    /// Whether the last fetch is long enough ago.
    pub(crate) fn may_fetch(&self, now: Instant) -> bool {
        self.fetched
            .is_none_or(|at| now.duration_since(at) >= PAUSE)
    }

    /// A fetch begins.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.fetched = Some(now);
    }

    /// A fetch has succeeded.
    pub(crate) fn store(&mut self, keys: JwkSet, now: Instant) -> Arc<JwkSet> {
        let keys = Arc::new(keys);
        self.keys = Some((Arc::clone(&keys), now));
        keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_fetched_at_most_every_30_seconds_and_count_for_a_day() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut cache = JwksCache::default();
        assert!(cache.is_due(at(0)) && cache.may_fetch(at(0)));
        cache.begin(at(0));
        assert!(!cache.is_due(at(29)), "a fetch that failed counts, too");
        assert!(cache.is_due(at(30)));
        cache.begin(at(30));
        cache.store(JwkSet::default(), at(31));
        assert!(cache.keys(at(31)).is_some());
        assert!(!cache.may_fetch(at(59)) && cache.may_fetch(at(60)));
        assert!(!cache.is_due(at(630)) && cache.is_due(at(631)));
        let day = 24 * 3600;
        assert!(cache.keys(at(30 + day)).is_some());
        assert!(cache.keys(at(31 + day)).is_none());
    }
}
