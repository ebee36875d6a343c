//! All connections of an endpoint: how many there are, and how they are sent away at shutdown.
//! Phoenix: the socket drainer.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::{Addr, WeakAddr};
use tokio::sync::watch;
use tokio::time::Instant;

use super::server::{Drain, SocketServer};
use crate::metrics::metrics;
use crate::pubsub::lock;

/// How connections are sent away at shutdown. Phoenix: `drainer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainOptions {
    /// Connections told to go at once. Default 10,000.
    pub batch_size: usize,
    /// Time between two batches. Default 2 s.
    pub batch_interval: Duration,
    /// Time for everything, `terminate` of all channels included. Default 30 s.
    pub shutdown: Duration,
}

impl Default for DrainOptions {
    fn default() -> Self {
        Self {
            batch_size: 10_000,
            batch_interval: Duration::from_secs(2),
            shutdown: Duration::from_secs(30),
        }
    }
}

/// How long a drain waits for what the last clients are still to read, once their channels have
/// ended.
const STREAM_GRACE: Duration = Duration::from_secs(5);

/// The connections of one endpoint, on all its workers.
#[derive(Clone)]
pub(crate) struct Sockets {
    shared: Arc<Shared>,
}

struct Shared {
    /// Weak, because each strong address costs allocations of its own.
    open: Mutex<HashMap<u64, WeakAddr<SocketServer>>>,
    count: watch::Sender<usize>,
    /// TCP streams that the server owns and has not closed yet.
    streams: watch::Sender<usize>,
    next: AtomicU64,
    draining: AtomicBool,
}

impl Sockets {
    pub(crate) fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                open: Mutex::default(),
                count: watch::Sender::new(0),
                streams: watch::Sender::new(0),
                next: AtomicU64::new(0),
                draining: AtomicBool::new(false),
            }),
        }
    }

    /// Open connections, those included whose channels are still terminating.
    pub(crate) fn count(&self) -> usize {
        *self.shared.count.borrow()
    }

    /// Whether new connections are refused.
    pub(crate) fn is_draining(&self) -> bool {
        self.shared.draining.load(Ordering::Acquire)
    }

    /// Counts a connection until the registration is dropped.
    pub(super) fn register(&self, socket: &Addr<SocketServer>) -> Registration {
        let key = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let mut open = lock(&self.shared.open);
        open.insert(key, socket.downgrade());
        self.shared.count.send_replace(open.len());
        drop(open);
        // Its handshake may have begun before the drain did.
        if self.is_draining() {
            socket.do_send(Drain);
        }
        metrics().connections.increment(1);
        Registration {
            sockets: self.clone(),
            key,
        }
    }

    /// Counts a stream of the server's own until the guard is dropped: it outlives its connection's
    /// actor by what is still to be written.
    pub(crate) fn open_stream(&self) -> OpenStream {
        self.shared.streams.send_modify(|open| *open += 1);
        OpenStream(self.clone())
    }

    /// Refuses new connections and closes the open ones with 1012, batch after batch, then waits
    /// until none is left. Returns how many were left when the time was over.
    pub(crate) async fn drain(&self, options: DrainOptions) -> usize {
        self.shared.draining.store(true, Ordering::Release);
        let deadline = Instant::now() + options.shutdown;
        let mut count = self.shared.count.subscribe();
        let all_gone = async {
            self.send_away(options).await;
            // The sender lives as long as `self`.
            let _ = count.wait_for(|&open| open == 0).await;
        };
        if tokio::time::timeout_at(deadline, all_gone).await.is_err() {
            lock(&self.shared.open).values().for_each(send_away);
        }
        let mut streams = self.shared.streams.subscribe();
        let goodbye = deadline.min(Instant::now() + STREAM_GRACE);
        // A client that does not read in time is cut off with the server.
        let _ = tokio::time::timeout_at(goodbye, streams.wait_for(|&open| open == 0)).await;
        self.count()
    }

    /// Tells every open connection to go, batch after batch.
    async fn send_away(&self, options: DrainOptions) {
        let open: Vec<_> = lock(&self.shared.open).values().cloned().collect();
        for (index, batch) in open.chunks(options.batch_size.max(1)).enumerate() {
            if index > 0 {
                tokio::time::sleep(options.batch_interval).await;
            }
            batch.iter().for_each(send_away);
        }
    }
}

/// Tells one connection to go, unless it has ended.
fn send_away(socket: &WeakAddr<SocketServer>) {
    if let Some(socket) = socket.upgrade() {
        socket.do_send(Drain);
    }
}

/// One counted stream.
pub(crate) struct OpenStream(Sockets);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.shared.streams.send_modify(|open| *open -= 1);
    }
}

/// One counted connection.
pub(super) struct Registration {
    sockets: Sockets,
    key: u64,
}

impl Drop for Registration {
    fn drop(&mut self) {
        let shared = &self.sockets.shared;
        let mut open = lock(&shared.open);
        open.remove(&self.key);
        shared.count.send_replace(open.len());
        drop(open);
        metrics().connections.decrement(1);
    }
}
