//! [`Row`]: a message to store, wherever it waits for the database: in memory or in the spool.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::spool::Record;
use crate::pubsub::{Change, LogEntry};

/// One row of `messages`, borrowed from where it waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a> {
    pub(super) topic: &'a str,
    pub(super) seq: i64,
    pub(super) event: &'a str,
    /// The text of a JSON object.
    pub(super) payload: &'a str,
    pub(super) client_ref: Option<&'a str>,
    pub(super) change: Option<Change>,
    pub(super) at: SystemTime,
}

impl<'a> Row<'a> {
    /// As the spool takes it.
    pub(super) fn record(self) -> Record<&'a str> {
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

impl<'a> From<&'a LogEntry> for Row<'a> {
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

impl<'a> From<&'a Record> for Row<'a> {
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

/// Microseconds since 1970, as Ecto's `utc_datetime_usec` counts them.
pub(super) fn micros(at: SystemTime) -> i64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or_default()
}

/// The other way; times before 1970 are 1970.
pub(super) fn from_micros(micros: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(u64::try_from(micros).unwrap_or_default())
}
