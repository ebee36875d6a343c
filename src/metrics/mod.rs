//! The names and handles of all metrics. No other folder contains a metric's name.
//!
//! Handles are looked up once, and recording is one atomic operation. Without a recorder, as in a library
//! user's program that wants none, they do nothing. Install a recorder before the first metric is recorded.

mod backend;
#[cfg(feature = "_cluster")]
mod cluster;
mod commit_lag;
mod connection;
mod hot;
mod http;
mod route;
mod tls;

use std::sync::LazyLock;

use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};

pub(crate) use self::backend::{hook_metrics, token_metrics, told_metrics, trace_metrics};
#[cfg(feature = "_cluster")]
pub(crate) use self::cluster::{
    BridgeEvent, BusTotals, count_passed_over, show_cluster, show_order,
};
pub(crate) use self::commit_lag::{commit_lag, committed};
pub(crate) use self::connection::{End, Refused, connection_metrics};
pub(crate) use self::hot::{
    Hot, Totals, count, fanned_out, keep_adding, second, time_some, totals, written,
};
pub(crate) use self::http::request;
pub(crate) use self::route::{RouteId, RouteMetrics};
pub(crate) use self::tls::{TlsHandshake, tls_metrics};

use crate::rate::Limit;

/// The names of the metrics that the dashboard reads from the text of `/metrics`.
pub(crate) mod name {
    /// By pattern.
    pub(crate) const CHANNELS: &str = "slackir_channels";
    /// Without a label.
    pub(crate) const SLOW_CONSUMERS: &str = "slackir_slow_consumers_total";
    /// By limit.
    pub(crate) const LIMITED: &str = "slackir_limited_total";
    /// Without a label.
    pub(crate) const JWKS_FETCHED: &str = "slackir_jwks_fetched_timestamp_seconds";
    /// By reason.
    pub(crate) const REFUSED: &str = "slackir_connections_refused_total";
    /// By reason.
    pub(crate) const ERROR_REPLIES: &str = "slackir_replies_error_total";
}

