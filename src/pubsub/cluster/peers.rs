//! [`Peers`]: the nodes of the cluster, as this one hears of them.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, Weak};
use std::time::{Duration, Instant, SystemTime};

use super::message;
use super::node::Node;
use crate::cluster::wire::{Body, Heartbeat};
use crate::cluster::{NodeId, To};
use crate::lock::lock;
use crate::metrics::{BusTotals, show_cluster};

/// The time between two signs of life.
const BEAT: Duration = Duration::from_millis(1_500);
/// A node that is silent for so long is gone.
const SILENCE: Duration = Duration::from_secs(10);

/// The name of a node that is gone is known for so long.
const REMEMBERED: Duration = Duration::from_secs(600);

/// One node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeInfo {
    /// The name of its process on the bus; a restart gives it another one.
    pub id: String,
    /// The node's own name.
    pub name: String,
    /// When its process started.
    pub started: SystemTime,
    /// Whether it shuts down.
    pub leaving: bool,
    /// Whether it is this node.
    pub is_this: bool,
}

/// What was heard of each node, this one included.
#[derive(Default)]
pub(super) struct Peers(Mutex<HashMap<NodeId, Heard>>);

struct Heard {
    heartbeat: Heartbeat,
    at: Instant,
}

impl Heard {
    fn lately(&self) -> Option<Instant> {
        Some(self.at).filter(|at| at.elapsed() < SILENCE)
    }
}

impl Peers {
    /// Returns when the node was heard before, if that was lately.
    fn heard(&self, node: NodeId, heartbeat: Heartbeat) -> Option<Instant> {
        let at = Instant::now();
        let known = lock(&self.0).insert(node, Heard { heartbeat, at })?;
        known.lately()
    }

    /// Whether this node was heard lately.
    pub(super) fn knows(&self, node: NodeId) -> bool {
        self.heard_at(node).is_some()
    }

    /// When this node was heard, if that was lately.
    pub(super) fn heard_at(&self, node: NodeId) -> Option<Instant> {
        lock(&self.0).get(&node).and_then(Heard::lately)
    }

    /// The name of a node, for log lines.
    pub(super) fn name(&self, node: NodeId) -> String {
        let peers = lock(&self.0);
        let heard = peers.get(&node);
        heard.map_or_else(String::new, |heard| heard.heartbeat.name.to_string())
    }

    /// The nodes that were heard lately, by name.
    pub(super) fn nodes(&self, me: NodeId) -> Vec<NodeInfo> {
        let mut peers = lock(&self.0);
        peers.retain(|_, heard| heard.at.elapsed() < REMEMBERED);
        let heard = peers.iter().filter(|(_, heard)| heard.lately().is_some());
        let nodes = heard.map(|(id, heard)| NodeInfo {
            id: id.to_string(),
            name: heard.heartbeat.name.to_string(),
            started: message::time(heard.heartbeat.started),
            leaving: heard.heartbeat.leaving,
            is_this: *id == me,
        });
        let mut nodes: Vec<_> = nodes.collect();
        nodes.sort_by(|one, other| (&one.name, &one.id).cmp(&(&other.name, &other.id)));
        nodes
    }
}

impl Node {
    /// Tells the other nodes that this one lives, as long as it does.
    pub(super) async fn beat(node: Weak<Self>) {
        let mut before = BusTotals::default();
        while let Some(node) = node.upgrade() {
            before = node.show_totals(before);
            node.tell_life();
            drop(node);
            tokio::time::sleep(BEAT).await;
        }
    }

    /// Shows the node in the metrics. `before`: what its bus had done the last time.
    fn show_totals(&self, before: BusTotals) -> BusTotals {
        let Some(bus) = self.bus() else {
            return before;
        };
        let totals = bus.totals();
        let replies = totals.replies.saturating_sub(before.replies);
        let micros = totals.reply_micros.saturating_sub(before.reply_micros);
        let lag = if replies == 0 {
            0.0
        } else {
            micros as f64 / replies as f64 / 1e6
        };
        // A node that hears nobody is there itself.
        let nodes = self.peers.nodes(self.id).len().max(1);
        show_cluster(bus.is_up(), nodes, totals, lag);
        totals
    }

    /// A node lives. One that is new, here or in the present process of the bus's server, hears of this one at once, and
    /// not with the next heartbeat.
    pub(super) fn hear_life(&self, node: NodeId, heartbeat: Heartbeat) {
        if node != self.id {
            self.watch.lives(node, heartbeat.leaving);
        }
        let name = heartbeat.name.clone();
        let before = self.peers.heard(node, heartbeat);
        if node == self.id {
            return;
        }
        if before.is_none() {
            tracing::info!(%node, %name, "cluster.node.seen");
        }
        if before < self.old_rows.since() || before.is_none() {
            self.tell_life();
        }
    }

    pub(super) fn tell_life(&self) {
        let body = Body::Heartbeat(Heartbeat {
            started: message::micros(self.started),
            leaving: self.leaving.load(Ordering::Relaxed),
            name: self.name.clone(),
        });
        if let Some(bus) = self.bus().filter(|bus| bus.is_up()) {
            let message = message::message(body, self.id, self.nonce());
            bus.send(To::All, message.encode());
        }
    }
}
