//! All settings, their defaults and their validation. No other module reads the environment.
//!
//! A flag overrides the environment, the environment overrides the file, and the file overrides the default.
//! The file's values become clap's defaults, so that clap alone reads, checks and ranks all values. So do the secrets
//! that are in files of their own.

mod admin;
mod api;
mod client_command;
mod cluster;
mod config_command;
mod dashboard;
mod data;
mod file;
mod flags;
mod hook;
mod in_force;
mod jwt;
#[cfg(all(feature = "load", target_os = "linux"))]
mod load_command;
mod log;
mod otel;
#[cfg(feature = "_store")]
mod reload;
mod rooms;
mod rooms_command;
mod secret_files;
mod serve;
mod service_command;
mod settings;
mod tls;
mod token;
mod value;

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::builder::Resettable;
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};

pub(crate) use self::admin::AdminConfig;
pub(crate) use self::api::{ApiConfig, ApiJwtConfig, SecretFilesConfig};
pub(crate) use self::client_command::{PublishConfig, ServerUrl, TailConfig};
pub(crate) use self::cluster::ClusterBus;
pub(crate) use self::cluster::ClusterConfig;
pub use self::cluster::ClusterMisfit;
#[cfg(feature = "_store")]
pub(crate) use self::config_command::ShowFormat;
pub(crate) use self::config_command::{ConfigAction, ConfigCommand};
pub(crate) use self::dashboard::DashboardConfig;
pub use self::dashboard::ShortPassword;
pub(crate) use self::data::{BackupConfig, EraseConfig, ExportConfig, ImportConfig};
use self::file::ConfigFile;
pub(crate) use self::file::{FileError, FileLines};
pub(crate) use self::hook::HookConfig;
pub use self::hook::HookSecretError;
pub(crate) use self::in_force::SettingInForce;
#[cfg(feature = "_store")]
pub(crate) use self::in_force::SettingSource;
pub use self::jwt::JwtSetupError;
pub(crate) use self::jwt::{first_secret, jwt_keys, secret_of_file};
#[cfg(all(feature = "load", target_os = "linux"))]
pub(crate) use self::load_command::{LoadConfig, LoadMode};
pub(crate) use self::otel::OtelConfig;
#[cfg(feature = "_store")]
pub(crate) use self::reload::{ChangedSettings, RunningSettings, SwitchedOn};
pub use self::rooms::Fields;
pub(crate) use self::rooms::{HistoryOrder, RESUME_PARAM, RetentionConfig, RoomConfig};
pub(crate) use self::rooms_command::{RoomsAction, RoomsConfig};
use self::secret_files::{SecretFileError, SecretFiles};
pub use self::serve::LogFormat;
pub(crate) use self::serve::{Durability, History, ServeConfig, Switch, WebsocketDriver};
pub(crate) use self::service_command::{CompletionsConfig, HealthConfig, ManConfig};
pub use self::settings::{Config, SettingsError};
pub(crate) use self::tls::TlsConfig;
pub(crate) use self::token::{JwtArgs, SecretConfig, TokenAction, TokenConfig, TokenKey};

/// The command line of `slackir`.
#[derive(Debug, Parser)]
#[command(
    name = "slackir",
    version,
    long_version = concat!(env!("CARGO_PKG_VERSION"), " (", env!("SLACKIR_COMMIT"), ")"),
    about = "A Phoenix Channels server: unchanged phoenix.js clients, every message saved.",
    args_conflicts_with_subcommands = true
)]
pub(crate) struct Cli {
    /// The subcommand; without one the server starts.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The settings of a server that is started without `serve`.
    #[command(flatten)]
    pub serve: ServeConfig,
    /// The lines of the file whose values are in force.
    #[arg(skip)]
    pub file_lines: FileLines,
    /// All settings of the command, with the places that their values come from: of a server, and of
    /// `slackir config show`.
    #[arg(skip)]
    pub in_force: Vec<SettingInForce>,
}

