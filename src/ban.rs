//! [`Bans`]: the users and addresses that may not connect, or may not write, until a time. In memory and bounded;
//! `store::StoredBans` keeps them in a database. A revocation refuses tokens, a ban refuses whoever comes.

mod lists;

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, SystemTime};

use ipnet::IpNet;

use self::lists::BanLists;
use crate::metrics::token_metrics;

/// The most bans and mutes in memory, together.
pub(crate) const MAX_BANS: usize = 100_000;

/// The effect of a ban.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BanKind {
    /// No connection: new ones are refused with 403, open ones end with the code 1008 and the reason `banned`.
    Ban,
    /// Messages to the configured rooms are refused with `{"reason": "muted", "retry_after_ms": ..}`.
    Mute,
}

/// The clients that a ban concerns.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum BanTarget {
    /// Those of this user, as [`Socket::user`](crate::socket::Socket::user) names it.
    User(String),
    /// Those with these addresses. Behind a trusted proxy, the address that the proxy names counts.
    Address(AddressRange),
}

/// An address, or all addresses of a network.
///
/// ```
/// use slackir::ban::AddressRange;
///
/// let network: AddressRange = "203.0.113.9/24".parse()?;
/// assert_eq!(network.to_string(), "203.0.113.0/24");
/// assert!(network.contains("203.0.113.77".parse()?));
/// assert_eq!("::1".parse::<AddressRange>()?.to_string(), "::1");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AddressRange(IpNet);

/// A text is neither an address nor a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be an address or a network, such as 203.0.113.9 or 2001:db8::/64")]
pub struct InvalidAddress;

impl AddressRange {
    /// Whether the address is one of these.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl From<IpAddr> for AddressRange {
    fn from(address: IpAddr) -> Self {
        Self(address.to_canonical().into())
    }
}

impl FromStr for AddressRange {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(address.into());
        }
        let network: IpNet = text.parse().map_err(|_| InvalidAddress)?;
        Ok(Self(network.trunc()))
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() {
            self.0.addr().fmt(f)
        } else {
            self.0.fmt(f)
        }
    }
}

/// A ban that ends.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ban {
    /// Its name.
    pub id: String,
    /// Its effect.
    pub kind: BanKind,
    /// The clients that it concerns.
    pub target: BanTarget,
    /// The time of the request for it.
    pub since: SystemTime,
    /// From this time on it has no effect.
    pub ends: SystemTime,
}

impl Ban {
    /// A ban from now on, for so long.
    pub fn new(id: impl Into<String>, kind: BanKind, target: BanTarget, lasts: Duration) -> Self {
        let since = SystemTime::now();
        Self {
            id: id.into(),
            kind,
            target,
            since,
            ends: since + lasts,
        }
    }
}

/// The bans in force, for all workers. Clones share them. While there are none, a check is one atomic load. A server
/// of `slackir::server` with a database replaces them by those of the database whenever it reads these: ban there by its
/// HTTP API.
///
/// ```
/// use std::time::Duration;
///
/// use slackir::ban::{Ban, BanKind, BanTarget, Bans};
///
/// let bans = Bans::default();
/// let hour = Duration::from_secs(3_600);
/// let ban = Ban::new("b1", BanKind::Ban, BanTarget::User("eve".to_owned()), hour);
/// assert!(bans.insert(ban).is_some());
/// assert!(bans.refuses(Some("eve"), None));
/// assert!(!bans.refuses(Some("ada"), None));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Bans(Arc<SharedBans>);

#[derive(Debug, Default)]
struct SharedBans {
    bans: AtomicUsize,
    mutes: AtomicUsize,
    lists: RwLock<BanLists>,
    /// How often a ban was added or taken back. Changes while `lists` is locked.
    changes: AtomicU64,
}

impl Bans {
    /// Whether anybody may not connect.
    pub(crate) fn refuse_any(&self) -> bool {
        self.0.bans.load(Ordering::Acquire) > 0
    }

    /// Whether a client may not connect.
    pub fn refuses(&self, user: Option<&str>, address: Option<IpAddr>) -> bool {
        self.refuse_any()
            && self
                .read()
                .bans
                .left(user, address, SystemTime::now())
                .is_some()
    }

    /// Whether anybody is muted.
    pub(crate) fn has_mutes(&self) -> bool {
        self.0.mutes.load(Ordering::Relaxed) > 0
    }

