//! [`Sanctions`]: changes revocations, bans and slow modes, in this order: in the database, in memory, on the open
//! connections, on the other nodes of a cluster.

#[cfg(not(feature = "_cluster"))]
mod lone;
#[cfg(feature = "_cluster")]
mod nodes;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{Mutex, Notify};

#[cfg(not(feature = "_cluster"))]
use self::lone::OtherNodes;
#[cfg(feature = "_cluster")]
use self::nodes::OtherNodes;
use crate::ban::{Ban, BanKind, BanTarget, Bans};
use crate::endpoint::Endpoint;
use crate::revocation::{Revocation, Revocations, RevokedSubject};
use crate::slow_mode::{SlowMode, SlowModes};
use crate::store::{
    BansUnavailable, DbWriterHandle, RevocationsUnavailable, SlowModesUnavailable, StoredBans,
    StoredRevocations, StoredSlowModes,
};

/// The revocations, bans and slow modes of one server. A clone is cheap and shares them.
#[derive(Clone)]
pub(crate) struct Sanctions(Arc<SharedSanctions>);

named_debug!(Sanctions);

struct SharedSanctions {
    revocations: Revocations,
    slow_modes: SlowModes,
    stored_revocations: StoredRevocations,
    stored_bans: StoredBans,
    stored_slow_modes: StoredSlowModes,
    endpoint: Endpoint,
    /// In a cluster.
    others: Option<OtherNodes>,
    /// Held by the one change at a time, so that both places see the same order.
    changing: Mutex<()>,
}

/// What a server heeds, in memory.
struct Heeded {
    revocations: Revocations,
    bans: Bans,
    slow_modes: SlowModes,
}

