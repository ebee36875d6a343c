//! [`Server`]: the server of the `slackir` binary. It assembles all parts, runs them, and ends them in order.

mod announce;
mod checked;
mod clock;
mod cluster;
mod dashboard;
mod database;
mod ending;
mod error;
mod http;
mod lonely;
mod parts;
mod ready;
mod reload;
mod rooms;
mod sanctions;
mod service;
mod signals;
mod told;
mod watchdog;

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;

use actix_rt::System;
use actix_web::web::ServiceConfig;
use tokio::sync::oneshot;

use self::announce::announce;
use self::checked::Checked;
pub use self::cluster::JoinClusterError;
use self::ending::Ending;
pub use self::error::ServeError;
use self::reload::{Reloadable, Reloader};
use self::rooms::OpenRooms;
use self::service::Leaving;
use self::signals::ServerSignals;
use self::watchdog::Watchdog;
use crate::assigns::Assigns;
use crate::channel::Channel;
use crate::endpoint::Endpoint;
use crate::log::{LogRule, MessageStore};
use crate::pattern::IntoPattern;
use crate::pubsub::{Cluster, PubSub};
use crate::server::api::{self, Api, ApiServices, Auth};
use crate::server::certificates::Certificates;
use crate::server::config::{Config, RunningSettings, ServeConfig, SettingInForce, Switch};
use crate::server::dashboard::{DashboardServices, ServedDashboard};
use crate::server::page;
use crate::server::rooms::UserSocket;
use crate::server::sockets;
use crate::server::telemetry::Logging;
use crate::server::traces::Traces;
use crate::server::{admin, exporter};
use crate::shutdown::run_until;
use crate::socket::{DrainOptions, Socket, SocketRouter};
use crate::store::{DbWriterHandle, Retention, Servers};

/// The whole server: database, configured rooms, HTTP API, metrics, page, signals. A program adds its own
/// channels to the socket at `/socket`.
///
/// ```no_run
/// use slackir::prelude::*;
/// use slackir::server::{Config, Server};
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
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let config = Config::from_args(["--port", "4001"])?;
/// Server::from_config(config)
///     .channel::<Game>("game:*")
///     .log(|store| LogRule::new("game:*", &["move"], 100, store))
///     .run()
///     .await?;
/// # Ok(())
/// # }
/// ```
///
/// [`server::main`](crate::server::main) does the same with the command line, the environment and the config
/// file of the `slackir` binary.
pub struct Server<S = UserSocket> {
    config: ServeConfig,
    socket: S,
    router: SocketRouter,
    logs: Vec<MakeLogRule>,
    routes: Vec<Routes>,
    listener: Option<TcpListener>,
    /// The settings of the process's command line, if they come from there: SIGHUP reads them again.
    command_line: Option<RunningSettings>,
}

/// Makes a rule that stores messages in the server's database.
type MakeLogRule = Box<dyn FnOnce(Arc<dyn MessageStore>) -> LogRule>;

/// Adds HTTP routes on each worker.
type Routes = Arc<dyn Fn(&Endpoint, &mut ServiceConfig) + Send + Sync>;

impl Server {
    /// A server with these settings. Everybody may connect, unless [`socket`](Self::socket) sets another
    /// socket.
    pub fn from_config(config: Config) -> Self {
        Self {
            config: config.0,
            socket: UserSocket,
            router: SocketRouter::new(),
            logs: Vec::new(),
            routes: Vec::new(),
            listener: None,
            command_line: None,
        }
    }
}

impl<S: Socket> Server<S> {
    /// Channels of this type serve the topics that match `pattern`. These routes come before the configured
    /// rooms.
    ///
    /// # Panics
    /// As [`SocketRouter::channel`].
    pub fn channel<C: Channel>(self, pattern: impl IntoPattern) -> Self {
        self.channel_with::<C>(pattern, Assigns::default())
    }

    /// As [`Server::channel`], with assigns for the channels of this route.
    ///
    /// # Panics
    /// As [`SocketRouter::channel`].
    pub fn channel_with<C: Channel>(mut self, pattern: impl IntoPattern, assigns: Assigns) -> Self {
        self.router = self.router.channel_with::<C>(pattern, assigns);
        self
    }

