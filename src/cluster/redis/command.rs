//! [`Command`]: what the methods of the bus hand to its task.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::cluster::bus::{NodeId, Position, Receivers, Token};
use crate::cluster::counters::Waiting;
use crate::log::{Epoch, Seq};

/// A call of the bus, to be carried out by its task.
#[derive(Debug)]
pub(super) enum Command {
    /// Subscribe the topic.
    Attach(Arc<str>),
    /// Unsubscribe the topic.
    Detach(Arc<str>),
    /// Send a message that needs no order.
    Send {
        /// The receivers.
        to: Receivers,
        /// The message.
        message: Bytes,
        /// Its share of the bytes that wait.
        waiting: Waiting,
        /// Hears that the server has taken it.
        taken: Option<oneshot::Sender<()>>,
    },
    /// Write the publish with this nonce.
    Publish(u64),
    /// Remove rows from a journal.
    Stored(Arc<str>, Vec<Seq>),
    /// Ask the server.
    Ask(Question),
    /// Connect again, if the era of the connection is over.
    ChangeEra,
}

/// A question to the server. It is dropped without an answer if the bus is down.
#[derive(Debug)]
pub(super) enum Question {
    /// Whether the node lives.
    IsAlive(NodeId, oneshot::Sender<bool>),
    /// Where the topic is.
    Read(Arc<str>, oneshot::Sender<Option<Position>>),
    /// Whether the lock of the topic is free for this token.
    Lock(Arc<str>, Token, oneshot::Sender<Option<Token>>),
    /// Whether the run could begin.
    Begin {
        /// The topic.
        topic: Arc<str>,
        /// The right to open it.
        token: Token,
        /// The epoch of the run.
        epoch: Epoch,
        /// The seq before its first message.
        head: Seq,
        /// For the answer.
        answer: oneshot::Sender<bool>,
    },
    /// Which seqs the journal of the topic has.
    Journaled(Arc<str>, oneshot::Sender<Vec<Seq>>),
    /// Which topics have a journal.
    Journals(oneshot::Sender<Vec<String>>),
    /// Whether the name is free for some seconds.
    Claim(Box<str>, u32, oneshot::Sender<bool>),
    /// Whether this node's sign of life is taken back, after all else is done.
    Leave(oneshot::Sender<()>),
}

impl Question {
    /// How long its answer may take, if that of one command takes at most `answer`.
    pub(super) fn limit(&self, answer: Duration) -> Duration {
        match self {
            // It looks at all keys, in many steps.
            Self::Journals(_) => 30 * answer,
            _ => answer,
        }
    }
}
