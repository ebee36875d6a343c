//! [`Reader`]: the committed messages of a topic, by page and by id.

use std::time::SystemTime;

use chrono::NaiveDateTime;
use diesel::prelude::*;

use crate::log::{LoadError, MessageId, Seq, of_client};
use crate::message::RawJson;
use crate::metrics::Query;
use crate::store::backend::{DbConnection, Pool, on_each_backend};
use crate::store::schema::messages;
use crate::store::tables::history::{StoredMessage, octet_length, within};
use crate::store::tables::readable::{Readable, has_place};
use crate::store::tables::row::from_timestamp;
use crate::store::tables::run::Names;
use crate::store::tables::takeover;

/// The most payload bytes of a page.
const PAGE_BYTES: usize = 4_000_000;

/// Reads committed messages. Cloning is cheap.
#[derive(Clone)]
pub struct Reader {
    pool: Pool,
}

named_debug!(Reader);

/// A committed message, with its updates applied. A deleted message is not stored.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CommittedMessage {
    /// Its id, as clients and the topic's log know it.
    pub id: MessageId,
    /// Its event.
    pub event: String,
    /// A JSON object: the payload that was sent, or the payload of the last update.
    pub payload: RawJson,
    /// The client's own name for it.
    pub client_ref: Option<String>,
    /// When it was published.
    pub inserted_at: SystemTime,
    /// The time of the last update, or of the publication if there was no update.
    pub updated_at: SystemTime,
}

/// A range of a topic's messages. A page has its newest messages, or with `after` its oldest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// Messages with a higher seq than this.
    pub after: Option<Seq>,
    /// Messages with a lower seq than this.
    pub before: Option<Seq>,
}

impl Window {
    fn after(seq: Seq) -> Self {
        Self {
            after: Some(seq),
            before: None,
        }
    }

    fn before(seq: Seq) -> Self {
        Self {
            after: None,
            before: Some(seq),
        }
    }
}

/// Consecutive messages of a topic, oldest first.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Page {
    /// At most the requested number, and at most 4 MB of payloads together; but one message of any size.
    pub messages: Vec<CommittedMessage>,
    /// The end of the next older page; `None` if there is none.
    pub before: Option<MessageId>,
    /// The start of the next newer page; `None` if there is none yet.
    pub after: Option<MessageId>,
}

impl Reader {
    pub(in crate::store) fn new(pool: Pool) -> Self {
        Self { pool }
    }

    /// A page of at most `limit` messages. Rows of a topic are committed in the order of their seq. So the cursors of
    /// a page neither skip nor repeat a message, even if messages are published or deleted meanwhile.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn list(&self, topic: &str, window: Window, limit: usize) -> Result<Page, LoadError> {
        self.read(topic, move |connection, topic| {
            page(connection, topic, window, limit)
        })
        .await
    }

    /// The message with this id, if there is one.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn get(
        &self,
        topic: &str,
        id: MessageId,
    ) -> Result<Option<CommittedMessage>, LoadError> {
        self.read(topic, move |connection, topic| {
            if !Names::of(connection, topic)?.may_name(id) {
                return Ok(None);
            }
            let found = between(connection, topic, id.seq, id.seq)?;
            Ok(found.into_iter().next())
        })
        .await
    }

    /// The number of messages of a topic, without updates and deletions. Counting reads all of them.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn count(&self, topic: &str) -> Result<u64, LoadError> {
        self.read(topic, |connection, topic| {
            let rows = messages::table
                .filter(messages::topic.eq(topic))
                .filter(messages::target.is_null())
                .filter(has_place())
                .count();
            let rows: i64 = on_each_backend!(connection, |typed| rows.get_result(typed))?;
            Ok(u64::try_from(rows).unwrap_or_default())
        })
        .await
    }

    /// The number of rows that another application has written since the start. They have no topic until the next
    /// start adopts them.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn rows_of_others(&self) -> Result<u64, LoadError> {
        self.read("", |connection, _| takeover::rows_of_others(connection))
            .await
    }

    async fn read<T: Send + 'static>(
        &self,
        topic: &str,
        query: impl FnOnce(&mut DbConnection<'_>, &str) -> QueryResult<T> + Send + 'static,
    ) -> Result<T, LoadError> {
        let name = topic.to_owned();
        let read = self
            .pool
            .clone()
            .read(Query::Api, move |connection| query(connection, &name));
        read.await.map_err(|source| LoadError {
            topic: topic.to_owned(),
            source,
        })
    }
}

