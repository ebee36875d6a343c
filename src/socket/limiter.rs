//! [`RateLimits`]: how often one client may join and push, and how much; and [`Limiter`], its account.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::message::{HEARTBEAT, Message, PHX_JOIN, PHX_LEAVE, Reply, reason};
use crate::rate::{Bucket, Rate};

/// How long a client is not read that is over the rate of its messages or bytes.
const REST: Duration = Duration::from_secs(1);

/// How often one connection may do what costs the server something. What is over a rate is refused by
/// an error reply, `{"reason": "rate limited", "limit": .., "retry_after_ms": ..}`; a client over the
/// rate of its messages or bytes is not read for a second after that. Nobody is disconnected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimits {
    /// Joins. Default 500 a second, 2,000 at once.
    pub joins: Rate,
    /// Messages of any kind. Default 5,000 a second, 20,000 at once.
    pub pushes: Rate,
    /// Their bytes. Default 10 MB a second, 100 MB at once. A larger message passes when there was none
    /// for long enough.
    pub bytes: Rate,
}

impl Default for RateLimits {
    fn default() -> Self {
        Self {
            joins: Rate::new(500, 2_000),
            pushes: Rate::new(5_000, 20_000),
            bytes: Rate::new(10_000_000, 100_000_000),
        }
    }
}

/// What the clocks of all accounts count from.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The account of one connection.
#[derive(Default)]
pub(super) struct Limiter {
    joins: Bucket,
    pushes: Bucket,
    bytes: Bucket,
}

/// A message is over a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limited {
    /// Which rate, as the client is told.
    limit: &'static str,
    /// After which time it would not be.
    wait: Duration,
    rest: Option<Duration>,
}

impl Limiter {
    /// Counts a message of `size` bytes.
    ///
    /// # Errors
    /// When it is over a rate.
    pub(super) fn take(
        &mut self,
        rates: &RateLimits,
        message: &Message,
        size: usize,
        now: Instant,
    ) -> Result<(), Limited> {
        let limited = |limit, rest: Option<Duration>| {
            move |wait: Duration| Limited {
                limit,
                wait: wait.max(rest.unwrap_or_default()),
                rest,
            }
        };
        let now = now.saturating_duration_since(*START);
        let pushes = self.pushes.take(rates.pushes, 1, now);
        pushes.map_err(limited("pushes", Some(REST)))?;
        let bytes = self.bytes.take(rates.bytes, size as u64, now);
        bytes.map_err(limited("bytes", Some(REST)))?;
        if message.event.as_str() == Some(PHX_JOIN) {
            let joins = self.joins.take(rates.joins, 1, now);
            joins.map_err(limited("joins", None))?;
        }
        Ok(())
    }
}

impl Limited {
    /// How long the client is not read.
    pub(super) fn rest(&self) -> Option<Duration> {
        self.rest
    }

    /// What the client is told; `None` for what is never refused: a leave, without which its channel
    /// would live on, and a heartbeat, without which it would give up.
    pub(super) fn refusal(&self, message: &Message) -> Option<Reply> {
        if matches!(message.event.as_str(), Some(PHX_LEAVE | HEARTBEAT)) {
            return None;
        }
        let wait = self.wait.as_nanos().div_ceil(1_000_000);
        Some(Reply::error(json!({
            "reason": reason::RATE_LIMITED,
            "limit": self.limit,
            "retry_after_ms": u64::try_from(wait).unwrap_or(u64::MAX),
        })))
    }
}