/// Why a revocation, a ban or a slow mode is not changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SanctionError {
    /// There are 100,000 revocations.
    #[error("too many revocations are remembered: take one back, or wait until one ends")]
    FullOfRevocations,
    /// There are 100,000 bans.
    #[error("too many bans are remembered: take one back, or wait until one ends")]
    FullOfBans,
    /// There are 10,000 slow modes.
    #[error("too many topics are in slow mode: take one out, or wait until one ends")]
    FullOfSlowModes,
    /// The database does not take it.
    #[error(transparent)]
    RevocationsUnavailable(#[from] RevocationsUnavailable),
    /// The same, of a ban.
    #[error(transparent)]
    BansUnavailable(#[from] BansUnavailable),
    /// The same, of a slow mode.
    #[error(transparent)]
    SlowModesUnavailable(#[from] SlowModesUnavailable),
}

impl Sanctions {
    /// The sockets of the endpoint heed `revocations`, and the endpoint's own bans; its rooms heed `slow_modes`. `added`
    /// is notified when other nodes have stored more.
    pub(crate) fn new(
        revocations: Revocations,
        slow_modes: SlowModes,
        writer: &DbWriterHandle,
        endpoint: &Endpoint,
        added: &Arc<Notify>,
    ) -> Self {
        let neighbours = endpoint.pubsub().neighbours();
        let others = neighbours.map(|neighbours| {
            let heeded = Heeded {
                revocations: revocations.clone(),
                bans: endpoint.bans().clone(),
                slow_modes: slow_modes.clone(),
            };
            OtherNodes::join(&neighbours, heeded, Arc::clone(added))
        });
        Self(Arc::new(SharedSanctions {
            others,
            revocations,
            slow_modes,
            stored_revocations: StoredRevocations::new(writer),
            stored_bans: StoredBans::new(writer),
            stored_slow_modes: StoredSlowModes::new(writer),
            endpoint: endpoint.clone(),
            changing: Mutex::default(),
        }))
    }

    fn list(&self) -> &Bans {
        self.0.endpoint.bans()
    }

    /// Stores a revocation, and closes the connections that it concerns. Returns the one in force.
    pub(crate) async fn revoke(
        &self,
        revocation: &Revocation,
    ) -> Result<Revocation, SanctionError> {
        let shared = &*self.0;
        let in_force = {
            let _changing = shared.changing.lock().await;
            if !shared.revocations.has_room_for(&revocation.subject) {
                return Err(SanctionError::FullOfRevocations);
            }
            shared.stored_revocations.put(revocation).await?;
            shared.revocations.insert(revocation)
        };
        if let Some(others) = &shared.others {
            others.added();
        }
        shared.endpoint.check_permits().await;
        in_force.ok_or(SanctionError::FullOfRevocations)
    }

    /// Takes a revocation back. Returns whether there was one.
    pub(crate) async fn restore(&self, subject: &RevokedSubject) -> Result<bool, SanctionError> {
        let shared = &*self.0;
        let _changing = shared.changing.lock().await;
        let was_stored = shared.stored_revocations.remove(subject).await?;
        if let Some(others) = &shared.others {
            others.restored(subject);
        }
        Ok(shared.revocations.remove(subject) || was_stored)
    }

    /// Stores a ban, in place of one of this kind for this target, and closes the connections that may not go on.
    /// Returns it, and whether it is new.
    pub(crate) async fn ban(
        &self,
        kind: BanKind,
        target: BanTarget,
        ends: SystemTime,
    ) -> Result<(Ban, bool), SanctionError> {
        let shared = &*self.0;
        let (in_force, is_new) = {
            let _changing = shared.changing.lock().await;
            let known = self.list().id_of(kind, &target);
            if known.is_none() && !self.list().has_room() {
                return Err(SanctionError::FullOfBans);
            }
            let is_new = known.is_none();
            let since = SystemTime::now();
            let ban = Ban {
                id: known.unwrap_or_else(|| new_id(since)),
                kind,
                target,
                since,
                ends,
            };
            shared.stored_bans.put(&ban).await?;
            (self.list().insert(ban), is_new)
        };
        if let Some(others) = &shared.others {
            others.added();
        }
        if kind == BanKind::Ban {
            shared.endpoint.check_permits().await;
        }
        let ban = in_force.ok_or(SanctionError::FullOfBans)?;
        Ok((ban, is_new))
    }

    /// Takes a ban back. Returns it; `None` if there is none with this id.
    pub(crate) async fn unban(&self, id: &str) -> Result<Option<Ban>, SanctionError> {
        let _changing = self.0.changing.lock().await;
        let Some(ban) = self.list().find(id) else {
            return Ok(None);
        };
        self.0.stored_bans.remove(&ban).await?;
        self.list().remove(id);
        if let Some(others) = &self.0.others {
            others.lifted(id);
        }
        Ok(Some(ban))
    }

    /// The bans in force, the newest first: at most `limit`, and the number of all.
    pub(crate) fn bans(&self, limit: usize) -> (Vec<Ban>, usize) {
        self.list().list(limit)
    }

    /// Stores a slow mode, in place of that of the topic. Returns it, and whether it is new.
    pub(crate) async fn slow_down(
        &self,
        topic: String,
        interval: Duration,
        ends: Option<SystemTime>,
    ) -> Result<(SlowMode, bool), SanctionError> {
        let shared = &*self.0;
        let _changing = shared.changing.lock().await;
        if !shared.slow_modes.has_room_for(&topic) {
            return Err(SanctionError::FullOfSlowModes);
        }
        let is_new = shared.slow_modes.find(&topic).is_none();
        let mode = SlowMode {
            topic,
            interval,
            since: SystemTime::now(),
            ends,
        };
        shared.stored_slow_modes.put(&mode).await?;
        if !shared.slow_modes.insert(mode.clone()) {
            return Err(SanctionError::FullOfSlowModes);
        }
        if let Some(others) = &shared.others {
            others.added();
        }
        Ok((mode, is_new))
    }

    /// Takes the slow mode of a topic away. Returns whether there was one.
    pub(crate) async fn end_slow_mode(&self, topic: &str) -> Result<bool, SanctionError> {
        let shared = &*self.0;
        let _changing = shared.changing.lock().await;
        let was_stored = shared.stored_slow_modes.remove(topic).await?;
        if let Some(others) = &shared.others {
            others.ended_slow_mode(topic);
        }
        Ok(shared.slow_modes.remove(topic) || was_stored)
    }

    /// The slow mode of a topic, if it is in force.
    pub(crate) fn slow_mode(&self, topic: &str) -> Option<SlowMode> {
        self.0.slow_modes.find(topic)
    }

    /// The slow modes in force, the newest first: at most `limit`, and the number of all.
    pub(crate) fn slow_modes(&self, limit: usize) -> (Vec<SlowMode>, usize) {
        self.0.slow_modes.list(limit)
    }
}

/// An id that no other ban has.
fn new_id(now: SystemTime) -> String {
    let number = getrandom::u64().unwrap_or_else(|_| {
        // Without the system's randomness the time has to do: one ban is made at a time.
        let since = now.duration_since(SystemTime::UNIX_EPOCH);
        u64::try_from(since.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
    });
    format!("{number:016x}")
}
