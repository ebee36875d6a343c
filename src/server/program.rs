//! The `slackir` binary: what its command line asks for, and its exit code.

use std::error::Error;
use std::io;
use std::iter::successors;
use std::process::ExitCode;
use std::thread;

use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::server::Server;
use crate::server::commands::data::{DataCommandError, erase, export, import};
use crate::server::commands::migrate::{MigrateError, migrate};
use crate::server::commands::token::token;
use crate::server::config::{Cli, CliError, Command, LogFormat, Places, ServeConfig};
use crate::server::console::{OutputError, say};
use crate::server::telemetry::{Logging, fatal};
use crate::shutdown::Signals;
use crate::socket::Socket;

/// The exit code of settings that are not valid, as clap's.
const USAGE: u8 = 2;

/// What shells add to a signal's number where it ended a program.
const SIGNALLED: i32 = 128;

/// The whole of the `slackir` binary: its commands, its flags, its environment and its file of settings.
/// `extend` gives the server channels and routes of one's own; the binary gives it back as it is.
///
/// ```no_run
/// use std::process::ExitCode;
///
/// use slackir::prelude::*;
///
/// struct Game;
///
/// impl Channel for Game {
///     type Info = ();
///     async fn join(_: Payload, _: &mut Context<Self>) -> JoinResult<Self> {
///         Ok(Join::ok(Game))
///     }
/// }
///
/// #[actix_web::main]
/// async fn main() -> ExitCode {
///     slackir::server::main(|server| server.channel::<Game>("game:*")).await
/// }
/// ```
pub async fn main<S: Socket>(extend: impl FnOnce(Server) -> Server<S>) -> ExitCode {
    if let Err(error) = survive_file_size_limit() {
        return fail(&error, &error.to_string());
    }
    let cli = match Cli::load() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    let places = cli.places;
    let worked = |error: &DataCommandError| locate(error, error.setting(), &places);
    let migrated = |error: &MigrateError| locate(error, error.setting(), &places);
    match cli.command {
        None => serve(cli.serve, &places, extend).await,
        Some(Command::Serve(config)) => serve(*config, &places, extend).await,
        Some(Command::Migrate(config)) => run(move || migrate(&config.database), migrated).await,
        Some(Command::Erase(config)) => run(move || erase(config), worked).await,
        Some(Command::Export(config)) => run(move || export(&config), worked).await,
        Some(Command::Import(config)) => run(move || import(&config), worked).await,
        Some(Command::Token(config)) => {
            run(move || token(&config.action), ToString::to_string).await
        }
    }
}

/// Makes a write beyond `ulimit -f` or `LimitFSIZE=` an error like a full disk. By default SIGXFSZ ends
/// the process.
fn survive_file_size_limit() -> io::Result<()> {
    // The handler does nothing and stays for ever: the write fails with EFBIG behind it.
    signal(SignalKind::from_raw(Signal::XFSZ.as_raw())).map(drop)
}

/// Says why the settings cannot be used; or shows the help that was asked for.
fn refuse(error: &CliError) -> ExitCode {
    let format = Cli::log_format();
    match error {
        CliError::Usage(usage) if !usage.use_stderr() || format == LogFormat::Text => {
            match (usage.print().map_err(OutputError::from), usage.use_stderr()) {
                (Ok(()), false) => ExitCode::SUCCESS,
                (Err(error), false) => fail(&error, &error.to_string()),
                (_, true) => ExitCode::from(USAGE),
            }
        }
        error => {
            say(fatal(format, error).trim_end());
            ExitCode::from(USAGE)
        }
    }
}

/// Runs the server. What is wrong with it is said in the form of its log.
async fn serve<S: Socket>(
    config: ServeConfig,
    places: &Places,
    extend: impl FnOnce(Server) -> Server<S>,
) -> ExitCode {
    let logging = match Logging::init(&config.log, config.log_format) {
        Ok(logging) => logging,
        Err(error) => return fail(&error, &places.locate("log", &error.to_string())),
    };
    let server = extend(Server::from_config(config));
    match server.run_by_command_line(&logging).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            logging.fatal(&locate(&error, error.setting(), places));
            ExitCode::FAILURE
        }
    }
}

/// Runs a command to its end, or until a signal. Process 1 of a container is ended by none that it
/// does not catch.
async fn run<E: Error + Send + 'static>(
    command: impl FnOnce() -> Result<(), E> + Send + 'static,
    message: impl Fn(&E) -> String,
) -> ExitCode {
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => return fail(&error, &error.to_string()),
    };
    let (done, result) = oneshot::channel();
    thread::spawn(move || done.send(command()));
    tokio::select! {
        result = result => match result {
            Ok(Ok(())) => ExitCode::SUCCESS,
            Ok(Err(error)) => fail(&error, &message(&error)),
            // The thread has panicked, and said so.
            Err(_) => ExitCode::FAILURE,
        },
        signal = signals.next() => {
            u8::try_from(SIGNALLED + signal).map_or(ExitCode::FAILURE, ExitCode::from)
        }
    }
}

/// What is wrong. Where the setting whose value is to blame stands in the file, the message begins
/// with that.
fn locate(error: &impl Error, setting: Option<&str>, places: &Places) -> String {
    match setting {
        Some(setting) => places.locate(setting, &error.to_string()),
        None => error.to_string(),
    }
}

fn fail(error: &(dyn Error + 'static), message: &str) -> ExitCode {
    if !nobody_reads(error) {
        say(fatal(LogFormat::Text, &message).trim_end());
    }
    ExitCode::FAILURE
}

/// Whether what was printed is not wanted any more.
fn nobody_reads(error: &(dyn Error + 'static)) -> bool {
    successors(Some(error), |error| (*error).source())
        .any(|error| matches!(error.downcast_ref(), Some(OutputError::ReaderGone)))
}
