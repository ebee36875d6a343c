//! [`Intake`]: rows on their way from publishers to the writer.
//!
//! The first row wakes a sleeping writer; it takes later rows at its own pace. A message for each row would wake
//! its thread for each row.

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
    /// A row that a caller waits for. The writer takes the others after its pause.
    Pausing,
    /// None: it will look by itself.
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
    /// Leaves a row. `awaited`: a caller waits until it is committed. Returns whether the writer must be woken.
    #[must_use]
    pub(in crate::store) fn put(&self, row: T, awaited: bool) -> bool {
        let mut queue = self.lock();
        queue.rows.push(row);
        queue.awaited |= awaited;
        let tell = match queue.writer {
            Attention::Asleep => true,
            Attention::Pausing => awaited,
            Attention::Awake => false,
        };
        if tell {
            queue.writer = Attention::Awake;
        }
        tell
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
        let may = queue.rows.is_empty();
        if may {
            queue.writer = Attention::Asleep;
        }
        may
    }

    /// The writer pauses, unless a caller waits for a row. Returns whether it does.
    #[must_use]
    pub(in crate::store) fn pause(&self) -> bool {
        let mut queue = self.lock();
        let may = !queue.awaited;
        if may {
            queue.writer = Attention::Pausing;
        }
        may
    }

    fn lock(&self) -> MutexGuard<'_, IntakeQueue<T>> {
        // Only a failed allocation can panic under this lock; the rows before it are whole.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::Intake;

    #[test]
    fn a_writer_that_sleeps_is_told_of_the_first_row() {
        let intake = Intake::default();
        assert!(intake.put(1, false));
        assert!(!intake.put(2, false));
        assert!(!intake.put(3, true), "it will look");
        assert!(!intake.sleep(), "there are rows");
        assert_eq!(intake.take(), [1, 2, 3]);
        assert!(!intake.put(4, false), "it is awake");
        assert_eq!(intake.take(), [4]);
        assert!(intake.sleep());
        assert!(intake.put(5, false));
    }

    #[test]
    fn a_writer_that_pauses_is_told_of_rows_that_somebody_waits_for() {
        let intake = Intake::default();
        assert!(intake.put(1, true));
        assert!(!intake.pause(), "somebody waits");
        assert_eq!(intake.take(), [1]);
        assert!(intake.pause());
        assert!(!intake.put(2, false));
        assert!(intake.put(3, true));
        assert!(!intake.put(4, true), "it has been told");
        assert_eq!(intake.take(), [2, 3, 4]);
        assert!(intake.pause());
        assert!(!intake.put(5, false));
        assert_eq!(intake.take(), [5], "its pause is over");
    }
}