/// Every metric of the server.
pub(crate) struct Metrics {
    /// Remembered client_refs.
    pub(crate) client_refs: Gauge,
    /// Open long-poll sessions, which `connections` counts too.
    pub(crate) longpoll_sessions: Gauge,
    /// Connections without a channel that were ended to make room for a new one.
    pub(crate) displaced: Counter,
    /// Connections ended because their client read too slowly.
    pub(crate) slow_consumers: Counter,
    /// Connections ended because their client was silent for too long.
    pub(crate) idle_timeouts: Counter,
    /// Refusals by limit, in the order of [`Limit::ALL`].
    limited: [Counter; Limit::ALL.len()],
    /// Connections ended because their client did not complete a message in time.
    pub(crate) message_timeouts: Counter,
    /// Bytes in outboxes beyond the first 64 kB of each. A shared frame counts once for each outbox.
    pub(crate) outbox_bytes: Gauge,
    /// Topics in slow mode.
    pub(crate) slow_modes: Gauge,
    /// Bytes of client messages that channels have not handled yet.
    pub(crate) in_flight_bytes: Gauge,
    /// Messages refused because the unhandled messages of all clients left no room.
    pub(crate) overloaded: Counter,
    /// Bytes of intercepted broadcasts that wait for channels. A broadcast counts once for each channel.
    pub(crate) intercepted_bytes: Gauge,
    /// Bytes of topic logs in memory.
    pub(crate) tail_bytes: Gauge,
    /// Bytes of presences: their keys and metas.
    pub(crate) presence_bytes: Gauge,
    /// Bytes of messages, request heads and long-poll bodies that have not arrived whole.
    pub(crate) unfinished_bytes: Gauge,
    /// Messages, heads and bodies refused because the incomplete ones of all clients left no room.
    pub(crate) unfinished_refused: Counter,
    /// How often the server stopped reading from a connection, in the order of [`Pause`].
    reads_paused: [Counter; PAUSES.len()],
    /// Channels ended because intercepted broadcasts piled up.
    pub(crate) intercepts_overflowed: Counter,
    /// Broadcasts that found a worker's inbox over its bound.
    pub(crate) inbox_congested: Counter,
    /// Committed rows.
    pub(crate) rows_committed: Counter,
    /// Messages refused because the queue of the DbWriter was full.
    pub(crate) writer_refused: Counter,
    /// Transactions that failed and were retried.
    pub(crate) writer_retries: Counter,
    /// Rows that the database rejected.
    pub(crate) rows_rejected: Counter,
    /// Rows that were not stored because their client_ref was already stored.
    pub(crate) rows_duplicate: Counter,
    /// Rows stored under another seq because another server writes to their topic.
    pub(crate) rows_moved: Counter,
    /// Rows deleted by retention.
    pub(crate) rows_pruned: Counter,
    /// Rows that wait for their transaction.
    pub(crate) writer_queue: Gauge,
    /// Waiting rows that are also in the spool on disk.
    pub(crate) spool_rows: Gauge,
    /// Other servers on the same database.
    pub(crate) other_servers: Gauge,
    /// Rows of each transaction.
    pub(crate) writer_batch: Histogram,
    /// Seconds that the database took for each batch.
    pub(crate) writer_commit: Histogram,
    /// Seconds from publish to commit, for the oldest row of each batch.
    pub(crate) writer_lag: Histogram,
    /// Bytes of SQLite's write-ahead log.
    pub(crate) database_wal_bytes: Gauge,
    /// Seconds since the oldest reader began to keep SQLite's write-ahead log from starting over; 0 without
    /// such a reader.
    pub(crate) sqlite_reader_age: Gauge,
    /// Messages that a resume sent again.
    pub(crate) resumed_messages: Histogram,
    /// Bytes of the rows that wait for their transaction.
    pub(crate) writer_queue_bytes: Gauge,
    /// The most rows that may wait for their transaction in memory.
    pub(crate) writer_queue_limit: Gauge,
    /// When the last transaction was committed, in seconds since 1970; 0 before the first.
    pub(crate) last_commit: Gauge,
    /// Bytes of the spool on disk.
    pub(crate) spool_bytes: Gauge,
    /// The most bytes of the spool.
    pub(crate) spool_limit: Gauge,
    /// Whether the database is reachable: 1 or 0.
    pub(crate) database_up: Gauge,
    /// Seconds of a read from the database, with the wait for a connection, in the order of [`Query`].
    database_read: [Histogram; QUERIES.len()],
    /// Bytes of SQLite's file.
    pub(crate) database_bytes: Gauge,
    /// Whether the server is shutting down: 1 or 0.
    pub(crate) draining: Gauge,
    /// Resumes by result, in the order of [`Resume`].
    resumes: [Counter; RESUMES.len()],
    /// Error replies by reason, in the order of [`ERROR_REPLIES`].
    error_replies: [Counter; ERROR_REPLIES.len()],
    /// Log lines lost because standard error did not accept them.
    pub(crate) log_lines_lost: Counter,
    /// Worker threads that have not run for 5 seconds.
    pub(crate) workers_blocked: Gauge,
    /// Jumps of the system's clock by more than 2 seconds: back, ahead.
    pub(crate) clock_jumps: [Counter; 2],
}

/// Why the server stops reading from a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pause {
    /// More than half of its outbox is in use.
    Outbox,
    /// Its channels are behind.
    Channels,
    /// It was over a rate, or was refused too often.
    Limit,
}

/// Their labels.
const PAUSES: [&str; 3] = ["outbox", "channels", "limit"];

/// What is read from the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Query {
    /// The newest messages of a topic, or older ones, for a client.
    History,
    /// The messages that a client has missed.
    Resume,
    /// For the HTTP API and the dashboard.
    Api,
    /// What retention deletes.
    Retention,
    Other,
}

