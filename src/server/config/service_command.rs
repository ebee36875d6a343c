//! The arguments of `slackir health`, `slackir completions` and `slackir man`.

use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;

use super::ServeConfig;

/// `slackir health`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "It asks the server at the host and the port of the settings, from this machine. The exit code is 0 \
    if the answer is 200, and 1 otherwise."
)]
pub(crate) struct HealthConfig {
    /// Ask /readyz in place of /healthz: whether the server should get new clients
    #[arg(long)]
    pub ready: bool,
    /// The settings.
    #[command(flatten)]
    pub serve: ServeConfig,
}

/// `slackir completions`.
#[derive(Args, Clone, Debug)]
pub(crate) struct CompletionsConfig {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    pub shell: Shell,
}

/// `slackir man`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ManConfig {
    /// Folder for the pages; it is created if it is missing
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
}
