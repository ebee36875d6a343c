//! [`ServeError`]: why a server did not start, or did not end in order.

use std::io;
use std::net::SocketAddr;

use super::cluster::JoinClusterError;
use crate::server::admin::MetricsTokenError;
use crate::server::api::AuthError;
use crate::server::certificates::CertificateError;
use crate::server::dashboard::DashboardError;
use crate::server::exporter::ExporterError;
use crate::server::hook::HookError;
use crate::server::page::PageError;
use crate::server::rooms::IdentityError;
use crate::server::sockets::OriginError;
use crate::server::telemetry::InvalidFilter;
use crate::server::traces::TracesError;
use crate::store::StoreError;

/// Why the server did not start, or did not end in order. The message is one line for the user.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The frontend's folder.
    #[error(transparent)]
    Page(#[from] PageError),
    /// `--check-origin` and `--public-host`.
    #[error(transparent)]
    Origin(#[from] OriginError),
    /// The HTTP API's tokens.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// `--tls-cert` and `--tls-key`.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The operators' dashboard.
    #[error(transparent)]
    Dashboard(#[from] DashboardError),
    /// `[identity]`.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// `[hook]`.
    #[error(transparent)]
    Hook(#[from] HookError),
    /// `--redis-url` and `--nats-url`.
    #[error(transparent)]
    Cluster(#[from] JoinClusterError),
    /// The HTTP API without a database.
    #[error(
        "--api-token, --api-token-salt and [api]: the HTTP API is for stored messages, it needs --persist on"
    )]
    ApiWithoutStore,
    /// `--metrics-token`.
    #[error(transparent)]
    MetricsToken(#[from] MetricsTokenError),
    /// The metrics recorder.
    #[error("metrics: {0}")]
    Metrics(#[from] ExporterError),
    /// `--otel-endpoint`.
    #[error(transparent)]
    Traces(#[from] TracesError),
    /// `--log`.
    #[error("--log: {0}")]
    Log(#[from] InvalidFilter),
    /// The address.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Host and port.
        address: SocketAddr,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The HTTP server or the signal handlers.
    #[error("the server failed: {0}")]
    Server(#[from] io::Error),
    /// A fault of the database file or of the writer: messages may be lost.
    #[error("{0}")]
    Storage(String),
    /// Messages were broadcast and not saved.
    #[error("{0} messages could not be saved before the shutdown's time was over")]
    Unsaved(usize),
}

impl ServeError {
    /// The setting whose value causes the error, by its name in the config file.
    pub fn setting(&self) -> Option<&'static str> {
        match self {
            Self::Store(error) => error.setting(),
            Self::Certificate(error) => error.setting(),
            Self::Page(_) => Some("static_dir"),
            Self::Origin(OriginError::CheckOrigin(_)) => Some("check_origin"),
            Self::Origin(OriginError::PublicHost(_)) => Some("public_host"),
            Self::Auth(AuthError::Token) => Some("api_token"),
            Self::Auth(AuthError::NoSecret) => Some("api_token_salt"),
            Self::Auth(AuthError::Secret(_)) | Self::Identity(IdentityError::Secret(_)) => {
                Some("secret_key_base")
            }
            Self::Dashboard(_) => Some("dashboard_password"),
            Self::Cluster(error) => Some(error.setting()),
            Self::Listen { .. } => Some("port"),
            Self::Log(_) => Some("log"),
            Self::Traces(_) => Some("otel_endpoint"),
            Self::MetricsToken(_) => Some("metrics_token"),
            Self::Auth(AuthError::Jwt(_))
            | Self::ApiWithoutStore
            | Self::Hook(_)
            | Self::Identity(
                IdentityError::NoSecret | IdentityError::Jwt(_) | IdentityError::Join { .. },
            )
            | Self::Metrics(_)
            | Self::Server(_)
            | Self::Storage(_)
            | Self::Unsaved(_) => None,
        }
    }
}
