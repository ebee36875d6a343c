//! The requests to the [`DbWriter`].

use std::sync::Arc;

use actix::{Handler, Message, ResponseFuture};
use futures_util::FutureExt;
use tokio::sync::oneshot;

use super::DbWriter;
#[cfg(feature = "_cluster")]
use crate::log::ClusterEra;
use crate::log::{MessageId, OpenedRun};

use crate::store::backend::Fault;
use crate::store::backend::error::DAMAGED;
use crate::store::tables::cursor::CursorChange;
use crate::store::tables::opening::Opening;
use crate::store::write::turn::{SharedError, TopicWork, Turn, TurnAnswer};

/// Opens a topic's log.
#[derive(Message)]
#[rtype(result = "()")]
pub(in crate::store) struct Open {
    pub(in crate::store) topic: String,
    pub(in crate::store) sequence: Sequence,
    pub(in crate::store) answer: oneshot::Sender<Result<OpenedRun, SharedError>>,
}

/// What gives the seqs of a topic's run.
#[derive(Clone, Debug)]
pub(in crate::store) enum Sequence {
    /// This server. `strict`: members see committed messages only.
    Server { strict: bool },
    /// The cluster's bus, for all nodes. `within`: not after this era.
    #[cfg(feature = "_cluster")]
    Cluster { within: Option<ClusterEra> },
}

/// Changes rows that are no messages to publish. The answer is their number.
#[derive(Message)]
#[rtype(result = "()")]
pub(in crate::store) struct Change {
    pub(in crate::store) work: TopicWork,
    pub(in crate::store) answer: oneshot::Sender<Result<usize, SharedError>>,
}

/// A topic's run has ended cleanly.
#[derive(Message)]
#[rtype(result = "()")]
pub(in crate::store) struct Close {
    pub(in crate::store) topic: String,
    pub(in crate::store) last: MessageId,
}

/// The cluster has begun a run without the database.
#[cfg(feature = "_cluster")]
#[derive(Message)]
#[rtype(result = "()")]
pub(in crate::store) struct Begun {
    pub(in crate::store) topic: String,
    pub(in crate::store) first: MessageId,
}

/// Changes a cursor. While the database is unreachable, the change waits for it.
#[derive(Message)]
#[rtype(result = "()")]
pub(in crate::store) struct ChangeCursor(pub(in crate::store) CursorChange);

/// Rows are in the intake.
#[derive(Message)]
#[rtype(result = "()")]
pub(in crate::store) struct RowsCame;

/// A reader has found that the database is damaged.
#[derive(Message)]
#[rtype(result = "()")]
pub(in crate::store) struct Damaged(pub(in crate::store) String);

/// Waits until all earlier rows are committed or, while the database is unreachable, safe in the spool.
#[derive(Message)]
#[rtype(result = "()")]
pub(in crate::store) struct Synced;

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
            sequence,
            answer,
        }: Open,
        ctx: &mut Self::Context,
    ) {
        if self.state.is_away() {
            return self.open_without_database(answer);
        }
        self.turns.push(Turn {
            work: match sequence {
                Sequence::Server { strict } => TopicWork::Open(Opening {
                    topic,
                    strict,
                    next_epoch: self.epoch,
                }),
                #[cfg(feature = "_cluster")]
                Sequence::Cluster { within } => TopicWork::BeginShared { topic, within },
            },
            answer: Some(TurnAnswer::Opening(answer)),
        });
        self.wake(ctx);
    }
}

impl Handler<Change> for DbWriter {
    type Result = ();

    fn handle(&mut self, Change { work, answer }: Change, ctx: &mut Self::Context) {
        let answer = TurnAnswer::Changed(answer);
        if self.state.is_away() {
            return answer.refuse(Arc::new(Fault::Away));
        }
        self.turns.push(Turn {
            work,
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
            .push(Turn::quiet(TopicWork::Close { topic, last }));
        self.wake(ctx);
    }
}

#[cfg(feature = "_cluster")]
impl Handler<Begun> for DbWriter {
    type Result = ();

    fn handle(&mut self, Begun { topic, first }: Begun, ctx: &mut Self::Context) {
        self.ceiling.raise(first.seq);
        self.turns.push(Turn::quiet(TopicWork::Begin {
            topic,
            first,
            strict: false,
        }));
        self.wake(ctx);
    }
}

impl Handler<ChangeCursor> for DbWriter {
    type Result = ();

    fn handle(&mut self, ChangeCursor(change): ChangeCursor, ctx: &mut Self::Context) {
        self.turns.push(Turn::quiet(TopicWork::Cursor(change)));
        self.wake(ctx);
    }
}

impl Handler<Damaged> for DbWriter {
    type Result = ();

    fn handle(&mut self, Damaged(error): Damaged, ctx: &mut Self::Context) {
        if self.state.damaged(DAMAGED) {
            tracing::error!(
                %error,
                "store.damaged: messages are refused; restore the file (docs/BACKUP.md) and \
                 restart"
            );
            self.note_health();
            self.write_down(ctx);
        }
    }
}

impl Handler<Synced> for DbWriter {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Synced, ctx: &mut Self::Context) -> Self::Result {
        let synced = self.flushes.add();
        self.hurry(ctx);
        synced.map(drop).boxed_local()
    }
}
