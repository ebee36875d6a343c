//! [`Turn`]: work on a topic, other than its rows, on revocations, bans, slow modes and cursors. Runs begin and end, rows
//! are deleted.

use std::collections::VecDeque;
use std::sync::Arc;

use diesel::QueryResult;
use tokio::sync::oneshot;

#[cfg(feature = "_cluster")]
use crate::log::ClusterEra;
use crate::log::{LogEntry, MessageId, OpenedRun};
use crate::store::backend::DbConnection;
use crate::store::backend::Fault;

use crate::store::tables::ban::BanChange;
use crate::store::tables::cursor::{self, CursorChange};
use crate::store::tables::opening::{self, Opening};
use crate::store::tables::remove::{self, Removal};
use crate::store::tables::revocation::RevocationChange;
use crate::store::tables::run;
use crate::store::tables::slow_mode::SlowModeChange;

/// The most turns of one round.
const MOST: usize = 64;

/// Turns in the order of the requests.
#[derive(Default)]
pub(in crate::store) struct Turns(VecDeque<Turn>);

/// One piece of work, and its caller.
pub(in crate::store) struct Turn {
    pub(in crate::store) work: TopicWork,
    /// `None` once answered.
    pub(in crate::store) answer: Option<TurnAnswer>,
}

/// The channel to the caller.
pub(in crate::store) enum TurnAnswer {
    Opening(oneshot::Sender<Result<OpenedRun, SharedError>>),
    Changed(oneshot::Sender<Result<usize, SharedError>>),
}

impl TurnAnswer {
    /// Answers that the work has failed. A caller that has gone needs no answer.
    pub(in crate::store) fn refuse(self, error: SharedError) {
        match self {
            Self::Opening(answer) => drop(answer.send(Err(error))),
            Self::Changed(answer) => drop(answer.send(Err(error))),
        }
    }
}

/// Shared, because a failure can concern several callers.
pub(in crate::store) type SharedError = Arc<Fault>;

/// Work on one topic, or on none.
#[derive(Clone, Debug)]
pub(in crate::store) enum TopicWork {
    /// Opens a log of this server.
    Open(Opening),
    /// Begins a run whose seqs the cluster gives.
    #[cfg(feature = "_cluster")]
    BeginShared {
        topic: String,
        /// Not after this era.
        within: Option<ClusterEra>,
    },
    /// A run begins with this message.
    Begin {
        topic: String,
        first: MessageId,
        strict: bool,
    },
    /// A run has ended cleanly with this id.
    Close { topic: String, last: MessageId },
    /// Deletes rows.
    Remove(Removal),
    /// Changes the table of revocations, which has no topics.
    Revoke(RevocationChange),
    /// Changes the table of bans, which has no topics.
    Ban(BanChange),
    /// Changes the table of slow modes, whose topics need no log.
    SlowMode(SlowModeChange),
    /// Changes a cursor over the rows of all topics.
    Cursor(CursorChange),
}

/// The result of a piece of work.
pub(in crate::store) enum WorkDone {
    /// The run that was found or begun.
    Opened(OpenedRun),
    /// The era of the opening is over.
    #[cfg(feature = "_cluster")]
    Late,
    /// How many rows were changed or deleted.
    Changed(usize),
    /// It is stored.
    Stored,
}

impl Turns {
    pub(in crate::store) fn push(&mut self, turn: Turn) {
        self.0.push_back(turn);
    }

    pub(in crate::store) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The work that is due now, from the first turn: a run ends after its rows, which are in the queue. Thousands of
    /// topics may open at once, and no row waits for all of them.
    pub(in crate::store) fn due(&self, queue: &VecDeque<Arc<LogEntry>>) -> Vec<TopicWork> {
        let has_rows = |topic: &str| queue.iter().any(|entry| entry.topic() == topic);
        let is_early =
            |work: &TopicWork| matches!(work, TopicWork::Close { topic, .. } if has_rows(topic));
        let works = self.0.iter().map(|turn| &turn.work);
        let due = works.take(MOST).take_while(|work| !is_early(work));
        due.cloned().collect()
    }

    /// Answers the first `turns` turns, as far as the round has come with them.
    pub(in crate::store) fn settle(
        &mut self,
        turns: usize,
        results: impl IntoIterator<Item = Result<WorkDone, SharedError>>,
    ) {
        for (_, result) in (0..turns).zip(results) {
            let Some(Turn { answer, .. }) = self.0.pop_front() else {
                break;
            };
            // If the caller of an opening has gone meanwhile, the topic stays open, and its run ends uncleanly.
            match (result, answer) {
                (Ok(WorkDone::Opened(run)), Some(TurnAnswer::Opening(answer))) => {
                    let _ = answer.send(Ok(run));
                }
                (Ok(WorkDone::Changed(rows)), Some(TurnAnswer::Changed(answer))) => {
                    let _ = answer.send(Ok(rows));
                }
                #[cfg(feature = "_cluster")]
                (Ok(WorkDone::Late), Some(answer)) => answer.refuse(Arc::new(Fault::Late)),
                (Err(error), Some(answer)) => answer.refuse(error),
                _ => {}
            }
        }
    }

