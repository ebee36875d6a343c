//! [`Channels`]: the channels of one connection, by topic.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::rc::Rc;

use foldhash::fast::RandomState;

use crate::channel::{Link, StopReason};
use crate::frame::Frame;
use crate::message::Name;
use crate::pubsub::SubscriberId;

/// The joined topics, and the one whose join is pending. An entry may outlive its channel: then it is not routed.
#[derive(Default)]
pub(super) struct Channels(HashSet<ByTopic, RandomState>);

/// A channel, found by its topic.
struct ByTopic(Rc<Link>);

impl Borrow<str> for ByTopic {
    fn borrow(&self) -> &str {
        self.0.topic()
    }
}

impl Hash for ByTopic {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.topic().hash(state);
    }
}

impl PartialEq for ByTopic {
    fn eq(&self, other: &Self) -> bool {
        self.0.topic() == other.0.topic()
    }
}

impl Eq for ByTopic {}

impl Channels {
    /// The channel that messages of this topic reach.
    pub(super) fn find(&self, topic: &str) -> Option<&Link> {
        let ByTopic(link) = self.0.get(topic)?;
        link.is_routed().then_some(link)
    }

    /// Enters a channel, in place of any other of its topic.
    pub(super) fn enter(&mut self, link: Rc<Link>) {
        self.0.replace(ByTopic(link));
    }

    /// Kills the channel that a duplicate join replaces; returns its `phx_close`.
    pub(super) fn replace(&mut self, topic: &str) -> Option<Frame> {
        let ByTopic(link) = self.0.take(topic)?;
        link.is_routed().then(|| link.replace())
    }

    /// Whether fewer than `max` channels are routed.
    pub(super) fn has_room(&mut self, max: usize) -> bool {
        if self.0.len() >= max {
            self.0.retain(|ByTopic(link)| link.is_routed());
        }
        self.0.len() < max
    }

    /// Removes the entry of a channel that has ended, unless another has taken its place.
    pub(super) fn forget(&mut self, topic: &Name, id: SubscriberId) -> Option<Rc<Link>> {
        let topic = topic.as_str()?;
        let ByTopic(link) = self.0.get(topic)?;
        if link.id() != id {
            return None;
        }
        self.0.take(topic).map(|ByTopic(link)| link)
    }

    /// Whether the client has joined this topic.
    pub(super) fn has_joined(&self, topic: &str) -> bool {
        self.find(topic).is_some_and(Link::is_joined)
    }

    /// The joined topics.
    pub(super) fn joined(&self) -> impl Iterator<Item = &str> {
        let links = self.0.iter().map(|ByTopic(link)| link);
        let joined = links.filter(|link| link.is_routed() && link.is_joined());
        joined.map(|link| link.topic())
    }

    /// Ends all channels for this reason.
    pub(super) fn close(&mut self, reason: &StopReason) {
        for ByTopic(link) in self.0.drain() {
            link.close(reason.clone());
        }
    }
}
