//! Nodes that look into the database for what nobody could tell them: while this node or another one is without the bus,
//! after a reconnection, and after the death of a node.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::handle::Cluster;
use super::node::Node;
use crate::cluster::NodeId;
use crate::cluster::follower::Follower;
use crate::lock::lock;
use crate::pubsub::Topic;

/// How often to look.
const LOOK: Duration = Duration::from_secs(1);
/// A node without a sign of life for so long is dead.
const LIFE: Duration = Duration::from_secs(5);
/// Topics of one look.
const TOPICS: usize = 1_000;

/// A node of the cluster, as the database knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SeenNode {
    pub(crate) id: i64,
    /// The time of its last sign of life, in microseconds of the database's clock.
    pub(crate) seen_at: i64,
    /// How long ago that was.
    pub(crate) age: Duration,
    /// Whether it can tell others what it commits.
    pub(crate) tells: bool,
    /// Whether it has messages that it cannot save at the moment, or that come late.
    pub(crate) is_behind: bool,
}

impl Cluster {
    /// Whether saved messages wait for the bus: it gives some topics their order.
    pub(crate) fn waits_for_bus(&self) -> bool {
        !self.node.has_strict_topics_only()
    }

    /// Whether this node can tell others what it commits.
    pub(crate) fn tells(&self) -> bool {
        self.is_up() && !self.node.strict.untold.is_late()
    }

    /// Whether the others must look for what this node has committed.
    pub(crate) fn owes(&self) -> bool {
        self.node.strict.untold.is_some()
    }

    /// How long this node has been without the bus for certain, and how often it was about to come to it.
    pub(crate) fn away_for(&self) -> (Duration, i64) {
        self.node.away_for()
    }

    /// The number of this node, the same on the bus and in the database.
    pub(crate) fn number(&self) -> i64 {
        self.node.id.get().cast_signed()
    }

    /// Whether the node with this number was heard over the bus.
    pub(crate) fn hears(&self, number: i64) -> bool {
        self.node.peers.knows(NodeId::new(number.cast_unsigned()))
    }

    /// Whether messages of this node may come late to the database: they are of a run that has ended.
    pub(crate) fn is_behind(&self) -> bool {
        self.node.old_rows.is_behind(Instant::now())
    }

    /// Whether the nodes should say often whether they are behind.
    pub(crate) fn awaits_old_rows(&self) -> bool {
        self.node.old_rows.are_awaited(Instant::now())
    }

    /// The other nodes, as the database knows them, and whether this one is behind. Call it each second.
    pub(crate) fn see(&self, nodes: &[SeenNode], is_behind: bool) {
        let heard = |node: &SeenNode| {
            let id = NodeId::new(node.id.cast_unsigned());
            self.node.peers.heard_at(id)
        };
        let old_rows = &self.node.old_rows;
        old_rows.looked(nodes, is_behind, heard, Instant::now());
        self.node.see(nodes);
    }
}

impl Node {
    fn see(self: &Arc<Self>, nodes: &[SeenNode]) {
        let is_dead = |node: &&SeenNode| node.age > LIFE;
        let (dead, living): (Vec<&SeenNode>, Vec<_>) = nodes.iter().partition(is_dead);
        let is_uneasy = living.iter().any(|node| !node.tells);
        self.strict.is_uneasy.store(is_uneasy, Ordering::Release);
        let mut looked_after = lock(&self.strict.looked_after);
        looked_after.retain(|id, _| dead.iter().any(|node| node.id == *id));
        let is_news = dead
            .iter()
            .filter(|node| looked_after.insert(node.id, node.seen_at) != Some(node.seen_at))
            .count()
            > 0;
        drop(looked_after);
        if is_news {
            let node = Arc::clone(self);
            // A commit of a dead node may still be under way: this look waits for it.
            self.spawn(async move { node.look_at_all(true).await });
        }
    }

    /// Looks at all topics while somebody cannot tell what it commits, and at those that are due.
    pub(super) async fn keep_looking(node: Weak<Self>) {
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let Some(this) = node.upgrade() else { return };
            let due = this.strict.look.notified();
            let is_tick = tokio::select! {
                _ = ticks.tick() => true,
                () = due => false,
            };
            let is_blind = !this.is_up() || this.strict.is_uneasy.load(Ordering::Acquire);
            if is_tick && is_blind {
                this.look_at_all(false).await;
            }
            if is_tick && this.is_up() && this.strict.untold.is_late() {
                // The bus has not taken it.
                this.tell_untold();
            }
            let due = std::mem::take(&mut *lock(&this.strict.due));
            this.look_at(due.into_iter().collect(), false).await;
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.bus().is_some_and(|bus| bus.is_up())
    }

    /// The bus has confirmed that messages of a strict topic arrive from now on.
    pub(super) fn attached_strictly(self: &Arc<Self>, topic: &Arc<Topic>) {
        let is_open = topic.lock().is_open();
        if is_open {
            // Many topics come at once.
            lock(&self.strict.due).insert(Arc::clone(topic.shared_name()));
            self.strict.look.notify_one();
        } else {
            self.follow(topic, Follower::attached);
        }
    }

    /// The bus is away: strict topics go on without it.
    pub(super) fn go_on_alone(self: &Arc<Self>, topic: &Arc<Topic>) {
        if topic.joint().is_some_and(super::Joint::has_asked) {
            self.follow(topic, Follower::begin_alone);
        }
    }

    async fn look_at_all(self: &Arc<Self>, settled: bool) {
        let topics = self.topics();
        let strict = topics.iter().filter(|topic| topic.lock().is_open());
        let strict = strict.map(|topic| Arc::clone(topic.shared_name()));
        self.look_at(strict.collect(), settled).await;
    }

    async fn look_at(self: &Arc<Self>, topics: Vec<Arc<str>>, settled: bool) {
        let Some(store) = &self.store else { return };
        for topics in topics.chunks(TOPICS) {
            let names: Vec<_> = topics.iter().map(ToString::to_string).collect();
            match store.heads(names, settled).await {
                Ok(heads) => {
                    for (name, head) in heads {
                        if let Some(topic) = self.topic(&name) {
                            self.follow(&topic, |follower, out| follower.head(head, out));
                        }
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "cluster.heads.unread");
                    // What was due stays due: nobody may tell of it again.
                    lock(&self.strict.due).extend(topics.iter().cloned());
                }
            }
        }
    }
}
