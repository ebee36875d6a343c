//! How a server ends in order: first its clients are sent away while it still answers, then the
//! HTTP server stops. Phoenix: the supervision tree with its socket drainer.

use std::io;
use std::pin::pin;
use std::time::{Duration, Instant};

use actix_web::dev::Server;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// A signal that follows the first within this time is the same request: `timeout` and `tini -g`
/// send two.
const SAME_REQUEST: Duration = Duration::from_secs(1);

/// Runs a server until SIGTERM, SIGINT or SIGQUIT, then `shutdown`, and stops the server when that has
/// returned. From this call on the signals are waited for, so a program may announce itself before
/// it awaits the result.
///
/// `shutdown` is what has to happen while the server still answers: [`Endpoint::drain`], and what
/// comes after it, such as saving what is not saved. The result is what it returned, or `None`
/// when another signal, a second later or more, ended everything at once, or the server was stopped
/// by its handle.
///
/// The server must be built with `disable_signals`, or actix-web stops it at the first signal by
/// itself, and clients are cut off instead of told to come back. It runs in the task that awaits the
/// result, under `#[actix_web::main]` and `#[tokio::main]` alike.
///
/// # Errors
/// When the signals cannot be listened to; the future's, when the server fails.
///
/// # Panics
/// Outside of a tokio runtime.
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
/// let shutdown = endpoint.shutdown(server.handle(), DrainOptions::default());
/// run_until_signal(server, shutdown)?.await?;
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
    Ok(async move {
        let asked = async || {
            signals.next().await;
        };
        run_until(server, asked, shutdown).await
    })
}

/// As [`run_until_signal`], until `asked` returns; its second return ends everything at once.
pub(crate) async fn run_until<T>(
    server: Server,
    mut asked: impl AsyncFnMut(),
    shutdown: impl Future<Output = T>,
) -> io::Result<Option<T>> {
    let handle = server.handle();
    let mut server = pin!(server);
    tokio::select! {
        () = asked() => {}
        ended = &mut server => return ended.map(|()| None),
    }
    let in_order = async {
        let outcome = shutdown.await;
        handle.stop(true).await;
        outcome
    };
    tokio::select! {
        // `shutdown` may have stopped the server itself; its own work is to be ended all the same.
        (outcome, ended) = async { tokio::join!(in_order, server) } => ended.map(|()| Some(outcome)),
        () = asked() => {
            tracing::warn!("shutdown.forced");
            Ok(None)
        }
    }
}

/// The signals that ask a process to end: SIGTERM, SIGINT and SIGQUIT, which mean the same.
#[derive(Debug)]
pub struct Signals {
    /// SIGTERM, SIGINT and SIGQUIT.
    listened: [Signal; 3],
    /// When the first came.
    first: Option<Instant>,
}

impl Signals {
    /// Catches the signals from now on: none of them ends the process by itself any more.
    ///
    /// # Errors
    /// When the system refuses a handler.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            listened: [
                signal(SignalKind::terminate())?,
                signal(SignalKind::interrupt())?,
                signal(SignalKind::quit())?,
            ],
            first: None,
        })
    }

    /// Waits for a request to end, and returns the signal's number. A signal within a second of the
    /// first is no other request.
    pub async fn next(&mut self) -> i32 {
        loop {
            let signal = self.any().await.as_raw_value();
            if self.first.is_some_and(|at| at.elapsed() < SAME_REQUEST) {
                tracing::info!(signal, "shutdown.signal_again");
                continue;
            }
            self.first.get_or_insert_with(Instant::now);
            tracing::info!(signal, "shutdown.signal");
            return signal;
        }
    }

    async fn any(&mut self) -> SignalKind {
        let [terminate, interrupt, quit] = &mut self.listened;
        tokio::select! {
            _ = terminate.recv() => SignalKind::terminate(),
            _ = interrupt.recv() => SignalKind::interrupt(),
            _ = quit.recv() => SignalKind::quit(),
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::{App, HttpServer};

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_server_runs_and_ends_in_order_under_tokio_alone() {
        let server = HttpServer::new(App::new).workers(1).disable_signals();
        let server = server.bind(("127.0.0.1", 0)).expect("a free port").run();
        let asked = std::cell::Cell::new(false);
        let ask_once = async || {
            if asked.replace(true) {
                std::future::pending::<()>().await;
            }
        };
        let ended = run_until(server, ask_once, async { "in order" }).await;
        assert_eq!(ended.ok().flatten(), Some("in order"));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_server_that_is_stopped_by_its_handle_has_no_outcome() {
        let server = HttpServer::new(App::new).workers(1).disable_signals();
        let server = server.bind(("127.0.0.1", 0)).expect("a free port").run();
        let handle = server.handle();
        let running = run_until_signal(server, async { "in order" }).expect("signals");
        let (ended, ()) = tokio::join!(running, handle.stop(true));
        assert_eq!(ended.ok(), Some(None));
    }
}
