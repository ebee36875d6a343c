//! The WebSocket driver on streams that the server owns.
//!
//! The edge reads the request, then hands the stream over, and no HTTP buffers stay. A silent connection costs its
//! actors and its state. The frames that a turn of its thread has queued leave with one `writev`, and all receivers
//! share their bytes. The App's routes, the handshake, the SocketServer and the outbox are those of the mountable
//! driver.
//!
//! Each connection has two halves. `frames` is the stream that its SocketServer reads; `writer` empties the outbox, ends
//! the connection and closes the stream. `writers` runs the writers of a thread.

mod frames;
mod handover;
mod writer;
mod writers;

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_http::body::MessageBody;
use actix_http::{Request, Response, ServiceConfig};
use actix_rt::net::TcpStream;
use actix_service::{
    IntoServiceFactory, Service, ServiceFactory, ServiceFactoryExt, fn_factory, fn_service,
    map_config,
};
use actix_web::Error;
use actix_web::dev::{AppConfig, Server};

pub(super) use self::handover::Handover;
pub(super) use self::writers::count as count_of_connections;
use super::edge::{Edge, Patience, Stopping};
use super::handshake::Mounted;
use super::tcp;
pub use super::tls::Tls;
use crate::admission::Admission;

/// The settings of [`serve`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerOptions {
    /// Worker threads. Default: one a core.
    pub workers: Option<usize>,
    /// HTTP connections of one worker, at which it accepts no more, and WebSocket connections of
    /// one worker, at which it answers 503. Default 25,600.
    pub max_connections: usize,
    /// HTTP requests may run this long after the server was stopped. Default 5 s.
    pub shutdown_timeout: Duration,
    /// A connection may rest this long between two requests. Default 75 s, longer than proxies keep theirs: if the
    /// server closed first, a request would be lost now and then.
    pub keep_alive: Duration,
    /// The admission of clients, which counts the streams; it should be the endpoint's own, which counts sockets.
    pub admission: Admission,
    /// The driver of the WebSocket connections. Default [`Driver::Direct`].
    pub driver: Driver,
    /// TLS, with the feature `tls`. Default `None`: plain TCP.
    pub tls: Option<Tls>,
}

setters!(ServerOptions {
    max_connections: usize,
    shutdown_timeout: Duration,
    keep_alive: Duration,
    admission: Admission,
    driver: Driver,
} some {
    workers: usize,
});

#[cfg(feature = "tls")]
setters!(ServerOptions {} some {
    tls: Tls,
});

/// The driver of a server's WebSocket connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Driver {
    /// Streams of the server's own.
    #[default]
    Direct,
    /// actix-ws, as in an actix-web `HttpServer`, at several times the memory.
    ActixWs,
}

/// The number of messages in a stream of a client's frames. For `benches/instructions/main.rs` alone.
#[cfg(feature = "_bench")]
pub(crate) fn decode_frames(mut stream: &[u8]) -> usize {
    let mut decoder = super::decoder::Decoder::new(1_000_000, false);
    let messages = std::iter::from_fn(|| decoder.decode(&mut stream).expect("a client's frames"));
    messages.count()
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            workers: None,
            max_connections: 25_600,
            shutdown_timeout: Duration::from_secs(5),
            keep_alive: Duration::from_secs(75),
            admission: Admission::default(),
            driver: Driver::default(),
            tls: None,
        }
    }
}

