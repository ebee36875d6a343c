//! [`TopicRow`]: the rows of `topics`, which hold the run of each topic.
//!
//! A run begins with the first message that a process sends to a topic. Its epoch is unique. So a database that was
//! restored from an old copy can tell that an id belongs to a later run.

use std::time::SystemTime;

use diesel::prelude::*;
use diesel::upsert::excluded;

use crate::log::{Epoch, MessageId, OpenedRun, PastRuns, Seq};
use crate::store::backend::{DbConnection, on_each_backend};
use crate::store::schema::topics;
use crate::store::tables::message;
use crate::store::tables::row::micros;

pub(in crate::store) use crate::log::JUMP;

/// The run of a topic. The default, epoch 0, is for a topic without messages.
#[derive(Clone, Debug, Insertable, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = topics)]
pub(in crate::store) struct TopicRow {
    pub(in crate::store) epoch: Epoch,
    pub(in crate::store) last_seq: Seq,
    pub(in crate::store) pruned_through: Seq,
    pub(in crate::store) clean: bool,
    pub(in crate::store) past: String,
    pub(in crate::store) importing: bool,
}

impl Default for TopicRow {
    fn default() -> Self {
        Self {
            epoch: Epoch::default(),
            last_seq: Seq::ZERO,
            pruned_through: Seq::ZERO,
            clean: true,
            past: String::new(),
            importing: false,
        }
    }
}

impl TopicRow {
    /// The runs before it. None if the text cannot be read: then no client resumes.
    pub(in crate::store) fn past(&self) -> PastRuns {
        self.past.parse().unwrap_or_default()
    }

    /// The runs before the next one, if this one ends at `head`.
    pub(in crate::store) fn past_after(&self, head: Seq) -> PastRuns {
        let mut past = self.past();
        past.end(MessageId::new(self.epoch, head), self.clean);
        past
    }

    /// The run after this one, which ends at `head`. Its messages have the seqs beyond `start`.
    pub(super) fn next(self, head: Seq, start: Seq, clean: bool) -> Self {
        Self {
            epoch: new_epoch(),
            last_seq: start,
            clean,
            past: self.past_after(head).to_string(),
            importing: false,
            ..self
        }
    }

    /// What the opener of a log learns of it.
    pub(super) fn opened(&self) -> OpenedRun {
        OpenedRun {
            epoch: self.epoch,
            next_epoch: None,
            past: self.past(),
            head: self.last_seq,
            pruned_through: self.pruned_through,
        }
    }
}

/// The run of a topic as it is stored, and the runs before it.
#[cfg(feature = "_cluster")]
pub(in crate::store) fn known(
    connection: &mut DbConnection<'_>,
    topic: &str,
) -> QueryResult<OpenedRun> {
    let found = find(connection, topic)?.unwrap_or_default();
    Ok(found.opened())
}

/// A run that begins without the database. No topic has a seq beyond `ceiling`. The head of the run is beyond any seq
/// that was given: no topic has had a message each microsecond since 1970, and the ceiling applies if the clock was
/// set back or a run after an unclean end is ahead of it.
pub(in crate::store) fn without_database(ceiling: Seq) -> OpenedRun {
    let epoch = new_epoch();
    OpenedRun {
        epoch,
        next_epoch: Some(epoch),
        head: Seq::new(micros(SystemTime::now())).max(ceiling),
        ..OpenedRun::default()
    }
}

