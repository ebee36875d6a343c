//! What a node does with messages of the others that its workers cannot send to members as fast.
//!
//! A publisher waits for the full inboxes of its own node only. So here messages are passed over, as if the bus had lost
//! them: those of a log are read from it later, live ones are gone.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::message::{Arrived, Ordered};
use super::node::Node;
use crate::cluster::follower::Follower;
use crate::pubsub::draft::MESSAGE_DELETED;
use crate::pubsub::fastlane::Direction;
use crate::pubsub::topic::TopicState;
use crate::pubsub::worker::Inbox;
use crate::pubsub::{Broadcast, Draft, Topic};

impl Node {
    /// Sends a message that has its place to the members here.
    pub(super) fn deliver(
        self: &Arc<Self>,
        topic: &Arc<Topic>,
        state: &mut TopicState,
        broadcast: Broadcast,
    ) {
        state.count_broadcast(broadcast.event());
        topic.metrics().broadcasts.increment(1);
        if let Some(full) = state.deliver(&Arc::new(broadcast), None) {
            self.pause(topic, full);
        }
    }

    /// Passes over messages of the topic until this inbox is half empty, then reads those of its log.
    pub(super) fn pause(self: &Arc<Self>, topic: &Arc<Topic>, full: Arc<Inbox>) {
        let joint = topic.joint();
        if joint.is_none_or(|joint| joint.is_paused.swap(true, Ordering::AcqRel)) {
            return;
        }
        let (node, topic) = (Arc::clone(self), Arc::clone(topic));
        self.spawn(async move {
            poll_fn(|cx| full.poll_drained(cx)).await;
            node.go_on(&topic);
        });
    }

    fn go_on(self: &Arc<Self>, topic: &Arc<Topic>) {
        if let Some(joint) = topic.joint() {
            joint.is_paused.store(false, Ordering::Release);
        }
        self.drive(topic, |replica, _, out| replica.look(out));
        self.follow(topic, Follower::look);
    }
}

impl Topic {
    /// Whether an arrived message is passed over. No log has an erasure.
    pub(super) fn passes_over(&self, arrived: &Arrived) -> bool {
        self.is_paused() && !matches!(arrived.content, Ordered::Erasure(_))
    }

    /// Whether a message that no log keeps is passed over: not if it ends channels or deletes messages, which is little.
    pub(super) fn passes_over_live(&self, live: &Draft) -> bool {
        let closes = matches!(live.direction, Some(Direction::Close(_)));
        !closes && live.event != MESSAGE_DELETED && self.is_paused()
    }

    /// Whether messages of other nodes are passed over: see [`Node::pause`].
    pub(super) fn is_paused(&self) -> bool {
        let joint = self.joint();
        joint.is_some_and(|joint| joint.is_paused.load(Ordering::Acquire))
    }

    /// Waits until members can be sent more.
    pub(super) async fn drained(&self) {
        loop {
            let full = self.lock().full_inbox();
            match full {
                Some(full) => poll_fn(|cx| full.poll_drained(cx)).await,
                None => return,
            }
        }
    }
}
