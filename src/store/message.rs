//! The rows of `messages` and the statements that write them.

use std::collections::HashSet;
use std::time::SystemTime;

use chrono::{DateTime, NaiveDateTime};
use diesel::prelude::*;

use super::backend::{Connection, on_each_backend};
use super::columns::{Columns, Filled};
use super::readable::has_place;
use super::row::{Row, from_micros, micros};
use super::schema::messages;
use crate::pubsub::Change;

/// A row to insert. `name` and `message` are copies out of the payload, for people who look at the
/// table; what is relayed and given back is the payload.
#[derive(Clone, Insertable)]
#[diesel(table_name = messages, treat_none_as_default_value = false)]
pub(super) struct NewMessage<'a> {
    pub(super) topic: &'a str,
    pub(super) event: &'a str,
    pub(super) payload: &'a str,
    pub(super) seq: i64,
    name: Option<String>,
    message: Option<String>,
    client_ref: Option<&'a str>,
    target: Option<i64>,
    inserted_at: NaiveDateTime,
    updated_at: NaiveDateTime,
}

impl<'a> NewMessage<'a> {
    pub(super) fn new(row: Row<'a>, columns: &Columns) -> Self {
        // Of an update, what it has made of its target: whoever looks for a name finds it.
        let updated = row
            .change
            .and_then(|change| change.updated_payload(row.payload));
        let content = updated.unwrap_or(row.payload);
        let Filled { name, message } = columns.fill(row.topic, content);
        let at = to_timestamp(row.at);
        Self {
            topic: row.topic,
            event: row.event,
            payload: row.payload,
            seq: row.seq,
            name,
            message,
            client_ref: row.client_ref,
            target: row.change.map(Change::target),
            inserted_at: at,
            updated_at: at,
        }
    }
}

/// Inserts all rows or fails, in a transaction that is then to be rolled back.
pub(super) fn insert(connection: &mut Connection<'_>, rows: &[NewMessage<'_>]) -> QueryResult<()> {
    match connection {
        // OR IGNORE: a statement that may fail half-way keeps a copy of each page that it changes.
        #[cfg(feature = "sqlite")]
        Connection::Sqlite(sqlite) => {
            use diesel::result::{DatabaseErrorKind, Error};
            let inserted = diesel::insert_or_ignore_into(messages::table)
                .values(rows)
                .execute(*sqlite)?;
            if inserted == rows.len() {
                return Ok(());
            }
            let ignored = "a row is not new, or not as the table wants it".to_owned();
            Err(Error::DatabaseError(
                DatabaseErrorKind::UniqueViolation,
                Box::new(ignored),
            ))
        }
        // COPY, which costs PostgreSQL half of what an INSERT does.
        #[cfg(feature = "postgres")]
        Connection::Postgres(postgres) => diesel::copy_from(messages::table)
            .from_insertable(rows)
            .execute(*postgres)
            .map(drop),
    }
}

