//! The conformance application, served on its own:
//! `cargo run --release --example conformance -- --port N`.

mod app;

use actix_web::{App, HttpServer};
use clap::Parser;
use slackir::endpoint::HttpServerExt;
use slackir::shutdown::run_until_signal;
use slackir::socket::DrainOptions;

/// Serves the application that the scenarios of `tests/fixtures/conformance` are run against.
#[derive(Parser)]
struct Args {
    /// Port to listen on, on 127.0.0.1
    #[arg(long, default_value_t = 4000)]
    port: u16,
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let Args { port } = Args::parse();
    let endpoint = app::endpoint();
    let routes = endpoint.clone();
    let server = HttpServer::new(move || App::new().configure(routes.routes()))
        .with_sockets(&endpoint)
        .bind(("127.0.0.1", port))?
        .run();
    let shutdown = endpoint.shutdown(server.handle(), DrainOptions::default());
    let running = run_until_signal(server, shutdown)?;
    println!("The conformance application listens on http://127.0.0.1:{port}");
    running.await.map(drop)
}
