//! `slackir backup`: copies SQLite's file, also beside a running server.

use crate::server::config::BackupConfig;
use crate::server::console::{OutputError, print};
use crate::store::{BackupError, back_up};

/// There is no backup, or the result could not be printed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackupCommandError {
    /// The backup.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// Standard output.
    #[error("{0}")]
    Output(#[from] OutputError),
}

impl BackupCommandError {
    /// The setting whose value causes the error, by its name in the config file.
    pub(crate) fn setting(&self) -> Option<&'static str> {
        match self {
            Self::Backup(BackupError::Store(error)) => error.setting(),
            Self::Backup(_) | Self::Output(_) => None,
        }
    }
}

/// Copies the database to a new file, and prints the size.
///
/// # Errors
/// If there is no backup.
pub(crate) fn backup(config: &BackupConfig) -> Result<(), BackupCommandError> {
    let bytes = back_up(&config.database.database_url, &config.output)?;
    let file = config.output.display();
    print(format_args!(
        "Backed up the database to {file} ({bytes} bytes)."
    ))?;
    Ok(())
}
