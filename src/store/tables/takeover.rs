//! Takeover of existing tables: checks that Slackir may use them, and adopts the rows that their application writes
//! later.

use diesel::prelude::*;
use diesel::result::Error;
use diesel::sql_types::{BigInt, Text};

use crate::log::Seq;

use crate::store::backend::{DbConnection, Fault, on_each_backend};
use crate::store::schema::{messages, topics};
use crate::store::tables::message;
use crate::store::tables::row::{MessageRow, to_timestamp};

/// The topic of rows without one, which another application has written.
const NO_TOPIC: &str = "";
/// The one room of the tutorial application Slackir, whose table is taken over.
const LOBBY: &str = "random:lobby";

/// Refuses tables that are neither Slackir's nor an Ecto application's; the `lacking` migrations show whether a table
/// is Slackir's. Refuses an Ecto application's unless `adopt` is set.
pub(in crate::store) fn check(
    connection: &mut DbConnection<'_>,
    lacking: &[String],
    adopt: bool,
) -> Result<(), Fault> {
    let lacks = |migration: &str| lacking.iter().any(|name| name.ends_with(migration));
    if lacks("_create_messages") && exists(connection, "messages")? {
        if let Some(problem) = differences(connection)?.into_iter().next() {
            return Err(Fault::Foreign {
                table: "messages",
                problem,
            });
        }
        if !adopt {
            return Err(Fault::NotAdopted);
        }
    }
    for (migration, table) in [
        ("_add_topics", "topics"),
        ("_add_servers", "servers"),
        ("_add_revocations", "revocations"),
        ("_add_hook_cursors", "hook_cursors"),
        ("_add_bans", "bans"),
        ("_add_slow_modes", "slow_modes"),
        ("_add_cluster_eras", "cluster_eras"),
    ] {
        if lacks(migration) && exists(connection, table)? {
            return Err(Fault::Foreign {
                table,
                problem: "slackir needs that name for a table of its own".to_owned(),
            });
        }
    }
    Ok(())
}

/// The answer of a query, as text.
#[derive(QueryableByName)]
struct Words {
    #[diesel(sql_type = Text)]
    words: String,
}

fn exists(connection: &mut DbConnection<'_>, table: &str) -> QueryResult<bool> {
    let sql = match connection {
        #[cfg(feature = "sqlite")]
        DbConnection::Sqlite(_) => {
            "SELECT name AS words FROM sqlite_master \
             WHERE lower(name) = $1 AND type IN ('table', 'view')"
        }
        #[cfg(feature = "postgres")]
        DbConnection::Postgres(_) => {
            "SELECT $1 AS words WHERE to_regclass(quote_ident($1)) IS NOT NULL"
        }
    };
    let query = diesel::sql_query(sql).bind::<Text, _>(table);
    let found: Vec<Words> = on_each_backend!(connection, |typed| query.load(typed))?;
    Ok(!found.is_empty())
}

/// How the table `messages` differs from the one that Ecto makes for the tutorial application.
fn differences(connection: &mut DbConnection<'_>) -> QueryResult<Vec<String>> {
    let sql = match connection {
        #[cfg(feature = "sqlite")]
        DbConnection::Sqlite(_) => include_str!("takeover/sqlite.sql"),
        #[cfg(feature = "postgres")]
        DbConnection::Postgres(_) => include_str!("takeover/postgresql.sql"),
    };
    let query = diesel::sql_query(sql);
    let found: Vec<Words> = on_each_backend!(connection, |typed| query.load(typed))?;
    Ok(found.into_iter().map(|row| row.words).collect())
}

/// Inserts rows as the writer does, and rolls back: the smallest possible message, and two long ones that differ only
/// in their seq.
pub(in crate::store) fn try_insert(connection: &mut DbConnection<'_>) -> Result<(), Fault> {
    let long = "\u{e9}\n".repeat(1_000);
    let at = to_timestamp(std::time::SystemTime::now());
    let first = message::NO_PLACE;
    let rows = vec![
        MessageRow::trial(first.plus(-1), "{}", None, at),
        MessageRow::trial(first.plus(-2), "{}", Some(&long), at),
        MessageRow::trial(first.plus(-3), "{}", Some(&long), at),
    ];
    let inserted = on_each_backend!(connection, |typed| {
        Connection::transaction(typed, |typed| {
            diesel::insert_into(messages::table)
                .values(&rows)
                .execute(typed)?;
            Err::<(), _>(Error::RollbackTransaction)
        })
    });
    match inserted {
        Ok(()) | Err(Error::RollbackTransaction) => Ok(()),
        Err(error) => Err(Fault::Unfit(error)),
    }
}

/// Moves the rows without a topic into the tutorial application's room, in the order of their ids. Returns their
/// number. Only for a start, when no log is in memory.
pub(in crate::store) fn adopt_rows(connection: &mut DbConnection<'_>) -> QueryResult<u64> {
    if rows_of_others(connection)? == 0 {
        return Ok(0);
    }
    let last = topics::table.find(LOBBY).select(topics::last_seq);
    let last: Option<Seq> = on_each_backend!(connection, |typed| last.first(typed).optional())?;
    let head = message::head(connection, LOBBY)?.max(last.unwrap_or_default());
    let json = match connection {
        #[cfg(feature = "sqlite")]
        DbConnection::Sqlite(_) => "json_object",
        #[cfg(feature = "postgres")]
        DbConnection::Postgres(_) => "json_build_object",
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

/// The number of rows without a topic.
pub(in crate::store) fn rows_of_others(connection: &mut DbConnection<'_>) -> QueryResult<u64> {
    let others = messages::table
        .filter(messages::topic.eq(NO_TOPIC))
        .filter(messages::seq.gt(message::NO_PLACE))
        .count();
    let others: i64 = on_each_backend!(connection, |typed| others.first(typed))?;
    Ok(others.unsigned_abs())
}
