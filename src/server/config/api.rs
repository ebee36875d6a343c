//! The settings of the HTTP API. It is off unless `api_token`, `api_token_salt` or `[api]` is set.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Deserialize;

use super::value::seconds;
use crate::server::language::JwtConfig;

/// The tokens that the HTTP API accepts.
#[derive(Args, Clone, Debug)]
pub(crate) struct ApiConfig {
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

    /// Requests to the HTTP API with one token a second; one over the limit is refused (429). 0 is no limit
    #[arg(long, default_value_t = 200, value_name = "N")]
    pub api_requests_per_second: u32,

    /// Requests with one token at once, before the limit a second applies
    #[arg(long, default_value_t = 1_000, value_name = "N")]
    pub api_requests_burst: u32,

    /// Secret of the Phoenix application, at least 20 bytes
    #[arg(
        long,
        env = "SECRET_KEY_BASE",
        hide_env_values = true,
        value_name = "SECRET"
    )]
    pub secret_key_base: Option<String>,
}

/// Files with the secrets of the server, for systemd's `LoadCredential` and for Docker's secrets. They are read when
/// the settings are read; a program that makes its settings itself sets the secrets.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct SecretFilesConfig {
    /// File with the --api-token
    #[arg(long, value_name = "FILE")]
    pub api_token_file: Option<PathBuf>,

    /// File with the --secret-key-base
    #[arg(long, value_name = "FILE")]
    pub secret_key_base_file: Option<PathBuf>,

    /// File with the --dashboard-password
    #[arg(long, value_name = "FILE")]
    pub dashboard_password_file: Option<PathBuf>,
}

/// The section `[api]`: the JSON Web Tokens that the HTTP API accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiJwtConfig {
    /// The claim that lets a caller in.
    pub(crate) claim: String,
    /// Its accepted values.
    pub(crate) values: Vec<String>,
    /// The section's own tokens, or those of `[identity]`.
    pub(crate) jwt: JwtConfig,
}

/// `[api]` as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenApiJwt {
    claim: String,
    values: Vec<String>,
    jwt: Option<JwtConfig>,
}

impl WrittenApiJwt {
    /// `identity`: the tokens of `[identity]`.
    ///
    /// # Errors
    /// If the keys contradict each other.
    pub(super) fn complete(
        self,
        identity: Option<&JwtConfig>,
    ) -> Result<ApiJwtConfig, &'static str> {
        if self.claim.is_empty() {
            return Err("claim: must not be empty");
        }
        if self.values.is_empty() || self.values.iter().any(String::is_empty) {
            return Err("values: must name at least one value, and none may be empty");
        }
        if self.jwt.as_ref().is_some_and(JwtConfig::closes) {
            return Err("jwt: close_after: a request of the HTTP API keeps no connection open");
        }
        let jwt = self.jwt.as_ref().or(identity);
        Ok(ApiJwtConfig {
            jwt: jwt
                .cloned()
                .ok_or("it needs a jwt, its own or that of [identity]")?,
            claim: self.claim,
            values: self.values,
        })
    }
}
