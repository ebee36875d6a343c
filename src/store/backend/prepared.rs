//! [`Prepared`]: what opening a database has done to it.

/// What opening a database has done to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prepared {
    /// The names of the migrations that were run.
    pub migrations: Vec<String>,
    /// Rows that the previous application had written after its table was taken over. They are messages of
    /// `random:lobby` now, like the rows before them.
    pub adopted: u64,
}

impl Prepared {
    /// Logs what was done.
    pub fn log(&self) {
        for name in &self.migrations {
            tracing::info!(%name, "store.migrated");
        }
        if self.adopted > 0 {
            tracing::info!(rows = self.adopted, "store.adopted");
        }
    }
}
