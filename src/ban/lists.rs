//! [`BanLists`]: the bans and mutes themselves, by user and by address.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;

use super::{AddressRange, Ban, BanKind, BanTarget, MAX_BANS};

/// All bans and all mutes.
#[derive(Debug, Default)]
pub(super) struct BanLists {
    pub(super) bans: BanList,
    pub(super) mutes: BanList,
}

/// The bans of one kind.
#[derive(Debug, Default)]
pub(super) struct BanList {
    users: HashMap<String, Entry>,
    addresses: HashMap<IpNet, Entry>,
    /// How many ranges there are with a length of their prefix: (IPv6, length). A look-up tries each length.
    lengths: BTreeMap<(bool, u8), usize>,
}

/// A ban without its target.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) id: String,
    since: SystemTime,
    pub(super) ends: SystemTime,
}

impl BanLists {
    pub(super) fn len(&self) -> usize {
        self.bans.len() + self.mutes.len()
    }

    pub(super) fn of(&mut self, kind: BanKind) -> &mut BanList {
        match kind {
            BanKind::Ban => &mut self.bans,
            BanKind::Mute => &mut self.mutes,
        }
    }

    /// Puts a ban in place of the one of its kind with the same target, whose id it gets. Returns whether there is room.
    pub(super) fn insert(&mut self, ban: &mut Ban) -> bool {
        let is_full = self.len() >= MAX_BANS;
        let list = self.of(ban.kind);
        if is_full && list.get(&ban.target).is_none() {
            return false;
        }
        list.insert(ban);
        true
    }

    pub(super) fn all(&self) -> impl Iterator<Item = Ban> {
        let bans = self.bans.all(BanKind::Ban);
        bans.chain(self.mutes.all(BanKind::Mute))
    }
}

impl BanList {
    pub(super) fn len(&self) -> usize {
        self.users.len() + self.addresses.len()
    }

    pub(super) fn get(&self, target: &BanTarget) -> Option<&Entry> {
        match target {
            BanTarget::User(user) => self.users.get(user),
            BanTarget::Address(AddressRange(network)) => self.addresses.get(network),
        }
    }

    /// Puts a ban in place of the one with the same target, whose id it gets.
    pub(super) fn insert(&mut self, ban: &mut Ban) {
        if let Some(known) = self.get(&ban.target) {
            ban.id.clone_from(&known.id);
        }
        let entry = Entry {
            id: ban.id.clone(),
            since: ban.since,
            ends: ban.ends,
        };
        match &ban.target {
            BanTarget::User(user) => drop(self.users.insert(user.clone(), entry)),
            BanTarget::Address(AddressRange(network)) => {
                if self.addresses.insert(*network, entry).is_none() {
                    *self.lengths.entry(length(network)).or_default() += 1;
                }
            }
        }
    }

    pub(super) fn retain(&mut self, mut stays: impl FnMut(&Entry) -> bool) {
        self.users.retain(|_, entry| stays(entry));
        self.addresses.retain(|network, entry| {
            let stays = stays(entry);
            if !stays && let Some(count) = self.lengths.get_mut(&length(network)) {
                *count -= 1;
            }
            stays
        });
        self.lengths.retain(|_, count| *count > 0);
    }

    /// How long a client is still concerned; `None` if it is not.
    pub(super) fn left(
        &self,
        user: Option<&str>,
        address: Option<IpAddr>,
        now: SystemTime,
    ) -> Option<Duration> {
        let of_user = user.and_then(|user| self.users.get(user));
        let of_address = address
            .into_iter()
            .flat_map(|address| self.of_address(address));
        let entries = of_user.into_iter().chain(of_address);
        let left = entries.filter_map(|entry| entry.ends.duration_since(now).ok());
        left.filter(|left| !left.is_zero()).max()
    }

    pub(super) fn of_address(&self, address: IpAddr) -> impl Iterator<Item = &Entry> {
        let address = address.to_canonical();
        let lengths = self.lengths.keys();
        let lengths = lengths.filter(move |(is_v6, _)| *is_v6 == address.is_ipv6());
        lengths.filter_map(move |(_, length)| {
            let network = IpNet::new(address, *length).ok()?;
            self.addresses.get(&network.trunc())
        })
    }

    pub(super) fn all(&self, kind: BanKind) -> impl Iterator<Item = Ban> {
        let users = self.users.iter();
        let users = users.map(|(user, entry)| (BanTarget::User(user.clone()), entry));
        let addresses = self.addresses.iter();
        let addresses =
            addresses.map(|(network, entry)| (BanTarget::Address(AddressRange(*network)), entry));
        users.chain(addresses).map(move |(target, entry)| Ban {
            id: entry.id.clone(),
            kind,
            target,
            since: entry.since,
            ends: entry.ends,
        })
    }
}

fn length(network: &IpNet) -> (bool, u8) {
    (matches!(network, IpNet::V6(_)), network.prefix_len())
}
