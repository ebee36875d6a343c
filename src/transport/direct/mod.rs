//! The WebSocket driver on streams that the server owns.
//!
//! actix-http reads the request; then the stream is ours. No HTTP buffers stay behind: a connection
//! that is silent costs its actors and its state, and what a turn of its thread has queued for it
//! leaves with one `writev` of the frames that all receivers share. Everything else is the same as
//! on the mountable driver: the App's routes, the handshake, the SocketServer, the outbox.
//!
//! Each connection has two halves. `frames` is the stream of its SocketServer, which reads; `writer`
//! empties the outbox, ends the connection and closes the stream. `writers` runs those of a thread.

mod decoder;
mod frames;
mod handover;
mod writer;
mod writers;

use std::convert::Infallible;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::TcpListener;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use actix_codec::{Framed, FramedParts};
use actix_http::body::{BoxBody, MessageBody};
use actix_http::h1::{Codec, Message};
use actix_http::{ConnectionType, HttpMessage, HttpService, Request, Response, StatusCode};
use actix_rt::net::TcpStream;
use actix_service::{
    IntoServiceFactory, Service, ServiceFactory, ServiceFactoryExt, fn_factory, fn_service,
    map_config,
};
use actix_web::Error;
use actix_web::dev::{AppConfig, Server};
use bytes::Bytes;
use futures_util::SinkExt;

pub(super) use self::handover::Handover;
use super::tcp;

/// How [`serve`] serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerOptions {
    /// Worker threads. Default: one a core.
    pub workers: Option<usize>,
    /// HTTP connections of one worker, at which it accepts no more, and WebSocket connections of
    /// one worker, at which it answers 503. Default 25,600.
    pub max_connections: usize,
    /// How long HTTP requests may still run when the server is stopped. Default 5 s.
    pub shutdown_timeout: Duration,
}

/// How many messages a stream of a client's frames holds. For `benches/instructions.rs` alone.
#[cfg(feature = "_bench")]
pub(crate) fn decode_frames(mut stream: &[u8]) -> usize {
    let mut decoder = decoder::Decoder::new(1_000_000);
    let messages = std::iter::from_fn(|| decoder.decode(&mut stream).expect("a client's frames"));
    messages.count()
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            workers: None,
            max_connections: 25_600,
            shutdown_timeout: Duration::from_secs(5),
        }
    }
}

/// Serves an App over plain TCP, and the WebSocket connections of the endpoints mounted in it over
/// streams of the server's own, at a fraction of the memory that they cost in an actix-web `HttpServer`.
/// The server must be awaited; it does not handle signals, see
/// [`run_until_signal`](crate::shutdown::run_until_signal).
///
/// `app` is called twice on every worker thread. All requests take the App's way, upgrades
/// included; a connection that was upgraded by something else than an endpoint is closed. The
/// listener's backlog is its maker's. Where TLS is wanted, mount the endpoint in an `HttpServer`.
///
/// # Errors
/// When the listener cannot be used.
///
/// ```no_run
/// use std::net::TcpListener;
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
/// run_until_signal(server, endpoint.drain(DrainOptions::default()))?.await?;
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
    let max_connections = options.max_connections;
    let mut server = Server::build()
        .max_concurrent_connections(max_connections)
        .shutdown_timeout(options.shutdown_timeout.as_secs())
        .disable_signals();
    if let Some(workers) = options.workers {
        server = server.workers(workers);
    }
    let stop = server.graceful_shutdown_signal();
    let server = server.listen("slackir", listener, move || {
        let stop = stop.clone();
        let upgraded = app.clone();
        let upgrade = fn_factory(move || {
            let app = map_config(upgraded().into_factory(), |()| AppConfig::default());
            let service = app.new_service(());
            async move {
                let app = Rc::new(service.await?);
                Ok::<_, S::InitError>(fn_service(move |(request, framed)| {
                    answer(Rc::clone(&app), request, framed, max_connections)
                }))
            }
        });
        let app = app()
            .into_factory()
            .map_err(|error| error.into().error_response());
        HttpService::build()
            .tcp_nodelay(true)
            .client_disconnect_timeout(super::CLOSE_LINGER)
            // As in an `HttpServer`: connections that wait for another request do not hold it up.
            .graceful_shutdown_signal(move || {
                let stop = stop.clone();
                async move { stop.notified().await }
            })
            .on_connect_ext(|stream: &TcpStream, _| tcp::set_options(stream))
            .upgrade(upgrade)
            .finish(map_config(app, |()| AppConfig::default()))
            .tcp()
    })?;
    Ok(server.run())
}

/// Answers a request that asks for an upgrade, and starts the connection that it has become.
async fn answer<S, B>(
    app: Rc<S>,
    request: Request,
    mut framed: Framed<TcpStream, Codec>,
    max_connections: usize,
) -> Result<(), Infallible>
where
    S: Service<Request>,
    S::Response: Into<Response<B>>,
    S::Error: Into<Error>,
    B: MessageBody + 'static,
{
    let handover = Handover::default();
    let mut response = if writers::count() < max_connections {
        request.extensions_mut().insert(handover.clone());
        match app.call(request).await {
            Ok(response) => response.into().map_into_boxed_body(),
            Err(error) => error.into().error_response().into(),
        }
    } else {
        tracing::warn!(max_connections, "transport.direct.full");
        Response::new(StatusCode::SERVICE_UNAVAILABLE)
    };
    let is_switching = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let upgraded = handover.take().filter(|_| is_switching);
    if upgraded.is_none() {
        // What the client may have sent behind its request has no meaning.
        response
            .head_mut()
            .set_connection_type(ConnectionType::Close);
    }
    if let Err(error) = send(&mut framed, response).await {
        tracing::debug!(%error, "transport.direct.answer");
        return Ok(());
    }
    let FramedParts { io, read_buf, .. } = framed.into_parts();
    match upgraded {
        Some(upgraded) => upgraded.start(io, Bytes::copy_from_slice(&read_buf)),
        None => writer::hang_up(&io).await,
    }
    Ok(())
}

/// Sends a whole answer.
async fn send(
    framed: &mut Framed<TcpStream, Codec>,
    response: Response<BoxBody>,
) -> Result<(), Box<dyn std::error::Error>> {
    let (head, mut body) = response.into_parts();
    framed.send(Message::Item((head, body.size()))).await?;
    while let Some(chunk) = poll_fn(|cx| Pin::new(&mut body).poll_next(cx)).await {
        framed.send(Message::Chunk(Some(chunk?))).await?;
    }
    Ok(framed.send(Message::Chunk(None)).await?)
}
