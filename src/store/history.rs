//! What a topic's log reads: its newest messages, pages of a resume, recent client_refs.

use std::time::{Duration, SystemTime};

use chrono::NaiveDateTime;
use diesel::prelude::*;
use diesel::sql_types::Text;
use serde_json::value::RawValue;

use super::backend::{Connection, on_each_backend};
use super::message::{from_timestamp, to_timestamp};
use super::readable::{Readable, has_place};
use super::schema::messages;
use crate::pubsub::StoredEntry;

/// Rows of one read at most, changes included.
const MAX_ROWS: i64 = 20_000;
/// How long a client_ref is looked for in memory, and how many of a topic.
const REF_WINDOW: Duration = Duration::from_secs(600);
const MAX_REFS: i64 = 100_000;

#[diesel::declare_sql_function]
extern "SQL" {
    /// Bytes of a text, which neither database has to read it for.
    fn octet_length(text: Text) -> Integer;
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = messages)]
pub(super) struct StoredMessage {
    topic: String,
    seq: i64,
    event: Readable<String>,
    payload: Readable<String>,
    target: Option<i64>,
    client_ref: Option<Readable<String>>,
    inserted_at: Readable<NaiveDateTime>,
}

impl StoredMessage {
    /// A row that cannot be read, or whose payload is no JSON object, was not written by this server;
    /// it is left out, so that it breaks no client.
    pub(super) fn into_entry(self) -> Option<StoredEntry> {
        let (Some(event), Some(payload), Some(at)) =
            (self.event.0, self.payload.0, self.inserted_at.0)
        else {
            tracing::warn!(
                topic = self.topic,
                seq = self.seq,
                "store.message.unreadable"
            );
            return None;
        };
        let payload = payload.trim();
        let json = serde_json::from_str::<&RawValue>(payload);
        if !json.is_ok_and(|json| json.get().starts_with('{')) {
            tracing::warn!(topic = self.topic, seq = self.seq, "store.message.not_json");
            return None;
        }
        Some(StoredEntry {
            seq: self.seq,
            event,
            payload: payload.to_owned(),
            target: self.target,
            at: from_timestamp(at),
            client_ref: self.client_ref.and_then(|client_ref| client_ref.0),
        })
    }

    fn bytes(&self) -> usize {
        self.payload.0.as_ref().map_or(0, String::len)
    }
}

/// The newest messages of a topic, at most `limit` that have `bytes` of payload together, and the
/// changes after the oldest of them; oldest first.
pub(super) fn newest(
    connection: &mut Connection<'_>,
    topic: &str,
    limit: usize,
    bytes: usize,
) -> QueryResult<Vec<StoredEntry>> {
    let sizes: Vec<(i64, i32)> = on_each_backend!(connection, |typed| {
        messages::table
            .filter(messages::topic.eq(topic))
            .filter(messages::target.is_null())
            .filter(has_place())
            .order(messages::seq.desc())
            .limit(rows(limit))
            .select((messages::seq, octet_length(messages::payload)))
            .load(typed)
    })?;
    match connection {
        #[cfg(feature = "sqlite")]
        Connection::Sqlite(_) => warn_of_rows_without_place(connection, topic)?,
        #[cfg(feature = "postgres")]
        Connection::Postgres(_) => {}
    }
    let mut first = None;
    within(&sizes, bytes, |seq| first = Some(seq));
    let Some(first) = first else {
        return Ok(Vec::new());
    };
    let newest: Vec<StoredMessage> = on_each_backend!(connection, |typed| {
        messages::table
            .filter(messages::topic.eq(topic))
            .filter(messages::seq.ge(first))
            .filter(has_place())
            .order(messages::seq.desc())
            .limit(MAX_ROWS)
            .select(StoredMessage::as_select())
            .load(typed)
    })?;
    // The changes count as well, so that an often edited message is not a long history.
    let mut left = bytes;
    let fitting = newest.into_iter().take_while(|row| {
        let fits = row.bytes() <= left;
        left = left.saturating_sub(row.bytes());
        fits
    });
    let mut entries: Vec<_> = fitting.filter_map(StoredMessage::into_entry).collect();
    entries.reverse();
    Ok(entries)
}

/// Texts and blobs in place of a seq, which stand behind all numbers in the index.
#[cfg(feature = "sqlite")]
fn warn_of_rows_without_place(connection: &mut Connection<'_>, topic: &str) -> QueryResult<()> {
    let rows = messages::table
        .filter(messages::topic.eq(topic))
        .filter(messages::seq.gt(i64::MAX))
        .count();
    let rows: i64 = on_each_backend!(connection, |typed| rows.get_result(typed))?;
    if rows > 0 {
        tracing::warn!(topic, rows, "store.messages.without_place");
    }
    Ok(())
}

