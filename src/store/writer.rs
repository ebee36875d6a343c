//! [`DbWriter`]: the actor that commits what was published, on a thread of its own.
//!
//! It batches what piled up while the last transaction ran: a row is kept, and the first one asks
//! for a flush, which actix handles after the rows that are in the mailbox already. So there is no
//! timer, a lone row is committed at once, and the commit lag is one transaction.
//!
//! Topics are opened and closed before the rows that wait: no row of such a topic is on its way.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use actix::{Actor, Arbiter, AsyncContext, Context, Handler, Message, ResponseFuture};
use futures_util::FutureExt;
use tokio::sync::oneshot;

use super::backend::{Connection, Housekeeper, Pool, Pooled, Role};
use super::batch::{self, Failure, Fate};
use super::columns::{ColumnFields, Columns};
use super::handle::{Capacity, DbWriterHandle};
use super::remove::{self, Removal};
use super::run::{self, Run};
use super::{Store, StoreError};
use crate::metrics::metrics;
use crate::pubsub::LogEntry;

/// Rows of one transaction.
const BATCH: usize = 1_000;
/// The first wait after a failed transaction; it doubles up to the last.
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(5);

/// How a writer works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriterOptions {
    /// Rows that may wait for their commit. Default 100,000.
    pub rows: usize,
    /// Bytes of payload that may wait for their commit. Default 64 MB.
    pub bytes: usize,
    /// Whether a committed row survives a power cut. SQLite then waits for the disk at each commit
    /// (`synchronous = FULL`); PostgreSQL always does. Default false.
    pub strict: bool,
    /// What fills the columns `name` and `message`, by topic; the seed's names where nothing is said.
    pub columns: Vec<ColumnFields>,
}

impl Default for WriterOptions {
    fn default() -> Self {
        Self {
            rows: 100_000,
            bytes: 64_000_000,
            strict: false,
            columns: Vec::new(),
        }
    }
}

/// The actor. Started by [`DbWriter::start_on_own_thread`].
pub struct DbWriter {
    pool: Pool,
    /// Kept from one transaction to the next; given back after a failure, for the pool to judge.
    connection: Option<Pooled>,
    housekeeper: Housekeeper,
    /// Keeps the database this server's own.
    _store: Store,
    capacity: Arc<Capacity>,
    columns: Columns,
    /// Rows in the order of their publication.
    queue: VecDeque<Arc<LogEntry>>,
    /// Topics to open and to close, in the order of the requests.
    turns: VecDeque<Turn>,
    /// The epochs of the runs that are open.
    runs: HashMap<String, i64>,
    /// Whether a flush is on its way.
    flushing: bool,
    /// The wait before the next try; `None` while all is well.
    retry: Option<Duration>,
    /// Those who wait until everything is committed.
    waiting: Vec<oneshot::Sender<()>>,
}

/// A topic's run begins or ends, or rows of a topic are deleted.
pub(super) enum Turn {
    Open {
        topic: String,
        strict: bool,
        answer: oneshot::Sender<Result<Run, Arc<StoreError>>>,
    },
    Close {
        topic: String,
        head: i64,
    },
    /// Answers with how many rows there were.
    Remove {
        removal: Removal,
        answer: oneshot::Sender<Result<usize, Arc<StoreError>>>,
    },
}

/// What a turn has done.
enum Taken {
    Opened(Run),
    Closed,
    Removed(usize),
}

impl Message for Turn {
    type Result = ();
}

#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Append(pub(super) Arc<LogEntry>);

#[derive(Message)]
#[rtype(result = "()")]
struct Flush;

/// Answered when everything that was asked for before is committed.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Synced;

impl DbWriter {
    /// Starts the writer on an Arbiter of its own, where it may block.
    ///
    /// # Errors
    /// When its connection cannot be made.
    pub fn start_on_own_thread(
        store: Store,
        options: WriterOptions,
    ) -> Result<DbWriterHandle, StoreError> {
        let role = Role::Writer {
            strict: options.strict,
        };
        let capacity = Arc::new(Capacity::new(&options));
        let readers = store.readers.clone();
        let writer = Self {
            pool: store.backend.pool(role)?,
            connection: None,
            housekeeper: store.backend.housekeeper()?,
            _store: store,
            capacity: Arc::clone(&capacity),
            columns: Columns::new(options.columns),
            queue: VecDeque::new(),
            turns: VecDeque::new(),
            runs: HashMap::new(),
            flushing: false,
            retry: None,
            waiting: Vec::new(),
        };
        let addr = Self::start_in_arbiter(&Arbiter::new().handle(), |_| writer);
        Ok(DbWriterHandle::new(addr, capacity, readers))
    }

