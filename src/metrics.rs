//! The names and handles of all metrics. No other file contains a metric's name.
//!
//! Handles are looked up once, and recording is one atomic operation. Without a recorder, as in a library
//! user's program that wants none, they do nothing. Install a recorder before the first metric is recorded.

use std::sync::LazyLock;

use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, gauge, histogram,
};

use crate::rate::Limit;

/// Every metric of the server.
pub(crate) struct Metrics {
    /// Open client connections.
    pub(crate) connections: Gauge,
    /// Remembered client_refs.
    pub(crate) client_refs: Gauge,
    /// Open long-poll sessions, which `connections` counts too.
    pub(crate) longpoll_sessions: Gauge,
    /// Connections refused because the server had its maximum.
    pub(crate) refused_full: Counter,
    /// Connections refused because their address had its maximum.
    pub(crate) refused_address: Counter,
    /// Connections refused because the process had too many open files.
    pub(crate) refused_files: Counter,
    /// Connections without a channel that were ended to make room for a new one.
    pub(crate) displaced: Counter,
    /// Joined channels.
    pub(crate) channels: Gauge,
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
    /// How often the server stopped reading from a connection because its channels were behind.
    pub(crate) reads_paused: Counter,
    /// Channels ended because intercepted broadcasts piled up.
    pub(crate) intercepts_overflowed: Counter,
    /// Broadcasts that found a worker's inbox over its bound.
    pub(crate) inbox_congested: Counter,
    /// Channels ended by a panic or an error.
    pub(crate) channel_crashes: Counter,
    /// Broadcasts to topics.
    pub(crate) broadcasts: Counter,
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
    pub(crate) sqlite_log_bytes: Gauge,
    /// Seconds since the oldest reader began to keep SQLite's write-ahead log from starting over; 0 without
    /// such a reader.
    pub(crate) sqlite_reader_age: Gauge,
    /// Log lines lost because standard error did not accept them.
    pub(crate) log_lines_lost: Counter,
}

impl Metrics {
    /// Messages, connections and requests that this limit refused.
    pub(crate) fn limited(&self, limit: Limit) -> &Counter {
        &self.limited[limit as usize]
    }
}

/// The handles of the hook's metrics.
pub(crate) struct HookMetrics {
    /// Calls that are out.
    pub(crate) in_flight: Gauge,
    /// Seconds of each call, without its wait for a slot.
    pub(crate) seconds: Histogram,
    /// Calls by type and outcome.
    calls: [[Counter; HOOK_OUTCOMES.len()]; HOOK_TYPES.len()],
}

/// The types of calls of the hook.
const HOOK_TYPES: [&str; 4] = ["connect", "join", "event", "leave"];
/// The outcomes of a call of the hook: an answer that allows or refuses, or the kind of failure.
const HOOK_OUTCOMES: [&str; 8] = [
    "ok",
    "refused",
    "busy",
    "unreachable",
    "timeout",
    "broken",
    "status",
    "invalid",
];

/// The place of a name in a list of labels; the first if it is not in it.
fn place(names: &[&str], name: &str) -> usize {
    let place = names.iter().position(|known| *known == name);
    place.unwrap_or_default()
}

impl HookMetrics {
    /// The calls with this type and this outcome.
    pub(crate) fn calls(&self, kind: &str, outcome: &str) -> &Counter {
        &self.calls[place(&HOOK_TYPES, kind)][place(&HOOK_OUTCOMES, outcome)]
    }
}

static HOOK_METRICS: LazyLock<HookMetrics> = LazyLock::new(|| HookMetrics {
    in_flight: gauge!("slackir_hook_in_flight"),
    seconds: histogram!("slackir_hook_seconds"),
    calls: HOOK_TYPES.map(|kind| {
        HOOK_OUTCOMES.map(
            |outcome| counter!("slackir_hook_calls_total", "type" => kind, "outcome" => outcome),
        )
    }),
});

/// The handles of the hook's metrics.
pub(crate) fn hook_metrics() -> &'static HookMetrics {
    &HOOK_METRICS
}

/// The handles of the metrics of tokens.
pub(crate) struct TokenMetrics {
    /// Revocations in memory.
    pub(crate) revocations: Gauge,
    /// Refused tokens by reason.
    refusals: [Counter; TOKEN_REFUSALS.len()],
    /// Fetches of an issuer's keys by outcome.
    jwks_fetches: [Counter; JWKS_OUTCOMES.len()],
}

/// The reasons for which a token is refused.
const TOKEN_REFUSALS: [&str; 10] = [
    "missing",
    "invalid",
    "expired",
    "not_yet",
    "claims",
    "unknown_key",
    "no_keys",
    "revoked",
    "other_user",
    "role",
];
/// The outcomes of a fetch of keys.
const JWKS_OUTCOMES: [&str; 5] = ["ok", "unreachable", "timeout", "status", "invalid"];

impl TokenMetrics {
    /// The tokens that were refused for this reason.
    pub(crate) fn refusals(&self, reason: &str) -> &Counter {
        &self.refusals[place(&TOKEN_REFUSALS, reason)]
    }