/// The messages and changes after a seq, oldest first: at most `limit` that have `bytes` of payload
/// together, but one if there is any.
pub(super) fn page(
    connection: &mut Connection<'_>,
    topic: &str,
    after: i64,
    limit: usize,
    bytes: usize,
) -> QueryResult<Vec<StoredEntry>> {
    let mut after = after;
    loop {
        let sizes: Vec<(i64, i32)> = on_each_backend!(connection, |typed| {
            messages::table
                .filter(messages::topic.eq(topic))
                .filter(messages::seq.gt(after))
                .filter(has_place())
                .order(messages::seq)
                .limit(rows(limit))
                .select((messages::seq, octet_length(messages::payload)))
                .load(typed)
        })?;
        let Some(&(first, _)) = sizes.first() else {
            return Ok(Vec::new());
        };
        let mut last = first;
        within(&sizes, bytes, |seq| last = seq);
        let page: Vec<StoredMessage> = on_each_backend!(connection, |typed| {
            messages::table
                .filter(messages::topic.eq(topic))
                .filter(messages::seq.gt(after))
                .filter(has_place())
                .filter(messages::seq.le(last))
                .order(messages::seq)
                .select(StoredMessage::as_select())
                .load(typed)
        })?;
        let entries: Vec<_> = page
            .into_iter()
            .filter_map(StoredMessage::into_entry)
            .collect();
        // An empty page would be the end.
        if !entries.is_empty() {
            return Ok(entries);
        }
        after = last;
    }
}

/// The newest messages before a seq, oldest first: at most `limit` that have `bytes` of payload
/// together, but one if there is any.
pub(super) fn before(
    connection: &mut Connection<'_>,
    topic: &str,
    before: i64,
    limit: usize,
    bytes: usize,
) -> QueryResult<Vec<StoredEntry>> {
    let mut before = before;
    loop {
        let sizes: Vec<(i64, i32)> = on_each_backend!(connection, |typed| {
            messages::table
                .filter(messages::topic.eq(topic))
                .filter(messages::target.is_null())
                .filter(messages::seq.lt(before))
                .filter(has_place())
                .order(messages::seq.desc())
                .limit(rows(limit))
                .select((messages::seq, octet_length(messages::payload)))
                .load(typed)
        })?;
        let Some(&(newest, _)) = sizes.first() else {
            return Ok(Vec::new());
        };
        let mut first = newest;
        within(&sizes, bytes, |seq| first = seq);
        let page: Vec<StoredMessage> = on_each_backend!(connection, |typed| {
            messages::table
                .filter(messages::topic.eq(topic))
                .filter(messages::target.is_null())
                .filter(messages::seq.between(first, newest))
                .filter(has_place())
                .order(messages::seq)
                .select(StoredMessage::as_select())
                .load(typed)
        })?;
        let entries: Vec<_> = page
            .into_iter()
            .filter_map(StoredMessage::into_entry)
            .collect();
        // An empty page would be the beginning.
        if !entries.is_empty() {
            return Ok(entries);
        }
        before = first;
    }
}

/// The client_refs of the last minutes with their seqs, oldest first.
pub(super) fn recent_refs(
    connection: &mut Connection<'_>,
    topic: &str,
) -> QueryResult<Vec<(String, i64)>> {
    let since = to_timestamp(SystemTime::now() - REF_WINDOW);
    let mut refs: Vec<(String, i64)> = on_each_backend!(connection, |typed| {
        messages::table
            .filter(messages::topic.eq(topic))
            .filter(messages::client_ref.is_not_null())
            .filter(messages::inserted_at.gt(since))
            .filter(has_place())
            .order(messages::inserted_at.desc())
            .limit(MAX_REFS)
            .select((messages::client_ref.assume_not_null(), messages::seq))
            .load(typed)
    })?;
    refs.reverse();
    Ok(refs)
}

fn rows(limit: usize) -> i64 {
    i64::try_from(limit).map_or(MAX_ROWS, |limit| limit.min(MAX_ROWS))
}

/// Calls `fits` with each seq, as long as they have `bytes` together.
pub(super) fn within(sizes: &[(i64, i32)], bytes: usize, mut fits: impl FnMut(i64)) {
    let mut left = bytes;
    for &(seq, size) in sizes {
        let Some(rest) = left.checked_sub(usize::try_from(size).unwrap_or_default()) else {
            return;
        };
        left = rest;
        fits(seq);
    }
}
