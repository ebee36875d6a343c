//! Tables that are there already: whether they may become Slackir's, and what the application before
//! writes into them afterwards.

use diesel::prelude::*;
use diesel::result::Error;
use diesel::sql_types::{BigInt, Text};

use super::StoreError;
use super::backend::{Connection, on_each_backend};
use super::message::{self, to_timestamp};
use super::schema::{messages, topics};

/// The topic of rows that say none: an application that knows no topics has written them.
const NO_TOPIC: &str = "";
/// The room of the seed, which had but one.
const LOBBY: &str = "random:lobby";

/// Refuses tables that are neither Slackir's nor an Ecto application's, by the migrations that are
/// `lacking`; and the latter, unless they are asked for.
pub(super) fn check(
    connection: &mut Connection<'_>,
    lacking: &[String],
    adopt: bool,
) -> Result<(), StoreError> {
    let lacks = |migration: &str| lacking.iter().any(|name| name.ends_with(migration));
    if lacks("_create_messages") && exists(connection, "messages")? {
        if let Some(problem) = differences(connection)?.into_iter().next() {
            return Err(StoreError::Foreign {
                table: "messages",
                problem,
            });
        }
        if !adopt {
            return Err(StoreError::NotAdopted);
        }
    }
    for (migration, table) in [("_add_topics", "topics"), ("_add_servers", "servers")] {
        if lacks(migration) && exists(connection, table)? {
            return Err(StoreError::Foreign {
                table,
                problem: "slackir needs that name for a table of its own".to_owned(),
            });
        }
    }
    Ok(())
}

/// An answer in words.
#[derive(QueryableByName)]
struct Words {
    #[diesel(sql_type = Text)]
    words: String,
}

fn exists(connection: &mut Connection<'_>, table: &str) -> QueryResult<bool> {
    let sql = match connection {
        #[cfg(feature = "sqlite")]
        Connection::Sqlite(_) => {
            "SELECT name AS words FROM sqlite_master \
             WHERE lower(name) = $1 AND type IN ('table', 'view')"
        }
        #[cfg(feature = "postgres")]
        Connection::Postgres(_) => {
            "SELECT $1 AS words WHERE to_regclass(quote_ident($1)) IS NOT NULL"
        }
    };
    let query = diesel::sql_query(sql).bind::<Text, _>(table);
    let found: Vec<Words> = on_each_backend!(connection, |typed| query.load(typed))?;
    Ok(!found.is_empty())
}

/// In what the table `messages` is not as Ecto makes the seed's.
fn differences(connection: &mut Connection<'_>) -> QueryResult<Vec<String>> {
    let sql = match connection {
        #[cfg(feature = "sqlite")]
        Connection::Sqlite(_) => include_str!("takeover/sqlite.sql"),
        #[cfg(feature = "postgres")]
        Connection::Postgres(_) => include_str!("takeover/postgresql.sql"),
    };
    let query = diesel::sql_query(sql);
    let found: Vec<Words> = on_each_backend!(connection, |typed| query.load(typed))?;
    Ok(found.into_iter().map(|row| row.words).collect())
}

/// Inserts rows as the writer does, and takes them back: one with as little as a message may have, and
/// two that are long and the same but for their place.
pub(super) fn try_insert(connection: &mut Connection<'_>) -> Result<(), StoreError> {
    let long = "\u{e9}\n".repeat(1_000);
    let at = to_timestamp(std::time::SystemTime::now());
    let row = |seq: i64, text: Option<&str>| {
        (
            messages::topic.eq(NO_TOPIC),
            messages::event.eq(""),
            messages::payload.eq("{}"),
            messages::seq.eq(seq),
            messages::name.eq(text.map(str::to_owned)),
            messages::message.eq(text.map(str::to_owned)),
            messages::client_ref.eq(None::<String>),
            messages::target.eq(None::<i64>),
            messages::inserted_at.eq(at),
            messages::updated_at.eq(at),
        )
    };
    let first = message::NO_PLACE;
    let rows = vec![
        row(first - 1, None),
        row(first - 2, Some(&long)),
        row(first - 3, Some(&long)),
    ];
    let inserted = on_each_backend!(connection, |typed| {
        diesel::Connection::transaction(typed, |typed| {
            diesel::insert_into(messages::table)
                .values(&rows)
                .execute(typed)?;
            Err::<(), _>(Error::RollbackTransaction)
        })
    });
    match inserted {
        Ok(()) | Err(Error::RollbackTransaction) => Ok(()),
        Err(error) => Err(StoreError::Unfit(error)),
    }
}

/// Makes messages of the rows that say no topic, in the order in which they were written; how many.
/// For a start: no topic's log is in memory.
pub(super) fn adopt_rows(connection: &mut Connection<'_>) -> QueryResult<u64> {
    if rows_of_others(connection)? == 0 {
        return Ok(0);
    }
    let last = topics::table.find(LOBBY).select(topics::last_seq);
    let last: Option<i64> = on_each_backend!(connection, |typed| last.first(typed).optional())?;
    let head = message::head(connection, LOBBY)?.max(last.unwrap_or(0));
    let json = match connection {
        #[cfg(feature = "sqlite")]
        Connection::Sqlite(_) => "json_object",
        #[cfg(feature = "postgres")]
        Connection::Postgres(_) => "json_build_object",
    };
    let sql = format!(
        "UPDATE messages SET topic = $1, seq = $2 + place, \
             payload = CAST({json}('name', CAST(name AS TEXT), 'message', CAST(message AS TEXT)) AS TEXT) \
         FROM (SELECT id AS other, row_number() OVER (ORDER BY id) AS place \
             FROM messages WHERE topic = $3 AND seq > $4) AS others \
         WHERE id = other"
    );
    let adopt = diesel::sql_query(sql)
        .bind::<Text, _>(LOBBY)
        .bind::<BigInt, _>(head)
        .bind::<Text, _>(NO_TOPIC)
        .bind::<BigInt, _>(message::NO_PLACE);
    let adopted = on_each_backend!(connection, |typed| adopt.execute(typed))?;
    Ok(adopted as u64)
}

/// How many rows say no topic.
pub(super) fn rows_of_others(connection: &mut Connection<'_>) -> QueryResult<u64> {
    let others = messages::table
        .filter(messages::topic.eq(NO_TOPIC))
        .filter(messages::seq.gt(message::NO_PLACE))
        .count();
    let others: i64 = on_each_backend!(connection, |typed| others.first(typed))?;
    Ok(others.unsigned_abs())
}
