//! [`Capacity`]: the bound of the rows that are not committed.
//!
//! Publishers reserve room in their critical section. The counters are here, because the bound of an actor's mailbox
//! does not hold across cloned addresses. Without room a message is refused: it is neither stored nor broadcast, and
//! the client is asked to wait before its retry.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

use crate::log::StoreFull;
use crate::metrics::metrics;
use crate::notice::Notice;
use crate::store::options::WriterOptions;

/// The wait of a refused client before its retry.
const RETRY_AFTER_MS: u64 = 1_000;

/// The most rows that are both in memory and in the spool. The spool's bound is in bytes; this one bounds a flood of
/// tiny messages.
const SPOOLED_ROWS: usize = 1_000_000;

/// How new messages are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageState {
    /// The database commits them.
    Available,
    /// They are queued: the database is unreachable, or has older rows to commit first.
    Waiting,
    /// They are refused: the database is unreachable, and there is no room for them or the log is strict.
    Refusing,
}

/// Rows and bytes in the intake, the queue and the committer.
pub(in crate::store) struct Capacity {
    /// The bound without a spool, or while it is not in use: rows and bytes.
    plain: (usize, usize),
    /// The bound while rows are in the spool as well; `None` without a spool.
    spooled: Option<(usize, usize)>,
    rows: AtomicUsize,
    bytes: AtomicUsize,
    /// Rows that are on disk in the spool.
    safe: AtomicUsize,
    state: AtomicU8,
    away: AtomicBool,
    refusing: Notice,
}

impl Capacity {
    pub(in crate::store) fn new(options: &WriterOptions) -> Self {
        let spool = options.spool.as_ref();
        let spool_bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        metrics().writer_queue_limit.set(options.rows as f64);
        let spool_limit = spool.map_or(0, |spool| spool.limits.bytes);
        metrics().spool_limit.set(spool_limit as f64);
        metrics().database_up.set(1.0);
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
            refusing: Notice::default(),
        }
    }

    /// Reserves room for a row with so many bytes of payload.
    pub(in crate::store) fn reserve(&self, bytes: usize) -> Result<(), StoreFull> {
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
        metrics().writer_queue_bytes.increment(bytes as f64);
        let full = rows_before >= max_rows || bytes_before + bytes > max_bytes;
        // An empty queue takes one row of any size.
        if full && rows_before > 0 {
            self.release(1, bytes);
            return Err(self.refuse());
        }
        Ok(())
    }

    /// Counts rows of an earlier process, which are in the spool.
    pub(in crate::store) fn add_earlier(&self, rows: usize) {
        self.rows.fetch_add(rows, Ordering::AcqRel);
        metrics().writer_queue.increment(rows as f64);
        self.safe.store(rows, Ordering::Release);
    }

    pub(in crate::store) fn refuse(&self) -> StoreFull {
        metrics().writer_refused.increment(1);
        if let Some(refused) = self.refusing.count() {
            tracing::error!(
                refused,
                "store.writer.refusing: nothing can save messages; mend the database, or raise \
                 writer_rows, writer_bytes and spool_bytes"
            );
        }
        StoreFull {
            retry_after_ms: RETRY_AFTER_MS,
        }
    }

    pub(in crate::store) fn release(&self, rows: usize, bytes: usize) {
        self.rows.fetch_sub(rows, Ordering::AcqRel);
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
        metrics().writer_queue.decrement(rows as f64);
        metrics().writer_queue_bytes.decrement(bytes as f64);
    }

    /// A row takes more bytes, or fewer, than were reserved for it.
    #[cfg(feature = "_cluster")]
    pub(in crate::store) fn resize(&self, reserved: usize, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
        self.bytes.fetch_sub(reserved, Ordering::AcqRel);
        let change = bytes as f64 - reserved as f64;
        metrics().writer_queue_bytes.increment(change);
    }

    /// Rows that are not committed.
    pub(in crate::store) fn waiting(&self) -> usize {
        self.rows.load(Ordering::Acquire)
    }

    /// Rows that are neither committed nor on disk in the spool.
    pub(in crate::store) fn at_risk(&self) -> usize {
        self.waiting()
            .saturating_sub(self.safe.load(Ordering::Acquire))
    }

    /// Rows that are on disk in the spool, which has so many bytes.
    pub(in crate::store) fn set_safe(&self, rows: usize, bytes: u64) {
        self.safe.store(rows, Ordering::Release);
        metrics().spool_bytes.set(bytes as f64);
        metrics().spool_rows.set(rows as f64);
    }

    pub(in crate::store) fn state(&self) -> StorageState {
        match self.state.load(Ordering::Acquire) {
            state if state == StorageState::Available as u8 => StorageState::Available,
            state if state == StorageState::Waiting as u8 => StorageState::Waiting,
            _ => StorageState::Refusing,
        }
    }

    /// Whether the database is unreachable. This can end before [`StorageState::Waiting`] does: older rows are
    /// committed first.
    pub(in crate::store) fn is_away(&self) -> bool {
        self.away.load(Ordering::Acquire)
    }

    /// The writer's state has changed. Only the writer calls this.
    pub(in crate::store) fn set_state(&self, state: StorageState, away: bool) {
        self.state.store(state as u8, Ordering::Release);
        if self.away.swap(away, Ordering::AcqRel) != away {
            metrics().database_up.set(f64::from(u8::from(!away)));
        }
    }
}
