//! The settings of the HTTP API, which is off unless one of its tokens is configured.

use std::time::Duration;

use clap::Args;

use super::value::seconds;

/// Who may use the HTTP API.
#[derive(Args, Clone, Debug)]
pub struct ApiConfig {
    /// Token of 16 characters or more with which programs read and write messages over HTTP, at /api;
    /// off without it and without --api-token-salt
    #[arg(
        long,
        env = "SLACKIR_API_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    pub api_token: Option<String>,

    /// Salt of the Phoenix.Tokens, signed with SECRET_KEY_BASE, with which they may do so
    #[arg(long, value_name = "SALT")]
    pub api_token_salt: Option<String>,

    /// Seconds for which these Phoenix.Tokens are valid
    #[arg(long, default_value = "86400", value_name = "SECONDS", value_parser = seconds)]
    pub api_token_max_age: Duration,

    /// The application's secret, at least 20 bytes
    #[arg(
        long,
        env = "SECRET_KEY_BASE",
        hide_env_values = true,
        value_name = "SECRET"
    )]
    pub secret_key_base: Option<String>,
}
