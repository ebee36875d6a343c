//! [`Health`]: whether the writer, the committer and the database work. The writer sets it; other threads read it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The time between two checks: the writer checks the committer and the database.
pub(in crate::store) const CHECK_PERIOD: Duration = Duration::from_secs(1);
/// Without a check for this long, the writer counts as stuck.
const WRITER_PATIENCE: Duration = Duration::from_secs(10);

/// Written by the writer alone.
pub(in crate::store) struct Health {
    started: Instant,
    /// The time of the last check, in milliseconds since `started`.
    checked: AtomicU64,
    /// The fault of the database or the committer.
    fault: Mutex<Option<String>>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            checked: AtomicU64::new(0),
            fault: Mutex::default(),
        }
    }
}

impl Health {
    /// The result of a check: this fault, or none.
    pub(in crate::store) fn note(&self, fault: Option<String>) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.checked.store(now, Ordering::Release);
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    /// The fault, in words for the operator.
    pub(in crate::store) fn fault(&self) -> Option<String> {
        self.fault_at(self.started.elapsed())
    }

    fn fault_at(&self, now: Duration) -> Option<String> {
        let checked = Duration::from_millis(self.checked.load(Ordering::Acquire));
        let silent = now.saturating_sub(checked);
        if silent > WRITER_PATIENCE {
            let seconds = silent.as_secs();
            return Some(format!(
                "the thread that saves messages has been stuck for {seconds} seconds"
            ));
        }
        let fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        fault.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_that_does_not_look_is_stuck() {
        let health = Health::default();
        assert_eq!(health.fault(), None);
        assert_eq!(health.fault_at(WRITER_PATIENCE), None);
        let stuck = health.fault_at(WRITER_PATIENCE * 2).expect("it is stuck");
        assert!(stuck.contains("stuck for 20 seconds"), "{stuck}");
    }

    #[test]
    fn a_fault_holds_until_the_writer_finds_none() {
        let health = Health::default();
        health.note(Some("broken".to_owned()));
        assert_eq!(health.fault().as_deref(), Some("broken"));
        health.note(None);
        assert_eq!(health.fault(), None);
    }
}
