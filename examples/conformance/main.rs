//! The conformance application, served on its own:
//! `cargo run --release --example conformance -- --port N`.

mod app;

use actix_web::{App, HttpServer};
use clap::Parser;

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
    let server = HttpServer::new(move || App::new().configure(endpoint.routes()))
        .tcp_nodelay(true)
        .on_connect(slackir::transport::on_connect)
        .client_disconnect_timeout(slackir::transport::CLOSE_LINGER)
        .bind(("127.0.0.1", port))?
        .run();
    println!("The conformance application listens on http://127.0.0.1:{port}");
    server.await
}
