//! [`DbWriterHandle`]: the writer and the readers as the topic log sees them.

use std::sync::Arc;
use std::time::Duration;

use actix::Addr;
use futures_core::future::BoxFuture;
use futures_util::FutureExt;
use tokio::sync::oneshot;

use super::backend::{Connection, Pool};
use super::capacity::{Capacity, StorageState};
use super::health::Health;
use super::intake::Intake;
use super::remove::Removal;
use super::writer::{Close, Damaged, DbWriter, Open, Remove, RowsCame, Synced};
use super::{Reader, StoreError, history};
use crate::pubsub::{
    Flushed, LoadError, LogEntry, MessageId, MessageStore, Newest, OpenedRun, Pending, StoreFull,
    StoredEntry,
};

/// The writer as the topic log sees it: the store's port.
#[derive(Clone)]
pub struct DbWriterHandle {
    addr: Addr<DbWriter>,
    capacity: Arc<Capacity>,
    health: Arc<Health>,
    intake: Arc<Intake<Arc<LogEntry>>>,
    readers: Pool,
}

named_debug!(DbWriterHandle);

impl DbWriterHandle {
    pub(super) fn new(
        addr: Addr<DbWriter>,
        capacity: Arc<Capacity>,
        health: Arc<Health>,
        intake: Arc<Intake<Arc<LogEntry>>>,
        readers: Pool,
    ) -> Self {
        Self {
            addr,
            capacity,
            health,
            intake,
            readers,
        }
    }

    /// Waits until everything that was published so far is committed, for at most `limit`; while the
    /// database is away, only until it is in the spool. Returns how many rows are neither.
    pub async fn flush(&self, limit: Duration) -> usize {
        // An error means that the time is over or the actor is gone; what is left tells.
        let _ = tokio::time::timeout(limit, self.addr.send(Synced)).await;
        self.capacity.at_risk()
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
        self.addr.do_send(Remove { removal, answer });
        Ok(answered.await??)
    }

    /// How many published messages are not committed yet.
    pub fn unsaved(&self) -> usize {
        self.capacity.waiting()
    }

    /// What becomes of the messages that are published now.
    pub fn state(&self) -> StorageState {
        self.capacity.state()
    }

    /// Why the server must not be called ready: the writer or its committer is dead or stuck, or something
    /// has happened to SQLite's file. `None` also while the database is only away.
    pub fn fault(&self) -> Option<String> {
        if self.addr.connected() {
            self.health.fault()
        } else {
            Some("the thread that saves messages has ended: restart the server".to_owned())
        }
    }

    /// Reads for a topic's log. While the database is known to be away nobody waits for it.
    async fn read<T: Send + 'static>(
        self,
        topic: String,
        query: impl FnOnce(&mut Connection<'_>, &str) -> diesel::QueryResult<T> + Send + 'static,
    ) -> Result<T, LoadError> {
        let name = topic.clone();
        let read = if self.capacity.is_away() {
            Err(StoreError::Away.into())
        } else {
            let readers = self.readers.clone();
            readers
                .read(move |connection| query(connection, &topic))
                .await
        };
        read.map_err(|source| {
            if let Some(error) = source.downcast_ref::<StoreError>()
                && error.is_damage()
            {
                self.addr.do_send(Damaged(error.to_string()));
            }
            LoadError {
                topic: name,
                source,
            }
        })
    }
}

impl MessageStore for DbWriterHandle {
    fn append(&self, row: Pending) -> Result<(), StoreFull> {
        if !self.addr.connected() {
            return Err(self.capacity.refuse());
        }
        self.capacity.reserve(row.payload().get().len())?;
        let is_awaited = row.is_awaited();
        if self.intake.put(row.into_entry(), is_awaited) {
            self.addr.do_send(RowsCame);
        }
        Ok(())
    }

    fn open(&self, topic: &str, strict: bool) -> BoxFuture<'static, Result<OpenedRun, LoadError>> {
        let (answer, answered) = oneshot::channel();
        let topic = topic.to_owned();
        self.addr.do_send(Open {
            topic: topic.clone(),
            strict,
            answer,
        });
        async move {
            let opened = match answered.await {
                Ok(Ok(run)) => Ok(run),
                Ok(Err(error)) => Err(error.into()),
                Err(gone) => Err(gone.into()),
            };
            opened.map_err(|source| LoadError { topic, source })
        }
        .boxed()
    }

    fn newest(
        &self,
        topic: &str,
        limit: usize,
        bytes: usize,
    ) -> BoxFuture<'static, Result<Newest, LoadError>> {
        self.clone()
            .read(topic.to_owned(), move |connection, topic| {
                Ok(Newest {
                    entries: history::newest(connection, topic, limit, bytes)?,
                    client_refs: history::recent_refs(connection, topic)?,
                })
            })
            .boxed()
    }

    fn flush(&self, limit: Duration) -> BoxFuture<'_, Flushed> {
        async move {
            Flushed {
                at_risk: Self::flush(self, limit).await,
                waiting: self.unsaved(),
            }
        }
        .boxed()
    }

    fn close(&self, topic: &str, last: MessageId) {
        self.addr.do_send(Close {
            topic: topic.to_owned(),
            last,
        });
    }

    fn page(
        &self,
        topic: &str,
        after: i64,
        limit: usize,
        bytes: usize,
    ) -> BoxFuture<'static, Result<Vec<StoredEntry>, LoadError>> {
        self.clone()
            .read(topic.to_owned(), move |connection, topic| {
                history::page(connection, topic, after, limit, bytes)
            })
            .boxed()
    }

    fn before(
        &self,
        topic: &str,
        before: i64,
        limit: usize,
        bytes: usize,
    ) -> BoxFuture<'static, Result<Vec<StoredEntry>, LoadError>> {
        self.clone()
            .read(topic.to_owned(), move |connection, topic| {
                history::before(connection, topic, before, limit, bytes)
            })
            .boxed()
    }
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use actix::{Context, Handler, Message};

    use super::*;
    use crate::store::{Store, StoreOptions, WriterOptions};

    #[derive(Message)]
    #[rtype(result = "()")]
    struct Panic;

    impl Handler<Panic> for DbWriter {
        type Result = ();

        fn handle(&mut self, _: Panic, _: &mut Context<Self>) {
            panic!("as it was told");
        }
    }

    #[actix_rt::test]
    async fn a_writer_that_has_panicked_is_a_fault_and_answers_nobody() {
        let dir = tempfile::tempdir().expect("a folder");
        let url = format!("sqlite://{}", dir.path().join("s.db").display());
        let (store, _) = Store::open(&url, StoreOptions::default()).expect("a new database");
        let writer = DbWriter::start_on_own_thread(store, WriterOptions::default());
        let writer = writer.expect("a free connection");
        assert_eq!(writer.fault(), None);
        assert!(writer.addr.send(Panic).await.is_err());
        // Its thread drops it a moment later.
        while writer.addr.connected() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let fault = writer.fault().expect("it has ended");
        assert!(fault.contains("has ended"), "{fault}");
        assert!(writer.open("room", false).await.is_err());
        assert_eq!(writer.flush(Duration::from_secs(5)).await, 0);
    }
}
