//! The server binary: `slackir [serve]`, `slackir migrate`.

use std::process::ExitCode;

use clap::Parser;
use slackir::config::{Cli, Command};
use slackir::serve::{migrate, serve};

#[actix_web::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        None => serve(cli.serve).await,
        Some(Command::Serve(config)) => serve(*config).await,
        Some(Command::Migrate(config)) => migrate(&config),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("slackir: {error}");
            ExitCode::FAILURE
        }
    }
}
