//! [`MessageStore`]: the port to a database. The library reaches a database in no other way.

use std::time::{Duration, SystemTime};

use futures_core::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::{Epoch, MessageId, PastRuns, Pending, Seq};

/// The distance between the last stored seq and the first one after an unclean end: clients may have seen seqs that
/// were never committed, and no seq is given twice. No run gives as many.
pub(crate) const JUMP: i64 = 1 << 32;

/// The run of a topic when its log is opened. Made by [`never_begun`](Self::never_begun),
/// [`continued`](Self::continued) or [`after_a_kill`](Self::after_a_kill).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
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

impl OpenedRun {
    /// The topic never had a message: the run begins with the first.
    pub fn never_begun(fresh: Epoch) -> Self {
        Self::continued(fresh, Seq::ZERO)
    }

    /// The last run ended in order, and goes on after its message `head`.
    pub fn continued(epoch: Epoch, head: Seq) -> Self {
        Self {
            epoch,
            next_epoch: Some(epoch),
            head,
            ..Self::default()
        }
    }

    /// The last run did not end in order. Clients may have seen messages of it after `last`, its newest stored one.
    /// So the opening has begun a new run, far beyond these.
    pub fn after_a_kill(fresh: Epoch, last: Seq) -> Self {
        Self {
            epoch: fresh,
            head: last.plus(JUMP),
            ..Self::default()
        }
    }
}

/// The part of the stored messages that a log keeps in memory.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Newest {
    /// The newest messages and the changes after the oldest of them, oldest first.
    pub entries: Vec<StoredEntry>,
    /// The client_refs of recent messages and their seqs, oldest first, by which retries are recognised.
    pub client_refs: Vec<(String, Seq)>,
}

impl Newest {
    /// Both parts.
    pub fn new(entries: Vec<StoredEntry>, client_refs: Vec<(String, Seq)>) -> Self {
        Self {
            entries,
            client_refs,
        }
    }
}

/// A row of the store: a message, or a change of one. The store makes it of a [`Pending`], by
/// [`LogEntry::to_stored`](super::LogEntry::to_stored), or reads it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
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

impl StoredEntry {
    /// A message that is no change, and to which its client gave no name.
    pub fn new(
        seq: Seq,
        event: impl Into<String>,
        payload: impl Into<String>,
        at: SystemTime,
    ) -> Self {
        Self {
            seq,
            event: event.into(),
            payload: payload.into(),
            target: None,
            at,
            client_ref: None,
        }
    }
}

/// The store has no room for the message. It was not stored and not broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[error("storage unavailable, retry after {retry_after_ms} ms")]
pub struct StoreFull {
    /// How long to wait before a retry, in milliseconds.
    pub retry_after_ms: u64,
}