/// Their labels.
const QUERIES: [&str; 5] = ["history", "resume", "api", "retention", "other"];

/// The results of a resume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resume {
    /// The missed messages came from memory.
    Memory,
    /// They came from the database.
    Database,
    /// The client got the history, because messages after its last one are deleted or too many.
    Gap,
    /// The client got the history, because its last message is unknown.
    Epoch,
    /// The messages could not be read.
    Failed,
}

/// Their labels.
const RESUMES: [&str; 5] = ["memory", "database", "gap", "epoch", "failed"];
/// The reasons of error replies; the first stands for all others.
const ERROR_REPLIES: [&str; 8] = [
    "other",
    "unmatched topic",
    "unknown event",
    "invalid payload",
    "rate limited",
    "storage unavailable",
    "unauthorized",
    "muted",
];

/// The place of a name in a list of labels; the first if it is not in it.
fn place(names: &[&str], name: &str) -> usize {
    let place = names.iter().position(|known| *known == name);
    place.unwrap_or_default()
}

impl Metrics {
    /// Messages, connections and requests that this limit refused.
    pub(crate) fn limited(&self, limit: Limit) -> &Counter {
        &self.limited[limit as usize]
    }

    /// How often the server stopped reading for this reason.
    pub(crate) fn reads_paused(&self, pause: Pause) -> &Counter {
        &self.reads_paused[pause as usize]
    }

    /// Seconds of the reads of this kind.
    pub(crate) fn database_read(&self, query: Query) -> &Histogram {
        &self.database_read[query as usize]
    }

    /// Resumes with this result.
    pub(crate) fn resumes(&self, result: Resume) -> &Counter {
        &self.resumes[result as usize]
    }

    /// Error replies with this reason. Reasons that are not in the closed list count as `other`.
    pub(crate) fn error_replies(&self, reason: Option<&str>) -> &Counter {
        &self.error_replies[place(&ERROR_REPLIES, reason.unwrap_or_default())]
    }
}

