//! The arguments of `slackir rooms`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `slackir rooms`.
#[derive(Args, Clone, Debug)]
pub(crate) struct RoomsConfig {
    /// What to do with the rooms
    #[command(subcommand)]
    pub action: RoomsAction,
}

/// The subcommands of `slackir rooms`.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum RoomsAction {
    /// Print in words what clients may do in each topic, with warnings
    Explain {
        /// Config file with the rooms (TOML); without it the default room is explained
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
}
