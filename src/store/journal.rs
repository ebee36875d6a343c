//! [`Journal`]: the front of the writer's queue on disk, while the database is away.
//!
//! Rows stay in memory as well, so that the tails of the logs are whole; the spool is for the next
//! run of the server, should this one end before the database is back.

use std::collections::VecDeque;
use std::sync::Arc;

use super::StoreError;
use super::options::SpoolOptions;
use super::row::Row;
use super::spool::{Record, Spool};
use crate::pubsub::LogEntry;

/// What is read at once of what an earlier run has left.
const PIECE_ROWS: usize = 1_000;
const PIECE_BYTES: usize = 8_000_000;

pub(super) struct Journal {
    spool: Spool,
    /// How many rows of an earlier run are in the spool, before those of the queue.
    left: usize,
    /// How many rows, from the front of the queue, are in the spool.
    rows: usize,
    /// How many of them outlive a power cut.
    synced: usize,
    /// The spool has refused the next one.
    refused: bool,
}

impl Journal {
    /// Opens the spool; an earlier run may have left something in it.
    pub(super) fn open(options: &SpoolOptions) -> Result<Self, StoreError> {
        let (spool, found) = Spool::open(&options.dir, options.limits)?;
        if found.damaged > 0 {
            let (places, bytes) = (found.damaged, found.damaged_bytes);
            tracing::error!(places, bytes, first = ?found.damage.first(), "store.spool.damaged");
        }
        if found.rows > 0 {
            tracing::info!(rows = found.rows, "store.spool.found");
        }
        Ok(Self {
            spool,
            left: found.rows,
            rows: 0,
            synced: 0,
            refused: false,
        })
    }

    /// How many rows of an earlier run are still to be committed, before any of the queue.
    pub(super) fn left(&self) -> usize {
        self.left
    }

    /// The oldest rows of an earlier run.
    pub(super) fn read_left(&mut self) -> std::io::Result<Vec<Record>> {
        let limit = self.left.min(PIECE_ROWS);
        let records = self.spool.peek(limit, PIECE_BYTES)?;
        if records.is_empty() {
            // The disk has spoiled them, and the spool has said so.
            self.left = 0;
        }
        Ok(records)
    }

    /// The database has so many of the rows that were read.
    pub(super) fn remove_left(&mut self, rows: usize) {
        if rows == 0 {
            return;
        }
        self.left -= rows.min(self.left);
        if let Err(error) = self.spool.remove(rows) {
            tracing::warn!(%error, "store.spool.not_removed");
        }
    }

    /// Takes the rows of the queue that are not in it yet, up to the first that the spool refuses.
    pub(super) fn take(&mut self, queue: &VecDeque<Arc<LogEntry>>) {
        for entry in queue.range(self.rows..) {
            if let Err(error) = self.spool.append(&Row::from(&**entry).record()) {
                if !std::mem::replace(&mut self.refused, true) {
                    tracing::error!(%error, rows = self.rows, "store.spool.refusing");
                }
                return;
            }
            self.rows += 1;
        }
        if std::mem::take(&mut self.refused) {
            tracing::info!("store.spool.taking_again");
        }
    }

    /// The database has these rows, from the front of the queue.
    pub(super) fn remove(&mut self, rows: usize) {
        let rows = rows.min(self.rows);
        if rows == 0 {
            return;
        }
        self.rows -= rows;
        self.synced = self.synced.saturating_sub(rows);
        // Rows that cannot be read back are not worth keeping: they are committed.
        let all = if self.rows == 0 { usize::MAX } else { rows };
        if let Err(error) = self.drop_front(all) {
            tracing::warn!(%error, "store.spool.not_removed");
        }
    }

    fn drop_front(&mut self, rows: usize) -> std::io::Result<()> {
        let mut left = rows;
        while left > 0 && !self.spool.is_empty() {
            let read = self.spool.peek(left.min(PIECE_ROWS), PIECE_BYTES)?.len();
            self.spool.remove(read)?;
            left -= read;
        }
        Ok(())
    }

    /// Makes what it has taken outlive a power cut; tries again the next time.
    pub(super) fn sync(&mut self) {
        match self.spool.sync() {
            Ok(()) => self.synced = self.rows,
            Err(error) => tracing::error!(%error, "store.spool.not_synced"),
        }
    }

    /// How many rows outlive a power cut.
    pub(super) fn safe(&self) -> usize {
        self.left + self.synced
    }

    /// Whether all that it has taken outlives a power cut.
    pub(super) fn is_synced(&self) -> bool {
        self.synced == self.rows
    }

    /// Whether it has all of the queue.
    pub(super) fn holds(&self, queue: &VecDeque<Arc<LogEntry>>) -> bool {
        self.rows == queue.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows + self.left == 0
    }

    /// Whether the spool has no room for the next row.
    pub(super) fn is_refusing(&self) -> bool {
        self.refused
    }
}
