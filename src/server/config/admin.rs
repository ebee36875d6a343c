//! The settings of what is for operators: metrics and health.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

/// Where operators look.
#[derive(Args, Clone, Debug)]
pub(crate) struct AdminConfig {
    /// Address and port for operators, such as 127.0.0.1:4001. Health, metrics, the HTTP API and the dashboard move
    /// there, and nothing else is there
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub admin_listen: Option<SocketAddr>,

    /// Token that /metrics asks for, as Authorization: Bearer TOKEN; without it everybody may read them
    #[arg(long, hide_env_values = true, value_name = "TOKEN")]
    pub metrics_token: Option<String>,

    /// File with the token for /metrics
    #[arg(long, value_name = "FILE")]
    pub metrics_token_file: Option<PathBuf>,
}
