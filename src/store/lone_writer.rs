//! [`LoneWriter`]: a connection that writes where no server runs, and so no [`DbWriter`].
//!
//! [`DbWriter`]: super::DbWriter

use super::backend::{Connection, Housekeeper, Pooled, Role};
use super::{Store, StoreError};

pub(super) struct LoneWriter {
    pooled: Pooled,
    housekeeper: Housekeeper,
}

impl Store {
    /// The one who writes while this store is open.
    pub(super) fn lone_writer(&self) -> Result<LoneWriter, StoreError> {
        let writer = self.backend.pool(Role::Writer { strict: true })?;
        Ok(LoneWriter {
            pooled: writer.get()?,
            housekeeper: self.backend.housekeeper()?,
        })
    }
}

impl LoneWriter {
    pub(super) fn connection(&mut self) -> Connection<'_> {
        self.pooled.connection()
    }

    /// Commits all of `body`, or nothing. Keeps SQLite's write-ahead log short.
    pub(super) fn commit<T, E: From<diesel::result::Error>>(
        &mut self,
        body: impl FnOnce(&mut Connection<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let done = self.pooled.connection().transaction(body)?;
        self.housekeeper.committed(&mut self.pooled)?;
        Ok(done)
    }
}
