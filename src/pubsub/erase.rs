//! [`Erasure`]: what a topic's log and its members learn while a store deletes some of its messages.
//!
//! An erasure takes a seq that no message has, and every id from before it is worth nothing for a
//! resume. So whoever was away, or has not heard yet, gets the history anew; whoever is there is told
//! of each message.

use std::sync::Arc;
use std::time::Duration;

use super::publish::MESSAGE_DELETED;
use super::topic::Topic;
use super::{LoadError, MessageId, PubSub};
use crate::message::Payload;

/// How often it is looked whether rows are committed.
const LOOK: Duration = Duration::from_millis(10);

/// The messages of a topic up to a seq, some of which are being deleted. The topic's log stays loaded
/// until this is dropped.
pub(crate) struct Erasure {
    pubsub: PubSub,
    topic: Arc<Topic>,
    id: MessageId,
}

named_debug!(Erasure, id);

impl PubSub {
    /// Begins an erasure, unless the topic keeps no log or can have none: from now on no client resumes from what was
    /// published before.
    ///
    /// # Errors
    /// When the topic's log cannot be read.
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
            // A topic that was given up since it was looked up is looked up again.
            if let Some(id) = topic.begin_erasure() {
                let pubsub = self.clone();
                return Ok(Some(Erasure { pubsub, topic, id }));
            }
        }
    }

    /// Waits until every message that has been published so far is settled. It may take as long as
    /// the store is away: give it a time limit.
    pub(crate) async fn settled(&self) {
        for topic in self.topics() {
            let newest = topic.lock().newest_unsettled();
            if let Some(newest) = newest {
                settled(&topic, newest + 1).await;
            }
        }
    }
}

impl Erasure {
    /// The seq that it has taken: what is erased comes before it.
    pub(crate) fn through(&self) -> i64 {
        self.id.seq
    }

    /// Waits until every message before it is settled, as [`PubSub::settled`].
    pub(crate) async fn settled(&self) {
        settled(&self.topic, self.id.seq).await;
    }

    /// Rows with these seqs are deleted, and the store has noted the seq of this erasure.
    pub(crate) fn deleted(&self, seqs: &[i64]) {
        self.topic.erase(seqs);
        self.topic.erased(self.id.seq);
    }

    /// Tells the members of a message that is gone.
    pub(crate) fn tell(&self, seq: i64) {
        let id = self.topic.id_of(seq).unwrap_or(self.id);
        let gone = Payload::from(serde_json::json!({ "id": id.to_string() }));
        let name = self.topic.name();
        self.pubsub.broadcast_live(name, MESSAGE_DELETED, &gone);
    }
}

impl Drop for Erasure {
    fn drop(&mut self) {
        self.topic.end_erasure();
    }
}

async fn settled(topic: &Topic, through: i64) {
    while topic.lock().is_unsettled_before(through) {
        tokio::time::sleep(LOOK).await;
    }
}
