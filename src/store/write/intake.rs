//! [`Intake`]: rows on their way from publishers to the writer.
//!
//! Only the first row wakes a sleeping writer; the writer takes later rows by itself. An actor's message for each row
//! would wake its thread for each row.

use std::sync::{Mutex, MutexGuard, PoisonError};

pub(in crate::store) struct Intake<T> {
    queue: Mutex<IntakeQueue<T>>,
}

struct IntakeQueue<T> {
    rows: Vec<T>,
    /// Whether a caller waits until one of the rows is committed.
    awaited: bool,
    writer: Attention,
}

/// Which rows wake the writer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Attention {
    /// Every row.
    Asleep,
    /// Rows that a caller waits for. The writer takes the others after its pause.
    Pausing,
    /// None: the writer takes the rows soon.
    Awake,
}

impl<T> Default for Intake<T> {
    fn default() -> Self {
        Self {
            queue: Mutex::new(IntakeQueue {
                rows: Vec::new(),
                awaited: false,
                writer: Attention::Asleep,
            }),
        }
    }
}

impl<T> Intake<T> {
    /// Adds a row. `awaited`: a caller waits until it is committed. Returns whether the writer must be woken.
    #[must_use]
    pub(in crate::store) fn put(&self, row: T, awaited: bool) -> bool {
        let mut queue = self.lock();
        queue.rows.push(row);
        queue.awaited |= awaited;
        let wakes = match queue.writer {
            Attention::Asleep => true,
            Attention::Pausing => awaited,
            Attention::Awake => false,
        };
        if wakes {
            queue.writer = Attention::Awake;
        }
        wakes
    }

    /// Takes all rows, in order. From now on the writer is awake.
    pub(in crate::store) fn take(&self) -> Vec<T> {
        let mut queue = self.lock();
        queue.writer = Attention::Awake;
        queue.awaited = false;
        std::mem::take(&mut queue.rows)
    }

    /// The writer goes to sleep, unless there are rows. Returns whether it does.
    #[must_use]
    pub(in crate::store) fn sleep(&self) -> bool {
        let mut queue = self.lock();
        let can = queue.rows.is_empty();
        if can {
            queue.writer = Attention::Asleep;
        }
        can
    }

    /// The writer pauses, unless a caller waits for a row. Returns whether it does.
    #[must_use]
    pub(in crate::store) fn pause(&self) -> bool {
        let mut queue = self.lock();
        let can = !queue.awaited;
        if can {
            queue.writer = Attention::Pausing;
        }
        can
    }

    fn lock(&self) -> MutexGuard<'_, IntakeQueue<T>> {
        // Only a failed allocation can panic under this lock. The rows are whole then.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::Intake;

    #[test]
    fn the_first_row_wakes_a_writer_that_sleeps() {
        let intake = Intake::default();
        assert!(intake.put(1, false));
        assert!(!intake.put(2, false));
        assert!(!intake.put(3, true), "it takes them soon");
        assert!(!intake.sleep(), "there are rows");
        assert_eq!(intake.take(), [1, 2, 3]);
        assert!(!intake.put(4, false), "it is awake");
        assert_eq!(intake.take(), [4]);
        assert!(intake.sleep());
        assert!(intake.put(5, false));
    }

    #[test]
    fn awaited_rows_wake_a_writer_that_pauses() {
        let intake = Intake::default();
        assert!(intake.put(1, true));
        assert!(!intake.pause(), "somebody waits");
        assert_eq!(intake.take(), [1]);
        assert!(intake.pause());
        assert!(!intake.put(2, false));
        assert!(intake.put(3, true));
        assert!(!intake.put(4, true), "it is awake");
        assert_eq!(intake.take(), [2, 3, 4]);
        assert!(intake.pause());
        assert!(!intake.put(5, false));
        assert_eq!(intake.take(), [5], "its pause is over");
    }
}
