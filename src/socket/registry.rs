//! [`Sockets`]: all connections of an endpoint, their number, and their drain at shutdown.
//! Phoenix: the socket drainer.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::{Addr, WeakAddr};
use tokio::sync::watch;
use tokio::time::Instant;

use super::inspect::ConnectionId;
use super::server::{CheckPermit, Displace, Drain, SocketServer};
use crate::admission::{Admission, Admitted, ClientAddress, Full};
use crate::ban::Bans;
use crate::lock::lock;
use crate::metrics::metrics;

/// The drain of connections at shutdown. Phoenix: `drainer`.
///
/// ```
/// use slackir::socket::DrainOptions;
///
/// let drain = DrainOptions::default().batch_size(1_000);
/// # let _ = drain;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DrainOptions {
    /// Connections that are closed at once. Default 10,000.
    pub batch_size: usize,
    /// Time between two batches. Default 2 s.
    pub batch_interval: Duration,
    /// Time for everything, `terminate` of all channels included. Default 30 s.
    pub shutdown: Duration,
}

setters!(DrainOptions {
    batch_size: usize,
    batch_interval: Duration,
    shutdown: Duration,
});

impl Default for DrainOptions {
    fn default() -> Self {
        Self {
            batch_size: 10_000,
            batch_interval: Duration::from_secs(2),
            shutdown: Duration::from_secs(30),
        }
    }
}

/// A drain waits at most this long for clients to read their last frames, once their channels have ended.
const STREAM_GRACE: Duration = Duration::from_secs(5);

/// The connections that are asked in one turn of the thread.
pub(super) const ASKED_AT_ONCE: usize = 500;

/// The connections of one endpoint, on all its workers.
#[derive(Clone)]
pub(crate) struct Sockets {
    shared: Arc<SharedSockets>,
}

struct SharedSockets {
    admission: Admission,
    bans: Bans,
    open: Mutex<OpenSockets>,
    count: watch::Sender<usize>,
    /// TCP streams that the server owns and has not closed yet.
    streams: watch::Sender<usize>,
    /// The last ticket.
    last: AtomicU64,
    draining: AtomicBool,
    /// Held while connections are described: one list at a time.
    listing: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct OpenSockets {
    /// By their numbers in log lines. Weak, because each strong address costs allocations of its own.
    sockets: BTreeMap<NonZeroU64, WeakAddr<SocketServer>>,
    /// The connections without a joined channel, by tickets that increase: since when, and their keys.
    joinless: BTreeMap<NonZeroU64, (Instant, NonZeroU64)>,
}

impl OpenSockets {
    fn newest(&self) -> Option<NonZeroU64> {
        self.sockets.last_key_value().map(|(key, _)| *key)
    }
}

impl Sockets {
    #[cfg(test)]
    pub(crate) fn new(admission: Admission) -> Self {
        Self::with_bans(admission, Bans::default())
    }

    pub(crate) fn with_bans(admission: Admission, bans: Bans) -> Self {
        Self {
            shared: Arc::new(SharedSockets {
                admission,
                bans,
                open: Mutex::default(),
                count: watch::Sender::new(0),
                streams: watch::Sender::new(0),
                last: AtomicU64::new(0),
                draining: AtomicBool::new(false),
                listing: tokio::sync::Mutex::default(),
            }),
        }
    }

    /// OpenSockets connections, those included whose channels are still terminating.
    pub(crate) fn count(&self) -> usize {
        *self.shared.count.borrow()
    }

    /// Whether new connections are refused.
    pub(crate) fn is_draining(&self) -> bool {
        self.shared.draining.load(Ordering::Acquire)
    }

    /// The admission of new connections.
    pub(crate) fn admission(&self) -> &Admission {
        &self.shared.admission
    }

    /// The clients that may not connect.
    pub(crate) fn bans(&self) -> &Bans {
        &self.shared.bans
    }

