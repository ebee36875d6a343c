//! The arguments of `slackir publish` and `slackir tail`, which are clients of a running server.

use std::path::PathBuf;

use clap::Args;
use url::Url;

use super::FileConfig;

/// The server.
#[derive(Args, Clone, Debug)]
pub(crate) struct ServerUrl {
    /// URL of the server; without it the address that the config file has, or http://127.0.0.1:4000
    #[arg(long, env = "SLACKIR_URL", value_name = "URL", value_parser = server_url)]
    pub url: Option<Url>,
    /// The server's own config file, on its machine.
    #[command(flatten)]
    pub file: FileConfig,
}

/// `slackir publish`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "It uses the HTTP API, and ends once the message is committed.")]
pub(crate) struct PublishConfig {
    /// Topic of the message
    #[arg(value_name = "TOPIC")]
    pub topic: String,
    /// Event of the message
    #[arg(value_name = "EVENT")]
    pub event: String,
    /// Payload of the message: a JSON object
    #[arg(value_name = "PAYLOAD")]
    pub payload: String,
    /// Send the event to the present members alone, and store nothing; the room must have it in server_events
    #[arg(long)]
    pub live: bool,
    /// The server.
    #[command(flatten)]
    pub server: ServerUrl,
    /// Token for the HTTP API; the config file may have it
    #[arg(
        long,
        env = "SLACKIR_API_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    pub api_token: Option<String>,
    /// File with the --api-token
    #[arg(long, value_name = "FILE")]
    pub api_token_file: Option<PathBuf>,
}

/// `slackir tail`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Each line is a JSON object with topic, event and payload; of a binary payload it has the base64, as \
    binary. It joins like any client, so the rules of the room hold. Ctrl-C ends it."
)]
pub(crate) struct TailConfig {
    /// Topic to join
    #[arg(value_name = "TOPIC")]
    pub topic: String,
    /// Connect param, such as token=..; can be given more than once
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = param)]
    pub params: Vec<(String, String)>,
    /// Params of the join: a JSON object
    #[arg(long, default_value = "{}", value_name = "JSON")]
    pub join: String,
    /// Path of the socket
    #[arg(long, default_value = "/socket", value_name = "PATH")]
    pub socket: String,
    /// The server.
    #[command(flatten)]
    pub server: ServerUrl,
}

fn server_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).ok();
    let url = url.filter(|url| ["http", "https"].contains(&url.scheme()) && url.has_host());
    url.ok_or_else(|| {
        "must begin with http:// or https://, such as http://127.0.0.1:4000".to_owned()
    })
}

pub(super) fn param(text: &str) -> Result<(String, String), String> {
    let (name, value) = text
        .split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .ok_or("must be NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}
