//! [`main`]: runs the command that the command line names, and returns the exit code.

use std::error::Error;
use std::io;
use std::iter::successors;
use std::process::ExitCode;
#[cfg(all(feature = "load", target_os = "linux"))]
use std::sync::Arc;
#[cfg(all(feature = "load", target_os = "linux"))]
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::RecvError;

use crate::server::Server;
use crate::server::check::Finding;
use crate::server::commands::backup::{BackupCommandError, backup};
use crate::server::commands::client::{publish, tail};
use crate::server::commands::config::{check, init, report, show};
use crate::server::commands::data::{DataCommandError, erase, export, import};
use crate::server::commands::migrate::{MigrateError, migrate};
use crate::server::commands::rooms::rooms;
use crate::server::commands::secret::secret;
use crate::server::commands::service::{completions, health, man};
use crate::server::commands::token::token;
use crate::server::config::{
    Cli, CliError, Command, Config, ConfigAction, FileLines, LogFormat, ServeConfig, SettingInForce,
};
use crate::server::console::{OutputError, say};
#[cfg(all(feature = "load", target_os = "linux"))]
use crate::server::load::load;
use crate::server::systemd;
use crate::server::telemetry::{Logging, fatal};
use crate::shutdown::Signals;
use crate::socket::Socket;

/// The exit code for settings that are not valid, as clap has it.
const USAGE: u8 = 2;

/// The exit code of a program that a signal ended is this plus the signal's number, as in shells.
const SIGNALLED: i32 = 128;

/// The whole `slackir` binary: its commands, flags, environment and config file. `extend` adds channels and
/// routes to the server; the binary itself adds none.
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
        Err(CliError::Usage(usage)) => return refuse(&CliError::Usage(usage)),
        Err(error) if Cli::is_check() => {
            let finding = Finding::fail("config", error.to_string());
            return run(move || report(&[finding]), ToString::to_string).await;
        }
        Err(error) => return refuse(&error),
    };
    let in_force = cli.in_force;
    let lines = cli.file_lines;
    let worked = |error: &DataCommandError| locate(error, error.setting(), &lines);
    let backed_up = |error: &BackupCommandError| locate(error, error.setting(), &lines);
    let migrated = |error: &MigrateError| locate(error, error.setting(), &lines);
    match cli.command {
        None => serve(cli.serve, in_force, &lines, extend).await,
        Some(Command::Serve(config)) => serve(*config, in_force, &lines, extend).await,
        Some(Command::Config(config)) => match config.action {
            ConfigAction::Init { file } => run(move || init(&file), ToString::to_string).await,
            ConfigAction::Show(config) => {
                run(move || show(&in_force, config.format), ToString::to_string).await
            }
            ConfigAction::Check(config) => {
                run(move || check(&config.serve), ToString::to_string).await
            }
        },
        Some(Command::Migrate(config)) => run(move || migrate(&config.database), migrated).await,
        Some(Command::Erase(config)) => run(move || erase(config), worked).await,
        Some(Command::Export(config)) => run(move || export(&config), worked).await,
        Some(Command::Import(config)) => run(move || import(&config), worked).await,
        Some(Command::Backup(config)) => run(move || backup(&config), backed_up).await,
        Some(Command::Rooms(config)) => {
            run(move || rooms(&config.action), ToString::to_string).await
        }
        Some(Command::Secret(config)) => {
            run(move || secret(config.length), ToString::to_string).await
        }
        Some(Command::Token(config)) => {
            run(move || token(&config.action), ToString::to_string).await
        }
        Some(Command::Publish(config)) => run(move || publish(&config), ToString::to_string).await,
        Some(Command::Tail(config)) => run(move || tail(&config), ToString::to_string).await,
        #[cfg(all(feature = "load", target_os = "linux"))]
        Some(Command::Load(config)) => run_in_order(move |asked| load(&config, asked)).await,
        Some(Command::Health(config)) => run(move || health(&config), ToString::to_string).await,
        Some(Command::Completions(config)) => {
            run(move || completions(&config), ToString::to_string).await
        }
        Some(Command::Man(config)) => run(move || man(&config), ToString::to_string).await,
    }
}