    /// Lets a client in. If the server is full, a connection that has joined nothing for long makes room.
    ///
    /// # Errors
    /// If the client's address or the server has no room.
    pub(crate) fn admit(&self, client: Option<ClientAddress>) -> Result<Admitted, Full> {
        let admission = &self.shared.admission;
        admission.socket(client, || self.displace(admission.options().join_within))
    }

    /// Ends the connection that has had no channel for the longest time. `false` if none has been without a channel
    /// for `join_within`.
    fn displace(&self, join_within: Duration) -> bool {
        let mut open = lock(&self.shared.open);
        let Some((_, &(since, key))) = open.joinless.first_key_value() else {
            return false;
        };
        if since.elapsed() < join_within {
            return false;
        }
        open.joinless.pop_first();
        let socket = open.sockets.get(&key).and_then(WeakAddr::upgrade);
        drop(open);
        metrics().displaced.increment(1);
        if let Some(socket) = socket {
            socket.do_send(Displace);
        }
        true
    }

    /// The registration of a connection that is about to begin.
    pub(crate) fn registration(&self) -> Registration {
        Registration {
            sockets: self.clone(),
            key: None,
            joinless: Cell::new(None),
        }
    }

    /// A number that is higher than those before.
    fn ticket(&self) -> NonZeroU64 {
        let before = self.shared.last.fetch_add(1, Ordering::Relaxed);
        NonZeroU64::MIN.saturating_add(before)
    }

    /// Counts a stream of the server's own until the guard is dropped. The stream outlives its connection's actor
    /// until the last frames are written.
    pub(crate) fn open_stream(&self, admitted: Option<Admitted>) -> OpenStream {
        self.shared.streams.send_modify(|open| *open += 1);
        OpenStream {
            sockets: self.clone(),
            _admitted: admitted,
        }
    }

    /// Asks all connections for their permits, and whether they are banned. A connection that registers meanwhile asks its own.
    pub(crate) async fn check_permits(&self) {
        let mut last = Unbounded;
        // Under the lock: a later registration sees what the caller has changed.
        let Some(end) = lock(&self.shared.open).newest() else {
            return;
        };
        loop {
            let checked: Vec<_> = {
                let open = lock(&self.shared.open);
                let sockets = open.sockets.range((last, Included(end)));
                let sockets = sockets.take(ASKED_AT_ONCE);
                sockets
                    .map(|(key, socket)| (*key, socket.clone()))
                    .collect()
            };
            let Some(&(key, _)) = checked.last() else {
                return;
            };
            let open = checked.iter().filter_map(|(_, socket)| socket.upgrade());
            open.for_each(|socket| socket.do_send(CheckPermit));
            if key == end {
                return;
            }
            last = Excluded(key);
            tokio::task::yield_now().await;
        }
    }

    /// Held while connections are described.
    pub(super) async fn one_listing(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.shared.listing.lock().await
    }

    /// The open connection with this id.
    pub(super) fn find(&self, id: ConnectionId) -> Option<Addr<SocketServer>> {
        let open = lock(&self.shared.open);
        open.sockets.get(&id.number()).and_then(WeakAddr::upgrade)
    }

    /// The newest connections, or those before `last`; at most so many. Returns the oldest of them, too; `None` if
    /// there are none.
    pub(super) fn newest_before(
        &self,
        last: Option<ConnectionId>,
        most: usize,
    ) -> Option<(ConnectionId, Vec<Addr<SocketServer>>)> {
        let open = lock(&self.shared.open);
        let end = last.map_or(Unbounded, |last| Excluded(last.number()));
        let newest = open.sockets.range((Unbounded, end)).rev().take(most);
        let mut oldest = None;
        let sockets = newest.filter_map(|(key, socket)| {
            oldest = Some(ConnectionId::from(*key));
            socket.upgrade()
        });
        let sockets = sockets.collect();
        Some((oldest?, sockets))
    }

