//! The `slackir` binary: `slackir [serve]`, and what else `slackir` can do.

use std::process::ExitCode;

#[actix_web::main]
async fn main() -> ExitCode {
    slackir::server::main(|server| server).await
}