/// Makes a write beyond `ulimit -f` or `LimitFSIZE=` fail, as on a full disk. By default SIGXFSZ ends the
/// process.
fn survive_file_size_limit() -> io::Result<()> {
    // The handler does nothing and stays installed: the write fails with EFBIG.
    signal(SignalKind::from_raw(Signal::XFSZ.as_raw())).map(drop)
}

/// Prints the error of the settings, or the help if the user asked for it.
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

/// Runs the server. An error is printed in the format of the log.
async fn serve<S: Socket>(
    config: ServeConfig,
    settings: Vec<SettingInForce>,
    lines: &FileLines,
    extend: impl FnOnce(Server) -> Server<S>,
) -> ExitCode {
    // Before the thread of the log is started.
    let listener = match systemd::listener() {
        Ok(listener) => listener,
        Err(error) => return fail(&error, &format!("the socket of systemd: {error}")),
    };
    let logging = match Logging::init(&config.log, config.log_format) {
        Ok(logging) => logging,
        Err(error) => return fail(&error, &lines.locate("log", &error.to_string())),
    };
    let server = Server::from_config(Config(config));
    let server = match listener {
        Some(listener) => server.listener(listener),
        None => server,
    };
    let server = extend(server);
    match server.run_by_command_line(settings, &logging).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            logging.fatal(&locate(&error, error.setting(), lines));
            ExitCode::FAILURE
        }
    }
}

/// Runs a command until it ends or a signal arrives. The signals are caught because they would not end process
/// 1 of a container otherwise.
async fn run<E: Error + Send + 'static>(
    command: impl FnOnce() -> Result<(), E> + Send + 'static,
    message: impl Fn(&E) -> String,
) -> ExitCode {
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => return fail(&error, &error.to_string()),
    };
    tokio::select! {
        ended = start(command) => exit_code(ended, message),
        signal = signals.next() => signalled(signal),
    }
}

/// Runs a command that ends in order once a signal asks it to. A second signal ends it at once.
#[cfg(all(feature = "load", target_os = "linux"))]
async fn run_in_order<E: Error + Send + 'static>(
    command: impl FnOnce(&AtomicBool) -> Result<(), E> + Send + 'static,
) -> ExitCode {
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => return fail(&error, &error.to_string()),
    };
    let asked = Arc::new(AtomicBool::new(false));
    let seen = asked.clone();
    let mut ended = start(move || command(&seen));
    tokio::select! {
        ended = &mut ended => return exit_code(ended, ToString::to_string),
        _ = signals.next() => asked.store(true, Ordering::Relaxed),
    }
    tokio::select! {
        ended = ended => exit_code(ended, ToString::to_string),
        signal = signals.next() => signalled(signal),
    }
}

/// Runs a command on a thread of its own.
fn start<T: Send + 'static>(command: impl FnOnce() -> T + Send + 'static) -> oneshot::Receiver<T> {
    let (done, ended) = oneshot::channel();
    thread::spawn(move || done.send(command()));
    ended
}

/// The exit code of a command that has ended.
fn exit_code<E: Error + 'static>(
    ended: Result<Result<(), E>, RecvError>,
    message: impl Fn(&E) -> String,
) -> ExitCode {
    match ended {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => fail(&error, &message(&error)),
        // The thread has panicked, and the panic was printed.
        Err(_) => ExitCode::FAILURE,
    }
}

/// The exit code of a command that a signal has ended.
fn signalled(signal: i32) -> ExitCode {
    u8::try_from(SIGNALLED + signal).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// The message of an error. If it comes from the value of a setting in the file, it begins with the line.
fn locate(error: &impl Error, setting: Option<&str>, lines: &FileLines) -> String {
    match setting {
        Some(setting) => lines.locate(setting, &error.to_string()),
        None => error.to_string(),
    }
}

fn fail(error: &(dyn Error + 'static), message: &str) -> ExitCode {
    if !nobody_reads(error) {
        say(fatal(LogFormat::Text, &message).trim_end());
    }
    ExitCode::FAILURE
}

/// Whether the command failed because the reader of standard output has exited.
fn nobody_reads(error: &(dyn Error + 'static)) -> bool {
    successors(Some(error), |error| (*error).source())
        .any(|error| matches!(error.downcast_ref(), Some(OutputError::ReaderGone)))
}