    /// Asks for a flush behind what is in the mailbox.
    fn wake(&mut self, ctx: &mut Context<Self>) {
        if !std::mem::replace(&mut self.flushing, true) {
            ctx.notify(Flush);
        }
    }

    /// Commits what waits, one batch of rows at most; goes on at once while there is more, later
    /// after a failure.
    fn flush(&mut self, ctx: &mut Context<Self>) {
        if self.turns.is_empty() && self.queue.is_empty() {
            self.flushing = false;
            self.rest();
            return;
        }
        let connection = match self.connection.take() {
            Some(connection) => Ok(connection),
            None => self.pool.get(),
        };
        let done = connection.and_then(|mut pooled| {
            self.take_turns(&mut pooled.connection())?;
            self.commit(&mut pooled.connection())?;
            self.housekeeper.committed(&mut pooled)?;
            Ok(pooled)
        });
        match done {
            Ok(connection) => {
                self.connection = Some(connection);
                self.retry = None;
                ctx.notify(Flush);
            }
            Err(error) => {
                let wait = self
                    .retry
                    .map_or(FIRST_RETRY, |wait| (wait * 2).min(LAST_RETRY));
                if self.retry.replace(wait).is_none() {
                    tracing::error!(%error, rows = self.queue.len(), "store.writer.failing");
                }
                metrics().writer_retries.increment(1);
                self.refuse_openings(error);
                ctx.notify_later(Flush, wait);
            }
        }
    }

    /// Nothing is left to do: those who wait for that are told.
    fn rest(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        if let Some(pooled) = &mut self.connection
            && let Err(error) = self.housekeeper.settle(pooled)
        {
            tracing::warn!(%error, "store.writer.settle");
        }
        for waiting in self.waiting.drain(..) {
            // Who has given up waiting needs no answer.
            let _ = waiting.send(());
        }
    }

    /// Opens and closes topics, all in one transaction, or each in its own if one is refused: a
    /// topic's name may be what the database does not take.
    fn take_turns(&mut self, connection: &mut Connection<'_>) -> Result<(), StoreError> {
        if self.turns.is_empty() {
            return Ok(());
        }
        let together = connection.transaction(|connection| {
            let turns = self.turns.iter();
            let taken = turns.map(|turn| turn.take(connection, &self.runs));
            taken
                .collect::<Result<Vec<_>, _>>()
                .map_err(Failure::Statement)
        });
        match together {
            Ok(taken) => {
                for (turn, taken) in self.turns.drain(..).zip(taken) {
                    turn.end(taken, &mut self.runs);
                }
                return Ok(());
            }
            Err(failure) => drop(failure.blame()?),
        }
        while let Some(turn) = self.turns.pop_front() {
            let alone = connection.transaction(|connection| turn.take(connection, &self.runs));
            match (alone, &turn) {
                (Ok(taken), _) => turn.end(taken, &mut self.runs),
                (Err(error), Turn::Open { .. } | Turn::Remove { .. }) => {
                    turn.refuse(&Arc::new(error.into()));
                }
                (Err(error), Turn::Close { .. }) => {
                    self.turns.push_front(turn);
                    return Err(error.into());
                }
            }
        }
        Ok(())
    }

    /// Whoever waits for a topic can try again; a topic that is to be closed waits.
    fn refuse_openings(&mut self, error: StoreError) {
        let error = Arc::new(error);
        for turn in std::mem::take(&mut self.turns) {
            match turn {
                Turn::Open { .. } | Turn::Remove { .. } => turn.refuse(&error),
                Turn::Close { .. } => self.turns.push_back(turn),
            }
        }
    }

