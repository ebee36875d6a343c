//! [`Journal`]: the front of the writer's queue on disk, while the database is unreachable.
//!
//! The rows stay in memory as well, because the tails of the logs need them. If this process ends before the database
//! is reachable again, the next process commits them from the spool.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::log::LogEntry;

use crate::store::backend::Fault;
use crate::store::options::SpoolOptions;
use crate::store::spool::{Record, Spool};
use crate::store::tables::row::PendingRow;
use crate::store::write::batch::MAX_BATCH;

/// One read of the spool has at most [`MAX_BATCH`] rows with these bytes.
const PIECE_BYTES: usize = 8_000_000;

pub(in crate::store) struct Journal {
    spool: Spool,
    /// How many rows of an earlier process are in the spool, before those of the queue.
    earlier: usize,
    /// How many rows, from the front of the queue, are in the spool.
    rows: usize,
    /// How many of them survive a power cut.
    synced: usize,
    /// The spool has refused the next row.
    refused: bool,
}

impl Journal {
    /// Opens the spool, which may hold rows of an earlier process.
    pub(in crate::store) fn open(options: &SpoolOptions) -> Result<Self, Fault> {
        let (spool, found) = Spool::open(&options.dir, options.limits)?;
        if found.damaged > 0 {
            let (places, bytes) = (found.damaged, found.damaged_bytes);
            tracing::error!(
                places, bytes, first = ?found.damage.first(),
                "store.spool.damaged: the rest is saved; check the disk of the spool"
            );
        }
        if found.rows > 0 {
            tracing::info!(rows = found.rows, "store.spool.found");
        }
        Ok(Self {
            spool,
            earlier: found.rows,
            rows: 0,
            synced: 0,
            refused: false,
        })
    }

    /// How many rows of an earlier process must be committed before any row of the queue.
    pub(in crate::store) fn earlier(&self) -> usize {
        self.earlier
    }

    /// The oldest rows of an earlier process.
    pub(in crate::store) fn read_earlier(&mut self) -> std::io::Result<Vec<Record>> {
        let limit = self.earlier.min(MAX_BATCH);
        let records = self.spool.peek(limit, PIECE_BYTES)?;
        if records.is_empty() {
            // The disk has damaged them. The spool has logged that.
            self.earlier = 0;
        }
        Ok(records)
    }

    /// The database has this many of the rows of the last [`read_earlier`](Self::read_earlier).
    pub(in crate::store) fn remove_earlier(&mut self, rows: usize) {
        if rows == 0 {
            return;
        }
        self.earlier -= rows.min(self.earlier);
        if let Err(error) = self.spool.remove(rows) {
            tracing::warn!(
                %error,
                "store.spool.not_removed: see that the server may write into the spool's folder"
            );
        }
    }

    /// Appends the rows of the queue that the spool does not have yet, up to the first that it refuses.
    pub(in crate::store) fn take(&mut self, queue: &VecDeque<Arc<LogEntry>>) {
        for entry in queue.range(self.rows..) {
            if let Err(error) = self.spool.append(&PendingRow::from(&**entry).record()) {
                if !std::mem::replace(&mut self.refused, true) {
                    tracing::error!(
                        %error, rows = self.rows,
                        "store.spool.refusing: messages are refused; mend the database, or give \
                         the spool more room (spool_bytes)"
                    );
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
    pub(in crate::store) fn remove(&mut self, rows: usize) {
        let rows = rows.min(self.rows);
        if rows == 0 {
            return;
        }
        self.rows -= rows;
        self.synced = self.synced.saturating_sub(rows);
        // These rows are committed, so damage among them does no harm.
        let all = if self.rows == 0 { usize::MAX } else { rows };
        if let Err(error) = self.drop_front(all) {
            tracing::warn!(
                %error,
                "store.spool.not_removed: see that the server may write into the spool's folder"
            );
        }
    }

    fn drop_front(&mut self, rows: usize) -> std::io::Result<()> {
        let mut left = rows;
        while left > 0 && !self.spool.is_empty() {
            let read = self.spool.peek(left.min(MAX_BATCH), PIECE_BYTES)?.len();
            self.spool.remove(read)?;
            left -= read;
        }
        Ok(())
    }

    /// Makes the rows survive a power cut. After a failure the next call tries again.
    pub(in crate::store) fn sync(&mut self) {
        match self.spool.sync() {
            Ok(()) => self.synced = self.rows,
            Err(error) => tracing::error!(
                %error,
                "store.spool.not_synced: a power failure may lose messages; check the disk of the \
                 spool"
            ),
        }
    }

    /// How many rows survive a power cut.
    pub(in crate::store) fn safe(&self) -> usize {
        self.earlier + self.synced
    }

    /// The bytes of the spool on disk.
    pub(in crate::store) fn bytes(&self) -> u64 {
        self.spool.bytes()
    }

    /// Whether all rows in the spool survive a power cut.
    pub(in crate::store) fn is_synced(&self) -> bool {
        self.synced == self.rows
    }

    /// Whether the spool has the whole queue.
    pub(in crate::store) fn holds(&self, queue: &VecDeque<Arc<LogEntry>>) -> bool {
        self.rows == queue.len()
    }

    pub(in crate::store) fn is_empty(&self) -> bool {
        self.rows + self.earlier == 0
    }

    /// Whether the spool has refused the next row.
    pub(in crate::store) fn is_refusing(&self) -> bool {
        self.refused
    }
}
