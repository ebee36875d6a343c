//! The ports of a cluster: [`Bus`] carries messages between nodes, [`Sequencer`] gives stored messages
//! their order, [`Events`] hears what both have to tell.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::log::{Epoch, Era, MessageId, Seq};
use crate::metrics::BusTotals;

/// Names one process of a node. It is random and made at the start, so a node that restarts has a new one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct NodeId(u64);

impl NodeId {
    /// Makes an id from a number, for example from the header of a message.
    pub(crate) const fn new(number: u64) -> Self {
        Self(number)
    }

    /// A new id. Fails if the system has no random numbers.
    pub(crate) fn random() -> Result<Self, getrandom::Error> {
        getrandom::u64().map(Self)
    }

    /// The number.
    pub(crate) const fn get(self) -> u64 {
        self.0
    }
}

/// 16 hex digits.
impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Names the process of the bus's server. If it changes, all runs of topics have ended.
/// Redis: the first 10 digits of `run_id`, and behind a dot the era unless it is the first; NATS: the beginning of
/// `server_id`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct ProcessId(Arc<str>);

impl ProcessId {
    /// Makes an id from the server's name for its process.
    pub(crate) fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The same process in an era: the runs of the eras before have ended, though the server may still have them.
    #[cfg(feature = "redis")]
    pub(crate) fn in_era(&self, era: Era) -> Self {
        if era == Era::default() {
            return self.clone();
        }
        Self(format!("{}.{era}", self.0).into())
    }
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The receivers of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum To<'a> {
    /// Every node, the sender included.
    All,
    /// One node.
    Node(NodeId),
    /// Every node that has attached the topic, the sender included.
    Topic(&'a str),
    /// Programs that are no nodes, and listen on this channel of the server.
    Foreign(&'a str),
}

/// [`To`] with a topic of its own.
#[derive(Clone, Debug)]
pub(crate) enum Receivers {
    /// All nodes.
    All,
    /// One node.
    Node(NodeId),
    /// The nodes that have attached the topic.
    Topic(Arc<str>),
    /// Programs that are no nodes.
    Foreign(Arc<str>),
}

impl From<To<'_>> for Receivers {
    fn from(to: To<'_>) -> Self {
        match to {
            To::All => Self::All,
            To::Node(node) => Self::Node(node),
            To::Topic(topic) => Self::Topic(topic.into()),
            To::Foreign(channel) => Self::Foreign(channel.into()),
        }
    }
}

impl Receivers {
    /// The same with a borrowed topic.
    pub(crate) fn to(&self) -> To<'_> {
        match self {
            Self::All => To::All,
            Self::Node(node) => To::Node(*node),
            Self::Topic(topic) => To::Topic(topic),
            Self::Foreign(channel) => To::Foreign(channel),
        }
    }
}

/// The right to open the run of a topic, for 2 s. See [`Sequencer::lock`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Token(Arc<str>);

impl Token {
    /// Makes a token from its random text.
    pub(crate) fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The random text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// The order of a topic at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Position {
    /// The epoch of the topic's run.
    pub(crate) epoch: Epoch,
    /// The last seq that was given.
    pub(crate) head: Seq,
    /// The process of the server that the run belongs to.
    pub(crate) process: ProcessId,
    /// The messages that are not in the database yet, in ascending order of seq.
    pub(crate) journal: Vec<(Seq, Bytes)>,
}

/// The answer to a publish.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// The message has this id.
    Taken(MessageId),
    /// The client_ref is known. The id is that of the first message with it; this message was not taken.
    First(MessageId),
    /// The topic has no run, and the message was not taken. Open a run, then publish again; the nonce may be
    /// the same.
    NoRun,
    /// The journal of the topic has 100,000 messages, and this message was not taken. The database must
    /// store some first.
    Full,
    /// The server became another process, or lost its data, while the answer was outstanding. Whether the
    /// message was taken is not known and will not be.
    Unconfirmed,
}

/// The bus cannot be asked at the moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the bus is away; see that its server runs and that this node reaches it")]
pub(crate) struct Away;

/// Carries messages between nodes: each at most once, those of one node in the order in which it sent
/// them. If messages may have been lost, [`Events::down`] and then [`Events::up`] are called.
///
/// Every method may be called on any thread and returns at once.
pub(crate) trait Bus: Send + Sync {
    /// The product that carries messages, as sentences name it: `Redis`, `NATS`.
    fn name(&self) -> &'static str;

    /// Receives the topic's messages from now on. [`Events::attached`] is called once the server has
    /// confirmed, and again after each reconnect. For a topic that is attached already it is called at once.
    fn attach(&self, topic: &str);

    /// Receives the topic's messages no longer. A few may still arrive.
    fn detach(&self, topic: &str);