    /// A value that every channel finds with [`Context::state`](crate::channel::Context::state).
    pub fn state<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        self.router = self.router.state(value);
        self
    }

    /// Replaces the socket, which decides who may connect.
    pub fn socket<T: Socket>(self, socket: T) -> Server<T> {
        Server {
            config: self.config,
            socket,
            router: self.router,
            logs: self.logs,
            routes: self.routes,
            listener: self.listener,
            command_line: self.command_line,
        }
    }

    /// Serves on this listener, in place of `host` and `port`. A supervisor that keeps it open can restart the server
    /// without refusing a client: a server that shuts down leaves those who connect to the next one.
    pub fn listener(mut self, listener: TcpListener) -> Self {
        self.listener = Some(listener);
        self
    }

    /// Stores messages of other topics than those of the configured rooms. `rule` gets the server's database.
    /// With `persist` off it is not called, and nothing is stored.
    pub fn log(mut self, rule: impl FnOnce(Arc<dyn MessageStore>) -> LogRule + 'static) -> Self {
        self.logs.push(Box::new(rule));
        self
    }

    /// Adds HTTP routes, which come before the page. `routes` is called on each worker; its endpoint serves to
    /// broadcast.
    pub fn routes(
        mut self,
        routes: impl Fn(&Endpoint, &mut ServiceConfig) + Send + Sync + 'static,
    ) -> Self {
        self.routes.push(Arc::new(routes));
        self
    }

    /// Runs until SIGTERM, SIGINT or SIGQUIT, then shuts down in order: connections are closed, requests are
    /// answered, and pending messages are committed. Log lines go to standard error, unless the program has set
    /// a `tracing` subscriber.
    ///
    /// # Errors
    /// If a setting cannot be used; then nothing keeps running. If messages could not be saved.
    pub async fn run(self) -> Result<(), ServeError> {
        let logging = Logging::init(&self.config.log, self.config.log_format)?;
        self.run_with(&logging).await
    }

    /// As [`Server::run`], with settings that come from the command line.
    pub(crate) async fn run_by_command_line(
        mut self,
        settings: Vec<SettingInForce>,
        logging: &Logging,
    ) -> Result<(), ServeError> {
        let running = RunningSettings::new(settings, self.config.clone());
        self.command_line = Some(running);
        self.run_with(logging).await
    }

    async fn run_with(self, logging: &Logging) -> Result<(), ServeError> {
        let Self {
            config,
            socket,
            router,
            logs,
            mut routes,
            listener,
            command_line,
        } = self;
        // Before anything that may wait: a signal does not end process 1 of a container unless it is caught.
        let settings = command_line.as_ref().map(RunningSettings::settings);
        let settings = settings.map_or_else(Vec::new, <[_]>::to_vec);
        let mut signals = ServerSignals::listen(logging, command_line.map(Reloader::new))?;
        let metrics = exporter::install()?;
        let checked = Checked::new(&config)?;
        let traces = Traces::start(&config.otel)?;
        let frontend = page::page(config.static_dir.as_deref())?;
        // Before the database: if the port is in use, nothing is changed there.
        let listener_stays = listener.is_some();
        let listener = listener.map_or_else(|| listen(&config), Ok)?;
        let address = listener.local_addr()?;
        let for_operators = parts::operators_listener(&config)?;
        let dashboard_address = match &for_operators {
            Some(listener) => listener.local_addr()?,
            None => address,
        };
        // Before the warnings of the start.
        if dashboard::is_on(&config, dashboard_address) {
            logging.trouble().remember();
        }
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
        let cluster = cluster::join(&config, address, writer.as_ref()).await?;
        let pubsub = topics(&config, logs, writer.as_ref(), cluster.as_ref());
        let rooms = OpenRooms::open(
            &config,
            (socket, router),
            (pubsub, admission.clone()),
            writer.as_ref(),
            &checked,
        )
        .await?;
        let OpenRooms {
            endpoint,
            presence,
            sanctions,
            changeable,
            kept,
        } = rooms;
        let Checked {
            origin,
            auth,
            metrics_token,
            revocations,
            certificates,
            hook,
            backend,
        } = checked;
        let services = ApiServices {
            sanctions: sanctions.clone(),
            presence: presence.clone(),
        };
        let api = auth
            .zip(writer.as_ref())
            .map(|(auth, writer)| http_api(&config, auth, &endpoint, writer, services));
        let retention = writer
            .as_ref()
            .map(|writer| database::retention(&config, &endpoint, writer));
        let servers = writer.as_ref().and_then(|writer| {
            let name = database::server_name(address);
            Servers::start(writer, name, cluster::seat(&config, cluster.as_ref()))
        });
        let others = servers.as_ref().map(Servers::others).unwrap_or_default();
        // Before the first client, so that no message is missed.
        let told =
            backend.map(|backend| told::tell(&config, backend, writer.as_ref(), others.clone()));
        let leaving = Leaving::default();
        let readiness = ready::readiness(
            writer.clone(),
            others.clone(),
            cluster.clone(),
            leaving.clone(),
        );
        let admin = admin::routes(
            &endpoint,
            &metrics,
            metrics_token.clone(),
            readiness.clone(),
        );
        let services = DashboardServices {
            address: dashboard_address,
            endpoint: endpoint.clone(),
            rooms: sockets::rooms(&config),
            writer: writer.clone(),
            presence,
            sanctions,
            others,
            cluster: cluster.clone(),
            metrics: metrics.clone(),
            trouble: Arc::clone(logging.trouble()),
            readiness: Box::new(readiness.clone()),
            certificates: certificates.clone(),
            config: config.clone(),
        };
        let dashboard = dashboard::open(services, settings)?;
        signals.reload_into(Reloadable {
            admission: admission.clone(),
            origin,
            api: api.clone(),
            rooms: changeable,
            pubsub: endpoint.pubsub().clone(),
            retention: retention.as_ref().map(Retention::rules),
            metrics_token,
            revocations,
            certificates: certificates.clone(),
            dashboard: dashboard.as_ref().map(ServedDashboard::changeable),
            hook: hook.clone(),
        });
        let pages = dashboard::routes(dashboard.as_ref());
        let operators = move |config: &mut ServiceConfig| {
            config.configure(admin).configure(pages);
            config.configure(api::routes(api.as_ref()));
        };
        let (here, elsewhere) = parts::place(operators, for_operators);
        let watchdog = Watchdog::start();
        let watched = watchdog.clone();
        routes.push(Arc::new(move |_, _| watched.watch_worker()));
        let own = own_routes(&endpoint, routes);
        let server = http::server(
            &config,
            &endpoint,
            admission,
            (here, own, frontend),
            (
                listener,
                certificates.as_ref().map(Certificates::tls).transpose()?,
            ),
        )?;
        let operators = elsewhere
            .map(|(routes, listener)| http::serve_operators(routes, listener))
            .transpose()?;
        let others = writer
            .as_ref()
            .map(|writer| actix_rt::spawn(database::look_for_rows_of_others(writer.reader())));
        let kept = kept.map(|kept| actix_rt::spawn(kept.keep(endpoint.clone())));
        let retention = retention.map(Retention::start);
        let options = DrainOptions {
            batch_size: config.drain_batch,
            shutdown: config.shutdown_timeout,
            ..DrainOptions::default()
        };
        let lonely = cluster.clone().zip(servers.as_ref().map(Servers::others));
        let lonely = lonely.map(|(cluster, others)| {
            actix_rt::spawn(lonely::keep(cluster, others, endpoint.clone(), options))
        });
        let ending = Ending {
            endpoint: endpoint.clone(),
            options,
            retention,
            tasks: others.into_iter().chain(kept).chain(lonely).collect(),
            hook,
            told,
            dashboard: dashboard.as_ref().map(|it| it.endpoint.clone()),
            clients: server.handle(),
            listener_stays,
            operators,
            saves: writer.is_some(),
            servers,
            cluster,
            traces,
        };
        if let Some(certificates) = certificates {
            actix_rt::spawn(certificates.keep());
        }
        actix_rt::spawn(metrics.clone().upkeep());
        actix_rt::spawn(service::tell_status(endpoint.clone(), readiness));
        actix_rt::spawn(watchdog.keep());
        actix_rt::spawn(clock::watch());
        if let Some(dashboard) = &dashboard {
            actix_rt::spawn(dashboard::keep(dashboard));
        }
        announce(&config, address, dashboard.as_ref());
        let asked = async || leaving.asked(&mut signals, config.shutdown_delay).await;
        let rows = run_until(server, asked, ending.run()).await?;
        if let Some(fault) = writer.as_ref().and_then(DbWriterHandle::fault) {
            return Err(ServeError::Storage(fault));
        }
        unsaved(rows.unwrap_or_else(|| writer.as_ref().map_or(0, DbWriterHandle::unsaved)))
    }
}

