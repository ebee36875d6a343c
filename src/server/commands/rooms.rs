//! `slackir rooms explain` and `slackir rooms try`: look at a configuration without a server.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::server::config::{CliError, RoomsAction, ServeConfig};
use crate::server::console::{OutputError, print};
use crate::server::explain::explain;
use crate::server::rooms::IdentityError;
use crate::server::trial::{InvalidStep, Trial, parse};

/// The rooms could not be looked at.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RoomsCommandError {
    /// The config file.
    #[error(transparent)]
    Settings(#[from] CliError),
    /// The identity needs a secret.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The frames cannot be read.
    #[error("cannot read {file}: {source}")]
    Read {
        /// The file, or standard input.
        file: String,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// A line of the frames is no step.
    #[error("{file}, {source}")]
    Step {
        /// The file, or standard input.
        file: String,
        /// The line and its problem.
        #[source]
        source: InvalidStep,
    },
    /// Standard output.
    #[error("{0}")]
    Output(#[from] OutputError),
}

/// Prints the explanation or the trial of a config file.
///
/// # Errors
/// If a file cannot be read or is not valid.
pub(crate) fn rooms(action: &RoomsAction) -> Result<(), RoomsCommandError> {
    match action {
        RoomsAction::Explain { file } => {
            let config = match file {
                Some(file) => ServeConfig::from_file_without_secrets(file)?,
                None => ServeConfig::default(),
            };
            print(explain(&config).trim_end())?;
            Ok(())
        }
        RoomsAction::Try {
            file,
            frames,
            secret_key_base,
            secret_key_base_file: _,
        } => {
            let mut config = ServeConfig::from_file(file)?;
            if secret_key_base.is_some() {
                config.api.secret_key_base.clone_from(secret_key_base);
            }
            try_out(&config, frames.as_ref())
        }
    }
}

fn try_out(config: &ServeConfig, frames: Option<&PathBuf>) -> Result<(), RoomsCommandError> {
    let file = frames.map_or_else(
        || "standard input".to_owned(),
        |frames| frames.display().to_string(),
    );
    let text = match read(frames.map(PathBuf::as_path)) {
        Ok(text) => text,
        Err(source) => return Err(RoomsCommandError::Read { file, source }),
    };
    let steps = match parse(&text) {
        Ok(steps) => steps,
        Err(source) => return Err(RoomsCommandError::Step { file, source }),
    };
    actix_rt::System::new().block_on(async {
        let mut trial = Trial::new(config)?;
        for step in steps {
            for line in trial.take(step).await {
                print(line)?;
            }
        }
        Ok(())
    })
}

fn read(frames: Option<&Path>) -> io::Result<String> {
    match frames {
        Some(frames) => std::fs::read_to_string(frames),
        None => {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text)?;
            Ok(text)
        }
    }
}
