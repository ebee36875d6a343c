//! [`DbWriterHandle`]: the port of the topic log to the writer and the readers.

use std::sync::Arc;
use std::time::Duration;

use actix::Addr;
use futures_core::future::BoxFuture;
use futures_util::FutureExt;
use tokio::sync::{oneshot, watch};

use crate::log::{
    Flushed, LoadError, LogEntry, MessageId, MessageStore, Newest, OpenedRun, Pending, Seq,
    StoreFull, StoredEntry,
};
use crate::metrics::Query;
use crate::store::backend::error::AnyError;
use crate::store::backend::{DbConnection, Fault, Pool};
use crate::store::reader::Reader;
use crate::store::tables::ban::BanChange;
use crate::store::tables::cursor::CursorChange;
use crate::store::tables::history;
use crate::store::tables::remove::Removal;
use crate::store::tables::revocation::RevocationChange;
use crate::store::tables::slow_mode::SlowModeChange;
use crate::store::write::capacity::{Capacity, StorageState};
use crate::store::write::commits::Commits;
use crate::store::write::drafts::DraftIntake;
use crate::store::write::health::Health;
use crate::store::write::intake::Intake;
use crate::store::write::turn::TopicWork;
#[cfg(feature = "_cluster")]
use crate::store::write::writer::Begun;
use crate::store::write::writer::{
    Change, ChangeCursor, Close, Damaged, DbWriter, Open, RowsCame, Sequence, Synced,
};

/// The [`MessageStore`] of a database: the writer, and connections for reading. Cloning is cheap. The writer ends with
/// its last handle. SQLite's file is then free within half a second; [`Store::open`](crate::store::Store::open) waits a
/// second for it.
#[derive(Clone)]
pub struct DbWriterHandle {
    addr: Addr<DbWriter>,
    pub(in crate::store) capacity: Arc<Capacity>,
    health: Arc<Health>,
    commits: Arc<Commits>,
    intake: Arc<Intake<Arc<LogEntry>>>,
    pub(in crate::store) drafts: Arc<DraftIntake>,
    readers: Pool,
}

named_debug!(DbWriterHandle);

impl DbWriterHandle {
    pub(in crate::store) fn new(
        addr: Addr<DbWriter>,
        capacity: Arc<Capacity>,
        health: Arc<Health>,
        commits: Arc<Commits>,
        (intake, drafts): (Arc<Intake<Arc<LogEntry>>>, Arc<DraftIntake>),
        readers: Pool,
    ) -> Self {
        Self {
            addr,
            capacity,
            health,
            commits,
            intake,
            drafts,
            readers,
        }
    }

    /// Waits until every message that was published so far is committed or, while the database is unreachable, in the
    /// spool; at most for `limit`. Returns the number of messages that are in neither.
    pub async fn flush(&self, limit: Duration) -> usize {
        // An error: the time is over, or the writer has ended.
        let _ = tokio::time::timeout(limit, self.addr.send(Synced)).await;
        self.capacity.at_risk()
    }

    /// Reads stored messages.
    pub fn reader(&self) -> Reader {
        Reader::new(self.readers.clone())
    }

    /// The connections for reading.
    pub(in crate::store) fn readers(&self) -> &Pool {
        &self.readers
    }

    /// Deletes rows, in the writer's next round. Returns their number.
    pub(in crate::store) async fn remove(&self, removal: Removal) -> Result<usize, AnyError> {
        self.change(TopicWork::Remove(removal)).await
    }

    /// Changes the table of revocations, in the writer's next round. Returns the number of changed rows.
    pub(in crate::store) async fn change_revocations(
        &self,
        change: RevocationChange,
    ) -> Result<usize, AnyError> {
        self.change(TopicWork::Revoke(change)).await
    }

    /// Changes the table of bans, in the writer's next round. Returns the number of changed rows.
    pub(in crate::store) async fn change_bans(&self, change: BanChange) -> Result<usize, AnyError> {
        self.change(TopicWork::Ban(change)).await
    }

    /// Changes the table of slow modes, in the writer's next round. Returns the number of changed rows.
    pub(in crate::store) async fn change_slow_modes(
        &self,
        change: SlowModeChange,
    ) -> Result<usize, AnyError> {
        self.change(TopicWork::SlowMode(change)).await
    }

    async fn change(&self, work: TopicWork) -> Result<usize, AnyError> {
        let (answer, answered) = oneshot::channel();
        self.addr.do_send(Change { work, answer });
        Ok(answered.await??)
    }

    /// The number of rows that were committed since the start.
    pub(in crate::store) fn commits(&self) -> watch::Receiver<u64> {
        self.commits.watch()
    }

