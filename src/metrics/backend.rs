//! The metrics of tokens, of the hook, of what the backend is told, and of traces.

use std::sync::LazyLock;

use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, gauge, histogram,
};

use super::{described_gauge, place};

/// The handles of the hook's metrics.
pub(crate) struct HookMetrics {
    /// Calls that are out.
    pub(crate) in_flight: Gauge,
    /// Seconds of calls by type: of those without an answer, and of those with one.
    seconds: [[Histogram; 2]; HOOK_TYPES.len()],
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

impl HookMetrics {
    /// Seconds of the calls with this type, without their wait for a slot.
    pub(crate) fn seconds(&self, kind: &str, is_answered: bool) -> &Histogram {
        &self.seconds[place(&HOOK_TYPES, kind)][usize::from(is_answered)]
    }

    /// The calls with this type and this outcome.
    pub(crate) fn calls(&self, kind: &str, outcome: &str) -> &Counter {
        &self.calls[place(&HOOK_TYPES, kind)][place(&HOOK_OUTCOMES, outcome)]
    }
}

static HOOK_METRICS: LazyLock<HookMetrics> = LazyLock::new(|| HookMetrics {
    in_flight: described_gauge("slackir_hook_queue", "Calls of the backend that are out"),
    seconds: HOOK_TYPES.map(|kind| {
        ["failed", "answered"]
            .map(|result| histogram!("slackir_hook_seconds", "hook" => kind, "result" => result))
    }),
    calls: HOOK_TYPES.map(|kind| {
        HOOK_OUTCOMES.map(
            |outcome| counter!("slackir_hook_requests_total", "hook" => kind, "result" => outcome),
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
    /// Bans in force.
    pub(crate) bans: Gauge,
    /// Mutes in force.
    pub(crate) mutes: Gauge,
    /// When an issuer's keys were last fetched, in seconds since 1970; 0 before the first time.
    pub(crate) jwks_fetched: Gauge,
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
    revocations: described_gauge("slackir_revocations", "Revoked users and tokens in memory"),
    bans: gauge!("slackir_bans", "kind" => "ban"),
    mutes: gauge!("slackir_bans", "kind" => "mute"),
    jwks_fetched: described_gauge(
        super::name::JWKS_FETCHED,
        "When the keys behind a jwks_url were last fetched, in seconds since 1970; 0 before the first time",
    ),
    refusals: TOKEN_REFUSALS
        .map(|reason| counter!("slackir_token_refusals_total", "reason" => reason)),
    jwks_fetches: JWKS_OUTCOMES
        .map(|outcome| counter!("slackir_jwks_refresh_total", "result" => outcome)),
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
    lag: described_gauge(
        "slackir_told_lag_seconds",
        "Seconds since the oldest notice that the backend has not taken",
    ),
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

/// The handles of the metrics of traces.
pub(crate) struct TraceMetrics {
    /// Spans that the collector has taken.
    pub(crate) sent: Counter,
    /// Spans that it has not taken.
    pub(crate) failed: Counter,
    /// Spans that found the queue full.
    pub(crate) dropped: Counter,
}

static TRACE_METRICS: LazyLock<TraceMetrics> = LazyLock::new(|| {
    let spans = |result| counter!("slackir_trace_spans_total", "result" => result);
    TraceMetrics {
        sent: spans("sent"),
        failed: spans("failed"),
        dropped: spans("dropped"),
    }
});

/// The handles of the metrics of traces.
pub(crate) fn trace_metrics() -> &'static TraceMetrics {
    &TRACE_METRICS
}

/// Registers all of them, so that every one shows up from the first scrape.
pub(super) fn describe() {
    describe_gauge!("slackir_bans", "Bans and mutes in force, by kind");
    LazyLock::force(&HOOK_METRICS);
    LazyLock::force(&TOKEN_METRICS);
    LazyLock::force(&TOLD_METRICS);
    LazyLock::force(&TRACE_METRICS);
    describe_counter!(
        "slackir_trace_spans_total",
        "Spans of traces, by result: sent to the collector, failed, or dropped because the queue was full"
    );
    metrics::describe_histogram!(
        "slackir_hook_seconds",
        "Seconds of a call of the backend, without its wait for a slot, by hook and by whether it was answered"
    );
    describe_counter!(
        "slackir_hook_requests_total",
        "Calls of the backend, by hook and result"
    );
    describe_counter!(
        "slackir_told_notices_total",
        "Notices to the backend, by kind and outcome"
    );
    describe_counter!(
        "slackir_told_batches_total",
        "Requests with notices to the backend, by outcome"
    );
    describe_counter!(
        "slackir_token_refusals_total",
        "Refused tokens of clients, joins and callers of the HTTP API, by reason"
    );
    describe_counter!(
        "slackir_jwks_refresh_total",
        "Fetches of the keys behind a jwks_url, by result"
    );
}
