//! [`Endpoint`]: mounts sockets on an actix-web `App`, and disconnects their clients in order at shutdown.
//! Phoenix: `Phoenix.Endpoint`.

mod inspect;
mod refused;
mod route;
mod serve;

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_http::body::MessageBody;
use actix_http::{Request, Response};
use actix_service::{IntoServiceFactory, Service, ServiceFactory};
use actix_web::dev::{AppConfig, Server, ServerHandle};
use actix_web::web::{self, ServiceConfig};
use actix_web::{Error, HttpRequest};

use self::route::Route;
pub use self::serve::{HttpServerExt, serve, serve_on, serve_with};
use crate::admission::Admission;
use crate::assigns::Assigns;
use crate::ban::Bans;
use crate::log::Flushed;
use crate::message::IntoPayload;
use crate::pubsub::{Listener, PubSub, PublishError};
use crate::socket::{
    DrainOptions, Served, SharedLimits, Socket, SocketOptions, SocketRouter, Sockets,
};
use crate::transport::direct::{self, ServerOptions};
use crate::transport::{
    HandshakeOptions, LongPoll, LongPollOptions, Mounted, RequestHook, serve_longpoll, upgrade,
};

/// How long the final save of messages may take, even if the clients have used up the time of the shutdown.
const LAST_SAVE: Duration = Duration::from_secs(2);

/// The sockets of a server. A clone is cheap and refers to the same endpoint.
///
/// ```no_run
/// use slackir::{Endpoint, Mount};
/// use slackir::pubsub::PubSub;
/// use slackir::socket::{Socket, SocketRouter};
///
/// struct Anyone;
/// impl Socket for Anyone {}
///
/// # async fn run(router: SocketRouter) -> std::io::Result<()> {
/// let endpoint = Endpoint::builder(PubSub::new()).mount(Mount::new("/socket", Anyone, router)).build();
/// slackir::serve(&endpoint, ("127.0.0.1", 4000)).await
/// # }
/// ```
#[derive(Clone)]
pub struct Endpoint {
    pubsub: PubSub,
    sockets: Sockets,
    mounts: Arc<[Transports]>,
}

named_debug!(Endpoint);

/// One mounted socket, with its paths and transports.
struct Transports {
    path: String,
    mounted: Arc<Mounted>,
    websocket: Option<Route>,
    longpoll: Option<(Route, Arc<LongPoll>)>,
}

/// A socket at a path, for [`EndpointBuilder::mount`]. Phoenix: `socket "/socket", UserSocket, ..`.
///
/// ```
/// use slackir::endpoint::{Mount, TransportOptions};
/// use slackir::socket::{Socket, SocketOptions, SocketRouter};
///
/// struct Anyone;
/// impl Socket for Anyone {}
///
/// let mount = Mount::new("/socket", Anyone, SocketRouter::new())
///     .options(SocketOptions::default().max_channels(10))
///     .transports(TransportOptions::default().longpoll("longpoll"));
/// # let _ = mount;
/// ```
pub struct Mount {
    /// At least one.
    paths: Vec<String>,
    served: Served,
    transports: TransportOptions,
    on_request: Option<RequestHook>,
}

impl Mount {
    /// A socket at a path such as `/socket`. A segment `:name` matches any text and becomes a connection
    /// parameter, which overrides a query parameter of the same name. A name that starts with `_` is not
    /// passed on.
    pub fn new(path: &str, socket: impl Socket, router: SocketRouter) -> Self {
        let options = SocketOptions::default();
        Self {
            paths: vec![path.to_owned()],
            served: Served {
                socket: Box::new(socket),
                router: Arc::new(router),
                limits: SharedLimits::of(&options),
                options,
            },
            transports: TransportOptions::default(),
            on_request: None,
        }
    }

    /// Serves the same socket at a further path. Phoenix: a second `socket` line with the same module.
    ///
    /// ```
    /// use slackir::Mount;
    /// use slackir::socket::{Socket, SocketRouter};
    ///
    /// struct Anyone;
    /// impl Socket for Anyone {}
    ///
    /// let mount = Mount::new("/socket", Anyone, SocketRouter::new()).also_at("/api/socket");
    /// # let _ = mount;
    /// ```
    pub fn also_at(mut self, path: &str) -> Self {
        self.paths.push(path.to_owned());
        self
    }

