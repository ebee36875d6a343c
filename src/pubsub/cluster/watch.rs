//! [`Watch`]: the nodes whose messages this node has seen. If one of them dies, somebody must store the messages that
//! it did not.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use super::message::Arrived;
use super::node::Node;
use crate::cluster::NodeId;
use crate::lock::lock;
use crate::log::{LoadError, MessageId};
use crate::pubsub::Topic;

/// How often to look who lives.
const LOOK: Duration = Duration::from_secs(2);
/// How long nodes may take to come back to the bus.
const ABSENCE: Duration = Duration::from_secs(10);
/// How long the node that looks for topics nobody has open keeps that task, in seconds.
const SEARCH: u32 = 30;

/// The topics in which each node was seen.
#[derive(Default)]
pub(super) struct Watch(Mutex<HashMap<NodeId, HashSet<Arc<str>>>>);

impl Watch {
    pub(super) fn add(&self, author: NodeId, topic: &Topic) {
        let mut watched = lock(&self.0);
        let topics = watched.entry(author).or_default();
        if !topics.contains(topic.name()) {
            topics.insert(Arc::clone(topic.shared_name()));
        }
    }

    fn authors(&self) -> Vec<NodeId> {
        lock(&self.0).keys().copied().collect()
    }

    fn take(&self, author: NodeId) -> HashSet<Arc<str>> {
        lock(&self.0).remove(&author).unwrap_or_default()
    }
}

impl Node {
    /// Stores the messages of nodes that have died, as long as this node lives.
    pub(super) async fn watch_others(node: Weak<Self>) {
        loop {
            tokio::time::sleep(LOOK).await;
            let Some(node) = node.upgrade() else { return };
            node.give_up_old();
            node.forget_recent();
            // Nodes that came back to a new server later than this one have no key there yet.
            if !node.is_settled_for(ABSENCE) {
                continue;
            }
            for author in node.watch.authors() {
                let Some(bus) = node.bus() else { continue };
                if matches!(bus.is_alive(author).await, Ok(false)) {
                    node.replace(author).await;
                }
            }
        }
    }

    /// Does what a dead node has left.
    async fn replace(self: &Arc<Self>, author: NodeId) {
        tracing::warn!(
            node = %author,
            "cluster.node.dead: this node stores what it has left; start it again"
        );
        let mut topics = self.watch.take(author);
        topics.extend(self.unopened(author).await);
        for name in topics {
            // A failure means that the bus is away: then the author may not be dead.
            if self.adopt_all(&name, author).await.is_err()
                && let Some(topic) = self.pubsub().map(|pubsub| pubsub.topic(&name))
            {
                self.watch.add(author, &topic);
            }
        }
    }

    /// The topics with messages that are not stored, if no other node does this.
    async fn unopened(&self, author: NodeId) -> Vec<Arc<str>> {
        let Ok(sequencer) = self.sequencer() else {
            return Vec::new();
        };
        let claimed = sequencer.claim(&format!("dead:{author}"), SEARCH);
        if !matches!(claimed.await, Ok(true)) {
            return Vec::new();
        }
        let journals = sequencer.journals().await.unwrap_or_default();
        journals.into_iter().map(Arc::from).collect()
    }

    /// Stores all messages of an author in a topic.
    async fn adopt_all(self: &Arc<Self>, name: &str, author: NodeId) -> Result<(), LoadError> {
        let Some(pubsub) = self.pubsub() else {
            return Ok(());
        };
        let topic = pubsub.topic(name);
        if !topic.has_log() {
            return Ok(());
        }
        topic.load().await?;
        let position = self.read(name).await.map_err(|source| LoadError {
            topic: name.to_owned(),
            source: Box::new(source),
        })?;
        let Some(position) = position else {
            return Ok(());
        };
        let state = topic.lock();
        for (seq, message) in position.journal {
            let id = MessageId::new(position.epoch, seq);
            let arrived = Arrived::read(message);
            if arrived.author == Some(author) {
                self.adopt(&state, id, arrived);
            }
        }
        drop(state);
        // It may have no members here.
        pubsub.note_idle(&topic);
        Ok(())
    }

    /// Frees what the replicas remember for the case that the bus's server dies.
    fn forget_recent(&self) {
        let now = self.now();
        for topic in self.topics() {
            if let Some(replica) = &mut topic.lock().replica {
                replica.expire(now);
            }
        }
    }
}