/// The subcommands of `slackir`.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Command {
    /// Start the server (the default)
    Serve(Box<ServeConfig>),
    /// Write, print and check the configuration
    Config(ConfigCommand),
    /// Run the pending migrations of the database, and exit
    Migrate(MigrateConfig),
    /// Erase the messages of a topic or of a name
    Erase(EraseConfig),
    /// Write all messages as lines of JSON
    Export(ExportConfig),
    /// Read the messages of an export
    Import(ImportConfig),
    /// Copy the SQLite database to a file, also while a server runs
    Backup(BackupConfig),
    /// Explain and try the rooms of a config file, without a server
    Rooms(RoomsConfig),
    /// Print a new random secret, as mix phx.gen.secret does
    Secret(SecretConfig),
    /// Sign and verify tokens: Phoenix.Tokens as a Phoenix application with the same secret does, and JSON Web Tokens
    Token(TokenConfig),
    /// Publish a message by the HTTP API of a running server
    Publish(PublishConfig),
    /// Join a topic of a running server, and print each message as a line of JSON
    Tail(TailConfig),
    /// Put a load on a running server, and check that no message is lost
    #[cfg(all(feature = "load", target_os = "linux"))]
    Load(Box<LoadConfig>),
    /// Ask the server that runs on this machine whether it is well
    Health(Box<HealthConfig>),
    /// Print a script that completes the commands in a shell
    Completions(CompletionsConfig),
    /// Write manual pages
    Man(ManConfig),
}

/// `slackir migrate`.
#[derive(Args, Clone, Debug)]
pub(crate) struct MigrateConfig {
    /// The file of settings, which may name the database.
    #[command(flatten)]
    pub file: FileConfig,
    /// The database.
    #[command(flatten)]
    pub database: DatabaseConfig,
}

/// The config file.
#[derive(Args, Clone, Debug)]
pub(crate) struct FileConfig {
    /// File with settings (TOML): these flags, with underscores for dashes, and the rooms
    #[arg(long = "config", env = "SLACKIR_CONFIG", value_name = "FILE")]
    pub path: Option<PathBuf>,
}

/// The database.
#[derive(Args, Clone, Debug)]
pub(crate) struct DatabaseConfig {
    /// Database of the messages: sqlite://FILE or postgres://USER:PASSWORD@HOST/DATABASE
    #[arg(
        long,
        env = "DATABASE_URL",
        hide_env_values = true,
        default_value = "sqlite://slackir.db",
        value_name = "URL"
    )]
    pub database_url: String,

    /// File with the --database-url, for a URL with a password
    #[arg(long, value_name = "FILE")]
    pub database_url_file: Option<PathBuf>,
}

impl DatabaseConfig {
    /// Whether its URL is one of PostgreSQL. `ecto://` is the scheme of a Phoenix application.
    pub(crate) fn is_postgres(&self) -> bool {
        ["postgres://", "postgresql://", "ecto://"]
            .iter()
            .any(|scheme| self.database_url.starts_with(scheme))
    }
}

