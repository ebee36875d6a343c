//! Reads for a topic's log: the newest messages, pages of a resume, recent client_refs.

use std::time::{Duration, SystemTime};

use chrono::NaiveDateTime;
use diesel::prelude::*;
use diesel::sql_types::Text;
use serde_json::value::RawValue;

use crate::log::{Seq, StoredEntry};
use crate::store::backend::{DbConnection, on_each_backend};
use crate::store::schema::messages;
use crate::store::tables::readable::{Readable, has_place};
use crate::store::tables::row::{from_timestamp, to_timestamp};

/// The most rows of one read, including updates and deletions.
const MAX_ROWS: i64 = 20_000;
/// The greatest age of a client_ref that is read, and the most client_refs of one topic.
const REF_WINDOW: Duration = Duration::from_secs(600);
const MAX_REFS: i64 = 100_000;
/// The form of refs that servers make for themselves; `_` is any character.
const OWN_REFS: &str = "~________________-%";

#[diesel::declare_sql_function]
extern "SQL" {
    /// The bytes of a text. Neither database reads the text for this.
    fn octet_length(text: Text) -> Integer;
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = messages)]
pub(in crate::store) struct StoredMessage {
    topic: String,
    seq: Seq,
    event: Readable<String>,
    payload: Readable<String>,
    target: Option<Seq>,
    client_ref: Option<Readable<String>>,
    inserted_at: Readable<NaiveDateTime>,
}

impl StoredMessage {
    /// `None` if a column cannot be read, or the payload is no JSON object: another application has written the row,
    /// and clients could not read it.
    pub(in crate::store) fn into_entry(self) -> Option<StoredEntry> {
        let (Some(event), Some(payload), Some(at)) =
            (self.event.0, self.payload.0, self.inserted_at.0)
        else {
            tracing::warn!(
                topic = self.topic,
                seq = self.seq.get(),
                "store.message.unreadable: histories leave the row out; correct or delete it"
            );
            return None;
        };
        let payload = payload.trim();
        let json = serde_json::from_str::<&RawValue>(payload);
        if !json.is_ok_and(|json| json.get().starts_with('{')) {
            tracing::warn!(
                topic = self.topic,
                seq = self.seq.get(),
                "store.message.not_json: histories leave the row out; correct or delete it"
            );
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

/// The newest messages of a topic, at most `limit` and at most `bytes` of payload together, with the updates and
/// deletions after the oldest of them. Oldest first.
pub(in crate::store) fn newest(
    connection: &mut DbConnection<'_>,
    topic: &str,
    limit: usize,
    bytes: usize,
) -> QueryResult<Vec<StoredEntry>> {
    let sizes: Vec<(Seq, i32)> = on_each_backend!(connection, |typed| {
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
        DbConnection::Sqlite(_) => warn_of_rows_without_place(connection, topic)?,
        #[cfg(feature = "postgres")]
        DbConnection::Postgres(_) => {}
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
    // Updates count as well, so that the history of an often edited message stays short.
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

/// Rows whose seq is a text or a blob. The index has them after all numbers.
#[cfg(feature = "sqlite")]
fn warn_of_rows_without_place(connection: &mut DbConnection<'_>, topic: &str) -> QueryResult<()> {
    let rows = messages::table
        .filter(messages::topic.eq(topic))
        .filter(messages::seq.gt(i64::MAX))
        .count();
    let rows: i64 = on_each_backend!(connection, |typed| rows.get_result(typed))?;
    if rows > 0 {
        tracing::warn!(
            topic,
            rows,
            "store.messages.without_place: histories leave the rows out; give them whole numbers \
             in `seq`"
        );
    }
    Ok(())
}

/// The messages, updates and deletions after a seq, oldest first: at most `limit`, and at most `bytes` of payload
/// together; but one row of any size.
pub(in crate::store) fn page(
    connection: &mut DbConnection<'_>,
    topic: &str,
    after: Seq,
    limit: usize,
    bytes: usize,
) -> QueryResult<Vec<StoredEntry>> {
    let mut after = after;
    loop {
        let sizes: Vec<(Seq, i32)> = on_each_backend!(connection, |typed| {
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
        // To the caller an empty page is the end.
        if !entries.is_empty() {
            return Ok(entries);
        }
        after = last;
    }
}

/// The newest messages before a seq, oldest first: at most `limit`, and at most `bytes` of payload together; but one
/// message of any size.
pub(in crate::store) fn before(
    connection: &mut DbConnection<'_>,
    topic: &str,
    before: Seq,
    limit: usize,
    bytes: usize,
) -> QueryResult<Vec<StoredEntry>> {
    let mut before = before;
    loop {
        let sizes: Vec<(Seq, i32)> = on_each_backend!(connection, |typed| {
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
        // To the caller an empty page is the beginning.
        if !entries.is_empty() {
            return Ok(entries);
        }
        before = first;
    }
}

/// The client_refs of the last [`REF_WINDOW`] with their seqs, oldest first.
pub(in crate::store) fn recent_refs(
    connection: &mut DbConnection<'_>,
    topic: &str,
) -> QueryResult<Vec<(String, Seq)>> {
    let since = to_timestamp(SystemTime::now() - REF_WINDOW);
    let mut refs: Vec<(String, Seq)> = on_each_backend!(connection, |typed| {
        messages::table
            .filter(messages::topic.eq(topic))
            .filter(messages::client_ref.is_not_null())
            .filter(messages::client_ref.not_like(OWN_REFS))
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

/// Calls `fits` with each seq, until the payloads have more than `bytes` together.
pub(in crate::store) fn within(sizes: &[(Seq, i32)], bytes: usize, mut fits: impl FnMut(Seq)) {
    let mut left = bytes;
    for &(seq, size) in sizes {
        let Some(rest) = left.checked_sub(usize::try_from(size).unwrap_or_default()) else {
            return;
        };
        left = rest;
        fits(seq);
    }
}
