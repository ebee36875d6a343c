//! The `slackir` binary: [`slackir::server::main`] without additions.

use std::process::ExitCode;

#[actix_web::main]
async fn main() -> ExitCode {
    slackir::server::main(|server| server).await
}
