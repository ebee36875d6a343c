//! Sessions on other nodes, for a build without the feature for a cluster: there are none.

use std::time::Duration;

use super::longpoll_server::{PollBatch, Posted, Publish, Sessions};
use crate::pubsub::Neighbours;

/// A session on another node.
pub(super) enum RemoteSession {}

impl RemoteSession {
    pub(super) async fn poll(&self) -> Option<PollBatch> {
        match *self {}
    }

    pub(super) async fn publish(&self, _: Publish) -> Option<Posted> {
        match *self {}
    }
}

pub(super) fn mark(_: &mut Vec<u8>, _: Option<&Neighbours>) {}

pub(super) fn find(_: &str, _: Option<&Neighbours>, _: Duration) -> Option<RemoteSession> {
    None
}

pub(super) fn serve_others(neighbours: &Neighbours, _: &Sessions, _: Duration) {
    match *neighbours {}
}
