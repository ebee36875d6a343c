//! The whole server that the `slackir` binary runs: settings, database, rooms, HTTP API, metrics, page. A
//! program can add its own channels to it.
//!
//! [`Server`] takes its settings as values, [`main`] from the command line. The rest of the library does not
//! use this module; a program that builds its own server leaves the feature `server` out.

pub(crate) mod admin;
#[cfg(feature = "_store")]
pub mod api;
#[cfg(feature = "_store")]
pub(crate) mod certificates;
#[cfg(feature = "_store")]
pub(crate) mod check;
pub(crate) mod commands;
pub(crate) mod config;
pub(crate) mod console;
#[cfg(feature = "_store")]
pub(crate) mod dashboard;
pub(crate) mod explain;
pub(crate) mod exporter;
pub(crate) mod hook;
mod http_metrics;
pub(crate) mod jwks;
pub(crate) mod jwt;
pub(crate) mod language;
#[cfg(all(feature = "load", target_os = "linux"))]
pub(crate) mod load;
mod memory_rooms;
pub(crate) mod methods;
pub mod page;
#[cfg(feature = "_store")]
pub(crate) mod probe;
#[cfg(feature = "_store")]
mod program;
pub mod rooms;
#[cfg(feature = "_store")]
mod run;
#[cfg(feature = "_store")]
pub(crate) mod sanctions;
mod sockets;
#[cfg(feature = "_store")]
pub(crate) mod systemd;
pub(crate) mod telemetry;
pub(crate) mod tls;
mod tokens;
mod told;
#[cfg(feature = "_store")]
pub(crate) mod traces;
pub(crate) mod trial;

pub use self::admin::MetricsTokenError;
#[cfg(feature = "_store")]
pub use self::certificates::CertificateError;
pub use self::config::{
    ClusterMisfit, Config, Fields, HookSecretError, JwtSetupError, LogFormat, SettingsError,
    ShortPassword,
};
#[cfg(feature = "_store")]
pub use self::dashboard::DashboardError;
pub use self::exporter::ExporterError;
pub use self::hook::HookError;
pub use self::memory_rooms::{MemoryRooms, MemoryRoomsError};
#[cfg(feature = "_store")]
pub use self::program::main;
#[cfg(feature = "_store")]
pub use self::run::{JoinClusterError, ServeError, Server};
pub use self::sockets::OriginError;
pub use self::telemetry::{InvalidFilter, Logging};
#[cfg(feature = "_store")]
pub use self::traces::TracesError;
