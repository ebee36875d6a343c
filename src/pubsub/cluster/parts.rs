//! [`Part`]: what has its own messages between nodes. Presences have.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::asking::Neighbours;
use super::message;
use super::node::Node;
use crate::cluster::wire::Body;
use crate::cluster::{NodeId, To};
use crate::lock::lock;

/// A part of a node that talks with the same part of the other nodes.
pub(crate) trait Part: Send + Sync {
    /// The bus carries messages.
    fn up(&self);
    /// It carries none.
    fn down(&self) {}
    /// A message of this part of a node, of this one too.
    fn heard(&self, from: u64, message: &Bytes);
    /// Does what is due. Called periodically.
    fn tick(&self) {}
    /// The node is about to leave.
    fn stop(&self) {}
    /// The node leaves: says its last words.
    fn flush(&self) {}
}

/// The parts of a node. All nodes have the same in the same order.
#[derive(Default)]
pub(super) struct Parts(Mutex<Vec<Arc<dyn Part>>>);

impl Parts {
    pub(super) fn each(&self, tell: impl Fn(&dyn Part)) {
        let parts = lock(&self.0).clone();
        parts.iter().for_each(|part| tell(&**part));
    }

    /// The node leaves: its parts have had their last words.
    pub(super) fn clear(&self) {
        lock(&self.0).clear();
    }

    /// A message of a node to one of the parts. A part that this release does not have hears nothing.
    pub(super) fn hear(&self, from: NodeId, mut message: Bytes) {
        if message.is_empty() {
            return;
        }
        let at = usize::from(message.split_to(1)[0]);
        let part = lock(&self.0).get(at).cloned();
        if let Some(part) = part {
            part.heard(from.get(), &message);
        }
    }
}

/// Sends the messages of one part.
#[derive(Clone)]
pub(crate) struct PartSender {
    neighbours: Neighbours,
    part: u8,
}

impl Neighbours {
    /// Adds a part, which `make` makes of what sends its messages. It is called again every `period`.
    ///
    /// # Panics
    /// If there are 255 parts.
    pub(crate) fn add_part(
        &self,
        period: Duration,
        make: impl FnOnce(PartSender) -> Arc<dyn Part>,
    ) {
        let node = self.node();
        let mut parts = lock(&node.parts.0);
        let part = u8::try_from(parts.len()).expect("a program has few presences");
        let part = make(PartSender {
            neighbours: self.clone(),
            part,
        });
        parts.push(Arc::clone(&part));
        drop(parts);
        if node.bus().is_some_and(|bus| bus.is_up()) {
            part.up();
        }
        let (node, part) = (Arc::downgrade(node), Arc::downgrade(&part));
        self.node().spawn(async move {
            loop {
                tokio::time::sleep(period).await;
                let (Some(_), Some(part)) = (node.upgrade(), part.upgrade()) else {
                    return;
                };
                part.tick();
            }
        });
    }
}

impl PartSender {
    /// Sends a message to all nodes, this one included, or to one.
    pub(crate) fn send(&self, to: Option<u64>, message: &[u8]) {
        let mut bytes = BytesMut::with_capacity(message.len() + 1);
        bytes.extend_from_slice(&[self.part]);
        bytes.extend_from_slice(message);
        let to = to.map(NodeId::new);
        self.neighbours.node().send_part(to, bytes.freeze());
    }
}

impl Node {
    fn send_part(&self, to: Option<NodeId>, bytes: Bytes) {
        if let Some(bus) = self.bus() {
            let message = message::message(Body::Presence(bytes), self.id, self.nonce());
            bus.send(to.map_or(To::All, To::Node), message.encode());
        }
    }
}
