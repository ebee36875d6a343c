//! [`Commits`]: counts the rows that are committed, and wakes their readers.

use tokio::sync::watch;

/// The number of settled rows since the start.
pub(in crate::store) struct Commits(watch::Sender<u64>);

impl Default for Commits {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl Commits {
    /// Call it after each transaction.
    pub(in crate::store) fn add(&self, rows: usize) {
        if rows > 0 {
            self.0.send_modify(|count| *count += rows as u64);
        }
    }

    pub(in crate::store) fn watch(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}
