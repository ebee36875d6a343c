//! The names and handles of every metric. Nothing outside this file spells a metric's name.
//!
//! Handles are looked up once; recording is one atomic operation. Without an installed recorder
//! (a library user who wants none) they do nothing. Install one before anything else counts.

use std::sync::LazyLock;

use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, gauge, histogram,
};

/// Every metric of the server.
pub(crate) struct Metrics {
    /// Open client connections.
    pub(crate) connections: Gauge,
    /// client_refs in memory.
    pub(crate) client_refs: Gauge,
    /// Those of them that are long-poll sessions.
    pub(crate) longpoll_sessions: Gauge,
    /// Connections refused because the server had as many as it may have.
    pub(crate) refused_full: Counter,
    /// Connections refused because their address had as many as one may have.
    pub(crate) refused_address: Counter,
    /// Connections refused because files ran out.
    pub(crate) refused_files: Counter,
    /// Connections without a channel that were ended for a new one.
    pub(crate) displaced: Counter,
    /// Joined channels.
    pub(crate) channels: Gauge,
    /// Connections ended because their client did not read.
    pub(crate) slow_consumers: Counter,
    /// Connections that sent nothing for too long.
    pub(crate) idle_timeouts: Counter,
    /// Messages over a rate of their connection.
    pub(crate) limited: Counter,
    /// Connections that did not end a message in time.
    pub(crate) message_timeouts: Counter,
    /// Bytes that wait in outboxes, once for each.
    pub(crate) outbox_bytes: Gauge,
    /// Bytes of messages that channels have not handled.
    pub(crate) in_flight_bytes: Gauge,
    /// Messages refused because too many were in flight.
    pub(crate) overloaded: Counter,
    /// Bytes of broadcasts that wait for channels, once for each.
    pub(crate) intercepted_bytes: Gauge,
    /// Bytes of stored messages in memory.
    pub(crate) tail_bytes: Gauge,
    /// Bytes of the metas of a Presence.
    pub(crate) presence_bytes: Gauge,
    /// Bytes of messages and long-poll bodies that have not arrived whole.
    pub(crate) unfinished_bytes: Gauge,
    /// Messages and bodies for which those of others left no room.
    pub(crate) unfinished_refused: Counter,
    /// Times a connection was not read because its channels were behind.
    pub(crate) reads_paused: Counter,
    /// Channels ended because intercepted broadcasts piled up.
    pub(crate) intercepts_overflowed: Counter,
    /// Times a worker's inbox was over its bound.
    pub(crate) inbox_congested: Counter,
    /// Channels that ended by a panic or an error.
    pub(crate) channel_crashes: Counter,
    /// Messages published to a topic.
    pub(crate) broadcasts: Counter,
    /// Rows committed.
    pub(crate) rows_committed: Counter,
    /// Messages refused because the writer was full.
    pub(crate) writer_refused: Counter,
    /// Transactions that failed and were tried again.
    pub(crate) writer_retries: Counter,
    /// Rows that the database will never take.
    pub(crate) rows_rejected: Counter,
    /// Rows whose client_ref was stored already.
    pub(crate) rows_duplicate: Counter,
    /// Rows stored under another seq, because another server writes to their topic.
    pub(crate) rows_moved: Counter,
    /// Rows deleted because they were too old or too many.
    pub(crate) rows_pruned: Counter,
    /// Rows waiting for their transaction.
    pub(crate) writer_queue: Gauge,
    /// Rows that wait in the spool on disk as well.
    pub(crate) spool_rows: Gauge,
    /// Other servers that use the same database.
    pub(crate) other_servers: Gauge,
    /// Rows of one transaction.
    pub(crate) writer_batch: Histogram,
    /// Seconds that the database took for a batch.
    pub(crate) writer_commit: Histogram,
    /// Seconds from publish to commit, of a batch's oldest row.
    pub(crate) writer_lag: Histogram,
    /// Bytes of SQLite's write-ahead log.
    pub(crate) sqlite_log_bytes: Gauge,
    /// Seconds for which somebody has been reading what keeps the log from beginning anew.
    pub(crate) sqlite_reader_age: Gauge,
    /// Log lines that standard error did not take.
    pub(crate) log_lines_lost: Counter,
}

