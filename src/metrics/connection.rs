//! The metrics of connections: open ones, their beginnings and ends, refusals.

use std::sync::LazyLock;

use metrics::{Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, gauge};

use super::{described_counter, described_gauge, described_histogram};

const TRANSPORTS: [&str; 2] = ["websocket", "longpoll"];
const VERSIONS: [&str; 2] = ["1", "2"];

/// The labels of the reasons for which a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Client,
    Lost,
    Idle,
    SlowConsumer,
    Protocol,
    TooLarge,
    Drain,
    Kicked,
    Expired,
    Revoked,
    Limited,
    Error,
}

const ENDS: [&str; 12] = [
    "client",
    "lost",
    "idle",
    "slow_consumer",
    "protocol",
    "too_large",
    "drain",
    "kicked",
    "expired",
    "revoked",
    "limited",
    "error",
];

/// The labels of the reasons for which a connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Origin,
    Subprotocol,
    Version,
    Token,
    Connect,
    UserLimit,
    Unavailable,
    Full,
    Files,
    AddressLimit,
    Rate,
    Draining,
    BadRequest,
    Error,
}

const REFUSALS: [&str; 14] = [
    "origin",
    "subprotocol",
    "vsn",
    "token",
    "connect",
    "user_limit",
    "unavailable",
    "full",
    "files",
    "ip_limit",
    "rate",
    "draining",
    "bad_request",
    "error",
];

/// The handles of the metrics of connections.
pub(crate) struct ConnectionMetrics {
    /// Open connections by transport and version of the protocol.
    open: [[Gauge; VERSIONS.len()]; TRANSPORTS.len()],
    opened: [Counter; TRANSPORTS.len()],
    closed: [Counter; ENDS.len()],
    refused: [Counter; REFUSALS.len()],
    /// The most connections.
    pub(crate) max: Gauge,
    /// The most connections of the settings.
    pub(crate) configured_max: Gauge,
    /// Connections whose forwarding headers do not count, because their address is no trusted proxy.
    pub(crate) forwarded_ignored: Counter,
    /// Seconds from a handshake to its answer.
    pub(crate) connect_seconds: Histogram,
}

impl ConnectionMetrics {
    /// The open connections of this kind.
    pub(crate) fn open(&self, polls: bool, is_v1: bool) -> &Gauge {
        &self.open[usize::from(polls)][usize::from(!is_v1)]
    }

    /// The connections of this transport that have begun.
    pub(crate) fn opened(&self, polls: bool) -> &Counter {
        &self.opened[usize::from(polls)]
    }

    /// The connections that have ended for this reason.
    pub(crate) fn closed(&self, end: End) -> &Counter {
        &self.closed[end as usize]
    }

    /// The connections that were refused for this reason.
    pub(crate) fn refused(&self, refused: Refused) -> &Counter {
        &self.refused[refused as usize]
    }
}

static CONNECTION_METRICS: LazyLock<ConnectionMetrics> = LazyLock::new(|| ConnectionMetrics {
    open: TRANSPORTS.map(|transport| {
        VERSIONS.map(|vsn| gauge!("slackir_connections", "transport" => transport, "vsn" => vsn))
    }),
    opened: TRANSPORTS
        .map(|transport| counter!("slackir_connections_opened_total", "transport" => transport)),
    closed: ENDS.map(|reason| counter!("slackir_connections_closed_total", "reason" => reason)),
    refused: REFUSALS
        .map(|reason| counter!("slackir_connections_refused_total", "reason" => reason)),
    max: described_gauge(
        "slackir_connections_max",
        "The most connections that the server accepts",
    ),
    configured_max: described_gauge(
        "slackir_connections_configured_max",
        "max_connections of the settings: more than slackir_connections_max if the limit of open files is too low",
    ),
    forwarded_ignored: described_counter(
        "slackir_forwarded_ignored_total",
        "Connections whose X-Forwarded-For or Forwarded does not count, because their address is no trusted proxy",
    ),
    connect_seconds: described_histogram(
        "slackir_connect_seconds",
        "Seconds from the handshake of a connection to its answer",
    ),
});

/// The handles of the metrics of connections.
pub(crate) fn connection_metrics() -> &'static ConnectionMetrics {
    &CONNECTION_METRICS
}

/// Registers all of them, so that every one shows up from the first scrape.
pub(super) fn describe() {
    LazyLock::force(&CONNECTION_METRICS);
    describe_gauge!(
        "slackir_connections",
        "Open client connections, by transport and version of the protocol"
    );
    describe_counter!(
        "slackir_connections_opened_total",
        "Connections that have begun, by transport"
    );
    describe_counter!(
        "slackir_connections_closed_total",
        "Connections that have ended, by reason"
    );
    describe_counter!(
        "slackir_connections_refused_total",
        "Connections that were refused, by reason"
    );
}
