//! [`DbWriter`]: the actor that has what was published and is not committed yet.
//!
//! It batches what piled up in the [`Intake`] while the last transaction ran. A row that comes to a
//! writer at rest, or that somebody waits for, is committed at once. After a transaction of few rows
//! there is a [`PAUSE`]: a transaction costs more than its rows, and those who receive messages want
//! the processor too. The [`Committer`] waits for the database, on a thread of its own; this one only
//! ever waits for the spool's disk.
//!
//! **The database is away** when a round has failed, or takes too long. Rounds are tried again, at
//! growing distances. Meanwhile rows are written to the spool as well, and new rows behind them,
//! until all of that is committed; topics are opened without the database. A strict writer refuses
//! rows and openings instead.

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

use super::backend::{Guard, Role};
use super::capacity::{Capacity, StorageState};
use super::ceiling::Ceiling;
use super::columns::Columns;
use super::committer::{Committer, Done, Round};
use super::handle::DbWriterHandle;
use super::health::Health;
use super::intake::Intake;
use super::journal::Journal;
use super::options::WriterOptions;
use super::remove::Removal;
use super::run;
use super::spool::Record;
use super::turn::{Answer, Errand, Outcome, SharedError, Turn};
use super::{DAMAGED, Store, StoreError};
use crate::metrics::metrics;
use crate::pubsub::{LogEntry, MessageId, OpenedRun};

/// Rows of one transaction.
const BATCH: usize = 1_000;
/// How long rows that nobody waits for may gather, behind a transaction of fewer than [`FEW`].
const PAUSE: Duration = Duration::from_millis(5);
const FEW: usize = 100;
/// The first wait after a failed round; it doubles up to the last.
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(5);
/// How long a round may take before the database counts as away. A strict writer has nothing else
/// to do than to wait, and says no when waiting makes no sense.
const PATIENCE: Duration = Duration::from_millis(500);
const STRICT_PATIENCE: Duration = Duration::from_secs(5);

/// The actor. Started by [`DbWriter::start_on_own_thread`].
pub struct DbWriter {
    strict: bool,
    committer: Addr<Committer>,
    capacity: Arc<Capacity>,
    /// What was published and is not in the queue yet.
    intake: Arc<Intake<Arc<LogEntry>>>,
    journal: Option<Journal>,
    /// Rows in the order of their publication.
    queue: VecDeque<Arc<LogEntry>>,
    /// Topics to open and to close, in the order of the requests.
    turns: VecDeque<Turn>,
    /// The epoch of the runs that begin now. Another one each time the database was away: it may have
    /// been put back to what it was.
    epoch: i64,
    work: Work,
    /// No topic has a seq beyond it.
    ceiling: Ceiling,
    /// The database is away; the wait before the next try.
    away: Option<Duration>,
    /// Why it is.
    trouble: Option<Trouble>,
    /// A reader has found that the database is damaged: so it is until the server is started anew.
    damage: Option<String>,
    guard: Guard,
    /// Read by those who ask whether the server is ready.
    health: Arc<Health>,
    /// When the database was last asked for anything.
    asked: Instant,
    /// The next round is one even where there is nothing to do.
    probe: bool,
    /// The next round, when it is not at once; one is on its way at most.
    later: Option<SpawnHandle>,
    /// Whether nothing was done since the database was left in order.
    settled: bool,
    /// Whether a look at the round's time, or at what is to be spooled, is on its way.
    watching: bool,
    spooling: bool,
    /// Those who wait until everything is committed.
    waiting: Vec<oneshot::Sender<()>>,
    /// Those for whom that was tried in vain: they wait until everything is safe in the spool.
    resigned: Vec<oneshot::Sender<()>>,
}

named_debug!(DbWriter);

/// Why the last round has failed.
struct Trouble {
    /// As it stands in the log.
    error: String,
    /// What makes the server not ready.
    fault: Option<String>,
    /// Nothing may be taken that cannot be saved.
    damage: bool,
}

/// What the writer does.
enum Work {
    /// Nothing is to be done.
    Idle,
    /// A round will begin behind what is in the mailbox, or when the database is tried again.
    Due,
    /// A round will begin after the pause, or as soon as somebody waits for it.
    Paused,
    /// The committer has a round.
    Round {
        since: Instant,
        /// How many turns it was given.
        turns: usize,
    },
}

/// A topic's log is opened.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Open {
    pub(super) topic: String,
    pub(super) strict: bool,
    pub(super) answer: oneshot::Sender<Result<OpenedRun, SharedError>>,
}

