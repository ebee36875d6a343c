//! The arguments of `slackir token` and `slackir secret`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::value::seconds;
use crate::server::jwt::JwtAlgorithm;

/// `slackir secret`.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct SecretConfig {
    /// Characters of the secret, at least 32
    #[arg(default_value_t = 64, value_parser = clap::value_parser!(u16).range(32..))]
    pub length: u16,
}

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
    /// Print a JSON Web Token, for trying things out, that the section identity of a config file accepts
    Jwt(JwtArgs),
}

/// `slackir token jwt`.
#[derive(Args, Clone, Debug)]
pub(crate) struct JwtArgs {
    /// Claims of the token: NAME=VALUE, where VALUE is JSON or else a string, or an object of JSON. Without them iat and
    /// exp are set, and iss and aud as the config file has them
    #[arg(value_name = "CLAIM")]
    pub claims: Vec<String>,
    /// Config file whose section identity says how tokens are signed: algorithm, secret, issuer, audience
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// File with the secret, in place of that of the config file
    #[arg(long, value_name = "FILE", conflicts_with = "private_key_file")]
    pub secret_file: Option<PathBuf>,
    /// File with the private key of the issuer (PEM), where a server has its public key
    #[arg(long, value_name = "FILE")]
    pub private_key_file: Option<PathBuf>,
    /// Signature algorithm; without it the first one of the config file, else HS256
    #[arg(long, value_name = "NAME", value_parser = algorithm)]
    pub algorithm: Option<JwtAlgorithm>,
    /// Seconds until the token expires
    #[arg(long, default_value = "3600", value_name = "SECONDS", value_parser = seconds)]
    pub max_age: Duration,
}

fn algorithm(name: &str) -> Result<JwtAlgorithm, String> {
    JwtAlgorithm::named(name).ok_or_else(|| {
        "must be HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 or EdDSA"
            .to_owned()
    })
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
