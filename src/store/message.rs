//! The rows of `messages` and their statements.

use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, NaiveDateTime};
use diesel::connection::DefaultLoadingMode;
use diesel::prelude::*;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::backend::{Connection, on_each_backend};
use super::schema::messages;
use crate::message::RawJson;
use crate::pubsub::{LogEntry, StoredEntry};

/// A row to insert. `name` and `message` are copies out of the payload, for people who look at the
/// table; what is relayed and given back is the payload.
#[derive(Insertable)]
#[diesel(table_name = messages, treat_none_as_default_value = false)]
pub(super) struct NewMessage<'a> {
    topic: &'a str,
    event: &'a str,
    payload: &'a str,
    seq: i64,
    name: Option<String>,
    message: Option<String>,
    inserted_at: NaiveDateTime,
    updated_at: NaiveDateTime,
}

impl<'a> From<&'a LogEntry> for NewMessage<'a> {
    fn from(entry: &'a LogEntry) -> Self {
        let Seed { name, message } = Seed::read(entry.payload());
        let at = to_timestamp(entry.at());
        Self {
            topic: entry.topic(),
            event: entry.event(),
            payload: entry.payload().get(),
            seq: entry.seq(),
            name,
            message,
            inserted_at: at,
            updated_at: at,
        }
    }
}

/// The seed's two fields, where the payload has them as strings.
#[derive(Default)]
struct Seed {
    name: Option<String>,
    message: Option<String>,
}

impl Seed {
    fn read(payload: &RawJson) -> Self {
        #[derive(Deserialize)]
        struct Fields<'a> {
            #[serde(borrow)]
            name: Option<&'a RawValue>,
            #[serde(borrow)]
            message: Option<&'a RawValue>,
        }
        let Ok(fields) = serde_json::from_str::<Fields<'_>>(payload.get()) else {
            return Self::default();
        };
        Self {
            name: text(fields.name),
            message: text(fields.message),
        }
    }
}

/// The string without NUL, which PostgreSQL's text cannot hold; nothing for other types.
fn text(raw: Option<&RawValue>) -> Option<String> {
    let text: Cow<'_, str> = serde_json::from_str(raw?.get()).ok()?;
    Some(text.replace('\0', ""))
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = messages)]
struct StoredMessage {
    topic: String,
    seq: i64,
    event: String,
    payload: String,
    inserted_at: NaiveDateTime,
}

pub(super) fn insert(
    connection: &mut Connection<'_>,
    rows: &[NewMessage<'_>],
) -> QueryResult<usize> {
    on_each_backend!(connection, |typed| diesel::insert_into(messages::table)
        .values(rows)
        .execute(typed))
}

/// The newest rows of a topic, oldest first: at most `limit`, and no more than have `bytes` of
/// payload together. A payload that is no JSON object was not written by this server; it is left
/// out, so that it breaks no client.
pub(super) fn newest(
    connection: &mut Connection<'_>,
    topic: &str,
    limit: i64,
    bytes: usize,
) -> QueryResult<Vec<StoredEntry>> {
    let mut entries = on_each_backend!(connection, |typed| {
        let rows = messages::table
            .filter(messages::topic.eq(topic))
            .order(messages::seq.desc())
            .limit(limit)
            .select(StoredMessage::as_select())
            .load_iter::<StoredMessage, DefaultLoadingMode>(typed)?;
        within(rows, bytes)
    })?;
    entries.reverse();
    Ok(entries)
}

/// The first rows that have `bytes` of payload together, at most.
fn within(
    rows: impl Iterator<Item = QueryResult<StoredMessage>>,
    bytes: usize,
) -> QueryResult<Vec<StoredEntry>> {
    let (mut entries, mut size) = (Vec::new(), 0);
    for row in rows {
        let row = row?;
        size += row.payload.len();
        if size > bytes {
            break;
        }
        if is_object(&row.payload) {
            entries.push(row.into());
        } else {
            tracing::warn!(topic = row.topic, seq = row.seq, "store.message.not_json");
        }
    }
    Ok(entries)
}

fn is_object(payload: &str) -> bool {
    serde_json::from_str::<&RawValue>(payload).is_ok_and(|json| json.get().starts_with('{'))
}

impl From<StoredMessage> for StoredEntry {
    fn from(row: StoredMessage) -> Self {
        Self {
            seq: row.seq,
            event: row.event,
            payload: row.payload.trim().to_owned(),
            at: from_timestamp(row.inserted_at),
        }
    }
}

/// The highest seq of a topic, 0 for none: kept apart from [`newest`], which may leave rows out.
pub(super) fn head(connection: &mut Connection<'_>, topic: &str) -> QueryResult<i64> {
    let query = messages::table
        .filter(messages::topic.eq(topic))
        .select(diesel::dsl::max(messages::seq));
    let head: Option<i64> = on_each_backend!(connection, |typed| query.first(typed))?;
    Ok(head.unwrap_or(0))
}

/// Microseconds, as Ecto's `utc_datetime_usec`.
fn to_timestamp(at: SystemTime) -> NaiveDateTime {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let micros = i64::try_from(since.as_micros()).unwrap_or_default();
    DateTime::from_timestamp_micros(micros)
        .unwrap_or_default()
        .naive_utc()
}

fn from_timestamp(at: NaiveDateTime) -> SystemTime {
    let micros = u64::try_from(at.and_utc().timestamp_micros()).unwrap_or_default();
    UNIX_EPOCH + Duration::from_micros(micros)
}
