//! The HTTP server: its listening socket, its admission, and its `App`.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use actix_web::dev::{Server, ServerHandle};
use actix_web::middleware::from_fn;
use actix_web::web::{self, ServiceConfig};
use actix_web::{App, HttpServer};

use crate::admission::{AddressLimit, Admission, AdmissionOptions};
use crate::endpoint::Endpoint;
use crate::metrics::connection_metrics;
use crate::rate::Rate;
use crate::server::config::{ServeConfig, WebsocketDriver};
use crate::server::http_metrics;
use crate::transport::direct::{Driver, ServerOptions, Tls};

/// How long HTTP requests may run after all sockets are closed.
const HTTP_GRACE: Duration = Duration::from_secs(5);

/// Open files that are reserved for the server itself.
const FILES_KEPT_BACK: usize = 64;

/// Serves the sockets, the routes and the page on one listener.
pub(super) fn server(
    config: &ServeConfig,
    endpoint: &Endpoint,
    admission: Admission,
    (operators, own, page): (
        impl FnOnce(&mut ServiceConfig) + Clone + Send + 'static,
        impl FnOnce(&mut ServiceConfig) + Clone + Send + 'static,
        impl FnOnce(&mut ServiceConfig) + Clone + Send + 'static,
    ),
    (listener, tls): (TcpListener, Option<Tls>),
) -> io::Result<Server> {
    let routed = endpoint.clone();
    let app = move || {
        App::new()
            .wrap(from_fn(http_metrics::count))
            .configure(routed.routes())
            .configure(operators.clone())
            .configure(own.clone())
            .service(web::scope("").configure(page.clone()))
    };
    let options = ServerOptions {
        workers: config.workers.map(usize::from),
        max_connections: match config.websocket_driver {
            WebsocketDriver::Direct => config.max_connections,
            // Under actix-ws each WebSocket counts as an HTTP connection, too.
            WebsocketDriver::ActixWs => config.max_connections.saturating_mul(2),
        },
        shutdown_timeout: HTTP_GRACE,
        admission,
        keep_alive: config.keep_alive,
        driver: match config.websocket_driver {
            WebsocketDriver::Direct => Driver::Direct,
            WebsocketDriver::ActixWs => Driver::ActixWs,
        },
        tls,
    };
    endpoint.serve(listener, app, options)
}

/// Serves what is for operators on a listener of its own, on one thread, until its handle stops it.
pub(super) fn serve_operators(
    operators: impl FnOnce(&mut ServiceConfig) + Clone + Send + 'static,
    listener: TcpListener,
) -> io::Result<ServerHandle> {
    let app = move || {
        App::new()
            .wrap(from_fn(http_metrics::count))
            .configure(operators.clone())
    };
    let server = HttpServer::new(app)
        .workers(1)
        .shutdown_timeout(HTTP_GRACE.as_secs())
        .disable_signals()
        .listen(listener)?
        .run();
    let handle = server.handle();
    actix_rt::spawn(server);
    Ok(handle)
}

/// A listening socket. Its address can be reused at once after a restart.
pub(super) fn listen(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

/// The limits on connections. The caller must have opened all long-lived files, because the open files are
/// counted here.
pub(super) fn admission(config: &ServeConfig) -> Admission {
    let max_files = files_for_streams();
    if max_files < config.max_connections {
        tracing::warn!(
            max_connections = config.max_connections,
            max_files,
            "serve.files.few: raise the limit of open files (ulimit -n) or lower max_connections"
        );
    }
    let most = config.max_connections.min(max_files);
    let metrics = connection_metrics();
    metrics.max.set(most as f64);
    metrics.configured_max.set(config.max_connections as f64);
    Admission::new(admission_options(config, max_files))
}

/// The limits of the settings.
pub(super) fn admission_options(config: &ServeConfig, max_files: usize) -> AdmissionOptions {
    let per_address = config.max_connections_per_ip.map(AddressLimit::new);
    AdmissionOptions {
        max_connections: config.max_connections,
        per_address: per_address.unwrap_or_default(),
        connects: Rate::new(config.connects_per_second, config.connects_burst),
        trusted_proxies: config.trusted_proxies.clone(),
        max_files,
        ..AdmissionOptions::default()
    }
}

/// The number of files for TCP connections: the system's limit, less the files that are open now and a reserve
/// for the database, the spool and the rest.
fn files_for_streams() -> usize {
    let allowed = rlimit::increase_nofile_limit(u64::MAX).unwrap_or_else(|error| {
        tracing::warn!(
            %error,
            "serve.files.limit: raise the hard limit of open files (LimitNOFILE, ulimit -Hn)"
        );
        u64::MAX
    });
    // If the system does not list the open files, the reserve has to suffice.
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let allowed = usize::try_from(allowed).unwrap_or(usize::MAX);
    allowed.saturating_sub(open + FILES_KEPT_BACK)
}
