//! [`OldRows`]: whether the database has the messages of the runs that ended with the data of the bus's server.
//!
//! A new run goes on behind what the database has, and a retry is recognised by what it has. A node that cannot save at
//! the moment may hold messages of the old run that nobody else has. So the one that opens the new run waits for the
//! nodes to say in the database that they have saved theirs. It does not wait for ever: without the database all nodes
//! go on, and what they hold enters the history late.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::looking::SeenNode;
use crate::cluster::ProcessId;
use crate::lock::lock;

/// The shortest wait after the bus's server has become another process.
pub(super) const SHORTEST: Duration = Duration::from_secs(1);
/// The longest one.
const LONGEST: Duration = Duration::from_secs(5);
/// From then on a node that does not reach the database knows it, and says so.
const NOTICED: Duration = Duration::from_millis(700);
/// A node without a sign of life for so long is dead, unless the bus hears it.
const LIFE: Duration = Duration::from_secs(3);

/// What the database says of the nodes, this one included.
struct Look {
    at: Instant,
    /// Whether a living node has messages that it cannot save at the moment.
    somebody_is_behind: bool,
    /// When the living node with the oldest sign of life has given it.
    oldest: Instant,
}

#[derive(Default)]
struct Known {
    /// The process of the bus's server, and since when.
    process: Option<(ProcessId, Instant)>,
    /// Whether there was another process before.
    had_other: bool,
    look: Option<Look>,
}

/// See the module.
pub(super) struct OldRows {
    known: Mutex<Known>,
    /// Counts the looks.
    looks: watch::Sender<u64>,
}

impl Default for OldRows {
    fn default() -> Self {
        Self {
            known: Mutex::default(),
            looks: watch::Sender::new(0),
        }
    }
}

impl OldRows {
    /// The bus is up in this process of its server. Whether it was up in another one before.
    pub(super) fn up(&self, process: &ProcessId, now: Instant) -> bool {
        let mut known = lock(&self.known);
        match &known.process {
            Some((before, _)) if before == process => return false,
            Some(_) => known.had_other = true,
            None => {}
        }
        known.process = Some((process.clone(), now));
        known.had_other
    }

    /// Whether the bus's server has been the same process for so long.
    pub(super) fn is_settled_for(&self, time: Duration) -> bool {
        let known = lock(&self.known);
        let mut process = known.process.iter();
        process.any(|(_, since)| since.elapsed() >= time)
    }

    /// What the database says of the other nodes now; and whether this node has messages that it cannot save.
    pub(super) fn looked(
        &self,
        others: &[SeenNode],
        is_behind: bool,
        hears: impl Fn(&SeenNode) -> bool,
        now: Instant,
    ) {
        let lives = |node: &&SeenNode| node.age <= LIFE || hears(node);
        let living = || others.iter().filter(lives);
        let longest = living().map(|node| node.age).max().unwrap_or_default();
        let look = Look {
            at: now,
            somebody_is_behind: is_behind || living().any(|node| node.is_behind),
            oldest: now.checked_sub(longest).unwrap_or(now),
        };
        lock(&self.known).look = Some(look);
        self.looks.send_modify(|looks| *looks += 1);
    }

    /// Whether nodes should say often how far they are.
    pub(super) fn are_awaited(&self, now: Instant) -> bool {
        let known = lock(&self.known);
        known.had_other && known.pause(now).is_some()
    }

