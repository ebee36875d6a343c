//! Retries: a message with the client_ref of an earlier one. Its publisher hears when the earlier one is stored, which
//! another node may have to do.

use std::sync::Arc;

use super::message::{self, Arrived, Ordered};
use super::node::Node;
use crate::log::{First, LoadError, MessageId, Outcome, OwnPlaced, Pending, Receipt};
use crate::pubsub::{Published, Topic};
use crate::trace::Traced;

impl Node {
    /// The answer to a retry of the message `first`.
    ///
    /// A message that another node stores is stored by this node, too: that does nothing to the database if the other
    /// has done it, and tells the outcome.
    pub(in crate::pubsub) fn retry_of(
        self: &Arc<Self>,
        topic: &Arc<Topic>,
        first: MessageId,
    ) -> Published {
        let receipt = match topic.first(first) {
            First::Awaited(receipt) => receipt,
            First::Foreign(receipt, row) => {
                self.store_row(row);
                receipt
            }
            First::Unknown => self.look_for(topic, first),
        };
        Published {
            id: Some(first),
            duplicate: true,
            receipt: Some(receipt.of_duplicate()),
        }
    }

    /// A receipt for a message that is not in memory. If the journal does not have it, the database does.
    fn look_for(self: &Arc<Self>, topic: &Arc<Topic>, id: MessageId) -> Receipt {
        let (outcome, receipt) = Receipt::later(id);
        let (node, topic) = (Arc::clone(self), Arc::clone(topic));
        self.spawn(async move {
            match node.row_of(&topic, id).await {
                Ok(None) => {
                    outcome.send_replace(Some(Outcome::Committed));
                }
                Ok(Some((receipt, row))) => {
                    node.store_row(row);
                    if let Some(settled) = receipt.outcome().await {
                        outcome.send_replace(Some(settled));
                    }
                }
                // The publisher hears that it is unconfirmed.
                Err(error) => {
                    tracing::debug!(topic = topic.name(), %error, "cluster.retry.unread");
                }
            }
        });
        receipt
    }

    /// The row of a message of the journal, and its receipt.
    async fn row_of(
        &self,
        topic: &Topic,
        id: MessageId,
    ) -> Result<Option<(Receipt, Pending)>, LoadError> {
        let position = self.read(topic.name()).await.map_err(|source| LoadError {
            topic: topic.name().to_owned(),
            source: Box::new(source),
        })?;
        let mut journal = position.map_or_else(Vec::new, |position| position.journal);
        let Some(at) = journal.iter().position(|(seq, _)| *seq == id.seq) else {
            return Ok(None);
        };
        let arrived = Arrived::read(journal.swap_remove(at).1);
        let Ordered::Message(stored) = arrived.content else {
            return Ok(None);
        };
        let own = OwnPlaced {
            receipt: true,
            traced: Traced::default(),
        };
        let placed = message::placed(id, arrived.at, stored, Some(own));
        let row = topic.lock().row(placed);
        Ok(row.and_then(|(receipt, row)| Some((receipt?, row))))
    }
}