static METRICS: LazyLock<Metrics> = LazyLock::new(|| Metrics {
    connections: gauge!("slackir_connections"),
    client_refs: gauge!("slackir_client_refs"),
    longpoll_sessions: gauge!("slackir_longpoll_sessions"),
    refused_full: counter!("slackir_refused_full_total"),
    refused_address: counter!("slackir_refused_address_total"),
    refused_files: counter!("slackir_refused_files_total"),
    displaced: counter!("slackir_displaced_total"),
    channels: gauge!("slackir_channels"),
    slow_consumers: counter!("slackir_slow_consumers_total"),
    idle_timeouts: counter!("slackir_idle_timeouts_total"),
    limited: counter!("slackir_limited_total"),
    message_timeouts: counter!("slackir_message_timeouts_total"),
    outbox_bytes: gauge!("slackir_outbox_bytes"),
    in_flight_bytes: gauge!("slackir_in_flight_bytes"),
    overloaded: counter!("slackir_overloaded_total"),
    intercepted_bytes: gauge!("slackir_intercepted_bytes"),
    tail_bytes: gauge!("slackir_tail_bytes"),
    presence_bytes: gauge!("slackir_presence_bytes"),
    unfinished_bytes: gauge!("slackir_unfinished_bytes"),
    unfinished_refused: counter!("slackir_unfinished_refused_total"),
    reads_paused: counter!("slackir_reads_paused_total"),
    intercepts_overflowed: counter!("slackir_intercepts_overflowed_total"),
    inbox_congested: counter!("slackir_inbox_congested_total"),
    channel_crashes: counter!("slackir_channel_crashes_total"),
    broadcasts: counter!("slackir_broadcasts_total"),
    rows_committed: counter!("slackir_rows_committed_total"),
    writer_refused: counter!("slackir_writer_refused_total"),
    writer_retries: counter!("slackir_writer_retries_total"),
    rows_rejected: counter!("slackir_rows_rejected_total"),
    rows_duplicate: counter!("slackir_rows_duplicate_total"),
    rows_moved: counter!("slackir_rows_moved_total"),
    rows_pruned: counter!("slackir_rows_pruned_total"),
    writer_queue: gauge!("slackir_writer_queue_rows"),
    spool_rows: gauge!("slackir_spool_rows"),
    other_servers: gauge!("slackir_other_servers"),
    writer_batch: histogram!("slackir_writer_batch_rows"),
    writer_commit: histogram!("slackir_writer_commit_seconds"),
    writer_lag: histogram!("slackir_writer_lag_seconds"),
    sqlite_log_bytes: gauge!("slackir_sqlite_log_bytes"),
    sqlite_reader_age: gauge!("slackir_sqlite_oldest_reader_seconds"),
    log_lines_lost: counter!("slackir_log_lines_lost_total"),
});

/// The handles.
pub(crate) fn metrics() -> &'static Metrics {
    &METRICS
}

/// Says what the metrics are, so that every one shows up from the first scrape.
pub(crate) fn describe() {
    LazyLock::force(&METRICS);
    describe_gauge!("slackir_connections", "Open client connections");
    describe_gauge!("slackir_channels", "Joined channels");
    describe_counter!(
        "slackir_slow_consumers_total",
        "Connections ended because they did not read"
    );
}

/// Upper bounds of the histograms' buckets, by name: seconds, and rows.
pub(crate) const BUCKETS: [(&str, &[f64]); 3] = [
    ("slackir_writer_lag_seconds", &SECONDS),
    ("slackir_writer_commit_seconds", &SECONDS),
    (
        "slackir_writer_batch_rows",
        &[1.0, 3.0, 10.0, 30.0, 100.0, 1000.0],
    ),
];

const SECONDS: [f64; 8] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.25, 1.0];