fn page(
    connection: &mut DbConnection<'_>,
    topic: &str,
    window: Window,
    limit: usize,
) -> QueryResult<Page> {
    let sizes = sizes(connection, topic, window, limit.saturating_add(1))?;
    let end = limit.min(sizes.len());
    let mut fitting = 0;
    within(&sizes[..end], PAGE_BYTES, |_| fitting += 1);
    // A message that is longer than a page makes a page of its own.
    let seqs = &sizes[..fitting.max(end.min(1))];
    let more = seqs.len() < sizes.len();
    let (nearest, farthest) = (seqs.first(), seqs.last());
    let seq = |&(seq, _): &(Seq, i32)| seq;
    let (oldest, newest, before, after) = match window.after {
        None => {
            let end = window.before.unwrap_or(Seq::MAX);
            let newest = nearest.map_or(end.previous(), seq);
            let newer = exists(connection, topic, Window::after(newest))?;
            (farthest.map_or(end, seq), newest, more, newer)
        }
        Some(start) => {
            let oldest = nearest.map_or(start.next(), seq);
            let newest = farthest.map_or(start, seq);
            let older = exists(connection, topic, Window::before(oldest))?;
            let newer = more || exists(connection, topic, Window::after(newest))?;
            (oldest, newest, older, newer)
        }
    };
    let names = Names::of(connection, topic)?;
    // No message has the seq 0, and no id has a negative one.
    let cursor = |seq: Seq| names.id(seq.max(Seq::ZERO));
    Ok(Page {
        messages: between(connection, topic, oldest, newest)?,
        before: before.then(|| cursor(oldest)),
        after: after.then(|| cursor(newest)),
    })
}

fn exists(connection: &mut DbConnection<'_>, topic: &str, window: Window) -> QueryResult<bool> {
    Ok(!sizes(connection, topic, window, 1)?.is_empty())
}

/// Seqs and payload sizes of a window's messages: newest first, or with `after` oldest first.
fn sizes(
    connection: &mut DbConnection<'_>,
    topic: &str,
    window: Window,
    limit: usize,
) -> QueryResult<Vec<(Seq, i32)>> {
    let rows = messages::table
        .filter(messages::topic.eq(topic))
        .filter(messages::target.is_null())
        .filter(has_place())
        .filter(messages::seq.lt(window.before.unwrap_or(Seq::MAX)))
        .limit(i64::try_from(limit).unwrap_or(i64::MAX))
        .select((messages::seq, octet_length(messages::payload)));
    match window.after {
        None => on_each_backend!(connection, |typed| rows
            .order(messages::seq.desc())
            .load(typed)),
        Some(seq) => on_each_backend!(connection, |typed| rows
            .filter(messages::seq.gt(seq))
            .order(messages::seq)
            .load(typed)),
    }
}

/// The messages from `oldest` to `newest`, oldest first.
fn between(
    connection: &mut DbConnection<'_>,
    topic: &str,
    oldest: Seq,
    newest: Seq,
) -> QueryResult<Vec<CommittedMessage>> {
    let rows = messages::table
        .filter(messages::topic.eq(topic))
        .filter(messages::target.is_null())
        .filter(has_place())
        .filter(messages::seq.between(oldest, newest))
        .order(messages::seq);
    let rows: Vec<(StoredMessage, Readable<NaiveDateTime>)> =
        on_each_backend!(connection, |typed| rows
            .select((StoredMessage::as_select(), messages::updated_at))
            .load(typed))?;
    let names = Names::of(connection, topic)?;
    let committed = rows.into_iter().filter_map(|(row, updated_at)| {
        let entry = row.into_entry()?;
        Some(CommittedMessage {
            id: names.id(entry.seq),
            event: entry.event,
            payload: RawJson::trusted(entry.payload.into()),
            client_ref: of_client(entry.client_ref),
            inserted_at: entry.at,
            updated_at: updated_at.0.map_or(entry.at, from_timestamp),
        })
    });
    Ok(committed.collect())
}
