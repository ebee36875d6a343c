//! The arguments of `slackir load`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use url::Url;

use super::client_command::param;
use super::value::{positive, seconds};

/// `slackir load`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Every client checks each message that it receives: none may be lost, doubled or out of order. Delivery \
    times count from the time at which a message was due. The exit code is 1 if the server has lost, doubled or \
    reordered a message, or has refused or closed a client. Ctrl-C ends the load, and prints its result so far. The \
    server saves the messages as any others: use a database of its own for a load."
)]
pub(crate) struct LoadConfig {
    /// URL of the server's WebSocket; vsn=2.0.0 is added
    #[arg(long, default_value = "ws://127.0.0.1:4000/socket/websocket", value_name = "URL", value_parser = socket_url)]
    pub url: Url,
    /// Another node of the server's cluster; the members of a topic take the nodes in turn. Can be given more than once
    #[arg(long = "node", value_name = "HOST:PORT")]
    pub nodes: Vec<String>,
    /// What the clients do
    #[arg(long, value_enum, default_value_t = LoadMode::Fanout)]
    pub mode: LoadMode,
    /// Number of clients
    #[arg(long, default_value_t = 1_000, value_name = "N", value_parser = positive)]
    pub clients: usize,
    /// Number of topics to spread the clients over
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = positive)]
    pub topics: usize,
    /// Topic of the clients; with more than one, -1, -2 and so on are appended
    #[arg(long, default_value = "random:load", value_name = "TOPIC")]
    pub topic: String,
    /// Messages a second, of all publishers together
    #[arg(long, default_value_t = 100.0, value_name = "N", value_parser = rate, conflicts_with = "inflight")]
    pub rate: f64,
    /// Seconds for which messages are published, or for which the clients stay
    #[arg(long, default_value = "10", value_name = "SECONDS", value_parser = seconds)]
    pub seconds: Duration,
    /// New connections a second
    #[arg(long, default_value_t = 1_000.0, value_name = "N", value_parser = rate)]
    pub connect_rate: f64,
    /// Event of the messages: by default shout, or ping for requests
    #[arg(long, value_name = "EVENT")]
    pub event: Option<String>,
    /// Messages of each topic that are under way at the same time, instead of a rate: the next is published when all
    /// members have received one. For an echo load: requests of each client that wait for their replies, by default 1
    #[arg(long, value_name = "N", value_parser = positive)]
    pub inflight: Option<usize>,
    /// Channels of each client: the others are on topics beside its own, where nobody publishes
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub channels: u16,
    /// Payload of the messages: a JSON object with the text {mark} in one of its strings
    #[arg(
        long,
        default_value = r#"{"name":"load","message":"{mark}"}"#,
        value_name = "JSON"
    )]
    pub payload: String,
    /// Bytes of the payload; a smaller one is as long as the payload needs
    #[arg(long, default_value_t = 100, value_name = "BYTES", value_parser = positive)]
    pub size: usize,
    /// Clients that stay connected in a storm, and send requests at the rate of `--rate`
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = positive)]
    pub stay: usize,
    /// Most clients of a topic that publish, in turn
    #[arg(long, default_value_t = 8, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub publishers: u16,
    /// The server sends a message to all members but its publisher
    #[arg(long)]
    pub others: bool,
    /// Connect param, such as room=1; can be given more than once
    #[arg(long = "param", alias = "params", value_name = "NAME=VALUE", value_parser = param)]
    pub params: Vec<(String, String)>,
    /// Params of the join: a JSON object
    #[arg(long, default_value = "{}", value_name = "JSON")]
    pub join: String,
    /// Token of the clients: the connect param token
    #[arg(
        long,
        env = "SLACKIR_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    pub token: Option<String>,
    /// File with the certificate of the issuer of the server's certificate (PEM), for a wss URL; by default the root
    /// certificates of the system
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    pub ca: Option<PathBuf>,
    /// Accept any certificate of a server on this machine
    #[arg(long)]
    pub insecure: bool,
    /// Process id of the server, on this machine: its CPU time and its memory are part of the result. Those of several
    /// processes are added up
    #[arg(long = "pid", value_name = "PID")]
    pub pids: Vec<u32>,
    /// Print the result as a line of JSON
    #[arg(long)]
    pub json: bool,
    /// Load a server on another machine
    #[arg(long)]
    pub yes: bool,
}

/// What the clients of a load do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LoadMode {
    /// They join, and some publish to all members of their topics
    Fanout,
    /// They join, and leave
    Connect,
    /// They join, and stay
    Idle,
    /// They join, and each sends an event whenever the reply to its last one has come
    Echo,
    /// They join; then all but a few lose their connections at once, come back, and resume
    Storm,
}

impl LoadConfig {
    /// The event of the messages.
    pub(crate) fn event(&self) -> &str {
        let default = match self.mode {
            LoadMode::Echo | LoadMode::Storm => "ping",
            LoadMode::Fanout | LoadMode::Connect | LoadMode::Idle => "shout",
        };
        self.event.as_deref().unwrap_or(default)
    }
}

fn socket_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).ok().filter(Url::has_host);
    match url.as_ref().map(Url::scheme) {
        Some("ws" | "wss") => url.ok_or_else(String::new),
        _ => Err(
            "must begin with ws:// or wss://, such as ws://127.0.0.1:4000/socket/websocket"
                .to_owned(),
        ),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate| (0.01..=1e6).contains(rate));
    rate.ok_or_else(|| "must be a number from 0.01 to 1000000".to_owned())
}