    /// Refuses new connections and drains the open ones, batch after batch, then waits until none is left. Returns
    /// the number of connections left at the timeout.
    pub(crate) async fn drain(&self, options: DrainOptions) -> usize {
        self.shared.draining.store(true, Ordering::Release);
        metrics().draining.set(1.0);
        let deadline = Instant::now() + options.shutdown;
        let mut count = self.shared.count.subscribe();
        let all_gone = async {
            self.send_away(options).await;
            // The sender lives as long as `self`.
            let _ = count.wait_for(|&open| open == 0).await;
        };
        if tokio::time::timeout_at(deadline, all_gone).await.is_err() {
            let open = lock(&self.shared.open);
            open.sockets.values().for_each(send_away);
        }
        let mut streams = self.shared.streams.subscribe();
        let goodbye = deadline.min(Instant::now() + STREAM_GRACE);
        // A client that does not read in time is cut off with the server.
        let _ = tokio::time::timeout_at(goodbye, streams.wait_for(|&open| open == 0)).await;
        self.count()
    }

    /// Drains every open connection, batch after batch.
    pub(crate) async fn send_away(&self, options: DrainOptions) {
        let open: Vec<_> = lock(&self.shared.open).sockets.values().cloned().collect();
        for (index, batch) in open.chunks(options.batch_size.max(1)).enumerate() {
            if index > 0 {
                tokio::time::sleep(options.batch_interval).await;
            }
            batch.iter().for_each(send_away);
        }
    }
}

/// Drains one connection, unless it has ended.
fn send_away(socket: &WeakAddr<SocketServer>) {
    if let Some(socket) = socket.upgrade() {
        socket.do_send(Drain);
    }
}

/// One counted stream.
pub(crate) struct OpenStream {
    sockets: Sockets,
    /// Counts it among the streams of the server and of its client's address.
    _admitted: Option<Admitted>,
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.sockets.shared.streams.send_modify(|open| *open -= 1);
    }
}

/// One connection; it is counted from its actor's start until this is dropped.
pub(crate) struct Registration {
    sockets: Sockets,
    key: Option<NonZeroU64>,
    /// Its ticket among those without a joined channel.
    joinless: Cell<Option<NonZeroU64>>,
}

impl Registration {
    /// The connections of its endpoint.
    pub(crate) fn sockets(&self) -> &Sockets {
        &self.sockets
    }

    /// Counts the connection, whose actor has started.
    pub(super) fn enter(&mut self, key: NonZeroU64, socket: &Addr<SocketServer>) {
        let ticket = self.sockets.ticket();
        self.key = Some(key);
        self.joinless.set(Some(ticket));
        let shared = &self.sockets.shared;
        let mut open = lock(&shared.open);
        open.sockets.insert(key, socket.downgrade());
        open.joinless.insert(ticket, (Instant::now(), key));
        shared.count.send_replace(open.sockets.len());
        drop(open);
        // Its handshake may have begun before the drain did.
        if self.sockets.is_draining() {
            socket.do_send(Drain);
        }
    }

    /// Notes whether the connection has a joined channel.
    pub(super) fn set_joined(&self, joined: bool) {
        let Some(key) = self.key.filter(|_| joined == self.joinless.get().is_some()) else {
            return;
        };
        let mut open = lock(&self.sockets.shared.open);
        if let Some(ticket) = self.joinless.take() {
            open.joinless.remove(&ticket);
        } else {
            let ticket = self.sockets.ticket();
            open.joinless.insert(ticket, (Instant::now(), key));
            self.joinless.set(Some(ticket));
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        let shared = &self.sockets.shared;
        let mut open = lock(&shared.open);
        open.sockets.remove(&key);
        if let Some(ticket) = self.joinless.get() {
            open.joinless.remove(&ticket);
        }
        shared.count.send_replace(open.sockets.len());
        drop(open);
    }
}
