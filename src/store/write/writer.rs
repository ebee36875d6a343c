//! [`DbWriter`]: the actor that owns every row that is published and not committed.
//!
//! It commits in batches: the rows that came in during the last transaction make the next one. A row is committed
//! at once if the writer is idle or a caller waits for the row. After a transaction of few rows there is a
//! [`PAUSE`], because a transaction costs more than its rows and takes the processor from the fan-out. The
//! [`Committer`] waits for the database on a thread of its own; the writer's thread waits for the spool's disk
//! alone.
//!
//! **The database counts as unreachable** if a round has failed or takes too long ([`Reach`]). Rounds are retried
//! at growing distances. Until every row is committed, rows go into the spool as well, and topics are opened
//! without the database. A strict writer refuses rows and openings instead.

mod away;
mod watch;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{
    Actor, Addr, Arbiter, AsyncContext, Context, Handler, Message, ResponseFuture, SpawnHandle,
};
use futures_util::FutureExt;
use tokio::sync::oneshot;

use crate::log::{Epoch, LogEntry, MessageId, OpenedRun};
use crate::metrics::metrics;
use crate::store::backend::error::DAMAGED;
use crate::store::backend::{Guard, Role};
use crate::store::options::WriterOptions;
use crate::store::spool::Record;
use crate::store::tables::columns::Columns;
use crate::store::tables::remove::Removal;
use crate::store::tables::run;
use crate::store::write::capacity::{Capacity, StorageState};
use crate::store::write::ceiling::Ceiling;
use crate::store::write::committer::{Committer, Done, Round};
use crate::store::write::handle::DbWriterHandle;
use crate::store::write::health::Health;
use crate::store::write::intake::Intake;
use crate::store::write::journal::Journal;
use crate::store::write::reach::{Failed, Reach};
use crate::store::write::turn::{Answer, SharedError, TopicWork, Turn, WorkDone};
use crate::store::{Store, StoreError};

/// Rows of one transaction.
const BATCH: usize = 1_000;
/// How long rows that no caller waits for may gather, after a transaction of fewer than [`FEW`].
const PAUSE: Duration = Duration::from_millis(5);
const FEW: usize = 100;
/// A round that takes longer makes the database count as unreachable. A strict writer can only wait, and refuses
/// rows when waiting makes no sense.
const PATIENCE: Duration = Duration::from_millis(500);
const STRICT_PATIENCE: Duration = Duration::from_secs(5);

/// The actor that saves messages. [`DbWriter::start_on_own_thread`] starts it, and it ends with the last
/// [`DbWriterHandle`].
pub struct DbWriter {
    strict: bool,
    committer: Addr<Committer>,
    capacity: Arc<Capacity>,
    /// Published rows that are not in the queue yet.
    intake: Arc<Intake<Arc<LogEntry>>>,
    journal: Option<Journal>,
    /// Rows in the order of their publication.
    queue: VecDeque<Arc<LogEntry>>,
    /// Work on topics, in the order of the requests.
    turns: VecDeque<Turn>,
    /// The epoch of runs that begin now. It changes each time the database was unreachable: somebody may have
    /// restored it.
    epoch: Epoch,
    step: Step,
    /// No topic has a seq beyond it.
    ceiling: Ceiling,
    reach: Reach,
    guard: Guard,
    /// Read by the readiness check.
    health: Arc<Health>,
    /// When the database was last asked for anything.
    asked: Instant,
    /// The next round takes place even if there is nothing to do.
    probe: bool,
    /// The next round, if it is not at once. At most one is scheduled.
    later: Option<SpawnHandle>,
    /// Whether the WAL was truncated and nothing was written since.
    is_tidy: bool,
    /// Whether a check of the round's time, and of the spool, is scheduled.
    watching: bool,
    spooling: bool,
    /// Flush callers that wait until everything is committed.
    waiting: Vec<oneshot::Sender<()>>,
    /// Flush callers that wait until their rows are committed or safe in the spool.
    waiting_for_spool: Vec<oneshot::Sender<()>>,
}

named_debug!(DbWriter);

/// What the writer is doing.
enum Step {
    /// Nothing.
    Idle,
    /// A round begins after the messages in the mailbox, or at the next retry.
    Due,
    /// A round begins after the pause, or as soon as a caller waits for it.
    Paused,
    /// The committer works on a round.
    Round {
        since: Instant,
        /// How many turns the committer was given.
        turns: usize,
    },
}