/// The settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The command line or the environment is not valid; or the user asked for help, which is an error for clap.
    #[error(transparent)]
    Usage(#[from] clap::Error),
    /// The file is not valid.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file of a secret cannot be used.
    #[error(transparent)]
    SecretFile(#[from] SecretFileError),
}

impl ServeConfig {
    /// The address where `/healthz`, `/metrics`, the HTTP API and the dashboard are.
    pub(crate) fn operators_address(&self) -> SocketAddr {
        let own = self.admin.admin_listen;
        own.unwrap_or_else(|| SocketAddr::new(self.host, self.port))
    }

    /// Whether that address speaks https. `admin_listen` never does.
    pub(crate) fn operators_have_tls(&self) -> bool {
        self.tls.is_on() && self.admin.admin_listen.is_none()
    }

    /// The settings that `slackir serve` would have with these arguments, from the environment and the file as
    /// well. The arguments do not begin with the program's name.
    ///
    /// # Errors
    /// If a setting is not valid.
    pub(crate) fn from_args<T: AsRef<OsStr>>(
        args: impl IntoIterator<Item = T>,
    ) -> Result<Self, CliError> {
        let mut all = vec![OsString::from("slackir"), OsString::from("serve")];
        all.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        Ok(Cli::load_from(&all)?.into_serve())
    }

    /// The settings of the text of a config file. All others are the defaults: neither a command line nor the
    /// environment is read.
    ///
    /// # Errors
    /// If a setting is not valid. The error names the line.
    pub(crate) fn from_toml(text: &str) -> Result<Self, CliError> {
        let named = PathBuf::from("config");
        Cli::from_file(
            &named,
            |path, command| ConfigFile::of_text(text, path, command),
            true,
        )
    }

    /// As [`from_toml`](Self::from_toml), for a file.
    ///
    /// # Errors
    /// If the file cannot be read or a setting is not valid. The error names the file and the line.
    pub(crate) fn from_file(path: &Path) -> Result<Self, CliError> {
        Cli::from_file(path, ConfigFile::read, true)
    }

    /// As [`from_file`](Self::from_file), without the secrets that are in files of their own: a reader of the file
    /// need not have them.
    ///
    /// # Errors
    /// As [`from_file`](Self::from_file).
    pub(crate) fn from_file_without_secrets(path: &Path) -> Result<Self, CliError> {
        Cli::from_file(path, ConfigFile::read, false)
    }
}

impl Default for ServeConfig {
    /// The defaults. The environment is not read.
    fn default() -> Self {
        let command = Self::augment_args(clap::Command::new("slackir"))
            .mut_args(|arg| arg.env(Resettable::Reset));
        command
            .try_get_matches_from(["slackir"])
            .and_then(|matches| Self::from_arg_matches(&matches))
            .expect("each setting has a valid default or may be missing")
    }
}

impl Cli {
    /// The settings of this process, from its command line, its environment, and the file that one of these
    /// names.
    ///
    /// # Errors
    /// If a setting is not valid, or if the user asks for help.
    pub(crate) fn load() -> Result<Self, CliError> {
        let args: Vec<_> = std::env::args_os().collect();
        Self::load_from(&args)
    }

    /// The command line with all that it has, for manual pages and completions.
    #[cfg(feature = "_store")]
    pub(crate) fn whole() -> clap::Command {
        flags::with_environment(Self::command())
    }

    /// The settings of the server. For another command: the defaults.
    pub(crate) fn into_serve(mut self) -> ServeConfig {
        self.serve_mut().clone()
    }

    /// The settings of a server with this file, and neither a command line nor an environment. `with_secrets`: also
    /// with those that are in files of their own.
    fn from_file(
        path: &Path,
        read: impl FnOnce(&Path, &clap::Command) -> Result<ConfigFile, FileError>,
        with_secrets: bool,
    ) -> Result<ServeConfig, CliError> {
        let command = Self::command().mut_args(|arg| arg.env(Resettable::Reset));
        let file = read(path, &command)?;
        let command = file.as_defaults(command);
        let mut matches = command.clone().try_get_matches_from(["slackir"])?;
        if with_secrets {
            let lines = file.lines_in_force(path, &matches);
            let secrets = SecretFiles::read(&matches, &lines)?;
            matches = secrets
                .as_defaults(command)
                .try_get_matches_from(["slackir"])?;
        }
        let mut cli = Self::from_arg_matches(&matches)?;
        cli.set_rooms(file);
        Ok(cli.into_serve())
    }

    /// The file's values become defaults, and then the secrets that are in files of their own.
    fn load_from(args: &[impl AsRef<OsStr>]) -> Result<Self, CliError> {
        let args = args.iter().map(AsRef::as_ref);
        let mut command = Self::command_of(args.clone());
        let mut matches = command.clone().try_get_matches_from(args.clone())?;
        let path = Self::from_arg_matches(&matches)?.file().cloned();
        let file = match &path {
            Some(path) => {
                let file = ConfigFile::read(path, &command)?;
                command = file.as_defaults(command);
                matches = command.clone().try_get_matches_from(args.clone())?;
                Some((&**path, file))
            }
            None => None,
        };
        let lines = file
            .as_ref()
            .map(|(path, file)| file.lines_in_force(path, leaf(&matches)));
        let lines = lines.unwrap_or_default();
        let secrets = SecretFiles::read(leaf(&matches), &lines)?;
        if !secrets.is_empty() {
            command = secrets.as_defaults(command);
            matches = command.clone().try_get_matches_from(args)?;
        }
        let mut cli = Self::from_arg_matches(&matches)?;
        if cli.needs_sources() {
            let from_file = file.as_ref().map(|(path, file)| (*path, file));
            cli.in_force = in_force::in_force(&command, &matches, (from_file, &lines), &secrets);
        }
        cli.file_lines = lines;
        if let Some((_, file)) = file {
            cli.set_rooms(file);
        }
        Ok(cli)
    }

    /// The command that parses these arguments. If they name a subcommand, the environment is not read for the
    /// settings of a server without one: an invalid `PORT` does not stop `slackir migrate`.
    fn command_of<'a>(args: impl Iterator<Item = &'a OsStr>) -> clap::Command {
        let command = flags::with_environment(Self::command());
        let without_environment = command.clone().mut_args(|arg| arg.env(Resettable::Reset));
        match without_environment.clone().try_get_matches_from(args) {
            Ok(matches) if matches.subcommand_name().is_some() => without_environment,
            _ => command,
        }
    }

    fn file(&self) -> Option<&PathBuf> {
        let file = match &self.command {
            #[cfg(all(feature = "load", target_os = "linux"))]
            Some(Command::Load(_)) => return None,
            None => &self.serve.file,
            Some(Command::Serve(serve)) => &serve.file,
            Some(Command::Config(config)) => match &config.action {
                ConfigAction::Show(show) => &show.serve.file,
                ConfigAction::Check(check) => &check.serve.file,
                ConfigAction::Init { .. } => return None,
            },
            Some(Command::Migrate(migrate)) => &migrate.file,
            Some(Command::Erase(erase)) => &erase.file,
            Some(Command::Export(export)) => &export.file,
            Some(Command::Import(import)) => &import.file,
            Some(Command::Backup(backup)) => &backup.file,
            Some(Command::Health(health)) => &health.serve.file,
            Some(Command::Publish(publish)) => &publish.server.file,
            Some(Command::Tail(tail)) => &tail.server.file,
            Some(
                Command::Rooms(_)
                | Command::Secret(_)
                | Command::Token(_)
                | Command::Completions(_)
                | Command::Man(_),
            ) => return None,
        };
        file.path.as_ref()
    }

    /// Whether the command needs the sources of its settings: to show them, or to tell which have changed.
    fn needs_sources(&self) -> bool {
        match &self.command {
            None | Some(Command::Serve(_)) => true,
            Some(Command::Config(config)) => matches!(config.action, ConfigAction::Show(_)),
            Some(_) => false,
        }
    }

    /// The settings of a server of this command. For a command without: those that nothing reads.
    fn serve_mut(&mut self) -> &mut ServeConfig {
        match &mut self.command {
            Some(Command::Serve(serve)) => serve,
            Some(Command::Health(health)) => &mut health.serve,
            Some(Command::Config(config)) => match &mut config.action {
                ConfigAction::Show(show) => &mut show.serve,
                ConfigAction::Check(check) => &mut check.serve,
                ConfigAction::Init { .. } => &mut self.serve,
            },
            _ => &mut self.serve,
        }
    }

    /// What the file alone can say.
    fn set_rooms(&mut self, file: ConfigFile) {
        let serve = self.serve_mut();
        (serve.rooms, serve.identity, serve.hook) = (file.rooms, file.identity, file.hook);
        serve.api_jwt = file.api;
    }
}

/// The matches of the innermost subcommand.
fn leaf(matches: &ArgMatches) -> &ArgMatches {
    let inner = matches.subcommand();
    inner.map_or(matches, |(_, inner)| leaf(inner))
}

#[cfg(test)]
mod tests;
