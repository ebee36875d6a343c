//! The arguments of `slackir config`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::ServeConfig;

/// `slackir config`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ConfigCommand {
    /// What to do with the configuration
    #[command(subcommand)]
    pub action: ConfigAction,
}

/// The subcommands of `slackir config`.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum ConfigAction {
    /// Write a config file with comments, and with random secrets
    Init {
        /// File to write; an existing file is never overwritten
        #[arg(default_value = "slackir.toml", value_name = "FILE")]
        file: PathBuf,
    },
    /// Print all settings that are in force, and where each value comes from; secrets are left out
    #[command(after_help = "Give it the flags and the environment of the server.")]
    Show(Box<ShowConfig>),
    /// Check the settings and everything that they name, and change nothing
    #[command(
        after_help = "Give it the flags and the environment of the server. Each line is: ok, warn or fail, a name, \
        and what was found. The exit code is 1 if a line is fail."
    )]
    Check(Box<CheckConfig>),
}

/// `slackir config show`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ShowConfig {
    /// Form of the output
    #[arg(long, value_enum, default_value_t = ShowFormat::Text)]
    pub format: ShowFormat,
    /// The settings.
    #[command(flatten)]
    pub serve: ServeConfig,
}

/// The form of `slackir config show`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ShowFormat {
    /// As a config file
    Text,
    /// A JSON array of objects
    Json,
}

/// `slackir config check`.
#[derive(Args, Clone, Debug)]
pub(crate) struct CheckConfig {
    /// The settings.
    #[command(flatten)]
    pub serve: ServeConfig,
}
