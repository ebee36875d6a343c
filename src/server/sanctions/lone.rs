//! Revocations and bans of a server that can be no node of a cluster: the build has no feature for one.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::ban::Bans;
use crate::pubsub::Neighbours;
use crate::revocation::{Revocations, RevokedSubject};

/// Other nodes: none.
pub(crate) enum OtherNodes {}

impl OtherNodes {
    pub(crate) fn join(neighbours: &Neighbours, _: Revocations, _: Bans, _: Arc<Notify>) -> Self {
        match *neighbours {}
    }

    pub(crate) fn added(&self) {
        match *self {}
    }

    pub(crate) fn restored(&self, _: &RevokedSubject) {
        match *self {}
    }

    pub(crate) fn lifted(&self, _: &str) {
        match *self {}
    }
}
