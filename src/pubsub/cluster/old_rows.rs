//! [`OldRows`]: whether the database has the messages of the runs that ended with the data of the bus's server.
//!
//! A new run goes on behind what the database has, and a retry is recognised by what it has. A node may hold messages of
//! the old run that nobody else has: it cannot save at the moment, or does not know yet that the run has ended. So a new
//! run waits until each living node has come to the new process or says that it is without the bus, and says that it
//! holds no such message. It does not wait for ever: without the database all nodes go on, and what they hold enters the
//! history late.

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
/// After this time a node that cannot save knows it, and says so.
const NOTICED: Duration = Duration::from_millis(700);
/// A node without a sign of life for so long is dead, unless the bus hears it.
const LIFE: Duration = Duration::from_secs(3);

/// What the database says of the nodes, this one included.
struct Look {
    at: Instant,
    /// Whether a living node may have messages of an old run that are not saved.
    somebody_is_behind: bool,
    /// Whether a living node may still be in the old process.
    somebody_is_elsewhere: bool,
    /// When the living node with the oldest sign of life has given it.
    oldest: Instant,
}

#[derive(Default)]
struct Known {
    /// The process of the bus's server, and since when.
    process: Option<(ProcessId, Instant)>,
    /// Whether there was another process before.
    had_other: bool,
    /// When this node handed the store what it had left of old runs, or will.
    rescued: Option<Instant>,
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
            Some(_) => {
                known.had_other = true;
                known.rescued = Some(now);
            }
            None => {}
        }
        known.process = Some((process.clone(), now));
        known.had_other
    }

    /// The bus is away. This node will hand the store what it has of a run that may have ended, at this time.
    pub(super) fn down(&self, rescue: Instant) {
        lock(&self.known).rescued = Some(rescue);
    }

    /// Whether this node may have messages of an old run that are on their way to the database.
    pub(super) fn is_behind(&self, now: Instant) -> bool {
        let rescued = lock(&self.known).rescued;
        rescued.is_some_and(|rescued| now < rescued + NOTICED)
    }

    /// Since when the bus's server is this process.
    pub(super) fn since(&self) -> Option<Instant> {
        lock(&self.known).process.as_ref().map(|(_, since)| *since)
    }

    /// Whether the bus's server has been the same process for so long.
    pub(super) fn is_settled_for(&self, time: Duration) -> bool {
        let known = lock(&self.known);
        let mut process = known.process.iter();
        process.any(|(_, since)| since.elapsed() >= time)
    }

    /// What the database says of the other nodes now; and whether this node is behind. `heard`: when a node was heard
    /// over the bus, if that was lately.
    pub(super) fn looked(
        &self,
        others: &[SeenNode],
        is_behind: bool,
        heard: impl Fn(&SeenNode) -> Option<Instant>,
        now: Instant,
    ) {
        let lives = |node: &&SeenNode| node.age <= LIFE || heard(node).is_some();
        let living = || others.iter().filter(lives);
        let said_at = |node: &SeenNode| now.checked_sub(node.age).unwrap_or(now);
        let mut known = lock(&self.known);
        let since = known.process.as_ref().map(|(_, since)| *since);
        let is_elsewhere =
            |node: &SeenNode| node.tells && Some(said_at(node)) > since && heard(node) < since;
        known.look = Some(Look {
            at: now,
            somebody_is_behind: is_behind || living().any(|node| node.is_behind),
            somebody_is_elsewhere: living().any(is_elsewhere),
            oldest: living().map(said_at).min().unwrap_or(now),
        });
        drop(known);
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
        let is_new = look.at >= *since && look.oldest >= *since + NOTICED;
        let is_there = !look.somebody_is_behind && !look.somebody_is_elsewhere;
        if (is_new || !self.had_other) && is_there {
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

    fn heard(_: &SeenNode) -> Option<Instant> {
        Some(Instant::now() + LONGEST)
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
        rows.looked(&[node(moment, true)], false, heard, at(1_000));
        assert!(pause(&rows, at(1_000)).is_some());
        assert!(rows.are_awaited(at(1_000)));
        assert_eq!(pause(&rows, at(5_000)), None, "it goes on");
        rows.looked(&[node(moment, false)], false, heard, at(2_000));
        assert_eq!(pause(&rows, at(2_000)), None);
        assert!(!rows.are_awaited(at(2_000)));
    }

    #[test]
    fn this_node_may_be_the_one_that_is_behind() {
        let begun = Instant::now();
        let rows = changed(begun);
        let now = begun + Duration::from_millis(1_500);
        rows.looked(&[], true, heard, now);
        assert!(pause(&rows, now).is_some());
        rows.looked(&[], false, heard, now);
        assert_eq!(pause(&rows, now), None);
    }

    #[test]
    fn what_a_node_has_said_before_the_change_does_not_count() {
        let begun = Instant::now();
        let rows = changed(begun);
        let now = begun + Duration::from_millis(1_500);
        let older = Duration::from_millis(1_200);
        rows.looked(&[node(older, false)], false, heard, now);
        assert!(pause(&rows, now).is_some());
    }

    #[test]
    fn a_silent_node_is_awaited_while_the_bus_hears_it() {
        let begun = Instant::now();
        let rows = changed(begun);
        let now = begun + Duration::from_millis(1_500);
        let silent = [node(Duration::from_secs(4), false)];
        rows.looked(&silent, false, heard, now);
        assert!(pause(&rows, now).is_some());
        rows.looked(&silent, false, |_| None, now);
        assert_eq!(pause(&rows, now), None);
    }

    #[test]
    fn a_node_in_the_old_process_is_awaited_and_one_without_the_bus_is_not() {
        let begun = Instant::now();
        let rows = changed(begun);
        let now = begun + Duration::from_millis(1_500);
        let mut other = node(Duration::ZERO, false);
        for (heard, tells, waits) in [
            (Some(begun), true, false),
            (begun.checked_sub(Duration::from_secs(1)), true, true),
            (None, true, true),
            (None, false, false),
        ] {
            other.tells = tells;
            rows.looked(&[other], false, |_| heard, now);
            assert_eq!(pause(&rows, now).is_some(), waits, "{heard:?} {tells}");
        }
        // A node that starts waits for the living, and not for one that may have died before.
        let rows = OldRows::default();
        rows.up(&ProcessId::new(FIRST), begun);
        for (age, waits) in [(100, true), (1_600, false)] {
            let other = node(Duration::from_millis(age), false);
            rows.looked(&[other], false, |_| None, now);
            assert_eq!(pause(&rows, now).is_some(), waits, "{age}");
        }
    }

    #[test]
    fn a_node_is_behind_for_a_moment_after_a_run_may_have_ended() {
        let begun = Instant::now();
        let at = |millis| begun + Duration::from_millis(millis);
        let rows = OldRows::default();
        rows.up(&ProcessId::new(FIRST), begun);
        assert!(!rows.is_behind(begun));
        rows.down(at(300));
        assert!(rows.is_behind(begun) && rows.is_behind(at(900)));
        assert!(!rows.is_behind(at(1_000)));
        rows.up(&ProcessId::new("second"), at(5_000));
        assert!(rows.is_behind(at(5_600)) && !rows.is_behind(at(5_700)));
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
        rows.looked(&[node(older, true)], false, heard, now);
        assert!(pause(&rows, now).is_some());
        assert!(!rows.are_awaited(now), "its own start is no news to others");
        rows.looked(&[node(older, false)], false, heard, now);
        assert_eq!(pause(&rows, now), None);
    }
}
