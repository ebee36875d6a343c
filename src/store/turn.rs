//! What the writer asks of the table `topics`: that runs begin, go on and end.

use tokio::sync::oneshot;

use super::StoreError;
use super::backend::Connection;
use super::run::{self, Run};

/// One errand, and who waits for it.
pub(super) struct Turn {
    pub(super) errand: Errand,
    /// Who wants to know of an opening; gone once it was told.
    pub(super) answer: Option<Answer>,
}

/// The way back to a log that is being opened.
pub(super) type Answer = oneshot::Sender<Result<Run, SharedError>>;

/// Many may wait for what has failed once.
pub(super) type SharedError = std::sync::Arc<StoreError>;

/// What is to be done to a topic.
#[derive(Clone, Debug)]
pub(super) enum Errand {
    /// A run begins, or goes on.
    Open { topic: String, strict: bool },
    /// A run has begun while the database was away.
    Adopt { topic: String, run: Run },
    /// A run has ended in order.
    Close {
        topic: String,
        epoch: i64,
        head: i64,
    },
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
            Self::Open { topic, .. } | Self::Adopt { topic, .. } | Self::Close { topic, .. } => {
                topic
            }
        }
    }

    /// The run that an opening has found or begun.
    pub(super) fn run(&self, connection: &mut Connection<'_>) -> diesel::QueryResult<Option<Run>> {
        match self {
            Self::Open { topic, strict } => run::open(connection, topic, *strict).map(Some),
            Self::Adopt { topic, run } => run::adopt(connection, topic, *run).map(|()| None),
            Self::Close { topic, epoch, head } => {
                run::close(connection, topic, *epoch, *head).map(|()| None)
            }
        }
    }
}
