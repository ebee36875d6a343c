//! The server binary: `slackir [serve]`, and what else `slackir` can do.

use std::fmt::Display;
use std::io;
use std::process::ExitCode;

use rustix::process::Signal;
use slackir::config::{Cli, CliError, Command, Places};
use slackir::data_command::{DataCommandError, erase, export, import};
use slackir::serve::{ServeError, migrate, serve};
use slackir::token_command::token;
use tokio::signal::unix::{SignalKind, signal};

/// The exit code of settings that are not valid, as clap's.
const USAGE: u8 = 2;

#[actix_web::main]
async fn main() -> ExitCode {
    if let Err(error) = survive_file_size_limit() {
        return exit(Err::<(), _>(error), &Places::default(), |_| None);
    }
    let cli = match Cli::load() {
        Ok(cli) => cli,
        Err(CliError::Usage(error)) => error.exit(),
        Err(CliError::File(error)) => {
            eprintln!("slackir: {error}");
            return ExitCode::from(USAGE);
        }
    };
    let places = cli.places;
    let served = |done| exit(done, &places, ServeError::setting);
    let worked = |done| exit(done, &places, DataCommandError::setting);
    match cli.command {
        None => served(serve(cli.serve).await),
        Some(Command::Serve(config)) => served(serve(*config).await),
        Some(Command::Migrate(config)) => served(migrate(&config.database)),
        Some(Command::Erase(config)) => worked(erase(config)),
        Some(Command::Export(config)) => worked(export(&config)),
        Some(Command::Import(config)) => worked(import(&config)),
        Some(Command::Token(config)) => exit(token(&config.action), &places, |_| None),
    }
}

/// Makes a write beyond `ulimit -f` or `LimitFSIZE=` an error like a full disk. By default SIGXFSZ ends
/// the process.
fn survive_file_size_limit() -> io::Result<()> {
    // The handler does nothing and stays for ever: the write fails with EFBIG behind it.
    signal(SignalKind::from_raw(Signal::XFSZ.as_raw())).map(drop)
}

/// `setting`: whose value is to blame. Where that stands in the file, the message begins with it.
fn exit<E: Display>(
    result: Result<(), E>,
    places: &Places,
    setting: impl Fn(&E) -> Option<&'static str>,
) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let message = match setting(&error) {
                Some(setting) => places.locate(setting, &error.to_string()),
                None => error.to_string(),
            };
            eprintln!("slackir: {message}");
            ExitCode::FAILURE
        }
    }
}
