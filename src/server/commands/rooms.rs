//! `slackir rooms explain`: looks at a configuration without a server.

use crate::server::config::{RoomsAction, ServeConfig, SettingsError};
use crate::server::console::{OutputError, print};
use crate::server::explain::explain;

/// The rooms could not be looked at.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RoomsCommandError {
    /// The config file.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Standard output.
    #[error("{0}")]
    Output(#[from] OutputError),
}

/// Prints the explanation of a config file.
///
/// # Errors
/// If the file cannot be read or is not valid.
pub(crate) fn rooms(action: &RoomsAction) -> Result<(), RoomsCommandError> {
    match action {
        RoomsAction::Explain { file } => {
            let config = match file {
                Some(file) => ServeConfig::from_file(file)?,
                None => ServeConfig::default(),
            };
            print(explain(&config).trim_end())?;
        }
    }
    Ok(())
}
