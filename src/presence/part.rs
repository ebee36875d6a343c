//! Presences as a part of a cluster's node.

use std::sync::Arc;

use bytes::Bytes;

use super::Presence;
use super::replication::{Peers, Replication};
use crate::cluster::NodeId;
use crate::pubsub::{Neighbours, Part, PartSender};

impl Presence {
    /// Shares the presences with the other nodes.
    pub(super) fn join_cluster(&self, neighbours: &Neighbours) {
        let (node, name) = (NodeId::new(neighbours.me()), neighbours.name());
        neighbours.add_part(Replication::STEP, |sender| {
            Arc::new(PresencePart(self.replicate(node, name, Arc::new(sender))))
        });
    }
}

impl Peers for PartSender {
    fn to_all(&self, message: Bytes) {
        self.send(None, &message);
    }

    fn to_node(&self, node: NodeId, message: Bytes) {
        self.send(Some(node.get()), &message);
    }
}

struct PresencePart(Replication);

impl Part for PresencePart {
    fn up(&self) {
        self.0.bus_up();
    }

    fn down(&self) {
        self.0.bus_down();
    }

    fn heard(&self, from: u64, message: &Bytes) {
        self.0.heard(NodeId::new(from), message);
    }

    fn tick(&self) {
        self.0.tick();
    }

    fn stop(&self) {
        self.0.stop_gracefully();
    }

    fn flush(&self) {
        self.0.flush();
    }
}
