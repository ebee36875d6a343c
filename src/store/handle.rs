//! [`DbWriterHandle`]: the writer and the readers as the topic log sees them.
//!
//! **Bound.** Capacity is reserved in the publisher's critical section from counters of our own (a
//! mailbox bound does not hold across cloned addresses). Full means refused: the message is neither
//! stored nor broadcast, and the client is told when to try again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix::Addr;
use futures_core::future::BoxFuture;
use futures_util::FutureExt;
use tokio::sync::oneshot;

use super::backend::Pool;
use super::remove::Removal;
use super::writer::{Append, DbWriter, Synced, Turn, WriterOptions};
use super::{Reader, history};
use crate::metrics::metrics;
use crate::pubsub::{
    LoadError, LogEntry, LogSnapshot, MessageStore, OpenOptions, StoreFull, StoredEntry,
};

/// What a refused client is told to wait.
const RETRY_AFTER_MS: u64 = 1_000;

/// The writer as the topic log sees it: the store's port.
#[derive(Clone)]
pub struct DbWriterHandle {
    addr: Addr<DbWriter>,
    capacity: Arc<Capacity>,
    readers: Pool,
}

impl DbWriterHandle {
    pub(super) fn new(addr: Addr<DbWriter>, capacity: Arc<Capacity>, readers: Pool) -> Self {
        Self {
            addr,
            capacity,
            readers,
        }
    }

    /// Waits until everything that was published so far is committed, for at most `limit`. Returns
    /// how many rows were left when the time was over.
    pub async fn flush(&self, limit: Duration) -> usize {
        // An error means that the time is over or the actor is gone; what is left tells.
        let _ = tokio::time::timeout(limit, self.addr.send(Synced)).await;
        self.unsaved()
    }

    /// What reads the stored messages beside the topic logs.
    pub fn reader(&self) -> Reader {
        Reader::new(self.readers.clone())
    }

    /// The database's connections for reading.
    pub(super) fn readers(&self) -> &Pool {
        &self.readers
    }

    /// Deletes rows, in the writer's next transaction. Returns how many there were.
    pub(super) async fn remove(
        &self,
        removal: Removal,
    ) -> Result<usize, Box<dyn std::error::Error + Send + Sync>> {
        let (answer, answered) = oneshot::channel();
        self.addr.do_send(Turn::Remove { removal, answer });
        Ok(answered.await??)
    }

    /// How many published messages are not committed yet.
    pub fn unsaved(&self) -> usize {
        self.capacity.rows.load(Ordering::Acquire)
    }
}

impl MessageStore for DbWriterHandle {
    fn append(&self, entry: &Arc<LogEntry>) -> Result<(), StoreFull> {
        if !self.addr.connected() {
            return Err(StoreFull {
                retry_after_ms: RETRY_AFTER_MS,
            });
        }
        self.capacity.reserve(entry.payload().get().len())?;
        self.addr.do_send(Append(Arc::clone(entry)));
        Ok(())
    }

    fn open(
        &self,
        topic: &str,
        options: OpenOptions,
    ) -> BoxFuture<'static, Result<LogSnapshot, LoadError>> {
        let (addr, readers, topic) = (self.addr.clone(), self.readers.clone(), topic.to_owned());
        let opening = async move |topic: String| {
            let (answer, answered) = oneshot::channel();
            addr.do_send(Turn::Open {
                topic: topic.clone(),
                strict: options.strict,
                answer,
            });
            let run = answered.await??;
            readers
                .read(move |connection| {
                    let OpenOptions { limit, bytes, .. } = options;
                    Ok(LogSnapshot {
                        epoch: run.epoch,
                        head: run.last_seq,
                        pruned_through: run.pruned_through,
                        entries: history::newest(connection, &topic, limit, bytes)?,
                        client_refs: history::recent_refs(connection, &topic)?,
                    })
                })
                .await
        };
        async move {
            let snapshot = opening(topic.clone()).await;
            snapshot.map_err(|source| LoadError { topic, source })
        }
        .boxed()
    }

    fn close(&self, topic: &str, head: i64) {
        self.addr.do_send(Turn::Close {
            topic: topic.to_owned(),
            head,
        });
    }

    fn page(
        &self,
        topic: &str,
        after: i64,
        limit: usize,
        bytes: usize,
    ) -> BoxFuture<'static, Result<Vec<StoredEntry>, LoadError>> {
        let (readers, topic) = (self.readers.clone(), topic.to_owned());
        async move {
            let name = topic.clone();
            let page = readers
                .read(move |connection| history::page(connection, &topic, after, limit, bytes));
            page.await.map_err(|source| LoadError {
                topic: name,
                source,
            })
        }
        .boxed()
    }
}

/// Rows and bytes that wait, over the mailbox and the queue.
pub(super) struct Capacity {
    max_rows: usize,
    max_bytes: usize,
    rows: AtomicUsize,
    bytes: AtomicUsize,
}

impl Capacity {
    pub(super) fn new(options: &WriterOptions) -> Self {
        Self {
            max_rows: options.rows,
            max_bytes: options.bytes,
            rows: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
        }
    }

    fn reserve(&self, bytes: usize) -> Result<(), StoreFull> {
        let rows_before = self.rows.fetch_add(1, Ordering::AcqRel);
        let bytes_before = self.bytes.fetch_add(bytes, Ordering::AcqRel);
        metrics().writer_queue.increment(1.0);
        let full = rows_before >= self.max_rows || bytes_before + bytes > self.max_bytes;
        // One row always enters an empty queue, whatever its size.
        if full && rows_before > 0 {
            self.release(1, bytes);
            metrics().writer_refused.increment(1);
            return Err(StoreFull {
                retry_after_ms: RETRY_AFTER_MS,
            });
        }
        Ok(())
    }

    pub(super) fn release(&self, rows: usize, bytes: usize) {
        self.rows.fetch_sub(rows, Ordering::AcqRel);
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
        metrics().writer_queue.decrement(rows as f64);
    }
}
