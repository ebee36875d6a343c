//! [`NatsBus`]: a bus over one NATS server. It gives no order, so the database does.
//!
//! The task [`supervise`](supervise::supervise) owns one connection, on which this node subscribes and publishes. Each
//! `PING` is answered after all that was written before it, so its `PONG` confirms messages and subscriptions.
//!
//! The protocol is spoken here (`protocol`) and not by the crate async-nats. That needs 4.9 KB for each subscription,
//! which is 490 MB for 100,000 topics; it drops messages of a subscription that nobody reads in time; it connects again
//! by itself; and it does not tell when the server has taken something.

mod connection;
mod error;
mod examine;
mod link;
mod lives;
mod options;
mod protocol;
mod subjects;
mod supervise;
#[cfg(test)]
pub(super) mod tests;
mod tls;
mod unconfirmed;
mod url;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

pub(crate) use self::examine::examine;
use self::lives::Lives;
pub(crate) use self::options::NatsOptions;
#[cfg(test)]
use self::options::Timing;
use crate::cluster::bus::{Away, Bus, Events, NodeId, ProcessId, Receivers, Sequencer, To};
use crate::cluster::counters::{BusCounters, Waiting, add};
use crate::cluster::topics::Topics;
use crate::lock::lock;
use crate::metrics::BusTotals;
use crate::notice::Notice;

/// The product, as sentences name it.
const NAME: &str = "NATS";

/// What the methods of the bus and its task share. No lock is held while an event is told.
struct Shared {
    me: NodeId,
    options: NatsOptions,
    events: Arc<dyn Events>,
    counters: Arc<BusCounters>,
    is_up: AtomicBool,
    topics: Mutex<Topics>,
    lives: Mutex<Lives>,
    /// Messages that are longer than the server takes.
    too_long: Notice,
}

impl Shared {
    /// The bus is up.
    fn set_up(&self, process: &ProcessId) {
        add(&self.counters.connects, 1);
        lock(&self.lives).up(Instant::now());
        self.is_up.store(true, Ordering::Release);
        self.events.up(process);
    }

    /// The bus is down.
    fn set_down(&self) {
        add(&self.counters.disconnects, 1);
        self.is_up.store(false, Ordering::Release);
        self.events.down();
    }
}

/// A call of the bus, to be carried out by its task.
enum Command {
    /// Subscribe the topic.
    Attach(Arc<str>),
    /// Unsubscribe the topic.
    Detach(Arc<str>),
    /// Send a message.
    Send {
        to: Receivers,
        message: Bytes,
        /// Its share of the bytes that wait.
        waiting: Waiting,
        /// Hears that the server has taken it.
        taken: Option<oneshot::Sender<()>>,
    },
    /// Take back the sign of life, after all else is done. It gets no answer if the bus is down.
    Leave(oneshot::Sender<()>),
}

/// A bus over one NATS server. It ends soon after it is dropped.
pub(crate) struct NatsBus {
    shared: Arc<Shared>,
    commands: mpsc::UnboundedSender<Command>,
}

impl NatsBus {
    /// Starts a bus for the node `me`. It connects by itself; [`Events::up`] tells when. `runtime` must be a
    /// runtime of one thread. A panic of the bus or of `events` ends the process.
    pub(crate) fn start(
        options: NatsOptions,
        me: NodeId,
        events: Arc<dyn Events>,
        runtime: &Handle,
    ) -> Arc<Self> {
        let (sender, commands) = mpsc::unbounded_channel();
        let lives = Lives::new(me, options.timing.liveness, Instant::now());
        let shared = Arc::new(Shared {
            me,
            options,
            events,
            counters: Arc::default(),
            is_up: AtomicBool::new(false),
            topics: Mutex::default(),
            lives: Mutex::new(lives),
            too_long: Notice::default(),
        });
        runtime.spawn(supervise::supervise(Arc::clone(&shared), commands));
        Arc::new(Self {
            shared,
            commands: sender,
        })
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
}

impl std::fmt::Debug for NatsBus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NatsBus")
            .field("me", &self.shared.me)
            .field("is_up", &self.is_up())
            .finish_non_exhaustive()
    }
}

impl Bus for NatsBus {
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
        None
    }

    fn is_up(&self) -> bool {
        self.shared.is_up.load(Ordering::Acquire)
    }

    fn leave(&self) -> BoxFuture<'static, Result<(), Away>> {
        if !self.is_up() {
            return ready(Err(Away)).boxed();
        }
        let (left, has_left) = oneshot::channel();
        self.command(Command::Leave(left));
        has_left.map(|left| left.map_err(|_| Away)).boxed()
    }

    fn totals(&self) -> BusTotals {
        self.shared.counters.totals()
    }

    fn is_alive(&self, node: NodeId) -> BoxFuture<'static, Result<bool, Away>> {
        let is_alive = if self.is_up() {
            Ok(lock(&self.shared.lives).is_alive(node, Instant::now()))
        } else {
            Err(Away)
        };
        ready(is_alive).boxed()
    }
}
