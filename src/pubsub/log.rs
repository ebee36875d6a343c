//! The topic log: every stored message of a topic takes the next seq, and the newest of them stay
//! in memory as the *tail*.
//!
//! The tail holds the last messages up to the rule's `tail` and `tail_bytes`, and every message
//! whose row is not committed yet. It is filled from the store when the topic is loaded, so it
//! always covers the history that a join asks for: a join reads it under the topic's lock, and
//! what a member saw is in the history or arrives live, exactly once, committed or not.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::SystemTime;

use bytestring::ByteString;
use futures_core::future::BoxFuture;

use crate::message::RawJson;

/// One stored message.
pub struct LogEntry {
    topic: Arc<str>,
    seq: i64,
    event: ByteString,
    payload: RawJson,
    at: SystemTime,
    /// The log's high-water mark, which the store moves when rows are committed.
    committed: Arc<AtomicI64>,
}

impl LogEntry {
    /// The topic it was sent to.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Its place in the topic: increasing, not gapless.
    pub fn seq(&self) -> i64 {
        self.seq
    }

    /// What happened.
    pub fn event(&self) -> &str {
        &self.event
    }

    /// The payload as it came, whole.
    pub fn payload(&self) -> &RawJson {
        &self.payload
    }

    /// When it was published.
    pub fn at(&self) -> SystemTime {
        self.at
    }

    /// Says that this row, and with it every earlier one of the topic, is committed. Rows of one
    /// topic are handed to the store in the order of their seq.
    pub fn mark_committed(&self) {
        self.committed.fetch_max(self.seq, Ordering::Release);
    }

    /// What keeping it costs, in bytes.
    fn cost(&self) -> usize {
        const OVERHEAD: usize = 160;
        OVERHEAD + self.event.len() + self.payload.get().len()
    }
}

impl fmt::Debug for LogEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}#{} {} {:?}",
            self.topic, self.seq, self.event, self.payload
        )
    }
}

/// What a store knows of a topic when its log is loaded.
#[derive(Clone, Debug, Default)]
pub struct LogSnapshot {
    /// The highest seq that was ever stored, 0 for none.
    pub head: i64,
    /// The newest messages, oldest first.
    pub entries: Vec<StoredEntry>,
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
    /// When it was published.
    pub at: SystemTime,
}

/// The store has no room for the message. It was not stored and not broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("storage unavailable, retry after {retry_after_ms} ms")]
pub struct StoreFull {
    /// When trying again makes sense.
    pub retry_after_ms: u64,
}

/// The stored messages of a topic could not be read.
#[derive(Debug, thiserror::Error)]
#[error("the log of topic {topic} could not be read")]
pub struct LoadError {
    /// Which topic.
    pub topic: String,
    /// What the store said.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// The port to a database. The library knows no other way to one.
pub trait MessageStore: Send + Sync + 'static {
    /// Takes the row of a published message, or refuses it for want of room. Called inside the
    /// topic's critical section: it must not block, and rows of one topic come in order of seq.
    /// Once the row is committed the store calls [`LogEntry::mark_committed`].
    ///
    /// # Errors
    /// When the queue is full; then the message is not broadcast either.
    fn append(&self, entry: &Arc<LogEntry>) -> Result<(), StoreFull>;

    /// The head of a topic and its newest messages: at most `limit`, and no more than fit into
    /// `bytes`. Called when no row of the topic is on
    /// its way.
    fn newest(
        &self,
        topic: &str,
        limit: usize,
        bytes: usize,
    ) -> BoxFuture<'static, Result<LogSnapshot, LoadError>>;
}

/// Which topics keep a log, of which events, and how much of it stays in memory.
#[derive(Clone)]
pub struct LogRule {
    pattern: String,
    events: Vec<String>,
    tail: usize,
    tail_bytes: usize,
    store: Arc<dyn MessageStore>,
}

