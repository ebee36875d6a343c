//! [`Revocations`]: the users and tokens that are refused before their tokens expire. In memory and bounded;
//! `store::StoredRevocations` keeps them in a database.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, SystemTime};

use crate::metrics::token_metrics;

/// The most revocations in memory.
pub(crate) const MAX_REVOCATIONS: usize = 100_000;

/// The tokens that a [`Revocation`] refuses.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RevokedSubject {
    /// All tokens of the user with this id.
    User(String),
    /// The token with this id, its `jti`.
    Token(String),
}

/// Tokens that are refused for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Revocation {
    /// The tokens.
    pub subject: RevokedSubject,
    /// Of a user: tokens that were issued at this time or later are accepted.
    pub not_before: SystemTime,
    /// The time at which the revocation is forgotten. By then the tokens must have expired.
    pub ends: SystemTime,
}

impl Revocation {
    /// Revokes the tokens that were issued before now, for so long.
    pub fn new(subject: RevokedSubject, lasts: Duration) -> Self {
        let now = SystemTime::now();
        Self {
            subject,
            not_before: now,
            ends: now + lasts,
        }
    }
}

/// What a token says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenFacts<'a> {
    /// The id of its user.
    pub user: Option<&'a str>,
    /// Its own id, `jti`.
    pub id: Option<&'a str>,
    /// The time at which it was issued: `iat`. Without it the token counts as older than every revocation.
    pub issued: Option<SystemTime>,
}

/// The revocations in force, for all workers. Clones share them. While there are none, a check is one atomic load.
///
/// ```
/// use std::time::{Duration, SystemTime};
///
/// use slackir::revocation::{Revocation, Revocations, RevokedSubject, TokenFacts};
///
/// let revocations = Revocations::default();
/// let day = Duration::from_secs(86_400);
/// let revocation = Revocation::new(RevokedSubject::User("7".to_owned()), day);
/// assert!(revocations.insert(&revocation).is_some());
///
/// let token = |issued| TokenFacts { user: Some("7"), id: None, issued };
/// assert!(revocations.refuses(token(Some(SystemTime::UNIX_EPOCH))));
/// assert!(revocations.refuses(token(None)));
/// assert!(!revocations.refuses(token(Some(SystemTime::now()))));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Revocations(Arc<SharedRevocations>);

#[derive(Debug, Default)]
struct SharedRevocations {
    /// The entries of both maps.
    count: AtomicUsize,
    maps: RwLock<RevocationMaps>,
    /// How often a revocation was added or taken back. Changes while `maps` is locked.
    changes: AtomicU64,
}

#[derive(Debug, Default)]
struct RevocationMaps {
    users: HashMap<String, RevokedTimes>,
    tokens: HashMap<String, RevokedTimes>,
}

#[derive(Clone, Copy, Debug)]
struct RevokedTimes {
    not_before: SystemTime,
    ends: SystemTime,
}

impl Revocations {
    /// Whether the token is refused now.
    pub fn refuses(&self, token: TokenFacts<'_>) -> bool {
        if self.is_empty() {
            return false;
        }
        let maps = self.read();
        let of = |map: &HashMap<String, RevokedTimes>, name: Option<&str>| {
            let times = map.get(name?).copied()?;
            (SystemTime::now() < times.ends).then_some(times)
        };
        let is_older = |times: RevokedTimes| token.issued.is_none_or(|at| at < times.not_before);
        of(&maps.tokens, token.id).is_some() || of(&maps.users, token.user).is_some_and(is_older)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.count.load(Ordering::Acquire) == 0
    }

    /// Adds a revocation. If the subject has one, the later time of both counts. Returns the revocation in force;
    /// `None`: there are 100,000, and it is not added.
    pub fn insert(&self, revocation: &Revocation) -> Option<Revocation> {
        let mut maps = self.write();
        let times = maps.insert(revocation);
        self.0.changes.fetch_add(1, Ordering::Relaxed);
        self.counted(&maps);
        let RevokedTimes { not_before, ends } = times?;
        Some(Revocation {
            subject: revocation.subject.clone(),
            not_before,
            ends,
        })
    }

    /// How often a revocation was added or taken back.
    pub(crate) fn changes(&self) -> u64 {
        self.0.changes.load(Ordering::Relaxed)
    }

    /// Makes these the revocations in force: a list that was read after there were so many `changes`. Returns whether
    /// that is still so; if not, the list may be an old one, and nothing is changed.
    pub(crate) fn replace(&self, revocations: &[Revocation], changes: u64) -> bool {
        let mut maps = self.write();
        if self.changes() != changes {
            return false;
        }
        *maps = RevocationMaps::default();
        for revocation in revocations {
            maps.insert(revocation);
        }
        self.counted(&maps);
        true
    }

    /// Whether [`insert`](Self::insert) adds a revocation of this subject.
    pub fn has_room_for(&self, subject: &RevokedSubject) -> bool {
        let mut maps = self.write();
        let is_full = maps.len() >= MAX_REVOCATIONS;
        let (map, name) = maps.of(subject);
        !is_full || map.contains_key(name)
    }

    /// Takes a revocation back. Returns whether there was one.
    pub fn remove(&self, subject: &RevokedSubject) -> bool {
        let mut maps = self.write();
        let (map, name) = maps.of(subject);
        let removed = map.remove(name).is_some();
        // A list that is being read may have it all the same.
        self.0.changes.fetch_add(1, Ordering::Relaxed);
        self.counted(&maps);
        removed
    }

