//! Traces: what becomes of one client's connection, joins and messages, as spans with a common id.
//!
//! A span exists only where a trace is sampled: the client has sent a sampled `traceparent`, or the connection was drawn
//! as a root. All others carry a `None`. Ended spans go to a [`SpanSink`], which the server installs; this module knows no
//! exporter. Without the feature `otel` the types are empty, and the calls compile to nothing.
//!
//! The span that a thread works for is in a thread-local, because the application's callbacks are between the client's
//! message and what it causes: a broadcast, a row, a call of the backend.

#[cfg(feature = "otel")]
mod recorded;
#[cfg(feature = "otel")]
mod traceparent;
#[cfg(not(feature = "otel"))]
mod unrecorded;

#[cfg(feature = "otel")]
pub(crate) use self::recorded::{
    FinishedSpan, Span, SpanSink, Traced, begin_broadcast, begin_connect, begin_join, install,
};
#[cfg(not(feature = "otel"))]
pub(crate) use self::unrecorded::{Span, Traced, begin_broadcast, begin_connect, begin_join};

/// The part of the server that a span is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SpanKind {
    /// A request of a client.
    Server,
    /// A request to another server.
    Client,
    /// A message for members or for the database.
    Producer,
}