    /// The fetches of keys with this outcome.
    pub(crate) fn jwks_fetches(&self, outcome: &str) -> &Counter {
        &self.jwks_fetches[place(&JWKS_OUTCOMES, outcome)]
    }
}

static TOKEN_METRICS: LazyLock<TokenMetrics> = LazyLock::new(|| TokenMetrics {
    revocations: gauge!("slackir_revocations"),
    refusals: TOKEN_REFUSALS
        .map(|reason| counter!("slackir_token_refusals_total", "reason" => reason)),
    jwks_fetches: JWKS_OUTCOMES
        .map(|outcome| counter!("slackir_jwks_fetches_total", "outcome" => outcome)),
});

/// The handles of the metrics of tokens.
pub(crate) fn token_metrics() -> &'static TokenMetrics {
    &TOKEN_METRICS
}

/// The handles of the metrics of what the backend is told.
pub(crate) struct ToldMetrics {
    /// Seconds since the oldest notice that the backend has not taken; 0 if it has taken all.
    pub(crate) lag: Gauge,
    /// Notices by kind and outcome.
    notices: [[Counter; TOLD_OUTCOMES.len()]; TOLD_KINDS.len()],
    /// Requests by outcome.
    batches: [Counter; TOLD_BATCH_OUTCOMES.len()],
}

/// The kinds of notices.
const TOLD_KINDS: [&str; 5] = ["message", "joined", "left", "occupied", "vacated"];
/// The outcomes of a notice.
const TOLD_OUTCOMES: [&str; 2] = ["taken", "dropped"];
/// The outcomes of a request with notices: taken, or the kind of failure.
const TOLD_BATCH_OUTCOMES: [&str; 5] = ["taken", "unreachable", "timeout", "broken", "status"];

impl ToldMetrics {
    /// The notices of this kind with this outcome.
    pub(crate) fn notices(&self, kind: &str, outcome: &str) -> &Counter {
        &self.notices[place(&TOLD_KINDS, kind)][place(&TOLD_OUTCOMES, outcome)]
    }

    /// The requests with this outcome.
    pub(crate) fn batches(&self, outcome: &str) -> &Counter {
        &self.batches[place(&TOLD_BATCH_OUTCOMES, outcome)]
    }
}

static TOLD_METRICS: LazyLock<ToldMetrics> = LazyLock::new(|| ToldMetrics {
    lag: gauge!("slackir_told_lag_seconds"),
    notices: TOLD_KINDS.map(|kind| {
        TOLD_OUTCOMES.map(
            |outcome| counter!("slackir_told_notices_total", "kind" => kind, "outcome" => outcome),
        )
    }),
    batches: TOLD_BATCH_OUTCOMES
        .map(|outcome| counter!("slackir_told_batches_total", "outcome" => outcome)),
});

/// The handles of the metrics of what the backend is told.
pub(crate) fn told_metrics() -> &'static ToldMetrics {
    &TOLD_METRICS
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
    limited: Limit::ALL.map(|limit| counter!("slackir_limited_total", "limit" => limit.name())),
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

/// The handles of all metrics.
pub(crate) fn metrics() -> &'static Metrics {
    &METRICS
}

/// Registers all metrics, so that every one shows up from the first scrape, and describes some.
pub(crate) fn describe() {
    LazyLock::force(&METRICS);
    LazyLock::force(&HOOK_METRICS);
    LazyLock::force(&TOKEN_METRICS);
    LazyLock::force(&TOLD_METRICS);
    describe_counter!(
        "slackir_told_notices_total",
        "Notices to the backend, by kind and outcome"
    );
    describe_counter!(
        "slackir_told_batches_total",
        "Requests with notices to the backend, by outcome"
    );
    describe_gauge!(
        "slackir_told_lag_seconds",
        "Seconds since the oldest notice that the backend has not taken"
    );
    describe_gauge!("slackir_connections", "Open client connections");
    describe_gauge!("slackir_channels", "Joined channels");
    describe_counter!(
        "slackir_slow_consumers_total",
        "Connections ended because their client read too slowly"
    );
    describe_counter!(
        "slackir_limited_total",
        "Messages, connections and requests that a limit refused, by limit"
    );
    describe_gauge!("slackir_revocations", "Revoked users and tokens in memory");
    describe_counter!(
        "slackir_token_refusals_total",
        "Refused tokens of clients, joins and callers of the HTTP API, by reason"
    );
    describe_counter!(
        "slackir_jwks_fetches_total",
        "Fetches of the keys behind a jwks_url, by outcome"
    );
}

/// The upper bounds of the histograms' buckets, by name: in seconds, or in rows.
pub(crate) const BUCKETS: [(&str, &[f64]); 4] = [
    ("slackir_writer_lag_seconds", &SECONDS),
    ("slackir_writer_commit_seconds", &SECONDS),
    ("slackir_hook_seconds", &SECONDS),
    (
        "slackir_writer_batch_rows",
        &[1.0, 3.0, 10.0, 30.0, 100.0, 1000.0],
    ),
];

const SECONDS: [f64; 8] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.25, 1.0];
