//! Who may be here: what a client's address is, how many connections one address and the whole
//! server may have, and who counts them. No I/O, no HTTP.
//!
//! Two things are counted, each with its own number: streams, which are accepted TCP connections, and
//! sockets, which are WebSocket connections and long-poll sessions.

mod address;
mod notice;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use foldhash::fast::RandomState;

pub use self::address::{ClientAddress, InvalidProxy, TrustedProxies};
use self::notice::Notice;
use crate::metrics::metrics;

/// Parts of the table of addresses, each with a lock of its own.
const SHARDS: usize = 16;

/// Files that streams of ordinary HTTP may still have when sockets may have no more.
const FILES_FOR_HTTP: usize = 32;

/// Who is let in. One value is shared by the endpoint, which counts sockets, and the server, which
/// counts streams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdmissionOptions {
    /// WebSocket connections and long-poll sessions of the whole server, at which it answers 503.
    /// Default 50,000.
    pub max_connections: usize,
    /// Connections of one address.
    pub per_address: AddressLimit,
    /// The proxies that are believed on whose behalf they connect. Default: loopback.
    pub trusted_proxies: TrustedProxies,
    /// Files that all streams together may take; the next one is refused. Default: no bound.
    pub max_files: usize,
    /// A socket that has had no joined channel for this long makes room for a new one when the server
    /// is full. Default 60 s.
    pub join_within: Duration,
}

impl Default for AdmissionOptions {
    fn default() -> Self {
        Self {
            max_connections: 50_000,
            per_address: AddressLimit::default(),
            trusted_proxies: TrustedProxies::default(),
            max_files: usize::MAX,
            join_within: Duration::from_secs(60),
        }
    }
}

/// How many sockets, and as many streams, one address may have. A network of /64 is one address of
/// IPv6: so much belongs to one client.
///
/// The default is 1,000 and no limit for a trusted proxy, which connects for many clients. Behind
/// such a proxy the address that it names counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressLimit {
    max: usize,
    holds_for_proxies: bool,
}

impl AddressLimit {
    /// A limit that holds for the sockets of everybody: a trusted proxy's, too, where it names no client.
    /// 0 is no limit.
    pub const fn new(max: usize) -> Self {
        Self {
            max,
            holds_for_proxies: true,
        }
    }
}

impl Default for AddressLimit {
    fn default() -> Self {
        Self {
            max: 1_000,
            holds_for_proxies: false,
        }
    }
}

/// The counts of one server. Cloning is cheap and names the same counts.
#[derive(Clone)]
pub struct Admission(Arc<Shared>);

struct Shared {
    options: AdmissionOptions,
    streams: AtomicUsize,
    sockets: AtomicUsize,
    /// Addresses that have something; its size is bounded by what is counted.
    addresses: [Mutex<HashMap<Network, Counts>>; SHARDS],
    hasher: RandomState,
    server_full: Notice,
    address_full: Notice,
    out_of_files: Notice,
}

/// What one address has.
#[derive(Default)]
struct Counts {
    streams: usize,
    sockets: usize,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Stream,
    Socket,
}

impl Counts {
    fn of(&mut self, kind: Kind) -> &mut usize {
        match kind {
            Kind::Stream => &mut self.streams,
            Kind::Socket => &mut self.sockets,
        }
    }
}

/// Why somebody is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// The server has no room.
    Server,
    /// The client's address has all that one may have.
    Address,
}

/// One counted stream or socket. Dropping it ends the count.
pub(crate) struct Admitted {
    admission: Admission,
    /// The address that it is counted for, if any.
    address: Option<Network>,
    kind: Kind,
}

impl Admitted {
    /// One that nobody counts with others, for a client without a network.
    pub(crate) fn alone() -> Self {
        let admission = Admission::default();
        admission.0.sockets.fetch_add(1, Ordering::Relaxed);
        Self {
            admission,
            address: None,
            kind: Kind::Socket,
        }
    }
}

impl Default for Admission {
    fn default() -> Self {
        Self::new(AdmissionOptions::default())
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Admission");
        shown.field("options", &self.0.options);
        shown.field("streams", &self.0.streams);
        shown.field("sockets", &self.0.sockets).finish()
    }
}

impl Admission {
    /// With nobody let in yet.
    pub fn new(options: AdmissionOptions) -> Self {
        Self(Arc::new(Shared {
            options,
            streams: AtomicUsize::new(0),
            sockets: AtomicUsize::new(0),
            addresses: Default::default(),
            hasher: RandomState::default(),
            server_full: Notice::default(),
            address_full: Notice::default(),
            out_of_files: Notice::default(),
        }))
    }

    pub(crate) fn options(&self) -> &AdmissionOptions {
        &self.0.options
    }

