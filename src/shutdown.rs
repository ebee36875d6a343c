//! Ends a server in order: first its clients are disconnected while it still answers, then the HTTP server
//! stops. Phoenix: the supervision tree with its socket drainer.

use std::io;
use std::pin::pin;
use std::time::{Duration, Instant};

use actix_web::dev::Server;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// A signal within this time after the first is the same request: `timeout` and `tini -g` send two.
const SAME_REQUEST: Duration = Duration::from_secs(1);

/// Runs a server until SIGTERM, SIGINT or SIGQUIT, then runs `shutdown`, and stops the server when that has
/// returned. The call itself installs the signal handlers, so a program may report that it is ready before
/// it awaits the future.
///
/// `shutdown` runs while the server still answers: usually [`Endpoint::drain`], then for example a save of
/// pending data. The future returns the result of `shutdown`. It returns `None` if another signal, at least
/// a second later, ended everything at once, or if the server was stopped by its handle.
///
/// The server must be built with `disable_signals`. Otherwise actix-web stops it at the first signal, and
/// cuts clients off before they can be told to reconnect. The server runs in the task that awaits the
/// future, under `#[actix_web::main]` or `#[tokio::main]`.
///
/// # Errors
/// If the signal handlers cannot be installed. The future fails if the server fails.
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

/// Like [`run_until_signal`], but ends when `asked` returns. Its second return ends everything at once.
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
        // `shutdown` may have stopped the server itself. Its remaining work must still be finished.
        (outcome, ended) = async { tokio::join!(in_order, server) } => ended.map(|()| Some(outcome)),
        () = asked() => {
            tracing::warn!(
                "shutdown.forced: a second signal ended the process before its clients were gone; \
                 the spool keeps what was not saved"
            );
            Ok(None)
        }
    }
}

/// The signals that ask a process to end: SIGTERM, SIGINT and SIGQUIT, which all mean the same here.
#[derive(Debug)]
pub struct Signals {
    /// SIGTERM, SIGINT and SIGQUIT.
    listened: [Signal; 3],
    /// When the first signal arrived.
    first: Option<Instant>,
}

impl Signals {
    /// Catches the signals from now on: they no longer end the process by themselves.
    ///
    /// # Errors
    /// If the system refuses a handler.
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

    /// Waits for a request to end, and returns the signal's number. Ignores signals within a second after
    /// the first.
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
