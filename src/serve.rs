//! The server of the `slackir` binary: everything put together, from the settings to the end of
//! the shutdown.

mod signals;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use actix_rt::System;
use actix_web::App;
use actix_web::dev::Server;
use actix_web::web::{self, ServiceConfig};
use serde_json::json;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use self::signals::ServerSignals;
use crate::admin::Readiness;
use crate::admission::{AddressLimit, Admission, AdmissionOptions};
use crate::api::{Api, Auth, AuthError};
use crate::chat::{self, PageError, Room, UserSocket};
use crate::config::{
    DatabaseConfig, Durability, LogFormat, RoomConfig, ServeConfig, Switch, WebsocketDriver,
};
use crate::console::OutputError;
use crate::endpoint::{Endpoint, Mount, TransportOptions};
use crate::pubsub::{Flushed, LogRule, PubSub};
use crate::rate::Rate;
use crate::shutdown::run_until;
use crate::socket::{DrainOptions, OutboxLimits, RateLimits, SocketOptions};
use crate::store::spool::SpoolLimits;
use crate::store::{
    ColumnFields, DbWriter, DbWriterHandle, OtherServers, Prepared, Reader, Retention,
    RetentionRule, RetentionTask, Servers, SpoolOptions, StorageState, Store, StoreError,
    StoreOptions, WriterOptions,
};
use crate::telemetry::Logging;
use crate::transport::direct::{Driver, ServerOptions};
use crate::transport::{CheckOrigin, HandshakeOptions, InvalidHost, InvalidOrigin};
use crate::{admin, api, console, metrics, store};

/// Between two looks for rows that another application has written.
const LOOK_FOR_ROWS: Duration = Duration::from_secs(5);

/// How long HTTP requests may still run once all sockets are gone.
const HTTP_GRACE: Duration = Duration::from_secs(5);

/// Files that clients never get.
const FILES_KEPT_BACK: usize = 64;

/// What the database gets at least, when the clients took all of the shutdown's time.
const LAST_FLUSH: Duration = Duration::from_secs(2);

