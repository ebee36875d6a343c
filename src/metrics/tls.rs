//! The metrics of TLS.

use std::sync::LazyLock;

use metrics::{Counter, Gauge, counter, describe_counter};

use super::described_gauge;

/// What becomes of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TlsHandshake {
    Ok,
    /// The client and the server do not agree, or the client is gone.
    Failed,
    /// The client did not finish it in time, or the server stopped.
    Unfinished,
    /// The client sent a request without TLS.
    PlainHttp,
}

/// Their labels, in the same order.
const HANDSHAKES: [&str; 4] = ["ok", "failed", "timeout", "plain_http"];

/// The handles of the metrics of TLS.
pub(crate) struct TlsMetrics {
    /// When the certificate ends, in seconds since 1970; 0 without TLS.
    pub(crate) expiry: Gauge,
    /// By result.
    handshakes: [Counter; HANDSHAKES.len()],
}

impl TlsMetrics {
    /// Handshakes with this result.
    pub(crate) fn handshakes(&self, result: TlsHandshake) -> &Counter {
        &self.handshakes[result as usize]
    }
}

static TLS_METRICS: LazyLock<TlsMetrics> = LazyLock::new(|| TlsMetrics {
    expiry: described_gauge(
        "slackir_tls_certificate_expiry_timestamp_seconds",
        "When the certificate ends, in seconds since 1970; 0 without TLS",
    ),
    handshakes: HANDSHAKES
        .map(|result| counter!("slackir_tls_handshakes_total", "result" => result)),
});

/// The handles of the metrics of TLS.
pub(crate) fn tls_metrics() -> &'static TlsMetrics {
    &TLS_METRICS
}

/// Registers all of them.
pub(super) fn describe() {
    LazyLock::force(&TLS_METRICS);
    describe_counter!("slackir_tls_handshakes_total", "TLS handshakes, by result");
}
