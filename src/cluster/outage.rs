//! [`Outage`]: the log lines of a bus that is away.

use std::fmt::Display;
use std::time::Instant;

use crate::cluster::bus::ProcessId;

/// What has been logged in one outage: each kind of trouble once, not once per attempt.
pub(crate) struct Outage<Trouble> {
    /// The product that carries messages.
    bus: &'static str,
    since: Instant,
    /// Whether the bus was up before.
    after_loss: bool,
    logged: Vec<Trouble>,
}

impl<Trouble: PartialEq> Outage<Trouble> {
    /// Before the first connection.
    pub(crate) fn new(bus: &'static str) -> Self {
        Self {
            bus,
            since: Instant::now(),
            after_loss: false,
            logged: Vec::new(),
        }
    }

    /// An outage that begins now.
    pub(crate) fn begun(bus: &'static str, lost: &impl Display) -> Self {
        tracing::warn!(
            bus,
            error = %lost,
            "cluster.bus.lost: see that the server of redis_url or nats_url runs and that this node reaches it; \
             the node connects again by itself"
        );
        Self {
            after_loss: true,
            ..Self::new(bus)
        }
    }

    /// An outage that begins now, because the bus is to connect again.
    pub(crate) fn meant(bus: &'static str) -> Self {
        Self {
            after_loss: true,
            ..Self::new(bus)
        }
    }

    /// An attempt to connect has failed.
    pub(crate) fn failed(&mut self, error: &impl Display, trouble: Trouble) {
        if !self.logged.contains(&trouble) {
            self.logged.push(trouble);
            tracing::error!(
                bus = self.bus,
                %error,
                "cluster.bus.away: stored messages that are not strict wait, then are refused; do what the error says"
            );
        }
    }

    /// The bus is up.
    pub(crate) fn ended(&self, process: &ProcessId) {
        let bus = self.bus;
        if self.after_loss || !self.logged.is_empty() {
            let seconds = self.since.elapsed().as_secs_f32();
            tracing::info!(bus, %process, seconds, "cluster.bus.back");
        } else {
            tracing::info!(bus, %process, "cluster.bus.up");
        }
    }
}
