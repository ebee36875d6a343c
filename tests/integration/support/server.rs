//! A server inside the test process: any endpoint, two workers, a port of its own.

use std::net::SocketAddr;
use std::thread::JoinHandle;

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpServer};
use slackir::Endpoint;

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
        let (started, listening) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let endpoint = endpoint();
                let served = endpoint.clone();
                let server = HttpServer::new(move || App::new().configure(served.routes()))
                    .workers(2)
                    .tcp_nodelay(true)
                    .on_connect(slackir::transport::on_connect)
                    .client_disconnect_timeout(slackir::transport::CLOSE_LINGER)
                    .shutdown_timeout(1)
                    .disable_signals()
                    .bind(("127.0.0.1", 0))
                    .expect("port 0 is always free");
                let addr = server.addrs()[0];
                let server = server.run();
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