impl LogRule {
    /// Topics that match `pattern` (as in a route: `"room:*"`) store the broadcasts of `events`
    /// and keep the newest `tail` of them in memory: the longest history a join can ask for. The
    /// tail has at most 900 kB, so fewer where they are large: a history fits into an outbox.
    pub fn new(pattern: &str, events: &[&str], tail: usize, store: Arc<dyn MessageStore>) -> Self {
        Self {
            pattern: pattern.to_owned(),
            events: events.iter().map(|&event| event.to_owned()).collect(),
            tail,
            tail_bytes: 900_000,
            store,
        }
    }

    pub(super) fn matches(&self, topic: &str) -> bool {
        topic_matches(&self.pattern, topic)
    }

    pub(super) fn stores(&self, event: &str) -> bool {
        self.events.iter().any(|stored| stored == event)
    }
}

/// Whether a pattern means a topic: a prefix where it ends in `*`, else the topic itself.
pub(crate) fn topic_matches(pattern: &str, topic: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => topic.starts_with(prefix),
        None => pattern == topic,
    }
}

/// The newest messages of a topic at the moment of a subscription, oldest first.
#[derive(Clone, Default)]
pub(crate) struct History {
    pub(crate) entries: Vec<Arc<LogEntry>>,
}

/// The log of one topic, behind the topic's lock.
pub(super) struct TopicLog {
    topic: Arc<str>,
    rule: Arc<LogRule>,
    /// The last seq that was given.
    head: i64,
    tail: VecDeque<Arc<LogEntry>>,
    tail_bytes: usize,
    committed: Arc<AtomicI64>,
}

impl TopicLog {
    pub(super) async fn load(topic: &Arc<str>, rule: &Arc<LogRule>) -> Result<Self, LoadError> {
        let LogSnapshot { head, entries } =
            rule.store.newest(topic, rule.tail, rule.tail_bytes).await?;
        let mut log = Self {
            topic: Arc::clone(topic),
            rule: Arc::clone(rule),
            head,
            tail: VecDeque::new(),
            tail_bytes: 0,
            committed: Arc::new(AtomicI64::new(head)),
        };
        for row in entries {
            let entry = log.entry(
                row.seq,
                row.event.into(),
                RawJson::trusted(row.payload.into()),
                row.at,
            );
            log.push(entry);
        }
        Ok(log)
    }

    pub(super) fn append(&mut self, event: &str, payload: &RawJson) -> Result<(), StoreFull> {
        let entry = self.entry(
            self.head + 1,
            event.into(),
            payload.detach(),
            SystemTime::now(),
        );
        self.rule.store.append(&entry)?;
        self.head += 1;
        self.push(entry);
        Ok(())
    }

    /// At most what the rule promises; the tail is longer while rows wait for their commit.
    pub(super) fn history(&self) -> History {
        let mut bytes = 0;
        let newest = self
            .tail
            .iter()
            .rev()
            .take(self.rule.tail)
            .take_while(|entry| {
                bytes += entry.cost();
                bytes <= self.rule.tail_bytes
            });
        let mut entries: Vec<_> = newest.cloned().collect();
        entries.reverse();
        History { entries }
    }

    pub(super) fn bytes(&self) -> usize {
        self.tail_bytes
    }

    pub(super) fn has_uncommitted(&self) -> bool {
        self.committed.load(Ordering::Acquire) < self.head
    }

    fn entry(
        &self,
        seq: i64,
        event: ByteString,
        payload: RawJson,
        at: SystemTime,
    ) -> Arc<LogEntry> {
        Arc::new(LogEntry {
            topic: Arc::clone(&self.topic),
            seq,
            event,
            payload,
            at,
            committed: Arc::clone(&self.committed),
        })
    }

    fn push(&mut self, entry: Arc<LogEntry>) {
        self.tail_bytes += entry.cost();
        self.tail.push_back(entry);
        let committed = self.committed.load(Ordering::Acquire);
        while let Some(oldest) = self.tail.front()
            && oldest.seq <= committed
            && (self.tail.len() > self.rule.tail || self.tail_bytes > self.rule.tail_bytes)
        {
            self.tail_bytes -= oldest.cost();
            self.tail.pop_front();
        }
    }
}
