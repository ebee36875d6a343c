//! [`Bridge`]: the live events of a Phoenix application on the same Redis, and those of this node for it.
//!
//! Redis brings an event of the application to every node of this cluster, so each shows it to its own members and sends
//! it nowhere. An event of this cluster is sent to the application by the node that it comes from.

use std::sync::Arc;

use super::message;
use super::node::Node;
use crate::cluster::phoenix::{Envelope, PhoenixPeer, Untranslatable};
use crate::cluster::{Bus, To};
use crate::message::{Payload, is_of_protocol};
use crate::metrics::BridgeEvent;
use crate::notice::Notice;
use crate::pubsub::Draft;
use crate::pubsub::draft::is_change;

/// The way between this node and a Phoenix application.
pub(super) struct Bridge {
    peer: PhoenixPeer,
    /// Events of the application that rooms here keep.
    stored: Notice,
}

impl Bridge {
    /// To the application with a PubSub of this name, from the cluster with this prefix.
    pub(super) fn new(pubsub: &str, prefix: &str) -> Self {
        Self {
            peer: PhoenixPeer::new(pubsub, prefix),
            stored: Notice::new(),
        }
    }

    /// The channel of Redis on which the application's nodes talk.
    pub(super) fn channel(&self) -> &str {
        self.peer.channel()
    }

    /// Sends the application a live event of this node.
    pub(super) fn send(&self, bus: &dyn Bus, topic: &str, draft: &Draft, payload: &Payload) {
        // The application knows nothing of the labels by which members are selected.
        if draft.direction.is_some() || !crosses(&draft.event) {
            return;
        }
        let content = message::content(payload);
        match self.peer.encode(topic, &draft.event, &content) {
            Ok(message) => {
                BridgeEvent::Sent.count();
                bus.send(To::Foreign(self.channel()), message);
            }
            Err(Untranslatable) => BridgeEvent::Untranslatable.count(),
        }
    }
}

impl Node {
    /// A message of the Phoenix application, for any of its topics.
    pub(super) fn hear_phoenix(self: &Arc<Self>, message: &[u8]) {
        let Some(bridge) = &self.bridge else { return };
        let shown = match bridge.peer.open(message) {
            Ok(Some(envelope)) => self.show_phoenix(bridge, envelope),
            Ok(None) => return,
            Err(error) => Err(error),
        };
        if shown == Err(Untranslatable) {
            BridgeEvent::Untranslatable.count();
        }
    }

    /// Shows an event of the Phoenix application to the members here.
    fn show_phoenix(
        self: &Arc<Self>,
        bridge: &Bridge,
        envelope: Envelope<'_>,
    ) -> Result<(), Untranslatable> {
        // Most messages are for others, so the rest is read for members alone.
        let Some(topic) = self.topic(&envelope.topic) else {
            return Ok(());
        };
        let live = envelope.broadcast()?;
        if !crosses(&live.event) {
            return Err(Untranslatable);
        }
        if topic.stores(&live.event) {
            BridgeEvent::Stored.count();
            if let Some(dropped) = bridge.stored.count() {
                tracing::warn!(
                    topic = topic.name(),
                    event = &*live.event,
                    dropped,
                    "cluster.bridge.stored: a room saves this event, so it was not taken from Phoenix, where nobody \
                     would save it; publish it there through the HTTP API"
                );
            }
            return Ok(());
        }
        let draft = message::draft(live).ok_or(Untranslatable)?;
        draft.check(&topic).map_err(|_| Untranslatable)?;
        BridgeEvent::Received.count();
        self.show_live(&topic, &draft);
        Ok(())
    }
}

/// Whether events of this name cross the bridge. Those of the protocol are between a client and its server, presences are
/// those of one side, and an update or a deletion is of a message that is saved here.
fn crosses(event: &str) -> bool {
    !is_of_protocol(event) && !is_change(event)
}
