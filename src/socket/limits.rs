//! [`Gate`]: the one place that lets a client's messages and joins in, or refuses them with an error reply.
//!
//! The bounds of memory are elsewhere: `flow` stops reading a client whose channels are behind, `outbox` ends one
//! that does not read.

use std::time::{Duration, Instant};

use serde_json::json;

use super::channels::Channels;
use super::connection::Connection;
use crate::channel::Refused;
use crate::flow::{REST, Ticket};
use crate::message::{HEARTBEAT, MAX_NAME_LEN, Message, PHX_JOIN, PHX_LEAVE, Reply, reason};
use crate::metrics::metrics;
use crate::rate::{self, Bucket, Limit, Rate};

/// How often one connection may do what costs the server something. A message over a rate is refused by an error
/// reply, `{"reason": "rate limited", "limit": .., "retry_after_ms": ..}`. A client is not read for a second after it
/// was over the rate of its messages or bytes, or after 100 refusals in 10 seconds. Nobody is disconnected: phoenix.js
/// would connect again at once.
///
/// ```
/// use slackir::rate::Rate;
/// use slackir::socket::{RateLimits, SocketOptions};
///
/// let rates = RateLimits::default().joins(Rate::new(10, 100));
/// let options = SocketOptions::default().rates(rates);
/// # let _ = options;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RateLimits {
    /// Joins. Default 500 a second, 2,000 at once.
    pub joins: Rate,
    /// Messages of any kind. Default 5,000 a second, 20,000 at once.
    pub pushes: Rate,
    /// Their bytes. Default 10 MB a second, 100 MB at once. A larger message passes once the client has been
    /// silent for long enough.
    pub bytes: Rate,
}

setters!(RateLimits {
    joins: Rate,
    pushes: Rate,
    bytes: Rate,
});

impl RateLimits {
    /// No limit.
    pub const UNLIMITED: Self = Self {
        joins: Rate::UNLIMITED,
        pushes: Rate::UNLIMITED,
        bytes: Rate::UNLIMITED,
    };
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

/// The gate of one connection.
#[derive(Default)]
pub(super) struct Gate {
    joins: Bucket,
    pushes: Bucket,
    bytes: Bucket,
}

/// A message over a rate.
struct Limited {
    limit: Limit,
    /// The client may send the message again after this time.
    wait: Duration,
    /// Whether the client is not read for a while.
    rests: bool,
}

impl Gate {
    /// Lets a message of `size` bytes in: the ticket counts it as in flight.
    ///
    /// # Errors
    /// If it is over a rate, or the messages in flight of all clients leave no room: the error reply.
    pub(super) fn admit(
        &mut self,
        connection: &Connection,
        message: &Message,
        size: usize,
    ) -> Result<Ticket, Reply> {
        let flow = &connection.flow;
        let rates = connection.mount.limits.rates();
        if let Err(limited) = self.take(&rates, message, size, connection.activity.now()) {
            metrics().limited(limited.limit).increment(1);
            if limited.rests {
                flow.rest();
            } else {
                flow.count_refusal();
            }
            if let Some(refusal) = limited.refusal(message) {
                return Err(refusal);
            }
        }
        if !flow.admits(size) {
            metrics().overloaded.increment(1);
            return Err(overloaded());
        }
        Ok(flow.enter(size))
    }

    /// Whether the connection may join another topic.
    pub(super) fn admits_join(connection: &Connection, channels: &mut Channels) -> bool {
        channels.has_room(connection.mount.limits.max_channels())
    }

    /// Whether a reply can carry the message's refs.
    pub(super) fn admits_refs(message: &Message) -> bool {
        !message.join_ref.is_too_long() && !message.reference.is_too_long()
    }

    /// Whether a binary frame can carry these names.
    pub(super) fn admits_names(topic: &str, event: Option<&str>) -> bool {
        topic.len() <= MAX_NAME_LEN && event.is_none_or(|event| event.len() <= MAX_NAME_LEN)
    }

    /// Takes a message's tokens.
    fn take(
        &mut self,
        rates: &RateLimits,
        message: &Message,
        size: usize,
        now: Instant,
    ) -> Result<(), Limited> {
        let limited = |limit, rests| {
            move |wait: Duration| Limited {
                limit,
                wait: if rests { wait.max(REST) } else { wait },
                rests,
            }
        };
        let now = rate::at(now);
        let pushes = self.pushes.take(rates.pushes, 1, now);
        pushes.map_err(limited(Limit::Pushes, true))?;
        let bytes = self.bytes.take(rates.bytes, size as u64, now);
        bytes.map_err(limited(Limit::Bytes, true))?;
        if message.event.as_str() == Some(PHX_JOIN) {
            let joins = self.joins.take(rates.joins, 1, now);
            joins.map_err(limited(Limit::Joins, false))?;
        }
        Ok(())
    }
}

impl Limited {
    /// The error reply. `None` for a leave, without which its channel would live on, and for a heartbeat,
    /// without which the client would give up: they are never refused.
    fn refusal(&self, message: &Message) -> Option<Reply> {
        if matches!(message.event.as_str(), Some(PHX_LEAVE | HEARTBEAT)) {
            return None;
        }
        let refused = Refused::rate_limited(Some(self.limit.name()), self.wait);
        Some(Reply::error(refused.response().clone()))
    }
}

/// The messages in flight of all clients leave no room for another.
fn overloaded() -> Reply {
    Reply::error(json!({
        "reason": reason::OVERLOADED,
        "retry_after_ms": 1_000,
    }))
}
