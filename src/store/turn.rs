//! What the writer does for topics, beside their rows: runs begin, go on and end, and rows are deleted.

use tokio::sync::oneshot;

use super::StoreError;
use super::backend::Connection;
use super::remove::{self, Removal};
use super::run;
use crate::pubsub::{MessageId, OpenedRun};

/// One errand, and who waits for it.
pub(super) struct Turn {
    pub(super) errand: Errand,
    /// Gone once it was told.
    pub(super) answer: Option<Answer>,
}

/// The way back to who has asked.
pub(super) enum Answer {
    Opening(oneshot::Sender<Result<OpenedRun, SharedError>>),
    Removal(oneshot::Sender<Result<usize, SharedError>>),
}

impl Answer {
    /// Says that it was in vain. Who has gone needs no answer.
    pub(super) fn refuse(self, error: SharedError) {
        match self {
            Self::Opening(answer) => drop(answer.send(Err(error))),
            Self::Removal(answer) => drop(answer.send(Err(error))),
        }
    }
}

/// Many may wait for what has failed once.
pub(super) type SharedError = std::sync::Arc<StoreError>;

/// What is to be done to a topic.
#[derive(Clone, Debug)]
pub(super) enum Errand {
    /// A log is opened. Its next run has this epoch.
    Open {
        topic: String,
        strict: bool,
        next_epoch: i64,
    },
    /// A run begins with this message.
    Begin {
        topic: String,
        first: MessageId,
        strict: bool,
    },
    /// A run has ended in order with this id.
    Close { topic: String, last: MessageId },
    /// Rows of a topic go.
    Remove(Removal),
}

/// What an errand has come to.
pub(super) enum Outcome {
    /// The run that was found or begun.
    Opened(OpenedRun),
    /// How many rows have gone.
    Removed(usize),
    /// It is noted.
    Noted,
}

impl Turn {
    /// An errand that nobody waits for.
    pub(super) fn quiet(errand: Errand) -> Self {
        Self {
            errand,
            answer: None,
        }
    }
}

impl Errand {
    pub(super) fn topic(&self) -> &str {
        match self {
            Self::Open { topic, .. } | Self::Begin { topic, .. } | Self::Close { topic, .. } => {
                topic
            }
            Self::Remove(removal) => &removal.topic,
        }
    }

    /// Does it, inside a transaction.
    pub(super) fn run(&self, connection: &mut Connection<'_>) -> diesel::QueryResult<Outcome> {
        Ok(match self {
            Self::Open {
                topic,
                strict,
                next_epoch,
            } => Outcome::Opened(run::open(connection, topic, *strict, *next_epoch)?),
            Self::Begin {
                topic,
                first,
                strict,
            } => {
                run::begin(connection, topic, *first, *strict)?;
                Outcome::Noted
            }
            Self::Close { topic, last } => {
                run::close(connection, topic, *last)?;
                Outcome::Noted
            }
            Self::Remove(removal) => Outcome::Removed(remove::remove(connection, removal)?),
        })
    }
}
