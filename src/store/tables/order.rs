//! The statements that give messages their place: PostgreSQL's lock on the topic is what gives the order.

use std::collections::{BTreeSet, HashMap};

use diesel::prelude::*;
use diesel::result::Error;
use diesel::sql_types::{Array, BigInt, Text};

use crate::log::{ClusterEra, Epoch, OpenedRun, Seq};
use crate::store::backend::DbConnection;
use crate::store::schema::topics;
use crate::store::tables::era;
use crate::store::tables::message;
use crate::store::tables::run::{self, JUMP, TopicRow, new_epoch};

/// Where a topic is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct RowPlace {
    pub(in crate::store) epoch: Epoch,
    /// The last seq that was given.
    pub(in crate::store) last: Seq,
    /// Whether the database gives the seqs: they are committed, all of them. False in a run whose seqs the bus gives.
    pub(in crate::store) is_clean: bool,
}

/// Locks topics until the end of the transaction, in the order of their names, and finds where they are. Topics that
/// have no row are left out.
///
/// The rows of `messages` must be looked up in statements after this one: it may wait for the lock, and sees the other
/// tables as they were before the wait.
pub(in crate::store) fn lock(
    connection: &mut DbConnection<'_>,
    names: &BTreeSet<&str>,
) -> QueryResult<HashMap<String, RowPlace>> {
    let postgres = postgres(connection)?;
    let found: Vec<(String, Epoch, Seq, bool)> = topics::table
        .filter(topics::topic.eq_any(names.iter().copied()))
        .order(topics::topic)
        .select((
            topics::topic,
            topics::epoch,
            topics::last_seq,
            topics::clean,
        ))
        .for_update()
        .load(postgres)?;
    let places = found.into_iter().map(|(topic, epoch, last, is_clean)| {
        let place = RowPlace {
            epoch,
            last,
            is_clean,
        };
        (topic, place)
    });
    Ok(places.collect())
}

/// The seqs of the messages that have these refs, by topic and ref.
pub(in crate::store) fn with_refs(
    connection: &mut DbConnection<'_>,
    refs: &[(&str, &str)],
) -> QueryResult<HashMap<(String, String), Seq>> {
    #[derive(QueryableByName)]
    struct Found {
        #[diesel(sql_type = Text)]
        topic: String,
        #[diesel(sql_type = Text)]
        client_ref: String,
        #[diesel(sql_type = BigInt)]
        seq: Seq,
    }
    if refs.is_empty() {
        return Ok(HashMap::new());
    }
    let (names, refs): (Vec<&str>, Vec<&str>) = refs.iter().copied().unzip();
    // The condition on NULL lets PostgreSQL use the index, which has no other rows.
    let found = diesel::sql_query(
        "SELECT messages.topic, messages.client_ref, messages.seq \
         FROM unnest($1, $2) AS asked (topic, client_ref) \
         JOIN messages ON messages.topic = asked.topic \
             AND messages.client_ref = asked.client_ref \
             AND messages.client_ref IS NOT NULL",
    );
    let found: Vec<Found> = found
        .bind::<Array<Text>, _>(names)
        .bind::<Array<Text>, _>(refs)
        .load(postgres(connection)?)?;
    let found = found.into_iter();
    Ok(found
        .map(|it| ((it.topic, it.client_ref), it.seq))
        .collect())
}

/// What a transaction has given in one topic.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Given<'a> {
    pub(in crate::store) topic: &'a str,
    /// The last seq.
    pub(in crate::store) last: Seq,
    /// The last seq of an erasure; 0 for none.
    pub(in crate::store) erasure: Seq,
}

/// Stores the last seqs.
pub(in crate::store) fn advance(
    connection: &mut DbConnection<'_>,
    given: &[Given<'_>],
) -> QueryResult<()> {
    let names: Vec<&str> = given.iter().map(|it| it.topic).collect();
    let last: Vec<i64> = given.iter().map(|it| it.last.get()).collect();
    let erasures: Vec<i64> = given.iter().map(|it| it.erasure.get()).collect();
    diesel::sql_query(
        "UPDATE topics SET last_seq = given.last, \
             pruned_through = greatest(topics.pruned_through, given.erasure) \
         FROM unnest($1, $2, $3) AS given (topic, last, erasure) \
         WHERE topics.topic = given.topic",
    )
    .bind::<Array<Text>, _>(names)
    .bind::<Array<BigInt>, _>(last)
    .bind::<Array<BigInt>, _>(erasures)
    .execute(postgres(connection)?)
    .map(drop)
}

/// The run of a topic in which the database gives the places; made if there is none. It never ends, so that ids are
/// valid over restarts of all servers. An earlier run that was open ends, because its messages may be lost.
///
/// Fails with `RollbackTransaction` if it would have to be made after the era `within`: then the bus gives the places.
pub(in crate::store) fn open(
    connection: &mut DbConnection<'_>,
    topic: &str,
    within: Option<&ClusterEra>,
) -> QueryResult<OpenedRun> {
    if let Some(found) = run::find(connection, topic)?
        && found.clean
        && found.epoch != Epoch::default()
        && message::head(connection, topic)? <= found.last_seq
    {
        return Ok(opened(&found));
    }
    connection.transaction(|connection| {
        if let Some(within) = within
            && !era::holds(connection, within, true)?
        {
            return Err(Error::RollbackTransaction);
        }
        begin(connection, topic)
    })
}

fn begin(connection: &mut DbConnection<'_>, topic: &str) -> QueryResult<OpenedRun> {
    let none = (topics::topic.eq(topic), TopicRow::default());
    diesel::insert_into(topics::table)
        .values(none)
        .on_conflict_do_nothing()
        .execute(postgres(connection)?)?;
    let found: TopicRow = topics::table
        .find(topic)
        .select(TopicRow::as_select())
        .for_update()
        .first(postgres(connection)?)?;
    let head = message::head(connection, topic)?.max(found.last_seq);
    let run = if found.clean && found.epoch != Epoch::default() {
        TopicRow {
            last_seq: head,
            ..found
        }
    } else {
        TopicRow {
            epoch: new_epoch(),
            last_seq: if found.clean { head } else { head.plus(JUMP) },
            clean: true,
            past: found.past_after(head).to_string(),
            importing: false,
            ..found
        }
    };
    run::put(connection, topic, &run)?;
    Ok(opened(&run))
}

fn opened(run: &TopicRow) -> OpenedRun {
    OpenedRun {
        epoch: run.epoch,
        next_epoch: None,
        past: run.past(),
        head: run.last_seq,
        pruned_through: run.pruned_through,
    }
}

/// The last seqs of topics. `settled`: waits for transactions that have locked them.
pub(in crate::store) fn heads(
    connection: &mut DbConnection<'_>,
    names: &[String],
    settled: bool,
) -> QueryResult<Vec<(String, Seq)>> {
    let postgres = postgres(connection)?;
    let heads = topics::table
        .filter(topics::topic.eq_any(names))
        .order(topics::topic)
        .select((topics::topic, topics::last_seq));
    if settled {
        heads.for_share().load(postgres)
    } else {
        heads.load(postgres)
    }
}

/// Only PostgreSQL gives places to several servers.
pub(super) fn postgres<'a>(
    connection: &'a mut DbConnection<'_>,
) -> QueryResult<&'a mut PgConnection> {
    match connection {
        DbConnection::Postgres(postgres) => Ok(postgres),
        #[cfg(feature = "sqlite")]
        DbConnection::Sqlite(_) => Err(Error::QueryBuilderError(
            "servers of a cluster share a PostgreSQL, not a SQLite file".into(),
        )),
    }
}
