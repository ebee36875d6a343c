//! [`PastRuns`]: the ended runs of a topic's sequence. They decide which ids are still valid.

use std::fmt;
use std::str::FromStr;

use super::id::{InvalidMessageId, MessageId, Seq};

/// The most remembered runs of a topic.
const MAX_RUNS: usize = 100;

/// The runs of one topic before the present one, oldest first; at most the newest 100.
///
/// A run is stored as the id of its last message. An id of the run is valid if it is not beyond that
/// message. A database that was restored from an old copy knows neither the runs that began after the copy
/// was made, nor how far its last run went.
///
/// ```
/// use slackir::log::{MessageId, PastRuns};
///
/// let mut past = PastRuns::default();
/// past.end("2f-17".parse().unwrap(), true);
/// assert!(past.resumes("2f-17".parse().unwrap()));
/// assert!(!past.resumes("2f-18".parse().unwrap()), "that was never given");
/// assert!(!past.resumes("3a-17".parse().unwrap()), "a run of somebody else");
/// assert_eq!(past.to_string(), "2f-17");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PastRuns(Vec<PastRun>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PastRun {
    last: MessageId,
    /// Clients have seen only stored messages of the run.
    whole: bool,
}

impl PastRuns {
    /// Adds a run that has ended with this message. `whole`: clients have seen only stored messages of it,
    /// so they can resume from this run and from earlier ones.
    pub fn end(&mut self, last: MessageId, whole: bool) {
        if self.0.len() == MAX_RUNS {
            self.0.remove(0);
        }
        self.0.push(PastRun { last, whole });
    }

    /// Whether a client that has seen this message can resume after it.
    pub fn resumes(&self, id: MessageId) -> bool {
        self.resumable()
            .iter()
            .any(|run| run.last.epoch == id.epoch && id.seq <= run.last.seq)
    }

    /// The id of a stored message of these runs, from which clients can resume. `None` if the message
    /// belongs to the present run.
    pub fn id_of(&self, seq: Seq) -> Option<MessageId> {
        // The usual case: the message is newer than all past runs.
        if self.0.last().is_none_or(|run| run.last.seq < seq) {
            return None;
        }
        let runs = self.resumable();
        let at = runs.partition_point(|run| run.last.seq < seq);
        runs.get(at).map(|run| MessageId::new(run.last.epoch, seq))
    }

    /// Whether this can be the id of a message of these runs. An id of a run that is not remembered is
    /// accepted up to the end of the oldest remembered run, or up to `head` if there is none.
    pub(crate) fn may_name(&self, id: MessageId, head: Seq) -> bool {
        let of_epoch = |run: &&PastRun| run.last.epoch == id.epoch;
        let oldest = self.0.first().map_or(head, |run| run.last.seq);
        id.seq <= oldest
            || self
                .0
                .iter()
                .filter(of_epoch)
                .any(|run| id.seq <= run.last.seq)
    }

    /// The last seq of these runs. `None` if there are none.
    #[cfg(feature = "_cluster")]
    pub(crate) fn last_seq(&self) -> Option<Seq> {
        self.0.last().map(|run| run.last.seq)
    }

    /// The runs after the last one that has lost messages.
    fn resumable(&self) -> &[PastRun] {
        let lossy = self.0.iter().rposition(|run| !run.whole);
        &self.0[lossy.map_or(0, |at| at + 1)..]
    }
}

/// Marks a run that has lost messages.
const LOSSY: char = '~';

impl fmt::Display for PastRuns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, PastRun { last, whole }) in self.0.iter().enumerate() {
            let space = if at > 0 { " " } else { "" };
            let mark = if *whole { "" } else { "~" };
            write!(f, "{space}{mark}{last}")?;
        }
        Ok(())
    }
}

impl FromStr for PastRuns {
    type Err = InvalidMessageId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let run = |word: &str| {
            let last = word.strip_prefix(LOSSY);
            Ok(PastRun {
                last: last.unwrap_or(word).parse()?,
                whole: last.is_none(),
            })
        };
        text.split_ascii_whitespace()
            .map(run)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::super::id::Epoch;
    use super::*;

    fn id(epoch: i64, seq: i64) -> MessageId {
        MessageId::new(Epoch::new(epoch), Seq::new(seq))
    }

    fn past(runs: &[(i64, i64, bool)]) -> PastRuns {
        let mut past = PastRuns::default();
        for &(epoch, seq, whole) in runs {
            past.end(id(epoch, seq), whole);
        }
        past
    }

    #[test]
    fn ids_hold_as_far_as_their_run_went() {
        let past = past(&[(1, 10, true), (2, 15, true), (3, 15, true)]);
        for (epoch, seq, holds) in [
            (1, 0, true),
            (1, 10, true),
            (1, 11, false),
            (2, 15, true),
            (2, 16, false),
            (3, 15, true),
            (4, 1, false),
        ] {
            assert_eq!(past.resumes(id(epoch, seq)), holds, "{epoch}-{seq}");
        }
        assert_eq!(past.id_of(Seq::new(10)), Some(id(1, 10)));
        assert_eq!(past.id_of(Seq::new(11)), Some(id(2, 11)));
        assert_eq!(past.id_of(Seq::new(16)), None);
    }

    #[test]
    fn nobody_resumes_over_a_run_that_has_lost_messages() {
        let past = past(&[(1, 10, true), (2, 15, false), (3, 20, true)]);
        assert!(!past.resumes(id(1, 10)) && !past.resumes(id(2, 12)));
        assert!(past.resumes(id(3, 20)));
        // The clients of the third run know the message by this id.
        assert_eq!(past.id_of(Seq::new(5)), Some(id(3, 5)));
        assert!(
            past.may_name(id(2, 15), Seq::new(0)),
            "it is a message all the same"
        );
    }

    #[test]
    fn a_run_that_is_forgotten_is_believed_as_far_as_the_oldest_known_one() {
        let runs: Vec<_> = (1..=150).map(|run| (run, run * 10, true)).collect();
        let past = past(&runs);
        assert!(!past.resumes(id(50, 500)) && past.resumes(id(51, 510)));
        assert!(past.may_name(id(7, 510), Seq::new(0)) && !past.may_name(id(7, 511), Seq::new(0)));
        assert!(PastRuns::default().may_name(id(7, 3), Seq::new(3)));
    }

    #[test]
    fn the_text_is_read_back() {
        for text in ["", "0-0", "2f-17", "0-0 ~2f-17 7fffffffffffffff-5"] {
            let past: PastRuns = text.parse().expect("a list of ids");
            assert_eq!(past.to_string(), text);
        }
        assert!("2f".parse::<PastRuns>().is_err());
        assert!("2f-17 x-1".parse::<PastRuns>().is_err());
    }
}
