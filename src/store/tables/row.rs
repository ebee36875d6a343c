//! [`PendingRow`]: a row to store, borrowed from memory or from the spool.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::log::{Change, LogEntry, Seq};
use crate::store::spool::Record;

/// One row of `messages` that is not stored yet.
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

/// Microseconds since 1970, as Ecto's `utc_datetime_usec` counts them.
pub(in crate::store) fn micros(at: SystemTime) -> i64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or_default()
}

/// The time of these microseconds. Times before 1970 become 1970.
pub(in crate::store) fn from_micros(micros: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(u64::try_from(micros).unwrap_or_default())
}
