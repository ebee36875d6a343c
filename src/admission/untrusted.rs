//! [`UntrustedProxy`]: finds a proxy that is not in `trusted_proxies`. Pure: the time is an argument.
//!
//! Behind such a proxy all clients have one address, and share its limits. It shows in connections whose forwarding
//! headers name a client and do not count.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;

use super::Network;
use crate::lock::lock;

/// The connections of one look.
const CONNECTS: u32 = 50;
/// More of them than this, from one address, are those of a proxy. Four of five.
const SHARE: u32 = CONNECTS / 5 * 4;
/// The time between two findings.
const QUIET: Duration = Duration::from_secs(3_600);

/// Counts new connections, and looks at them in groups.
#[derive(Default)]
pub(super) struct UntrustedProxy {
    connects: AtomicU32,
    /// Locked only for a connection with ignored headers, and once in a group.
    found: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    /// The connections with ignored headers in this group, by their address: at most as many as a group has.
    ignored: HashMap<Network, u32, RandomState>,
    told: Option<Instant>,
}

impl UntrustedProxy {
    /// Counts a new connection; `ignored` is its address if its headers name a client and do not count. Returns an
    /// address from which most connections of a group have come, at most once an hour.
    pub(super) fn count(&self, ignored: Option<Network>, now: Instant) -> Option<Network> {
        let connects = self.connects.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some(address) = ignored {
            *lock(&self.found).ignored.entry(address).or_default() += 1;
        }
        if !connects.is_multiple_of(CONNECTS) {
            return None;
        }
        let mut found = lock(&self.found);
        let most = found.ignored.drain().max_by_key(|(_, count)| *count);
        let (address, _) = most.filter(|(_, count)| *count > SHARE)?;
        if found.told.is_some_and(|told| now < told + QUIET) {
            return None;
        }
        found.told = Some(now);
        Some(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROXY: Network = Network::V4([10, 0, 0, 1]);

    /// Counts a group, in which every connection but `others` comes from the proxy.
    fn group(watch: &UntrustedProxy, others: u32, now: Instant) -> Option<Network> {
        let addresses = (0..CONNECTS).map(|n| (n >= others).then_some(PROXY));
        let found = addresses.filter_map(|ignored| watch.count(ignored, now));
        found.last()
    }

    #[test]
    fn a_proxy_is_found_if_it_connects_for_most_clients() {
        let now = Instant::now();
        let watch = UntrustedProxy::default();
        assert_eq!(group(&watch, CONNECTS - SHARE, now), None, "four of five");
        assert_eq!(group(&watch, CONNECTS, now), None, "nobody");
        assert_eq!(group(&watch, CONNECTS - SHARE - 1, now), Some(PROXY));
    }

    #[test]
    fn clients_that_name_others_from_many_addresses_are_no_proxy() {
        let now = Instant::now();
        let watch = UntrustedProxy::default();
        let address = |n: u32| Network::V4(n.to_be_bytes());
        let found = (0..CONNECTS).find_map(|n| watch.count(Some(address(n)), now));
        assert_eq!(found, None);
    }

    #[test]
    fn a_proxy_is_told_of_once_an_hour() {
        let now = Instant::now();
        let watch = UntrustedProxy::default();
        assert_eq!(group(&watch, 0, now), Some(PROXY));
        assert_eq!(group(&watch, 0, now + QUIET / 2), None);
        assert_eq!(group(&watch, 0, now + QUIET), Some(PROXY));
    }
}
