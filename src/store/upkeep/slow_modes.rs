//! [`StoredSlowModes`]: the slow modes that outlive a restart.

use std::time::SystemTime;

use crate::metrics::Query;
use crate::slow_mode::{MAX_SLOW_MODES, SlowMode};
use crate::store::backend::error::AnyError;
use crate::store::tables::slow_mode::{self, SlowModeChange};
use crate::store::write::DbWriterHandle;

/// The table of [`SlowMode`]s. The writer changes it between two batches of messages. Cloning is cheap.
#[derive(Clone)]
pub(crate) struct StoredSlowModes {
    writer: DbWriterHandle,
}

named_debug!(StoredSlowModes);

/// The table cannot be read or written. After a failed change, try again: the row may be stored.
#[derive(Debug, thiserror::Error)]
#[error("the database cannot keep slow modes at present: {0}")]
pub(crate) struct SlowModesUnavailable(#[source] AnyError);

impl StoredSlowModes {
    /// The table of this writer's database.
    pub(crate) fn new(writer: &DbWriterHandle) -> Self {
        Self {
            writer: writer.clone(),
        }
    }

    /// The slow modes that have not ended at this time. If there are more than 10,000, the newest.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub(crate) async fn load(
        &self,
        now: SystemTime,
    ) -> Result<Vec<SlowMode>, SlowModesUnavailable> {
        let read = self
            .writer
            .look(Query::Other, move |connection| {
                slow_mode::in_force(connection, now, MAX_SLOW_MODES)
            })
            .await;
        read.map_err(SlowModesUnavailable)
    }

    /// Stores a slow mode, in place of that of its topic. Returns once it is committed.
    ///
    /// # Errors
    /// If the database does not commit it.
    pub(crate) async fn put(&self, mode: &SlowMode) -> Result<(), SlowModesUnavailable> {
        self.change(SlowModeChange::Put(mode.clone()))
            .await
            .map(drop)
    }

    /// Deletes the slow mode of a topic. Returns whether there was one, once the deletion is committed.
    ///
    /// # Errors
    /// If the database does not commit it.
    pub(crate) async fn remove(&self, topic: &str) -> Result<bool, SlowModesUnavailable> {
        let change = SlowModeChange::Remove(topic.to_owned());
        Ok(self.change(change).await? > 0)
    }

    /// Deletes the slow modes that have ended at this time.
    ///
    /// # Errors
    /// If the database does not commit it.
    pub(crate) async fn prune(&self, now: SystemTime) -> Result<(), SlowModesUnavailable> {
        self.change(SlowModeChange::Prune(now)).await.map(drop)
    }

    async fn change(&self, change: SlowModeChange) -> Result<usize, SlowModesUnavailable> {
        self.writer
            .change_slow_modes(change)
            .await
            .map_err(SlowModesUnavailable)
    }
}