/// Serves an App over TCP or TLS, and the WebSocket connections of the endpoints mounted in it over
/// streams of the server's own, at a fraction of the memory that they cost in an actix-web `HttpServer`.
/// The server must be awaited; it does not handle signals, see
/// [`run_until_signal`](crate::shutdown::run_until_signal).
///
/// `app` is called once on every worker thread. All requests go through the App, upgrades
/// included; a connection that was upgraded by something else than an endpoint is closed. The caller sets the
/// listener's backlog.
///
/// # Errors
/// If the listener cannot be used.
///
/// ```no_run
/// use std::net::{SocketAddr, TcpListener};
///
/// use actix_web::App;
/// use slackir::Endpoint;
/// use slackir::shutdown::run_until_signal;
/// use slackir::socket::DrainOptions;
/// use slackir::transport::direct::{ServerOptions, serve};
///
/// # async fn run(endpoint: Endpoint) -> std::io::Result<()> {
/// let routes = endpoint.clone();
/// let app = move || App::new().configure(routes.routes());
/// let listener = TcpListener::bind(("127.0.0.1", 4000))?;
/// let server = serve(listener, app, ServerOptions::default())?;
/// let shutdown = endpoint.shutdown(server.handle(), DrainOptions::default());
/// run_until_signal(server, shutdown)?.await?;
/// # Ok(())
/// # }
/// ```
pub fn serve<F, I, S, B>(
    listener: TcpListener,
    app: F,
    options: ServerOptions,
) -> io::Result<Server>
where
    F: Fn() -> I + Send + Clone + 'static,
    I: IntoServiceFactory<S, Request>,
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
    S::Error: Into<Error> + 'static,
    S::InitError: fmt::Debug,
    S::Response: Into<Response<B>> + 'static,
    <S::Service as Service<Request>>::Future: 'static,
    S::Service: 'static,
    B: MessageBody + 'static,
{
    serve_sockets(listener, Vec::new(), app, options)
}

/// As [`serve`]; handshakes at the paths of these sockets do not go through the App.
pub(crate) fn serve_sockets<F, I, S, B>(
    listener: TcpListener,
    sockets: Vec<(String, Arc<Mounted>)>,
    app: F,
    options: ServerOptions,
) -> io::Result<Server>
where
    F: Fn() -> I + Send + Clone + 'static,
    I: IntoServiceFactory<S, Request>,
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
    S::Error: Into<Error> + 'static,
    S::InitError: fmt::Debug,
    S::Response: Into<Response<B>> + 'static,
    <S::Service as Service<Request>>::Future: 'static,
    S::Service: 'static,
    B: MessageBody + 'static,
{
    let mut server = Server::build()
        .max_concurrent_connections(options.max_connections)
        .shutdown_timeout(options.shutdown_timeout.as_secs())
        .disable_signals();
    tcp::set_own_options(&listener);
    let address = listener.local_addr()?;
    if let Some(workers) = options.workers {
        server = server.workers(workers);
    }
    let stop = server.graceful_shutdown_signal();
    let server = server.listen("slackir", listener, move || {
        let (stop, app, sockets) = (stop.clone(), app.clone(), sockets.clone());
        let (admission, tls) = (options.admission.clone(), options.tls.clone());
        fn_factory(move || {
            let app = app()
                .into_factory()
                .map(|response: S::Response| response.into().map_into_boxed_body())
                .map_err(|error| error.into().error_response().into());
            let is_secure = tls.is_some();
            let app = map_config(app, move |()| app_config(is_secure, address));
            let (app, stop) = (app.new_service(()), stop.clone());
            let sockets = sockets.clone();
            let (admission, tls) = (admission.clone(), tls.clone());
            async move {
                let stopping = Rc::new(Stopping::default());
                let told = Rc::clone(&stopping);
                actix_rt::spawn(async move {
                    stop.notified().await;
                    told.begin();
                });
                let edge = Rc::new(Edge {
                    app: app.await?,
                    sockets: sockets.into(),
                    config: ServiceConfig::default(),
                    patience: Patience::new(options.keep_alive),
                    hands_over: options.driver == Driver::Direct,
                    max_handed_over: options.max_connections,
                    admission,
                    tls,
                    stopping,
                });
                Ok::<_, S::InitError>(fn_service(move |stream: TcpStream| {
                    let edge = Rc::clone(&edge);
                    // Boxed, because it is large and actix-server moves it.
                    Box::pin(async move {
                        edge.serve(stream).await;
                        Ok::<_, Infallible>(())
                    })
                }))
            }
        })
    })?;
    Ok(server.run())
}

/// What the App knows of its server: whether requests come by https, and its address.
fn app_config(is_secure: bool, address: SocketAddr) -> AppConfig {
    if is_secure {
        // actix-web has no other way than the one of its own test server.
        AppConfig::__priv_test_new(true, address.to_string(), address)
    } else {
        AppConfig::default()
    }
}
