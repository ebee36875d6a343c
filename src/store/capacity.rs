//! [`Capacity`]: what may wait for the database, counted by those who publish.
//!
//! It is reserved in the publisher's critical section from counters of our own (a mailbox bound does
//! not hold across cloned addresses). Full means refused: the message is neither stored nor
//! broadcast, and the client is told when to try again.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

use super::options::WriterOptions;
use crate::metrics::metrics;
use crate::pubsub::StoreFull;

/// What a refused client is told to wait.
const RETRY_AFTER_MS: u64 = 1_000;

/// Rows that may wait in memory while they are in the spool as well. The spool's own bound is one
/// of bytes; this one holds for a flood of tiny messages.
const SPOOLED_ROWS: usize = 1_000_000;

/// What becomes of the messages that are published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageState {
    /// The database commits them.
    Available,
    /// They wait behind others: the database is away, or has been.
    Waiting,
    /// They are refused: the database is away, and there is no room for them, or durability is
    /// strict.
    Refusing,
}

/// Rows and bytes that wait, over the mailbox, the queue and the committer.
pub(super) struct Capacity {
    /// Rows and bytes that wait in memory alone, at most.
    plain: (usize, usize),
    /// The same for what is in the spool, too; `None` without one.
    spooled: Option<(usize, usize)>,
    rows: AtomicUsize,
    bytes: AtomicUsize,
    /// Rows that are on disk in the spool.
    safe: AtomicUsize,
    state: AtomicU8,
    away: AtomicBool,
}

impl Capacity {
    pub(super) fn new(options: &WriterOptions) -> Self {
        let spool = options.spool.as_ref();
        let spool_bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        Self {
            plain: (options.rows, options.bytes),
            spooled: spool.map(|spool| {
                let bytes = spool_bytes(spool.limits.bytes).max(options.bytes);
                (SPOOLED_ROWS.max(options.rows), bytes)
            }),
            rows: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            safe: AtomicUsize::new(0),
            state: AtomicU8::new(StorageState::Available as u8),
            away: AtomicBool::new(false),
        }
    }

    /// Room for a row with so many bytes of payload.
    pub(super) fn reserve(&self, bytes: usize) -> Result<(), StoreFull> {
        let state = self.state();
        if state == StorageState::Refusing {
            return Err(self.refuse());
        }
        let (max_rows, max_bytes) = match (state, self.spooled) {
            (StorageState::Waiting, Some(spooled)) => spooled,
            _ => self.plain,
        };
        let rows_before = self.rows.fetch_add(1, Ordering::AcqRel);
        let bytes_before = self.bytes.fetch_add(bytes, Ordering::AcqRel);
        metrics().writer_queue.increment(1.0);
        let full = rows_before >= max_rows || bytes_before + bytes > max_bytes;
        // One row always enters an empty queue, whatever its size.
        if full && rows_before > 0 {
            self.release(1, bytes);
            return Err(self.refuse());
        }
        Ok(())
    }

    /// Counts rows that an earlier run has left.
    pub(super) fn add_left(&self, rows: usize) {
        self.rows.fetch_add(rows, Ordering::AcqRel);
        metrics().writer_queue.increment(rows as f64);
        self.set_safe(rows);
    }

    /// Says no.
    pub(super) fn refuse(&self) -> StoreFull {
        metrics().writer_refused.increment(1);
        StoreFull {
            retry_after_ms: RETRY_AFTER_MS,
        }
    }

    pub(super) fn release(&self, rows: usize, bytes: usize) {
        self.rows.fetch_sub(rows, Ordering::AcqRel);
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
        metrics().writer_queue.decrement(rows as f64);
    }

    /// Rows that are not committed.
    pub(super) fn waiting(&self) -> usize {
        self.rows.load(Ordering::Acquire)
    }

    /// Rows that are neither committed nor on disk in the spool.
    pub(super) fn at_risk(&self) -> usize {
        self.waiting()
            .saturating_sub(self.safe.load(Ordering::Acquire))
    }

    pub(super) fn set_safe(&self, rows: usize) {
        self.safe.store(rows, Ordering::Release);
        metrics().spool_rows.set(rows as f64);
    }

    pub(super) fn state(&self) -> StorageState {
        match self.state.load(Ordering::Acquire) {
            state if state == StorageState::Available as u8 => StorageState::Available,
            state if state == StorageState::Waiting as u8 => StorageState::Waiting,
            _ => StorageState::Refusing,
        }
    }

    /// Whether the database does not answer. What has waited for it is not committed at once when it
    /// does again.
    pub(super) fn is_away(&self) -> bool {
        self.away.load(Ordering::Acquire)
    }

    pub(super) fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::Release);
    }

    pub(super) fn set_state(&self, state: StorageState) {
        self.state.store(state as u8, Ordering::Release);
    }
}
