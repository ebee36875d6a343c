//! The statements that write rows of `messages`.

use std::collections::{BTreeSet, HashMap, HashSet};

use diesel::prelude::*;

use crate::log::{Change, Seq};
use crate::store::backend::{DbConnection, on_each_backend};
use crate::store::schema::messages;
use crate::store::tables::columns::{Columns, Filled};
use crate::store::tables::readable::has_place;
use crate::store::tables::row::{MessageRow, PendingRow, TRIAL_TOPIC, to_timestamp};

/// Inserts all rows. If this fails, the caller rolls the transaction back.
pub(in crate::store) fn insert(
    connection: &mut DbConnection<'_>,
    rows: &[MessageRow<'_>],
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
    rows: &[MessageRow<'_>],
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
    row: &MessageRow<'_>,
) -> QueryResult<bool> {
    // The payload is not compared: an update may have changed it since.
    let same = messages::table
        .filter(messages::topic.eq(&row.topic))
        .filter(messages::seq.eq(row.seq))
        .filter(messages::event.eq(&row.event))
        .filter(messages::inserted_at.eq(row.inserted_at))
        .select(messages::client_ref);
    let client_ref: Option<Option<String>> =
        on_each_backend!(connection, |typed| same.first(typed)).optional()?;
    Ok(client_ref.is_some_and(|stored| stored.as_deref() == row.client_ref.as_deref()))
}

/// The seq of the message that has this row's client_ref.
pub(in crate::store) fn first_with_ref_of(
    connection: &mut DbConnection<'_>,
    row: &MessageRow<'_>,
) -> QueryResult<Option<Seq>> {
    let Some(client_ref) = &row.client_ref else {
        return Ok(None);
    };
    let first = messages::table
        .filter(messages::topic.eq(&row.topic))
        .filter(messages::client_ref.eq(client_ref))
        .select(messages::seq);
    on_each_backend!(connection, |typed| first.first(typed)).optional()
}

/// Inserts the row after all others of its topic. Returns its new seq.
pub(in crate::store) fn insert_last(
    connection: &mut DbConnection<'_>,
    row: &MessageRow<'_>,
) -> QueryResult<Seq> {
    let seq = head(connection, &row.topic)?.next();
    let row = MessageRow { seq, ..row.clone() };
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
    row: &MessageRow<'_>,
) -> QueryResult<()> {
    let payload = " ".repeat(row.payload.len());
    let trial = MessageRow::trial(NO_PLACE, &payload, None, row.inserted_at);
    // In a transaction of its own, so that it needs room on disk.
    connection.transaction(|connection| insert_new(connection, std::slice::from_ref(&trial)))?;
    let left = messages::table
        .filter(messages::topic.eq(TRIAL_TOPIC))
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

/// The same of several topics. Topics without messages may be left out.
pub(in crate::store) fn heads(
    connection: &mut DbConnection<'_>,
    topics: &BTreeSet<&str>,
) -> QueryResult<HashMap<String, Seq>> {
    match connection {
        #[cfg(feature = "sqlite")]
        DbConnection::Sqlite(_) => {
            let heads = topics.iter().map(|topic| {
                let head = head(connection, topic)?;
                Ok(((*topic).to_owned(), head))
            });
            heads.collect()
        }
        // PostgreSQL would read all rows for a maximum of each group; this way it looks into the index once a topic.
        #[cfg(feature = "postgres")]
        DbConnection::Postgres(postgres) => {
            #[derive(QueryableByName)]
            struct Head {
                #[diesel(sql_type = diesel::sql_types::Text)]
                topic: String,
                #[diesel(sql_type = diesel::sql_types::BigInt)]
                seq: Seq,
            }
            let heads = diesel::sql_query(
                "SELECT asked.topic, head.seq FROM unnest($1) AS asked (topic) \
                 JOIN LATERAL (SELECT max(seq) AS seq FROM messages \
                               WHERE messages.topic = asked.topic) AS head \
                 ON head.seq IS NOT NULL",
            );
            let names: Vec<&str> = topics.iter().copied().collect();
            let heads: Vec<Head> = heads
                .bind::<diesel::sql_types::Array<diesel::sql_types::Text>, _>(names)
                .load(*postgres)?;
            Ok(heads.into_iter().map(|it| (it.topic, it.seq)).collect())
        }
    }
}
