//! [`RedisBus`]: a bus and a sequencer over one Redis server.
//!
//! The task [`supervise`](supervise::supervise) owns two connections. The methods of the bus hand it commands;
//! what arrives is handed to [`Events`] by the connection itself. Only this folder uses the crate `redis`.

mod arrivals;
mod command;
mod connection;
mod doubt;
mod echo;
mod error;
mod examine;
mod keys;
mod link;
mod options;
mod publishing;
mod questions;
mod renewals;
mod reply;
mod scripts;
mod stored;
mod supervise;
#[cfg(test)]
pub(super) mod tests;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use self::command::{Command, Question};
pub(crate) use self::examine::examine;
pub(crate) use self::options::RedisOptions;
#[cfg(test)]
use self::options::Timing;
use self::publishing::{Ended, Publish, Publishes};
use crate::cluster::bus::{
    Answer, Away, Bus, Events, NodeId, Position, ProcessId, Sequencer, To, Token,
};
use crate::cluster::counters::{BusCounters, Waiting, add};
use crate::cluster::topics::Topics;
use crate::cluster::wire;
use crate::lock::lock;
use crate::log::{Epoch, Seq};
use crate::metrics::BusTotals;
use crate::notice::Notice;

/// The product, as sentences name it.
const NAME: &str = "Redis";

/// What the methods of the bus and its task share. No lock is held while an event is told, and at most
/// `topics` and then `publishes` at once.
struct Shared {
    me: NodeId,
    options: RedisOptions,
    events: Arc<dyn Events>,
    counters: Arc<BusCounters>,
    is_up: AtomicBool,
    topics: Mutex<Topics>,
    publishes: Mutex<Publishes>,
    /// The server has no memory left.
    full: Notice,
}

impl Shared {
    /// The bus is up.
    fn set_up(&self, process: &ProcessId) {
        add(&self.counters.connects, 1);
        self.is_up.store(true, Ordering::Release);
        self.events.up(process);
    }

    /// The bus is down.
    fn set_down(&self) {
        add(&self.counters.disconnects, 1);
        self.is_up.store(false, Ordering::Release);
        self.events.down();
    }

    /// Answers a publish, unless it has its answer.
    fn answer(&self, nonce: u64, answer: Answer) -> Option<Ended> {
        let ended = lock(&self.publishes).end(nonce)?;
        if matches!(answer, Answer::Taken(_)) {
            add(&self.counters.published, 1);
        }
        self.events.answered(nonce, answer);
        Some(ended)
    }
}

/// A bus and a sequencer over one Redis server. It ends soon after it is dropped.
pub(crate) struct RedisBus {
    shared: Arc<Shared>,
    commands: mpsc::UnboundedSender<Command>,
    /// How many tokens were made.
    tokens: AtomicU64,
}

impl RedisBus {
    /// Starts a bus for the node `me`. It connects by itself; [`Events::up`] tells when. `runtime` must be a
    /// runtime of one thread. A panic of the bus or of `events` ends the process.
    pub(crate) fn start(
        options: RedisOptions,
        me: NodeId,
        events: Arc<dyn Events>,
        runtime: &Handle,
    ) -> Arc<Self> {
        let (sender, commands) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            me,
            options,
            events,
            counters: Arc::default(),
            is_up: AtomicBool::new(false),
            topics: Mutex::default(),
            publishes: Mutex::default(),
            full: Notice::default(),
        });
        runtime.spawn(supervise::supervise(Arc::clone(&shared), commands));
        Arc::new(Self {
            shared,
            commands: sender,
            tokens: AtomicU64::new(0),
        })
    }

    /// What the bus has done.
    #[cfg(test)]
    fn counters(&self) -> &Arc<BusCounters> {
        &self.shared.counters
    }

    /// Hands a command to the task.
    fn command(&self, command: Command) {
        // Without the task the process ends; until then nothing is up.
        _ = self.commands.send(command);
    }

    /// Sends a message, or drops it and counts it.
    fn send_or_drop(&self, to: To<'_>, message: Bytes, taken: Option<oneshot::Sender<()>>) {
        let counters = &self.shared.counters;
        let most = self.shared.options.most_waiting;
        let waiting = if self.is_up() {
            Waiting::within(counters, message.len(), most)
        } else {
            None
        };
        match waiting {
            Some(waiting) => self.command(Command::Send {
                to: to.into(),
                message,
                waiting,
                taken,
            }),
            None => add(&counters.dropped, 1),
        }
    }

    /// Puts a question to the server.
    fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(oneshot::Sender<T>) -> Question,
    ) -> BoxFuture<'static, Result<T, Away>> {
        if !self.is_up() {
            return ready(Err(Away)).boxed();
        }
        let (answer, answered) = oneshot::channel();
        self.command(Command::Ask(question(answer)));
        answered.map(|answer| answer.map_err(|_| Away)).boxed()
    }
}

