//! [`Prepared`]: the changes of a database when it was opened.

/// The changes of a database when it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Prepared {
    /// The names of the migrations that were applied.
    pub migrations: Vec<String>,
    /// The number of rows that the previous application had written after its table was taken over. They are messages
    /// of `random:lobby` now, like the earlier rows.
    pub adopted: u64,
}

impl Prepared {
    /// Logs the changes.
    pub fn log(&self) {
        for name in &self.migrations {
            tracing::info!(%name, "store.migrated");
        }
        if self.adopted > 0 {
            tracing::info!(rows = self.adopted, "store.adopted");
        }
    }
}
