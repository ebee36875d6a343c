//! [`Hears`]: what the bus tells this node.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use futures_core::future::BoxFuture;
use futures_util::FutureExt;
use futures_util::future::pending;

use super::message::{self, Arrived};
use super::node::Node;
use super::outstanding::RETRY;
use crate::cluster::wire::{Body, Message};
use crate::cluster::{Answer, Entrance, Events, ProcessId};
use crate::log::{Era, MessageId};
use crate::message::Payload;
use crate::pubsub::{Draft, PublishError};

/// Hands what the bus says to the node, and does not keep the node alive.
pub(super) struct Hears(pub(super) Weak<Node>);

impl Hears {
    fn with(&self, tell: impl FnOnce(&Arc<Node>)) {
        if let Some(node) = self.0.upgrade() {
            tell(&node);
        }
    }
}

impl Events for Hears {
    fn attached(&self, topic: &str) {
        self.with(|node| {
            if let Some(topic) = node.topic(topic) {
                node.attached(&topic);
            }
        });
    }

    fn arrived(&self, topic: &str, place: Option<MessageId>, message: Bytes) {
        self.with(|node| {
            let Some(topic) = node.topic(topic) else {
                return;
            };
            if let Some(id) = place {
                let arrived = Arrived::read(message);
                if topic.passes_over(&arrived) {
                    return;
                }
                node.drive(&topic, |replica, now, out| {
                    replica.arrived(id, arrived, now, out);
                });
            } else if let Some(message) = read(message) {
                node.heard(&topic, message);
            }
        });
    }

    fn told(&self, message: Bytes) {
        self.with(|node| {
            if let Some(message) = read(message) {
                node.told(message);
            }
        });
    }

    fn foreign(&self, message: Bytes) {
        self.with(|node| node.hear_phoenix(&message));
    }

    fn answered(&self, nonce: u64, answer: Answer) {
        self.with(|node| match answer {
            // It is shown when it arrives, in its turn.
            Answer::Taken(id) => node.outstanding.note_taken(nonce, id),
            Answer::First(id) => node.answer_retry(nonce, id),
            Answer::NoRun => node.publish_again(nonce),
            Answer::Full => node.refuse(nonce, RETRY.into()),
            Answer::Unconfirmed => node.refuse(nonce, PublishError::Unconfirmed),
        });
    }

    fn enter(&self) -> BoxFuture<'static, Entrance> {
        match self.0.upgrade() {
            Some(node) => node.enter(),
            // The bus ends with the node.
            None => pending().boxed(),
        }
    }

    fn era(&self) -> Era {
        let node = self.0.upgrade();
        node.map_or_else(Era::default, |node| node.eras.era())
    }

    fn learn_era(&self, era: Era) {
        self.with(|node| node.learn_era(era));
    }

    fn up(&self, process: &ProcessId) {
        self.with(|node| node.up(process));
    }

    fn down(&self) {
        self.with(Node::down);
    }
}

fn read(message: Bytes) -> Option<Message> {
    Message::decode(message)
        .inspect_err(|error| tracing::debug!(%error, "cluster.unreadable"))
        .ok()
}

impl Node {
    /// A message to this node, or to all.
    fn told(self: &Arc<Self>, message: Message) {
        match message.body {
            Body::Heartbeat(heartbeat) => self.hear_life(message.author, heartbeat),
            Body::Presence(bytes) => self.parts.hear(message.author, bytes),
            Body::PollRequest(request) => self.answer(message.author, request),
            Body::PollAnswer(answer) => self.hear_answer(answer),
            Body::Elsewhere {
                topic,
                event,
                payload,
            } if message.author != self.id => {
                self.show_elsewhere(&topic, &event, message::payload(payload));
            }
            _ => {}
        }
    }

    /// An event of a topic that no node subscribes to on the bus.
    fn show_elsewhere(&self, topic: &str, event: &str, payload: Payload) {
        if let Some(pubsub) = self.pubsub() {
            pubsub.publish_live(topic, &Draft::new(event, payload).live());
        }
    }
}