    /// How long a client is still muted; `None` if it is not.
    pub fn muted_for(&self, user: Option<&str>, address: Option<IpAddr>) -> Option<Duration> {
        if !self.has_mutes() {
            return None;
        }
        self.read().mutes.left(user, address, SystemTime::now())
    }

    /// Adds a ban. If there is one of this kind for this target, its end becomes the new one, and its id stays. Returns
    /// the ban in force; `None`: there are 100,000, and it is not added.
    pub fn insert(&self, mut ban: Ban) -> Option<Ban> {
        let mut lists = self.write();
        let is_added = lists.insert(&mut ban);
        self.0.changes.fetch_add(1, Ordering::Relaxed);
        self.counted(&lists);
        is_added.then_some(ban)
    }

    /// How often a ban was added or taken back.
    pub(crate) fn changes(&self) -> u64 {
        self.0.changes.load(Ordering::Relaxed)
    }

    /// Makes these the bans in force: a list that was read after there were so many `changes`. Returns whether that is
    /// still so; if not, the list may be an old one, and nothing is changed.
    pub(crate) fn replace(&self, bans: Vec<Ban>, changes: u64) -> bool {
        let mut lists = self.write();
        if self.changes() != changes {
            return false;
        }
        *lists = BanLists::default();
        for mut ban in bans {
            lists.insert(&mut ban);
        }
        self.counted(&lists);
        true
    }

    /// The id that a ban of this kind for this target has; `None` if there is none.
    pub(crate) fn id_of(&self, kind: BanKind, target: &BanTarget) -> Option<String> {
        let mut lists = self.write();
        let entry = lists.of(kind).get(target)?;
        Some(entry.id.clone())
    }

    /// Whether [`insert`](Self::insert) adds another ban.
    pub(crate) fn has_room(&self) -> bool {
        self.read().len() < MAX_BANS
    }

    /// The ban with this id.
    pub fn find(&self, id: &str) -> Option<Ban> {
        let lists = self.read();
        lists.all().find(|ban| ban.id == id)
    }

    /// Takes a ban back. Returns whether there was one.
    pub fn remove(&self, id: &str) -> bool {
        let mut lists = self.write();
        // A list that is being read may have it all the same.
        self.0.changes.fetch_add(1, Ordering::Relaxed);
        let before = lists.len();
        lists.bans.retain(|entry| entry.id != id);
        lists.mutes.retain(|entry| entry.id != id);
        self.counted(&lists);
        lists.len() < before
    }

    /// The bans in force, the newest first: at most `limit`, and the number of all.
    pub fn list(&self, limit: usize) -> (Vec<Ban>, usize) {
        let now = SystemTime::now();
        let mut all: Vec<_> = self.read().all().filter(|ban| now < ban.ends).collect();
        all.sort_unstable_by(|a, b| b.since.cmp(&a.since).then_with(|| a.id.cmp(&b.id)));
        let total = all.len();
        all.truncate(limit);
        (all, total)
    }

    /// Forgets the bans that have ended at this time. Returns their number.
    pub fn forget_ended(&self, now: SystemTime) -> usize {
        let mut lists = self.write();
        let before = lists.len();
        lists.bans.retain(|entry| now < entry.ends);
        lists.mutes.retain(|entry| now < entry.ends);
        self.counted(&lists);
        before - lists.len()
    }

    fn counted(&self, lists: &BanLists) {
        self.0.bans.store(lists.bans.len(), Ordering::Release);
        self.0.mutes.store(lists.mutes.len(), Ordering::Release);
        token_metrics().bans.set(lists.bans.len() as f64);
        token_metrics().mutes.set(lists.mutes.len() as f64);
    }

    fn read(&self) -> RwLockReadGuard<'_, BanLists> {
        self.0.lists.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BanLists> {
        self.0.lists.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Two are equal if they are the same list.
impl PartialEq for Bans {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn ban(id: &str, kind: BanKind, target: BanTarget, left: Duration) -> Ban {
        let now = SystemTime::now();
        Ban {
            id: id.to_owned(),
            kind,
            target,
            since: now,
            ends: now + left,
        }
    }

    fn user(name: &str) -> BanTarget {
        BanTarget::User(name.to_owned())
    }

    fn range(text: &str) -> BanTarget {
        BanTarget::Address(text.parse().expect("a range"))
    }

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().expect("an address"))
    }

