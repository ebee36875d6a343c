//! [`Occupancy`]: which topics have members. Pure: the clock is an argument.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// A topic is vacated once it has had no member for this long: a member that reconnects causes no notice.
const GRACE: Duration = Duration::from_secs(3);

/// The members of the topics whose rooms tell of them.
#[derive(Debug, Default)]
pub(super) struct Occupancy {
    topics: HashMap<Arc<str>, OccupiedTopic>,
    /// The topics without members, by the end of their grace.
    empty: BTreeSet<(Instant, Arc<str>)>,
}

#[derive(Debug)]
struct OccupiedTopic {
    members: usize,
    /// Whether its room tells that it is vacated.
    tells_vacated: bool,
    /// Since when it has none: the end of its grace, by both clocks.
    vacant: Option<(Instant, SystemTime)>,
}

impl Occupancy {
    /// A member has joined. Returns whether the topic is occupied by it. Call [`expire`](Self::expire) first.
    pub(super) fn enter(&mut self, topic: &str, tells_vacated: bool) -> bool {
        if let Some((name, _)) = self.topics.get_key_value(topic) {
            let name = Arc::clone(name);
            if let Some(known) = self.topics.get_mut(topic) {
                known.members += 1;
                if let Some((end, _)) = known.vacant.take() {
                    self.empty.remove(&(end, name));
                }
            }
            return false;
        }
        let first = OccupiedTopic {
            members: 1,
            tells_vacated,
            vacant: None,
        };
        self.topics.insert(topic.into(), first);
        true
    }

    /// A member has left.
    pub(super) fn leave(&mut self, topic: &str, now: Instant, at: SystemTime) {
        let Some((name, _)) = self.topics.get_key_value(topic) else {
            return;
        };
        let name = Arc::clone(name);
        let Some(known) = self.topics.get_mut(topic) else {
            return;
        };
        known.members = known.members.saturating_sub(1);
        if known.members == 0 {
            let end = now + GRACE;
            known.vacant = Some((end, at + GRACE));
            self.empty.insert((end, name));
        }
    }

    /// The next topic whose grace has ended, and when.
    pub(super) fn expire(&mut self, now: Instant) -> Option<(Arc<str>, SystemTime)> {
        loop {
            let (end, _) = self.empty.first()?;
            if *end > now {
                return None;
            }
            let (_, topic) = self.empty.pop_first()?;
            let known = self.topics.remove(&topic)?;
            let (_, at) = known.vacant?;
            if known.tells_vacated {
                return Some((topic, at));
            }
        }
    }

    /// The next topic without members: nobody waits for the end of its grace.
    pub(super) fn vacate(&mut self) -> Option<(Arc<str>, SystemTime)> {
        let (last, _) = self.empty.last()?;
        let (topic, at) = self.expire(*last)?;
        Some((topic, at.min(SystemTime::now())))
    }

    /// When the next grace ends.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.empty.first().map(|(end, _)| *end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_comes_back_within_the_grace_changes_nothing() {
        let (now, at) = (Instant::now(), SystemTime::now() - 10 * GRACE);
        let mut occupancy = Occupancy::default();
        assert!(
            occupancy.enter("a", true) && !occupancy.enter("a", true) && occupancy.enter("b", true)
        );
        occupancy.leave("a", now, at);
        assert_eq!(occupancy.deadline(), None);
        occupancy.leave("a", now, at);
        assert_eq!(occupancy.deadline(), Some(now + GRACE));
        assert_eq!(occupancy.expire(now + GRACE / 2), None);
        assert!(!occupancy.enter("a", true));
        assert_eq!(occupancy.expire(now + 2 * GRACE), None);

        let later = now + GRACE / 2;
        occupancy.leave("a", later, at);
        occupancy.leave("b", now, at);
        let vacated = |expired: Option<(Arc<str>, SystemTime)>| expired.map(|(topic, _)| topic);
        assert_eq!(vacated(occupancy.expire(now + GRACE)), Some("b".into()));
        assert_eq!(occupancy.expire(now + GRACE), None);
        assert_eq!(
            occupancy.expire(later + GRACE),
            Some(("a".into(), at + GRACE))
        );
        assert!(occupancy.topics.is_empty() && occupancy.empty.is_empty());
        assert!(occupancy.enter("a", true), "it is occupied anew");
        occupancy.leave("unknown", now, at);
    }

    #[test]
    fn at_the_end_no_topic_waits() {
        let mut occupancy = Occupancy::default();
        for topic in ["a", "b"] {
            occupancy.enter(topic, true);
        }
        occupancy.enter("c", false);
        for topic in ["c", "a"] {
            occupancy.leave(topic, Instant::now(), SystemTime::now());
        }
        let vacated = occupancy.vacate();
        assert_eq!(vacated.map(|(topic, _)| topic), Some("a".into()));
        assert_eq!(occupancy.vacate(), None);
    }
}