    /// Copies data of a request into the assigns, before [`Socket::connect`] runs: for example a cookie, or
    /// a value that a middleware of the App has put into the request's extensions. `connect` finds the data
    /// in its assigns. Handshakes of such a socket always go through the App, so that its middleware has
    /// seen them.
    ///
    /// ```
    /// use actix_web::HttpMessage;
    /// use slackir::{Assigns, Mount};
    /// use slackir::socket::{Socket, SocketRouter};
    ///
    /// struct Anyone;
    /// impl Socket for Anyone {}
    ///
    /// #[derive(Clone)]
    /// struct UserId(u64);
    ///
    /// let mount = Mount::new("/socket", Anyone, SocketRouter::new()).on_request(|request, assigns| {
    ///     if let Some(user) = request.extensions().get::<UserId>() {
    ///         assigns.insert(user.clone());
    ///     }
    /// });
    /// # let _ = mount;
    /// ```
    pub fn on_request(
        mut self,
        hook: impl Fn(&HttpRequest, &mut Assigns) + Send + Sync + 'static,
    ) -> Self {
        self.on_request = Some(Arc::new(hook));
        self
    }

    /// Sets the limits and options of the socket.
    pub fn options(mut self, options: SocketOptions) -> Self {
        self.served.limits = SharedLimits::of(&options);
        self.served.options = options;
        self
    }

    /// The limits that can change while the socket is served. They begin as [`options`](Self::options) say, so call
    /// that first.
    pub fn limits(&self) -> SharedLimits {
        self.served.limits.clone()
    }

    /// Sets the transports of the socket.
    pub fn transports(mut self, transports: TransportOptions) -> Self {
        self.transports = transports;
        self
    }
}

impl fmt::Debug for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mount")
            .field("paths", &self.paths)
            .field("options", &self.served.options)
            .field("transports", &self.transports)
            .finish_non_exhaustive()
    }
}

/// Builds an [`Endpoint`]. The order of the calls has no meaning, except that of [`mount`](Self::mount).
pub struct EndpointBuilder {
    pubsub: PubSub,
    admission: Admission,
    bans: Bans,
    mounts: Vec<Mount>,
}

/// The transports of a mounted socket.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TransportOptions {
    /// The path of the WebSocket transport below the mount; `None` switches it off. Default: `websocket`.
    pub websocket: Option<String>,
    /// The path of the long-poll transport below the mount; `None` switches it off. Default: `None`, as in
    /// Phoenix.
    pub longpoll: Option<String>,
    /// The options for long-polling clients.
    pub longpoll_options: LongPollOptions,
    /// The options of the handshake: origin, auth token, subprotocols, and the data that `connect` may see.
    pub handshake: HandshakeOptions,
}

setters!(TransportOptions {
    longpoll_options: LongPollOptions,
    handshake: HandshakeOptions,
} some {
    websocket: impl Into<String>,
    longpoll: impl Into<String>,
});

impl Default for TransportOptions {
    fn default() -> Self {
        Self {
            websocket: Some("websocket".to_owned()),
            longpoll: None,
            longpoll_options: LongPollOptions::default(),
            handshake: HandshakeOptions::default(),
        }
    }
}

impl Endpoint {
    /// Builds an endpoint whose channels use these topics.
    pub fn builder(pubsub: PubSub) -> EndpointBuilder {
        EndpointBuilder {
            pubsub,
            admission: Admission::default(),
            bans: Bans::default(),
            mounts: Vec::new(),
        }
    }

    /// For `App::configure`: the routes of all mounted sockets. A socket at `/socket` is served at
    /// `/socket/websocket`, and at `/socket/longpoll` if that is switched on.
    pub fn routes(&self) -> impl FnOnce(&mut ServiceConfig) + use<> {
        let mounts = Arc::clone(&self.mounts);
        move |config| {
            for mount in mounts.iter() {
                if let Some(route) = &mount.websocket {
                    let websocket = Arc::clone(&mount.mounted);
                    let handler = move |req: HttpRequest, body: web::Payload| {
                        let websocket = Arc::clone(&websocket);
                        async move { upgrade(&websocket, req, body).await }
                    };
                    config.service(route.resource().to(handler));
                }
                if let Some((route, longpoll)) = &mount.longpoll {
                    let longpoll = Arc::clone(longpoll);
                    let handler = move |req: HttpRequest, body: web::Payload| {
                        let longpoll = Arc::clone(&longpoll);
                        async move { serve_longpoll(&longpoll, req, body).await }
                    };
                    config.service(route.resource().to(handler));
                }
            }
        }
    }