    /// One batch, the oldest rows.
    fn commit(&mut self, connection: &mut Connection<'_>) -> Result<(), StoreError> {
        let size = self.queue.len().min(BATCH);
        let Some(oldest) = self.queue.front().map(|entry| entry.at()) else {
            return Ok(());
        };
        let entries: Vec<_> = self.queue.range(..size).cloned().collect();
        let started = Instant::now();
        let done = batch::commit(connection, &entries, &self.columns, &mut |fate| {
            if let Some(entry) = self.queue.pop_front() {
                self.capacity.release(1, entry.payload().get().len());
                settle(&entry, fate);
            }
        });
        metrics()
            .writer_commit
            .record(started.elapsed().as_secs_f64());
        metrics().writer_batch.record(size as f64);
        let lag = SystemTime::now().duration_since(oldest).unwrap_or_default();
        metrics().writer_lag.record(lag.as_secs_f64());
        Ok(done?)
    }
}

/// Tells the log what became of a row, and the operator what he should know. Never the payload.
fn settle(entry: &LogEntry, fate: Fate) {
    let (topic, seq) = (entry.topic(), entry.seq());
    match fate {
        Fate::Committed => {
            metrics().rows_committed.increment(1);
            entry.mark_committed();
        }
        Fate::Moved(to) => {
            tracing::warn!(
                topic,
                seq,
                to,
                "store.writer.row_moved: another server writes to the topic"
            );
            metrics().rows_moved.increment(1);
            metrics().rows_committed.increment(1);
            entry.mark_committed();
        }
        Fate::DuplicateOf(first) => {
            metrics().rows_duplicate.increment(1);
            entry.mark_duplicate_of(first);
        }
        Fate::Rejected(error) => {
            tracing::error!(topic, seq, %error, "store.writer.row_rejected");
            metrics().rows_rejected.increment(1);
            entry.mark_rejected();
        }
    }
}

impl Turn {
    fn take(
        &self,
        connection: &mut Connection<'_>,
        runs: &HashMap<String, i64>,
    ) -> diesel::QueryResult<Taken> {
        match self {
            Self::Open { topic, strict, .. } => {
                run::open(connection, topic, *strict).map(Taken::Opened)
            }
            Self::Close { topic, head } => {
                if let Some(&epoch) = runs.get(topic) {
                    run::close(connection, topic, epoch, *head)?;
                }
                Ok(Taken::Closed)
            }
            Self::Remove { removal, .. } => remove::remove(connection, removal).map(Taken::Removed),
        }
    }

    fn end(self, taken: Taken, runs: &mut HashMap<String, i64>) {
        match (self, taken) {
            (Self::Open { topic, answer, .. }, Taken::Opened(run)) => {
                runs.insert(topic, run.epoch);
                // A join that has ended meanwhile leaves its topic open: its end counts as unclean.
                let _ = answer.send(Ok(run));
            }
            (Self::Remove { answer, .. }, Taken::Removed(rows)) => {
                // Who has gone needs no answer.
                let _ = answer.send(Ok(rows));
            }
            (Self::Close { topic, .. }, _) => {
                runs.remove(&topic);
            }
            (Self::Open { .. } | Self::Remove { .. }, _) => {}
        }
    }

    fn refuse(self, error: &Arc<StoreError>) {
        let error = Arc::clone(error);
        // Who has gone needs no answer.
        match self {
            Self::Open { answer, .. } => drop(answer.send(Err(error))),
            Self::Remove { answer, .. } => drop(answer.send(Err(error))),
            Self::Close { .. } => {}
        }
    }
}

impl Actor for DbWriter {
    type Context = Context<Self>;
}

impl Handler<Append> for DbWriter {
    type Result = ();

    fn handle(&mut self, Append(entry): Append, ctx: &mut Self::Context) {
        self.queue.push_back(entry);
        self.wake(ctx);
    }
}

impl Handler<Turn> for DbWriter {
    type Result = ();

    fn handle(&mut self, turn: Turn, ctx: &mut Self::Context) {
        self.turns.push_back(turn);
        self.wake(ctx);
    }
}

impl Handler<Flush> for DbWriter {
    type Result = ();

    fn handle(&mut self, _: Flush, ctx: &mut Self::Context) {
        self.flush(ctx);
    }
}

impl Handler<Synced> for DbWriter {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Synced, ctx: &mut Self::Context) -> Self::Result {
        let (done, synced) = oneshot::channel();
        self.waiting.push(done);
        self.wake(ctx);
        synced.map(drop).boxed_local()
    }
}
