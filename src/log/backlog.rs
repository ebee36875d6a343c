//! [`Backlog`]: the messages that a joining client gets, as a history or to resume.

use std::sync::Arc;

use super::entry::LogEntry;
use super::id::MessageId;
use super::pager::{Found, Pager};
use super::topic_log::TopicLog;

/// The messages that a joining client gets, at the moment of its subscription.
#[derive(Clone, Debug, Default)]
pub(crate) struct Backlog {
    /// The newest message that members were sent, or the last of `entries`.
    pub(crate) head: Option<MessageId>,
    /// Whether `entries` are exactly the messages that the client missed. Else they are a history.
    pub(crate) resumed: bool,
    /// Why a client that resumes gets a history.
    pub(crate) lost: Option<Lost>,
    /// Oldest first.
    pub(crate) entries: Vec<Arc<LogEntry>>,
}

impl Backlog {
    /// An empty resume: the missed messages follow from the database.
    pub(crate) fn resumed() -> Self {
        Self {
            resumed: true,
            ..Self::default()
        }
    }
}

/// Why it is not known which messages a client has missed, or why they are too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// Its last message is of no run that resumes.
    Epoch,
    /// The messages after it are deleted or too many, or it was never sent.
    Gap,
}

/// The place of the messages that a client has missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missed {
    InTail,
    /// The oldest are only in the database.
    BelowFloor,
    /// The client gets a history.
    Lost(Lost),
}

impl<W> TopicLog<W> {
    /// The newest messages, at most `limit` and at most as many as the rule allows.
    pub(crate) fn history(&self, limit: Option<usize>) -> Backlog {
        let limit = limit.map_or(self.rule.history(), |limit| limit.min(self.rule.history()));
        let (_, max_bytes) = self.rule.tail();
        let mut bytes = 0;
        let newest = self.tail.iter().rev();
        let newest = newest
            .filter(|entry| entry.seq <= self.shown && entry.change.is_none())
            .take(limit)
            .take_while(|entry| {
                bytes += entry.cost();
                bytes <= max_bytes
            });
        let mut entries: Vec<_> = newest.cloned().collect();
        entries.reverse();
        Backlog {
            head: Some(self.run.id(self.shown)),
            entries,
            ..Backlog::default()
        }
    }

    /// The messages after `last_seen`, if the tail has them all. If it is unknown which those are: the
    /// history, of at most `limit` messages.
    ///
    /// # Errors
    /// If some are only in the database: the pager reads them.
    pub(crate) fn resume(
        &self,
        last_seen: MessageId,
        limit: Option<usize>,
    ) -> Result<Backlog, Pager> {
        match self.missed_since(last_seen) {
            Missed::Lost(lost) => Ok(Backlog {
                lost: Some(lost),
                ..self.history(limit)
            }),
            Missed::BelowFloor => Err(self.pager()),
            Missed::InTail => {
                let missed = self.tail.after(last_seen.seq);
                let missed = missed.take_while(|entry| entry.seq <= self.shown);
                Ok(Backlog {
                    head: Some(self.run.id(self.shown)),
                    entries: missed.cloned().collect(),
                    ..Backlog::resumed()
                })
            }
        }
    }

    /// Whether a client that resumes after this message gets a history instead.
    pub(crate) fn is_lost(&self, last_seen: MessageId) -> bool {
        matches!(self.missed_since(last_seen), Missed::Lost(_))
    }

    fn missed_since(&self, last_seen: MessageId) -> Missed {
        let is_valid = last_seen.epoch == self.run.epoch || self.run.past.resumes(last_seen);
        let is_kept = (self.pruned_through..=self.shown).contains(&last_seen.seq);
        let missed = self.shown.distance_from(last_seen.seq);
        if !is_valid {
            Missed::Lost(Lost::Epoch)
        } else if !is_kept || missed > self.rule.most_missed() {
            Missed::Lost(Lost::Gap)
        } else if last_seen.seq >= self.tail.floor() {
            Missed::InTail
        } else {
            Missed::BelowFloor
        }
    }

    /// Whether this can be the id of a message of this topic.
    pub(super) fn may_name(&self, id: MessageId) -> bool {
        id.epoch == self.run.epoch || self.run.past.may_name(id, self.opened_at)
    }

    /// Finds the message with this id. The epoch counts too: after a restore of the database, two runs may
    /// have given the same seq.
    pub(crate) fn find(&self, id: MessageId) -> Found {
        if !self.may_name(id) {
            return Found::Nothing;
        }
        if id.seq <= self.tail.floor() {
            return Found::Below(self.pager());
        }
        match self.tail.get(id.seq) {
            Some(entry) if id.seq <= self.shown => Found::Entry(Arc::clone(entry)),
            _ => Found::Nothing,
        }
    }

    /// A pager for the messages below the floor.
    pub(super) fn pager(&self) -> Pager {
        Pager {
            rule: Arc::clone(&self.rule),
            run: Arc::clone(&self.run),
            floor: self.tail.floor(),
            shown: self.shown,
        }
    }
}