    /// Counts an accepted stream. A trusted proxy's belong to no address.
    ///
    /// # Errors
    /// When the address has too many, or files run out.
    pub(crate) fn stream(&self, client: ClientAddress) -> Result<Admitted, Full> {
        let address = self.limited(client).filter(|_| !client.is_proxy());
        let admitted = self.count(Kind::Stream, address)?;
        if self.0.streams.load(Ordering::Relaxed) > self.0.options.max_files {
            metrics().refused_files.increment(1);
            if let Some(refused) = self.0.out_of_files.count() {
                let max_files = self.0.options.max_files;
                tracing::warn!(
                    refused,
                    max_files,
                    "admission.files.none: raise the limit of open files"
                );
            }
            return Err(Full::Server);
        }
        Ok(admitted)
    }

    /// Counts a socket. `make_room` ends another one in its favour, if one can be spared.
    ///
    /// # Errors
    /// When the address or the server is full.
    pub(crate) fn socket(
        &self,
        client: Option<ClientAddress>,
        make_room: impl FnOnce() -> bool,
    ) -> Result<Admitted, Full> {
        let address = client.and_then(|client| self.limited(client));
        let admitted = self.count(Kind::Socket, address)?;
        if self.is_over() && !make_room() {
            metrics().refused_full.increment(1);
            if let Some(refused) = self.0.server_full.count() {
                let max_connections = self.0.options.max_connections;
                tracing::info!(refused, max_connections, "admission.server.full");
            }
            return Err(Full::Server);
        }
        Ok(admitted)
    }

    /// Whether there are more sockets than may be. Where nobody counts streams they stand for theirs.
    fn is_over(&self) -> bool {
        let AdmissionOptions {
            max_connections,
            max_files,
            ..
        } = self.0.options;
        let sockets = self.0.sockets.load(Ordering::Relaxed);
        let files = self.0.streams.load(Ordering::Relaxed).max(sockets);
        sockets > max_connections || files > max_files.saturating_sub(FILES_FOR_HTTP)
    }

    /// The address that a client is counted for; `None` where there is no limit.
    fn limited(&self, client: ClientAddress) -> Option<Network> {
        let AddressLimit {
            max,
            holds_for_proxies,
        } = self.0.options.per_address;
        let counts = max > 0 && (holds_for_proxies || !client.is_proxy());
        counts.then(|| client.ip().into())
    }

    fn count(&self, kind: Kind, address: Option<Network>) -> Result<Admitted, Full> {
        if let Some(address) = address {
            let max = self.0.options.per_address.max;
            let mut shard = self.shard(address);
            let count = shard.entry(address).or_default().of(kind);
            if *count >= max {
                drop(shard);
                self.refuse(address);
                return Err(Full::Address);
            }
            *count += 1;
        }
        self.total(kind).fetch_add(1, Ordering::Relaxed);
        Ok(Admitted {
            admission: self.clone(),
            address,
            kind,
        })
    }

    fn refuse(&self, address: Network) {
        metrics().refused_address.increment(1);
        if let Some(refused) = self.0.address_full.count() {
            let max_connections_per_ip = self.0.options.per_address.max;
            tracing::info!(
                refused, %address, max_connections_per_ip,
                "admission.address.full: a proxy is to be named in trusted_proxies"
            );
        }
    }

    fn total(&self, kind: Kind) -> &AtomicUsize {
        match kind {
            Kind::Stream => &self.0.streams,
            Kind::Socket => &self.0.sockets,
        }
    }

    fn shard(&self, address: Network) -> std::sync::MutexGuard<'_, HashMap<Network, Counts>> {
        let shard = self.0.hasher.hash_one(address) as usize % SHARDS;
        let shard = self.0.addresses[shard].lock();
        // Nothing in here panics half-way.
        shard.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.admission
            .total(self.kind)
            .fetch_sub(1, Ordering::Relaxed);
        let Some(address) = self.address else {
            return;
        };
        let mut shard = self.admission.shard(address);
        if let Entry::Occupied(mut entry) = shard.entry(address) {
            let counts = entry.get_mut();
            *counts.of(self.kind) -= 1;
            if counts.streams + counts.sockets == 0 {
                entry.remove();
            }
        }
    }
}

/// What stands for everything that one client has: its address, or its network of /64 for IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Network {
    V4([u8; 4]),
    V6([u8; 8]),
}

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::V4(address.octets()),
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, g, h, ..] = address.octets();
                Self::V6([a, b, c, d, e, f, g, h])
            }
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::V4(octets) => Ipv4Addr::from(octets).fmt(f),
            Self::V6(octets) => {
                let network = u128::from(u64::from_be_bytes(octets)) << 64;
                write!(f, "{}/64", Ipv6Addr::from_bits(network))
            }
        }
    }
}