static METRICS: LazyLock<Metrics> = LazyLock::new(|| Metrics {
    client_refs: described_gauge("slackir_client_refs", "Remembered client_refs"),
    longpoll_sessions: described_gauge(
        "slackir_longpoll_sessions",
        "Open long-poll sessions, which connections counts too",
    ),
    displaced: described_counter(
        "slackir_displaced_total",
        "Connections without a channel that were ended to make room for a new one",
    ),
    slow_consumers: described_counter(
        "slackir_slow_consumers_total",
        "Connections ended because their client read too slowly",
    ),
    idle_timeouts: described_counter(
        "slackir_idle_timeouts_total",
        "Connections ended because their client was silent for too long",
    ),
    limited: Limit::ALL.map(|limit| counter!("slackir_limited_total", "limit" => limit.name())),
    message_timeouts: described_counter(
        "slackir_message_timeouts_total",
        "Connections ended because their client did not complete a message in time",
    ),
    outbox_bytes: described_gauge(
        "slackir_outbox_bytes",
        "Bytes in outboxes beyond the first 64 kB of each. A shared frame counts once for each outbox",
    ),
    slow_modes: described_gauge("slackir_slow_modes", "Topics in slow mode"),
    in_flight_bytes: described_gauge(
        "slackir_in_flight_bytes",
        "Bytes of client messages that channels have not handled yet",
    ),
    overloaded: described_counter(
        "slackir_overloaded_total",
        "Messages refused because the unhandled messages of all clients left no room",
    ),
    intercepted_bytes: described_gauge(
        "slackir_intercepted_bytes",
        "Bytes of intercepted broadcasts that wait for channels. A broadcast counts once for each channel",
    ),
    tail_bytes: described_gauge("slackir_tail_bytes", "Bytes of topic logs in memory"),
    presence_bytes: described_gauge(
        "slackir_presence_bytes",
        "Bytes of presences: their keys and metas",
    ),
    unfinished_bytes: described_gauge(
        "slackir_unfinished_bytes",
        "Bytes of messages, request heads and long-poll bodies that have not arrived whole",
    ),
    unfinished_refused: described_counter(
        "slackir_unfinished_refused_total",
        "Messages, heads and bodies refused because the incomplete ones of all clients left no room",
    ),
    reads_paused: PAUSES.map(|reason| counter!("slackir_reads_paused_total", "reason" => reason)),
    intercepts_overflowed: described_counter(
        "slackir_intercepts_overflowed_total",
        "Channels ended because intercepted broadcasts piled up",
    ),
    inbox_congested: described_counter(
        "slackir_inbox_congested_total",
        "Broadcasts that found a worker's inbox over its bound",
    ),
    rows_committed: described_counter("slackir_rows_committed_total", "Committed rows"),
    writer_refused: described_counter(
        "slackir_writer_refused_total",
        "Messages refused because the queue of the DbWriter was full",
    ),
    writer_retries: described_counter(
        "slackir_writer_retries_total",
        "Transactions that failed and were retried",
    ),
    rows_rejected: described_counter(
        "slackir_rows_rejected_total",
        "Rows that the database rejected",
    ),
    rows_duplicate: described_counter(
        "slackir_rows_duplicate_total",
        "Rows that were not stored because their client_ref was already stored",
    ),
    rows_moved: described_counter(
        "slackir_rows_moved_total",
        "Rows stored under another seq because another server writes to their topic",
    ),
    rows_pruned: described_counter("slackir_rows_pruned_total", "Rows deleted by retention"),
    writer_queue: described_gauge(
        "slackir_writer_queue_rows",
        "Rows that wait for their transaction",
    ),
    spool_rows: described_gauge(
        "slackir_spool_rows",
        "Waiting rows that are also in the spool on disk",
    ),
    other_servers: described_gauge(
        "slackir_other_servers",
        "Other servers on the same database",
    ),
    writer_batch: described_histogram("slackir_writer_batch_rows", "Rows of each transaction"),
    writer_commit: described_histogram(
        "slackir_writer_commit_seconds",
        "Seconds that the database took for each batch",
    ),
    writer_lag: described_histogram(
        "slackir_writer_lag_seconds",
        "Seconds from publish to commit, for the oldest row of each batch",
    ),
    database_wal_bytes: described_gauge(
        "slackir_database_wal_bytes",
        "Bytes of SQLite's write-ahead log",
    ),
    sqlite_reader_age: described_gauge(
        "slackir_sqlite_oldest_reader_seconds",
        "Seconds since the oldest reader began to keep SQLite's write-ahead log from starting over; 0 without such a reader",
    ),
    resumed_messages: described_histogram(
        "slackir_resumed_messages",
        "Messages that a resume sent again",
    ),
    writer_queue_bytes: described_gauge(
        "slackir_writer_queue_bytes",
        "Bytes of the rows that wait for their transaction",
    ),
    writer_queue_limit: described_gauge(
        "slackir_writer_queue_limit_rows",
        "The most rows that may wait for their transaction in memory",
    ),
    last_commit: described_gauge(
        "slackir_writer_last_commit_timestamp_seconds",
        "When the last transaction was committed, in seconds since 1970; 0 before the first",
    ),
    spool_bytes: described_gauge("slackir_spool_bytes", "Bytes of the spool on disk"),
    spool_limit: described_gauge("slackir_spool_limit_bytes", "The most bytes of the spool"),
    database_up: described_gauge(
        "slackir_database_up",
        "Whether the database is reachable: 1 or 0",
    ),
    database_read: QUERIES
        .map(|query| histogram!("slackir_database_read_seconds", "query" => query)),
    database_bytes: described_gauge("slackir_database_bytes", "Bytes of SQLite's file"),
    draining: described_gauge(
        "slackir_draining",
        "Whether the server is shutting down: 1 or 0",
    ),
    resumes: RESUMES.map(|result| counter!("slackir_resumes_total", "result" => result)),
    error_replies: ERROR_REPLIES
        .map(|reason| counter!("slackir_replies_error_total", "reason" => reason)),
    log_lines_lost: described_counter(
        "slackir_log_lines_lost_total",
        "Log lines lost because standard error did not accept them",
    ),
    workers_blocked: described_gauge(
        "slackir_workers_blocked",
        "Worker threads that have not run for 5 seconds",
    ),
    clock_jumps: ["back", "ahead"]
        .map(|direction| counter!("slackir_clock_jumps_total", "direction" => direction)),
});

