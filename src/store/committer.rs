//! [`Committer`]: the actor that waits for the database, so that the writer need not.
//!
//! It has the one connection that writes. The [`DbWriter`](super::DbWriter) gives it one round of work at a time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use actix::{Actor, Context, Handler, Message, Recipient};

use super::backend::{Connection, Housekeeper, Pool, Pooled};
use super::batch::{self, Failure, Fate};
use super::capacity::Capacity;
use super::columns::Columns;
use super::journal::Journal;
use super::message;
use super::row::Row;
use super::run;
use super::spool::Record;
use super::turn::{Errand, Outcome, SharedError};
use super::{Store, StoreError};
use crate::metrics::metrics;
use crate::pubsub::LogEntry;

/// The actor. Lives on an Arbiter of its own, where it may block.
pub(super) struct Committer {
    pool: Pool,
    /// Kept from one round to the next; given back after a failure, for the pool to judge.
    connection: Option<Pooled>,
    housekeeper: Housekeeper,
    columns: Columns,
    capacity: Arc<Capacity>,
    /// Keeps a file this server's own.
    store: Store,
}

/// What an earlier run has left comes first; then errands, then rows: no row of a topic that is
/// opened or closed is on its way.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Round {
    pub(super) left: Vec<Record>,
    pub(super) errands: Vec<Errand>,
    /// The oldest rows, in order.
    pub(super) rows: Vec<Arc<LogEntry>>,
    /// Nothing more is to come: the database may be left in order.
    pub(super) settle: bool,
    /// There may be nothing to do: whether the database is there is asked all the same.
    pub(super) probe: bool,
    pub(super) answer: Recipient<Done>,
}

/// How far a round has come.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Done {
    /// How many rows of an earlier run have met their fate.
    pub(super) left: usize,
    /// What became of the errands, as far as they were tried.
    pub(super) errands: Vec<Result<Outcome, SharedError>>,
    /// How many rows, from the first, have met their fate.
    pub(super) rows: usize,
    /// Why it did not come to its end.
    pub(super) error: Option<StoreError>,
}

impl Committer {
    /// # Errors
    /// When its connection cannot be made.
    pub(super) fn new(
        store: Store,
        pool: Pool,
        columns: Columns,
        capacity: Arc<Capacity>,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            pool,
            connection: None,
            housekeeper: store.backend.housekeeper()?,
            columns,
            capacity,
            store,
        })
    }

    /// Commits what an earlier run has left, before anybody else is served.
    pub(super) fn replay(&mut self, journal: &mut Journal) -> Result<(), StoreError> {
        while journal.left() > 0 {
            let records = journal.read_left().map_err(StoreError::Spool)?;
            let mut pooled = self.checkout()?;
            let mut done = 0;
            let committed = self.commit_left(&mut pooled.connection(), &records, &mut done);
            journal.remove_left(done);
            committed?;
            self.housekeeper.committed(&mut pooled)?;
            self.connection = Some(pooled);
        }
        Ok(())
    }

    /// A seq that no topic has reached.
    pub(super) fn ceiling(&mut self) -> Result<i64, StoreError> {
        let mut pooled = self.checkout()?;
        let ceiling = run::ceiling(&mut pooled.connection())?;
        self.connection = Some(pooled);
        Ok(ceiling)
    }

    fn checkout(&mut self) -> Result<Pooled, StoreError> {
        if let Some(connection) = self.connection.take() {
            return Ok(connection);
        }
        self.store.prepare()?;
        self.pool.get()
    }

    /// Rows that no log waits for.
    fn commit_left(
        &self,
        connection: &mut Connection<'_>,
        records: &[Record],
        done: &mut usize,
    ) -> Result<(), StoreError> {
        let rows: Vec<_> = records.iter().map(Row::from).collect();
        batch::commit(connection, &rows, &self.columns, &mut |fate| {
            report(rows[*done], &fate);
            *done += 1;
            self.capacity.release(1, 0);
        })?;
        Ok(())
    }

    fn work(&mut self, round: &Round, done: &mut Done) -> Result<(), StoreError> {
        let mut pooled = self.checkout()?;
        self.commit_left(&mut pooled.connection(), &round.left, &mut done.left)?;
        run_errands(&mut pooled.connection(), &round.errands, &mut done.errands)?;
        self.commit(&mut pooled.connection(), &round.rows, &mut done.rows)?;
        if round.probe {
            message::probe(&mut pooled.connection())?;
        }
        self.housekeeper.committed(&mut pooled)?;
        if round.settle
            && let Err(error) = self.housekeeper.settle(&mut pooled)
        {
            tracing::warn!(%error, "store.writer.settle");
        }
        self.connection = Some(pooled);
        Ok(())
    }

    fn commit(
        &self,
        connection: &mut Connection<'_>,
        entries: &[Arc<LogEntry>],
        done: &mut usize,
    ) -> Result<(), StoreError> {
        let Some(oldest) = entries.first() else {
            return Ok(());
        };
        let started = Instant::now();
        let rows: Vec<_> = entries.iter().map(|entry| Row::from(&**entry)).collect();
        let committed = batch::commit(connection, &rows, &self.columns, &mut |fate| {
            let entry = &entries[*done];
            *done += 1;
            self.capacity.release(1, entry.payload().get().len());
            report(rows[*done - 1], &fate);
            settle(entry, &fate);
        });
        metrics()
            .writer_commit
            .record(started.elapsed().as_secs_f64());
        metrics().writer_batch.record(entries.len() as f64);
        let lag = SystemTime::now().duration_since(oldest.at());
        metrics()
            .writer_lag
            .record(lag.unwrap_or_default().as_secs_f64());
        Ok(committed?)
    }
}