/// Without the secrets.
impl<S> fmt::Debug for Server<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("host", &self.config.host)
            .field("port", &self.config.port)
            .finish_non_exhaustive()
    }
}

/// The topics. Without a database they keep no messages.
fn topics(
    config: &ServeConfig,
    logs: Vec<MakeLogRule>,
    writer: Option<&DbWriterHandle>,
    cluster: Option<&Cluster>,
) -> PubSub {
    let store: Option<Arc<dyn MessageStore>> = match (writer, cluster) {
        (None, _) => None,
        (Some(_), Some(cluster)) => Some(cluster.store()),
        (Some(writer), None) => Some(Arc::new(writer.clone())),
    };
    let pubsub = match store {
        None => PubSub::new(),
        Some(store) => {
            let own = logs.into_iter().map(|log| log(Arc::clone(&store)));
            sockets::pubsub(config, own.collect(), &store)
        }
    };
    match cluster {
        Some(cluster) => pubsub.in_cluster(cluster),
        None => pubsub,
    }
}

/// The routes that the program has added.
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

fn listen(config: &ServeConfig) -> Result<TcpListener, ServeError> {
    let address = SocketAddr::new(config.host, config.port);
    http::listen(address, config.backlog).map_err(|source| ServeError::Listen { address, source })
}

/// Runs blocking work on a thread. The process may end before the thread does.
async fn on_own_thread<A: Send + 'static, T: Send + 'static>(
    argument: A,
    work: fn(&A) -> T,
) -> io::Result<T> {
    let (done, result) = oneshot::channel();
    let system = System::current();
    thread::Builder::new().spawn(move || {
        // The actors that it starts belong to this system.
        System::set_current(system);
        let _ = done.send(work(&argument));
    })?;
    result.await.map_err(io::Error::other)
}

fn http_api(
    config: &ServeConfig,
    auth: Auth,
    endpoint: &Endpoint,
    writer: &DbWriterHandle,
    services: ApiServices,
) -> Api {
    let (rooms, max_body) = (sockets::rooms(config), config.max_frame_size);
    Api::with(auth, endpoint, &rooms, writer, max_body, services)
}
