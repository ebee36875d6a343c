//! Work on topics beside their rows: runs begin, go on and end, and rows are deleted.

use tokio::sync::oneshot;

use crate::log::{Epoch, MessageId, OpenedRun};
use crate::store::StoreError;
use crate::store::backend::Connection;
use crate::store::tables::remove::{self, Removal};
use crate::store::tables::run;

/// One piece of work, and its caller.
pub(in crate::store) struct Turn {
    pub(in crate::store) work: TopicWork,
    /// `None` once answered.
    pub(in crate::store) answer: Option<Answer>,
}

/// The way back to the caller.
pub(in crate::store) enum Answer {
    Opening(oneshot::Sender<Result<OpenedRun, SharedError>>),
    Removal(oneshot::Sender<Result<usize, SharedError>>),
}

impl Answer {
    /// Answers that the work has failed. A caller that has gone needs no answer.
    pub(in crate::store) fn refuse(self, error: SharedError) {
        match self {
            Self::Opening(answer) => drop(answer.send(Err(error))),
            Self::Removal(answer) => drop(answer.send(Err(error))),
        }
    }
}

/// Shared, because one failure can have several callers.
pub(in crate::store) type SharedError = std::sync::Arc<StoreError>;

/// Work on one topic.
#[derive(Clone, Debug)]
pub(in crate::store) enum TopicWork {
    /// Opens the log. Its next run has this epoch.
    Open {
        topic: String,
        strict: bool,
        next_epoch: Epoch,
    },
    /// A run begins with this message.
    Begin {
        topic: String,
        first: MessageId,
        strict: bool,
    },
    /// A run has ended in order with this id.
    Close { topic: String, last: MessageId },
    /// Deletes rows.
    Remove(Removal),
}

/// The result of a piece of work.
pub(in crate::store) enum WorkDone {
    /// The run that was found or begun.
    Opened(OpenedRun),
    /// How many rows were deleted.
    Removed(usize),
    /// It is stored.
    Noted,
}

impl Turn {
    /// Work without a caller.
    pub(in crate::store) fn quiet(work: TopicWork) -> Self {
        Self { work, answer: None }
    }
}

impl TopicWork {
    pub(in crate::store) fn topic(&self) -> &str {
        match self {
            Self::Open { topic, .. } | Self::Begin { topic, .. } | Self::Close { topic, .. } => {
                topic
            }
            Self::Remove(removal) => &removal.topic,
        }
    }

    /// Does the work, inside a transaction.
    pub(in crate::store) fn run(
        &self,
        connection: &mut Connection<'_>,
    ) -> diesel::QueryResult<WorkDone> {
        Ok(match self {
            Self::Open {
                topic,
                strict,
                next_epoch,
            } => WorkDone::Opened(run::open(connection, topic, *strict, *next_epoch)?),
            Self::Begin {
                topic,
                first,
                strict,
            } => {
                run::begin(connection, topic, *first, *strict)?;
                WorkDone::Noted
            }
            Self::Close { topic, last } => {
                run::close(connection, topic, *last)?;
                WorkDone::Noted
            }
            Self::Remove(removal) => WorkDone::Removed(remove::remove(connection, removal)?),
        })
    }
}