/// Opens a topic's log.
#[derive(Message)]
#[rtype(result = "()")]
pub(in crate::store) struct Open {
    pub(in crate::store) topic: String,
    pub(in crate::store) strict: bool,
    pub(in crate::store) answer: oneshot::Sender<Result<OpenedRun, SharedError>>,
}

/// Deletes rows. The answer is their number.
#[derive(Message)]
#[rtype(result = "()")]
pub(in crate::store) struct Remove {
    pub(in crate::store) removal: Removal,
    pub(in crate::store) answer: oneshot::Sender<Result<usize, SharedError>>,
}

/// A topic's run has ended in order.
#[derive(Message)]
#[rtype(result = "()")]
pub(in crate::store) struct Close {
    pub(in crate::store) topic: String,
    pub(in crate::store) last: MessageId,
}

/// There are rows in the intake.
#[derive(Message)]
#[rtype(result = "()")]
pub(in crate::store) struct RowsCame;

/// A reader has found that the database is damaged.
#[derive(Message)]
#[rtype(result = "()")]
pub(in crate::store) struct Damaged(pub(in crate::store) String);

#[derive(Message)]
#[rtype(result = "()")]
struct BeginRound;

/// Answered when everything that was requested before is committed; while the database is unreachable, as soon as
/// all rows are safe in the spool.
#[derive(Message)]
#[rtype(result = "()")]
pub(in crate::store) struct Synced;

impl DbWriter {
    /// Commits the rows that an earlier process has left in the spool, and starts the writer on threads of its own,
    /// where it may block. If the database was not reached yet, those rows are committed once it is.
    ///
    /// # Errors
    /// If its connection cannot be made, or the spool cannot be opened or emptied.
    pub fn start_on_own_thread(
        store: Store,
        options: WriterOptions,
    ) -> Result<DbWriterHandle, StoreError> {
        let role = Role::Writer {
            strict: options.strict,
        };
        let capacity = Arc::new(Capacity::new(&options));
        let intake = Arc::new(Intake::default());
        let readers = store.readers.clone();
        let pool = store.backend.pool(role)?;
        let columns = Columns::new(options.columns);
        let prepared = store.prepared;
        let guard = store.backend.guard()?;
        let mut committer = Committer::new(store, pool, columns, Arc::clone(&capacity))?;
        let mut journal = options.spool.as_ref().map(Journal::open).transpose()?;
        if let Some(journal) = &mut journal {
            capacity.add_left(journal.left());
            if prepared {
                committer.replay(journal)?;
                capacity.set_safe(journal.safe());
            }
        }
        let spool = options.spool.as_ref().map(|spool| &*spool.dir);
        let mut ceiling = Ceiling::read(spool);
        if prepared {
            ceiling.raise(committer.ceiling()?);
        }
        let health = Arc::new(Health::default());
        let committer = Committer::start_in_arbiter(&Arbiter::new().handle(), |_| committer);
        let writer = Self {
            strict: options.strict,
            committer,
            capacity: Arc::clone(&capacity),
            intake: Arc::clone(&intake),
            journal: journal.filter(|journal| !options.strict || journal.left() > 0),
            queue: VecDeque::new(),
            turns: VecDeque::new(),
            epoch: run::new_epoch(),
            step: Step::Idle,
            ceiling,
            reach: Reach::new(prepared, options.strict),
            guard,
            health: Arc::clone(&health),
            asked: Instant::now(),
            probe: false,
            later: None,
            is_tidy: true,
            watching: false,
            spooling: false,
            waiting: Vec::new(),
            waiting_for_spool: Vec::new(),
        };
        let addr = Self::start_in_arbiter(&Arbiter::new().handle(), |_| writer);
        Ok(DbWriterHandle::new(addr, capacity, health, intake, readers))
    }

    /// Schedules a round after the messages in the mailbox.
    fn wake(&mut self, ctx: &mut Context<Self>) {
        if matches!(self.step, Step::Idle | Step::Paused) {
            self.step = Step::Due;
            ctx.notify(BeginRound);
        }
    }

    fn take_in(&mut self) {
        self.queue.extend(self.intake.take());
    }

