//! [`Committer`]: the actor that waits for the database, so that the [`DbWriter`](crate::store::DbWriter) never does.
//!
//! It owns the only connection that writes, and gets one [`Round`] at a time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use actix::{Actor, Context, Handler, Message, Recipient};

use crate::log::{LogEntry, Seq};
use crate::metrics::{committed as committed_now, metrics};
use crate::store::backend::{DbConnection, Fault, Housekeeper, Pool, Pooled};
use crate::store::opened::Store;
use crate::store::spool::Record;
use crate::store::tables::columns::Columns;
use crate::store::tables::message;
use crate::store::tables::row::PendingRow;
use crate::store::tables::run;
use crate::store::write::batch::{self, RowOutcome, TransactionFailure};
use crate::store::write::capacity::Capacity;
use crate::store::write::commits::Commits;
use crate::store::write::drafts::{self, DraftBatch};
use crate::store::write::journal::Journal;
use crate::store::write::turn::{SharedError, TopicWork, WorkDone};

/// The actor. Its thread is its own, so it may block.
pub(in crate::store) struct Committer {
    pool: Pool,
    /// Kept between rounds; `None` after a failure.
    connection: Option<Pooled>,
    housekeeper: Housekeeper,
    columns: Columns,
    capacity: Arc<Capacity>,
    commits: Arc<Commits>,
    /// Its lock keeps other servers away from the database file.
    store: Store,
}

/// The work of one round, in this order: rows of an earlier process, work on topics, rows.
#[derive(Message)]
#[rtype(result = "()")]
pub(in crate::store) struct Round {
    pub(in crate::store) earlier: Vec<Record>,
    pub(in crate::store) work: Vec<TopicWork>,
    /// The oldest rows, in order.
    pub(in crate::store) rows: Vec<Arc<LogEntry>>,
    /// The oldest messages without a place, in order.
    pub(in crate::store) drafts: DraftBatch,
    /// The writer is idle: the database may be checkpointed.
    pub(in crate::store) tidy: bool,
    /// The database is asked even if there is no work.
    pub(in crate::store) probe: bool,
    pub(in crate::store) answer: Recipient<Done>,
}

/// The result of a round.
#[derive(Message)]
#[rtype(result = "()")]
pub(in crate::store) struct Done {
    /// How many rows of an earlier process are settled, from the first.
    pub(in crate::store) earlier: usize,
    /// The results of the work on topics, from the first piece.
    pub(in crate::store) work: Vec<Result<WorkDone, SharedError>>,
    /// How many rows, from the first, are settled.
    pub(in crate::store) rows: usize,
    /// How many messages without a place, from the first, are settled.
    pub(in crate::store) drafts: usize,
    /// The error that ended the round early.
    pub(in crate::store) error: Option<Fault>,
}

impl Committer {
    /// # Errors
    /// If its connection cannot be made.
    pub(in crate::store) fn new(
        store: Store,
        pool: Pool,
        columns: Columns,
        (capacity, commits): (Arc<Capacity>, Arc<Commits>),
    ) -> Result<Self, Fault> {
        Ok(Self {
            pool,
            connection: None,
            housekeeper: store.backend.housekeeper()?,
            columns,
            capacity,
            commits,
            store,
        })
    }

    /// Commits the rows of an earlier process, before the server accepts clients.
    pub(in crate::store) fn replay(&mut self, journal: &mut Journal) -> Result<(), Fault> {
        while journal.earlier() > 0 {
            let records = journal.read_earlier().map_err(Fault::Spool)?;
            let mut pooled = self.checkout()?;
            let mut done = 0;
            let committed = self.commit_earlier(&mut pooled.connection(), &records, &mut done);
            journal.remove_earlier(done);
            committed?;
            self.housekeeper.committed(&mut pooled)?;
            self.connection = Some(pooled);
        }
        Ok(())
    }

    /// A seq that no topic has reached.
    pub(in crate::store) fn ceiling(&mut self) -> Result<Seq, Fault> {
        let mut pooled = self.checkout()?;
        let ceiling = run::ceiling(&mut pooled.connection())?;
        self.connection = Some(pooled);
        Ok(ceiling)
    }

    fn checkout(&mut self) -> Result<Pooled, Fault> {
        if let Some(connection) = self.connection.take() {
            return Ok(connection);
        }
        self.store.prepare()?;
        self.pool.get()
    }

    /// Commits rows that belong to no open log.
    fn commit_earlier(
        &self,
        connection: &mut DbConnection<'_>,
        records: &[Record],
        done: &mut usize,
    ) -> Result<(), Fault> {
        let rows: Vec<_> = records.iter().map(PendingRow::from).collect();
        let committed = batch::commit(connection, &rows, &self.columns, &mut |outcome| {
            report(rows[*done], &outcome);
            *done += 1;
            self.capacity.release(1, 0);
        });
        self.commits.add(*done);
        Ok(committed?)
    }

    fn work(&mut self, round: &Round, done: &mut Done) -> Result<(), Fault> {
        let mut pooled = self.checkout()?;
        self.commit_earlier(&mut pooled.connection(), &round.earlier, &mut done.earlier)?;
        run_topic_work(&mut pooled.connection(), &round.work, &mut done.work)?;
        self.commit(&mut pooled.connection(), &round.rows, &mut done.rows)?;
        self.give_places(&mut pooled.connection(), &round.drafts, &mut done.drafts)?;
        if round.probe {
            message::probe(&mut pooled.connection())?;
        }
        self.housekeeper.committed(&mut pooled)?;
        if round.tidy
            && let Err(error) = self.housekeeper.tidy(&mut pooled)
        {
            tracing::warn!(
                %error,
                "store.writer.settle: the next start does it; see that the disk has room"
            );
        }
        self.connection = Some(pooled);
        Ok(())
    }

