//! [`Server`]: the server of the `slackir` binary, with room for a program's own channels.

mod database;
mod error;
mod http;
mod ready;
mod signals;
mod sockets;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use actix_rt::System;
use actix_web::web::ServiceConfig;
use serde_json::json;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub use self::error::ServeError;
use self::signals::ServerSignals;
use crate::assigns::Assigns;
use crate::channel::Channel;
use crate::endpoint::Endpoint;
use crate::pubsub::{LogRule, MessageStore};
use crate::server::api::{Api, Auth};
use crate::server::chat::{self, UserSocket};
use crate::server::config::{LogFormat, ServeConfig, Switch};
use crate::server::telemetry::Logging;
use crate::server::{admin, console, exporter};
use crate::shutdown::run_until;
use crate::socket::{DrainOptions, Socket, SocketRouter};
use crate::store::{self, DbWriterHandle, Servers};

/// The whole server: database, rooms of the settings, HTTP API, metrics, page, signals; and beside
/// the rooms the channels of a program of one's own, on the socket at `/socket`.
///
/// ```no_run
/// use slackir::prelude::*;
/// use slackir::server::{ServeConfig, ServeError, Server};
///
/// struct Game;
///
/// impl Channel for Game {
///     type Info = ();
///     async fn join(_: Payload, _: &mut Context<Self>) -> JoinResult<Self> {
///         Ok(Join::ok(Game))
///     }
/// }
///
/// # async fn run() -> Result<(), ServeError> {
/// let config = ServeConfig { port: 4001, ..ServeConfig::default() };
/// Server::from_config(config)
///     .channel::<Game>("game:*")
///     .log(|store| LogRule::new("game:*", &["move"], 100, store))
///     .run()
///     .await
/// # }
/// ```
///
/// [`server::main`](crate::server::main) does the same with the command line, the environment and the
/// file of settings of the `slackir` binary.
pub struct Server<S = UserSocket> {
    config: ServeConfig,
    socket: S,
    router: SocketRouter,
    logs: Vec<Log>,
    routes: Vec<Routes>,
    /// Whether the process's command line describes this server, so that SIGHUP reads it again.
    reads_command_line: bool,
}

/// Makes a rule over the server's database.
type Log = Box<dyn FnOnce(Arc<dyn MessageStore>) -> LogRule>;

/// Adds HTTP routes on each worker.
type Routes = Arc<dyn Fn(&Endpoint, &mut ServiceConfig) + Send + Sync>;

impl Server {
    /// The server that these settings describe. Everybody may connect, until
    /// [`socket`](Self::socket) says otherwise.
    pub fn from_config(config: ServeConfig) -> Self {
        Self {
            config,
            socket: UserSocket,
            router: SocketRouter::new(),
            logs: Vec::new(),
            routes: Vec::new(),
            reads_command_line: false,
        }
    }
}

impl<S: Socket> Server<S> {
    /// Topics that match `pattern` are served by channels of this type. Routes of one's own come before
    /// the rooms of the settings.
    ///
    /// # Panics
    /// As [`SocketRouter::channel`].
    pub fn channel<C: Channel>(self, pattern: &str) -> Self {
        self.channel_with::<C>(pattern, Assigns::default())
    }

    /// As [`Server::channel`], with assigns for the channels of this route.
    ///
    /// # Panics
    /// As [`SocketRouter::channel`].
    pub fn channel_with<C: Channel>(mut self, pattern: &str, assigns: Assigns) -> Self {
        self.router = self.router.channel_with::<C>(pattern, assigns);
        self
    }

