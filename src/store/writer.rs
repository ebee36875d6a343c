//! [`DbWriter`]: the actor that commits what was published, on a thread of its own.
//!
//! It batches what piled up while the last transaction ran: a row is kept, and the first one asks
//! for a flush, which actix handles after the rows that are in the mailbox already. So there is no
//! timer, a lone row is committed at once, and the commit lag is one transaction.
//!
//! **Bound.** Capacity is reserved in the publisher's critical section from counters of our own (a
//! mailbox bound does not hold across cloned addresses). Full means refused: the message is neither
//! stored nor broadcast, and the client is told when to try again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use actix::{Actor, Addr, Arbiter, AsyncContext, Context, Handler, Message, ResponseFuture};
use diesel::result::{DatabaseErrorKind, Error};
use futures_core::future::BoxFuture;
use futures_util::FutureExt;
use tokio::sync::oneshot;

use super::backend::{Connection, Pool};
use super::message::{self, NewMessage};
use super::{Store, StoreError};
use crate::metrics::metrics;
use crate::pubsub::{LoadError, LogEntry, LogSnapshot, MessageStore, StoreFull};

/// Rows of one transaction.
const BATCH: usize = 1_000;
/// What a refused client is told to wait.
const RETRY_AFTER_MS: u64 = 1_000;
/// The first wait after a failed transaction; it doubles up to the last.
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(5);

/// What may wait for its commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriterLimits {
    /// Rows. Default 100,000.
    pub rows: usize,
    /// Bytes of their payloads. Default 64 MB.
    pub bytes: usize,
}

impl Default for WriterLimits {
    fn default() -> Self {
        Self {
            rows: 100_000,
            bytes: 64_000_000,
        }
    }
}

/// The actor. Started by [`DbWriter::start_on_own_thread`].
pub struct DbWriter {
    pool: Pool,
    /// Keeps the database this server's own.
    _store: Store,
    capacity: Arc<Capacity>,
    /// Rows in the order of their publication.
    queue: VecDeque<Arc<LogEntry>>,
    /// Whether a flush is on its way.
    flushing: bool,
    /// The wait before the next try; `None` while all is well.
    retry: Option<Duration>,
    /// Those who wait until everything is committed.
    waiting: Vec<oneshot::Sender<()>>,
}

/// The writer as the topic log sees it: the store's port.
#[derive(Clone)]
pub struct DbWriterHandle {
    addr: Addr<DbWriter>,
    capacity: Arc<Capacity>,
    readers: Pool,
}

/// Rows and bytes that wait, over the mailbox and the queue.
struct Capacity {
    limits: WriterLimits,
    rows: AtomicUsize,
    bytes: AtomicUsize,
}

#[derive(Message)]
#[rtype(result = "()")]
struct Append(Arc<LogEntry>);

#[derive(Message)]
#[rtype(result = "()")]
struct Flush;

/// Answered when everything that was appended before is committed.
#[derive(Message)]
#[rtype(result = "()")]
struct Synced;

impl DbWriter {
    /// Starts the writer on an Arbiter of its own, where it may block.
    ///
    /// # Errors
    /// When its connection cannot be made.
    pub fn start_on_own_thread(
        store: Store,
        limits: WriterLimits,
    ) -> Result<DbWriterHandle, StoreError> {
        let capacity = Arc::new(Capacity {
            limits,
            rows: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
        });
        let readers = store.readers.clone();
        let writer = Self {
            pool: store.writer()?,
            _store: store,
            capacity: Arc::clone(&capacity),
            queue: VecDeque::new(),
            flushing: false,
            retry: None,
            waiting: Vec::new(),
        };
        let addr = Self::start_in_arbiter(&Arbiter::new().handle(), |_| writer);
        Ok(DbWriterHandle {
            addr,
            capacity,
            readers,
        })
    }

    /// Commits one batch; goes on at once while there is more, later after a failure.
    fn flush(&mut self, ctx: &mut Context<Self>) {
        let batch = self.queue.len().min(BATCH);
        if batch == 0 {
            self.flushing = false;
            if !self.waiting.is_empty() {
                self.settle();
            }
            for waiting in self.waiting.drain(..) {
                // Who has given up waiting needs no answer.
                let _ = waiting.send(());
            }
            return;
        }
        match self.commit(batch) {
            Ok(()) => {
                self.retry = None;
                self.committed(batch);
                ctx.notify(Flush);
            }
            Err(error) => {
                let wait = self
                    .retry
                    .map_or(FIRST_RETRY, |wait| (wait * 2).min(LAST_RETRY));
                if self.retry.replace(wait).is_none() {
                    tracing::error!(%error, rows = self.queue.len(), "store.writer.failing");
                }
                metrics().writer_retries.increment(1);
                ctx.notify_later(Flush, wait);
            }
        }
    }

    /// One transaction for the oldest `batch` rows.
    fn commit(&mut self, batch: usize) -> Result<(), StoreError> {
        let mut connection = self.pool.get()?;
        let rows: Vec<_> = self
            .queue
            .range(..batch)
            .map(|entry| NewMessage::from(&**entry))
            .collect();
        let mut connection = connection.connection();
        let committed = connection.transaction(|connection| message::insert(connection, &rows));
        match committed {
            Ok(_) => Ok(()),
            Err(error) if is_rejection(&error) => one_by_one(&mut connection, &rows, &self.queue),
            Err(error) => Err(error.into()),
        }
    }