    #[test]
    fn users_and_addresses_are_refused_until_the_end() {
        let bans = Bans::default();
        bans.insert(ban("1", BanKind::Ban, user("eve"), HOUR));
        bans.insert(ban("2", BanKind::Ban, range("203.0.113.0/24"), HOUR));
        bans.insert(ban("3", BanKind::Ban, range("203.0.113.7"), 2 * HOUR));
        bans.insert(ban("4", BanKind::Ban, range("2001:db8::1/64"), HOUR));
        bans.insert(ban("5", BanKind::Ban, user("past"), Duration::ZERO));
        for (name, address, refused) in [
            (Some("eve"), None, true),
            (Some("ada"), None, false),
            (None, ip("203.0.113.7"), true),
            (Some("ada"), ip("::ffff:203.0.113.99"), true),
            (None, ip("203.0.114.7"), false),
            (None, ip("2001:db8::ffff"), true),
            (None, ip("2001:db8:1::1"), false),
            (Some("past"), None, false),
            (None, None, false),
        ] {
            assert_eq!(bans.refuses(name, address), refused, "{name:?} {address:?}");
        }
        assert_eq!(bans.muted_for(Some("eve"), None), None, "a ban is no mute");
        assert!(bans.remove("2") && !bans.remove("2"));
        assert!(bans.refuses(None, ip("203.0.113.7")) && !bans.refuses(None, ip("203.0.113.8")));
        assert_eq!(bans.forget_ended(SystemTime::now()), 1);
        assert_eq!(bans.list(2).1, 3);
        assert_eq!(bans.forget_ended(SystemTime::now() + 3 * HOUR), 3);
        assert!(!bans.refuses(Some("eve"), ip("203.0.113.7")));
        assert_eq!(bans.0.bans.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_second_ban_of_the_same_has_its_id_and_another_end() {
        let bans = Bans::default();
        bans.insert(ban("1", BanKind::Mute, user("eve"), 2 * HOUR));
        bans.insert(ban("2", BanKind::Mute, range("203.0.113.0/24"), HOUR));
        let second = bans.insert(ban("3", BanKind::Mute, user("eve"), HOUR / 2));
        assert_eq!(second.map(|ban| ban.id).as_deref(), Some("1"));
        assert_eq!(
            bans.id_of(BanKind::Mute, &user("eve")).as_deref(),
            Some("1")
        );
        assert!(
            bans.muted_for(Some("eve"), None)
                .is_some_and(|left| left <= HOUR / 2)
        );
        let both = bans.muted_for(Some("eve"), ip("203.0.113.1"));
        assert!(both.is_some_and(|left| left > HOUR / 2), "the last to end");
        let (listed, total) = bans.list(1);
        assert_eq!((listed.len(), total), (1, 2));
        assert_eq!(listed[0].id, "1", "the newest");
    }

    #[test]
    fn there_are_at_most_a_hundred_thousand() {
        let bans = Bans::default();
        let one = |n: usize| ban(&n.to_string(), BanKind::Ban, user(&n.to_string()), HOUR);
        for n in 0..MAX_BANS {
            assert!(bans.insert(one(n)).is_some());
        }
        assert_eq!(bans.insert(one(MAX_BANS)), None);
        assert!(!bans.has_room());
        assert!(bans.insert(one(7)).is_some(), "it is there");
        assert!(bans.remove("7"));
        assert!(bans.insert(one(MAX_BANS)).is_some());
    }

    #[test]
    fn a_list_that_was_read_before_a_change_replaces_nothing() {
        let bans = Bans::default();
        bans.insert(ban("old", BanKind::Mute, user("bob"), HOUR));
        let (before, read) = (
            bans.changes(),
            vec![ban("1", BanKind::Ban, user("eve"), HOUR)],
        );
        // Lifted while the list was read, of which this list may not know.
        assert!(!bans.remove("1"));
        assert!(!bans.replace(read.clone(), before));
        assert!(!bans.refuses(Some("eve"), None) && bans.has_mutes());
        assert!(bans.replace(read, bans.changes()));
        assert!(bans.refuses(Some("eve"), None) && !bans.has_mutes());
    }
}
