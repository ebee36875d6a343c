//! [`NewMessage`]: a new row of `messages`, and the statements that write rows.

use std::collections::HashSet;
use std::time::SystemTime;

use chrono::{DateTime, NaiveDateTime};
use diesel::prelude::*;

use crate::log::{Change, Seq};
use crate::store::backend::{DbConnection, on_each_backend};
use crate::store::schema::messages;
use crate::store::tables::columns::{Columns, Filled};
use crate::store::tables::readable::has_place;
use crate::store::tables::row::{PendingRow, from_micros, micros};

/// A row to insert.
#[derive(Clone, Insertable)]
#[diesel(table_name = messages, treat_none_as_default_value = false)]
pub(in crate::store) struct NewMessage<'a> {
    pub(in crate::store) topic: &'a str,
    pub(in crate::store) event: &'a str,
    pub(in crate::store) payload: &'a str,
    pub(in crate::store) seq: Seq,
    name: Option<String>,
    message: Option<String>,
    client_ref: Option<&'a str>,
    target: Option<Seq>,
    inserted_at: NaiveDateTime,
    updated_at: NaiveDateTime,
}

impl<'a> NewMessage<'a> {
    pub(in crate::store) fn new(row: PendingRow<'a>, columns: &Columns) -> Self {
        // For an update, name and message come from the new payload, so that a search for a name finds it.
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

/// Inserts all rows. If this fails, the caller rolls the transaction back.
pub(in crate::store) fn insert(
    connection: &mut DbConnection<'_>,
    rows: &[NewMessage<'_>],
) -> QueryResult<()> {
    match connection {
        // OR IGNORE, because SQLite copies each changed page for a statement that may fail half-way.
        #[cfg(feature = "sqlite")]
        DbConnection::Sqlite(sqlite) => {
            use diesel::result::{DatabaseErrorKind, Error};
            let inserted = diesel::insert_or_ignore_into(messages::table)
                .values(rows)
                .execute(*sqlite)?;
            if inserted == rows.len() {
                return Ok(());
            }
            let ignored = "a row is not new, or the table refuses it".to_owned();
            Err(Error::DatabaseError(
                DatabaseErrorKind::UniqueViolation,
                Box::new(ignored),
            ))
        }
        // COPY costs PostgreSQL half as much as INSERT.
        #[cfg(feature = "postgres")]
        DbConnection::Postgres(postgres) => diesel::copy_from(messages::table)
            .from_insertable(rows)
            .execute(*postgres)
            .map(drop),
    }
}

/// Inserts the rows whose seq and client_ref are new. Returns their topics and seqs.
pub(in crate::store) fn insert_new(
    connection: &mut DbConnection<'_>,
    rows: &[NewMessage<'_>],
) -> QueryResult<HashSet<(String, Seq)>> {
    let inserted: Vec<(String, Seq)> = on_each_backend!(connection, |typed| {
        diesel::insert_into(messages::table)
            .values(rows)
            .on_conflict_do_nothing()
            .returning((messages::topic, messages::seq))
            .get_results(typed)
    })?;
    Ok(inserted.into_iter().collect())
}

/// Whether this same row is stored already, by a transaction whose commit was not confirmed.
pub(in crate::store) fn is_stored(
    connection: &mut DbConnection<'_>,
    row: &NewMessage<'_>,
) -> QueryResult<bool> {
    // The payload is not compared: an update may have changed it since.
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
pub(in crate::store) fn first_with_ref_of(
    connection: &mut DbConnection<'_>,
    row: &NewMessage<'_>,
) -> QueryResult<Option<Seq>> {
    let Some(client_ref) = row.client_ref else {
        return Ok(None);
    };
    let first = messages::table
        .filter(messages::topic.eq(row.topic))
        .filter(messages::client_ref.eq(client_ref))
        .select(messages::seq);
    on_each_backend!(connection, |typed| first.first(typed)).optional()
}

/// Inserts the row after all others of its topic. Returns its new seq.
pub(in crate::store) fn insert_last(
    connection: &mut DbConnection<'_>,
    row: &NewMessage<'_>,
) -> QueryResult<Seq> {
    let seq = head(connection, row.topic)?.next();
    let row = NewMessage { seq, ..row.clone() };
    let statement = diesel::insert_into(messages::table).values(row);
    on_each_backend!(connection, |typed| statement.execute(typed))?;
    Ok(seq)
}

/// Applies the change of the row to its target. A deleted target stays deleted.
pub(in crate::store) fn apply(
    connection: &mut DbConnection<'_>,
    row: PendingRow<'_>,
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

/// A seq below those of all messages and of all rows that other applications write. Only trial rows have it or the
/// next lower ones.
pub(in crate::store) const NO_PLACE: Seq = Seq::MIN.plus(8);

/// Checks that the database takes rows at all: inserts one of the same size as this one, updates it and deletes it.
pub(in crate::store) fn try_same_size(
    connection: &mut DbConnection<'_>,
    row: &NewMessage<'_>,
) -> QueryResult<()> {
    /// No client can join it.
    const TOPIC: &str = "";
    let payload = " ".repeat(row.payload.len());
    let trial = NewMessage {
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
    // In a transaction of its own, so that it needs room on disk.
    connection.transaction(|connection| insert_new(connection, std::slice::from_ref(&trial)))?;
    let left = messages::table
        .filter(messages::topic.eq(TOPIC))
        .filter(messages::seq.eq(NO_PLACE));
    // Each of these rights may have been revoked alone.
    let changed = messages::payload.eq(&payload);
    on_each_backend!(connection, |typed| diesel::update(left)
        .set(changed)
        .execute(typed))?;
    on_each_backend!(connection, |typed| diesel::delete(left).execute(typed))?;
    Ok(())
}

/// Checks that the table exists and, on PostgreSQL, can be written. Reads no row.
pub(in crate::store) fn probe(connection: &mut DbConnection<'_>) -> QueryResult<()> {
    match connection {
        // Without a lock, because another process may be writing to the file for a moment.
        #[cfg(feature = "sqlite")]
        DbConnection::Sqlite(sqlite) => {
            let none = messages::table.select(messages::seq).limit(0);
            none.load::<i64>(*sqlite).map(drop)
        }
        #[cfg(feature = "postgres")]
        DbConnection::Postgres(postgres) => {
            let none = messages::table.filter(false.into_sql::<diesel::sql_types::Bool>());
            diesel::update(none)
                .set(messages::seq.eq(Seq::ZERO))
                .execute(*postgres)
                .map(drop)
        }
    }
}

/// The highest seq of a topic, 0 if there is none.
pub(in crate::store) fn head(connection: &mut DbConnection<'_>, topic: &str) -> QueryResult<Seq> {
    let query = messages::table
        .filter(messages::topic.eq(topic))
        .filter(has_place())
        .select(diesel::dsl::max(messages::seq));
    let head: Option<Seq> = on_each_backend!(connection, |typed| query.first(typed))?;
    Ok(head.unwrap_or_default())
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