/// Why the server did not start, or did not end well. One clear line for the user.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The frontend's folder.
    #[error(transparent)]
    Page(#[from] PageError),
    /// `--check-origin`.
    #[error("--check-origin: {0}")]
    CheckOrigin(#[from] InvalidOrigin),
    /// `--public-host`.
    #[error("--public-host: {0}")]
    PublicHost(#[from] InvalidHost),
    /// The HTTP API's tokens.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The HTTP API without a database.
    #[error(
        "--api-token and --api-token-salt: the HTTP API is for stored messages, it needs --persist on"
    )]
    ApiWithoutStore,
    /// The metrics recorder.
    #[error("metrics: {0}")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
    /// The address.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Host and port.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// What `slackir migrate` has to say.
    #[error("{0}")]
    Output(#[from] OutputError),
    /// The HTTP server or the signal handlers.
    #[error("the server failed: {0}")]
    Server(#[from] io::Error),
    /// Messages may not be saved as they should be.
    #[error("{0}")]
    Storage(String),
    /// Messages that were broadcast and not saved.
    #[error("{0} messages could not be saved before the shutdown's time was over")]
    Unsaved(usize),
}

impl ServeError {
    /// The setting whose value is to blame, by its name in the file of settings.
    pub fn setting(&self) -> Option<&'static str> {
        match self {
            Self::Store(error) => error.setting(),
            Self::Page(_) => Some("static_dir"),
            Self::CheckOrigin(_) => Some("check_origin"),
            Self::PublicHost(_) => Some("public_host"),
            Self::Auth(AuthError::Token) => Some("api_token"),
            Self::Auth(AuthError::NoSecret) => Some("api_token_salt"),
            Self::Auth(AuthError::Secret(_)) => Some("secret_key_base"),
            Self::Listen { .. } => Some("port"),
            Self::ApiWithoutStore
            | Self::Metrics(_)
            | Self::Output(_)
            | Self::Server(_)
            | Self::Storage(_)
            | Self::Unsaved(_) => None,
        }
    }
}

/// `slackir migrate`: runs the migrations that the database lacks, and says which.
///
/// # Errors
/// When the database cannot be used.
pub fn migrate(config: &DatabaseConfig) -> Result<(), ServeError> {
    let options = StoreOptions {
        pool_size: 1,
        adopt_ecto_messages: true,
    };
    let prepared = Store::migrate(&config.database_url, options)?;
    if prepared == Prepared::default() {
        console::print("The database is up to date.")?;
    }
    for name in &prepared.migrations {
        console::print(format_args!("Migrated {name}"))?;
    }
    if prepared.adopted > 0 {
        let adopted = prepared.adopted;
        console::print(format_args!(
            "Adopted messages of another application: {adopted}"
        ))?;
    }
    Ok(())
}

/// `slackir serve`: runs until SIGTERM, SIGINT or SIGQUIT, then shuts down in order.
///
/// # Errors
/// When something of the configuration cannot be had; then nothing is left half started.
pub async fn serve(config: ServeConfig, logging: &Logging) -> Result<(), ServeError> {
    // Before anything that may wait: process 1 of a container is ended by no signal that it does not
    // catch.
    let mut signals = ServerSignals::listen(logging)?;
    let metrics = metrics::install()?;
    let check_origin = check_origin(&config)?;
    let auth = auth(&config)?;
    let page = chat::page(config.static_dir.as_deref())?;
    let address = SocketAddr::new(config.host, config.port);
    // Before the database: a second server on the port shall change nothing.
    let listener =
        listen(address, config.backlog).map_err(|source| ServeError::Listen { address, source })?;
    let address = listener.local_addr()?;
    let writer = match config.persist {
        Switch::On => {
            tokio::select! {
                opened = on_own_thread(config.clone(), open_store) => Some(opened??),
                () = signals.end() => return Ok(()),
            }
        }
        Switch::Off => None,
    };
    let admission = admission(&config);
    let endpoint = endpoint(&config, check_origin, admission.clone(), writer.as_ref());
    let api = auth
        .zip(writer.as_ref())
        .map(|(auth, writer)| http_api(&config, auth, &endpoint, writer));
    let servers = writer
        .as_ref()
        .and_then(|writer| Servers::start(writer, server_name(address)));
    let others = servers.as_ref().map(Servers::others).unwrap_or_default();
    let readiness = readiness(writer.clone(), others);
    let admin = admin::routes(&endpoint, &metrics, readiness);
    let server = http_server(&config, &endpoint, admission, admin, api, page, listener)?;
    let handle = server.handle();
    let others = writer
        .as_ref()
        .map(|writer| actix_rt::spawn(look_for_rows_of_others(writer.reader())));
    let retention = writer
        .as_ref()
        .and_then(|writer| retention(&config, &endpoint, writer));
    let shutdown = async {
        let deadline = Instant::now() + config.shutdown_timeout;
        drop(retention);
        others.iter().for_each(JoinHandle::abort);
        send_clients_away(&endpoint, &config).await;
        // Whoever could still publish over HTTP is gone, too, before the last row is saved.
        handle.stop(true).await;
        let unsaved = match &writer {
            Some(_) => save_everything(endpoint.pubsub(), deadline).await,
            None => 0,
        };
        if let Some(servers) = servers {
            servers.leave().await;
        }
        unsaved
    };
    actix_rt::spawn(metrics::upkeep(metrics.clone()));
    announce(&config, address);
    let rows = run_until(server, async || signals.end().await, shutdown).await?;
    if let Some(fault) = writer.as_ref().and_then(DbWriterHandle::fault) {
        return Err(ServeError::Storage(fault));
    }
    unsaved(rows.unwrap_or_else(|| writer.as_ref().map_or(0, DbWriterHandle::unsaved)))
}

/// Sockets, health and metrics, the API and the page, behind one listener.
fn http_server(
    config: &ServeConfig,
    endpoint: &Endpoint,
    admission: Admission,
    admin: impl FnOnce(&mut ServiceConfig) + Clone + Send + 'static,
    api: Option<Api>,
    page: impl FnOnce(&mut ServiceConfig) + Clone + Send + 'static,
    listener: TcpListener,
) -> io::Result<Server> {
    let routed = endpoint.clone();
    let app = move || {
        App::new()
            .configure(routed.routes())
            .configure(admin.clone())
            .configure(api::routes(api.as_ref()))
            .service(web::scope("").configure(page.clone()))
    };
    let options = ServerOptions {
        workers: config.workers.map(usize::from),
        max_connections: match config.websocket_driver {
            WebsocketDriver::Direct => config.max_connections,
            // There each WebSocket is an HTTP connection, too.
            WebsocketDriver::ActixWs => config.max_connections.saturating_mul(2),
        },
        shutdown_timeout: HTTP_GRACE,
        admission,
        keep_alive: config.keep_alive,
        driver: match config.websocket_driver {
            WebsocketDriver::Direct => Driver::Direct,
            WebsocketDriver::ActixWs => Driver::ActixWs,
        },
    };
    endpoint.serve(listener, app, options)
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

/// Saves what is not saved, so that clients can resume after a restart. Nobody publishes any more. Returns
/// how many messages are lost.
async fn save_everything(pubsub: &PubSub, deadline: Instant) -> usize {
    let left = deadline.saturating_duration_since(Instant::now());
    let Flushed { waiting, at_risk } = pubsub.save(left.max(LAST_FLUSH)).await;
    if waiting == 0 {
        tracing::info!("serve.shutdown.flushed");
    } else {
        tracing::warn!(
            waiting,
            unsaved = at_risk,
            "serve.shutdown.database_away: what waits in the spool is saved at the next start"
        );
    }
    at_risk
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

/// A listening socket whose address can be used again at once after a restart.
fn listen(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
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

fn open_store(config: &ServeConfig) -> Result<DbWriterHandle, ServeError> {
    let url = &config.database.database_url;
    let dir = match &config.spool_dir {
        Some(dir) => dir.clone(),
        None => store::default_spool(url)?,
    };
    // A server that had its database before goes on without it. For a new one a URL that leads
    // nowhere is a mistake.
    let options = StoreOptions {
        pool_size: config.pool_size,
        adopt_ecto_messages: true,
    };
    let (store, prepared) = if dir.exists() {
        Store::open_or_wait(url, options)?
    } else {
        Store::open(url, options)?
    };
    prepared.log();
    let spool = SpoolOptions {
        dir,
        limits: SpoolLimits {
            bytes: config.spool_bytes as u64,
            ..SpoolLimits::default()
        },
    };
    let options = WriterOptions {
        spool: Some(spool),
        rows: config.writer_rows,
        bytes: config.writer_bytes,
        strict: config.durability == Durability::Strict,
        columns: rooms(config).iter().map(columns).collect(),
    };
    Ok(DbWriter::start_on_own_thread(store, options)?)
}

/// By what other servers on the database name this one.
fn server_name(address: SocketAddr) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let process = std::process::id();
    format!("{address} on {}, process {process}", host.trim())
}

/// Whether what is shouted is taken, for `/readyz`. Another server on the database makes nobody unready:
/// a balancer would take both away.
fn readiness(
    writer: Option<DbWriterHandle>,
    others: OtherServers,
) -> impl Fn() -> Readiness + Clone + Send {
    move || {
        let Some(writer) = &writer else {
            return Readiness::Ready;
        };
        let waiting = writer.unsaved();
        if let Some(fault) = writer.fault() {
            return Readiness::NotReady(format!("{fault}; {waiting} messages wait"));
        }
        let mut news = Vec::new();
        match writer.state() {
            StorageState::Available => {}
            StorageState::Waiting => news.push(format!("{waiting} messages wait for the database")),
            StorageState::Refusing => {
                return Readiness::NotReady(format!(
                    "storage unavailable; {waiting} messages wait for the database"
                ));
            }
        }
        let others = others.names();
        if !others.is_empty() {
            news.push(format!(
                "another server uses the database, and neither sends the other's messages: {}",
                others.join("; ")
            ));
        }
        if news.is_empty() {
            Readiness::Ready
        } else {
            Readiness::Impaired(news.join("; "))
        }
    }
}

/// Who is let in. Called when everything is open that is for long.
fn admission(config: &ServeConfig) -> Admission {
    let max_files = files_for_streams();
    if max_files < config.max_connections {
        tracing::warn!(
            max_connections = config.max_connections,
            max_files,
            "serve.files.few: raise the limit of open files (ulimit -n) or lower max_connections"
        );
    }
    let per_address = config.max_connections_per_ip.map(AddressLimit::new);
    Admission::new(AdmissionOptions {
        max_connections: config.max_connections,
        per_address: per_address.unwrap_or_default(),
        trusted_proxies: config.trusted_proxies.clone(),
        max_files,
        ..AdmissionOptions::default()
    })
}

/// Files that TCP connections may take: what the system allows, without those that are open now and a
/// reserve for the database, the spool and everything else.
fn files_for_streams() -> usize {
    let allowed = rlimit::increase_nofile_limit(u64::MAX).unwrap_or_else(|error| {
        tracing::warn!(%error, "serve.files.limit");
        u64::MAX
    });
    // Where the system does not tell, the reserve has to do.
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let allowed = usize::try_from(allowed).unwrap_or(usize::MAX);
    allowed.saturating_sub(open + FILES_KEPT_BACK)
}

/// The rule for origins. A server that knows its name believes no other; one that does not can tell
/// its own pages by their address alone.
fn check_origin(config: &ServeConfig) -> Result<CheckOrigin, ServeError> {
    let public_host = config.public_host.as_deref();
    let public_host = public_host.map(str::parse).transpose()?;
    Ok(match (config.check_origin.parse()?, public_host) {
        (CheckOrigin::OwnAddress, Some(host)) => CheckOrigin::Host(host),
        (CheckOrigin::OwnAddress, None) if config.host.is_loopback() => {
            CheckOrigin::OwnAddressOrLoopback
        }
        (other, _) => other,
    })
}

fn endpoint(
    config: &ServeConfig,
    check_origin: CheckOrigin,
    admission: Admission,
    writer: Option<&DbWriterHandle>,
) -> Endpoint {
    let rooms = rooms(config);
    let rules = writer.into_iter().flat_map(|writer| {
        rooms
            .iter()
            .map(|room| rule(room, config.durability, writer))
    });
    let pubsub = PubSub::with_logs(rules.collect());
    let options = SocketOptions {
        timeout: config.idle_timeout,
        max_frame_size: config.max_frame_size,
        max_channels: config.max_channels,
        outbox: OutboxLimits {
            bytes: config.outbox_bytes,
            frames: config.outbox_frames,
        },
        rates: RateLimits {
            joins: Rate::new(config.joins_per_second, config.joins_burst),
            pushes: Rate::new(config.pushes_per_second, config.pushes_burst),
            bytes: Rate::new(config.bytes_per_second, config.bytes_burst),
        },
        message_timeout: config.message_timeout,
        ..SocketOptions::default()
    };
    let transports = TransportOptions {
        longpoll: Some("longpoll".to_owned()),
        handshake: HandshakeOptions {
            check_origin,
            ..HandshakeOptions::default()
        },
        ..TransportOptions::default()
    };
    Endpoint::builder(pubsub)
        .admission(admission)
        .mount(
            Mount::new("/socket", UserSocket, chat::router(&rooms))
                .transports(transports)
                .options(options),
        )
        .build()
}

/// Says in the log when another application writes into the table.
async fn look_for_rows_of_others(reader: Reader) {
    let mut known = 0;
    loop {
        tokio::time::sleep(LOOK_FOR_ROWS).await;
        // A database that is away is others' to report.
        let Ok(rows) = reader.rows_of_others().await else {
            continue;
        };
        if rows > known {
            tracing::warn!(
                rows,
                "store.rows_of_others: another application writes into `messages`; its messages are \
                 taken in at the next start"
            );
        }
        known = rows;
    }
}

/// Starts to delete what the rooms do not keep; `None` where they keep everything.
fn retention(
    config: &ServeConfig,
    endpoint: &Endpoint,
    writer: &DbWriterHandle,
) -> Option<RetentionTask> {
    let rules: Vec<_> = config.rooms.iter().map(retention_rule).collect();
    let forgets = |rule: &RetentionRule| rule.max_age.is_some() || rule.max_messages.is_some();
    let forgets = rules.iter().any(forgets);
    forgets.then(|| Retention::new(writer, endpoint.pubsub(), rules).start())
}

fn retention_rule(room: &RoomConfig) -> RetentionRule {
    RetentionRule {
        topics: room.topics.clone(),
        max_age: room.retention.max_age,
        max_messages: room.retention.max_messages,
    }
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
    Api::new(auth, endpoint, &rooms(config), writer, max_body)
}

/// The rooms of the settings.
fn rooms(config: &ServeConfig) -> Vec<Room> {
    let rooms = config.rooms.iter();
    rooms
        .map(|room| Room::new(room, config.history, config.history_limit))
        .collect()
}

/// What fills the columns of a kind of room.
fn columns(room: &Room) -> ColumnFields {
    ColumnFields {
        topics: room.topics.clone(),
        name: room.fields.name.clone(),
        message: room.fields.message.clone(),
    }
}

/// What the database keeps of a kind of room.
fn rule(room: &Room, durability: Durability, writer: &DbWriterHandle) -> LogRule {
    let events: Vec<&str> = room.events.iter().map(String::as_str).collect();
    let store = Arc::new(writer.clone());
    LogRule::new(&room.topics, &events, room.history_limit, store)
        .resume_limit(room.resume_limit)
        .strict(durability == Durability::Strict)
}
