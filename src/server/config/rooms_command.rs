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
    /// Print the frames that clients would get, without network and database
    #[command(
        after_help = "Each line of FRAMES is a step: NAME connect PARAM=VALUE .. (the connect params), NAME and a \
        frame [join_ref, ref, topic, event, payload], NAME close, or a # comment. The output repeats each step, and \
        below it each frame that a client gets, in the order of the clients' names. Times and ids are what they are \
        at this moment; everything else is the same at each run."
    )]
    Try {
        /// Config file with the rooms (TOML)
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// File with the steps; without it they come from standard input
        #[arg(value_name = "FRAMES")]
        frames: Option<PathBuf>,
        /// Secret of the Phoenix application whose tokens clients have, in place of the file's
        #[arg(
            long,
            env = "SECRET_KEY_BASE",
            hide_env_values = true,
            value_name = "SECRET"
        )]
        secret_key_base: Option<String>,
        /// File with that secret
        #[arg(long, value_name = "FILE")]
        secret_key_base_file: Option<PathBuf>,
    },
}
