//! [`RecentRefs`]: the client_refs of recent messages of all topics. By these a retry is recognised before
//! it is broadcast again. Older client_refs are only in the database.
//!
//! A ref takes 25 bytes whatever its length: a hash of 128 bits under random keys of this process, and the
//! seq of its message. So no client can find two refs with the same hash. Refs are dropped one generation
//! at a time, which costs nothing: the oldest generation goes after [`WINDOW`], or when the newest is full.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::id::Seq;
use super::sequence::Run;
use crate::lock::lock;
use crate::metrics::metrics;

/// How long a client_ref is remembered at least, while there is room.
const WINDOW: Duration = Duration::from_secs(600);
/// The most remembered refs of all topics together.
const MAX_REFS: usize = 500_000;
/// The number of parts, each with its own lock, so that workers do not wait for each other.
const SHARDS: usize = 16;
/// The number of generations. Only the newest gets new refs.
const GENERATIONS: usize = 3;
/// The most refs in one generation of one shard.
const GENERATION_REFS: usize = MAX_REFS / SHARDS / GENERATIONS;
/// The two older generations together cover the window.
const GENERATION_TIME: Duration = Duration::from_secs(WINDOW.as_secs() / (GENERATIONS as u64 - 1));

type Key = [u64; 2];
type Generation = HashMap<Key, Seq, foldhash::fast::RandomState>;

/// The refs of one server. Its locks are taken while a topic is locked.
#[derive(Default)]
pub(crate) struct RecentRefs {
    hashers: [RandomState; 2],
    shards: [Mutex<Shard>; SHARDS],
}

/// One part of the refs; the newest generation first.
struct Shard {
    generations: [Generation; GENERATIONS],
    /// When the newest generation began.
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
    pub(super) fn get(&self, run: &Run, client_ref: &str) -> Option<Seq> {
        let key = self.key(run, client_ref);
        let shard = lock(self.shard(key));
        shard
            .generations
            .iter()
            .find_map(|known| known.get(&key))
            .copied()
    }

    /// Remembers the ref of the message with this seq, in place of an earlier seq of the ref.
    pub(super) fn insert(&self, run: &Run, client_ref: &str, seq: Seq, now: Instant) {
        let key = self.key(run, client_ref);
        let mut shard = lock(self.shard(key));
        shard.remove(key);
        if shard.generations[0].len() >= GENERATION_REFS {
            shard.rotate(now);
        }
        shard.generations[0].insert(key, seq);
    }

    /// Frees the ref of a message that will not be stored. Does nothing if the ref now belongs to another
    /// seq.
    pub(super) fn forget(&self, run: &Run, client_ref: &str, seq: Seq) {
        if self.get(run, client_ref) == Some(seq) {
            let key = self.key(run, client_ref);
            lock(self.shard(key)).remove(key);
        }
    }

    /// Forgets refs that are older than the window. Every worker calls it periodically.
    pub(crate) fn expire(&self, now: Instant) {
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

    use super::super::id::Epoch;
    use super::super::past::PastRuns;
    use super::super::receipt::Outcome;
    use super::super::topic_log::LogOwner;
    use super::*;

    struct Nobody;

    impl LogOwner for Nobody {
        fn settled(&self, _epoch: Epoch, _seq: Seq, _outcome: Outcome) {}
    }

    fn run(topic: &str, epoch: i64) -> Run {
        let owner = Weak::<Nobody>::new();
        let (epoch, past) = (Epoch::new(epoch), PastRuns::default());
        Run::new(&topic.into(), epoch, past, Seq::ZERO, owner, false)
    }

    #[test]
    fn refs_are_known_for_ten_minutes_and_leave_without_new_ones() {
        let (refs, run, start) = (RecentRefs::default(), run("t", 1), Instant::now());
        refs.insert(&run, "a", Seq::new(1), start);
        refs.expire(start + WINDOW - Duration::from_secs(1));
        assert_eq!(refs.get(&run, "a"), Some(Seq::new(1)));
        refs.expire(start + WINDOW + GENERATION_TIME + Duration::from_secs(1));
        assert_eq!(refs.get(&run, "a"), None);
    }

    #[test]
    fn a_ref_belongs_to_its_topic_and_run() {
        let (refs, now) = (RecentRefs::default(), Instant::now());
        let (ann, bob) = (run("ann", 1), run("bob", 1));
        refs.insert(&ann, "a", Seq::new(1), now);
        assert_eq!(
            (refs.get(&ann, "a"), refs.get(&bob, "a")),
            (Some(Seq::new(1)), None)
        );
        let next = run("ann", 2);
        assert_eq!(refs.get(&next, "a"), None);
    }

    #[test]
    fn a_ref_that_came_again_is_known_by_its_second_message() {
        let (refs, run, now) = (RecentRefs::default(), run("t", 1), Instant::now());
        refs.insert(&run, "a", Seq::new(1), now);
        refs.forget(&run, "a", Seq::new(2));
        assert_eq!(refs.get(&run, "a"), Some(Seq::new(1)));
        refs.forget(&run, "a", Seq::new(1));
        assert_eq!(refs.get(&run, "a"), None);
        refs.insert(&run, "a", Seq::new(2), now);
        assert_eq!(refs.get(&run, "a"), Some(Seq::new(2)));
    }

    #[test]
    fn all_topics_together_have_a_bound_and_the_oldest_leave() {
        let (refs, run, now) = (RecentRefs::default(), run("t", 1), Instant::now());
        let count = 2 * MAX_REFS as i64;
        for seq in 0..count {
            refs.insert(&run, &seq.to_string(), Seq::new(seq), now);
        }
        let known: usize = refs.shards.iter().map(|shard| lock(shard).len()).sum();
        assert!((MAX_REFS / 2..=MAX_REFS).contains(&known), "{known}");
        assert_eq!(refs.get(&run, "0"), None);
        let newest = count - 1;
        assert_eq!(refs.get(&run, &newest.to_string()), Some(Seq::new(newest)));
    }
}
