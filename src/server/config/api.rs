//! The settings of the HTTP API. It is off unless `api_token` or `api_token_salt` is set.

use std::time::Duration;

use clap::Args;

use super::value::seconds;

/// The tokens that the HTTP API accepts.
#[derive(Args, Clone, Debug)]
pub struct ApiConfig {
    /// Token for the HTTP API at /api, where programs read and write messages; at least 16 characters.
    /// The API is off without this setting and without --api-token-salt
    #[arg(
        long,
        env = "SLACKIR_API_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    pub api_token: Option<String>,

    /// Salt of Phoenix.Tokens, signed with SECRET_KEY_BASE, that the HTTP API accepts as well
    #[arg(long, value_name = "SALT")]
    pub api_token_salt: Option<String>,

    /// Seconds for which these Phoenix.Tokens are valid
    #[arg(long, default_value = "86400", value_name = "SECONDS", value_parser = seconds)]
    pub api_token_max_age: Duration,

    /// Secret of the Phoenix application, at least 20 bytes
    #[arg(
        long,
        env = "SECRET_KEY_BASE",
        hide_env_values = true,
        value_name = "SECRET"
    )]
    pub secret_key_base: Option<String>,
}
