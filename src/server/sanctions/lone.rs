//! Revocations, bans and slow modes of a server that can be no node of a cluster: the build has no feature for one.

use std::sync::Arc;

use tokio::sync::Notify;

use super::Heeded;
use crate::pubsub::Neighbours;
use crate::revocation::RevokedSubject;

/// Other nodes: none.
pub(crate) enum OtherNodes {}

impl OtherNodes {
    pub(super) fn join(neighbours: &Neighbours, _: Heeded, _: Arc<Notify>) -> Self {
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

    pub(crate) fn ended_slow_mode(&self, _: &str) {
        match *self {}
    }
}
