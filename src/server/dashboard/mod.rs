//! The operators' dashboard at `/dashboard`: what the server does now, its rooms and clients, its trouble, its settings.
//!
//! The page is a program in the browser that talks to one channel, by phoenix.js as published. Its socket belongs to an
//! endpoint of its own: clients of the server cannot join the channel, and lists of topics and connections do not show
//! it. Once a second a sampler reads counters that exist anyway. Nothing is done for each message.
//!
//! | file | content |
//! | --- | --- |
//! | `session`, `operator` | who may use it: password, link, cookie, origin |
//! | `assets`, `http`, `export` | the page, signing in and out, the export of a room |
//! | `socket`, `channel`, `tail` | the socket and its channel |
//! | `requests` | what the page may ask; `rooms`, `people` and `system` answer |
//! | `settings` | the settings that SIGHUP changes |
//! | `sampler`, `history`, `process` | the numbers, once a second |
//! | `audit` | the log line of each action |

mod assets;
mod audit;
mod channel;
mod export;
mod history;
mod http;
mod operator;
mod people;
mod process;
mod requests;
mod rooms;
mod sampler;
mod session;
mod settings;
mod slow_mode;
mod socket;
mod system;
mod tail;

use std::net::SocketAddr;
use std::sync::{Arc, RwLock};
use std::time::Instant;

use self::assets::Assets;
use self::history::History;
pub(crate) use self::http::routes;
use self::sampler::OwnTraffic;
use self::session::Sessions;
pub(crate) use self::settings::ChangeableDashboard;
use self::settings::Settings;
use crate::admission::Admission;
use crate::endpoint::Endpoint;
use crate::presence::Presence;
use crate::pubsub::Cluster;
use crate::server::admin::Readiness;
use crate::server::certificates::Certificates;
use crate::server::config::{ServeConfig, SettingInForce, ShortPassword};
use crate::server::exporter::Exporter;
use crate::server::rooms::Room;
use crate::server::sanctions::Sanctions;
use crate::server::telemetry::Trouble;
use crate::store::{DbWriterHandle, OtherServers};

/// The path of the dashboard.
const ROOT: &str = "/dashboard";

/// The dashboard cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DashboardError {
    /// The password is too short.
    #[error(transparent)]
    Password(#[from] ShortPassword),
    /// The system has no randomness for keys.
    #[error("the system returned no random bytes: {0}")]
    NoRandomness(#[from] getrandom::Error),
}

/// The parts of the server that the dashboard shows and changes.
pub(crate) struct DashboardServices {
    /// The settings at the start. SIGHUP changes some: [`Settings`] has these.
    pub(crate) config: ServeConfig,
    /// The address on which the dashboard is served.
    pub(crate) address: SocketAddr,
    /// The sockets of the server.
    pub(crate) endpoint: Endpoint,
    /// The configured rooms at the start.
    pub(crate) rooms: Vec<Room>,
    /// The database; `None` without one.
    pub(crate) writer: Option<DbWriterHandle>,
    /// The presences of the rooms.
    pub(crate) presence: Option<Presence>,
    /// Revocations, bans and slow modes.
    pub(crate) sanctions: Option<Sanctions>,
    /// Other servers on the database.
    pub(crate) others: OtherServers,
    /// The cluster whose node this server is.
    pub(crate) cluster: Option<Cluster>,
    /// The metrics.
    pub(crate) metrics: Exporter,
    /// The warnings and errors.
    pub(crate) trouble: Arc<Trouble>,
    /// What `/readyz` says.
    pub(crate) readiness: Box<dyn Fn() -> Readiness + Send + Sync>,
    /// The certificate of the server's port; `None` without TLS.
    pub(crate) certificates: Option<Certificates>,
}

/// The dashboard of one server. Cloning is cheap.
#[derive(Clone)]
pub(crate) struct Dashboard(Arc<Shared>);

named_debug!(Dashboard);

struct Shared {
    services: DashboardServices,
    assets: Assets,
    sessions: Sessions,
    history: History,
    /// What the dashboards themselves have added to the counters of the process.
    own: OwnTraffic,
    started: Instant,
    /// Read once for each request.
    settings: RwLock<Arc<Settings>>,
    /// The configured rooms. Read once for each request.
    rooms: RwLock<Arc<[Room]>>,
    /// The places of its sockets.
    admission: Admission,
}

/// The dashboard and its sockets.
pub(crate) struct ServedDashboard {
    /// For [`routes`].
    pub(crate) dashboard: Dashboard,
    /// Its sockets, to be drained at the end of the server.
    pub(crate) endpoint: Endpoint,
    /// The link that lets one browser in; `None` if there is a password.
    pub(crate) link: Option<String>,
}

impl ServedDashboard {
    /// Opens the dashboard. [`Dashboard::keep`] must run for it to have numbers. `in_force`: the settings with their
    /// sources; none for a program that makes its settings itself.
    ///
    /// # Errors
    /// If the password is too short.
    pub(crate) fn open(
        services: DashboardServices,
        in_force: Vec<SettingInForce>,
    ) -> Result<Self, DashboardError> {
        let password = services.config.dashboard.password()?;
        let sessions = Sessions::new(password)?;
        let is_secure = services.config.operators_have_tls();
        let scheme = if is_secure { "https" } else { "http" };
        let link = match password {
            Some(_) => None,
            None => Some(format!(
                "{scheme}://{}{ROOT}?token={}",
                services.address,
                sessions.new_link()?
            )),
        };
        let dashboard = Dashboard(Arc::new(Shared {
            settings: RwLock::new(Arc::new(Settings {
                in_force,
                read: services.config.clone(),
            })),
            rooms: RwLock::new(services.rooms.clone().into()),
            admission: socket::admission(&services.config),
            services,
            assets: Assets::load(),
            sessions,
            history: History::default(),
            own: OwnTraffic::default(),
            started: Instant::now(),
        }));
        Ok(Self {
            endpoint: socket::endpoint(&dashboard),
            dashboard,
            link,
        })
    }
}
