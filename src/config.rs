//! All settings, their defaults and their validation. Nothing else reads the environment.
//!
//! Flags win over the environment, the environment over the defaults.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::Resettable;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

/// The command line of `slackir`.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "slackir",
    version,
    about = "A Phoenix Channels server: unchanged phoenix.js clients, every message saved.",
    args_conflicts_with_subcommands = true
)]
pub struct Cli {
    /// What to do; without it the server is started.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The settings of a server that is started without `serve`.
    #[command(flatten)]
    pub serve: ServeConfig,
}

impl Cli {
    /// The command line of this process, or the end of it with an error or the help. The
    /// environment is asked for the settings of a server only where one is to be started: a `PORT`
    /// that is none does not keep anybody from migrating.
    pub fn read() -> Self {
        let without_environment = Self::command().mut_args(|arg| arg.env(Resettable::Reset));
        match without_environment.try_get_matches() {
            Ok(matches) if matches.subcommand_name().is_some() => {
                Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
            }
            _ => Self::parse(),
        }
    }
}

/// What `slackir` can do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Start the server (the default)
    Serve(Box<ServeConfig>),
    /// Run the migrations that the database lacks, and end
    Migrate(DatabaseConfig),
    /// Make and read tokens that a Phoenix application with the same secret makes and reads
    Token(TokenConfig),
}

/// `slackir token`.
#[derive(Args, Clone, Debug)]
pub struct TokenConfig {
    /// Sign or verify
    #[command(subcommand)]
    pub action: TokenAction,
}

/// What to do with a token.
#[derive(Clone, Debug, Subcommand)]
pub enum TokenAction {
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
pub struct TokenKey {
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

/// Which database.
#[derive(Args, Clone, Debug)]
pub struct DatabaseConfig {
    /// Where messages are kept: sqlite://FILE or postgres://USER:PASSWORD@HOST/DATABASE
    #[arg(
        long,
        env = "DATABASE_URL",
        hide_env_values = true,
        default_value = "sqlite://slackir.db",
        value_name = "URL"
    )]
    pub database_url: String,
}

/// The settings of a server.
#[derive(Args, Clone, Debug)]
pub struct ServeConfig {
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
    pub host: IpAddr,

    /// Port to listen on; 0 takes a free one
    #[arg(long, env = "PORT", default_value_t = 4000)]
    pub port: u16,

    /// The database.
    #[command(flatten)]
    pub database: DatabaseConfig,

    /// Database connections for reading
    #[arg(long, env = "POOL_SIZE", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub pool_size: u32,

    /// Whether messages are saved; off needs no database and gives no history
    #[arg(long, value_enum, default_value_t = Switch::On)]
    pub persist: Switch,

    /// How a client that joins random:* gets the messages before it
    #[arg(long, value_enum, default_value_t = History::MessagesHistory)]
    pub history: History,

