//! [`SlowModes`]: the topics in which each person may send one message in so many seconds, until a time. In memory and
//! bounded; `store::StoredSlowModes` keeps them in a database. Each node of a cluster counts its own messages.

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, SystemTime};

use crate::metrics::metrics;
use crate::rate::{self, BucketTable, Rate};

/// The most slow modes in memory.
pub(crate) const MAX_SLOW_MODES: usize = 10_000;
/// The longest interval, in seconds.
pub(crate) const MAX_INTERVAL: u64 = 3_600;

/// The slow mode of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SlowMode {
    /// The topic.
    pub(crate) topic: String,
    /// The time from a message of a person to the next one: whole seconds, from one to [`MAX_INTERVAL`].
    pub(crate) interval: Duration,
    /// The time of the request for it.
    pub(crate) since: SystemTime,
    /// From this time on it has no effect. `None`: it is in force until it is taken away.
    pub(crate) ends: Option<SystemTime>,
}

impl SlowMode {
    /// Whether it still has an effect.
    fn is_in_force(&self, now: SystemTime) -> bool {
        self.ends.is_none_or(|ends| now < ends)
    }
}

/// Whose messages count together.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) enum Person<'a> {
    /// A user, in all tabs.
    User(&'a str),
    /// A connection without a user, by its number.
    Connection(NonZeroU64),
}

/// The slow modes in force, for all workers. Clones share them. While there are none, a check is one atomic load.
#[derive(Clone, Debug, Default)]
pub(crate) struct SlowModes(Arc<SharedSlowModes>);

#[derive(Debug, Default)]
struct SharedSlowModes {
    count: AtomicUsize,
    modes: RwLock<HashMap<String, SlowMode>>,
    /// How often one was set or taken away. Changes while `modes` is locked.
    changes: AtomicU64,
    /// The last messages, of the persons in all slow topics.
    turns: BucketTable,
}

/// A message that was let in. It uses its sender's allowance up, unless it is given back.
#[derive(Debug)]
pub(crate) struct Turn {
    modes: SlowModes,
    hash: u64,
}

impl Turn {
    /// The message was not sent: its sender may send another one at once.
    pub(crate) fn give_back(self) {
        self.modes.0.turns.fill(self.hash);
    }
}

impl SlowModes {
    /// Whether any topic is slow.
    pub(crate) fn has_any(&self) -> bool {
        self.0.count.load(Ordering::Relaxed) > 0
    }

    /// Counts a message of a person. `None`: the topic is not slow.
    ///
    /// # Errors
    /// If it comes too early: the time to wait.
    pub(crate) fn take_turn(
        &self,
        topic: &str,
        person: Person<'_>,
    ) -> Result<Option<Turn>, Duration> {
        let now = SystemTime::now();
        let mode = self
            .read()
            .get(topic)
            .filter(|it| it.is_in_force(now))
            .map(|it| it.interval);
        let Some(interval) = mode else {
            return Ok(None);
        };
        // With another interval everybody begins anew: else a shorter one would not hold for those that wait.
        let hash = self.0.turns.hash((topic, interval, person));
        let rate = Rate::in_period(1, interval);
        self.0.turns.take(hash, rate, rate::now())?;
        Ok(Some(Turn {
            modes: self.clone(),
            hash,
        }))
    }

    /// Adds a slow mode, in place of that of its topic. Returns whether there was room.
    pub(crate) fn insert(&self, mode: SlowMode) -> bool {
        let mut modes = self.write();
        let has_room = modes.len() < MAX_SLOW_MODES || modes.contains_key(&mode.topic);
        if has_room {
            modes.insert(mode.topic.clone(), mode);
        }
        self.0.changes.fetch_add(1, Ordering::Relaxed);
        self.counted(&modes);
        has_room
    }

    /// Whether [`insert`](Self::insert) adds a slow mode of this topic.
    pub(crate) fn has_room_for(&self, topic: &str) -> bool {
        let modes = self.read();
        modes.len() < MAX_SLOW_MODES || modes.contains_key(topic)
    }

    /// How often one was set or taken away.
    pub(crate) fn changes(&self) -> u64 {
        self.0.changes.load(Ordering::Relaxed)
    }

    /// Makes these the slow modes in force: a list that was read after there were so many `changes`. Returns whether that
    /// is still so; if not, the list may be an old one, and nothing is changed.
    pub(crate) fn replace(&self, list: Vec<SlowMode>, changes: u64) -> bool {
        let mut modes = self.write();
        if self.changes() != changes {
            return false;
        }
        let list = list.into_iter().take(MAX_SLOW_MODES);
        *modes = list.map(|mode| (mode.topic.clone(), mode)).collect();
        self.counted(&modes);
        true
    }

    /// The slow mode of this topic, if it is in force.
    pub(crate) fn find(&self, topic: &str) -> Option<SlowMode> {
        let now = SystemTime::now();
        self.read()
            .get(topic)
            .filter(|it| it.is_in_force(now))
            .cloned()
    }

    /// Takes the slow mode of a topic away. Returns whether there was one.
    pub(crate) fn remove(&self, topic: &str) -> bool {
        let mut modes = self.write();
        // A list that is being read may have it all the same.
        self.0.changes.fetch_add(1, Ordering::Relaxed);
        let is_removed = modes.remove(topic).is_some();
        self.counted(&modes);
        is_removed
    }