    /// Changes a cursor in one of the writer's next rounds. Before a flush returns it is done, unless the database is
    /// unreachable.
    pub(in crate::store) fn change_cursor(&self, change: CursorChange) {
        self.addr.do_send(ChangeCursor(change));
    }

    /// The number of published messages that are not committed.
    pub fn unsaved(&self) -> usize {
        self.capacity.waiting()
    }

    /// The number of these messages that are in the spool on disk.
    #[cfg(feature = "server")]
    pub(crate) fn spooled(&self) -> usize {
        self.unsaved().saturating_sub(self.capacity.at_risk())
    }

    /// How new messages are treated.
    pub fn state(&self) -> StorageState {
        self.capacity.state()
    }

    /// The reason why the server is not ready: the writer or its committer has ended or is stuck, or SQLite's file is
    /// gone or damaged. `None` if there is none, and while the database is only unreachable.
    pub fn fault(&self) -> Option<String> {
        if self.addr.connected() {
            self.health.fault()
        } else {
            Some("the thread that saves messages has ended: restart the server".to_owned())
        }
    }

    /// Queues a row for which room is reserved.
    pub(in crate::store) fn queue(&self, row: Pending) {
        let is_awaited = row.is_awaited();
        if self.intake.put(row.into_entry(), is_awaited) {
            self.addr.do_send(RowsCame);
        }
    }

    /// The writer has something to take in.
    #[cfg(feature = "_cluster")]
    pub(in crate::store) fn wake_writer(&self) {
        self.addr.do_send(RowsCame);
    }

    /// Whether the writer has ended, so that nothing can be saved.
    pub(in crate::store) fn has_ended(&self) -> bool {
        !self.addr.connected()
    }

    /// The database is to know of a run that the cluster has begun without it, from this message on.
    #[cfg(feature = "_cluster")]
    pub(in crate::store) fn note_run(&self, topic: &str, first: MessageId) {
        let topic = topic.to_owned();
        self.addr.do_send(Begun { topic, first });
    }

    /// Opens the run of a topic, in one of the writer's next rounds.
    pub(in crate::store) fn open_run(
        &self,
        topic: &str,
        sequence: Sequence,
    ) -> BoxFuture<'static, Result<OpenedRun, LoadError>> {
        let (answer, answered) = oneshot::channel();
        let topic = topic.to_owned();
        self.addr.do_send(Open {
            topic: topic.clone(),
            sequence,
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

    /// Reads. Fails at once while the database counts as unreachable.
    pub(in crate::store) async fn look<T: Send + 'static>(
        &self,
        kind: Query,
        query: impl FnOnce(&mut DbConnection<'_>) -> diesel::QueryResult<T> + Send + 'static,
    ) -> Result<T, AnyError> {
        if self.capacity.is_away() {
            return Err(Fault::Away.into());
        }
        self.readers.clone().read(kind, query).await
    }

    /// As [`look`](Self::look), for a topic's log.
    pub(in crate::store) async fn read<T: Send + 'static>(
        self,
        kind: Query,
        topic: String,
        query: impl FnOnce(&mut DbConnection<'_>, &str) -> diesel::QueryResult<T> + Send + 'static,
    ) -> Result<T, LoadError> {
        let name = topic.clone();
        let read = self.look(kind, move |connection| query(connection, &topic));
        read.await.map_err(|source| {
            if let Some(error) = source.downcast_ref::<Fault>()
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
        self.queue(row);
        Ok(())
    }

    fn open(&self, topic: &str, strict: bool) -> BoxFuture<'static, Result<OpenedRun, LoadError>> {
        self.open_run(topic, Sequence::Server { strict })
    }
    fn newest(
        &self,
        topic: &str,
        limit: usize,
        bytes: usize,
    ) -> BoxFuture<'static, Result<Newest, LoadError>> {
        self.clone()
            .read(
                Query::History,
                topic.to_owned(),
                move |connection, topic| {
                    Ok(Newest {
                        entries: history::newest(connection, topic, limit, bytes)?,
                        client_refs: history::recent_refs(connection, topic)?,
                    })
                },
            )
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
        after: Seq,
        limit: usize,
        bytes: usize,
    ) -> BoxFuture<'static, Result<Vec<StoredEntry>, LoadError>> {
        self.clone()
            .read(Query::Resume, topic.to_owned(), move |connection, topic| {
                history::page(connection, topic, after, limit, bytes)
            })
            .boxed()
    }

    fn before(
        &self,
        topic: &str,
        before: Seq,
        limit: usize,
        bytes: usize,
    ) -> BoxFuture<'static, Result<Vec<StoredEntry>, LoadError>> {
        self.clone()
            .read(
                Query::History,
                topic.to_owned(),
                move |connection, topic| history::before(connection, topic, before, limit, bytes),
            )
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
            panic!("on request");
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
