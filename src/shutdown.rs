//! How a server ends in order: first its clients are sent away while it still answers, then the
//! HTTP server stops. Phoenix: the supervision tree with its socket drainer.

use std::io;

use actix_web::dev::Server;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Runs a server until SIGTERM or SIGINT, then `shutdown`, and stops the server when that has
/// returned. From this call on the signals are waited for, so a program may announce itself before
/// it awaits the result.
///
/// `shutdown` is what has to happen while the server still answers: [`Endpoint::drain`], and what
/// comes after it, such as saving what is not saved. The result is what it returned, or `None`
/// when a second signal ended everything at once, or the server was stopped by its handle.
///
/// The server must be built with `disable_signals`, or actix-web stops it at the first signal by
/// itself, and clients are cut off instead of told to come back.
///
/// # Errors
/// When the signals cannot be listened to; the future's, when the server fails.
///
/// ```no_run
/// use actix_web::{App, HttpServer};
/// use slackir::Endpoint;
/// use slackir::shutdown::run_until_signal;
/// use slackir::socket::DrainOptions;
///
/// # async fn run(endpoint: Endpoint) -> std::io::Result<()> {
/// let routes = endpoint.clone();
/// let server = HttpServer::new(move || App::new().configure(routes.routes()))
///     .disable_signals()
///     .bind(("127.0.0.1", 4000))?
///     .run();
/// run_until_signal(server, endpoint.drain(DrainOptions::default()))?.await?;
/// # Ok(())
/// # }
/// ```
///
/// [`Endpoint::drain`]: crate::Endpoint::drain
pub fn run_until_signal<T>(
    server: Server,
    shutdown: impl Future<Output = T>,
) -> io::Result<impl Future<Output = io::Result<Option<T>>>> {
    let mut signals = Signals::listen()?;
    let handle = server.handle();
    let mut server = actix_rt::spawn(server);
    Ok(async move {
        tokio::select! {
            () = signals.next() => {}
            ended = &mut server => {
                ended.map_err(io::Error::other)??;
                return Ok(None);
            }
        }
        tokio::select! {
            outcome = shutdown => {
                handle.stop(true).await;
                // The task ends with the server; its result is the server's.
                server.await.map_err(io::Error::other)??;
                Ok(Some(outcome))
            }
            () = signals.next() => {
                tracing::warn!("shutdown.forced");
                Ok(None)
            }
        }
    })
}

/// SIGTERM and SIGINT, which mean the same.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
