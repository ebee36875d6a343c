//! The server binary: `slackir [serve]`, and what else `slackir` can do.

use std::fmt::Display;
use std::process::ExitCode;

use slackir::config::{Cli, CliError, Command};
use slackir::data_command::{erase, export, import};
use slackir::serve::{migrate, serve};
use slackir::token_command::token;

/// The exit code of settings that are not valid, as clap's.
const USAGE: u8 = 2;

#[actix_web::main]
async fn main() -> ExitCode {
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

fn exit<E: Display>(result: Result<(), E>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("slackir: {error}");
            ExitCode::FAILURE
        }
    }
}
