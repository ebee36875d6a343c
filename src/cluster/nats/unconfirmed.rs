//! [`Unconfirmed`]: what was written, and not confirmed by the answer to a PING.

use std::time::Instant;

use tokio::sync::oneshot;

use crate::cluster::counters::Waiting;
use crate::cluster::topics::Batch;

/// What one PING asks about.
#[derive(Default)]
pub(super) struct Unconfirmed {
    /// Messages: their share of the bytes that wait, and who hears that the server has taken them.
    sent: Vec<(Waiting, Option<oneshot::Sender<()>>)>,
    /// Topics whose subscription begins or ends.
    pub(super) topics: Batch,
    /// Who waits for the node's leave.
    pub(super) leaves: Option<oneshot::Sender<()>>,
}

impl Unconfirmed {
    /// Adds a message.
    pub(super) fn sent(&mut self, waiting: Waiting, taken: Option<oneshot::Sender<()>>) {
        self.sent.push((waiting, taken));
    }

    /// Adds topics.
    pub(super) fn subscribed(&mut self, batch: Batch) {
        self.topics.subscribe.extend(batch.subscribe);
        self.topics.unsubscribe.extend(batch.unsubscribe);
    }

    /// Whether there is nothing to ask about.
    pub(super) fn is_empty(&self) -> bool {
        self.sent.is_empty() && self.topics == Batch::default() && self.leaves.is_none()
    }

    /// The server has taken the messages.
    pub(super) fn confirm_sent(&mut self) {
        for (waiting, taken) in self.sent.drain(..) {
            drop(waiting);
            if let Some(taken) = taken {
                // A sender that waits no longer needs no answer.
                let _ = taken.send(());
            }
        }
    }
}

/// A PING without an answer.
pub(super) struct Asked {
    pub(super) since: Instant,
    pub(super) about: Unconfirmed,
}