    /// Serves as [`direct::serve`] does, but faster, for an App that has this endpoint's
    /// [`routes`](Self::routes) at its root. Handshakes of the endpoint's sockets bypass the App, so its
    /// middleware does not see them. A socket with variables in its path, or with [`Mount::on_request`],
    /// still goes through the App. The endpoint's own [`Admission`] counts the streams; that of `options`
    /// is ignored.
    ///
    /// # Errors
    /// If the listener cannot be used.
    pub fn serve<F, I, S, B>(
        &self,
        listener: TcpListener,
        app: F,
        mut options: ServerOptions,
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
        let sockets = self.mounts.iter().filter_map(|mount| {
            let path = mount.websocket.as_ref()?.plain()?;
            (!mount.mounted.needs_app()).then(|| (path, Arc::clone(&mount.mounted)))
        });
        options.admission = self.sockets.admission().clone();
        direct::serve_sockets(listener, sockets.collect(), app, options)
    }

    /// The socket mounted at a path.
    pub(crate) fn mounted(&self, path: &str) -> Option<&Mounted> {
        self.mounts
            .iter()
            .find(|mount| mount.path == path)
            .map(|mount| &*mount.mounted)
    }

    /// The topics.
    pub fn pubsub(&self) -> &PubSub {
        &self.pubsub
    }

    /// Sends a message to every member of a topic. Phoenix: `Endpoint.broadcast/3`.
    ///
    /// # Errors
    /// As [`PubSub::broadcast`].
    pub async fn broadcast(
        &self,
        topic: &str,
        event: &str,
        payload: impl IntoPayload,
    ) -> Result<(), PublishError> {
        self.pubsub.broadcast(topic, event, payload).await
    }

    /// Like [`Endpoint::broadcast`], to everybody except `listener`.
    ///
    /// # Errors
    /// As [`PubSub::broadcast`].
    pub async fn broadcast_from(
        &self,
        listener: &Listener,
        topic: &str,
        event: &str,
        payload: impl IntoPayload,
    ) -> Result<(), PublishError> {
        self.pubsub
            .broadcast_from(listener, topic, event, payload)
            .await
    }

    /// Subscribes to a topic outside channels, on this thread. Phoenix: `Endpoint.subscribe/1`.
    pub fn subscribe(&self, topic: &str) -> Listener {
        let mut listener = Listener::new(&self.pubsub);
        listener.subscribe(topic);
        listener
    }

    /// The number of open connections on all workers.
    pub fn connections(&self) -> usize {
        self.sockets.count()
    }

    /// Asks the [`Permit`](crate::socket::Permit) of every connection, on all workers, and closes the connections whose
    /// permit does not hold, and those that are [banned](Self::bans). Call it after a permit has changed, or a ban was
    /// added. It returns once all connections have the question.
    pub async fn check_permits(&self) {
        self.sockets.check_permits().await;
    }

    /// The users and addresses that may not connect. Handshakes heed a change at once, open connections at the next
    /// [`check_permits`](Self::check_permits).
    pub fn bans(&self) -> &Bans {
        self.sockets.bans()
    }

    /// Whether the endpoint is disconnecting its clients and refuses new ones.
    pub fn is_draining(&self) -> bool {
        self.sockets.is_draining()
    }