    /// Forgets the revocations that have ended at this time. Returns their number.
    pub fn forget_ended(&self, now: SystemTime) -> usize {
        if self.is_empty() {
            return 0;
        }
        let mut maps = self.write();
        let before = maps.len();
        maps.users.retain(|_, times| now < times.ends);
        maps.tokens.retain(|_, times| now < times.ends);
        self.counted(&maps);
        before - maps.len()
    }

    fn counted(&self, maps: &RevocationMaps) {
        self.0.count.store(maps.len(), Ordering::Release);
        token_metrics().revocations.set(maps.len() as f64);
    }

    fn read(&self) -> RwLockReadGuard<'_, RevocationMaps> {
        self.0.maps.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, RevocationMaps> {
        self.0.maps.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RevocationMaps {
    fn len(&self) -> usize {
        self.users.len() + self.tokens.len()
    }

    /// Adds a revocation. Returns the times in force; `None` if there is no room.
    fn insert(&mut self, revocation: &Revocation) -> Option<RevokedTimes> {
        let is_full = self.len() >= MAX_REVOCATIONS;
        let (map, name) = self.of(&revocation.subject);
        if is_full && !map.contains_key(name) {
            return None;
        }
        let times = map.entry(name.clone()).or_insert(RevokedTimes {
            not_before: revocation.not_before,
            ends: revocation.ends,
        });
        times.not_before = times.not_before.max(revocation.not_before);
        times.ends = times.ends.max(revocation.ends);
        Some(*times)
    }

    /// The map of a subject, and its name in it.
    fn of<'a>(
        &mut self,
        subject: &'a RevokedSubject,
    ) -> (&mut HashMap<String, RevokedTimes>, &'a String) {
        match subject {
            RevokedSubject::User(user) => (&mut self.users, user),
            RevokedSubject::Token(id) => (&mut self.tokens, id),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn revoked(subject: RevokedSubject, not_before: SystemTime, ends: SystemTime) -> Revocation {
        Revocation {
            subject,
            not_before,
            ends,
        }
    }

    #[test]
    fn a_token_is_refused_by_its_id_and_by_its_user_until_the_end() {
        let (revocations, now) = (Revocations::default(), SystemTime::now());
        let token = TokenFacts {
            user: Some("u1"),
            id: Some("t1"),
            issued: Some(now + HOUR),
        };
        assert!(!revocations.refuses(token));
        let of_token = RevokedSubject::Token("t1".to_owned());
        revocations.insert(&revoked(of_token.clone(), now, now + HOUR));
        assert!(revocations.refuses(token), "an id names one token");
        let other = TokenFacts {
            id: Some("u1"),
            ..token
        };
        assert!(!revocations.refuses(other));
        assert!(revocations.remove(&of_token) && !revocations.remove(&of_token));
        assert!(!revocations.refuses(token) && revocations.is_empty());

        let of_user = RevokedSubject::User("u1".to_owned());
        revocations.insert(&revoked(of_user.clone(), now, now - HOUR));
        let old = TokenFacts {
            issued: None,
            ..token
        };
        assert!(!revocations.refuses(old), "it has ended");
        assert_eq!(revocations.forget_ended(now), 1);
        let merged = revocations.insert(&revoked(of_user.clone(), now, now + 2 * HOUR));
        assert_eq!(merged, Some(revoked(of_user.clone(), now, now + 2 * HOUR)));
        let again = revoked(of_user.clone(), now + HOUR, now + HOUR);
        let merged = revocations.insert(&again);
        assert_eq!(merged, Some(revoked(of_user, now + HOUR, now + 2 * HOUR)));
        assert!(!revocations.refuses(token) && revocations.refuses(old));
    }

    #[test]
    fn there_are_at_most_a_hundred_thousand() {
        let (revocations, now) = (Revocations::default(), SystemTime::now());
        let user = |n: usize| revoked(RevokedSubject::User(n.to_string()), now, now + HOUR);
        for n in 0..MAX_REVOCATIONS {
            assert!(revocations.insert(&user(n)).is_some());
        }
        assert_eq!(revocations.insert(&user(MAX_REVOCATIONS)), None);
        assert!(!revocations.has_room_for(&user(MAX_REVOCATIONS).subject));
        assert!(revocations.insert(&user(7)).is_some(), "it is there");
        assert!(revocations.has_room_for(&user(7).subject));
        assert!(revocations.remove(&user(7).subject));
        assert!(revocations.insert(&user(MAX_REVOCATIONS)).is_some());
    }

    #[test]
    fn a_list_that_was_read_before_a_change_replaces_nothing() {
        let revocations = Revocations::default();
        let now = SystemTime::now();
        let revoked = |user: &str| Revocation {
            subject: RevokedSubject::User(user.to_owned()),
            not_before: now,
            ends: now + Duration::from_secs(60),
        };
        let refuses = |user| {
            revocations.refuses(TokenFacts {
                user: Some(user),
                id: None,
                issued: None,
            })
        };
        revocations.insert(&revoked("bob"));
        let before = revocations.changes();
        assert!(!revocations.remove(&revoked("eve").subject));
        assert!(!revocations.replace(&[revoked("eve")], before));
        assert!(refuses("bob") && !refuses("eve"));
        assert!(revocations.replace(&[revoked("eve")], revocations.changes()));
        assert!(!refuses("bob") && refuses("eve"));
    }
}