    /// Leaves a database that a copy of its files is the whole of. Only when somebody waits for
    /// it, at the end: it takes long.
    fn settle(&self) {
        let settled = self
            .pool
            .get()
            .and_then(|mut connection| Ok(connection.connection().settle()?));
        if let Err(error) = settled {
            tracing::warn!(%error, "store.writer.settle");
        }
    }

    fn committed(&mut self, batch: usize) {
        if let Some(oldest) = self.queue.front() {
            let lag = SystemTime::now()
                .duration_since(oldest.at())
                .unwrap_or_default();
            metrics().writer_lag.record(lag.as_secs_f64());
        }
        let mut bytes = 0;
        for entry in self.queue.drain(..batch) {
            bytes += entry.payload().get().len();
            entry.mark_committed();
        }
        self.capacity.release(batch, bytes);
        metrics().writer_queue.decrement(batch as f64);
        metrics().rows_committed.increment(batch as u64);
        metrics().writer_batch.record(batch as f64);
    }
}

/// Whether the database will never take these rows: somebody else has written to the table.
fn is_rejection(error: &Error) -> bool {
    use DatabaseErrorKind::{
        CheckViolation, ForeignKeyViolation, NotNullViolation, UniqueViolation,
    };
    matches!(
        error,
        Error::DatabaseError(
            UniqueViolation | CheckViolation | NotNullViolation | ForeignKeyViolation,
            _
        )
    )
}

/// Commits the rows that the database takes, and reports those that it rejects.
fn one_by_one(
    connection: &mut Connection<'_>,
    rows: &[NewMessage<'_>],
    entries: &VecDeque<Arc<LogEntry>>,
) -> Result<(), StoreError> {
    let committed = connection.transaction(|connection| {
        for (row, entry) in rows.iter().zip(entries) {
            match message::insert(connection, std::slice::from_ref(row)) {
                Err(error) if is_rejection(&error) => {
                    let (topic, seq) = (entry.topic(), entry.seq());
                    tracing::error!(topic, seq, %error, "store.writer.row_rejected");
                }
                other => drop(other?),
            }
        }
        Ok(())
    });
    Ok(committed?)
}

impl Actor for DbWriter {
    type Context = Context<Self>;
}

impl Handler<Append> for DbWriter {
    type Result = ();

    fn handle(&mut self, Append(entry): Append, ctx: &mut Self::Context) {
        self.queue.push_back(entry);
        if !std::mem::replace(&mut self.flushing, true) {
            ctx.notify(Flush);
        }
    }
}

impl Handler<Flush> for DbWriter {
    type Result = ();

    fn handle(&mut self, _: Flush, ctx: &mut Self::Context) {
        self.flush(ctx);
    }
}

impl Handler<Synced> for DbWriter {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Synced, ctx: &mut Self::Context) -> Self::Result {
        let (done, synced) = oneshot::channel();
        self.waiting.push(done);
        if !std::mem::replace(&mut self.flushing, true) {
            ctx.notify(Flush);
        }
        synced.map(drop).boxed_local()
    }
}

impl DbWriterHandle {
    /// Waits until everything that was published so far is committed, for at most `limit`. Returns
    /// how many rows were left when the time was over.
    pub async fn flush(&self, limit: Duration) -> usize {
        // An error means that the time is over or the actor is gone; what is left tells.
        let _ = tokio::time::timeout(limit, self.addr.send(Synced)).await;
        self.unsaved()
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

    fn newest(
        &self,
        topic: &str,
        limit: usize,
        bytes: usize,
    ) -> BoxFuture<'static, Result<LogSnapshot, LoadError>> {
        let (readers, topic) = (self.readers.clone(), topic.to_owned());
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        async move {
            let name = topic.clone();
            let read = tokio::task::spawn_blocking(move || -> Result<LogSnapshot, StoreError> {
                let mut pooled = readers.get()?;
                let mut connection = pooled.connection();
                Ok(LogSnapshot {
                    head: message::head(&mut connection, &topic)?,
                    entries: message::newest(&mut connection, &topic, limit, bytes)?,
                })
            });
            let failed = |source| LoadError {
                topic: name,
                source,
            };
            match read.await {
                Ok(Ok(snapshot)) => Ok(snapshot),
                Ok(Err(error)) => Err(failed(error.into())),
                Err(error) => Err(failed(error.into())),
            }
        }
        .boxed()
    }
}

impl Capacity {
    fn reserve(&self, bytes: usize) -> Result<(), StoreFull> {
        let rows_before = self.rows.fetch_add(1, Ordering::AcqRel);
        let bytes_before = self.bytes.fetch_add(bytes, Ordering::AcqRel);
        let full = rows_before >= self.limits.rows || bytes_before + bytes > self.limits.bytes;
        // One row always enters an empty queue, whatever its size.
        if full && rows_before > 0 {
            self.release(1, bytes);
            metrics().writer_refused.increment(1);
            return Err(StoreFull {
                retry_after_ms: RETRY_AFTER_MS,
            });
        }
        metrics().writer_queue.increment(1.0);
        Ok(())
    }

    fn release(&self, rows: usize, bytes: usize) {
        self.rows.fetch_sub(rows, Ordering::AcqRel);
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
    }
}
