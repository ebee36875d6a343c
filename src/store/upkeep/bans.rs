//! [`StoredBans`]: the bans that outlive a restart.

use std::time::SystemTime;

use crate::ban::{Ban, MAX_BANS};
use crate::metrics::Query;
use crate::store::backend::error::AnyError;
use crate::store::tables::ban::{self, BanChange};
use crate::store::write::DbWriterHandle;

/// The table of [`Ban`]s. The writer changes it between two batches of messages. Cloning is cheap.
#[derive(Clone)]
pub struct StoredBans {
    writer: DbWriterHandle,
}

named_debug!(StoredBans);

/// The table cannot be read or written. After a failed change, try again: the row may be stored.
#[derive(Debug, thiserror::Error)]
#[error("the database cannot keep bans at present: {0}")]
pub struct BansUnavailable(#[source] AnyError);

impl StoredBans {
    /// The table of this writer's database.
    pub fn new(writer: &DbWriterHandle) -> Self {
        Self {
            writer: writer.clone(),
        }
    }

    /// The bans that have not ended at this time. If there are more than 100,000, the last to end.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn load(&self, now: SystemTime) -> Result<Vec<Ban>, BansUnavailable> {
        let read = self
            .writer
            .look(Query::Other, move |connection| {
                ban::in_force(connection, now, MAX_BANS)
            })
            .await;
        read.map_err(BansUnavailable)
    }

    /// Stores a ban, in place of one of the same kind and target. Returns once it is committed.
    ///
    /// # Errors
    /// If the database does not commit it.
    pub async fn put(&self, ban: &Ban) -> Result<(), BansUnavailable> {
        self.change(BanChange::Put(ban.clone())).await.map(drop)
    }

    /// Deletes the ban of this kind and target. Returns whether there was one, once the deletion is committed.
    ///
    /// # Errors
    /// If the database does not commit it.
    pub async fn remove(&self, ban: &Ban) -> Result<bool, BansUnavailable> {
        let change = BanChange::Remove(ban.kind, ban.target.clone());
        Ok(self.change(change).await? > 0)
    }

    /// Deletes the bans that have ended at this time, a thousand in a transaction.
    ///
    /// # Errors
    /// If the database does not commit it. Deleted rows stay deleted.
    pub async fn prune(&self, now: SystemTime) -> Result<(), BansUnavailable> {
        while self.change(BanChange::Prune(now)).await? > 0 {}
        Ok(())
    }

    async fn change(&self, change: BanChange) -> Result<usize, BansUnavailable> {
        self.writer
            .change_bans(change)
            .await
            .map_err(BansUnavailable)
    }
}