    /// Commits messages whose place the database gives.
    fn give_places(
        &self,
        connection: &mut DbConnection<'_>,
        drafts: &DraftBatch,
        done: &mut usize,
    ) -> Result<(), Fault> {
        let committed = drafts::commit(connection, drafts, &self.columns, &self.capacity, done);
        self.commits.add(*done);
        committed
    }

    fn commit(
        &self,
        connection: &mut DbConnection<'_>,
        entries: &[Arc<LogEntry>],
        done: &mut usize,
    ) -> Result<(), Fault> {
        let Some(oldest) = entries.first() else {
            return Ok(());
        };
        let started = Instant::now();
        let rows: Vec<_> = entries
            .iter()
            .map(|entry| PendingRow::from(&**entry))
            .collect();
        let committed = batch::commit(connection, &rows, &self.columns, &mut |outcome| {
            let entry = &entries[*done];
            *done += 1;
            self.capacity.release(1, entry.payload().get().len());
            report(rows[*done - 1], &outcome);
            settle(entry, &outcome);
        });
        self.commits.add(*done);
        if *done > 0 {
            let since = SystemTime::now().duration_since(UNIX_EPOCH);
            let at = since.unwrap_or_default().as_secs_f64();
            metrics().last_commit.set(at);
        }
        metrics()
            .writer_commit
            .record(started.elapsed().as_secs_f64());
        metrics().writer_batch.record(entries.len() as f64);
        let lag = SystemTime::now().duration_since(oldest.at());
        let lag = lag.unwrap_or_default();
        metrics().writer_lag.record(lag.as_secs_f64());
        committed_now(lag);
        Ok(committed?)
    }
}

/// Does the work in one transaction. If the database refuses one piece, for example for the topic's name, each piece
/// gets a transaction of its own.
fn run_topic_work(
    connection: &mut DbConnection<'_>,
    work: &[TopicWork],
    done: &mut Vec<Result<WorkDone, SharedError>>,
) -> Result<(), Fault> {
    if work.is_empty() {
        return Ok(());
    }
    match in_transaction(connection, work) {
        Ok(together) => {
            done.extend(together.into_iter().map(Ok));
            return Ok(());
        }
        Err(failure) => drop(failure.blame()?),
    }
    for work in work {
        match in_transaction(connection, std::slice::from_ref(work)) {
            Ok(alone) => done.extend(alone.into_iter().map(Ok)),
            Err(failure) => {
                let error = failure.blame()?;
                // As for a row: if the database stores no topic at all, it is unreachable.
                run::rehearse(connection)?;
                let error = Fault::from(error);
                tracing::error!(
                    topic = work.topic(), %error,
                    "store.writer.topic_refused: clients of this topic cannot resume; look at the \
                     database's log"
                );
                done.push(Err(Arc::new(error)));
            }
        }
    }
    Ok(())
}

fn in_transaction(
    connection: &mut DbConnection<'_>,
    work: &[TopicWork],
) -> Result<Vec<WorkDone>, TransactionFailure> {
    connection.transaction(|connection| {
        TopicWork::run_all(work, connection).map_err(TransactionFailure::Statement)
    })
}

/// Logs and counts the result of a row. Never logs the payload.
fn report(row: PendingRow<'_>, outcome: &RowOutcome) {
    let (topic, seq) = (row.topic, row.seq.get());
    match outcome {
        RowOutcome::Committed => metrics().rows_committed.increment(1),
        RowOutcome::Moved(to) => {
            tracing::warn!(
                topic,
                seq,
                to = to.get(),
                "store.writer.row_moved: another server writes to the topic"
            );
            metrics().rows_moved.increment(1);
            metrics().rows_committed.increment(1);
        }
        RowOutcome::DuplicateOf(_) => metrics().rows_duplicate.increment(1),
        RowOutcome::Rejected(error) => {
            tracing::error!(
                topic, seq, %error,
                "store.writer.row_rejected: this message is not stored; look at the database's \
                 log"
            );
            metrics().rows_rejected.increment(1);
        }
    }
}

/// Settles the row in its log.
fn settle(entry: &LogEntry, outcome: &RowOutcome) {
    match outcome {
        RowOutcome::Committed | RowOutcome::Moved(_) => entry.mark_committed(),
        RowOutcome::DuplicateOf(first) => entry.mark_duplicate_of(*first),
        RowOutcome::Rejected(_) => entry.mark_rejected(),
    }
}

/// Turns a panic into an error of the round. The transaction is rolled back and the connection dropped. The results
/// before the panic stay valid.
fn caught(work: impl FnOnce() -> Result<(), Fault>) -> Result<(), Fault> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(ToString::to_string);
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Err(Fault::Panicked(text.unwrap_or_default()))
    })
}

impl Actor for Committer {
    type Context = Context<Self>;
}

impl Handler<Round> for Committer {
    type Result = ();

    fn handle(&mut self, round: Round, _: &mut Self::Context) {
        let mut done = Done {
            earlier: 0,
            work: Vec::new(),
            rows: 0,
            drafts: 0,
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
            assert!(matches!(error, Fault::Panicked(_)), "{error}");
            assert!(error.fault().is_some() && !error.is_damage());
        }
    }
}
