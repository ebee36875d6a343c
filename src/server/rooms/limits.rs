//! The limits of the configured rooms beside the `rate` of an event: [`RoomBuckets`], [`PresenceBucket`],
//! [`UserConnections`].

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::channel::{RoomChannel, log_refusal};
use super::identity::Identity;
use super::member::Member;
use super::room::Room;
use crate::channel::{Context, Refused};
use crate::lock::lock;
use crate::message::reason;
use crate::metrics::metrics;
use crate::rate::{self, Bucket, Buckets, Limit, Rate, SharedRate};
use crate::server::language::RoomLimit;
use crate::slow_mode::{Person, Turn};
use crate::socket::ConnectRefused;

/// The messages of users and of topics in one room. All its members share them.
#[derive(Debug)]
pub(super) struct RoomBuckets {
    user: Option<Buckets>,
    topic: Option<Buckets>,
}

/// Only the same buckets are equal.
impl PartialEq for RoomBuckets {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl RoomBuckets {
    /// `None` if the room has no limit.
    pub(super) fn new(limit: &RoomLimit) -> Option<Self> {
        let buckets = |limit: Option<Rate>| limit.map(Buckets::new);
        limit.is_set().then(|| Self {
            user: buckets(limit.user()),
            topic: buckets(limit.topic()),
        })
    }

