//! [`SlowModeChange`]: the rows of `slow_modes`.

use std::time::{Duration, SystemTime};

use diesel::prelude::*;

use crate::slow_mode::{MAX_INTERVAL, SlowMode};
use crate::store::backend::{DbConnection, on_each_backend};
use crate::store::schema::slow_modes;
use crate::store::tables::row::{from_micros, micros};

/// A change of the table.
#[derive(Clone, Debug)]
pub(in crate::store) enum SlowModeChange {
    /// Adds a row, in place of that of the topic.
    Put(SlowMode),
    /// Deletes the row of this topic.
    Remove(String),
    /// Deletes the rows that have ended at this time. There are at most ten thousand.
    Prune(SystemTime),
}

/// A row.
type SlowModeRow = (String, i64, i64, Option<i64>);

impl SlowModeChange {
    /// Makes the change, inside a transaction. Returns the number of rows.
    pub(in crate::store) fn run(&self, connection: &mut DbConnection<'_>) -> QueryResult<usize> {
        match self {
            Self::Put(mode) => put(connection, mode),
            Self::Remove(topic) => {
                let row = slow_modes::table.find(topic);
                on_each_backend!(connection, |typed| diesel::delete(row).execute(typed))
            }
            Self::Prune(now) => {
                let ended = slow_modes::table.filter(slow_modes::ends.le(micros(*now)));
                on_each_backend!(connection, |typed| diesel::delete(ended).execute(typed))
            }
        }
    }
}

/// The slow modes that have not ended, the newest first.
pub(in crate::store) fn in_force(
    connection: &mut DbConnection<'_>,
    now: SystemTime,
    limit: usize,
) -> QueryResult<Vec<SlowMode>> {
    let is_in_force = slow_modes::ends
        .is_null()
        .or(slow_modes::ends.gt(micros(now)));
    let rows = slow_modes::table
        .filter(is_in_force)
        .order(slow_modes::since.desc())
        .limit(i64::try_from(limit).unwrap_or(i64::MAX));
    let rows: Vec<SlowModeRow> = on_each_backend!(connection, |typed| rows.load(typed))?;
    Ok(rows.into_iter().filter_map(read).collect())
}

/// `None` for a row that this version does not understand.
fn read((topic, seconds, since, ends): SlowModeRow) -> Option<SlowMode> {
    let seconds = u64::try_from(seconds).ok();
    let seconds = seconds.filter(|seconds| (1..=MAX_INTERVAL).contains(seconds))?;
    Some(SlowMode {
        topic,
        interval: Duration::from_secs(seconds),
        since: from_micros(since),
        ends: ends.map(from_micros),
    })
}

fn put(connection: &mut DbConnection<'_>, mode: &SlowMode) -> QueryResult<usize> {
    let seconds = i64::try_from(mode.interval.as_secs()).unwrap_or(i64::MAX);
    let values = (
        slow_modes::seconds.eq(seconds),
        slow_modes::since.eq(micros(mode.since)),
        slow_modes::ends.eq(mode.ends.map(micros)),
    );
    let row = (slow_modes::topic.eq(&mode.topic), values);
    on_each_backend!(connection, |typed| diesel::insert_into(slow_modes::table)
        .values(row)
        .on_conflict(slow_modes::topic)
        .do_update()
        .set(values)
        .execute(typed))
}