    /// Waits until the rows are in the database, or have been awaited for long.
    pub(super) async fn wait(&self) {
        let mut looks = self.looks.subscribe();
        loop {
            let pause = lock(&self.known).pause(Instant::now());
            let Some(pause) = pause else { return };
            tokio::select! {
                _ = looks.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}

impl Known {
    /// How long to wait for the next look at least; `None` if there is nothing to wait for.
    fn pause(&self, now: Instant) -> Option<Duration> {
        let (_, since) = self.process.as_ref()?;
        let waited = now.saturating_duration_since(*since);
        if waited < SHORTEST {
            return Some(SHORTEST - waited);
        }
        // A program that shows itself to nobody in the database has no looks.
        let look = self.look.as_ref()?;
        let is_new = !self.had_other || (look.at >= *since && look.oldest >= *since + NOTICED);
        if is_new && !look.somebody_is_behind {
            return None;
        }
        LONGEST.checked_sub(waited).filter(|left| !left.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "first";

    fn node(age: Duration, is_behind: bool) -> SeenNode {
        SeenNode {
            id: 7,
            seen_at: 0,
            age,
            tells: true,
            is_behind,
        }
    }

    /// A node whose bus has become another process at this time.
    fn changed(at: Instant) -> OldRows {
        let rows = OldRows::default();
        assert!(!rows.up(&ProcessId::new(FIRST), at));
        assert!(!rows.up(&ProcessId::new(FIRST), at));
        assert!(rows.up(&ProcessId::new("second"), at));
        rows
    }

    fn pause(rows: &OldRows, now: Instant) -> Option<Duration> {
        lock(&rows.known).pause(now)
    }

    #[test]
    fn it_waits_for_a_node_that_is_behind_but_not_for_ever() {
        let begun = Instant::now();
        let rows = changed(begun);
        let at = |millis| begun + Duration::from_millis(millis);
        assert_eq!(pause(&rows, at(400)), Some(Duration::from_millis(600)));
        let moment = Duration::from_millis(100);
        rows.looked(&[node(moment, true)], false, |_| true, at(1_000));
        assert!(pause(&rows, at(1_000)).is_some());
        assert!(rows.are_awaited(at(1_000)));
        assert_eq!(pause(&rows, at(5_000)), None, "it goes on");
        rows.looked(&[node(moment, false)], false, |_| true, at(2_000));
        assert_eq!(pause(&rows, at(2_000)), None);
        assert!(!rows.are_awaited(at(2_000)));
    }

    #[test]
    fn this_node_may_be_the_one_that_is_behind() {
        let begun = Instant::now();
        let rows = changed(begun);
        let now = begun + Duration::from_millis(1_500);
        rows.looked(&[], true, |_| true, now);
        assert!(pause(&rows, now).is_some());
        rows.looked(&[], false, |_| true, now);
        assert_eq!(pause(&rows, now), None);
    }

    #[test]
    fn what_a_node_has_said_before_the_change_does_not_count() {
        let begun = Instant::now();
        let rows = changed(begun);
        let now = begun + Duration::from_millis(1_500);
        let older = Duration::from_millis(1_200);
        rows.looked(&[node(older, false)], false, |_| true, now);
        assert!(pause(&rows, now).is_some());
    }

    #[test]
    fn a_silent_node_is_awaited_while_the_bus_hears_it() {
        let begun = Instant::now();
        let rows = changed(begun);
        let now = begun + Duration::from_millis(1_500);
        let silent = [node(Duration::from_secs(4), false)];
        rows.looked(&silent, false, |_| true, now);
        assert!(pause(&rows, now).is_some());
        rows.looked(&silent, false, |_| false, now);
        assert_eq!(pause(&rows, now), None);
    }

    #[test]
    fn a_node_that_starts_waits_for_what_it_sees_and_without_looks_for_a_second() {
        let begun = Instant::now();
        let rows = OldRows::default();
        assert_eq!(pause(&rows, begun), None, "nothing can be opened yet");
        rows.up(&ProcessId::new(FIRST), begun);
        let now = begun + SHORTEST;
        assert_eq!(pause(&rows, now), None);
        let older = Duration::from_secs(1);
        rows.looked(&[node(older, true)], false, |_| true, now);
        assert!(pause(&rows, now).is_some());
        assert!(!rows.are_awaited(now), "its own start is no news to others");
        rows.looked(&[node(older, false)], false, |_| true, now);
        assert_eq!(pause(&rows, now), None);
    }
}
