//! [`ServeConfig`]: the settings of a server. Each is a flag, a key of the file, and an environment variable. The
//! comments are the texts of `--help`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use serde::Deserialize;

use super::log::log_filter;
use super::value::{address, delay, history_limit, positive, seconds, socket_path};
use super::{
    AdminConfig, ApiConfig, ApiJwtConfig, ClusterConfig, DashboardConfig, DatabaseConfig,
    FileConfig, HookConfig, OtelConfig, RoomConfig, SecretFilesConfig, TlsConfig,
};
use crate::admission::TrustedProxies;
use crate::server::language::IdentityConfig;

/// The settings of a server.
#[derive(Args, Clone, Debug)]
pub(crate) struct ServeConfig {
    /// The file of settings.
    #[command(flatten)]
    pub file: FileConfig,

    /// Address to listen on: an IP address or localhost
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS", value_parser = address)]
    pub host: IpAddr,

    /// Port to listen on; 0 takes a free one
    #[arg(long, env = "PORT", default_value_t = 4000)]
    pub port: u16,

    /// TLS of the port.
    #[command(flatten)]
    pub tls: TlsConfig,

    /// The database.
    #[command(flatten)]
    pub database: DatabaseConfig,

    /// Database connections for reading
    #[arg(long, env = "POOL_SIZE", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub pool_size: u32,

    /// Whether messages are saved; off needs no database and gives no history
    #[arg(long, value_enum, default_value_t = Switch::On)]
    pub persist: Switch,

    /// When members receive a message: relaxed, at once, so that a crash may lose the last messages that
    /// they have seen; strict, once it is on disk
    #[arg(long, value_enum, default_value_t = Durability::Relaxed)]
    pub durability: Durability,

    /// How a joining client receives the history; a room of the file may override it
    #[arg(long, value_enum, default_value_t = History::MessagesHistory)]
    pub history: History,

