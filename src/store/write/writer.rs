//! [`DbWriter`]: the actor that owns every row that is published and not committed.
//!
//! It commits in batches: rows that are published during a transaction make the next one. If the writer is idle or a
//! caller waits for a row, the row is committed at once. After a transaction of few rows there is a [`PAUSE`],
//! because a transaction costs more than its rows and takes the processor from the fan-out. The [`Committer`] waits
//! for the database on a thread of its own. The writer's thread waits for nothing but the spool's disk.
//!
//! **The database counts as unreachable** if a round has failed or takes too long ([`WriterState`]). The wait before
//! each retry grows. Until the spool is empty again, rows go into it as well. While the database is unreachable,
//! topics are opened without it. A strict writer refuses rows and openings instead.

mod away;
mod requests;
mod watch;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, Addr, Arbiter, AsyncContext, Context, Handler, Message, SpawnHandle};

#[cfg(feature = "_cluster")]
pub(in crate::store) use self::requests::Begun;
pub(in crate::store) use self::requests::{
    Change, ChangeCursor, Close, Damaged, Open, RowsCame, Sequence, Synced,
};
use crate::log::{Epoch, LogEntry};
use crate::metrics::metrics;
use crate::store::backend::{Fault, Guard, Role, StoreError};
use crate::store::opened::Store;
use crate::store::options::WriterOptions;
use crate::store::spool::Record;
use crate::store::tables::columns::Columns;
use crate::store::tables::run;
use crate::store::write::batch::MAX_BATCH;
use crate::store::write::capacity::{Capacity, StorageState};
use crate::store::write::ceiling::Ceiling;
use crate::store::write::commits::Commits;
use crate::store::write::committer::{Committer, Done, Round};
use crate::store::write::drafts::{DraftIntake, Drafts};
use crate::store::write::flush::FlushCallers;
use crate::store::write::handle::DbWriterHandle;
use crate::store::write::health::Health;
use crate::store::write::intake::Intake;
use crate::store::write::journal::Journal;
use crate::store::write::state::{Failed, WriterState};
use crate::store::write::turn::{TopicWork, Turns};

/// The pause after a transaction of few rows. Rows that no caller waits for gather in it.
const PAUSE: Duration = Duration::from_millis(5);

/// The actor that saves messages. [`DbWriter::start_on_own_thread`] starts it, and it ends with the last
/// [`DbWriterHandle`].
pub struct DbWriter {
    state: WriterState,
    committer: Addr<Committer>,
    /// The publishers' view of the state.
    capacity: Arc<Capacity>,
    /// The view of the readiness check.
    health: Arc<Health>,
    /// Published rows that are not in the queue yet.
    intake: Arc<Intake<Arc<LogEntry>>>,
    journal: Option<Journal>,
    /// Rows in the order of their publication.
    queue: VecDeque<Arc<LogEntry>>,
    /// Messages whose place the database gives.
    drafts: Drafts,
    /// Work on topics.
    turns: Turns,
    flushes: FlushCallers,
    /// The epoch of runs that begin now. A new one is needed each time the database was unreachable: somebody may
    /// have restored it from a copy.
    epoch: Epoch,
    /// No topic has a seq beyond it.
    ceiling: Ceiling,
    guard: Guard,
    /// The next round, if it is scheduled for later.
    later: Option<SpawnHandle>,
    /// Whether a check of the round's time, and of the spool, is scheduled.
    watching: bool,
    spooling: bool,
}

named_debug!(DbWriter);

#[derive(Message)]
#[rtype(result = "()")]
struct BeginRound;

