//! The server binary: `slackir [serve]`, and what else `slackir` can do.

use std::fmt::Display;
use std::io;
use std::process::ExitCode;

use rustix::process::Signal;
use slackir::config::{Cli, CliError, Command};
use slackir::data_command::{erase, export, import};
use slackir::serve::{migrate, serve};
use slackir::token_command::token;
use tokio::signal::unix::{SignalKind, signal};

/// The exit code of settings that are not valid, as clap's.
const USAGE: u8 = 2;

#[actix_web::main]
async fn main() -> ExitCode {
    if let Err(error) = survive_file_size_limit() {
        return exit(Err(error));
    }
    let cli = match Cli::load() {
        Ok(cli) => cli,
        Err(CliError::Usage(error)) => error.exit(),
        Err(CliError::File(error)) => {
            eprintln!("slackir: {error}");
            return ExitCode::from(USAGE);
        }
    };
    match cli.command {
        None => exit(serve(cli.serve).await),
        Some(Command::Serve(config)) => exit(serve(*config).await),
        Some(Command::Migrate(config)) => exit(migrate(&config.database)),
        Some(Command::Erase(config)) => exit(erase(config)),
        Some(Command::Export(config)) => exit(export(&config)),
        Some(Command::Import(config)) => exit(import(&config)),
        Some(Command::Token(config)) => exit(token(&config.action)),
    }
}

/// Makes a write beyond `ulimit -f` or `LimitFSIZE=` an error like a full disk. By default SIGXFSZ ends
/// the process.
fn survive_file_size_limit() -> io::Result<()> {
    // The handler does nothing and stays for ever: the write fails with EFBIG behind it.
    signal(SignalKind::from_raw(Signal::XFSZ.as_raw())).map(drop)
}

fn exit<E: Display>(result: Result<(), E>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("slackir: {error}");
            ExitCode::FAILURE
        }
    }
}
