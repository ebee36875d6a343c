//! A server that can be no node of a cluster, for want of the feature: none of these types has a value.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Draft, PubSub, PublishError, Published, SubscriberId, Topic};
use crate::log::{LoadError, LogRule, MessageId, MessageStore, Seq};
use crate::message::Payload;

/// This server as a node.
pub(crate) enum Node {}

/// This server as a node of a cluster: the build has no feature for one.
#[derive(Clone, Debug)]
pub enum Cluster {}

/// The other nodes.
#[derive(Clone)]
pub(crate) enum Neighbours {}

/// One node of a cluster.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NodeInfo {
    /// Its name.
    pub name: String,
    /// Whether it shuts down.
    pub leaving: bool,
    /// Whether it is this node.
    pub is_this: bool,
}

/// A topic that nodes have in common.
pub(crate) enum Joint {}

/// Follows a topic's log.
pub(crate) enum TopicReplica {}

/// Follows a strict topic's log.
pub(crate) enum StrictFollower {}

/// A message without its place.
pub(crate) enum Sending {}

impl Cluster {
    /// The store for the rules of logs.
    pub fn store(&self) -> Arc<dyn MessageStore> {
        match *self {}
    }

    /// The nodes that live.
    pub fn nodes(&self) -> Vec<NodeInfo> {
        match *self {}
    }

    /// The product that the nodes talk over.
    pub fn bus_name(&self) -> &'static str {
        match *self {}
    }

    /// Whether this node reaches the bus.
    pub fn is_up(&self) -> bool {
        match *self {}
    }

    /// Since when this node does not reach the bus.
    pub fn away_since(&self) -> Option<Instant> {
        match *self {}
    }

    /// Whether saved messages wait for the bus.
    pub(crate) fn waits_for_bus(&self) -> bool {
        match *self {}
    }

    /// Call before the clients are sent away.
    pub fn stop(&self) {
        match *self {}
    }

    /// Leaves the cluster.
    pub async fn leave(self, _: Duration) {
        match self {}
    }
}

impl PubSub {
    /// Shares the topics with the other nodes of a cluster.
    pub fn in_cluster(self, cluster: &Cluster) -> Self {
        match *cluster {}
    }
}

impl PubSub {
    /// The other nodes.
    pub(crate) fn neighbours(&self) -> Option<Neighbours> {
        self.node().map(|node| match **node {})
    }
}

impl Node {
    pub(super) fn publish(
        self: &Arc<Self>,
        _: &Arc<Topic>,
        _: &Draft,
        _: Option<SubscriberId>,
    ) -> Result<Sending, PublishError> {
        match **self {}
    }

    pub(super) async fn settle_target(&self, _: &Topic, _: &Draft) -> Result<(), PublishError> {
        match *self {}
    }

    pub(super) fn send_live(&self, _: &str, _: &Draft, _: &Payload) {
        match *self {}
    }

    pub(super) fn settled(&self, _: &str, _: MessageId) {
        match *self {}
    }

    pub(super) async fn take_place(&self, _: &Arc<Topic>) -> Result<MessageId, LoadError> {
        match *self {}
    }

    pub(super) async fn all_settled(&self) {
        match *self {}
    }

    pub(super) async fn settled_through(&self, _: &str, _: Seq) {
        match *self {}
    }

    pub(super) fn tell_erased(&self, _: &str, _: &[Seq], _: Seq) {
        match *self {}
    }

    pub(super) fn tell_pruned(&self, _: &str, _: Seq) {
        match *self {}
    }

    pub(super) async fn claims(&self, _: &str, _: u32) -> bool {
        match *self {}
    }

    pub(super) fn retry_of(self: &Arc<Self>, _: &Arc<Topic>, _: MessageId) -> Published {
        match **self {}
    }

    pub(super) fn is_publishing_to(&self, _: &Topic) -> bool {
        match *self {}
    }
}

impl Joint {
    pub(super) fn new(node: &Arc<Node>) -> Self {
        match **node {}
    }

    pub(super) fn node(&self) -> &Arc<Node> {
        match *self {}
    }

    pub(super) fn replica(&self, _: &LogRule, _: Option<MessageId>) -> Option<TopicReplica> {
        match *self {}
    }

    pub(super) fn strict_follower(&self, _: &LogRule, _: Option<Seq>) -> Option<StrictFollower> {
        match *self {}
    }

    pub(super) fn attach(&self, _: &str) {
        match *self {}
    }

    pub(super) fn forget_begun(&self) {
        match *self {}
    }

    pub(super) fn detach(&self, _: &str) {
        match *self {}
    }

    pub(super) async fn ready(&self, _: &str) -> Result<(), LoadError> {
        match *self {}
    }
}

impl Sending {
    pub(super) async fn placed(self) -> Result<Published, PublishError> {
        match self {}
    }
}

impl Topic {
    /// Whatever a client has seen, it has seen it here.
    pub(crate) async fn reach(self: &Arc<Self>, _: super::Want) -> Result<(), LoadError> {
        Ok(())
    }
}