/// Rows are to be deleted; the answer says how many there were.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Remove {
    pub(super) removal: Removal,
    pub(super) answer: oneshot::Sender<Result<usize, SharedError>>,
}

/// A topic's run has ended in order.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Close {
    pub(super) topic: String,
    pub(super) last: MessageId,
}

/// There are rows in the intake.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct RowsCame;

/// A reader has found that the database is damaged.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Damaged(pub(super) String);

#[derive(Message)]
#[rtype(result = "()")]
struct BeginRound;

/// Answered when everything that was asked for before is committed; or, when the database is still
/// away, as soon as all rows are safe in the spool.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Synced;

impl DbWriter {
    /// Commits what an earlier run has left in the spool, and starts the writer on threads of its
    /// own, where it may block. Where the database was not reached yet, it does the former when it is.
    ///
    /// # Errors
    /// When its connection cannot be made, or the spool cannot be opened or emptied.
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
            work: Work::Idle,
            ceiling,
            away: (!prepared).then_some(FIRST_RETRY),
            trouble: None,
            damage: None,
            guard,
            health: Arc::clone(&health),
            asked: Instant::now(),
            probe: false,
            later: None,
            settled: true,
            watching: false,
            spooling: false,
            waiting: Vec::new(),
            resigned: Vec::new(),
        };
        let addr = Self::start_in_arbiter(&Arbiter::new().handle(), |_| writer);
        Ok(DbWriterHandle::new(addr, capacity, health, intake, readers))
    }

    /// Asks for a round behind what is in the mailbox.
    fn wake(&mut self, ctx: &mut Context<Self>) {
        if matches!(self.work, Work::Idle | Work::Paused) {
            self.work = Work::Due;
            ctx.notify(BeginRound);
        }
    }

    fn take_in(&mut self) {
        self.queue.extend(self.intake.take());
    }

    /// Gives the committer what waits, one batch of rows at most.
    fn begin_round(&mut self, ctx: &mut Context<Self>) {
        if matches!(self.work, Work::Round { .. }) {
            return;
        }
        if let Some(later) = self.later.take() {
            ctx.cancel_future(later);
        }
        self.take_in();
        let idle = self.queue.is_empty() && self.turns.is_empty();
        // A database that is away is asked for in any case.
        let asked = !(self.waiting.is_empty() && self.resigned.is_empty());
        let settle = idle && self.away.is_none() && asked && !self.settled;
        let probe = std::mem::take(&mut self.probe);
        if idle && self.away.is_none() && !settle && !probe {
            if !self.intake.sleep() {
                return self.begin_round(ctx);
            }
            self.work = Work::Idle;
            self.rest();
            return;
        }
        // Commits into a file that is gone would only look like ones.
        let left = match self.guard.check().and_then(|()| self.read_left()) {
            Ok(left) => left,
            Err(error) => return self.fail(&error, ctx),
        };
        let turns = self.due_turns();
        let errands = self.turns.range(..turns).map(|turn| turn.errand.clone());
        // What an earlier run has left comes before any row of this one.
        let rows = if self.left() > 0 {
            0
        } else {
            self.queue.len().min(BATCH)
        };
        let rows: Vec<_> = self.queue.range(..rows).cloned().collect();
        // An earlier run of the topic ends before the next one begins.
        let begins = rows.iter().filter_map(begin);
        let settle = idle && self.away.is_none();
        self.settled = settle || (idle && self.settled);
        self.committer.do_send(Round {
            left,
            errands: errands.chain(begins).collect(),
            rows,
            settle,
            probe,
            answer: ctx.address().recipient(),
        });
        self.note_asked();
        self.work = Work::Round {
            since: Instant::now(),
            turns,
        };
        self.watch(ctx);
    }

    /// How many turns are to be done now: a run ends behind its rows.
    fn due_turns(&self) -> usize {
        let has_rows = |topic: &str| self.queue.iter().any(|entry| entry.topic() == topic);
        let waits =
            |turn: &Turn| matches!(&turn.errand, Errand::Close { topic, .. } if has_rows(topic));
        self.turns
            .iter()
            .position(waits)
            .unwrap_or(self.turns.len())
    }

    /// Looks after a while whether the round has ended. One look at a time is on its way.
    fn watch(&mut self, ctx: &mut Context<Self>) {
        let Work::Round { since, .. } = self.work else {
            return;
        };
        if self.away.is_some() || std::mem::replace(&mut self.watching, true) {
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
            match writer.work {
                Work::Round { since, .. } if since.elapsed() >= patience => {
                    tracing::error!(rows = writer.queue.len(), "store.writer.stuck");
                    writer.turn_away(FIRST_RETRY, ctx);
                }
                _ => writer.watch(ctx),
            }
        });
    }

    /// The round is over, whole or not.
    fn end_round(&mut self, done: Done, ctx: &mut Context<Self>) {
        let Work::Round { turns, .. } = std::mem::replace(&mut self.work, Work::Due) else {
            return;
        };
        if let Some(journal) = &mut self.journal {
            journal.remove_left(done.left);
        }
        for (_, outcome) in (0..turns).zip(done.errands) {
            let Some(Turn { answer, .. }) = self.turns.pop_front() else {
                break;
            };
            // A join that has ended meanwhile leaves its topic open: its end counts as unclean.
            match (outcome, answer) {
                (Ok(Outcome::Opened(run)), Some(Answer::Opening(answer))) => {
                    let _ = answer.send(Ok(run));
                }
                (Ok(Outcome::Removed(rows)), Some(Answer::Removal(answer))) => {
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

    /// The database has done what it was asked for.
    fn come_back(&mut self, rows: usize, ctx: &mut Context<Self>) {
        if self.trouble.take().is_some() {
            self.note_health();
        }
        if self.left() > 0 {
            // Logs are not read before everything is there that an earlier run has said.
            self.away = Some(FIRST_RETRY);
        } else if self.away.take().is_some() {
            tracing::info!(rows = self.queue.len(), "store.writer.recovered");
            self.epoch = run::new_epoch();
        }
        self.write_down(ctx);
        if rows < FEW && self.is_at_leisure() && self.intake.pause() {
            self.work = Work::Paused;
            self.later = Some(ctx.notify_later(BeginRound, PAUSE));
        } else {
            ctx.notify(BeginRound);
        }
    }

    /// Whether nothing is known that has to be done at once.
    fn is_at_leisure(&self) -> bool {
        self.queue.is_empty()
            && self.turns.is_empty()
            && self.waiting.is_empty()
            && self.capacity.state() == StorageState::Available
    }

    /// How many rows of an earlier run are still to be committed.
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
        let trouble = Trouble {
            error: error.to_string(),
            fault: error.fault(),
            damage: error.is_damage(),
        };
        let known = self.trouble.replace(trouble);
        if known.is_none_or(|known| known.error != error.to_string()) {
            tracing::error!(%error, rows = self.queue.len(), "store.writer.failing");
        }
        self.note_health();
        let wait = self
            .away
            .map_or(FIRST_RETRY, |wait| (wait * 2).min(LAST_RETRY));
        self.turn_away(wait, ctx);
        self.later = Some(ctx.notify_later(BeginRound, wait));
    }

    /// Nothing is left to do: those who wait for that are told.
    fn rest(&mut self) {
        for waiting in self.waiting.drain(..).chain(self.resigned.drain(..)) {
            // Who has given up waiting needs no answer.
            let _ = waiting.send(());
        }
    }
}

/// That a run begins with this message, if one does.
fn begin(entry: &Arc<LogEntry>) -> Option<Errand> {
    entry.begins().then(|| Errand::Begin {
        topic: entry.topic().to_owned(),
        first: entry.id(),
        strict: entry.is_strict(),
    })
}

impl Actor for DbWriter {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        Self::watch_health(ctx);
        if self.away.is_some() {
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
        if self.away.is_some() {
            return self.open_adrift(answer);
        }
        self.turns.push_back(Turn {
            errand: Errand::Open {
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
        if self.away.is_some() {
            return answer.refuse(Arc::new(StoreError::Away));
        }
        self.turns.push_back(Turn {
            errand: Errand::Remove(removal),
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
            .push_back(Turn::quiet(Errand::Close { topic, last }));
        self.wake(ctx);
    }
}

impl Handler<Damaged> for DbWriter {
    type Result = ();

    fn handle(&mut self, Damaged(error): Damaged, ctx: &mut Self::Context) {
        if self.damage.is_none() {
            tracing::error!(%error, "store.damaged");
            self.damage = Some(DAMAGED.to_owned());
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
        // A database that was away is tried at once.
        if matches!(self.work, Work::Due) {
            ctx.notify(BeginRound);
        }
        self.wake(ctx);
        synced.map(drop).boxed_local()
    }
}
