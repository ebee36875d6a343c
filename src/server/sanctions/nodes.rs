//! [`OtherNodes`]: revocations, bans and slow modes hold on all nodes of a cluster. The database has them before the other
//! nodes hear of them; each reads them there.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::Heeded;
use crate::pubsub::{Neighbours, Part, PartSender};
use crate::revocation::RevokedSubject;

/// Nothing is due.
const PERIOD: Duration = Duration::from_secs(60);

/// Tells the other nodes what has changed.
pub(crate) struct OtherNodes(PartSender);

#[derive(Serialize, Deserialize)]
enum Change {
    /// There are more revocations, bans or slow modes in the database, or other ones.
    Added,
    /// The revocation of a user was taken back.
    RestoredUser(String),
    /// The revocation of a token was taken back.
    RestoredToken(String),
    /// The ban with this id was taken back.
    Lifted(String),
    /// The slow mode of this topic was taken away.
    EndedSlowMode(String),
}

impl OtherNodes {
    /// Hears what other nodes change, too. `added` is notified when there is more to read.
    pub(super) fn join(neighbours: &Neighbours, heeded: Heeded, added: Arc<Notify>) -> Self {
        let mut to_others = None;
        let me = neighbours.me();
        neighbours.add_part(PERIOD, |sender| {
            to_others = Some(sender);
            Arc::new(HeardSanctions { me, heeded, added })
        });
        Self(to_others.expect("add_part makes the part before it returns"))
    }

    /// A revocation, a ban or a slow mode is stored.
    pub(crate) fn added(&self) {
        self.tell(&Change::Added);
    }

    /// A revocation was taken back.
    pub(crate) fn restored(&self, subject: &RevokedSubject) {
        self.tell(&match subject {
            RevokedSubject::User(user) => Change::RestoredUser(user.clone()),
            RevokedSubject::Token(token) => Change::RestoredToken(token.clone()),
        });
    }

    /// A ban was taken back.
    pub(crate) fn lifted(&self, id: &str) {
        self.tell(&Change::Lifted(id.to_owned()));
    }

    /// The slow mode of a topic was taken away.
    pub(crate) fn ended_slow_mode(&self, topic: &str) {
        self.tell(&Change::EndedSlowMode(topic.to_owned()));
    }

    fn tell(&self, change: &Change) {
        // Texts have a JSON form.
        self.0
            .send(None, &serde_json::to_vec(change).unwrap_or_default());
    }
}

/// This node's side.
struct HeardSanctions {
    me: u64,
    heeded: Heeded,
    added: Arc<Notify>,
}

impl Part for HeardSanctions {
    /// What was added while the bus was away is in the database.
    fn up(&self) {
        self.added.notify_one();
    }

    fn heard(&self, from: u64, message: &Bytes) {
        if from == self.me {
            return;
        }
        let Heeded {
            revocations,
            bans,
            slow_modes,
        } = &self.heeded;
        match serde_json::from_slice(message) {
            Ok(Change::Added) => self.added.notify_one(),
            Ok(Change::RestoredUser(user)) => {
                revocations.remove(&RevokedSubject::User(user));
            }
            Ok(Change::RestoredToken(token)) => {
                revocations.remove(&RevokedSubject::Token(token));
            }
            Ok(Change::Lifted(id)) => {
                bans.remove(&id);
            }
            Ok(Change::EndedSlowMode(topic)) => {
                slow_modes.remove(&topic);
            }
            // A node of a newer release says more.
            Err(_) => {}
        }
    }
}
