//! The arguments of `slackir token`.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::value::seconds;

/// `slackir token`.
#[derive(Args, Clone, Debug)]
pub(crate) struct TokenConfig {
    /// Sign or verify
    #[command(subcommand)]
    pub action: TokenAction,
}

/// What to do with a token.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum TokenAction {
    /// Print a token that carries DATA, as Phoenix.Token.sign
    Sign {
        /// The secret and the salt.
        #[command(flatten)]
        key: TokenKey,
        /// What the token carries: JSON, or else a string
        data: String,
        /// Seconds for which it is valid
        #[arg(long, default_value = "86400", value_name = "SECONDS", value_parser = seconds)]
        max_age: Duration,
    },
    /// Print what a token carries, as JSON, if it is valid, as Phoenix.Token.verify
    Verify {
        /// The secret and the salt.
        #[command(flatten)]
        key: TokenKey,
        /// The token
        token: String,
        /// Seconds for which it is valid, whatever it says itself
        #[arg(long, value_name = "SECONDS", value_parser = seconds)]
        max_age: Option<Duration>,
    },
}

/// What a token is signed with.
#[derive(Args, Clone, Debug)]
pub(crate) struct TokenKey {
    /// The application's secret, at least 20 bytes
    #[arg(
        long,
        env = "SECRET_KEY_BASE",
        hide_env_values = true,
        value_name = "SECRET"
    )]
    pub secret_key_base: String,
    /// The salt, which names what the token is for
    #[arg(long, default_value = "user socket", value_name = "SALT")]
    pub salt: String,
}
