//! [`Endpoint`]: mounts sockets on an actix-web `App`, and sends their clients away at shutdown.
//! Phoenix: `Phoenix.Endpoint`.

use std::sync::Arc;

use actix_web::HttpRequest;
use actix_web::web::{self, ServiceConfig};

use crate::message::Payload;
use crate::pubsub::{PubSub, PublishError};
use crate::socket::{DrainOptions, Mount, Socket, SocketOptions, SocketRouter, Sockets};
use crate::transport::{CheckOrigin, WebSocket, upgrade};

/// The sockets of a server. Cloning is cheap and names the same endpoint.
///
/// ```no_run
/// use actix_web::{App, HttpServer};
/// use slackir::endpoint::Endpoint;
/// use slackir::pubsub::PubSub;
/// use slackir::socket::{Socket, SocketRouter};
///
/// struct Anyone;
/// impl Socket for Anyone {}
///
/// # async fn run(router: SocketRouter) -> std::io::Result<()> {
/// let endpoint = Endpoint::builder(PubSub::new()).socket("/socket", Anyone, router).build();
/// HttpServer::new({
///     let endpoint = endpoint.clone();
///     move || App::new().configure(endpoint.routes())
/// })
/// .tcp_nodelay(true)
/// .on_connect(slackir::transport::on_connect)
/// .client_disconnect_timeout(slackir::transport::CLOSE_LINGER)
/// .bind(("127.0.0.1", 4000))?
/// .run()
/// .await
/// # }
/// ```
#[derive(Clone)]
pub struct Endpoint {
    pubsub: PubSub,
    sockets: Sockets,
    mounts: Arc<[(String, Arc<WebSocket>)]>,
}

/// Collects what an endpoint serves.
pub struct EndpointBuilder {
    pubsub: PubSub,
    check_origin: CheckOrigin,
    options: SocketOptions,
    mounts: Vec<(String, Mount, CheckOrigin)>,
}

impl Endpoint {
    /// An endpoint whose channels use these topics.
    pub fn builder(pubsub: PubSub) -> EndpointBuilder {
        EndpointBuilder {
            pubsub,
            check_origin: CheckOrigin::default(),
            options: SocketOptions::default(),
            mounts: Vec::new(),
        }
    }

    /// For `App::configure`: the routes of all mounted sockets. A socket at `/socket` is served at
    /// `/socket/websocket`.
    pub fn routes(&self) -> impl FnOnce(&mut ServiceConfig) + use<> {
        let mounts = Arc::clone(&self.mounts);
        move |config| {
            for (path, ws) in mounts.iter() {
                let ws = Arc::clone(ws);
                let handler = move |req: HttpRequest, payload: web::Payload| {
                    let ws = Arc::clone(&ws);
                    async move { upgrade(&ws, req, payload).await }
                };
                config.service(web::resource(format!("{path}/websocket")).to(handler));
            }
        }
    }

    /// The topics.
    pub fn pubsub(&self) -> &PubSub {
        &self.pubsub
    }

    /// Sends a message to everybody in a topic, from anywhere. Phoenix: `Endpoint.broadcast/3`.
    ///
    /// # Errors
    /// As [`PubSub::broadcast`].
    pub async fn broadcast(
        &self,
        topic: &str,
        event: &str,
        payload: impl Into<Payload>,
    ) -> Result<(), PublishError> {
        self.pubsub.broadcast(topic, event, payload).await
    }

    /// Open connections on all workers.
    pub fn connections(&self) -> usize {
        self.sockets.count()
    }

    /// Whether the endpoint is sending its clients away and refuses new ones.
    pub fn is_draining(&self) -> bool {
        self.sockets.is_draining()
    }

    /// Refuses new connections and closes the open ones with 1012, in batches, so that their
    /// clients come back to another server or after the restart; waits until their channels have
    /// terminated. Returns how many connections were left when the time was over.
    pub async fn drain(&self, options: DrainOptions) -> usize {
        self.sockets.drain(options).await
    }
}

impl EndpointBuilder {
    /// Which pages may open the sockets mounted after this call. Default: the request's own host
    /// and loopback.
    pub fn check_origin(mut self, check_origin: CheckOrigin) -> Self {
        self.check_origin = check_origin;
        self
    }

    /// What the sockets mounted after this call allow their clients.
    pub fn options(mut self, options: SocketOptions) -> Self {
        self.options = options;
        self
    }

    /// Mounts a socket at a path such as `/socket`.
    pub fn socket(mut self, path: &str, socket: impl Socket, router: SocketRouter) -> Self {
        let mount = Mount {
            socket: Box::new(socket),
            router: Arc::new(router),
            options: self.options.clone(),
        };
        let path = path.trim_end_matches('/').to_owned();
        self.mounts.push((path, mount, self.check_origin.clone()));
        self
    }

    /// The endpoint.
    pub fn build(self) -> Endpoint {
        let sockets = Sockets::new();
        let mounted = self.mounts.into_iter().map(|(path, mount, check_origin)| {
            let ws = WebSocket {
                mount: Arc::new(mount),
                check_origin,
                pubsub: self.pubsub.clone(),
                sockets: sockets.clone(),
            };
            (path, Arc::new(ws))
        });
        Endpoint {
            mounts: mounted.collect(),
            pubsub: self.pubsub.clone(),
            sockets,
        }
    }
}