impl std::fmt::Debug for RedisBus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisBus")
            .field("me", &self.shared.me)
            .field("is_up", &self.is_up())
            .finish_non_exhaustive()
    }
}

impl Bus for RedisBus {
    fn name(&self) -> &'static str {
        NAME
    }

    fn attach(&self, topic: &str) {
        self.command(Command::Attach(topic.into()));
    }

    fn detach(&self, topic: &str) {
        self.command(Command::Detach(topic.into()));
    }

    fn send(&self, to: To<'_>, message: Bytes) {
        self.send_or_drop(to, message, None);
    }

    fn tell(&self, to: To<'_>, message: Bytes) -> BoxFuture<'static, Result<(), Away>> {
        let (taken, told) = oneshot::channel();
        self.send_or_drop(to, message, Some(taken));
        told.map(|told| told.map_err(|_| Away)).boxed()
    }

    fn sequencer(&self) -> Option<&dyn Sequencer> {
        Some(self)
    }

    fn is_up(&self) -> bool {
        self.shared.is_up.load(Ordering::Acquire)
    }

    fn leave(&self) -> BoxFuture<'static, Result<(), Away>> {
        self.ask(Question::Leave)
    }

    fn change_era(&self) {
        self.command(Command::ChangeEra);
    }

    fn totals(&self) -> BusTotals {
        self.shared.counters.totals()
    }

    fn is_alive(&self, node: NodeId) -> BoxFuture<'static, Result<bool, Away>> {
        self.ask(|answer| Question::IsAlive(node, answer))
    }
}

impl Sequencer for RedisBus {
    fn publish(&self, topic: &str, message: Bytes, client_ref: Option<&str>, journal: bool) {
        let Some(header) = wire::header(&message) else {
            tracing::error!(
                topic,
                "cluster.publish.malformed: a message without a header was dropped; report it as a bug"
            );
            return;
        };
        let waiting = Waiting::new(&self.shared.counters, message.len());
        let publish = Publish {
            topic: topic.into(),
            message,
            client_ref: client_ref.map(Into::into),
            journal,
        };
        lock(&self.shared.publishes).add(header.nonce, publish, waiting);
        self.command(Command::Publish(header.nonce));
    }

    fn forget(&self, nonce: u64) -> bool {
        lock(&self.shared.publishes).forget(nonce)
    }

    fn read(&self, topic: &str) -> BoxFuture<'static, Result<Option<Position>, Away>> {
        let topic = topic.into();
        self.ask(|answer| Question::Read(topic, answer))
    }

    fn lock(&self, topic: &str) -> BoxFuture<'static, Result<Option<Token>, Away>> {
        // No other node and no other call has the same.
        let number = self.tokens.fetch_add(1, Ordering::Relaxed);
        let token = Token::new(&format!("{}-{number}", self.shared.me));
        let topic = topic.into();
        self.ask(|answer| Question::Lock(topic, token, answer))
    }

    fn begin(
        &self,
        topic: &str,
        token: Token,
        epoch: Epoch,
        head: Seq,
    ) -> BoxFuture<'static, Result<bool, Away>> {
        let topic = topic.into();
        self.ask(|answer| Question::Begin {
            topic,
            token,
            epoch,
            head,
            answer,
        })
    }

    fn stored(&self, topic: &str, seqs: &[Seq]) {
        if !seqs.is_empty() {
            self.command(Command::Stored(topic.into(), seqs.to_vec()));
        }
    }

    fn journaled(&self, topic: &str) -> BoxFuture<'static, Result<Vec<Seq>, Away>> {
        let topic = topic.into();
        self.ask(|answer| Question::Journaled(topic, answer))
    }

    fn journals(&self) -> BoxFuture<'static, Result<Vec<String>, Away>> {
        self.ask(Question::Journals)
    }

    fn claim(&self, name: &str, seconds: u32) -> BoxFuture<'static, Result<bool, Away>> {
        let name = name.into();
        self.ask(|answer| Question::Claim(name, seconds, answer))
    }
}
