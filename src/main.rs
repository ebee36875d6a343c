//! The server binary: `slackir [serve]`, `slackir migrate`, `slackir token`.

use std::fmt::Display;
use std::process::ExitCode;

use slackir::config::{Cli, Command};
use slackir::serve::{migrate, serve};
use slackir::token_command::token;

#[actix_web::main]
async fn main() -> ExitCode {
    let cli = Cli::read();
    match cli.command {
        None => exit(serve(cli.serve).await),
        Some(Command::Serve(config)) => exit(serve(*config).await),
        Some(Command::Migrate(config)) => exit(migrate(&config)),
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
