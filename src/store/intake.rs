//! [`Intake`]: where publishers leave rows for the writer.
//!
//! The writer is told of the first row that comes while it sleeps, and takes what came since at its
//! own pace. A message for each row would wake its thread for each row.

use std::sync::{Mutex, MutexGuard, PoisonError};

pub(super) struct Intake<T> {
    shelf: Mutex<Shelf<T>>,
}

struct Shelf<T> {
    rows: Vec<T>,
    /// Whether somebody waits until one of them is committed.
    awaited: bool,
    writer: Attention,
}

/// What the writer has to be told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Attention {
    /// That there are rows.
    Asleep,
    /// That somebody waits for a row; it looks for the others by itself, after its pause.
    Pausing,
    /// Nothing: it will look.
    Awake,
}

impl<T> Default for Intake<T> {
    fn default() -> Self {
        Self {
            shelf: Mutex::new(Shelf {
                rows: Vec::new(),
                awaited: false,
                writer: Attention::Asleep,
            }),
        }
    }
}

impl<T> Intake<T> {
    /// Leaves a row; `awaited` when somebody waits until it is committed. Whether the writer has to
    /// be told.
    #[must_use]
    pub(super) fn put(&self, row: T, awaited: bool) -> bool {
        let mut shelf = self.shelf();
        shelf.rows.push(row);
        shelf.awaited |= awaited;
        let tell = match shelf.writer {
            Attention::Asleep => true,
            Attention::Pausing => awaited,
            Attention::Awake => false,
        };
        if tell {
            shelf.writer = Attention::Awake;
        }
        tell
    }

    /// Takes all rows, in order. The writer is awake from now on.
    pub(super) fn take(&self) -> Vec<T> {
        let mut shelf = self.shelf();
        shelf.writer = Attention::Awake;
        shelf.awaited = false;
        std::mem::take(&mut shelf.rows)
    }

    /// The writer goes to sleep, unless there are rows. Whether it may.
    #[must_use]
    pub(super) fn sleep(&self) -> bool {
        let mut shelf = self.shelf();
        let may = shelf.rows.is_empty();
        if may {
            shelf.writer = Attention::Asleep;
        }
        may
    }

    /// The writer pauses, unless somebody waits for a row. Whether it may.
    #[must_use]
    pub(super) fn pause(&self) -> bool {
        let mut shelf = self.shelf();
        let may = !shelf.awaited;
        if may {
            shelf.writer = Attention::Pausing;
        }
        may
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf<T>> {
        // Only a failed allocation can panic under this lock; the rows before it are whole.
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
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
