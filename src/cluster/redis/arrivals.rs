//! [`Arrivals`]: what the subscriptions' connection brings.

use std::sync::{Arc, OnceLock};

use ::redis::{PushInfo, PushKind};
use bytes::Bytes;
use tokio::sync::Notify;

use super::Shared;
use super::keys::{Keys, Kind};
use super::reply;
use crate::cluster::counters::add;
use crate::cluster::end_on_panic::EndOnPanic;
use crate::cluster::wire;
use crate::lock::lock;

/// Hands what one connection brings to [`Events`](crate::cluster::bus::Events), in place.
pub(super) struct Arrivals {
    shared: Arc<Shared>,
    /// Known once the connection is open, before the first SUBSCRIBE.
    keys: OnceLock<Keys>,
    /// Wakes the owner of the connection when it is lost.
    lost: Arc<Notify>,
}

impl Arrivals {
    /// Arrivals of a connection that is about to open.
    pub(super) fn new(shared: Arc<Shared>, lost: Arc<Notify>) -> Self {
        Self {
            shared,
            keys: OnceLock::new(),
            lost,
        }
    }

    /// Sets the names of keys.
    pub(super) fn set_keys(&self, keys: Keys) {
        // A connection has one process, so later calls would set the same.
        _ = self.keys.set(keys);
    }

    /// Called by the connection for all that is no reply.
    pub(super) fn pushed(&self, push: PushInfo) {
        let _guard = EndOnPanic;
        if push.kind == PushKind::Disconnection {
            self.lost.notify_one();
            return;
        }
        let mut data = push.data.into_iter();
        let channel = data.next().and_then(reply::bytes);
        let (Some(channel), Some(keys)) = (channel, self.keys.get()) else {
            return;
        };
        // All names of this crate are text: a channel that is none was not subscribed.
        let Ok(channel) = std::str::from_utf8(&channel) else {
            return;
        };
        let topic = keys.topic_of(channel, Kind::Channel);
        match (push.kind, topic) {
            (PushKind::Message, topic) => {
                if let Some(message) = data.next().and_then(reply::bytes) {
                    self.message(channel, topic, Bytes::from(message));
                }
            }
            (PushKind::Subscribe, Some(topic)) => {
                let is_attached = lock(&self.shared.topics).subscribed(topic);
                if is_attached {
                    self.shared.events.attached(topic);
                }
            }
            (PushKind::Unsubscribe, Some(topic)) => {
                lock(&self.shared.topics).unsubscribed(topic);
            }
            _ => {}
        }
    }

    /// A message on the channel of a topic, of all nodes, of this one, or of programs that are no nodes.
    fn message(&self, channel: &str, topic: Option<&str>, message: Bytes) {
        let shared = &self.shared;
        add(&shared.counters.received, 1);
        if shared.options.foreign.as_deref() == Some(channel) {
            shared.events.foreign(message);
            return;
        }
        let Some(topic) = topic else {
            shared.events.told(message);
            return;
        };
        let (place, message) = wire::place(&message);
        if let Some(id) = place
            && let Some(header) = wire::header(&message)
            && header.author == shared.me
        {
            lock(&shared.publishes).echoed(header.nonce, id);
        }
        shared.events.arrived(topic, place, message);
    }
}

impl std::fmt::Debug for Arrivals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Arrivals").finish_non_exhaustive()
    }
}
