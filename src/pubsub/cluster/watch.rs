//! [`Watch`]: the other nodes. If one of them dies, somebody must store the messages that it did not.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use super::message::Arrived;
use super::node::Node;
use crate::cluster::{Away, NodeId};
use crate::lock::lock;
use crate::log::{LoadError, MessageId, StoreFull};
use crate::pubsub::Topic;

/// How often to look who lives.
const LOOK: Duration = Duration::from_secs(2);
/// How long nodes may take to come back to the bus.
const ABSENCE: Duration = Duration::from_secs(10);
/// How long the node that looks for topics nobody has open keeps that task, in seconds.
const SEARCH: u32 = 30;

/// The nodes whose messages or signs of life have come here.
#[derive(Default)]
pub(super) struct Watch(Mutex<HashMap<NodeId, Watched>>);

/// A node.
#[derive(Default)]
struct Watched {
    /// Topics in memory in which it was seen.
    topics: HashSet<Arc<str>>,
    /// It has said that it shuts down.
    leaves: bool,
    /// It is dead, and this node looks for its messages in topics that nobody has open.
    searches: bool,
}

impl Watch {
    pub(super) fn add(&self, author: NodeId, topic: &Topic) {
        let mut watched = lock(&self.0);
        let Watched { topics, .. } = watched.entry(author).or_default();
        if !topics.contains(topic.name()) {
            topics.insert(Arc::clone(topic.shared_name()));
        }
    }

    /// A node lives.
    pub(super) fn lives(&self, node: NodeId, leaves: bool) {
        lock(&self.0).entry(node).or_default().leaves |= leaves;
    }

    fn authors(&self) -> Vec<NodeId> {
        lock(&self.0).keys().copied().collect()
    }

    fn take(&self, author: NodeId) -> Watched {
        lock(&self.0).remove(&author).unwrap_or_default()
    }

    /// What is left to do for a dead node.
    fn put_back(&self, author: NodeId, rest: Watched) {
        lock(&self.0).insert(author, rest);
    }

    /// Forgets topics that are out of memory: a search finds what was left in them.
    fn forget(&self, is_known: impl Fn(&str) -> bool) {
        for watched in lock(&self.0).values_mut() {
            watched.topics.retain(|topic| is_known(topic));
        }
    }
}

/// The messages of a dead node could not be stored.
#[derive(Debug, thiserror::Error)]
enum AdoptError {
    #[error(transparent)]
    Unread(#[from] LoadError),
    #[error(transparent)]
    Full(#[from] StoreFull),
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
            if !node.old_rows.is_settled_for(ABSENCE) {
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
        let Watched {
            mut topics,
            leaves,
            searches,
        } = self.watch.take(author);
        if !leaves && !searches {
            tracing::warn!(
                node = %author,
                name = self.peers.name(author),
                "cluster.node.dead: this node stores what it has left; start it again"
            );
        }
        let mut rest = Watched {
            leaves,
            ..Watched::default()
        };
        if searches || self.claims_search(author).await {
            match self.journals().await {
                Ok(journals) => topics.extend(journals),
                Err(Away) => rest.searches = true,
            }
        }
        for name in topics {
            // Either the store has no room, or the bus is away: then the author may not be dead.
            if self.adopt_all(&name, author).await.is_err() {
                rest.topics.insert(name);
            }
        }
        if rest.searches || !rest.topics.is_empty() {
            self.watch.put_back(author, rest);
        }
    }

    /// Whether it is this node that looks for a dead one's messages in topics that nobody has open.
    async fn claims_search(&self, author: NodeId) -> bool {
        let Ok(sequencer) = self.sequencer() else {
            return false;
        };
        let claimed = sequencer.claim(&format!("dead:{author}"), SEARCH);
        matches!(claimed.await, Ok(true))
    }

    /// The topics with messages that are not stored.
    async fn journals(&self) -> Result<Vec<Arc<str>>, Away> {
        let journals = self.sequencer()?.journals().await?;
        Ok(journals.into_iter().map(Arc::from).collect())
    }

    /// Stores all messages of an author in a topic. After a failure it can be called again.
    async fn adopt_all(self: &Arc<Self>, name: &str, author: NodeId) -> Result<(), AdoptError> {
        let Some(pubsub) = self.pubsub() else {
            return Ok(());
        };
        let position = self.read(name).await.map_err(|source| LoadError {
            topic: name.to_owned(),
            source: Box::new(source),
        })?;
        let Some(position) = position else {
            return Ok(());
        };
        let left = position.journal.into_iter().filter_map(|(seq, message)| {
            let arrived = Arrived::read(message);
            let is_left = arrived.author == Some(author);
            is_left.then(|| (MessageId::new(position.epoch, seq), arrived))
        });
        let left: Vec<_> = left.collect();
        if left.is_empty() {
            return Ok(());
        }
        let topic = pubsub.topic(name);
        if !topic.has_log() {
            return Ok(());
        }
        topic.load().await?;
        let adopted = {
            let state = topic.lock();
            let mut left = left.into_iter();
            left.try_for_each(|(id, arrived)| self.adopt(&state, id, arrived))
        };
        // It may have no members here.
        pubsub.note_idle(&topic);
        Ok(adopted?)
    }

    /// Frees what the replicas remember for the case that the bus's server dies.
    fn forget_recent(&self) {
        let now = self.now();
        self.watch.forget(|topic| self.topic(topic).is_some());
        for topic in self.topics() {
            if let Some(replica) = &mut topic.lock().replica {
                replica.expire(now);
            }
        }
    }
}
