//! The settings of a [`RedisBus`](super::RedisBus).

use std::time::Duration;

use super::connection::client;
use super::error::ConnectError;

/// The settings of a [`RedisBus`](super::RedisBus).
#[derive(Clone)]
pub(crate) struct RedisOptions {
    /// The server: `redis://[user:password@]host[:port][/db]`, or `rediss://` for TLS.
    pub(crate) url: String,
    /// The beginning of all keys and channels. Clusters that share a server need different ones.
    pub(crate) prefix: String,
    /// A channel of programs that are no nodes, to which each node subscribes.
    pub(crate) foreign: Option<String>,
    /// How long the server knows a client_ref.
    pub(crate) ref_window: Duration,
    /// How many bytes of messages may wait to be written. More are dropped.
    pub(crate) most_waiting: u64,
    /// The time limits.
    pub(crate) timing: Timing,
}

impl RedisOptions {
    /// The defaults for the server at `url`.
    pub(crate) fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            prefix: "slackir".to_owned(),
            foreign: None,
            ref_window: Duration::from_secs(600),
            most_waiting: 64 << 20,
            timing: Timing::default(),
        }
    }

    /// Whether the URL is one of Redis.
    ///
    /// # Errors
    /// If it is not.
    pub(crate) fn check(&self) -> Result<(), ConnectError> {
        client(&self.url).map(drop)
    }
}

/// Leaves the URL out: it may contain a password.
impl std::fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisOptions")
            .field("prefix", &self.prefix)
            .field("timing", &self.timing)
            .finish_non_exhaustive()
    }
}

/// The time limits of a [`RedisBus`](super::RedisBus). Tests have shorter ones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    /// The time from one PING to the next.
    pub(crate) ping_every: Duration,
    /// How long the server may take to answer.
    pub(crate) answer: Duration,
    /// How long after its answer a message may take to arrive at its author.
    pub(crate) echo: Duration,
    /// The first delay before connecting again. It doubles with each attempt.
    pub(crate) reconnect_least: Duration,
    /// The longest delay before connecting again.
    pub(crate) reconnect_most: Duration,
    /// How long the server keeps a node's liveness key.
    pub(crate) liveness: Duration,
    /// The time from one renewal of the liveness key to the next.
    pub(crate) renew_every: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            ping_every: Duration::from_secs(1),
            answer: Duration::from_secs(2),
            echo: Duration::from_secs(2),
            reconnect_least: Duration::from_millis(50),
            reconnect_most: Duration::from_millis(500),
            liveness: Duration::from_secs(10),
            renew_every: Duration::from_secs(3),
        }
    }
}
