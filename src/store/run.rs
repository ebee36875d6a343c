//! The rows of `topics`: which run of its sequence each topic is in.

use std::time::SystemTime;

use diesel::prelude::*;
use diesel::upsert::excluded;

use super::backend::{Connection, on_each_backend};
use super::message;
use super::row::micros;
use super::schema::topics;

/// After an unclean end seqs go on this far beyond what is stored: clients may have seen seqs that
/// were never committed, and none is given twice.
const JUMP: i64 = 1 << 32;

/// Where the run of a topic stands.
#[derive(Clone, Copy, Debug, Insertable, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = topics)]
pub(super) struct Run {
    pub(super) epoch: i64,
    pub(super) last_seq: i64,
    pub(super) pruned_through: i64,
    clean: bool,
}

/// Opens the run of a topic: a new one if it never had any or the last one ended uncleanly, else
/// the same. `strict`: nobody saw anything that was not committed, so the run goes on in any case.
pub(super) fn open(connection: &mut Connection<'_>, topic: &str, strict: bool) -> QueryResult<Run> {
    let found: Option<Run> = on_each_backend!(connection, |typed| {
        topics::table
            .find(topic)
            .select(Run::as_select())
            .first(typed)
            .optional()
    })?;
    let stored = message::head(connection, topic)?;
    let run = match found {
        None => Run {
            epoch: new_epoch(),
            last_seq: stored,
            pruned_through: 0,
            clean: false,
        },
        Some(run) if run.clean || strict => Run {
            last_seq: run.last_seq.max(stored),
            clean: false,
            ..run
        },
        Some(run) => Run {
            epoch: new_epoch(),
            last_seq: run.last_seq.max(stored).saturating_add(JUMP),
            ..run
        },
    };
    adopt(connection, topic, run)?;
    Ok(run)
}

impl Run {
    /// A run that begins without the database, in which no topic has a seq beyond `ceiling`. Its head is
    /// beyond any seq that may have been given: seqs count messages, no topic has had one each microsecond
    /// since 1970, and the ceiling holds where the clock was put back or an unclean end went beyond it.
    pub(super) fn adrift(ceiling: i64) -> Self {
        Self {
            epoch: new_epoch(),
            last_seq: micros(SystemTime::now()).max(ceiling),
            pruned_through: 0,
            clean: false,
        }
    }
}

/// This is the topic's run now.
pub(super) fn adopt(connection: &mut Connection<'_>, topic: &str, run: Run) -> QueryResult<()> {
    on_each_backend!(connection, |typed| {
        diesel::insert_into(topics::table)
            .values((topics::topic.eq(topic), run))
            .on_conflict(topics::topic)
            .do_update()
            .set((
                topics::epoch.eq(excluded(topics::epoch)),
                topics::last_seq.eq(excluded(topics::last_seq)),
                topics::clean.eq(excluded(topics::clean)),
            ))
            .execute(typed)
    })?;
    Ok(())
}

/// Notes a topic that nobody can join, and rolls that back: whether the database notes topics at all.
pub(super) fn rehearse(connection: &mut Connection<'_>) -> QueryResult<()> {
    use diesel::result::Error::RollbackTransaction;
    let rehearsed = connection.transaction(|connection| {
        prune(connection, "", 0)?;
        Err(RollbackTransaction)
    });
    match rehearsed {
        Err(RollbackTransaction) => Ok(()),
        other => other,
    }
}

/// A seq that no topic has reached. An open run has given fewer than what separates two of them.
pub(super) fn ceiling(connection: &mut Connection<'_>) -> QueryResult<i64> {
    let highest = topics::table.select(diesel::dsl::max(topics::last_seq));
    let highest: Option<i64> = on_each_backend!(connection, |typed| highest.first(typed))?;
    Ok(highest.unwrap_or(0).saturating_add(JUMP))
}

/// The present run of a topic; 0 for one that has never been opened.
pub(super) fn epoch(connection: &mut Connection<'_>, topic: &str) -> QueryResult<i64> {
    let epoch: Option<i64> = on_each_backend!(connection, |typed| {
        topics::table
            .find(topic)
            .select(topics::epoch)
            .first(typed)
            .optional()
    })?;
    Ok(epoch.unwrap_or(0))
}

/// Ends a run in order, unless another server has begun the next one.
pub(super) fn close(
    connection: &mut Connection<'_>,
    topic: &str,
    epoch: i64,
    head: i64,
) -> QueryResult<()> {
    let run = topics::table.find(topic).filter(topics::epoch.eq(epoch));
    let ended = (topics::last_seq.eq(head), topics::clean.eq(true));
    on_each_backend!(connection, |typed| diesel::update(run)
        .set(ended)
        .execute(typed))?;
    Ok(())
}

/// Messages up to this seq may be gone from now on; none up to it is given again, also where the
/// topic has no other row left to tell.
pub(super) fn prune(connection: &mut Connection<'_>, topic: &str, through: i64) -> QueryResult<()> {
    // Of a topic that was never opened, nobody knows an id.
    let run = Run {
        epoch: new_epoch(),
        last_seq: message::head(connection, topic)?.max(through),
        pruned_through: through,
        clean: true,
    };
    let known = topics::table.find(topic);
    on_each_backend!(connection, |typed| {
        diesel::insert_into(topics::table)
            .values((topics::topic.eq(topic), run))
            .on_conflict_do_nothing()
            .execute(typed)?;
        diesel::update(known.filter(topics::pruned_through.lt(through)))
            .set(topics::pruned_through.eq(through))
            .execute(typed)?;
        diesel::update(known.filter(topics::last_seq.lt(through)))
            .set(topics::last_seq.eq(through))
            .execute(typed)
    })?;
    Ok(())
}

/// Positive and random: nobody guesses one, and no two runs have the same.
fn new_epoch() -> i64 {
    // Without the system's randomness the clock tells runs apart.
    let random = getrandom::u64()
        .unwrap_or_else(|_| u64::try_from(micros(SystemTime::now())).unwrap_or_default() << 1);
    i64::try_from(random >> 1).map_or(1, |epoch| epoch.max(1))
}
