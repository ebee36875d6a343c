//! [`MessageStore`]: the port to a database. The library knows no other way to one.

use std::time::{Duration, SystemTime};

use futures_core::future::BoxFuture;

use super::{MessageId, PastRuns, Pending};

/// The run of a topic's sequence that a log is in once it is opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenedRun {
    /// Names the run. Not negative.
    pub epoch: i64,
    /// The epoch of the run that begins with the next message; the same where the run goes on. `None`
    /// for a run that has begun with the opening.
    pub next_epoch: Option<i64>,
    /// The runs before it.
    pub past: PastRuns,
    /// The highest seq that may ever have been given, 0 for none.
    pub head: i64,
    /// Messages up to this seq may be gone, by retention; 0 for none.
    pub pruned_through: i64,
}

/// What a log keeps in memory of what is stored.
#[derive(Clone, Debug, Default)]
pub struct Newest {
    /// The newest messages and the changes after the oldest of them, oldest first.
    pub entries: Vec<StoredEntry>,
    /// The client_refs of recent messages and their seqs, oldest first: what a retry is known by.
    pub client_refs: Vec<(String, i64)>,
}

/// A message as the store gives it back.
#[derive(Clone, Debug)]
pub struct StoredEntry {
    /// Its place in the topic.
    pub seq: i64,
    /// What happened.
    pub event: String,
    /// The payload: the text of a JSON object. The store answers for its validity.
    pub payload: String,
    /// The message that it changes: it is an update or a deletion, and no part of a history.
    pub target: Option<i64>,
    /// When it was published.
    pub at: SystemTime,
    /// The client's own name for it.
    pub client_ref: Option<String>,
}

/// The store has no room for the message. It was not stored and not broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("storage unavailable, retry after {retry_after_ms} ms")]
pub struct StoreFull {
    /// When trying again makes sense.
    pub retry_after_ms: u64,
}

/// The store could not open the log of a topic, or read its messages.
#[derive(Debug, thiserror::Error)]
#[error("the log of topic {topic} could not be read")]
pub struct LoadError {
    /// Which topic.
    pub topic: String,
    /// What the store said.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// How far a store has come with what it was given. See [`MessageStore::flush`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flushed {
    /// Messages that are not committed yet.
    pub waiting: usize,
    /// Those of them that would be lost with the process. The others are safe elsewhere, in a spool.
    pub at_risk: usize,
}

/// What a log needs of a database.
pub trait MessageStore: Send + Sync + 'static {
    /// Takes the row of a published message, or refuses it for want of room. Called inside the
    /// topic's critical section: it must not block, and rows of one topic come in order of seq.
    /// What became of it is said by [`Pending`], once the store knows.
    ///
    /// An entry with a [`Change`](super::Change) changes its target and is a row itself, in one
    /// transaction.
    ///
    /// # Errors
    /// When the queue is full; then the message is not broadcast either.
    fn append(&self, row: Pending) -> Result<(), StoreFull>;

    /// Opens the log of a topic. That alone writes nothing for a topic whose last run has ended in
    /// order, or that never had a message: a run begins with its first message
    /// ([`LogEntry::begins`](super::LogEntry::begins)). A run that is still open has ended uncleanly: clients may have seen
    /// messages that were never committed. Then a new one begins with the opening, at a head that is
    /// far beyond any seq that may have been given. `strict`: nobody is ever shown a message that is
    /// not committed, and runs always end in order.
    ///
    /// A store whose database is away for a moment may answer with a new run at such a head.
    fn open(&self, topic: &str, strict: bool) -> BoxFuture<'static, Result<OpenedRun, LoadError>>;

    /// What a log that was just opened keeps in memory: the newest messages, at most `limit` that
    /// have `bytes` of payload together. After an error it is asked for again at the next join.
    fn newest(
        &self,
        topic: &str,
        limit: usize,
        bytes: usize,
    ) -> BoxFuture<'static, Result<Newest, LoadError>>;

    /// A run that had begun has ended in order with this id. Takes its turn behind the rows of the
    /// topic.
    fn close(&self, topic: &str, last: MessageId);

    /// Waits until everything that was appended and closed so far is committed, for at most `limit`. A store
    /// that commits at once, as the default says, has nothing to wait for.
    fn flush(&self, limit: Duration) -> BoxFuture<'_, Flushed> {
        let _ = limit;
        Box::pin(std::future::ready(Flushed::default()))
    }

    /// The stored messages and changes after a seq, oldest first: at most `limit` and no more than
    /// fit into `bytes`, but one if there is any.
    fn page(
        &self,
        topic: &str,
        after: i64,
        limit: usize,
        bytes: usize,
    ) -> BoxFuture<'static, Result<Vec<StoredEntry>, LoadError>>;

    /// The newest messages before a seq, without changes, oldest first: at most `limit` and no more
    /// than fit into `bytes`, but one if there is any.
    fn before(
        &self,
        topic: &str,
        before: i64,
        limit: usize,
        bytes: usize,
    ) -> BoxFuture<'static, Result<Vec<StoredEntry>, LoadError>>;
}