impl StoreFull {
    /// A retry after this time may have room.
    pub fn retry_after(time: Duration) -> Self {
        Self {
            retry_after_ms: u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// The store could not open the log of a topic, or read its messages.
#[derive(Debug, thiserror::Error)]
#[error("the log of topic {topic} could not be read")]
#[non_exhaustive]
pub struct LoadError {
    /// The topic of the log.
    pub topic: String,
    /// The error of the store.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl LoadError {
    /// The log of `topic` could not be read because of `source`.
    pub fn new(
        topic: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self {
            topic: topic.into(),
            source: source.into(),
        }
    }
}

/// The messages that a flush has left pending. See [`MessageStore::flush`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Flushed {
    /// The number of messages that are not committed.
    pub waiting: usize,
    /// The number of these that would be lost with the process. The others are safe elsewhere, for example
    /// in a spool.
    pub at_risk: usize,
}

impl Flushed {
    /// So many messages wait, and all of them would be lost with the process.
    pub fn waiting(messages: usize) -> Self {
        Self {
            waiting: messages,
            at_risk: messages,
        }
    }
}

/// The database of a log. [`StoredRows`](super::StoredRows) chooses rows for stores that keep them in memory;
/// `examples/own_store.rs` is a whole store; [`check_store`](crate::testing::check_store) tests one.
///
/// A store around another one, which counts what is stored:
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// use futures_core::future::BoxFuture;
/// use slackir::log::{
///     LoadError, LogRule, MemoryStore, MessageId, MessageStore, Newest, OpenedRun, Pending, Seq, StoreFull,
///     StoredEntry,
/// };
///
/// struct Counted {
///     store: Arc<dyn MessageStore>,
///     messages: AtomicU64,
/// }
///
/// type Read<T> = BoxFuture<'static, Result<T, LoadError>>;
///
/// impl MessageStore for Counted {
///     fn append(&self, row: Pending) -> Result<(), StoreFull> {
///         self.store.append(row)?;
///         self.messages.fetch_add(1, Ordering::Relaxed);
///         Ok(())
///     }
///
///     fn open(&self, topic: &str, strict: bool) -> Read<OpenedRun> {
///         self.store.open(topic, strict)
///     }
///
///     fn newest(&self, topic: &str, limit: usize, bytes: usize) -> Read<Newest> {
///         self.store.newest(topic, limit, bytes)
///     }
///
///     fn close(&self, topic: &str, last: MessageId) {
///         self.store.close(topic, last);
///     }
///
///     fn page(&self, topic: &str, after: Seq, limit: usize, bytes: usize) -> Read<Vec<StoredEntry>> {
///         self.store.page(topic, after, limit, bytes)
///     }
///
///     fn before(&self, topic: &str, seq: Seq, limit: usize, bytes: usize) -> Read<Vec<StoredEntry>> {
///         self.store.before(topic, seq, limit, bytes)
///     }
/// }
///
/// let store = Counted { store: MemoryStore::new(), messages: AtomicU64::new(0) };
/// let rule = LogRule::new("room:*", &["shout"], 50, Arc::new(store));
/// ```
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

    /// Begins a run whose seqs the cluster gives, at a head that no message has reached; fails if this era is over. While
    /// the database is unreachable the run has a `next_epoch`: tell [`begun`](Self::begun) if the cluster has taken it.
    fn begin_run(
        &self,
        topic: &str,
        within: Option<super::ClusterEra>,
    ) -> BoxFuture<'static, Result<OpenedRun, LoadError>>;

    /// A run that was begun without the database goes on in the cluster. The database learns of it once it is back.
    fn begun(&self, topic: &str, run: &OpenedRun);

    /// The present run and the runs before it, as the database knows them.
    fn known_run(&self, topic: &str) -> BoxFuture<'static, Result<OpenedRun, LoadError>>;

    /// The present era, which is not before the known one.
    fn era(&self, known: super::ClusterEra) -> BoxFuture<'static, Result<super::Era, LoadError>>;

    /// Notes that a node comes to the bus: from now on no era of the bus ends for want of nodes that reach it. Returns the
    /// present era, which is not before the known one.
    fn enter(
        &self,
        node: super::Entering,
        known: super::ClusterEra,
    ) -> BoxFuture<'static, Result<super::Era, LoadError>>;

    /// Ends an era if the living nodes allow it: that of the bus if none of them reaches it, that of the database if all
    /// of them reach the bus. `patient`: waits for nodes that have not saved their messages, or do not reach the bus.
    /// Returns the present era.
    fn end_era(
        &self,
        era: super::ClusterEra,
        patient: bool,
    ) -> BoxFuture<'static, Result<super::Era, LoadError>>;
}

/// The database of a cluster's logs, for [`ClusterOptions::database`](crate::pubsub::ClusterOptions::database).
#[cfg(feature = "_cluster")]
#[derive(Clone)]
pub struct SharedLogs(pub(crate) std::sync::Arc<dyn SharedStore>);

#[cfg(feature = "_cluster")]
named_debug!(SharedLogs);