/// Inserts the rows whose seq and client_ref are new, and tells which: topic and seq.
pub(super) fn insert_new(
    connection: &mut Connection<'_>,
    rows: &[NewMessage<'_>],
) -> QueryResult<HashSet<(String, i64)>> {
    let inserted: Vec<(String, i64)> = on_each_backend!(connection, |typed| {
        diesel::insert_into(messages::table)
            .values(rows)
            .on_conflict_do_nothing()
            .returning((messages::topic, messages::seq))
            .get_results(typed)
    })?;
    Ok(inserted.into_iter().collect())
}

/// Whether this very row is stored, by a transaction whose end we were not told.
pub(super) fn is_stored(
    connection: &mut Connection<'_>,
    row: &NewMessage<'_>,
) -> QueryResult<bool> {
    // Not the payload: an update may have changed it since.
    let same = messages::table
        .filter(messages::topic.eq(row.topic))
        .filter(messages::seq.eq(row.seq))
        .filter(messages::event.eq(row.event))
        .filter(messages::inserted_at.eq(row.inserted_at))
        .select(messages::client_ref);
    let client_ref: Option<Option<String>> =
        on_each_backend!(connection, |typed| same.first(typed)).optional()?;
    Ok(client_ref.is_some_and(|stored| stored.as_deref() == row.client_ref))
}

/// The seq of the message that has this row's client_ref.
pub(super) fn first_with_ref_of(
    connection: &mut Connection<'_>,
    row: &NewMessage<'_>,
) -> QueryResult<Option<i64>> {
    let Some(client_ref) = row.client_ref else {
        return Ok(None);
    };
    let first = messages::table
        .filter(messages::topic.eq(row.topic))
        .filter(messages::client_ref.eq(client_ref))
        .select(messages::seq);
    on_each_backend!(connection, |typed| first.first(typed)).optional()
}

/// Inserts the row behind all others of its topic; its new seq.
pub(super) fn insert_last(
    connection: &mut Connection<'_>,
    row: &NewMessage<'_>,
) -> QueryResult<i64> {
    let seq = head(connection, row.topic)? + 1;
    let row = NewMessage { seq, ..row.clone() };
    let statement = diesel::insert_into(messages::table).values(row);
    on_each_backend!(connection, |typed| statement.execute(typed))?;
    Ok(seq)
}

/// Does to the target what the row says. A target that is gone stays so.
pub(super) fn apply(
    connection: &mut Connection<'_>,
    row: Row<'_>,
    columns: &Columns,
) -> QueryResult<()> {
    let Some(change) = row.change else {
        return Ok(());
    };
    let target = messages::table
        .filter(messages::topic.eq(row.topic))
        .filter(messages::seq.eq(change.target()))
        .filter(messages::target.is_null());
    match change {
        Change::Delete { .. } => {
            on_each_backend!(connection, |typed| diesel::delete(target).execute(typed))?;
        }
        Change::Update { .. } => {
            let Some(payload) = change.updated_payload(row.payload) else {
                return Ok(());
            };
            let Filled { name, message } = columns.fill(row.topic, payload);
            let changed = (
                messages::payload.eq(payload),
                messages::name.eq(name),
                messages::message.eq(message),
                messages::updated_at.eq(to_timestamp(row.at)),
            );
            on_each_backend!(connection, |typed| diesel::update(target)
                .set(changed)
                .execute(typed))?;
        }
    }
    Ok(())
}

/// A seq below any that is given, and below those that rows of other applications get. Rows that only
/// try the table have it or one below.
pub(super) const NO_PLACE: i64 = i64::MIN + 8;

/// Writes a row of the same size as this one, changes it and takes it out again: whether the database
/// takes rows at all.
pub(super) fn stand_in(connection: &mut Connection<'_>, row: &NewMessage<'_>) -> QueryResult<()> {
    /// No client can join it.
    const TOPIC: &str = "";
    let payload = " ".repeat(row.payload.len());
    let stand_in = NewMessage {
        topic: TOPIC,
        seq: NO_PLACE,
        event: "",
        payload: &payload,
        name: None,
        message: None,
        client_ref: None,
        target: None,
        ..row.clone()
    };
    // Committed in between, so that it needs its room on disk.
    connection.transaction(|connection| insert_new(connection, std::slice::from_ref(&stand_in)))?;
    let left = messages::table
        .filter(messages::topic.eq(TOPIC))
        .filter(messages::seq.eq(NO_PLACE));
    // The right to each of these may have been revoked alone.
    let changed = messages::payload.eq(&payload);
    on_each_backend!(connection, |typed| diesel::update(left)
        .set(changed)
        .execute(typed))?;
    on_each_backend!(connection, |typed| diesel::delete(left).execute(typed))?;
    Ok(())
}

/// Asks for nothing: whether the table is there, and PostgreSQL would take a row.
pub(super) fn probe(connection: &mut Connection<'_>) -> QueryResult<()> {
    match connection {
        // No lock: who writes to the file for a moment takes nothing from a server at rest.
        #[cfg(feature = "sqlite")]
        Connection::Sqlite(sqlite) => {
            let none = messages::table.select(messages::seq).limit(0);
            none.load::<i64>(*sqlite).map(drop)
        }
        #[cfg(feature = "postgres")]
        Connection::Postgres(postgres) => {
            let none = messages::table.filter(false.into_sql::<diesel::sql_types::Bool>());
            diesel::update(none)
                .set(messages::seq.eq(0))
                .execute(*postgres)
                .map(drop)
        }
    }
}

/// The highest seq of a topic, 0 for none.
pub(super) fn head(connection: &mut Connection<'_>, topic: &str) -> QueryResult<i64> {
    let query = messages::table
        .filter(messages::topic.eq(topic))
        .filter(has_place())
        .select(diesel::dsl::max(messages::seq));
    let head: Option<i64> = on_each_backend!(connection, |typed| query.first(typed))?;
    Ok(head.unwrap_or(0))
}

/// Microseconds, as Ecto's `utc_datetime_usec`.
pub(super) fn to_timestamp(at: SystemTime) -> NaiveDateTime {
    DateTime::from_timestamp_micros(micros(at))
        .unwrap_or_default()
        .naive_utc()
}

pub(super) fn from_timestamp(at: NaiveDateTime) -> SystemTime {
    from_micros(at.and_utc().timestamp_micros())
}