    /// Sends a message. It is dropped and counted while the bus is down, and when too many bytes wait.
    fn send(&self, to: To<'_>, message: Bytes);

    /// Sends a message, and tells when the server has taken it. It fails if the message was dropped or the bus went
    /// down meanwhile, and may have been sent all the same.
    fn tell(&self, to: To<'_>, message: Bytes) -> BoxFuture<'static, Result<(), Away>>;

    /// What gives stored messages their order; `None` if the database does.
    fn sequencer(&self) -> Option<&dyn Sequencer>;

    /// Whether the bus is up: [`Events::up`] was called, and [`Events::down`] not since.
    fn is_up(&self) -> bool;

    /// This node ends: waits until all that was handed over is done, and takes back its sign of life. Nothing may be
    /// handed over any more.
    fn leave(&self) -> BoxFuture<'static, Result<(), Away>>;

    /// What the bus has done since its start.
    fn totals(&self) -> BusTotals;

    /// The era is another one: connects again, so that the runs of the one before are not used. Only for a bus with a
    /// [`Sequencer`].
    fn change_era(&self) {}

    /// Whether a node with this id lives. A node that has died is found dead within 10 s.
    fn is_alive(&self, node: NodeId) -> BoxFuture<'static, Result<bool, Away>>;
}

/// Gives stored messages their order, and keeps them until the database has them (the journal).
///
/// Every method may be called on any thread and returns at once. A future fails with [`Away`] if the bus is
/// down, goes down, or does not answer in 2 s. It may have taken effect all the same.
pub(crate) trait Sequencer: Send + Sync {
    /// Gives the message a seq, keeps it in the journal and sends it to the topic's nodes.
    ///
    /// Answered by [`Events::answered`], once, with the nonce of the message's header; the header must name
    /// this node as the author. While the bus is away, the message waits. With a lost connection, the adapter
    /// finds out whether the message was taken, and sends it again if it was not.
    ///
    /// `client_ref`: a second message with this ref is not taken within 600 s.
    ///
    /// `journal: false`: for an erasure. It has a seq and is sent, but is not in the journal. An erasure may
    /// therefore have two seqs after a lost connection, so it must do no harm the second time.
    fn publish(&self, topic: &str, message: Bytes, client_ref: Option<&str>, journal: bool);

    /// The caller no longer waits for the answer. `true`: the message was not sent, will not be, and has no
    /// answer. `false`: it may have been sent, so the answer comes; or it has come.
    fn forget(&self, nonce: u64) -> bool;

    /// The order of the topic now. `None`: the topic has no run in this process of the server.
    fn read(&self, topic: &str) -> BoxFuture<'static, Result<Option<Position>, Away>>;

    /// Takes the right to open the topic's run, for 2 s. `None`: another node has it, so read again in 20 ms.
    fn lock(&self, topic: &str) -> BoxFuture<'static, Result<Option<Token>, Away>>;

    /// Begins the run: the next message has the seq after `head`. `false`: the token has run out, or
    /// the topic has a run.
    fn begin(
        &self,
        topic: &str,
        token: Token,
        epoch: Epoch,
        head: Seq,
    ) -> BoxFuture<'static, Result<bool, Away>>;

    /// Removes messages from the journal, because the database has them. Call after the commit. Kept over
    /// reconnects to the same process of the server.
    fn stored(&self, topic: &str, seqs: &[Seq]);

    /// The seqs of the messages that are in the topic's journal, ascending.
    fn journaled(&self, topic: &str) -> BoxFuture<'static, Result<Vec<Seq>, Away>>;

    /// The topics that have a journal, to find the messages of a dead node.
    fn journals(&self) -> BoxFuture<'static, Result<Vec<String>, Away>>;

    /// Claims a name for some seconds, so that one node of several does a task. `false`: it is claimed.
    fn claim(&self, name: &str, seconds: u32) -> BoxFuture<'static, Result<bool, Away>>;
}

/// A node that is about to come to the bus, in this era. Keep it until the bus is up, or the attempt has failed.
pub(crate) struct Entrance {
    pub(crate) era: Era,
    /// Ends with the attempt.
    _guard: Option<Box<dyn std::any::Any + Send>>,
}

impl Entrance {
    /// `guard` is dropped with the entrance.
    pub(crate) fn new(era: Era, guard: Option<Box<dyn std::any::Any + Send>>) -> Self {
        Self { era, _guard: guard }
    }
}

/// Hears from a [`Bus`] and its [`Sequencer`].
///
/// Called on the bus's thread, inside its tokio runtime, with no lock of the bus held: every method of the
/// bus may be called from here. Return soon, because everything else of the bus waits.
pub(crate) trait Events: Send + Sync {
    /// The server has confirmed: messages sent to the topic from now on arrive.
    fn attached(&self, topic: &str);

    /// A message of an attached topic. `place` is its id if it was published, `None` if it was sent.
    /// The bytes come from the network: they may be anything.
    fn arrived(&self, topic: &str, place: Option<MessageId>, message: Bytes);

    /// A message to this node or to all. The bytes come from the network: they may be anything.
    fn told(&self, message: Bytes);

    /// A message on the channel of programs that are no nodes, from one of them or from a node. The bytes come from the
    /// network: they may be anything.
    fn foreign(&self, _message: Bytes) {}

    /// The answer to the publish with this nonce.
    fn answered(&self, nonce: u64, answer: Answer);

    /// A server that gives an order is reached: asks in which era, before anything of it is used.
    fn enter(&self) -> BoxFuture<'static, Entrance> {
        let entrance = Entrance::new(self.era(), None);
        Box::pin(std::future::ready(entrance))
    }

    /// The era that this node knows. If it is not that of the connection, [`Bus::change_era`] was or will be called.
    fn era(&self) -> Era {
        Era::default()
    }

    /// The server knows this era, which may be later than the node's.
    fn learn_era(&self, _era: Era) {}

    /// The bus is up. [`Self::attached`] follows for each attached topic.
    fn up(&self, process: &ProcessId);

    /// The bus is down. Messages from other nodes may be lost.
    fn down(&self);
}
