//! The rows of `messages`: a [`PendingRow`] comes from memory or from the spool, a [`MessageRow`] has all columns, and a
//! [`FoundRow`] is what the database returns.

use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, NaiveDateTime};
use diesel::prelude::*;

use crate::log::{Change, LogEntry, Seq};
use crate::store::schema::messages;
use crate::store::spool::Record;
use crate::store::tables::columns::{Columns, Filled};
use crate::store::tables::readable::Readable;

/// The topic of trial rows. No client can join it.
pub(in crate::store) const TRIAL_TOPIC: &str = "";

/// A message that is not stored yet.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct PendingRow<'a> {
    pub(in crate::store) topic: &'a str,
    pub(in crate::store) seq: Seq,
    pub(in crate::store) event: &'a str,
    /// The text of a JSON object.
    pub(in crate::store) payload: &'a str,
    pub(in crate::store) client_ref: Option<&'a str>,
    pub(in crate::store) change: Option<Change>,
    pub(in crate::store) at: SystemTime,
}

impl<'a> PendingRow<'a> {
    /// As a record of the spool.
    pub(in crate::store) fn record(self) -> Record<&'a str> {
        Record {
            topic: self.topic,
            seq: self.seq,
            event: self.event,
            payload: self.payload,
            client_ref: self.client_ref,
            change: self.change,
            at_micros: micros(self.at),
        }
    }
}

impl<'a> From<&'a LogEntry> for PendingRow<'a> {
    fn from(entry: &'a LogEntry) -> Self {
        Self {
            topic: entry.topic(),
            seq: entry.seq(),
            event: entry.event(),
            payload: entry.payload().get(),
            client_ref: entry.client_ref(),
            change: entry.change(),
            at: entry.at(),
        }
    }
}

impl<'a> From<&'a Record> for PendingRow<'a> {
    fn from(record: &'a Record) -> Self {
        Self {
            topic: &record.topic,
            seq: record.seq,
            event: &record.event,
            payload: &record.payload,
            client_ref: record.client_ref.as_deref(),
            change: record.change,
            at: from_micros(record.at_micros),
        }
    }
}

/// All columns of a row: for insertions and exports.
#[derive(Clone, Debug, Insertable)]
#[diesel(table_name = messages, treat_none_as_default_value = false)]
pub(in crate::store) struct MessageRow<'a> {
    pub(in crate::store) topic: Cow<'a, str>,
    pub(in crate::store) seq: Seq,
    pub(in crate::store) event: Cow<'a, str>,
    pub(in crate::store) payload: Cow<'a, str>,
    pub(in crate::store) name: Option<Cow<'a, str>>,
    pub(in crate::store) message: Option<Cow<'a, str>>,
    pub(in crate::store) client_ref: Option<Cow<'a, str>>,
    pub(in crate::store) target: Option<Seq>,
    pub(in crate::store) inserted_at: NaiveDateTime,
    pub(in crate::store) updated_at: NaiveDateTime,
}

/// A row of the database or of an export.
pub(in crate::store) type OwnedRow = MessageRow<'static>;

impl<'a> MessageRow<'a> {
    /// The row of a new message.
    pub(in crate::store) fn new(row: PendingRow<'a>, columns: &Columns) -> Self {
        // For an update, name and message come from the new payload, so that a search for a name finds it.
        let updated = row
            .change
            .and_then(|change| change.updated_payload(row.payload));
        let Filled { name, message } = columns.fill(row.topic, updated.unwrap_or(row.payload));
        let at = to_timestamp(row.at);
        Self {
            topic: row.topic.into(),
            seq: row.seq,
            event: row.event.into(),
            payload: row.payload.into(),
            name: name.map(Cow::Owned),
            message: message.map(Cow::Owned),
            client_ref: row.client_ref.map(Cow::Borrowed),
            target: row.change.map(Change::target),
            inserted_at: at,
            updated_at: at,
        }
    }

    /// A row for a trial whether the table takes messages. `text` fills the columns `name` and `message`.
    pub(in crate::store) fn trial(
        seq: Seq,
        payload: &'a str,
        text: Option<&'a str>,
        at: NaiveDateTime,
    ) -> Self {
        Self {
            topic: TRIAL_TOPIC.into(),
            seq,
            event: "".into(),
            payload: payload.into(),
            name: text.map(Cow::Borrowed),
            message: text.map(Cow::Borrowed),
            client_ref: None,
            target: None,
            inserted_at: at,
            updated_at: at,
        }
    }

    /// About the memory of the row.
    pub(in crate::store) fn bytes(&self) -> usize {
        self.payload.len() + self.message.as_ref().map_or(0, |message| message.len())
    }
}

/// All columns of a row as the database returns them.
#[derive(Queryable, Selectable)]
#[diesel(table_name = messages)]
pub(in crate::store) struct FoundRow {
    topic: String,
    pub(in crate::store) seq: Seq,
    event: Readable<String>,
    payload: Readable<String>,
    name: Option<Readable<String>>,
    message: Option<Readable<String>>,
    client_ref: Option<Readable<String>>,
    target: Option<Seq>,
    inserted_at: Readable<NaiveDateTime>,
    updated_at: Readable<NaiveDateTime>,
}

impl FoundRow {
    /// `None` if a column cannot be read.
    pub(in crate::store) fn into_row(self) -> Option<OwnedRow> {
        let text = |column: Option<Readable<String>>| match column {
            None => Some(None),
            Some(Readable(text)) => text.map(|text| Some(Cow::Owned(text))),
        };
        Some(MessageRow {
            topic: self.topic.into(),
            seq: self.seq,
            event: self.event.0?.into(),
            payload: self.payload.0?.into(),
            name: text(self.name)?,
            message: text(self.message)?,
            client_ref: text(self.client_ref)?,
            target: self.target,
            inserted_at: self.inserted_at.0?,
            updated_at: self.updated_at.0?,
        })
    }
}

/// Microseconds since 1970, as Ecto's `utc_datetime_usec` counts them.
pub(in crate::store) fn micros(at: SystemTime) -> i64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or_default()
}

/// The time of these microseconds. Times before 1970 become 1970.
pub(in crate::store) fn from_micros(micros: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(u64::try_from(micros).unwrap_or_default())
}

/// Microseconds, as Ecto's `utc_datetime_usec`.
pub(in crate::store) fn to_timestamp(at: SystemTime) -> NaiveDateTime {
    DateTime::from_timestamp_micros(micros(at))
        .unwrap_or_default()
        .naive_utc()
}

pub(in crate::store) fn from_timestamp(at: NaiveDateTime) -> SystemTime {
    from_micros(at.and_utc().timestamp_micros())
}
