//! Admission of clients: the address of a client, and the limits on connections of one address and of the
//! server. No I/O, no HTTP.
//!
//! Two kinds are counted separately: streams, which are accepted TCP connections, and sockets, which are
//! WebSocket connections and long-poll sessions.

mod address;
#[cfg(test)]
mod tests;
mod untrusted;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;

pub use self::address::{ClientAddress, InvalidProxy, TrustedProxies};
use self::untrusted::UntrustedProxy;
use crate::metrics::{Refused, connection_metrics, metrics};
use crate::notice::Notice;
use crate::rate::{self, Buckets, Limit, Rate};

/// The parts of the table of addresses, each with its own lock.
const SHARDS: usize = 16;

/// The default of the most new sockets of one address at once.
const CONNECTS_BURST: u32 = 500;

/// Open files that sockets leave to streams of ordinary HTTP.
const FILES_FOR_HTTP: usize = 32;

/// The limits on connections. The endpoint, which counts sockets, and the server, which counts streams,
/// share one [`Admission`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AdmissionOptions {
    /// The most WebSocket connections and long-poll sessions of the whole server. More are answered with
    /// 503. Default: 50,000.
    pub max_connections: usize,
    /// The most connections of one address.
    pub per_address: AddressLimit,
    /// New sockets of one address. More are answered with 429. It does not hold for a trusted proxy that names no
    /// client. Default: 50 a second, 500 at once.
    pub connects: Rate,
    /// The proxies whose headers name the client for whom they connect. Default: loopback.
    pub trusted_proxies: TrustedProxies,
    /// The most open files of all streams together. More streams are refused. Default: no limit.
    pub max_files: usize,
    /// When the server is full, a socket without a joined channel for this long is ended to make room for a
    /// new one. Default: 60 s.
    pub join_within: Duration,
}

setters!(AdmissionOptions {
    max_connections: usize,
    per_address: AddressLimit,
    connects: Rate,
    trusted_proxies: TrustedProxies,
    max_files: usize,
    join_within: Duration,
});

impl Default for AdmissionOptions {
    fn default() -> Self {
        Self {
            max_connections: 50_000,
            per_address: AddressLimit::default(),
            connects: Rate::new(50, CONNECTS_BURST),
            trusted_proxies: TrustedProxies::default(),
            max_files: usize::MAX,
            join_within: Duration::from_secs(60),
        }
    }
}

/// The most sockets, and the most streams, of one address. For IPv6 a network of /64 counts as one address,
/// because one client usually has a whole one.
///
/// Default: 1,000, and no limit for a trusted proxy, which connects for many clients. Behind such a proxy
/// the limit holds for the address that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressLimit {
    max: usize,
    holds_for_proxies: bool,
}

impl AddressLimit {
    /// A limit that also holds for the sockets of a trusted proxy, if it names no client. 0 means no limit.
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

/// The counts of one server. A clone is cheap and shares the counts.
#[derive(Clone)]
pub struct Admission(Arc<Shared>);

struct Shared {
    /// Read once for each connection.
    rules: RwLock<Arc<Rules>>,
    streams: AtomicUsize,
    sockets: AtomicUsize,
    /// Addresses with a stream or a socket, so the number of these bounds the size.
    addresses: [Mutex<HashMap<Network, Counts>>; SHARDS],
    hasher: RandomState,
    server_full: Notice,
    address_full: Notice,
    address_often: Notice,
    out_of_files: Notice,
    untrusted_proxy: UntrustedProxy,
}

/// The options, which may change while the server runs.
struct Rules {
    options: Arc<AdmissionOptions>,
    connects: Arc<Buckets>,
}

/// The counts of one address.
#[derive(Default)]
struct Counts {
    streams: usize,
    sockets: usize,
}

/// The kind of a counted connection.
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

/// Why a connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// The server has its maximum.
    Server,
    /// The client's address has its maximum.
    Address,
    /// The client's address has opened too many sockets lately; it may open one after this time.
    Often(Duration),
}

/// One counted stream or socket. Dropping the value ends the count.
pub(crate) struct Admitted {
    admission: Admission,
    /// The address for which it counts, if any.
    address: Option<Network>,
    kind: Kind,
}

impl Admitted {
    /// Makes a value that counts against no limit, for a client without a network.
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
        shown.field("options", &self.rules().options);
        shown.field("streams", &self.0.streams);
        shown.field("sockets", &self.0.sockets).finish()
    }
}

impl Admission {
    /// Makes counts of zero.
    pub fn new(options: AdmissionOptions) -> Self {
        let connects = Arc::new(Buckets::new(options.connects));
        Self(Arc::new(Shared {
            rules: RwLock::new(Arc::new(Rules {
                options: Arc::new(options),
                connects,
            })),
            streams: AtomicUsize::new(0),
            sockets: AtomicUsize::new(0),
            addresses: Default::default(),
            hasher: RandomState::default(),
            server_full: Notice::default(),
            address_full: Notice::default(),
            address_often: Notice::default(),
            out_of_files: Notice::default(),
            untrusted_proxy: UntrustedProxy::default(),
        }))
    }

    pub(crate) fn options(&self) -> Arc<AdmissionOptions> {
        Arc::clone(&self.rules().options)
    }

