//! [`MessageStore`]: the port to a database. The library reaches a database in no other way.

use std::time::{Duration, SystemTime};

use futures_core::future::BoxFuture;

use super::{Epoch, MessageId, PastRuns, Pending, Seq};

/// The run of a topic when its log is opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenedRun {
    /// The epoch of the run.
    pub epoch: Epoch,
    /// The epoch of the run that begins with the next message; equal to `epoch` if the present run
    /// continues. `None` if the opening itself has begun a run.
    pub next_epoch: Option<Epoch>,
    /// Earlier runs.
    pub past: PastRuns,
    /// The highest seq that may have been given; 0 for none.
    pub head: Seq,
    /// Messages up to this seq may have been deleted; 0 for none.
    pub pruned_through: Seq,
}

/// The part of the stored messages that a log keeps in memory.
#[derive(Clone, Debug, Default)]
pub struct Newest {
    /// The newest messages and the changes after the oldest of them, oldest first.
    pub entries: Vec<StoredEntry>,
    /// The client_refs of recent messages and their seqs, oldest first, by which retries are recognised.
    pub client_refs: Vec<(String, Seq)>,
}

/// A message that was read from the store.
#[derive(Clone, Debug)]
pub struct StoredEntry {
    /// The place of the message in its topic.
    pub seq: Seq,
    /// The event of the broadcast.
    pub event: String,
    /// The text of a JSON object. The store must make sure that it is valid.
    pub payload: String,
    /// The seq of the message that this one updates or deletes. Such a message is no part of a history.
    pub target: Option<Seq>,
    /// When it was published.
    pub at: SystemTime,
    /// The client's own name for it.
    pub client_ref: Option<String>,
}

/// The store has no room for the message. It was not stored and not broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("storage unavailable, retry after {retry_after_ms} ms")]
pub struct StoreFull {
    /// How long to wait before a retry, in milliseconds.
    pub retry_after_ms: u64,
}

/// The store could not open the log of a topic, or read its messages.
#[derive(Debug, thiserror::Error)]
#[error("the log of topic {topic} could not be read")]
pub struct LoadError {
    /// The topic of the log.
    pub topic: String,
    /// The error of the store.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// The messages that a flush has left pending. See [`MessageStore::flush`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flushed {
    /// The number of messages that are not committed.
    pub waiting: usize,
    /// The number of these that would be lost with the process. The others are safe elsewhere, for example
    /// in a spool.
    pub at_risk: usize,
}

/// The database of a log.
pub trait MessageStore: Send + Sync + 'static {
    /// Queues the row of a published message, or refuses it for want of room. Called inside the topic's
    /// critical section, so it must not block. Rows of one topic arrive in order of seq. Once the row is
    /// settled, the store reports the outcome through [`Pending`].
    ///
    /// An entry with a [`Change`](super::Change) is stored as a row and changes its target, in one
    /// transaction.
    ///
    /// # Errors
    /// If the queue is full. Then the message is not broadcast either.
    fn append(&self, row: Pending) -> Result<(), StoreFull>;

    /// Opens the log of a topic. Opening writes nothing if the topic's last run ended in order, or if the
    /// topic never had a message: a run begins with its first message
    /// ([`LogEntry::begins`](super::LogEntry::begins)). A run that is still open ended uncleanly, and
    /// clients may have seen messages of it that were never committed. Then the opening begins a new run,
    /// at a head far beyond any seq that may have been given. `strict`: members only see committed
    /// messages, so every run counts as ended in order.
    ///
    /// A store whose database is unreachable may return a new run at such a head.
    fn open(&self, topic: &str, strict: bool) -> BoxFuture<'static, Result<OpenedRun, LoadError>>;

    /// The newest messages, for a log that was just opened: at most `limit`, with at most `bytes` of
    /// payload together. After an error the log asks again at the next join.
    fn newest(
        &self,
        topic: &str,
        limit: usize,
        bytes: usize,
    ) -> BoxFuture<'static, Result<Newest, LoadError>>;

    /// Stores that a run has ended in order with this id. Takes effect after the topic's queued rows.
    fn close(&self, topic: &str, last: MessageId);

    /// Waits until everything appended and closed so far is committed, for at most `limit`. The default is
    /// for a store that commits at once.
    fn flush(&self, limit: Duration) -> BoxFuture<'_, Flushed> {
        let _ = limit;
        Box::pin(std::future::ready(Flushed::default()))
    }

    /// The stored messages and changes after a seq, oldest first: at most `limit`, and at most `bytes`
    /// together, but at least one if there is any.
    fn page(
        &self,
        topic: &str,
        after: Seq,
        limit: usize,
        bytes: usize,
    ) -> BoxFuture<'static, Result<Vec<StoredEntry>, LoadError>>;

    /// The newest messages before a seq, without changes, oldest first: at most `limit`, and at most
    /// `bytes` together, but at least one if there is any.
    fn before(
        &self,
        topic: &str,
        before: Seq,
        limit: usize,
        bytes: usize,
    ) -> BoxFuture<'static, Result<Vec<StoredEntry>, LoadError>>;
}

/// The database of a cluster's logs, whose messages get their place on the way to it.
#[cfg(feature = "_cluster")]
pub(crate) trait SharedStore: super::PlacingStore {
    /// Reserves room for a row with so many bytes of payload, before its message gets its place.
    ///
    /// # Errors
    /// If there is no room. Then the message is not published.
    fn reserve(&self, bytes: usize) -> Result<(), StoreFull>;

    /// Gives reserved room back: the message was not published.
    fn release(&self, bytes: usize);

    /// Queues a row for which so many bytes are reserved.
    fn put(&self, row: Pending, reserved: usize);

    /// Begins a run whose seqs the cluster gives, at a head that no message has reached. While the database is
    /// unreachable the run has a `next_epoch`, and the database learns of it with the first row.
    fn begin_run(&self, topic: &str) -> BoxFuture<'static, Result<OpenedRun, LoadError>>;

    /// The present run and the runs before it, as the database knows them.
    fn known_run(&self, topic: &str) -> BoxFuture<'static, Result<OpenedRun, LoadError>>;
}

/// The database of a cluster's logs, for [`ClusterOptions::database`](crate::pubsub::ClusterOptions::database).
#[cfg(feature = "_cluster")]
#[derive(Clone)]
pub struct SharedLogs(pub(crate) std::sync::Arc<dyn SharedStore>);

#[cfg(feature = "_cluster")]
named_debug!(SharedLogs);
