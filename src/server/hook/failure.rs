//! [`CallFailure`]: why a call has no usable answer, and how the log tells it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::request::WrittenCall;
use crate::lock::lock;

/// The time between two log lines of one kind of failure.
const QUIET: Duration = Duration::from_secs(60);

/// A call without an answer that can be carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallFailure {
    /// `max_in_flight` calls are out, and none has ended within the timeout.
    #[error("max_in_flight calls are out")]
    Busy,
    #[error("{0}")]
    Unreachable(String),
    #[error("no answer within the timeout")]
    Timeout,
    /// The connection ended before the answer was whole, or the answer is no HTTP.
    #[error("{0}")]
    Broken(String),
    #[error("the status is {0}")]
    Status(u16),
    #[error("the answer is not understood: {0}")]
    Invalid(String),
}

impl CallFailure {
    /// One word for metrics and logs.
    pub(crate) fn kind(&self) -> &'static str {
        KINDS[self.index()]
    }

    fn index(&self) -> usize {
        match self {
            Self::Busy => 0,
            Self::Unreachable(_) => 1,
            Self::Timeout => 2,
            Self::Broken(_) => 3,
            Self::Status(_) => 4,
            Self::Invalid(_) => 5,
        }
    }
}

const KINDS: [&str; 6] = [
    "busy",
    "unreachable",
    "timeout",
    "broken",
    "status",
    "invalid",
];

/// Logs failures: the first of a kind, and then one line a minute for as long as the kind goes on.
#[derive(Default)]
pub(super) struct FailureLog {
    kinds: [FailureKind; KINDS.len()],
    /// Whether the last call failed.
    is_failing: AtomicBool,
}

#[derive(Default)]
struct FailureKind {
    /// Failures since the last line.
    failures: AtomicU64,
    last_line: Mutex<Option<Instant>>,
}

impl FailureLog {
    pub(super) fn failed(&self, call: &WrittenCall, failure: &CallFailure) {
        self.is_failing.store(true, Ordering::Relaxed);
        let kind = &self.kinds[failure.index()];
        kind.failures.fetch_add(1, Ordering::Relaxed);
        {
            let mut last = lock(&kind.last_line);
            if last.is_some_and(|last| last.elapsed() < QUIET) {
                return;
            }
            *last = Some(Instant::now());
        }
        let (call, id, kind, failures) = (
            call.kind.name(),
            &*call.id,
            failure.kind(),
            kind.failures.swap(0, Ordering::Relaxed),
        );
        if matches!(failure, CallFailure::Status(401 | 403)) {
            tracing::warn!(
                kind, call, id, error = %failure, failures,
                "hook.failing: the backend does not accept the signature: compare its secret with \
                 that of [hook], and the clocks"
            );
        } else {
            tracing::warn!(
                kind, call, id, error = %failure, failures,
                "hook.failing: joins and events that need the backend are refused; see that it \
                 runs at the url of [hook], and what it logs"
            );
        }
    }

    pub(super) fn succeeded(&self) {
        if self.is_failing.load(Ordering::Relaxed) && self.is_failing.swap(false, Ordering::Relaxed)
        {
            tracing::info!("hook.answering");
        }
    }
}
