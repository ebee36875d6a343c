//! [`Traces`]: sends ended spans to an OpenTelemetry collector, by OTLP over HTTP. It does not know what spans are about.
//!
//! The batches of the SDK have a thread of their own, so nothing here waits for the collector: a span that finds the queue
//! full is dropped, and counted.

#[cfg(not(feature = "otel"))]
mod absent;
#[cfg(feature = "otel")]
mod otlp;

#[cfg(not(feature = "otel"))]
pub(crate) use self::absent::Traces;
#[cfg(feature = "otel")]
pub(crate) use self::otlp::Traces;

/// Why traces cannot be sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TracesError {
    /// The endpoint needs TLS.
    #[error(
        "--otel-endpoint must begin with http://: run a collector beside the server, and let it speak TLS to others"
    )]
    Tls,
    /// The SDK refuses its settings, which may be in the environment.
    #[error("--otel-endpoint: {0}")]
    Exporter(String),
}
