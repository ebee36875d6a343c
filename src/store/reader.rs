//! [`Reader`]: the stored messages of a topic, page by page and one by one, beside its log.

use std::time::SystemTime;

use chrono::NaiveDateTime;
use diesel::prelude::*;

use super::backend::{Connection, Pool, on_each_backend};
use super::history::{StoredMessage, octet_length, within};
use super::message::from_timestamp;
use super::readable::{Readable, has_place};
use super::run::Names;
use super::schema::messages;
use super::takeover;
use crate::message::RawJson;
use crate::pubsub::{LoadError, MessageId};

/// Payloads of a page, in bytes.
const PAGE_BYTES: usize = 4_000_000;

/// Reads what is committed, on the database's connections for reading. Cloning is cheap.
#[derive(Clone)]
pub struct Reader {
    pool: Pool,
}

named_debug!(Reader);

/// A committed message. Changes are no messages of this kind: they show in what they have changed.
#[derive(Clone, Debug)]
pub struct CommittedMessage {
    /// The id by which clients and the topic's log know it.
    pub id: MessageId,
    /// What happened.
    pub event: String,
    /// A JSON object: as it came, or as the last update has made it.
    pub payload: RawJson,
    /// The client's own name for it.
    pub client_ref: Option<String>,
    /// When it was published.
    pub inserted_at: SystemTime,
    /// When it was last updated; when it was published if never.
    pub updated_at: SystemTime,
}

/// Which messages of a topic: the newest, or with `after` the oldest, within these bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// Only those with a higher seq.
    pub after: Option<i64>,
    /// Only those with a lower seq.
    pub before: Option<i64>,
}

impl Window {
    fn after(seq: i64) -> Self {
        Self {
            after: Some(seq),
            before: None,
        }
    }

    fn before(seq: i64) -> Self {
        Self {
            after: None,
            before: Some(seq),
        }
    }
}

/// Some messages of a topic that stand side by side, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// At most as many as were asked for, and no more than 4 MB of payloads, but one if there is
    /// any.
    pub messages: Vec<CommittedMessage>,
    /// Where the next older page ends; `None` if there is none.
    pub before: Option<MessageId>,
    /// Where the next newer page begins; `None` if there is none as yet.
    pub after: Option<MessageId>,
}

impl Reader {
    pub(super) fn new(pool: Pool) -> Self {
        Self { pool }
    }

    /// A page of a topic with at most `limit` messages. Rows of a topic are committed in the order
    /// of their seq, so following a page's cursors leaves nothing out and gives nothing twice,
    /// whatever is published or deleted meanwhile.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn list(&self, topic: &str, window: Window, limit: usize) -> Result<Page, LoadError> {
        self.read(topic, move |connection, topic| {
            page(connection, topic, window, limit)
        })
        .await
    }

    /// The message with this id, if there is one.
    ///
    /// # Errors
    /// When the database cannot be read.
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

    /// How many rows an application that knows no topics has written since the start. They are adopted
    /// at the next one.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn rows_of_others(&self) -> Result<u64, LoadError> {
        self.read("", |connection, _| takeover::rows_of_others(connection))
            .await
    }

    async fn read<T: Send + 'static>(
        &self,
        topic: &str,
        query: impl FnOnce(&mut Connection<'_>, &str) -> QueryResult<T> + Send + 'static,
    ) -> Result<T, LoadError> {
        let name = topic.to_owned();
        let read = self
            .pool
            .clone()
            .read(move |connection| query(connection, &name));
        read.await.map_err(|source| LoadError {
            topic: topic.to_owned(),
            source,
        })
    }
}

fn page(
    connection: &mut Connection<'_>,
    topic: &str,
    window: Window,
    limit: usize,
) -> QueryResult<Page> {
    let sizes = sizes(connection, topic, window, limit.saturating_add(1))?;
    let end = limit.min(sizes.len());
    let mut fitting = 0;
    within(&sizes[..end], PAGE_BYTES, |_| fitting += 1);
    // A message that is longer than a page is a page.
    let seqs = &sizes[..fitting.max(end.min(1))];
    let more = seqs.len() < sizes.len();
    let (nearest, farthest) = (seqs.first(), seqs.last());
    let seq = |&(seq, _): &(i64, i32)| seq;
    let (oldest, newest, before, after) = match window.after {
        None => {
            let end = window.before.unwrap_or(i64::MAX);
            let newest = nearest.map_or(end.saturating_sub(1), seq);
            let newer = exists(connection, topic, Window::after(newest))?;
            (farthest.map_or(end, seq), newest, more, newer)
        }
        Some(start) => {
            let oldest = nearest.map_or(start.saturating_add(1), seq);
            let newest = farthest.map_or(start, seq);
            let older = exists(connection, topic, Window::before(oldest))?;
            let newer = more || exists(connection, topic, Window::after(newest))?;
            (oldest, newest, older, newer)
        }
    };
    let names = Names::of(connection, topic)?;
    // No message has the seq 0, and no id a negative one.
    let cursor = |seq: i64| names.id(seq.max(0));
    Ok(Page {
        messages: between(connection, topic, oldest, newest)?,
        before: before.then(|| cursor(oldest)),
        after: after.then(|| cursor(newest)),
    })
}

fn exists(connection: &mut Connection<'_>, topic: &str, window: Window) -> QueryResult<bool> {
    Ok(!sizes(connection, topic, window, 1)?.is_empty())
}

/// Seqs and sizes of the messages of a window, those next to its edge first.
fn sizes(
    connection: &mut Connection<'_>,
    topic: &str,
    window: Window,
    limit: usize,
) -> QueryResult<Vec<(i64, i32)>> {
    let rows = messages::table
        .filter(messages::topic.eq(topic))
        .filter(messages::target.is_null())
        .filter(has_place())
        .filter(messages::seq.lt(window.before.unwrap_or(i64::MAX)))
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

/// The messages with these seqs and those between, oldest first.
fn between(
    connection: &mut Connection<'_>,
    topic: &str,
    oldest: i64,
    newest: i64,
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
            client_ref: entry.client_ref,
            inserted_at: entry.at,
            updated_at: updated_at.0.map_or(entry.at, from_timestamp),
        })
    });
    Ok(committed.collect())
}