/// All in one transaction, or each in its own if one is refused: a topic's name may be what the
/// database does not take.
fn run_errands(
    connection: &mut Connection<'_>,
    errands: &[Errand],
    done: &mut Vec<Result<Outcome, SharedError>>,
) -> Result<(), StoreError> {
    if errands.is_empty() {
        return Ok(());
    }
    let together = connection.transaction(|connection| {
        let runs = errands.iter().map(|errand| errand.run(connection));
        runs.collect::<Result<Vec<_>, _>>()
            .map_err(Failure::Statement)
    });
    match together {
        Ok(runs) => {
            done.extend(runs.into_iter().map(Ok));
            return Ok(());
        }
        Err(failure) => drop(failure.blame()?),
    }
    for errand in errands {
        let alone =
            connection.transaction(|connection| errand.run(connection).map_err(Failure::Statement));
        match alone {
            Ok(run) => done.push(Ok(run)),
            Err(failure) => {
                let error = failure.blame()?;
                // Like a row's stand-in: a database that notes no topic at all is away.
                run::rehearse(connection)?;
                let error = StoreError::from(error);
                tracing::error!(topic = errand.topic(), %error, "store.writer.topic_refused");
                done.push(Err(Arc::new(error)));
            }
        }
    }
    Ok(())
}

/// Tells the operator what he should know of a row's fate. Never the payload.
fn report(row: Row<'_>, fate: &Fate) {
    let Row { topic, seq, .. } = row;
    match fate {
        Fate::Committed => metrics().rows_committed.increment(1),
        Fate::Moved(to) => {
            tracing::warn!(
                topic,
                seq,
                to,
                "store.writer.row_moved: another server writes to the topic"
            );
            metrics().rows_moved.increment(1);
            metrics().rows_committed.increment(1);
        }
        Fate::DuplicateOf(_) => metrics().rows_duplicate.increment(1),
        Fate::Rejected(error) => {
            tracing::error!(topic, seq, %error, "store.writer.row_rejected");
            metrics().rows_rejected.increment(1);
        }
    }
}

/// Tells the log what became of a row.
fn settle(entry: &LogEntry, fate: &Fate) {
    match fate {
        Fate::Committed | Fate::Moved(_) => entry.mark_committed(),
        Fate::DuplicateOf(first) => entry.mark_duplicate_of(*first),
        Fate::Rejected(_) => entry.mark_rejected(),
    }
}

/// A panic is an error of the round: its connection is gone, its transaction rolled back, and `done`
/// says what was certain by then.
fn caught(work: impl FnOnce() -> Result<(), StoreError>) -> Result<(), StoreError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(ToString::to_string);
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Err(StoreError::Panicked(text.unwrap_or_default()))
    })
}

impl Actor for Committer {
    type Context = Context<Self>;
}

impl Handler<Round> for Committer {
    type Result = ();

    fn handle(&mut self, round: Round, _: &mut Self::Context) {
        let mut done = Done {
            left: 0,
            errands: Vec::new(),
            rows: 0,
            error: None,
        };
        let error = caught(|| self.work(&round, &mut done)).err();
        done.error = error;
        round.answer.do_send(done);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_of_the_round() {
        assert!(caught(|| Ok(())).is_ok());
        for panicking in [|| panic!("plain"), || panic!("with {}", 7)] {
            let error = caught(panicking).expect_err("it panics");
            assert!(matches!(error, StoreError::Panicked(_)), "{error}");
            assert!(error.fault().is_some() && !error.is_damage());
        }
    }
}