    /// Ends a server in order, for [`run_until_signal`](crate::shutdown::run_until_signal): disconnects the
    /// clients, stops the HTTP server, so that nothing more is published, and saves every message
    /// ([`PubSub::save`]). If `at_risk` of the result is 0, no message is lost.
    ///
    /// ```no_run
    /// # use slackir::{Endpoint, shutdown::run_until_signal, socket::DrainOptions};
    /// # async fn run(endpoint: Endpoint, server: actix_web::dev::Server) -> std::io::Result<()> {
    /// let shutdown = endpoint.shutdown(server.handle(), DrainOptions::default());
    /// run_until_signal(server, shutdown)?.await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn shutdown(&self, server: ServerHandle, options: DrainOptions) -> Flushed {
        let end = Instant::now() + options.shutdown;
        self.drain(options).await;
        server.stop(true).await;
        let left = end.saturating_duration_since(Instant::now());
        self.pubsub.save(left.max(LAST_SAVE)).await
    }

    /// Closes the open connections in batches with code 1012, so that their clients reconnect, to another server if the
    /// balancer sends them there. New connections are taken. Returns when the last batch is told.
    pub async fn send_away(&self, options: DrainOptions) {
        self.sockets.send_away(options).await;
    }

    /// Refuses new connections, and closes the open ones in batches with code 1012, so that their clients
    /// reconnect to another server or after the restart. Waits until their channels have terminated.
    /// Returns the number of connections that remain when the time is over.
    pub async fn drain(&self, options: DrainOptions) -> usize {
        self.sockets.drain(options).await
    }
}

impl fmt::Debug for EndpointBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointBuilder")
            .field("mounts", &self.mounts)
            .finish_non_exhaustive()
    }
}

impl EndpointBuilder {
    /// Sets the limits on connections, in all and for one address, and the trusted proxies. Default:
    /// [`AdmissionOptions::default`](crate::admission::AdmissionOptions).
    pub fn admission(mut self, admission: Admission) -> Self {
        self.admission = admission;
        self
    }

    /// Sets the list of banned users and addresses. Default: an empty one, [`Endpoint::bans`].
    pub fn bans(mut self, bans: Bans) -> Self {
        self.bans = bans;
        self
    }

    /// Mounts a socket. If two of them match a path, the first counts.
    pub fn mount(mut self, mount: Mount) -> Self {
        self.mounts.push(mount);
        self
    }

    /// Makes the endpoint.
    ///
    /// # Panics
    /// If the program has one of these bugs, so that it shows at the start: two sockets at one path; a
    /// route that never matches, because an earlier one matches all its topics; session options with
    /// neither `check_csrf` nor `check_origin`, with a secret of fewer than 64 bytes, or with an encryption
    /// key that does not have 32 bytes.
    pub fn build(self) -> Endpoint {
        let mut taken = HashSet::new();
        for mount in &self.mounts {
            for path in &mount.paths {
                let is_free = taken.insert(shape(path));
                assert!(is_free, "two sockets are mounted at {path:?}");
            }
            mount.served.router.check();
        }
        let sockets = Sockets::with_bans(self.admission, self.bans);
        let mounted = self.mounts.into_iter().flat_map(|mount| {
            let Mount {
                paths,
                served,
                transports,
                on_request,
            } = mount;
            let (pubsub, sockets) = (self.pubsub.clone(), sockets.clone());
            let mounted = Mounted::new(served, transports.handshake, pubsub, sockets);
            let mounted = Arc::new(mounted.with_hook(on_request));
            let TransportOptions {
                websocket,
                longpoll,
                longpoll_options,
                ..
            } = transports;
            let longpoll = longpoll.map(|below| {
                let longpoll = LongPoll::new(Arc::clone(&mounted), longpoll_options);
                (below, Arc::new(longpoll))
            });
            paths.into_iter().map(move |path| Transports {
                longpoll: longpoll
                    .as_ref()
                    .map(|(below, longpoll)| (Route::new(&path, below), Arc::clone(longpoll))),
                websocket: websocket.as_ref().map(|below| Route::new(&path, below)),
                mounted: Arc::clone(&mounted),
                path,
            })
        });
        Endpoint {
            mounts: mounted.collect(),
            pubsub: self.pubsub.clone(),
            sockets,
        }
    }
}

/// The path without the names of its parameters: paths of one shape match the same requests.
fn shape(path: &str) -> Vec<&str> {
    let parts = path.split('/').filter(|part| !part.is_empty());
    parts
        .map(|part| {
            if part.starts_with([':', '{']) {
                ":"
            } else {
                part
            }
        })
        .collect()
}