    /// Counts a message. One over the user's limit does not count for the topic.
    fn count(&self, user: Option<&str>, topic: &str) -> Result<(), (Limit, Duration)> {
        let now = rate::now();
        if let (Some(buckets), Some(user)) = (&self.user, user) {
            let taken = buckets.take(user, now);
            taken.map_err(|wait| (Limit::User, wait))?;
        }
        let Some(buckets) = &self.topic else {
            return Ok(());
        };
        let taken = buckets.take(topic, now);
        taken.map_err(|wait| (Limit::Topic, wait))
    }
}

/// Counts a message of a member by the limits of its room.
///
/// # Errors
/// If it is over one of them. The error reply holds the time to wait.
pub(super) fn count_message(
    room: &Room,
    member: &Member,
    ctx: &Context<RoomChannel>,
) -> Result<(), Refused> {
    let Some(buckets) = &room.rules.buckets else {
        return Ok(());
    };
    let user = buckets.user.as_ref().and_then(|_| member.user_key());
    let counted = buckets.count(user.as_deref(), ctx.topic());
    counted.map_err(|(limit, wait)| {
        metrics().limited(limit).increment(1);
        ctx.rate_limited(limit.name(), wait)
    })
}

/// Refuses a message of a member that is muted.
///
/// # Errors
/// If its user or its address is. The error reply holds the time until the end.
pub(super) fn refuse_muted(
    room: &Room,
    event: &str,
    ctx: &Context<RoomChannel>,
) -> Result<(), Refused> {
    let Some(bans) = room.rules.bans.as_ref().filter(|bans| bans.has_mutes()) else {
        return Ok(());
    };
    let identity = ctx.assigns().get::<Identity>();
    let user = identity.and_then(Identity::user_name);
    match bans.muted_for(user.as_deref(), ctx.client().ip()) {
        None => Ok(()),
        Some(left) => {
            log_refusal(reason::MUTED, event, ctx);
            Err(ctx.muted(left))
        }
    }
}

/// Counts a message of a member whose topic is in slow mode. `None`: the topic is not, or the event is no message.
///
/// # Errors
/// If it comes too early. The error reply holds the time to wait.
pub(super) fn take_turn(
    room: &Room,
    member: &Member,
    is_message: impl FnOnce() -> bool,
    ctx: &Context<RoomChannel>,
) -> Result<Option<Turn>, Refused> {
    let slow_modes = room.rules.slow_modes.as_ref();
    let Some(slow_modes) = slow_modes.filter(|slow_modes| slow_modes.has_any()) else {
        return Ok(None);
    };
    if !is_message() {
        return Ok(None);
    }
    let user = member.identity().and_then(Identity::user_name);
    let connection = Person::Connection(ctx.client().number());
    let person = user.as_deref().map_or(connection, Person::User);
    let taken = slow_modes.take_turn(ctx.topic(), person);
    taken.map_err(|wait| {
        metrics().limited(Limit::SlowMode).increment(1);
        ctx.rate_limited(Limit::SlowMode.name(), wait)
    })
}

/// The changes that a client makes to its presences, in all its topics.
#[derive(Debug)]
pub(super) struct PresenceBucket {
    rate: Arc<SharedRate>,
    bucket: Mutex<Bucket>,
}

impl PresenceBucket {
    pub(super) fn new(rate: Arc<SharedRate>) -> Self {
        Self {
            rate,
            bucket: Mutex::default(),
        }
    }
}

/// Counts a change of the client's presence.
///
/// # Errors
/// If the client has made too many. The error reply holds the time to wait.
pub(super) fn count_presence(ctx: &Context<RoomChannel>) -> Result<(), Refused> {
    let Some(presence) = ctx.assigns().get::<PresenceBucket>() else {
        return Ok(());
    };
    let taken = lock(&presence.bucket).take(presence.rate.get(), 1, rate::now());
    taken.map_err(|wait| {
        metrics().limited(Limit::Presences).increment(1);
        ctx.rate_limited(Limit::Presences.name(), wait)
    })
}

/// The open connections of each user.
#[derive(Debug)]
pub(crate) struct UserConnections {
    max: AtomicUsize,
    /// Only users with a connection.
    open: Mutex<HashMap<String, usize>>,
}

/// A counted connection. Dropping the value ends the count.
#[derive(Debug)]
pub(super) struct UserConnection {
    of: Arc<UserConnections>,
    user: String,
}

impl UserConnections {
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            max: AtomicUsize::new(max),
            open: Mutex::default(),
        })
    }

    /// The most connections of a user from now on; `None`: any number. Those that are open stay.
    pub(crate) fn set_max(&self, max: Option<NonZeroUsize>) {
        let max = max.map_or(usize::MAX, NonZeroUsize::get);
        self.max.store(max, Ordering::Relaxed);
    }

    /// Counts a connection of this user.
    ///
    /// # Errors
    /// If the user has too many.
    pub(super) fn admit(self: &Arc<Self>, user: String) -> Result<UserConnection, ConnectRefused> {
        let mut open = lock(&self.open);
        let count = open.entry(user.clone()).or_default();
        let max = self.max.load(Ordering::Relaxed);
        if *count >= max {
            metrics().limited(Limit::Connections).increment(1);
            return Err(ConnectRefused::too_many(format!(
                "the user has {max} connections"
            )));
        }
        *count += 1;
        Ok(UserConnection {
            of: Arc::clone(self),
            user,
        })
    }
}

impl Drop for UserConnection {
    fn drop(&mut self) {
        let user = std::mem::take(&mut self.user);
        if let Entry::Occupied(mut entry) = lock(&self.of.open).entry(user) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_so_many_connections_and_nothing_is_kept_of_who_has_gone() {
        let connections = UserConnections::new(2);
        let admit = |user: &str| connections.admit(user.to_owned());
        let two = [admit("ada").expect("room"), admit("ada").expect("room")];
        assert!(admit("ada").is_err_and(|refused| refused.is_too_many()));
        let bob = admit("bob").expect("another user");
        connections.set_max(NonZeroUsize::new(3));
        let third = admit("ada").expect("the limit is higher");
        connections.set_max(NonZeroUsize::new(1));
        assert!(admit("ada").is_err(), "all three stay");
        connections.set_max(None);
        drop((third, admit("ada").expect("there is no limit")));
        drop(two);
        let again = admit("ada").expect("room again");
        drop((bob, again));
        assert!(lock(&connections.open).is_empty());
    }
}
