//! What waits until the database has messages of all nodes: changes, erasures, retention.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::message;
use super::node::Node;
use super::outstanding::{Publishing, RETRY};
use crate::cluster::wire::Body;
use crate::cluster::{Away, NodeId, To};
use crate::log::{LoadError, MessageId, OwnPlaced, Seq};
use crate::pubsub::{Draft, PublishError, Published, Topic};

/// The first pause between two looks whether the database has a message.
const LOOK: Duration = Duration::from_millis(20);
/// How long to look.
const PATIENCE: Duration = Duration::from_secs(10);

/// The next pause. A look reads the seqs of the whole journal, which is long while the database is away.
fn rarer(pause: Duration) -> Duration {
    (2 * pause).min(Duration::from_secs(1))
}

impl Node {
    /// Waits until the message that a draft changes has left the journal: from then on no node stores it again. And until
    /// nothing is missing here, if the draft may be a retry: a new server of the bus does not know its client_ref, but
    /// members may have got the message.
    ///
    /// # Errors
    /// If the bus is away, or the database takes too long.
    pub(in crate::pubsub) async fn settle_target(
        &self,
        topic: &Topic,
        draft: &Draft,
    ) -> Result<(), PublishError> {
        if topic.is_strict() {
            return Ok(());
        }
        if draft.client_ref.is_some()
            && draft.is_stored(topic)
            && let Some(joint) = topic.joint()
        {
            joint.stands(topic.name()).await.map_err(|_| RETRY)?;
        }
        let Some(target) = message::target(draft) else {
            return Ok(());
        };
        let (begun, mut pause) = (Instant::now(), LOOK);
        while begun.elapsed() < PATIENCE {
            let waits = self.is_in_journal(topic.name(), |seq| seq == target).await;
            if !waits.map_err(|_| RETRY)? {
                return Ok(());
            }
            sleep(pause).await;
            pause = rarer(pause);
        }
        Err(RETRY.into())
    }

    /// Whether a message of the journal is among these.
    async fn is_in_journal(&self, topic: &str, among: impl Fn(Seq) -> bool) -> Result<bool, Away> {
        let journaled = self.sequencer()?.journaled(topic);
        Ok(journaled.await?.into_iter().any(among))
    }

    /// Takes a place that no message gets, for an erasure, and waits until this node has come to it.
    ///
    /// # Errors
    /// If the bus is away.
    pub(in crate::pubsub) async fn take_place(
        self: &Arc<Self>,
        topic: &Arc<Topic>,
    ) -> Result<MessageId, LoadError> {
        if topic.is_strict() {
            return self.take_strict_place(topic).await;
        }
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| LoadError {
            topic: topic.name().to_owned(),
            source,
        };
        let sequencer = self.sequencer().map_err(|away| failed(away.into()))?;
        let nonce = self.nonce();
        let message = message::message(Body::Erasure, self.id, nonce).encode();
        let sending = self.await_place(nonce, |publisher| Publishing {
            topic: Arc::clone(topic),
            message: message.clone(),
            client_ref: None,
            from: None,
            own: OwnPlaced::default(),
            reserved: None,
            taken: None,
            publisher,
            since: Instant::now(),
        });
        sequencer.publish(topic.name(), message, None, false);
        let published = sending
            .placed()
            .await
            .map_err(|error| failed(error.into()))?;
        published.id.ok_or_else(|| failed(Away.into()))
    }

    /// This node has come to the place of an erasure.
    pub(super) fn answer_erasure(&self, author: NodeId, nonce: u64, id: MessageId) {
        if author != self.id {
            return;
        }
        if let Some(publishing) = self.outstanding.take(nonce) {
            let published = Published {
                id: Some(id),
                ..Published::default()
            };
            // A caller that has gone needs no answer.
            let _ = publishing.publisher.send(Ok(published));
        }
    }

    /// Waits until the database has every message up to this one, whoever published it. Needs a time limit.
    pub(in crate::pubsub) async fn settled_through(&self, topic: &str, through: Seq) {
        if self.is_strict_topic(topic) {
            return;
        }
        let mut pause = LOOK;
        while let Ok(true) | Err(Away) = self.is_in_journal(topic, |seq| seq <= through).await {
            sleep(pause).await;
            pause = rarer(pause);
        }
    }

    /// Waits until the database has every message that has a place now. Needs a time limit.
    pub(in crate::pubsub) async fn all_settled(&self) {
        if self.has_strict_topics_only() {
            return;
        }
        let topics = loop {
            if let Ok(sequencer) = self.sequencer()
                && let Ok(topics) = sequencer.journals().await
            {
                break topics;
            }
            sleep(LOOK).await;
        };
        for topic in topics {
            let head = self.read(&topic).await.ok().flatten();
            if let Some(head) = head.map(|position| position.head) {
                self.settled_through(&topic, head).await;
            }
        }
    }

    /// Tells the other nodes that messages are deleted.
    pub(in crate::pubsub) fn tell_erased(&self, topic: &str, seqs: &[Seq], erasure: Seq) {
        let seqs = seqs.to_vec();
        self.tell(topic, Body::Erased { erasure, seqs });
    }

    /// Tells the other nodes that messages up to this one may be deleted.
    pub(in crate::pubsub) fn tell_pruned(&self, topic: &str, through: Seq) {
        self.tell(topic, Body::Pruned { through });
    }

    fn tell(&self, topic: &str, body: Body) {
        if let Some(bus) = self.bus() {
            let message = message::message(body, self.id, self.nonce());
            bus.send(To::Topic(topic), message.encode());
        }
    }

    /// Whether this node does a task for all, for so many seconds.
    pub(in crate::pubsub) async fn claims(&self, task: &str, seconds: u32) -> bool {
        match self.sequencer() {
            Ok(sequencer) => sequencer.claim(task, seconds).await.unwrap_or(false),
            // The task may be done by more than one.
            Err(Away) => self.has_strict_topics_only(),
        }
    }
}