impl DbWriter {
    /// Commits the rows of an earlier process in the spool, and starts the writer on threads of its own, where it may
    /// block. If the database is not reachable yet, these rows are committed once it is.
    ///
    /// # Errors
    /// If the database cannot be used, or the spool cannot be opened or emptied.
    ///
    /// # Panics
    /// Outside an actix `System`, such as in `web::block`. Call it at the start of `main`, under `#[actix_web::main]`.
    pub fn start_on_own_thread(
        store: Store,
        options: WriterOptions,
    ) -> Result<DbWriterHandle, StoreError> {
        let role = Role::Writer {
            strict: options.strict,
        };
        let capacity = Arc::new(Capacity::new(&options));
        let intake = Arc::new(Intake::default());
        let draft_intake = Arc::<DraftIntake>::default();
        let readers = store.readers.clone();
        let pool = store.backend.pool(role)?;
        let columns = Columns::new(options.columns);
        let prepared = store.prepared;
        let guard = store.backend.guard()?;
        let commits = Arc::new(Commits::default());
        let signals = (Arc::clone(&capacity), Arc::clone(&commits));
        let mut committer = Committer::new(store, pool, columns, signals)?;
        if !prepared {
            capacity.set_state(StorageState::Waiting, true);
        }
        let mut journal = options.spool.as_ref().map(Journal::open).transpose()?;
        if let Some(journal) = &mut journal {
            capacity.add_earlier(journal.earlier());
            if prepared {
                committer.replay(journal)?;
                capacity.set_safe(journal.safe(), journal.bytes());
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
            state: WriterState::new(prepared, options.strict, Instant::now()),
            committer,
            capacity: Arc::clone(&capacity),
            health: Arc::clone(&health),
            intake: Arc::clone(&intake),
            journal: journal.filter(|journal| !options.strict || journal.earlier() > 0),
            queue: VecDeque::new(),
            drafts: Drafts::new(&draft_intake, &capacity),
            turns: Turns::default(),
            flushes: FlushCallers::default(),
            epoch: run::new_epoch(),
            ceiling,
            guard,
            later: None,
            watching: false,
            spooling: false,
        };
        let addr = Self::start_in_arbiter(&Arbiter::new().handle(), |_| writer);
        let intakes = (intake, draft_intake);
        Ok(DbWriterHandle::new(
            addr, capacity, health, commits, intakes, readers,
        ))
    }

    /// Schedules a round after the messages in the mailbox.
    fn wake(&mut self, ctx: &mut Context<Self>) {
        if self.state.wake() {
            ctx.notify(BeginRound);
        }
    }

    /// As [`wake`](Self::wake); an unreachable database is retried at once.
    fn hurry(&mut self, ctx: &mut Context<Self>) {
        if self.state.hurry() {
            ctx.notify(BeginRound);
        }
    }

    fn take_in(&mut self) {
        self.queue.extend(self.intake.take());
        self.drafts.take_in();
    }

    /// Gives the committer the next round, with one batch of rows at most.
    fn begin_round(&mut self, ctx: &mut Context<Self>) {
        if self.state.is_in_flight() {
            return;
        }
        if let Some(later) = self.later.take() {
            ctx.cancel_future(later);
        }
        self.take_in();
        if self.state.is_away() {
            self.drafts.refuse_old();
        }
        let idle = self.queue.is_empty() && self.turns.is_empty() && self.drafts.is_empty();
        let Some(plan) = self.state.plan(idle, !self.flushes.is_empty()) else {
            if !self.intake.sleep() {
                return self.begin_round(ctx);
            }
            self.state.rest();
            return self.flushes.answer_all();
        };
        // SQLite would go on committing into a file that was deleted.
        let earlier = match self.guard.check().and_then(|()| self.read_earlier()) {
            Ok(rows) => rows,
            Err(error) => return self.fail(&error, ctx),
        };
        let mut work = self.turns.due(&self.queue);
        let turns = work.len();
        // First the rows of an earlier process.
        let rows = if self.earlier() > 0 {
            0
        } else {
            self.queue.len().min(MAX_BATCH)
        };
        let rows: Vec<_> = self.queue.range(..rows).cloned().collect();
        // An earlier run of a topic ends before its next one begins.
        work.extend(rows.iter().filter_map(begin));
        self.committer.do_send(Round {
            earlier,
            work,
            rows,
            drafts: self.drafts.batch(),
            tidy: plan.tidy,
            probe: plan.probe,
            answer: ctx.address().recipient(),
        });
        self.state.begin(plan, turns, Instant::now());
        self.watch(ctx);
    }

    /// The committer has done a round, or a part of it.
    fn end_round(&mut self, done: Done, ctx: &mut Context<Self>) {
        let Some(turns) = self.state.end() else {
            return;
        };
        if let Some(journal) = &mut self.journal {
            journal.remove_earlier(done.earlier);
        }
        self.turns.settle(turns, done.work);
        self.queue.drain(..done.rows);
        self.drafts.remove(done.drafts);
        if let Some(journal) = &mut self.journal {
            journal.remove(done.rows);
        }
        match done.error {
            None => self.come_back(done.rows + done.drafts, ctx),
            Some(error) => self.fail(&error, ctx),
        }
    }

    /// The database has done the whole round.
    fn come_back(&mut self, rows: usize, ctx: &mut Context<Self>) {
        if self.state.succeed(self.earlier()) {
            let waiting = self.queue.len();
            tracing::info!(saved = rows, waiting, "store.writer.recovered");
            self.epoch = run::new_epoch();
        }
        self.note_health();
        self.write_down(ctx);
        if self.state.may_pause(rows) && self.has_nothing_to_do() && self.intake.pause() {
            self.state.pause();
            self.later = Some(ctx.notify_later(BeginRound, PAUSE));
        } else {
            ctx.notify(BeginRound);
        }
    }

    /// Whether nothing must be done at once.
    fn has_nothing_to_do(&self) -> bool {
        self.queue.is_empty()
            && self.turns.is_empty()
            && self.drafts.is_empty()
            && !self.flushes.need_commit()
            && self.capacity.state() == StorageState::Available
    }

    /// The number of rows of an earlier process that are not committed.
    fn earlier(&self) -> usize {
        self.journal.as_ref().map_or(0, Journal::earlier)
    }

    /// The oldest rows of an earlier process, as many as one round commits.
    fn read_earlier(&mut self) -> Result<Vec<Record>, Fault> {
        let earlier = self
            .journal
            .as_mut()
            .filter(|journal| journal.earlier() > 0);
        earlier
            .map_or_else(|| Ok(Vec::new()), Journal::read_earlier)
            .map_err(Fault::Spool)
    }

    fn fail(&mut self, error: &Fault, ctx: &mut Context<Self>) {
        metrics().writer_retries.increment(1);
        let Failed { retry, is_news } = self.state.fail(error);
        if is_news {
            tracing::error!(
                %error, rows = self.queue.len(),
                "store.writer.failing: messages wait in the spool; mend the database, and they \
                 are saved by themselves"
            );
        }
        self.note_health();
        self.turn_away(ctx);
        self.later = Some(ctx.notify_later(BeginRound, retry));
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
        if self.state.is_away() {
            self.write_down(ctx);
            self.hurry(ctx);
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
