//! `slackir migrate`: migrates the database, without a server.

use crate::server::config::DatabaseConfig;
use crate::server::console::{OutputError, print};
use crate::store::{Prepared, Store, StoreError, StoreOptions};

/// The database could not be migrated, or the result not printed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MigrateError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Standard output.
    #[error("{0}")]
    Output(#[from] OutputError),
}

impl MigrateError {
    /// The setting whose value causes the error, by its name in the config file.
    pub(crate) fn setting(&self) -> Option<&'static str> {
        match self {
            Self::Store(error) => error.setting(),
            Self::Output(_) => None,
        }
    }
}

/// Runs the pending migrations of the database, and prints their names.
///
/// # Errors
/// If the database cannot be used.
pub(crate) fn migrate(config: &DatabaseConfig) -> Result<(), MigrateError> {
    let options = StoreOptions {
        pool_size: 1,
        adopt_ecto_messages: true,
    };
    let prepared = Store::migrate(&config.database_url, options)?;
    if prepared == Prepared::default() {
        print("The database is up to date.")?;
    }
    for name in &prepared.migrations {
        print(format_args!("Migrated {name}"))?;
    }
    if prepared.adopted > 0 {
        let adopted = prepared.adopted;
        print(format_args!(
            "Adopted messages of another application: {adopted}"
        ))?;
    }
    Ok(())
}
