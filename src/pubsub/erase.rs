//! [`Erasure`]: updates a topic's log and notifies its members while a store deletes some of its messages.
//!
//! An erasure takes a seq that no message gets, and no resume begins before that seq. So a client that was
//! away gets the history again. A connected client gets a `message_deleted` for each message.

use std::sync::Arc;
use std::time::Duration;

use super::draft::MESSAGE_DELETED;
use super::topic::Topic;
use super::{Draft, PubSub};
use crate::log::{LoadError, MessageId, Seq};
use crate::message::Payload;

/// How often to check for pending messages.
const LOOK: Duration = Duration::from_millis(10);

/// The erasure of some messages of a topic. The topic's log stays loaded until this is dropped.
pub(crate) struct Erasure {
    pubsub: PubSub,
    topic: Arc<Topic>,
    id: MessageId,
}

named_debug!(Erasure, id);

impl PubSub {
    /// Begins an erasure; `None` if the topic keeps no log. From now on no client resumes from an earlier message.
    ///
    /// # Errors
    /// If the topic's log cannot be read.
    pub(crate) async fn begin_erasure(&self, topic: &str) -> Result<Option<Erasure>, LoadError> {
        if self.is_unstorable(topic) {
            return Ok(None);
        }
        loop {
            let topic = self.topic(topic);
            if !topic.has_log() {
                return Ok(None);
            }
            topic.load().await?;
            let given = match topic.joint() {
                None => None,
                Some(joint) => Some(joint.node().take_place(&topic).await?),
            };
            // The topic was evicted since the look-up: look it up again.
            if let Some(id) = topic.begin_erasure(given) {
                let pubsub = self.clone();
                return Ok(Some(Erasure { pubsub, topic, id }));
            }
        }
    }

    /// Waits until every message published before this call is settled. Set a time limit: the wait lasts as
    /// long as the database is unreachable.
    pub(crate) async fn settled(&self) {
        for topic in self.topics() {
            let newest = topic.lock().newest_unsettled();
            if let Some(newest) = newest {
                settled(&topic, newest.next()).await;
            }
        }
        if let Some(node) = self.node() {
            node.all_settled().await;
        }
    }
}

impl Erasure {
    /// The seq of the erasure; erased messages come before it.
    pub(crate) fn through(&self) -> Seq {
        self.id.seq
    }

    /// Waits until every message before the erasure is settled. Needs a time limit, like
    /// [`PubSub::settled`].
    pub(crate) async fn settled(&self) {
        settled(&self.topic, self.id.seq).await;
        if let Some(joint) = self.topic.joint() {
            joint
                .node()
                .settled_through(self.topic.name(), self.id.seq)
                .await;
        }
    }

    /// Call after the store has deleted these messages and stored the seq of this erasure.
    pub(crate) fn deleted(&self, seqs: &[Seq]) {
        self.topic.erase(seqs, self.id.seq);
        if let Some(joint) = self.topic.joint() {
            joint
                .node()
                .tell_erased(self.topic.name(), seqs, self.id.seq);
        }
    }

    /// Sends the members a `message_deleted` for one message.
    pub(crate) fn tell(&self, seq: Seq) {
        let id = self.topic.id_of(seq).unwrap_or(self.id);
        let gone = Payload::from(serde_json::json!({ "id": id.to_string() }));
        let draft = Draft::new(MESSAGE_DELETED, gone).live();
        self.pubsub
            .publish_live_everywhere(self.topic.name(), &draft);
    }
}

impl Drop for Erasure {
    fn drop(&mut self) {
        self.topic.end_erasure();
    }
}

async fn settled(topic: &Topic, through: Seq) {
    while topic.lock().is_unsettled_before(through) {
        tokio::time::sleep(LOOK).await;
    }
}
