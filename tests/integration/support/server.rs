//! A server inside the test process: any endpoint, two workers, a port of its own.

use std::cell::Cell;
use std::net::{SocketAddr, TcpListener};
use std::thread::JoinHandle;
use std::time::Duration;

use actix_web::dev::{Server, ServerHandle};
use actix_web::{App, HttpServer};
use slackir::Endpoint;
use slackir::endpoint::HttpServerExt;
use slackir::transport::direct::ServerOptions;

/// What serves the WebSocket connections of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Driver {
    /// actix-ws, in actix-web's server.
    ActixWs,
    /// Sockets that the server owns.
    Direct,
}

thread_local! {
    /// What the servers that the test of this thread starts are served by.
    static DRIVER: Cell<Driver> = const { Cell::new(Driver::ActixWs) };
}

impl Driver {
    /// The one of the test that runs.
    pub(crate) fn current() -> Self {
        DRIVER.get()
    }

    /// Runs a test whose servers are served by this driver.
    pub(crate) async fn run(self, test: impl Future<Output = ()>) {
        DRIVER.set(self);
        test.await;
    }

    /// Serves an endpoint with two workers.
    fn serve(self, listener: TcpListener, endpoint: &Endpoint) -> Server {
        let routed = endpoint.clone();
        let app = move || App::new().configure(routed.routes());
        let server = match self {
            Self::Direct => {
                let options = ServerOptions::default()
                    .workers(2)
                    .shutdown_timeout(Duration::from_secs(1));
                endpoint.serve(listener, app, options)
            }
            Self::ActixWs => HttpServer::new(app)
                .workers(2)
                .with_sockets(endpoint)
                .shutdown_timeout(1)
                .listen(listener)
                .map(HttpServer::run),
        };
        server.expect("the listener is good")
    }
}

/// Makes of each test, an async function, one for each WebSocket driver: `name::websocket` and
/// `name::direct`.
macro_rules! over_both_drivers {
    ($($test:ident)*) => {$(
        mod $test {
            use crate::support::server::Driver;

            #[actix_web::test]
            async fn websocket() {
                Driver::ActixWs.run(super::$test()).await;
            }

            #[actix_web::test]
            async fn direct() {
                Driver::Direct.run(super::$test()).await;
            }
        }
    )*};
}
pub(crate) use over_both_drivers;

/// Serves an endpoint until it is dropped.
pub(crate) struct TestServer {
    pub(crate) addr: SocketAddr,
    pub(crate) endpoint: Endpoint,
    handle: ServerHandle,
    thread: Option<JoinHandle<()>>,
}

impl TestServer {
    /// Starts the server and waits until it listens. `endpoint` is made on the server's thread,
    /// inside its actix system.
    pub(crate) fn start(endpoint: impl FnOnce() -> Endpoint + Send + 'static) -> Self {
        let driver = Driver::current();
        let (started, listening) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let endpoint = endpoint();
                let listener = TcpListener::bind(("127.0.0.1", 0)).expect("port 0 is always free");
                let addr = listener.local_addr().expect("it is bound");
                let server = driver.serve(listener, &endpoint);
                started
                    .send((addr, endpoint, server.handle()))
                    .expect("the test waits");
                server.await.expect("the server ends in order");
            });
        });
        let (addr, endpoint, handle) = listening.recv().expect("the server starts");
        Self {
            addr,
            endpoint,
            handle,
            thread: Some(thread),
        }
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        // The command is sent by the call; the thread ends when it was carried out.
        drop(self.handle.stop(false));
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the server's thread panicked");
        }
    }
}
