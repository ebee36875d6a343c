//! [`BusCounters`]: what a bus has done, for metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::metrics::BusTotals;

/// What a bus has done since its start. All but [`Self::waiting_bytes`] only grow.
#[derive(Debug, Default)]
pub(crate) struct BusCounters {
    /// How often the bus came up.
    pub(crate) connects: AtomicU64,
    /// How often the bus went down.
    pub(crate) disconnects: AtomicU64,
    /// Messages that were sent without an order.
    pub(crate) sent: AtomicU64,
    /// Messages that were dropped because the bus was down or too many bytes waited.
    pub(crate) dropped: AtomicU64,
    /// Messages that arrived on any channel.
    pub(crate) received: AtomicU64,
    /// Publishes that the server has taken.
    pub(crate) published: AtomicU64,
    /// Publishes without an answer when the connection was lost.
    #[cfg(feature = "redis")]
    pub(crate) in_doubt: AtomicU64,
    /// Publishes in doubt that the server had not taken, and that were sent again.
    #[cfg(feature = "redis")]
    pub(crate) resent: AtomicU64,
    /// Publishes that the server had no room for.
    pub(crate) refused: AtomicU64,
    /// Publishes in doubt of which nobody can know whether the server took them.
    pub(crate) unconfirmed: AtomicU64,
    /// Microseconds from writing a publish to its answer, summed up over [`Self::replies`].
    pub(crate) reply_micros: AtomicU64,
    /// Answers to publishes.
    pub(crate) replies: AtomicU64,
    /// Rows that were left in a journal because too many waited to be removed.
    #[cfg(feature = "redis")]
    pub(crate) left_in_journal: AtomicU64,
    /// Bytes of messages that were handed over and that the server has not confirmed yet.
    pub(crate) waiting_bytes: AtomicU64,
}

impl BusCounters {
    /// The numbers of this moment.
    pub(crate) fn totals(&self) -> BusTotals {
        let [sent, published, received, dropped, unconfirmed] = [
            &self.sent,
            &self.published,
            &self.received,
            &self.dropped,
            &self.unconfirmed,
        ]
        .map(|counter| counter.load(Relaxed));
        BusTotals {
            sent,
            published,
            received,
            dropped,
            unconfirmed,
            refused: self.refused.load(Relaxed),
            disconnects: self.disconnects.load(Relaxed),
            replies: self.replies.load(Relaxed),
            reply_micros: self.reply_micros.load(Relaxed),
            waiting_bytes: self.waiting_bytes.load(Relaxed),
        }
    }
}

/// Adds to a counter.
pub(crate) fn add(counter: &AtomicU64, number: u64) {
    counter.fetch_add(number, Relaxed);
}

/// The share of one message in [`BusCounters::waiting_bytes`], until it is dropped.
#[derive(Debug)]
pub(crate) struct Waiting {
    counters: Arc<BusCounters>,
    bytes: u64,
}

impl Waiting {
    /// Counts `bytes`.
    pub(crate) fn new(counters: &Arc<BusCounters>, bytes: usize) -> Self {
        let bytes = bytes as u64;
        add(&counters.waiting_bytes, bytes);
        Self {
            counters: Arc::clone(counters),
            bytes,
        }
    }

    /// Counts `bytes`, unless there would be more than `most` then.
    pub(crate) fn within(counters: &Arc<BusCounters>, bytes: usize, most: u64) -> Option<Self> {
        let waiting = Self::new(counters, bytes);
        (counters.waiting_bytes.load(Relaxed) <= most).then_some(waiting)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.counters.waiting_bytes.fetch_sub(self.bytes, Relaxed);
    }
}