    /// Messages of a history, at most; 1 MB at most whatever the number
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = history_limit)]
    pub history_limit: usize,

    /// Folder with a frontend to serve in place of the built-in page
    #[arg(long, value_name = "DIR")]
    pub static_dir: Option<PathBuf>,

    /// Pages that may open a socket: host (the server's own host, PHX_HOST and loopback), conn (the
    /// very same scheme, host and port), off, or
    /// a list of origins as //example.com,//*.example.org
    #[arg(long, default_value = "host", value_name = "ORIGINS")]
    pub check_origin: String,

    /// Host name under which browsers know this server
    #[arg(long, env = "PHX_HOST", value_name = "HOST")]
    pub public_host: Option<String>,

    /// Worker threads; one per core by default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,

    /// Connections of one worker; at this number it accepts no more
    #[arg(long, default_value_t = 25_600, value_name = "N", value_parser = positive)]
    pub max_connections: usize,

    /// Connections that may wait to be accepted
    #[arg(long, default_value_t = 2_048, value_name = "N")]
    pub backlog: u32,

    /// Seconds without a byte after which a connection is closed
    #[arg(long, default_value = "60", value_name = "SECONDS", value_parser = seconds)]
    pub idle_timeout: Duration,

    /// Longest frame of a client, in bytes
    #[arg(long, default_value_t = 10_000_000, value_name = "BYTES", value_parser = positive)]
    pub max_frame_size: usize,

    /// Channels of one connection
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = positive)]
    pub max_channels: usize,

    /// Bytes that may wait for one client that does not read; then its connection ends
    #[arg(long, default_value_t = 1_000_000, value_name = "BYTES", value_parser = positive)]
    pub outbox_bytes: usize,

    /// Frames that may wait for one client that does not read; then its connection ends
    #[arg(long, default_value_t = 10_000, value_name = "N", value_parser = positive)]
    pub outbox_frames: usize,

    /// Messages that may wait for the database; then shouts are refused
    #[arg(long, default_value_t = 100_000, value_name = "N", value_parser = positive)]
    pub writer_rows: usize,

    /// Bytes of messages that may wait for the database; then shouts are refused
    #[arg(long, default_value_t = 64_000_000, value_name = "BYTES", value_parser = positive)]
    pub writer_bytes: usize,

    /// Seconds that a shutdown may take
    #[arg(long, default_value = "30", value_name = "SECONDS", value_parser = seconds)]
    pub shutdown_timeout: Duration,

    /// Connections that a shutdown closes at once; the next batch follows 2 seconds later
    #[arg(long, default_value_t = 10_000, value_name = "N", value_parser = positive)]
    pub drain_batch: usize,

    /// What is logged, to standard error: a level or tracing directives
    #[arg(long, env = "RUST_LOG", default_value = "info", value_name = "FILTER")]
    pub log: String,

    /// How it is logged
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// Yes.
    On,
    /// No.
    Off,
}

/// How a joining client gets the messages before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum History {
    /// Not at all, as the seed's first chapter.
    None,
    /// One push messages_history {"messages": [..]} after the join.
    MessagesHistory,
    /// One push a message after the join.
    PerEvent,
    /// In the join's reply, as {"messages": [..]}.
    Reply,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Long enough for any timeout.
const MAX_DURATION: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A history longer than this does not belong into one push.
const MAX_HISTORY: usize = 10_000;

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(error) => Err(format!("{error}")),
    }
}

fn history_limit(text: &str) -> Result<usize, String> {
    let limit = positive(text)?;
    if limit > MAX_HISTORY {
        return Err(format!("must be at most {MAX_HISTORY}"));
    }
    Ok(limit)
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|error| format!("{error}"))?;
    let duration = Duration::try_from_secs_f64(seconds).map_err(|error| format!("{error}"))?;
    if duration.is_zero() || duration > MAX_DURATION {
        return Err("must be more than 0 and at most ten years".to_owned());
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_work_with_and_without_the_subcommand() {
        let bare = Cli::parse_from(["slackir", "--port", "5", "--idle-timeout", "0.5"]);
        assert_eq!(bare.serve.port, 5);
        assert_eq!(bare.serve.idle_timeout, Duration::from_millis(500));
        let named = Cli::parse_from(["slackir", "serve", "--port", "6", "--history", "per_event"]);
        let Some(Command::Serve(serve)) = named.command else {
            panic!("serve is a subcommand");
        };
        assert_eq!((serve.port, serve.history), (6, History::PerEvent));
    }

    #[test]
    fn bad_values_are_refused() {
        for bad in [
            ["--port", "70000"],
            ["--history-limit", "0"],
            ["--history-limit", "20000"],
            ["--history", "all"],
            ["--workers", "0"],
            ["--idle-timeout", "-1"],
            ["--host", "nowhere"],
            ["--persist", "maybe"],
        ] {
            assert!(
                Cli::try_parse_from(["slackir"].iter().chain(&bad)).is_err(),
                "{bad:?}"
            );
        }
    }
}