    /// A value that all channels find with [`Context::state`](crate::channel::Context::state).
    pub fn state<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        self.router = self.router.state(value);
        self
    }

    /// Who may connect, in place of everybody.
    pub fn socket<T: Socket>(self, socket: T) -> Server<T> {
        Server {
            config: self.config,
            socket,
            router: self.router,
            logs: self.logs,
            routes: self.routes,
            reads_command_line: self.reads_command_line,
        }
    }

    /// What is saved of topics that are no room of the settings. The rule is made over the server's
    /// database; with `persist` off it is not made, and nothing is saved.
    pub fn log(mut self, rule: impl FnOnce(Arc<dyn MessageStore>) -> LogRule + 'static) -> Self {
        self.logs.push(Box::new(rule));
        self
    }

    /// HTTP routes of one's own, which come before the page. They are added on each worker; the endpoint
    /// is what they broadcast with.
    pub fn routes(
        mut self,
        routes: impl Fn(&Endpoint, &mut ServiceConfig) + Send + Sync + 'static,
    ) -> Self {
        self.routes.push(Arc::new(routes));
        self
    }

    /// Runs until SIGTERM, SIGINT or SIGQUIT, then shuts down in order: clients are sent away, requests
    /// are answered, and what is not saved is saved. Log lines go to standard error, unless the program
    /// has set a `tracing` subscriber.
    ///
    /// # Errors
    /// When something of the settings cannot be had; then nothing is left half started. When messages
    /// could not be saved.
    pub async fn run(self) -> Result<(), ServeError> {
        let logging = Logging::init(&self.config.log, self.config.log_format)?;
        self.run_with(&logging).await
    }

    /// As [`Server::run`], for the process that these arguments have started.
    pub(crate) async fn run_by_command_line(mut self, logging: &Logging) -> Result<(), ServeError> {
        self.reads_command_line = true;
        self.run_with(logging).await
    }

    async fn run_with(self, logging: &Logging) -> Result<(), ServeError> {
        let Self {
            config,
            socket,
            router,
            logs,
            routes,
            reads_command_line,
        } = self;
        // Before anything that may wait: process 1 of a container is ended by no signal that it does not
        // catch.
        let mut signals = ServerSignals::listen(logging, reads_command_line)?;
        let metrics = exporter::install()?;
        let check_origin = sockets::check_origin(&config)?;
        let auth = auth(&config)?;
        let page = chat::page(config.static_dir.as_deref())?;
        let address = SocketAddr::new(config.host, config.port);
        // Before the database: a second server on the port shall change nothing.
        let listener = http::listen(address, config.backlog)
            .map_err(|source| ServeError::Listen { address, source })?;
        let address = listener.local_addr()?;
        let writer = match config.persist {
            Switch::On => {
                tokio::select! {
                    opened = on_own_thread(config.clone(), database::open_store) => Some(opened??),
                    () = signals.end() => return Ok(()),
                }
            }
            Switch::Off => None,
        };
        let admission = http::admission(&config);
        let pubsub = sockets::pubsub(&config, logs, writer.as_ref());
        let mount = sockets::mount(&config, socket, router, check_origin);
        let endpoint = Endpoint::builder(pubsub)
            .admission(admission.clone())
            .mount(mount)
            .build();
        let api = auth
            .zip(writer.as_ref())
            .map(|(auth, writer)| http_api(&config, auth, &endpoint, writer));
        let servers = writer
            .as_ref()
            .and_then(|writer| Servers::start(writer, database::server_name(address)));
        let others = servers.as_ref().map(Servers::others).unwrap_or_default();
        let readiness = ready::readiness(writer.clone(), others);
        let admin = admin::routes(&endpoint, &metrics, readiness);
        let own = own_routes(&endpoint, routes);
        let server = http::server(
            &config,
            &endpoint,
            admission,
            (admin, own, api, page),
            listener,
        )?;
        let handle = server.handle();
        let others = writer
            .as_ref()
            .map(|writer| actix_rt::spawn(database::look_for_rows_of_others(writer.reader())));
        let retention = writer
            .as_ref()
            .and_then(|writer| database::retention(&config, &endpoint, writer));
        let shutdown = async {
            let deadline = Instant::now() + config.shutdown_timeout;
            drop(retention);
            others.iter().for_each(JoinHandle::abort);
            send_clients_away(&endpoint, &config).await;
            // Whoever could still publish over HTTP is gone, too, before the last row is saved.
            handle.stop(true).await;
            let unsaved = match &writer {
                Some(_) => database::save_everything(endpoint.pubsub(), deadline).await,
                None => 0,
            };
            if let Some(servers) = servers {
                servers.leave().await;
            }
            unsaved
        };
        actix_rt::spawn(metrics.clone().upkeep());
        announce(&config, address);
        let rows = run_until(server, async || signals.end().await, shutdown).await?;
        if let Some(fault) = writer.as_ref().and_then(DbWriterHandle::fault) {
            return Err(ServeError::Storage(fault));
        }
        unsaved(rows.unwrap_or_else(|| writer.as_ref().map_or(0, DbWriterHandle::unsaved)))
    }
}

impl<S> fmt::Debug for Server<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// The program's own routes, as an App takes them.
fn own_routes(
    endpoint: &Endpoint,
    routes: Vec<Routes>,
) -> impl FnOnce(&mut ServiceConfig) + Clone + Send + 'static {
    let endpoint = endpoint.clone();
    move |config| routes.iter().for_each(|routes| routes(&endpoint, config))
}

fn unsaved(rows: usize) -> Result<(), ServeError> {
    if rows > 0 {
        Err(ServeError::Unsaved(rows))
    } else {
        Ok(())
    }
}

/// Tells the clients to come back, and waits until their channels have terminated.
async fn send_clients_away(endpoint: &Endpoint, config: &ServeConfig) {
    let left = endpoint
        .drain(DrainOptions {
            batch_size: config.drain_batch,
            shutdown: config.shutdown_timeout,
            ..DrainOptions::default()
        })
        .await;
    if left > 0 {
        tracing::warn!(connections = left, "serve.shutdown.connections_left");
    }
}

/// Says where the server is to be found, on standard output and in the log.
fn announce(config: &ServeConfig, address: SocketAddr) {
    let url = format!("http://{address}");
    let database = match config.persist {
        Switch::On => store::redacted(&config.database.database_url),
        Switch::Off => "none".to_owned(),
    };
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        url,
        database,
        config = config
            .file
            .path
            .as_deref()
            .map(|path| tracing::field::display(path.display())),
        "serve.started"
    );
    let line = format!("Slackir listens on {url}");
    let line = match config.log_format {
        LogFormat::Text => line,
        LogFormat::Json => json!({ "message": line, "url": url }).to_string(),
    };
    // On a thread of its own, as whoever reads it may let it wait for ever.
    thread::spawn(move || console::print(line));
}

/// Does on a thread what may wait for long. Nobody waits for the thread when the process ends.
async fn on_own_thread<A: Send + 'static, T: Send + 'static>(
    argument: A,
    work: fn(&A) -> T,
) -> io::Result<T> {
    let (done, result) = oneshot::channel();
    let system = System::current();
    thread::Builder::new().spawn(move || {
        // What it starts belongs to this system.
        System::set_current(system);
        let _ = done.send(work(&argument));
    })?;
    result.await.map_err(io::Error::other)
}

/// Who may use the HTTP API; `None` where there is none.
fn auth(config: &ServeConfig) -> Result<Option<Auth>, ServeError> {
    let auth = Auth::new(&config.api)?;
    if auth.is_some() && config.persist == Switch::Off {
        return Err(ServeError::ApiWithoutStore);
    }
    Ok(auth)
}

fn http_api(config: &ServeConfig, auth: Auth, endpoint: &Endpoint, writer: &DbWriterHandle) -> Api {
    let max_body = config.max_frame_size;
    Api::new(auth, endpoint, &sockets::rooms(config), writer, max_body)
}