    /// The slow modes in force, the newest first: at most `limit`, and the number of all.
    pub(crate) fn list(&self, limit: usize) -> (Vec<SlowMode>, usize) {
        let now = SystemTime::now();
        let modes = self.read();
        let mut all: Vec<_> = modes
            .values()
            .filter(|it| it.is_in_force(now))
            .cloned()
            .collect();
        drop(modes);
        all.sort_unstable_by(|a, b| b.since.cmp(&a.since).then_with(|| a.topic.cmp(&b.topic)));
        let total = all.len();
        all.truncate(limit);
        (all, total)
    }

    /// Forgets those that have ended at this time. Returns their number.
    pub(crate) fn forget_ended(&self, now: SystemTime) -> usize {
        let mut modes = self.write();
        let before = modes.len();
        modes.retain(|_, mode| mode.is_in_force(now));
        self.counted(&modes);
        before - modes.len()
    }

    fn counted(&self, modes: &HashMap<String, SlowMode>) {
        self.0.count.store(modes.len(), Ordering::Relaxed);
        metrics().slow_modes.set(modes.len() as f64);
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<String, SlowMode>> {
        self.0.modes.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<String, SlowMode>> {
        self.0.modes.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Two are equal if they are the same list.
impl PartialEq for SlowModes {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn mode(topic: &str, seconds: u64, lasts: Option<Duration>) -> SlowMode {
        let now = SystemTime::now();
        SlowMode {
            topic: topic.to_owned(),
            interval: Duration::from_secs(seconds),
            since: now,
            ends: lasts.map(|lasts| now + lasts),
        }
    }

    fn is_let_in(modes: &SlowModes, topic: &str, person: Person<'_>) -> bool {
        modes.take_turn(topic, person).is_ok()
    }

    #[test]
    fn each_person_has_one_message_in_a_slow_topic() {
        let modes = SlowModes::default();
        let (ada, seven) = (Person::User("ada"), Person::Connection(NonZeroU64::MIN));
        assert!(modes.insert(mode("room:1", 3_600, None)));
        let first = modes.take_turn("room:1", ada);
        assert!(matches!(first, Ok(Some(_))));
        let wait = modes.take_turn("room:1", ada).expect_err("too early");
        assert!(wait <= HOUR && wait > HOUR / 2, "{wait:?}");
        // Another person, a connection whose number is another's name, another topic.
        assert!(is_let_in(&modes, "room:1", Person::User("1")));
        assert!(is_let_in(&modes, "room:1", seven));
        assert!(!is_let_in(&modes, "room:1", seven));
        assert!(matches!(modes.take_turn("room:2", ada), Ok(None)));
    }

    #[test]
    fn a_turn_that_is_given_back_was_not_taken() {
        let modes = SlowModes::default();
        let ada = Person::User("ada");
        modes.insert(mode("room:1", 3_600, None));
        let turn = modes.take_turn("room:1", ada).expect("the first");
        turn.expect("a turn").give_back();
        assert!(is_let_in(&modes, "room:1", ada));
        assert!(!is_let_in(&modes, "room:1", ada));
    }

    #[test]
    fn another_interval_holds_at_once_for_everybody() {
        let modes = SlowModes::default();
        let ada = Person::User("ada");
        modes.insert(mode("room:1", 3_600, None));
        assert!(is_let_in(&modes, "room:1", ada));
        modes.insert(mode("room:1", 1, None));
        assert!(is_let_in(&modes, "room:1", ada), "it begins anew");
        let wait = modes.take_turn("room:1", ada).expect_err("too early");
        assert!(wait <= Duration::from_secs(1), "{wait:?}");
        assert!(modes.remove("room:1") && !modes.remove("room:1"));
        assert!(matches!(modes.take_turn("room:1", ada), Ok(None)));
        assert!(!modes.has_any());
    }

    #[test]
    fn it_ends_by_itself() {
        let modes = SlowModes::default();
        modes.insert(mode("past", 60, Some(Duration::ZERO)));
        modes.insert(mode("ever", 60, None));
        modes.insert(mode("room:1", 60, Some(HOUR)));
        let ada = Person::User("ada");
        assert!(matches!(modes.take_turn("past", ada), Ok(None)));
        assert_eq!(modes.find("past"), None);
        assert_eq!(modes.list(1).1, 2);
        assert_eq!(modes.forget_ended(SystemTime::now()), 1);
        assert_eq!(modes.forget_ended(SystemTime::now() + 2 * HOUR), 1);
        let left = modes.list(9).0;
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].topic, "ever");
    }

    #[test]
    fn there_are_at_most_ten_thousand() {
        let modes = SlowModes::default();
        for n in 0..MAX_SLOW_MODES {
            assert!(modes.insert(mode(&n.to_string(), 1, None)));
        }
        assert!(!modes.has_room_for("more") && !modes.insert(mode("more", 1, None)));
        assert!(modes.has_room_for("7") && modes.insert(mode("7", 2, None)));
        assert!(modes.remove("7"));
        assert!(modes.insert(mode("more", 1, None)));
        assert_eq!(modes.list(5).0.len(), 5);
    }

    #[test]
    fn a_list_that_was_read_before_a_change_replaces_nothing() {
        let modes = SlowModes::default();
        modes.insert(mode("room:1", 1, None));
        let (before, read) = (modes.changes(), vec![mode("room:2", 1, None)]);
        assert!(!modes.remove("room:2"));
        assert!(!modes.replace(read.clone(), before));
        assert!(modes.find("room:1").is_some());
        assert!(modes.replace(read, modes.changes()));
        assert!(modes.find("room:1").is_none() && modes.find("room:2").is_some());
    }
}