/// A run begins with the message `first`, which is committed later.
pub(in crate::store) fn begin(
    connection: &mut DbConnection<'_>,
    topic: &str,
    first: MessageId,
    strict: bool,
) -> QueryResult<()> {
    let stored = message::head(connection, topic)?;
    let found = find(connection, topic)?.unwrap_or_default();
    let before = first.seq.previous();
    // The same run can begin twice: its topic was out of memory for a while, or this is a retry.
    let past = if found.epoch == first.epoch {
        found.past()
    } else {
        found.past_after(found.last_seq.max(stored).min(before))
    };
    let run = TopicRow {
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
pub(in crate::store) fn find(
    connection: &mut DbConnection<'_>,
    topic: &str,
) -> QueryResult<Option<TopicRow>> {
    on_each_backend!(connection, |typed| {
        topics::table
            .find(topic)
            .select(TopicRow::as_select())
            .first(typed)
            .optional()
    })
}

/// Stores the run of a topic.
pub(in crate::store) fn put(
    connection: &mut DbConnection<'_>,
    topic: &str,
    run: &TopicRow,
) -> QueryResult<()> {
    put_all(connection, &[(topic, run)])
}

/// Stores the runs of topics. Each topic is there once.
pub(in crate::store) fn put_all(
    connection: &mut DbConnection<'_>,
    runs: &[(&str, &TopicRow)],
) -> QueryResult<()> {
    if runs.is_empty() {
        return Ok(());
    }
    let rows = runs
        .iter()
        .map(|(topic, run)| (topics::topic.eq(*topic), *run));
    let changed = (
        topics::epoch.eq(excluded(topics::epoch)),
        topics::last_seq.eq(excluded(topics::last_seq)),
        topics::pruned_through.eq(excluded(topics::pruned_through)),
        topics::clean.eq(excluded(topics::clean)),
        topics::past.eq(excluded(topics::past)),
        topics::importing.eq(excluded(topics::importing)),
    );
    match connection {
        // Diesel has no batch with a conflict for SQLite, where a statement is no round trip.
        #[cfg(feature = "sqlite")]
        DbConnection::Sqlite(sqlite) => {
            for row in rows {
                diesel::insert_into(topics::table)
                    .values(row)
                    .on_conflict(topics::topic)
                    .do_update()
                    .set(changed)
                    .execute(*sqlite)?;
            }
        }
        #[cfg(feature = "postgres")]
        DbConnection::Postgres(postgres) => {
            diesel::insert_into(topics::table)
                .values(rows.collect::<Vec<_>>())
                .on_conflict(topics::topic)
                .do_update()
                .set(changed)
                .execute(*postgres)?;
        }
    }
    Ok(())
}

/// Checks that the database stores topics at all: stores one that no client can join, and rolls back.
pub(in crate::store) fn rehearse(connection: &mut DbConnection<'_>) -> QueryResult<()> {
    use diesel::result::Error::RollbackTransaction;
    let rehearsed = connection.transaction(|connection| {
        prune(connection, "", Seq::ZERO)?;
        Err(RollbackTransaction)
    });
    match rehearsed {
        Err(RollbackTransaction) => Ok(()),
        other => other,
    }
}

/// A seq that no topic has reached: an open run has given fewer than [`JUMP`] seqs.
pub(in crate::store) fn ceiling(connection: &mut DbConnection<'_>) -> QueryResult<Seq> {
    let highest = topics::table.select(diesel::dsl::max(topics::last_seq));
    let highest: Option<Seq> = on_each_backend!(connection, |typed| highest.first(typed))?;
    Ok(highest.unwrap_or_default().plus(JUMP))
}

/// The ids of a topic's stored messages.
pub(in crate::store) struct Names {
    epoch: Epoch,
    past: PastRuns,
    head: Seq,
}

impl Names {
    pub(in crate::store) fn of(
        connection: &mut DbConnection<'_>,
        topic: &str,
    ) -> QueryResult<Self> {
        let found = find(connection, topic)?.unwrap_or_default();
        Ok(Self {
            epoch: found.epoch,
            past: found.past(),
            head: found.last_seq,
        })
    }

    /// Whether this may be the id of a message that is stored here.
    pub(in crate::store) fn may_name(&self, id: MessageId) -> bool {
        id.epoch == self.epoch || self.past.may_name(id, self.head)
    }

    /// The id of a message, as clients know it.
    pub(in crate::store) fn id(&self, seq: Seq) -> MessageId {
        let past = self.past.id_of(seq);
        past.unwrap_or(MessageId::new(self.epoch, seq))
    }
}

/// Ends a run cleanly, unless another server has begun the next one.
pub(in crate::store) fn close(
    connection: &mut DbConnection<'_>,
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

/// Ends all runs that are open, at their last stored message. For a copy of the database, which no server has.
pub(in crate::store) fn end_all(connection: &mut DbConnection<'_>) -> QueryResult<()> {
    let open = topics::table.filter(topics::clean.eq(false));
    let open = open.select((topics::topic, topics::last_seq));
    let open: Vec<(String, Seq)> = on_each_backend!(connection, |typed| open.load(typed))?;
    for (topic, last_seq) in open {
        let head = message::head(connection, &topic)?.max(last_seq);
        let run = topics::table.find(topic);
        let ended = (topics::last_seq.eq(head), topics::clean.eq(true));
        on_each_backend!(connection, |typed| diesel::update(run)
            .set(ended)
            .execute(typed))?;
    }
    Ok(())
}

/// Stores that messages up to this seq may be deleted. None of these seqs is given again, even if the topic has no
/// message left.
pub(in crate::store) fn prune(
    connection: &mut DbConnection<'_>,
    topic: &str,
    through: Seq,
) -> QueryResult<()> {
    let run = TopicRow {
        last_seq: message::head(connection, topic)?.max(through),
        pruned_through: through,
        ..TopicRow::default()
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

/// A random epoch: it cannot be guessed, and no two runs share it.
pub(in crate::store) fn new_epoch() -> Epoch {
    Epoch::new(random())
}

/// A positive number that is random.
pub(in crate::store) fn random() -> i64 {
    // If the system has no randomness, the clock makes it unique.
    let random = getrandom::u64()
        .unwrap_or_else(|_| u64::try_from(micros(SystemTime::now())).unwrap_or_default() << 1);
    i64::try_from(random >> 1).map_or(1, |number| number.max(1))
}