    /// Most messages of a history, which has at most 1 MB; a room of the file may override it
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = history_limit)]
    pub history_limit: usize,

    /// Folder with a frontend to serve in place of the built-in page
    #[arg(long, value_name = "DIR")]
    pub static_dir: Option<PathBuf>,

    /// Origins of the pages that may open a socket: host (the public host; without one the server's IP
    /// address, and loopback if it listens there), conn (the scheme, host and port of the request, under
    /// any name), off, or a list such as //example.com,//*.example.org
    #[arg(long, default_value = "host", value_name = "ORIGINS")]
    pub check_origin: String,

    /// Host name under which browsers reach this server; with check_origin host only its pages may open
    /// a socket
    #[arg(long, env = "PHX_HOST", value_name = "HOST")]
    pub public_host: Option<String>,

    /// Proxies whose X-Forwarded-For and Forwarded headers name the client: a list of addresses and
    /// networks, such as 10.0.0.0/8,192.0.2.7, or none; loopback by default
    #[arg(long, default_value = "127.0.0.0/8,::1", value_name = "NETWORKS")]
    pub trusted_proxies: TrustedProxies,

    /// Further paths of the socket beside /socket, as the frontend has them: a list such as
    /// /api/socket,/user_socket
    #[arg(long, value_delimiter = ',', value_name = "PATHS", value_parser = socket_path)]
    pub socket_paths: Vec<String>,

    /// Worker threads; one per core by default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,

    /// Most WebSocket connections and long-poll sessions of the whole server; the next one is refused
    /// (503). Each worker accepts as many ordinary HTTP connections in addition
    #[arg(long, default_value_t = 50_000, value_name = "N", value_parser = positive)]
    pub max_connections: usize,

    /// Most WebSocket connections and long-poll sessions of one address (a /64 network of IPv6), and as
    /// many TCP connections; the next one is refused (429). 0 is no limit. Default 1000, except for
    /// trusted proxies that name no client; a given number holds for these as well
    #[arg(long, value_name = "N")]
    pub max_connections_per_ip: Option<usize>,

    /// New WebSocket connections and long-poll sessions of one address a second; one over the limit is refused
    /// (429). It does not hold for trusted proxies that name no client. 0 is no limit
    #[arg(long, default_value_t = 50, value_name = "N")]
    pub connects_per_second: u32,

    /// New connections of one address at once, before the limit a second applies
    #[arg(long, default_value_t = 500, value_name = "N")]
    pub connects_burst: u32,

    /// Driver of the WebSocket connections: direct, on the server's own TCP connections; or actix-ws, as
    /// in any actix-web server, with several times the memory
    #[arg(long, value_enum, default_value_t = WebsocketDriver::Direct, hide_short_help = true)]
    pub websocket_driver: WebsocketDriver,

    /// Whether messages and long-poll answers of 512 bytes and more are compressed for clients that support it, and
    /// clients may compress their messages; the driver actix-ws compresses no WebSocket
    #[arg(long, value_enum, default_value_t = Switch::Off)]
    pub compress: Switch,

    /// Connections that may wait to be accepted
    #[arg(long, default_value_t = 2_048, value_name = "N")]
    pub backlog: u32,

    /// Seconds that an HTTP connection may be idle between two requests. Set it higher than the proxy in
    /// front, so that the proxy closes the connection
    #[arg(long, default_value = "75", value_name = "SECONDS", value_parser = seconds)]
    pub keep_alive: Duration,

    /// Seconds without a byte after which a connection is closed
    #[arg(long, default_value = "60", value_name = "SECONDS", value_parser = seconds)]
    pub idle_timeout: Duration,

    /// Seconds that a message may take to arrive; then its connection is closed
    #[arg(long, default_value = "60", value_name = "SECONDS", value_parser = seconds)]
    pub message_timeout: Duration,

    /// Longest frame of a client, and longest body of a request to the HTTP API, in bytes
    #[arg(long, default_value_t = 10_000_000, value_name = "BYTES", value_parser = positive)]
    pub max_frame_size: usize,

    /// Most channels of one connection
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = positive)]
    pub max_channels: usize,

    /// Bytes that may wait for one client that does not read; then its connection is closed
    #[arg(long, default_value_t = 1_000_000, value_name = "BYTES", value_parser = positive)]
    pub outbox_bytes: usize,

    /// Frames that may wait for one client that does not read; then its connection is closed
    #[arg(long, default_value_t = 10_000, value_name = "N", value_parser = positive)]
    pub outbox_frames: usize,

    /// Joins of one connection a second; a join over the limit is refused with a time after which to
    /// retry. 0 is no limit
    #[arg(long, default_value_t = 500, value_name = "N")]
    pub joins_per_second: u32,

    /// Joins of one connection at once, before the limit a second applies
    #[arg(long, default_value_t = 2_000, value_name = "N")]
    pub joins_burst: u32,

    /// Messages of one connection a second; a message over the limit is refused, and the next is read a
    /// second later. 0 is no limit
    #[arg(long, default_value_t = 5_000, value_name = "N")]
    pub pushes_per_second: u32,

    /// Messages of one connection at once, before the limit a second applies
    #[arg(long, default_value_t = 20_000, value_name = "N")]
    pub pushes_burst: u32,

    /// Bytes of one connection's messages a second; a message over the limit is refused, and the next is
    /// read a second later. 0 is no limit
    #[arg(long, default_value_t = 10_000_000, value_name = "BYTES")]
    pub bytes_per_second: u32,

    /// Bytes of one connection's messages at once, before the limit a second applies
    #[arg(long, default_value_t = 100_000_000, value_name = "BYTES")]
    pub bytes_burst: u32,

    /// Changes of presences by one connection a second, in rooms whose events change them; an event over the
    /// limit is refused with a time after which to retry. 0 is no limit
    #[arg(long, default_value_t = 10, value_name = "N")]
    pub presences_per_second: u32,

    /// Changes of presences by one connection at once, before the limit a second applies
    #[arg(long, default_value_t = 50, value_name = "N")]
    pub presences_burst: u32,

    /// Messages that may wait for the database in memory, outside the spool; then shouts are refused
    #[arg(long, default_value_t = 100_000, value_name = "N", value_parser = positive)]
    pub writer_rows: usize,

    /// Bytes of messages that may wait for the database in memory, outside the spool; then shouts are
    /// refused
    #[arg(long, default_value_t = 64_000_000, value_name = "BYTES", value_parser = positive)]
    pub writer_bytes: usize,

    /// Folder of the spool, where messages wait on disk while the database is unreachable; by default
    /// the name of SQLite's file with .spool appended, and slackir.spool for PostgreSQL
    #[arg(long, value_name = "DIR")]
    pub spool_dir: Option<PathBuf>,

    /// Bytes that may wait in the spool (they are in memory, too); then shouts are refused
    #[arg(long, default_value_t = 256_000_000, value_name = "BYTES", value_parser = positive)]
    pub spool_bytes: usize,

    /// Seconds that a shutdown may take
    #[arg(long, default_value = "30", value_name = "SECONDS", value_parser = seconds)]
    pub shutdown_timeout: Duration,

    /// Seconds for which a server that is asked to end goes on as before, with 503 in /readyz, so that a
    /// balancer can send new clients elsewhere; a second signal ends the wait
    #[arg(long, default_value = "0", value_name = "SECONDS", value_parser = delay)]
    pub shutdown_delay: Duration,

    /// Connections that a shutdown closes at once; the next batch follows after 2 seconds
    #[arg(long, default_value_t = 10_000, value_name = "N", value_parser = positive)]
    pub drain_batch: usize,

    /// The HTTP API.
    #[command(flatten)]
    pub api: ApiConfig,

    /// The operators' dashboard.
    #[command(flatten)]
    pub dashboard: DashboardConfig,

    /// Files with secrets.
    #[command(flatten)]
    pub secret_files: SecretFilesConfig,

    /// What is for operators.
    #[command(flatten)]
    pub admin: AdminConfig,

    /// The cluster.
    #[command(flatten)]
    pub cluster: ClusterConfig,

    /// Traces.
    #[command(flatten)]
    pub otel: OtelConfig,

    /// Filter of the log on standard error: a level, or tracing directives
    #[arg(long, env = "RUST_LOG", default_value = "info", value_name = "FILTER", value_parser = log_filter)]
    pub log: String,

    /// Format of the log lines
    #[arg(long, default_value = "text", value_parser = log_format())]
    pub log_format: LogFormat,

    /// The rooms, in the order in which a topic looks for its room. Only the file can set them; without it
    /// there is the default room.
    #[arg(skip = vec![RoomConfig::default()])]
    pub rooms: Vec<RoomConfig>,

    /// Who clients are; `None`: anonymous. Only the file can say it.
    #[arg(skip)]
    pub identity: Option<IdentityConfig>,

    /// The backend that rooms and identity ask. Only the file can set it.
    #[arg(skip)]
    pub hook: Option<HookConfig>,

    /// The JSON Web Tokens that the HTTP API accepts. Only the file can set them.
    #[arg(skip)]
    pub api_jwt: Option<ApiJwtConfig>,
}

/// The driver of WebSocket connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum WebsocketDriver {
    /// The server's own TCP connections
    Direct,
    /// actix-ws, as in any actix-web server
    ActixWs,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    /// Yes.
    On,
    /// No.
    Off,
}

/// When the members of a topic receive a stored message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Durability {
    /// At once; it is committed a few milliseconds later.
    Relaxed,
    /// Once it is committed, and on disk.
    Strict,
}

/// How a joining client receives the history.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
#[expect(
    clippy::enum_variant_names,
    reason = "`messages_history` is the name of the event"
)]
pub(crate) enum History {
    /// Not at all.
    None,
    /// One push {"messages": [..]} after the join. Its event is the room's history_event.
    MessagesHistory,
    /// One push for each message after the join.
    PerEvent,
    /// In the reply to the join, as {"messages": [..]}.
    Reply,
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    /// The format of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// Parses a [`LogFormat`], whose traits are public: clap's must not be among them.
fn log_format() -> impl TypedValueParser<Value = LogFormat> {
    PossibleValuesParser::new(["text", "json"])
        .try_map(|name| LogFormat::named(&name).ok_or("neither text nor json"))
}
