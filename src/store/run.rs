//! The rows of `topics`: which run of its sequence each topic is in.
//!
//! A run begins with the first message that a process sends to a topic, and with an epoch that no other
//! has. So ids of a run that this database has never heard of are known to be strange: it was restored
//! from a copy that is older than they are.

use std::time::SystemTime;

use diesel::prelude::*;
use diesel::upsert::excluded;

use super::backend::{Connection, on_each_backend};
use super::message;
use super::row::micros;
use super::schema::topics;
use crate::pubsub::{MessageId, OpenedRun, PastRuns};

/// After an unclean end seqs go on this far beyond what is stored: clients may have seen seqs that
/// were never committed, and none is given twice.
const JUMP: i64 = 1 << 32;

/// Where the run of a topic stands. The default is that of a topic that never had a message: its first
/// run has the epoch 0 and no messages.
#[derive(Clone, Debug, Insertable, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = topics)]
pub(super) struct Run {
    pub(super) epoch: i64,
    pub(super) last_seq: i64,
    pub(super) pruned_through: i64,
    pub(super) clean: bool,
    pub(super) past: String,
    pub(super) importing: bool,
}

impl Default for Run {
    fn default() -> Self {
        Self {
            epoch: 0,
            last_seq: 0,
            pruned_through: 0,
            clean: true,
            past: String::new(),
            importing: false,
        }
    }
}

impl Run {
    /// The runs before it. Nobody resumes from what cannot be read.
    pub(super) fn past(&self) -> PastRuns {
        self.past.parse().unwrap_or_default()
    }

    /// The runs before the one that comes next, once this one has ended at `head`.
    pub(super) fn past_after(&self, head: i64) -> PastRuns {
        let mut past = self.past();
        let last = MessageId {
            epoch: self.epoch,
            seq: head,
        };
        past.end(last, self.clean);
        past
    }
}

/// The run that the log of a topic is in. One that has ended uncleanly is followed by another at once,
/// and that is all that is written; else the next one, of `next_epoch`, begins with a message.
///
/// A strict run is clean at any time: nobody sees anything of it that is not committed.
pub(super) fn open(
    connection: &mut Connection<'_>,
    topic: &str,
    strict: bool,
    next_epoch: i64,
) -> QueryResult<OpenedRun> {
    let stored = message::head(connection, topic)?;
    let found = find(connection, topic)?.unwrap_or_default();
    let head = found.last_seq.max(stored);
    if found.clean {
        return Ok(OpenedRun {
            epoch: found.epoch,
            next_epoch: Some(next_epoch),
            past: found.past(),
            head,
            pruned_through: found.pruned_through,
        });
    }
    let past = found.past_after(head);
    let run = Run {
        epoch: new_epoch(),
        last_seq: head.saturating_add(JUMP),
        clean: strict,
        past: past.to_string(),
        importing: false,
        ..found
    };
    put(connection, topic, &run)?;
    Ok(OpenedRun {
        epoch: run.epoch,
        next_epoch: None,
        past,
        head: run.last_seq,
        pruned_through: run.pruned_through,
    })
}

/// A run that begins without the database, in which no topic has a seq beyond `ceiling`. Its head is
/// beyond any seq that may have been given: seqs count messages, no topic has had one each microsecond
/// since 1970, and the ceiling holds where the clock was put back or an unclean end went beyond it.
pub(super) fn adrift(ceiling: i64) -> OpenedRun {
    let epoch = new_epoch();
    OpenedRun {
        epoch,
        next_epoch: Some(epoch),
        head: micros(SystemTime::now()).max(ceiling),
        ..OpenedRun::default()
    }
}

/// A run begins with the message `first`, which is committed later.
pub(super) fn begin(
    connection: &mut Connection<'_>,
    topic: &str,
    first: MessageId,
    strict: bool,
) -> QueryResult<()> {
    let stored = message::head(connection, topic)?;
    let found = find(connection, topic)?.unwrap_or_default();
    let before = first.seq - 1;
    // A run goes on when its topic was out of memory for a while, and this may be a second try.
    let past = if found.epoch == first.epoch {
        found.past()
    } else {
        found.past_after(found.last_seq.max(stored).min(before))
    };
    let run = Run {
        epoch: first.epoch,
        last_seq: found.last_seq.max(before),
        clean: strict,
        past: past.to_string(),
        importing: false,
        ..found
    };
    put(connection, topic, &run)
}

/// The row of a topic, if it has one.
pub(super) fn find(connection: &mut Connection<'_>, topic: &str) -> QueryResult<Option<Run>> {
    on_each_backend!(connection, |typed| {
        topics::table
            .find(topic)
            .select(Run::as_select())
            .first(typed)
            .optional()
    })
}

/// This is the topic's run now.
pub(super) fn put(connection: &mut Connection<'_>, topic: &str, run: &Run) -> QueryResult<()> {
    on_each_backend!(connection, |typed| {
        diesel::insert_into(topics::table)
            .values((topics::topic.eq(topic), run))
            .on_conflict(topics::topic)
            .do_update()
            .set((
                topics::epoch.eq(excluded(topics::epoch)),
                topics::last_seq.eq(excluded(topics::last_seq)),
                topics::pruned_through.eq(excluded(topics::pruned_through)),
                topics::clean.eq(excluded(topics::clean)),
                topics::past.eq(excluded(topics::past)),
                topics::importing.eq(excluded(topics::importing)),
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

/// How the stored messages of a topic are called.
pub(super) struct Names {
    epoch: i64,
    past: PastRuns,
    head: i64,
}

impl Names {
    pub(super) fn of(connection: &mut Connection<'_>, topic: &str) -> QueryResult<Self> {
        let found = find(connection, topic)?.unwrap_or_default();
        Ok(Self {
            epoch: found.epoch,
            past: found.past(),
            head: found.last_seq,
        })
    }

    /// Whether this may be the id of a message that is stored here.
    pub(super) fn may_name(&self, id: MessageId) -> bool {
        id.epoch == self.epoch || self.past.may_name(id, self.head)
    }

    /// The id by which clients know a message.
    pub(super) fn id(&self, seq: i64) -> MessageId {
        self.past.id_of(seq).unwrap_or(MessageId {
            epoch: self.epoch,
            seq,
        })
    }
}

/// Ends a run in order, unless another server has begun the next one.
pub(super) fn close(
    connection: &mut Connection<'_>,
    topic: &str,
    last: MessageId,
) -> QueryResult<()> {
    let run = topics::table
        .find(topic)
        .filter(topics::epoch.eq(last.epoch));
    let ended = (topics::last_seq.eq(last.seq), topics::clean.eq(true));
    on_each_backend!(connection, |typed| diesel::update(run)
        .set(ended)
        .execute(typed))?;
    Ok(())
}

/// Messages up to this seq may be gone from now on; none up to it is given again, also where the
/// topic has no other row left to tell.
pub(super) fn prune(connection: &mut Connection<'_>, topic: &str, through: i64) -> QueryResult<()> {
    let run = Run {
        last_seq: message::head(connection, topic)?.max(through),
        pruned_through: through,
        ..Run::default()
    };
    let known = topics::table.find(topic);
    on_each_backend!(connection, |typed| {
        diesel::insert_into(topics::table)
            .values((topics::topic.eq(topic), &run))
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
pub(super) fn new_epoch() -> i64 {
    // Without the system's randomness the clock tells runs apart.
    let random = getrandom::u64()
        .unwrap_or_else(|_| u64::try_from(micros(SystemTime::now())).unwrap_or_default() << 1);
    i64::try_from(random >> 1).map_or(1, |epoch| epoch.max(1))
}
