//! The settings of a [`NatsBus`](super::NatsBus).

use std::time::Duration;

use super::error::ConnectError;
use super::url::Address;

/// The settings of a [`NatsBus`](super::NatsBus).
#[derive(Clone)]
pub(crate) struct NatsOptions {
    /// The server: `nats://[user:password@]host[:port]`, or `tls://` for TLS.
    pub(crate) url: String,
    /// The beginning of all subjects. Clusters that share a server need different ones.
    pub(crate) prefix: String,
    /// How many bytes of messages may wait to be taken by the server. More are dropped.
    pub(crate) most_waiting: u64,
    /// The time limits.
    pub(crate) timing: Timing,
}

impl NatsOptions {
    /// The defaults for the server at `url`.
    pub(crate) fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            prefix: "slackir".to_owned(),
            most_waiting: 64 << 20,
            timing: Timing::default(),
        }
    }

    /// Whether the URL is one of NATS.
    ///
    /// # Errors
    /// If it is not.
    pub(crate) fn check(&self) -> Result<(), ConnectError> {
        Address::parse(&self.url).map(drop)
    }
}

/// Leaves the URL out: it may contain a password.
impl std::fmt::Debug for NatsOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NatsOptions")
            .field("prefix", &self.prefix)
            .field("timing", &self.timing)
            .finish_non_exhaustive()
    }
}

/// The time limits of a [`NatsBus`](super::NatsBus). Tests have shorter ones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    /// The time from one PING to the next, while nothing else is to be confirmed.
    pub(crate) ping_every: Duration,
    /// How long the server may take to answer.
    pub(crate) answer: Duration,
    /// The first delay before connecting again. It doubles with each attempt.
    pub(crate) reconnect_least: Duration,
    /// The longest delay before connecting again.
    pub(crate) reconnect_most: Duration,
    /// A node without a sign of life for so long is dead.
    pub(crate) liveness: Duration,
    /// The time from one sign of life to the next.
    pub(crate) renew_every: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            ping_every: Duration::from_secs(1),
            answer: Duration::from_secs(2),
            reconnect_least: Duration::from_millis(50),
            reconnect_most: Duration::from_millis(500),
            liveness: Duration::from_secs(10),
            renew_every: Duration::from_secs(3),
        }
    }
}
