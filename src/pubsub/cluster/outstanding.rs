//! [`Outstanding`]: messages on their way to their place, and the publishers that wait for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::node::{Node, PATIENCE};
use crate::lock::lock;
use crate::log::{MessageId, OwnPlaced, StoreFull};
use crate::pubsub::{PublishError, Published, SubscriberId, Topic};

/// How much longer it waits for a message that may have been taken.
const DOUBT: Duration = Duration::from_secs(5);
/// The wait of a refused client before its retry.
pub(super) const RETRY: StoreFull = StoreFull {
    retry_after_ms: 1_000,
};

/// Tells a publisher what became of its message.
pub(super) type Publisher = oneshot::Sender<Result<Published, PublishError>>;

/// A message whose place is not known yet.
pub(super) struct Publishing {
    pub(super) topic: Arc<Topic>,
    /// For another attempt, if the topic had no run.
    pub(super) message: Bytes,
    pub(super) client_ref: Option<String>,
    /// Does not get the message.
    pub(super) from: Option<SubscriberId>,
    pub(super) own: OwnPlaced,
    /// Bytes that are reserved at the store; `None` for an erasure, which is no row.
    pub(super) reserved: Option<usize>,
    /// Its place, once the bus has told it. Until then the journal may or may not have it.
    pub(super) taken: Option<MessageId>,
    pub(super) publisher: Publisher,
    pub(super) since: Instant,
}

/// A message that is published again.
pub(super) struct Again {
    pub(super) topic: Arc<Topic>,
    pub(super) message: Bytes,
    pub(super) client_ref: Option<String>,
    /// Whether it is a row, and no erasure.
    pub(super) is_row: bool,
}

/// The messages of this node whose place is not known yet, by nonce. Each has room reserved at the store, which bounds
/// them. A publisher that goes takes its message back unless the bus may have taken it.
#[derive(Default)]
pub(super) struct Outstanding(Mutex<HashMap<u64, Publishing>>);

impl Outstanding {
    pub(super) fn insert(&self, nonce: u64, publishing: Publishing) {
        lock(&self.0).insert(nonce, publishing);
    }

    pub(super) fn take(&self, nonce: u64) -> Option<Publishing> {
        lock(&self.0).remove(&nonce)
    }

    /// The bus has given the message this place.
    pub(super) fn note_taken(&self, nonce: u64, id: MessageId) {
        if let Some(publishing) = lock(&self.0).get_mut(&nonce) {
            publishing.taken = Some(id);
        }
    }

    /// The messages that have a place and did not come back.
    pub(super) fn taken(&self) -> Vec<(MessageId, Arc<Topic>, Bytes)> {
        let outstanding = lock(&self.0);
        let taken = outstanding.values().filter_map(|publishing| {
            let topic = Arc::clone(&publishing.topic);
            Some((publishing.taken?, topic, publishing.message.clone()))
        });
        taken.collect()
    }

    /// What to publish again, if the message is still outstanding.
    pub(super) fn again(&self, nonce: u64) -> Option<Again> {
        let outstanding = lock(&self.0);
        let publishing = outstanding.get(&nonce)?;
        Some(Again {
            topic: Arc::clone(&publishing.topic),
            message: publishing.message.clone(),
            client_ref: publishing.client_ref.clone(),
            is_row: publishing.reserved.is_some(),
        })
    }

    /// The messages for which no publisher waits any more.
    pub(super) fn old(&self) -> Vec<u64> {
        let outstanding = lock(&self.0);
        let old = outstanding
            .iter()
            .filter(|(_, publishing)| publishing.since.elapsed() > 2 * (PATIENCE + DOUBT));
        old.map(|(nonce, _)| *nonce).collect()
    }

    /// Whether a message of this topic is outstanding.
    pub(super) fn has(&self, topic: &Topic) -> bool {
        let outstanding = lock(&self.0);
        outstanding
            .values()
            .any(|publishing| std::ptr::eq(&*publishing.topic, topic))
    }
}

/// A message that was handed to the bus.
pub(crate) struct Sending {
    pub(super) node: Arc<Node>,
    pub(super) nonce: u64,
    pub(super) published: oneshot::Receiver<Result<Published, PublishError>>,
    /// Whether the publisher waits for an answer.
    pub(super) waits: bool,
}

impl Sending {
    /// Waits until the message has its place. If this is dropped, the message may be published all the same.
    ///
    /// # Errors
    /// If the message was refused: nobody has received it. If nobody can know whether it was taken:
    /// [`PublishError::Unconfirmed`].
    pub(crate) async fn placed(mut self) -> Result<Published, PublishError> {
        let answered = match timeout(PATIENCE, &mut self.published).await {
            Ok(answered) => Some(answered),
            Err(_) if self.node.forget(self.nonce) => Some(Ok(Err(RETRY.into()))),
            Err(_) => timeout(DOUBT, &mut self.published).await.ok(),
        };
        if answered.is_none() {
            self.node.give_up(self.nonce);
        }
        self.waits = false;
        answered
            .unwrap_or(Ok(Err(PublishError::Unconfirmed)))
            .unwrap_or(Err(PublishError::Unconfirmed))
    }
}

impl Drop for Sending {
    /// Nobody waits any more: what the bus does not have yet, it does not get.
    fn drop(&mut self) {
        if self.waits {
            self.node.forget(self.nonce);
        }
    }
}
