//! [`Journal`]: the front of the writer's queue on disk, while the database is away.
//!
//! Rows stay in memory as well, so that the tails of the logs are whole; the spool is for the next
//! run of the server, should this one end before the database is back.

use std::collections::VecDeque;
use std::sync::Arc;

use super::StoreError;
use super::row::Row;
use super::spool::{Record, Spool};
use super::writer::SpoolOptions;
use crate::pubsub::LogEntry;

/// What is read at once of what an earlier run has left.
const PIECE_ROWS: usize = 1_000;
const PIECE_BYTES: usize = 8_000_000;

pub(super) struct Journal {
    spool: Spool,
    /// How many rows, from the front of the queue, are in the spool.
    rows: usize,
    /// How many of them outlive a power cut.
    synced: usize,
    /// The spool has refused the next one.
    refused: bool,
}

impl Journal {
    /// Opens the spool and hands what an earlier run has left in it to `commit`, in order.
    pub(super) fn open(
        options: &SpoolOptions,
        mut commit: impl FnMut(&[Row<'_>]) -> Result<(), StoreError>,
    ) -> Result<Self, StoreError> {
        let (mut spool, found) = Spool::open(&options.dir, options.limits)?;
        if found.damaged > 0 {
            let (places, bytes) = (found.damaged, found.damaged_bytes);
            tracing::error!(places, bytes, first = ?found.damage.first(), "store.spool.damaged");
        }
        if found.rows > 0 {
            tracing::info!(rows = found.rows, "store.spool.replaying");
        }
        loop {
            let records: Vec<Record> = spool
                .peek(PIECE_ROWS, PIECE_BYTES)
                .map_err(StoreError::Spool)?;
            if records.is_empty() {
                break;
            }
            let rows: Vec<_> = records.iter().map(Row::from).collect();
            commit(&rows)?;
            spool.remove(rows.len()).map_err(StoreError::Spool)?;
        }
        Ok(Self {
            spool,
            rows: 0,
            synced: 0,
            refused: false,
        })
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

    /// How many rows, from the front of the queue, outlive a power cut.
    pub(super) fn synced(&self) -> usize {
        self.synced
    }

    pub(super) fn is_synced(&self) -> bool {
        self.synced == self.rows
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Whether the spool has no room for the next row.
    pub(super) fn is_refusing(&self) -> bool {
        self.refused
    }
}