    /// Takes the callers, to answer them without the database. The work of the first `in_flight` turns stays,
    /// because the committer may still do it; so does work without a caller.
    pub(in crate::store) fn take_callers(&mut self, in_flight: usize) -> Vec<TurnAnswer> {
        let mut callers = Vec::new();
        for (at, mut turn) in std::mem::take(&mut self.0).into_iter().enumerate() {
            let caller = turn.answer.take();
            if caller.is_none() || at < in_flight {
                self.0.push_back(turn);
            }
            callers.extend(caller);
        }
        callers
    }
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
            Self::Open(opening) => &opening.topic,
            Self::Begin { topic, .. } | Self::Close { topic, .. } => topic,
            #[cfg(feature = "_cluster")]
            Self::BeginShared { topic, .. } => topic,
            Self::Remove(removal) => &removal.topic,
            Self::Revoke(_) | Self::Ban(_) | Self::SlowMode(_) => "",
            // It concerns no topic: the log names the cursor.
            Self::Cursor(change) => change.name,
        }
    }

    /// Does pieces of work in their order, inside a transaction. Those next to each other that open logs are one piece for
    /// the database.
    pub(in crate::store) fn run_all(
        works: &[Self],
        connection: &mut DbConnection<'_>,
    ) -> QueryResult<Vec<WorkDone>> {
        let mut done = Vec::with_capacity(works.len());
        for alike in works.chunk_by(Self::opens_like) {
            done.extend(Self::run_alike(alike, connection)?);
        }
        Ok(done)
    }

    /// Whether both open logs in the same way.
    fn opens_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Open(_), Self::Open(_)) => true,
            #[cfg(feature = "_cluster")]
            (Self::BeginShared { within, .. }, Self::BeginShared { within: other, .. }) => {
                within == other
            }
            _ => false,
        }
    }

    /// `alike`: one piece, or several that open logs in the same way.
    fn run_alike(alike: &[Self], connection: &mut DbConnection<'_>) -> QueryResult<Vec<WorkDone>> {
        let Some(first) = alike.first() else {
            return Ok(Vec::new());
        };
        let done = match first {
            Self::Open(_) => {
                let openings: Vec<_> = alike.iter().filter_map(Self::opening).collect();
                let opened = opening::open(connection, &openings)?;
                return Ok(opened.into_iter().map(WorkDone::Opened).collect());
            }
            #[cfg(feature = "_cluster")]
            Self::BeginShared { within, .. } => {
                let names = alike.iter().map(Self::topic).collect();
                let begun = opening::begin_shared(connection, &names, within.as_ref())?;
                let begun = begun.unwrap_or_default();
                let runs = alike.iter().map(|work| begun.get(work.topic()).cloned());
                return Ok(runs
                    .map(|run| run.map_or(WorkDone::Late, WorkDone::Opened))
                    .collect());
            }
            Self::Begin {
                topic,
                first,
                strict,
            } => {
                run::begin(connection, topic, *first, *strict)?;
                WorkDone::Stored
            }
            Self::Close { topic, last } => {
                run::close(connection, topic, *last)?;
                WorkDone::Stored
            }
            Self::Remove(removal) => WorkDone::Changed(remove::remove(connection, removal)?),
            Self::Revoke(change) => WorkDone::Changed(change.run(connection)?),
            Self::Ban(change) => WorkDone::Changed(change.run(connection)?),
            Self::SlowMode(change) => WorkDone::Changed(change.run(connection)?),
            Self::Cursor(change) => {
                cursor::change(connection, *change)?;
                WorkDone::Stored
            }
        };
        Ok(vec![done])
    }

    fn opening(&self) -> Option<&Opening> {
        match self {
            Self::Open(opening) => Some(opening),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Epoch, Seq};

    fn opening() -> (Turn, oneshot::Receiver<Result<OpenedRun, SharedError>>) {
        let (answer, answered) = oneshot::channel();
        let work = TopicWork::Open(Opening {
            topic: "room".to_owned(),
            strict: false,
            next_epoch: Epoch::new(1),
        });
        let answer = Some(TurnAnswer::Opening(answer));
        (Turn { work, answer }, answered)
    }

    fn closing() -> Turn {
        Turn::quiet(TopicWork::Close {
            topic: "room".to_owned(),
            last: MessageId::new(Epoch::new(1), Seq::new(7)),
        })
    }

    #[test]
    fn a_round_has_so_many_turns_that_no_row_waits_for_all() {
        let mut turns = Turns::default();
        (0..=MOST).for_each(|_| turns.push(opening().0));
        let nothing = VecDeque::new();
        assert_eq!(turns.due(&nothing).len(), MOST);
        turns.settle(MOST, (0..MOST).map(|_| Ok(WorkDone::Stored)));
        assert_eq!(turns.due(&nothing).len(), 1);
    }

    #[test]
    fn callers_are_answered_without_the_database_and_work_in_flight_stays() {
        let mut turns = Turns::default();
        let (first, mut first_answered) = opening();
        turns.push(first);
        turns.push(opening().0);
        turns.push(closing());
        assert_eq!(turns.take_callers(1).len(), 2);
        let due = turns.due(&VecDeque::new());
        assert!(matches!(
            due[..],
            [TopicWork::Open(_), TopicWork::Close { .. }]
        ));
        assert!(turns.take_callers(1).is_empty(), "they are answered once");
        assert!(first_answered.try_recv().is_err());
    }

    #[test]
    fn turns_that_were_not_tried_stay() {
        let mut turns = Turns::default();
        let (first, mut answered) = opening();
        turns.push(first);
        turns.push(closing());
        turns.settle(2, [Ok(WorkDone::Opened(OpenedRun::default()))]);
        assert!(matches!(answered.try_recv(), Ok(Ok(_))));
        assert!(matches!(
            turns.due(&VecDeque::new())[..],
            [TopicWork::Close { .. }]
        ));
    }
}
