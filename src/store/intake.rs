//! [`Intake`]: where publishers leave rows for the writer.
//!
//! The writer is told of the first row that comes while it sleeps, and takes what came since at its
//! own pace. A message for each row would wake its thread for each row.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::pubsub::LogEntry;

#[derive(Default)]
pub(super) struct Intake {
    rows: Mutex<Vec<Arc<LogEntry>>>,
    /// Whether the writer knows that there are rows, or will look without being told.
    told: AtomicBool,
}

impl Intake {
    /// Leaves a row. Whether the writer has to be told.
    #[must_use]
    pub(super) fn put(&self, row: Arc<LogEntry>) -> bool {
        self.rows().push(row);
        !self.told.swap(true, Ordering::AcqRel)
    }

    /// Takes all rows, in order.
    pub(super) fn take(&self) -> Vec<Arc<LogEntry>> {
        std::mem::take(&mut *self.rows())
    }

    /// The writer goes to sleep, unless there are rows. Whether it may.
    pub(super) fn sleep(&self) -> bool {
        self.told.store(false, Ordering::Release);
        // A row that came before this was put by someone who did not tell.
        self.rows().is_empty() || self.told.swap(true, Ordering::AcqRel)
    }

    fn rows(&self) -> MutexGuard<'_, Vec<Arc<LogEntry>>> {
        // Only a failed allocation can panic under this lock; the rows before it are whole.
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