    /// Gives the committer the next round, with one batch of rows at most.
    fn begin_round(&mut self, ctx: &mut Context<Self>) {
        if matches!(self.step, Step::Round { .. }) {
            return;
        }
        if let Some(later) = self.later.take() {
            ctx.cancel_future(later);
        }
        self.take_in();
        let idle = self.queue.is_empty() && self.turns.is_empty();
        // An unreachable database is asked in any case.
        let asked = !(self.waiting.is_empty() && self.waiting_for_spool.is_empty());
        let tidy = idle && !self.reach.is_away() && asked && !self.is_tidy;
        let probe = std::mem::take(&mut self.probe);
        if idle && !self.reach.is_away() && !tidy && !probe {
            if !self.intake.sleep() {
                return self.begin_round(ctx);
            }
            self.step = Step::Idle;
            self.rest();
            return;
        }
        // SQLite would go on committing into a file that was deleted.
        let left = match self.guard.check().and_then(|()| self.read_left()) {
            Ok(left) => left,
            Err(error) => return self.fail(&error, ctx),
        };
        let turns = self.due_turns();
        let work = self.turns.range(..turns).map(|turn| turn.work.clone());
        // Rows of an earlier process come before any row of this one.
        let rows = if self.left() > 0 {
            0
        } else {
            self.queue.len().min(BATCH)
        };
        let rows: Vec<_> = self.queue.range(..rows).cloned().collect();
        // An earlier run of a topic ends before its next one begins.
        let begins = rows.iter().filter_map(begin);
        let tidy = idle && !self.reach.is_away();
        self.is_tidy = tidy || (idle && self.is_tidy);
        self.committer.do_send(Round {
            left,
            work: work.chain(begins).collect(),
            rows,
            tidy,
            probe,
            answer: ctx.address().recipient(),
        });
        self.note_asked();
        self.step = Step::Round {
            since: Instant::now(),
            turns,
        };
        self.watch(ctx);
    }

    /// How many turns are due now: a run ends after its rows.
    fn due_turns(&self) -> usize {
        let has_rows = |topic: &str| self.queue.iter().any(|entry| entry.topic() == topic);
        let waits =
            |turn: &Turn| matches!(&turn.work, TopicWork::Close { topic, .. } if has_rows(topic));
        self.turns
            .iter()
            .position(waits)
            .unwrap_or(self.turns.len())
    }

    /// Checks after a while whether the round has ended. At most one check is scheduled.
    fn watch(&mut self, ctx: &mut Context<Self>) {
        let Step::Round { since, .. } = self.step else {
            return;
        };
        if self.reach.is_away() || std::mem::replace(&mut self.watching, true) {
            return;
        }
        let patience = if self.strict {
            STRICT_PATIENCE
        } else {
            PATIENCE
        };
        let left = patience.saturating_sub(since.elapsed());
        ctx.run_later(left, move |writer, ctx| {
            writer.watching = false;
            match writer.step {
                Step::Round { since, .. } if since.elapsed() >= patience => {
                    tracing::error!(rows = writer.queue.len(), "store.writer.stuck");
                    writer.reach.time_out();
                    writer.turn_away(ctx);
                }
                _ => writer.watch(ctx),
            }
        });
    }

    /// The round is over, completely or not.
    fn end_round(&mut self, done: Done, ctx: &mut Context<Self>) {
        let Step::Round { turns, .. } = std::mem::replace(&mut self.step, Step::Due) else {
            return;
        };
        if let Some(journal) = &mut self.journal {
            journal.remove_left(done.left);
        }
        for (_, outcome) in (0..turns).zip(done.work) {
            let Some(Turn { answer, .. }) = self.turns.pop_front() else {
                break;
            };
            // If the join has ended meanwhile, its topic stays open, and counts as ended uncleanly.
            match (outcome, answer) {
                (Ok(WorkDone::Opened(run)), Some(Answer::Opening(answer))) => {
                    let _ = answer.send(Ok(run));
                }
                (Ok(WorkDone::Removed(rows)), Some(Answer::Removal(answer))) => {
                    let _ = answer.send(Ok(rows));
                }
                (Err(error), Some(answer)) => answer.refuse(error),
                _ => {}
            }
        }
        self.queue.drain(..done.rows);
        if let Some(journal) = &mut self.journal {
            journal.remove(done.rows);
        }
        match done.error {
            None => self.come_back(done.rows, ctx),
            Some(error) => self.fail(&error, ctx),
        }
    }

    /// The database has done the whole round.
    fn come_back(&mut self, rows: usize, ctx: &mut Context<Self>) {
        if self.reach.succeed(self.left()) {
            tracing::info!(rows = self.queue.len(), "store.writer.recovered");
            self.epoch = run::new_epoch();
        }
        self.note_health();
        self.write_down(ctx);
        if rows < FEW && self.has_nothing_to_do() && self.intake.pause() {
            self.step = Step::Paused;
            self.later = Some(ctx.notify_later(BeginRound, PAUSE));
        } else {
            ctx.notify(BeginRound);
        }
    }

