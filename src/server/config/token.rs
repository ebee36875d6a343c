//! The arguments of `slackir token`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::value::seconds;

/// `slackir token`.
#[derive(Args, Clone, Debug)]
pub(crate) struct TokenConfig {
    /// Whether to sign or to verify
    #[command(subcommand)]
    pub action: TokenAction,
}

/// The subcommands of `slackir token`.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum TokenAction {
    /// Print a token that contains DATA, as Phoenix.Token.sign does
    Sign {
        /// The secret and the salt.
        #[command(flatten)]
        key: TokenKey,
        /// Data of the token: JSON, or else a string
        data: String,
        /// Seconds for which the token is valid
        #[arg(long, default_value = "86400", value_name = "SECONDS", value_parser = seconds)]
        max_age: Duration,
    },
    /// Print the data of a valid token as JSON, as Phoenix.Token.verify does
    Verify {
        /// The secret and the salt.
        #[command(flatten)]
        key: TokenKey,
        /// The token
        token: String,
        /// Seconds for which the token is valid, in place of its own number
        #[arg(long, value_name = "SECONDS", value_parser = seconds)]
        max_age: Option<Duration>,
    },
}

/// The secret and the salt of a token.
#[derive(Args, Clone, Debug)]
pub(crate) struct TokenKey {
    /// Secret of the Phoenix application, at least 20 bytes
    #[arg(
        long,
        env = "SECRET_KEY_BASE",
        hide_env_values = true,
        required_unless_present = "secret_key_base_file",
        value_name = "SECRET"
    )]
    pub secret_key_base: Option<String>,
    /// File with the secret
    #[arg(long, value_name = "FILE")]
    pub secret_key_base_file: Option<PathBuf>,
    /// Salt, which names the purpose of the token
    #[arg(long, default_value = "user socket", value_name = "SALT")]
    pub salt: String,
}