    /// Changes the options. They hold for new connections; those that are open stay, and are counted.
    pub fn set_options(&self, options: AdmissionOptions) {
        let old = self.rules();
        // The same rate keeps its counts.
        let connects = if old.options.connects == options.connects {
            Arc::clone(&old.connects)
        } else {
            Arc::new(Buckets::new(options.connects))
        };
        let mut rules = self.0.rules.write().unwrap_or_else(PoisonError::into_inner);
        *rules = Arc::new(Rules {
            options: Arc::new(options),
            connects,
        });
    }

    fn rules(&self) -> Arc<Rules> {
        // No code panics while it holds this lock.
        let rules = self.0.rules.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&rules)
    }

    /// Counts an accepted stream. A stream of a trusted proxy counts for no address.
    ///
    /// # Errors
    /// If the address has too many streams, or too many files are open.
    pub(crate) fn stream(&self, client: ClientAddress) -> Result<Admitted, Full> {
        let address = self.limited(client).filter(|_| !client.is_proxy());
        let admitted = self.count(Kind::Stream, address)?;
        if self.0.streams.load(Ordering::Relaxed) > self.rules().options.max_files {
            self.tell(Refused::Files);
            return Err(Full::Server);
        }
        Ok(admitted)
    }

    /// Counts a socket. If the server is full, `make_room` ends another socket, or returns `false` if it
    /// finds none.
    ///
    /// # Errors
    /// If the address or the server has its maximum, or the address comes too often.
    pub(crate) fn socket(
        &self,
        client: Option<ClientAddress>,
        make_room: impl FnOnce() -> bool,
    ) -> Result<Admitted, Full> {
        if let Some(client) = client.filter(|client| !client.is_proxy()) {
            self.count_connect(client.ip().into())?;
        }
        let address = client.and_then(|client| self.limited(client));
        let admitted = self.count(Kind::Socket, address)?;
        if let Some(reason) = self.short_of()
            && !make_room()
        {
            self.tell(reason);
            return Err(Full::Server);
        }
        Ok(admitted)
    }

    /// Notes the address of a new socket. `names_client`: whether its request has headers in which a proxy names its
    /// client.
    pub(crate) fn note_address(&self, client: ClientAddress, names_client: bool) {
        let is_ignored = names_client && client.forwarded().is_none() && !client.is_proxy();
        if is_ignored {
            connection_metrics().forwarded_ignored.increment(1);
        }
        let ignored = is_ignored.then(|| client.ip().into());
        if let Some(address) = self.0.untrusted_proxy.count(ignored, Instant::now()) {
            tracing::warn!(
                %address,
                "admission.proxy.untrusted: most connections come from this address and name \
                 others as its clients; if it is your proxy, name it in trusted_proxies"
            );
        }
    }

    /// Counts a new socket by the rate of its address.
    fn count_connect(&self, address: Network) -> Result<(), Full> {
        let Err(wait) = self.rules().connects.take(address, rate::now()) else {
            return Ok(());
        };
        metrics().limited(Limit::Connects).increment(1);
        connection_metrics().refused(Refused::Rate).increment(1);
        if let Some(refused) = self.0.address_often.count() {
            tracing::info!(
                refused, %address,
                "admission.address.often: if it is a proxy, name it in trusted_proxies; if it is an \
                 attacker, ban it"
            );
        }
        Err(Full::Often(wait))
    }

    /// What there is too little of for the sockets that are open. If no streams are counted, each socket counts as one
    /// open file.
    fn short_of(&self) -> Option<Refused> {
        let AdmissionOptions {
            max_connections,
            max_files,
            ..
        } = *self.rules().options;
        let sockets = self.0.sockets.load(Ordering::Relaxed);
        let files = self.0.streams.load(Ordering::Relaxed).max(sockets);
        if sockets > max_connections {
            Some(Refused::Full)
        } else if files > max_files.saturating_sub(FILES_FOR_HTTP) {
            Some(Refused::Files)
        } else {
            None
        }
    }

    /// Counts and logs a connection that the server has no room for.
    fn tell(&self, reason: Refused) {
        connection_metrics().refused(reason).increment(1);
        let options = self.rules().options.clone();
        if reason == Refused::Files {
            if let Some(refused) = self.0.out_of_files.count() {
                tracing::warn!(
                    refused,
                    max_files = options.max_files,
                    "admission.files.none: raise the limit of open files (LimitNOFILE, ulimit -n)"
                );
            }
        } else if let Some(refused) = self.0.server_full.count() {
            tracing::info!(
                refused,
                max_connections = options.max_connections,
                "admission.server.full: raise max_connections, or start a larger machine"
            );
        }
    }

    /// The address for which a client counts; `None` if it has no limit.
    fn limited(&self, client: ClientAddress) -> Option<Network> {
        let AddressLimit {
            max,
            holds_for_proxies,
        } = self.rules().options.per_address;
        let counts = max > 0 && (holds_for_proxies || !client.is_proxy());
        counts.then(|| client.ip().into())
    }

    fn count(&self, kind: Kind, address: Option<Network>) -> Result<Admitted, Full> {
        if let Some(address) = address {
            let max = self.rules().options.per_address.max;
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
        connection_metrics()
            .refused(Refused::AddressLimit)
            .increment(1);
        if let Some(refused) = self.0.address_full.count() {
            let max_connections_per_ip = self.rules().options.per_address.max;
            tracing::info!(
                refused, %address, max_connections_per_ip,
                "admission.address.full: if it is a proxy, name it in trusted_proxies; else raise \
                 max_connections_per_ip"
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
        // No code panics while it holds this lock.
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

/// The unit for which one client is counted: an IPv4 address, or an IPv6 network of /64.
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