/// The handles of all metrics.
pub(crate) fn metrics() -> &'static Metrics {
    &METRICS
}

/// Registers all metrics, so that every one shows up from the first scrape.
pub(crate) fn describe() {
    LazyLock::force(&METRICS);
    backend::describe();
    connection::describe();
    hot::describe();
    route::describe();
    describe_counter!(
        "slackir_limited_total",
        "Messages, connections, requests and attempts to sign in that a limit refused, by limit"
    );
    describe_counter!(
        "slackir_resumes_total",
        "Resumed joins, by where the missed messages came from; gap and epoch: the client got the history instead; failed: the join or the channel ended"
    );
    describe_counter!(
        "slackir_reads_paused_total",
        "How often the server stopped reading from a connection: its outbox (WebSocket only) or its channels were full, or it was over a limit"
    );
    describe_histogram!(
        "slackir_database_read_seconds",
        "Seconds of a read from the database, with the wait for a connection, by what is read"
    );
    describe_counter!("slackir_replies_error_total", "Error replies, by reason");
    describe_counter!(
        "slackir_clock_jumps_total",
        "Jumps of the system's clock by more than 2 seconds, by direction"
    );
    #[cfg(feature = "_cluster")]
    cluster::describe();
    http::describe();
    tls::describe();
}

/// Shows in the metrics what runs here.
pub(crate) fn show_build(database: &'static str, driver: &'static str) {
    describe_gauge!(
        "slackir_build_info",
        "1; the version, the commit, the database and the driver are in the labels"
    );
    let labels = [
        ("version", env!("CARGO_PKG_VERSION")),
        ("commit", env!("SLACKIR_COMMIT")),
        ("database", database),
        ("driver", driver),
    ];
    gauge!("slackir_build_info", &labels).set(1.0);
}

fn described_counter(name: &'static str, help: &'static str) -> Counter {
    describe_counter!(name, help);
    counter!(name)
}

fn described_gauge(name: &'static str, help: &'static str) -> Gauge {
    describe_gauge!(name, help);
    gauge!(name)
}

fn described_histogram(name: &'static str, help: &'static str) -> Histogram {
    describe_histogram!(name, help);
    histogram!(name)
}

/// The upper bounds of the histograms' buckets, by name: in seconds, rows or messages.
pub(crate) const BUCKETS: [(&str, &[f64]); 13] = [
    ("slackir_connect_seconds", &SLOW),
    ("slackir_join_seconds", &SLOW),
    ("slackir_handle_in_seconds", &FAST),
    ("slackir_fanout_seconds", &FAST),
    ("slackir_delivery_lag_seconds", &FAST),
    ("slackir_worker_stall_seconds", &FAST),
    ("slackir_database_read_seconds", &SLOW),
    ("slackir_http_request_seconds", &SLOW),
    ("slackir_writer_lag_seconds", &SLOW),
    ("slackir_writer_commit_seconds", &SLOW),
    ("slackir_hook_seconds", &SLOW),
    (
        "slackir_writer_batch_rows",
        &[1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0],
    ),
    (
        "slackir_resumed_messages",
        &[0.0, 1.0, 10.0, 100.0, 1_000.0, 10_000.0],
    ),
];

/// For what happens in memory.
const FAST: [f64; 13] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0,
];
/// For what waits for a disk, a network or a program. An outage of a minute must not end in the last bucket.
const SLOW: [f64; 15] = [
    0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0,
];
