//! [`StoredRevocations`]: the revocations that outlive a restart.

use std::time::SystemTime;

use crate::metrics::Query;
use crate::revocation::{MAX_REVOCATIONS, Revocation, RevokedSubject};
use crate::store::backend::error::AnyError;
use crate::store::tables::revocation::{self, RevocationChange};
use crate::store::write::DbWriterHandle;

/// The table of [`Revocation`]s. The writer changes it between two batches of messages. Cloning is cheap.
#[derive(Clone)]
pub struct StoredRevocations {
    writer: DbWriterHandle,
}

named_debug!(StoredRevocations);

/// The table cannot be read or written. After a failed change, try again: the row may be stored.
#[derive(Debug, thiserror::Error)]
#[error("the database cannot keep revocations at present: {0}")]
pub struct RevocationsUnavailable(#[source] AnyError);

impl StoredRevocations {
    /// The table of this writer's database.
    pub fn new(writer: &DbWriterHandle) -> Self {
        Self {
            writer: writer.clone(),
        }
    }

    /// The revocations that have not ended at this time. If there are more than 100,000, the last to end.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn load(&self, now: SystemTime) -> Result<Vec<Revocation>, RevocationsUnavailable> {
        let read = self
            .writer
            .look(Query::Other, move |connection| {
                revocation::in_force(connection, now, MAX_REVOCATIONS)
            })
            .await;
        read.map_err(RevocationsUnavailable)
    }

    /// Stores a revocation. If its subject has one, the later time of both counts. Returns once it is committed.
    ///
    /// # Errors
    /// If the database does not commit it.
    pub async fn put(&self, revocation: &Revocation) -> Result<(), RevocationsUnavailable> {
        let change = RevocationChange::Put(revocation.clone());
        self.change(change).await.map(drop)
    }

    /// Deletes the revocation of a subject. Returns whether there was one, once the deletion is committed.
    ///
    /// # Errors
    /// If the database does not commit it.
    pub async fn remove(&self, subject: &RevokedSubject) -> Result<bool, RevocationsUnavailable> {
        let change = RevocationChange::Remove(subject.clone());
        Ok(self.change(change).await? > 0)
    }

    /// Deletes the revocations that have ended at this time, a thousand in a transaction.
    ///
    /// # Errors
    /// If the database does not commit it. Deleted rows stay deleted.
    pub async fn prune(&self, now: SystemTime) -> Result<(), RevocationsUnavailable> {
        while self.change(RevocationChange::Prune(now)).await? > 0 {}
        Ok(())
    }

    async fn change(&self, change: RevocationChange) -> Result<usize, RevocationsUnavailable> {
        let changed = self.writer.change_revocations(change).await;
        changed.map_err(RevocationsUnavailable)
    }
}
