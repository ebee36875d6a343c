//! Serves an endpoint in one call, or prepares an actix-web `HttpServer` for it.

use std::fmt;
use std::io;
use std::net::{TcpListener, ToSocketAddrs};
use std::time::Duration;

use actix_http::body::MessageBody;
use actix_http::{Request, Response};
use actix_service::{IntoServiceFactory, Service, ServiceFactory};
use actix_web::dev::AppConfig;
use actix_web::web::ServiceConfig;
use actix_web::{App, Error, HttpServer};

use super::Endpoint;
use crate::shutdown::run_until_signal;
use crate::socket::DrainOptions;
use crate::transport::direct::ServerOptions;
use crate::transport::{CLOSE_LINGER, on_connect_counted};

/// How long a connection may be idle between two requests, as in [`ServerOptions`].
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// Serves an endpoint's sockets until SIGTERM, SIGINT or SIGQUIT. Then disconnects the clients so that they
/// reconnect, finishes the requests, and saves pending messages. Runs under `#[actix_web::main]` and
/// `#[tokio::main]`.
///
/// ```no_run
/// use slackir::prelude::*;
///
/// struct Anyone;
/// impl Socket for Anyone {}
///
/// struct Echo;
///
/// impl Channel for Echo {
///     type Info = ();
///     async fn join(_: Payload, _: &mut Context<Self>) -> JoinResult<Self> {
///         Ok(Join::ok(Echo))
///     }
///     async fn handle_in(&mut self, _: &str, payload: Payload, _: &mut Context<Self>) -> HandleInResult {
///         Ok(HandleIn::ok(payload))
///     }
/// }
///
/// #[actix_web::main]
/// async fn main() -> std::io::Result<()> {
///     let router = SocketRouter::new().channel::<Echo>("echo:*");
///     let endpoint = Endpoint::builder(PubSub::new())
///         .mount(Mount::new("/socket", Anyone, router))
///         .build();
///     slackir::serve(&endpoint, ("127.0.0.1", 4000)).await
/// }
/// ```
///
/// # Errors
/// If the address cannot be used, if the server fails, or if messages could not be saved at the end.
pub async fn serve(endpoint: &Endpoint, address: impl ToSocketAddrs) -> io::Result<()> {
    serve_with(endpoint, address, |_| {}).await
}

/// Like [`serve`], with additional HTTP routes. `routes` is called once on every worker thread. For an App
/// with middleware use [`Endpoint::serve`], for TLS [`HttpServerExt`].
///
/// ```no_run
/// use actix_web::web::{self, Data, ServiceConfig};
/// use slackir::Endpoint;
///
/// async fn news(endpoint: Data<Endpoint>, news: String) -> String {
///     match endpoint.broadcast("team:all", "news", serde_json::json!({ "text": news })).await {
///         Ok(()) => "told".to_owned(),
///         Err(error) => error.to_string(),
///     }
/// }
///
/// # async fn run(endpoint: Endpoint) -> std::io::Result<()> {
/// let told = Data::new(endpoint.clone());
/// let routes = move |app: &mut ServiceConfig| {
///     app.app_data(told.clone()).route("/news", web::post().to(news));
/// };
/// slackir::serve_with(&endpoint, ("127.0.0.1", 4000), routes).await
/// # }
/// ```
///
/// # Errors
/// As [`serve`].
pub async fn serve_with(
    endpoint: &Endpoint,
    address: impl ToSocketAddrs,
    routes: impl Fn(&mut ServiceConfig) + Clone + Send + 'static,
) -> io::Result<()> {
    serve_on(endpoint, TcpListener::bind(address)?, routes).await
}

/// Like [`serve_with`], on a listener that is already bound: to port 0, whose number
/// [`TcpListener::local_addr`] tells, or handed over by a supervisor.
///
/// ```no_run
/// use std::net::TcpListener;
///
/// # async fn run(endpoint: slackir::Endpoint) -> std::io::Result<()> {
/// let listener = TcpListener::bind(("127.0.0.1", 0))?;
/// println!("listening on {}", listener.local_addr()?);
/// slackir::serve_on(&endpoint, listener, |_| {}).await
/// # }
/// ```
///
/// # Errors
/// If the server fails, or if messages could not be saved at the end.
pub async fn serve_on(
    endpoint: &Endpoint,
    listener: TcpListener,
    routes: impl Fn(&mut ServiceConfig) + Clone + Send + 'static,
) -> io::Result<()> {
    let sockets = endpoint.clone();
    let app = move || {
        App::new()
            .configure(sockets.routes())
            .configure(routes.clone())
    };
    let server = endpoint.serve(listener, app, ServerOptions::default())?;
    let shutdown = endpoint.shutdown(server.handle(), DrainOptions::default());
    match run_until_signal(server, shutdown)?.await? {
        Some(flushed) if flushed.at_risk > 0 => Err(io::Error::other(format!(
            "{} messages could not be saved before the shutdown's time was over",
            flushed.at_risk
        ))),
        _ => Ok(()),
    }
}

/// Prepares an actix-web `HttpServer` to serve sockets.
pub trait HttpServerExt: Sized {
    /// Sets the options that an [`Endpoint`]'s sockets need:
    ///
    /// - A client that does not read has bounds, and the endpoint's
    ///   [`Admission`](crate::admission::Admission) counts the streams.
    /// - After a close frame the server waits [`CLOSE_LINGER`] for the client to close the connection.
    /// - A connection may be idle for 75 seconds between two requests, longer than a proxy keeps it.
    /// - [`run_until_signal`] handles signals, so that the sockets are drained first.
    ///
    /// It replaces an earlier `on_connect`. Under TLS the server cannot see the TCP stream: call
    /// [`tune`](crate::transport::tune) on its listener as well.
    ///
    /// ```no_run
    /// use actix_web::{App, HttpServer};
    /// use slackir::Endpoint;
    /// use slackir::endpoint::HttpServerExt;
    /// use slackir::shutdown::run_until_signal;
    /// use slackir::socket::DrainOptions;
    ///
    /// # async fn run(endpoint: Endpoint) -> std::io::Result<()> {
    /// let routes = endpoint.clone();
    /// let server = HttpServer::new(move || App::new().configure(routes.routes()))
    ///     .with_sockets(&endpoint)
    ///     .bind(("127.0.0.1", 4000))?
    ///     .run();
    /// let shutdown = endpoint.shutdown(server.handle(), DrainOptions::default());
    /// run_until_signal(server, shutdown)?.await.map(drop)
    /// # }
    /// ```
    fn with_sockets(self, endpoint: &Endpoint) -> Self;
}

impl<F, I, S, B> HttpServerExt for HttpServer<F, I, S, B>
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
    fn with_sockets(self, endpoint: &Endpoint) -> Self {
        self.tcp_nodelay(true)
            .on_connect(on_connect_counted(endpoint.sockets.admission().clone()))
            .client_disconnect_timeout(CLOSE_LINGER)
            .keep_alive(KEEP_ALIVE)
            .disable_signals()
    }
}
