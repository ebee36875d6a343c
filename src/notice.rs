//! [`Notice`]: limits log lines about an event that may happen very often.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::lock::lock;

/// The time between two lines.
const INTERVAL: Duration = Duration::from_secs(10);

/// Counts events, and decides when to log them.
#[derive(Default)]
pub(crate) struct Notice(Mutex<Counted>);

#[derive(Default)]
struct Counted {
    /// Events since the last line.
    untold: u64,
    told: Option<Instant>,
}

impl Notice {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(Counted {
            untold: 0,
            told: None,
        }))
    }

    /// Counts an event. Returns the number of events to log in a line now; `None` if no line is due.
    pub(crate) fn count(&self) -> Option<u64> {
        self.count_at(Instant::now())
    }

    fn count_at(&self, now: Instant) -> Option<u64> {
        let mut counted = lock(&self.0);
        counted.untold += 1;
        if counted.told.is_some_and(|told| now < told + INTERVAL) {
            return None;
        }
        counted.told = Some(now);
        Some(std::mem::take(&mut counted.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_event_has_its_line_and_the_next_line_counts_the_others() {
        let notice = Notice::default();
        let start = Instant::now();
        assert_eq!(notice.count_at(start), Some(1));
        assert_eq!(notice.count_at(start), None);
        assert_eq!(notice.count_at(start + INTERVAL / 2), None);
        assert_eq!(notice.count_at(start + INTERVAL), Some(3));
    }
}
