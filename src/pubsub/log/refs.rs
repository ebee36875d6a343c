//! [`RecentRefs`]: the client_refs of the recent messages of all topics, by which a retry is known
//! before it is broadcast again. What is older is known to the database alone.
//!
//! A ref is kept as a hash of 128 bits under keys of this process, with the seq of its message: 25
//! bytes in a table, whatever its length. No client can make two refs the same one. They leave by the
//! generation, so that forgetting costs nothing: the oldest goes after [`WINDOW`], or when the newest
//! is full.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::entry::Run;
use crate::metrics::metrics;
use crate::pubsub::lock;

/// For how long a client_ref is remembered at least, while there is room.
const WINDOW: Duration = Duration::from_secs(600);
/// How many are remembered, in all topics together.
const MAX_REFS: usize = 500_000;
/// Parts with a lock each, so that workers do not wait for each other.
const SHARDS: usize = 16;
/// The newest takes refs in; the older ones are only looked up.
const GENERATIONS: usize = 3;
/// One generation of one shard.
const GENERATION_REFS: usize = MAX_REFS / SHARDS / GENERATIONS;
/// Two older generations make a window.
const GENERATION_TIME: Duration = Duration::from_secs(WINDOW.as_secs() / (GENERATIONS as u64 - 1));

type Key = [u64; 2];
type Generation = HashMap<Key, i64, foldhash::fast::RandomState>;

/// The refs of one server. Behind the locks of its topics.
#[derive(Default)]
pub(in crate::pubsub) struct RecentRefs {
    hashers: [RandomState; 2],
    shards: [Mutex<Shard>; SHARDS],
}

/// Newest first.
struct Shard {
    generations: [Generation; GENERATIONS],
    /// When the newest began.
    since: Instant,
}

impl Default for Shard {
    fn default() -> Self {
        Self {
            generations: Default::default(),
            since: Instant::now(),
        }
    }
}

impl RecentRefs {
    /// The seq of the message that carried this ref first.
    pub(super) fn get(&self, run: &Run, client_ref: &str) -> Option<i64> {
        let key = self.key(run, client_ref);
        let shard = lock(self.shard(key));
        shard
            .generations
            .iter()
            .find_map(|known| known.get(&key))
            .copied()
    }

    /// Remembers the ref of the message with this seq, in place of what was known of it.
    pub(super) fn insert(&self, run: &Run, client_ref: &str, seq: i64, now: Instant) {
        let key = self.key(run, client_ref);
        let mut shard = lock(self.shard(key));
        shard.remove(key);
        if shard.generations[0].len() >= GENERATION_REFS {
            shard.rotate(now);
        }
        shard.generations[0].insert(key, seq);
    }

    /// The message with this seq will not be stored: its ref is free again.
    pub(super) fn forget(&self, run: &Run, client_ref: &str, seq: i64) {
        if self.get(run, client_ref) == Some(seq) {
            let key = self.key(run, client_ref);
            lock(self.shard(key)).remove(key);
        }
    }

    /// Forgets what is older than the window. Called from time to time.
    pub(in crate::pubsub) fn expire(&self, now: Instant) {
        let mut count = 0;
        for shard in &self.shards {
            let mut shard = lock(shard);
            while now.saturating_duration_since(shard.since) >= GENERATION_TIME {
                // After a long pause nothing is left to rotate.
                let since = if shard.len() == 0 {
                    now
                } else {
                    shard.since + GENERATION_TIME
                };
                shard.rotate(since);
            }
            count += shard.len();
        }
        metrics().client_refs.set(count as f64);
    }

    fn key(&self, run: &Run, client_ref: &str) -> Key {
        let named = (&*run.topic, run.refs_epoch, client_ref);
        [0, 1].map(|half| self.hashers[half].hash_one(named))
    }

    fn shard(&self, key: Key) -> &Mutex<Shard> {
        &self.shards[key[0] as usize % SHARDS]
    }
}

impl Shard {
    fn rotate(&mut self, since: Instant) {
        self.generations.rotate_right(1);
        self.generations[0] = Generation::default();
        self.since = since;
    }

    fn remove(&mut self, key: Key) {
        for known in &mut self.generations {
            known.remove(&key);
        }
    }

    fn len(&self) -> usize {
        self.generations.iter().map(HashMap::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Weak;
    use std::sync::atomic::AtomicI64;

    use super::super::past::PastRuns;
    use super::*;

    fn run(topic: &str) -> Run {
        Run {
            topic: topic.into(),
            epoch: 1,
            refs_epoch: 1,
            past: PastRuns::default(),
            settled: AtomicI64::new(0),
            owner: Weak::new(),
            strict: false,
        }
    }

    #[test]
    fn refs_are_known_for_ten_minutes_and_leave_without_new_ones() {
        let (refs, run, start) = (RecentRefs::default(), run("t"), Instant::now());
        refs.insert(&run, "a", 1, start);
        refs.expire(start + WINDOW - Duration::from_secs(1));
        assert_eq!(refs.get(&run, "a"), Some(1));
        refs.expire(start + WINDOW + GENERATION_TIME + Duration::from_secs(1));
        assert_eq!(refs.get(&run, "a"), None);
    }

    #[test]
    fn a_ref_belongs_to_its_topic_and_run() {
        let (refs, now) = (RecentRefs::default(), Instant::now());
        let (ann, bob) = (run("ann"), run("bob"));
        refs.insert(&ann, "a", 1, now);
        assert_eq!((refs.get(&ann, "a"), refs.get(&bob, "a")), (Some(1), None));
        let next = Run {
            epoch: 2,
            refs_epoch: 2,
            ..run("ann")
        };
        assert_eq!(refs.get(&next, "a"), None);
    }

    #[test]
    fn a_ref_that_came_again_is_known_by_its_second_message() {
        let (refs, run, now) = (RecentRefs::default(), run("t"), Instant::now());
        refs.insert(&run, "a", 1, now);
        refs.forget(&run, "a", 2);
        assert_eq!(refs.get(&run, "a"), Some(1));
        refs.forget(&run, "a", 1);
        assert_eq!(refs.get(&run, "a"), None);
        refs.insert(&run, "a", 2, now);
        assert_eq!(refs.get(&run, "a"), Some(2));
    }

    #[test]
    fn all_topics_together_have_a_bound_and_the_oldest_leave() {
        let (refs, run, now) = (RecentRefs::default(), run("t"), Instant::now());
        let count = 2 * MAX_REFS as i64;
        for seq in 0..count {
            refs.insert(&run, &seq.to_string(), seq, now);
        }
        let known: usize = refs.shards.iter().map(|shard| lock(shard).len()).sum();
        assert!((MAX_REFS / 2..=MAX_REFS).contains(&known), "{known}");
        assert_eq!(refs.get(&run, "0"), None);
        let newest = count - 1;
        assert_eq!(refs.get(&run, &newest.to_string()), Some(newest));
    }
}
