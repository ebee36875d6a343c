//! `slackir health`, `slackir completions` and `slackir man`: for containers, shells and packages.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap_complete::generate;

use crate::server::config::{Cli, CompletionsConfig, HealthConfig, ManConfig};
use crate::server::console::{OutputError, print};
use crate::server::probe;

/// The longest wait for a server's answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A command could not do its work, or the server is not well.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServiceCommandError {
    /// The server does not answer.
    #[error("no server answers at {address}: {source}")]
    NoAnswer {
        /// Its address.
        address: SocketAddr,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The server has answered, and not with 200.
    #[error("the server at {address} answers {status} to {path}: {line}")]
    Unwell {
        /// Its address.
        address: SocketAddr,
        /// What was asked.
        path: &'static str,
        /// The status of the answer.
        status: u16,
        /// The first line of the answer.
        line: String,
    },
    /// The pages cannot be written.
    #[error("cannot write into {}: {source}", folder.display())]
    Write {
        /// The folder.
        folder: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// Standard output.
    #[error("{0}")]
    Output(#[from] OutputError),
}

/// Asks the server at the address of the settings, and prints its answer.
///
/// # Errors
/// If the server does not answer with 200.
pub(crate) fn health(config: &HealthConfig) -> Result<(), ServiceCommandError> {
    let path = if config.ready { "/readyz" } else { "/healthz" };
    let serve = &config.serve;
    let address = probe::reachable(serve.operators_address());
    let answer = probe::get((address, serve.operators_have_tls()), path, PATIENCE)
        .map_err(|source| ServiceCommandError::NoAnswer { address, source })?;
    if answer.status != 200 {
        return Err(ServiceCommandError::Unwell {
            address,
            path,
            status: answer.status,
            line: answer.line,
        });
    }
    print(answer.line)?;
    Ok(())
}

/// Prints a script that completes the commands and flags in a shell.
///
/// # Errors
/// If standard output cannot be written.
pub(crate) fn completions(config: &CompletionsConfig) -> Result<(), ServiceCommandError> {
    let mut script = Vec::new();
    generate(config.shell, &mut Cli::whole(), "slackir", &mut script);
    print(String::from_utf8_lossy(&script).trim_end())?;
    Ok(())
}

/// Writes a manual page for each command.
///
/// # Errors
/// If the folder cannot be written.
pub(crate) fn man(config: &ManConfig) -> Result<(), ServiceCommandError> {
    let folder = &config.folder;
    std::fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(Cli::whole(), folder))
        .map_err(|source| ServiceCommandError::Write {
            folder: folder.clone(),
            source,
        })
}
