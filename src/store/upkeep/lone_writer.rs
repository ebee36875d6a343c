//! [`LoneWriter`]: a connection that writes while no server, and so no [`DbWriter`], runs on the database.
//!
//! [`DbWriter`]: crate::store::DbWriter

use crate::store::backend::{DbConnection, Fault, Housekeeper, Pooled, Role};
use crate::store::opened::Store;

pub(in crate::store) struct LoneWriter {
    pooled: Pooled,
    housekeeper: Housekeeper,
}

impl Store {
    /// A connection that writes.
    pub(in crate::store) fn lone_writer(&self) -> Result<LoneWriter, Fault> {
        let writer = self.backend.pool(Role::Writer { strict: true })?;
        Ok(LoneWriter {
            pooled: writer.get()?,
            housekeeper: self.backend.housekeeper()?,
        })
    }
}

impl LoneWriter {
    pub(in crate::store) fn connection(&mut self) -> DbConnection<'_> {
        self.pooled.connection()
    }

    /// Commits all of `body`, or nothing. Keeps SQLite's write-ahead log short.
    pub(in crate::store) fn commit<T, E: From<diesel::result::Error>>(
        &mut self,
        body: impl FnOnce(&mut DbConnection<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let done = self.pooled.connection().transaction(body)?;
        self.housekeeper.committed(&mut self.pooled)?;
        Ok(done)
    }
}