    /// Whether nothing is known that must be done at once.
    fn has_nothing_to_do(&self) -> bool {
        self.queue.is_empty()
            && self.turns.is_empty()
            && self.waiting.is_empty()
            && self.capacity.state() == StorageState::Available
    }

    /// How many rows of an earlier process are not committed yet.
    fn left(&self) -> usize {
        self.journal.as_ref().map_or(0, Journal::left)
    }

    /// The oldest of them, as many as one round commits.
    fn read_left(&mut self) -> Result<Vec<Record>, StoreError> {
        let left = self.journal.as_mut().filter(|journal| journal.left() > 0);
        left.map_or_else(|| Ok(Vec::new()), Journal::read_left)
            .map_err(StoreError::Spool)
    }

    fn fail(&mut self, error: &StoreError, ctx: &mut Context<Self>) {
        metrics().writer_retries.increment(1);
        let Failed { retry, is_news } = self.reach.fail(error);
        if is_news {
            tracing::error!(%error, rows = self.queue.len(), "store.writer.failing");
        }
        self.note_health();
        self.turn_away(ctx);
        self.later = Some(ctx.notify_later(BeginRound, retry));
    }

    /// Everything is done: answers the flush callers.
    fn rest(&mut self) {
        for waiting in self
            .waiting
            .drain(..)
            .chain(self.waiting_for_spool.drain(..))
        {
            // A caller that has given up needs no answer.
            let _ = waiting.send(());
        }
    }
}

/// The beginning of a run, if the message begins one.
fn begin(entry: &Arc<LogEntry>) -> Option<TopicWork> {
    entry.begins().then(|| TopicWork::Begin {
        topic: entry.topic().to_owned(),
        first: entry.id(),
        strict: entry.is_strict(),
    })
}

impl Actor for DbWriter {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        Self::watch_health(ctx);
        if self.reach.is_away() {
            self.write_down(ctx);
            self.wake(ctx);
        }
    }
}

impl Handler<RowsCame> for DbWriter {
    type Result = ();

    fn handle(&mut self, _: RowsCame, ctx: &mut Self::Context) {
        self.wake(ctx);
    }
}

impl Handler<Open> for DbWriter {
    type Result = ();

    fn handle(
        &mut self,
        Open {
            topic,
            strict,
            answer,
        }: Open,
        ctx: &mut Self::Context,
    ) {
        if self.reach.is_away() {
            return self.open_without_database(answer);
        }
        self.turns.push_back(Turn {
            work: TopicWork::Open {
                topic,
                strict,
                next_epoch: self.epoch,
            },
            answer: Some(Answer::Opening(answer)),
        });
        self.wake(ctx);
    }
}

impl Handler<Remove> for DbWriter {
    type Result = ();

    fn handle(&mut self, Remove { removal, answer }: Remove, ctx: &mut Self::Context) {
        let answer = Answer::Removal(answer);
        if self.reach.is_away() {
            return answer.refuse(Arc::new(StoreError::Away));
        }
        self.turns.push_back(Turn {
            work: TopicWork::Remove(removal),
            answer: Some(answer),
        });
        self.wake(ctx);
    }
}

impl Handler<Close> for DbWriter {
    type Result = ();

    fn handle(&mut self, Close { topic, last }: Close, ctx: &mut Self::Context) {
        self.ceiling.raise(last.seq);
        self.turns
            .push_back(Turn::quiet(TopicWork::Close { topic, last }));
        self.wake(ctx);
    }
}

impl Handler<Damaged> for DbWriter {
    type Result = ();

    fn handle(&mut self, Damaged(error): Damaged, ctx: &mut Self::Context) {
        if self.reach.damaged(DAMAGED) {
            tracing::error!(%error, "store.damaged");
            self.note_health();
            self.write_down(ctx);
        }
    }
}

impl Handler<BeginRound> for DbWriter {
    type Result = ();

    fn handle(&mut self, _: BeginRound, ctx: &mut Self::Context) {
        self.begin_round(ctx);
    }
}

impl Handler<Done> for DbWriter {
    type Result = ();

    fn handle(&mut self, done: Done, ctx: &mut Self::Context) {
        self.end_round(done, ctx);
    }
}

impl Handler<Synced> for DbWriter {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Synced, ctx: &mut Self::Context) -> Self::Result {
        let (done, synced) = oneshot::channel();
        self.waiting.push(done);
        // An unreachable database is retried at once.
        if matches!(self.step, Step::Due) {
            ctx.notify(BeginRound);
        }
        self.wake(ctx);
        synced.map(drop).boxed_local()
    }
}
