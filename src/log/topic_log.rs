//! [`TopicLog`]: the log of one topic, and the operations that change it.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::{Instant, SystemTime};

use bytestring::ByteString;
use tokio::sync::watch;

use super::entry::{Change, LogEntry, Meta, Pending};
use super::id::{Epoch, MessageId, Seq};
use super::receipt::{Outcome, Receipt};
use super::refs::RecentRefs;
use super::rule::LogRule;
use super::sequence::Run;
use super::store::{LoadError, Newest, OpenedRun, StoreFull};
use super::tail::Tail;
use super::tail_bytes::CROWDED_BYTES;
use crate::message::RawJson;
use crate::trace::Traced;

/// The owner of a log, which holds the log behind a lock.
pub(crate) trait LogOwner: Send + Sync {
    /// Called on the store's thread when a message is settled, so that the owner calls
    /// [`TopicLog::settle`]. A commit in a log that is not strict is left out: nothing remains to be done
    /// for it.
    fn settled(&self, epoch: Epoch, seq: Seq, outcome: Outcome);
}

/// A message to append.
pub(crate) struct NewEntry<'a> {
    pub(crate) event: &'a ByteString,
    pub(crate) payload: &'a RawJson,
    /// Makes the payload instead, once the message has its id.
    pub(crate) with_id: Option<&'a WithId>,
    pub(crate) client_ref: Option<&'a str>,
    pub(crate) change: Option<Change>,
    /// Whether the publisher asked for a receipt.
    pub(crate) receipt: bool,
}

/// Makes the payload of a message of its id.
pub(crate) type WithId = dyn Fn(&str) -> RawJson + Send + Sync;

/// An appended message, or the earlier message that a retry repeats.
pub(crate) struct Appended {
    /// The message's id and publication time; for a retry, the present time.
    pub(crate) meta: Meta,
    /// The payload that was made of the id.
    pub(crate) payload: Option<RawJson>,
    pub(crate) receipt: Option<Receipt>,
    pub(crate) visibility: Visibility,
}

/// When members get a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Visibility {
    /// Now.
    Now,
    /// Once it is committed.
    OnCommit,
    /// Not again: it is a retry.
    Already,
}

/// The log of one topic, behind the topic's lock. `W` is held back until a strict log's message is
/// committed.
pub(crate) struct TopicLog<W> {
    pub(super) rule: Arc<LogRule>,
    pub(super) run: Arc<Run>,
    /// The epoch of the run that begins with the next message; `None` once it has begun.
    pub(super) next_epoch: Option<Epoch>,
    /// The head when the log was opened.
    pub(super) opened_at: Seq,
    /// The last seq that was given.
    pub(super) head: Seq,
    /// The last message that this server hands to the store. In a cluster other nodes store theirs.
    pub(super) last_own: Seq,
    /// The last seq that members were sent.
    pub(super) shown: Seq,
    /// Messages up to this seq may be deleted.
    pub(super) pruned_through: Seq,
    /// The newest messages, and every message that is not settled.
    pub(super) tail: Tail,
    /// The tail lacks messages that belong there, because the tails of all topics were too large.
    pub(super) is_shed: bool,
    /// Shared by all topics.
    pub(super) refs: Arc<RecentRefs>,
    /// Whether [`TopicLog::fill`] has added the stored messages that belong in the tail.
    pub(super) filled: bool,
    /// Strict: the messages that are not committed, in order, each with what is held back until then.
    waiting: VecDeque<(Arc<LogEntry>, W)>,
}

impl<W> TopicLog<W> {
    /// Opens the log of a topic. Its tail is empty until [`fill`](Self::fill).
    pub(crate) async fn open(
        topic: &Arc<str>,
        owner: Weak<dyn LogOwner>,
        rule: &Arc<LogRule>,
        refs: Arc<RecentRefs>,
    ) -> Result<Self, LoadError> {
        let opened = rule.store().open(topic, rule.strict).await?;
        Ok(Self::in_run(topic, owner, rule, refs, opened))
    }

    /// The log of a topic in the run that was opened.
    pub(super) fn in_run(
        topic: &Arc<str>,
        owner: Weak<dyn LogOwner>,
        rule: &Arc<LogRule>,
        refs: Arc<RecentRefs>,
        opened: OpenedRun,
    ) -> Self {
        let OpenedRun {
            epoch,
            next_epoch,
            past,
            head,
            pruned_through,
        } = opened;
        let run = Run::new(topic, epoch, past, head, owner, rule.strict);
        Self {
            rule: Arc::clone(rule),
            run: Arc::new(run.with_refs_of(next_epoch.unwrap_or(epoch))),
            next_epoch,
            opened_at: head,
            head,
            last_own: head,
            shown: head,
            pruned_through,
            tail: Tail::new(head),
            is_shed: false,
            refs,
            filled: false,
            waiting: VecDeque::new(),
        }
    }

    /// Adds stored messages below the tail's floor, and remembers recent client_refs.
    pub(crate) fn fill(&mut self, newest: Newest) {
        self.is_shed = false;
        if std::mem::replace(&mut self.filled, true) {
            return;
        }
        let now = Instant::now();
        for (client_ref, seq) in newest.client_refs {
            if self.refs.get(&self.run, &client_ref).is_none() {
                self.refs.insert(&self.run, &client_ref, seq, now);
            }
        }
        let shown = self.tail.iter().filter(|entry| entry.seq <= self.shown);
        let changes = shown.filter(|entry| entry.change.is_some()).cloned();
        let changes: Vec<_> = changes.collect();
        for row in newest.entries.into_iter().rev() {
            if row.seq <= self.tail.floor() {
                self.tail.push_below(LogEntry::stored(&self.run, row));
            }
        }
        // The rows may have been read before these changes were committed, so apply the changes again.
        changes.iter().for_each(|change| self.apply(change));
    }

    /// Gives the message the next seq and hands it to the store.
    pub(crate) fn append(&mut self, message: &NewEntry<'_>) -> Result<Appended, StoreFull> {
        if let Some(retry) = self.known(message.client_ref) {
            return Ok(retry);
        }
        let asked = message.receipt || message.client_ref.is_some();
        let run = match self.next_epoch {
            None => Arc::clone(&self.run),
            Some(epoch) => Arc::new(self.run.next(epoch, self.head)),
        };
        let seq = self.head.next();
        let made = message.with_id.map(|make| make(&run.id(seq).to_string()));
        let entry = Arc::new(LogEntry {
            run,
            seq,
            event: message.event.clone(),
            payload: made.clone().unwrap_or_else(|| message.payload.detach()),
            client_ref: message.client_ref.map(ByteString::from),
            change: message.change,
            at: SystemTime::now(),
            begins: self.next_epoch.is_some(),
            receipt: asked.then(|| watch::Sender::new(None)),
            traced: Traced::current(),
        });
        self.rule.store().append(Pending::new(&entry))?;
        if self.next_epoch.take().is_some() {
            self.run = Arc::clone(&entry.run);
        }
        (self.head, self.last_own) = (entry.seq, entry.seq);
        self.remember_ref(&entry);
        self.push(Arc::clone(&entry));
        let visibility = if self.rule.strict {
            Visibility::OnCommit
        } else {
            self.show(&entry);
            Visibility::Now
        };
        Ok(Appended {
            meta: entry.meta(),
            payload: made,
            receipt: entry.receipt(),
            visibility,
        })
    }

    /// Remembers the client_ref of a message, by which retries are recognised.
    pub(super) fn remember_ref(&self, entry: &LogEntry) {
        if let Some(client_ref) = &entry.client_ref {
            let now = Instant::now();
            self.refs.insert(&self.run, client_ref, entry.seq, now);
        }
    }

    /// The answer to a retry: a message with the client_ref of an earlier one.
    pub(crate) fn known(&self, client_ref: Option<&str>) -> Option<Appended> {
        let first = self.first_with(client_ref)?;
        // A message that is not in the tail is settled.
        let pending = self.tail.get(first.seq).and_then(|entry| entry.receipt());
        let receipt = pending.unwrap_or_else(|| Receipt::stored(first));
        Some(Appended {
            meta: Meta {
                id: first,
                at: SystemTime::now(),
            },
            payload: None,
            receipt: Some(receipt.of_duplicate()),
            visibility: Visibility::Already,
        })
    }

    /// The first message with this client_ref, if it is remembered.
    pub(crate) fn first_with(&self, client_ref: Option<&str>) -> Option<MessageId> {
        let first = self.refs.get(&self.run, client_ref?)?;
        Some(self.run.id(first))
    }

    /// Holds `waiting` back until the newest message is committed.
    pub(crate) fn wait(&mut self, waiting: W) {
        if let Some(entry) = self.tail.iter().next_back() {
            self.waiting.push_back((Arc::clone(entry), waiting));
        }
    }

    /// Call when the store has settled a message, and every message before it; not needed for a commit in a
    /// log that is not strict. Returns what was held back for the message, if it is committed.
    pub(crate) fn settle(&mut self, epoch: Epoch, seq: Seq, outcome: Outcome) -> Option<W> {
        if epoch != self.run.epoch {
            return None;
        }
        if outcome != Outcome::Committed {
            self.forget(seq, outcome);
        }
        let (entry, waiting) = self.waiting.pop_front_if(|(entry, _)| entry.seq == seq)?;
        if outcome != Outcome::Committed {
            return None;
        }
        self.show(&entry);
        Some(waiting)
    }

    /// Marks a message as sent to members, and applies the change that it makes.
    pub(super) fn show(&mut self, entry: &LogEntry) {
        self.shown = entry.seq;
        self.apply(entry);
    }

    fn apply(&mut self, entry: &LogEntry) {
        match entry.change {
            None => {}
            Some(Change::Delete { target }) => self.tail.remove(target),
            Some(Change::Update { target }) => {
                if let Some(payload) = entry.updated_payload() {
                    self.tail.replace_payload(target, payload);
                }
            }
        }
    }

    /// Removes a message that will not be stored from the tail.
    fn forget(&mut self, seq: Seq, outcome: Outcome) {
        let Some(entry) = self.tail.get(seq) else {
            return;
        };
        if let Some(client_ref) = &entry.client_ref {
            match outcome {
                Outcome::Committed => {}
                Outcome::DuplicateOf(first) => {
                    let now = Instant::now();
                    self.refs.insert(&self.run, client_ref, first.seq, now);
                }
                Outcome::Rejected => self.refs.forget(&self.run, client_ref, seq),
            }
        }
        self.tail.remove(seq);
    }

    /// When the newest message of the tail was published.
    pub(crate) fn last_at(&self) -> Option<SystemTime> {
        self.tail.iter().next_back().map(|entry| entry.at)
    }

    pub(crate) fn id_of(&self, seq: Seq) -> MessageId {
        self.run.id(seq)
    }

    /// Whether messages after this one may be deleted.
    pub(crate) fn is_pruned_after(&self, seq: Seq) -> bool {
        self.pruned_through > seq
    }

    /// Removes deleted messages, up to this seq.
    pub(crate) fn prune(&mut self, through: Seq) {
        self.pruned_through = self.pruned_through.max(through);
        self.tail.prune(through);
    }

    /// Takes a seq that no message gets. From now on no resume begins before it.
    pub(crate) fn begin_erasure(&mut self) -> MessageId {
        self.head = self.head.next();
        self.pruned_through = self.head;
        self.run.id(self.head)
    }

    /// Removes deleted messages. The store must have stored the seq of the erasure, so that the seq is not
    /// given again after a crash.
    pub(crate) fn erase(&mut self, seqs: &[Seq], erasure: Seq) {
        seqs.iter().for_each(|&seq| self.tail.remove(seq));
        // In a strict log, messages that members have not been sent yet come before the erasure.
        if self.waiting.is_empty() {
            self.shown = self.shown.max(erasure);
        }
    }

    /// Ends the run, if it has begun.
    pub(crate) fn close(&self) {
        if self.next_epoch.is_none() {
            let last = MessageId::new(self.run.epoch, self.head);
            self.rule.store().close(&self.run.topic, last);
        }
    }

    /// The bytes of the tail.
    pub(crate) fn bytes(&self) -> usize {
        self.tail.bytes()
    }

    /// Whether the tail must be filled again before it can give a history.
    pub(crate) fn is_shed(&self) -> bool {
        self.is_shed
    }

    /// The history has become longer than the part that was read.
    pub(crate) fn read_again(&mut self) {
        (self.is_shed, self.filled) = (true, false);
    }

    /// Call if the store cannot be read: the log continues with the messages published since its opening.
    pub(crate) fn go_on_without(&mut self) {
        self.is_shed = false;
    }

    /// The newest message before this seq, if it is not settled.
    pub(crate) fn newest_unsettled(&self, before: Seq) -> Option<Seq> {
        // A message that is not in the tail is settled.
        let newest = self.tail.before(before).next_back()?;
        (newest.seq > self.settled()).then_some(newest.seq)
    }

    /// The last seq up to which this server has nothing to settle.
    fn settled(&self) -> Seq {
        let settled = self.run.settled();
        if settled < self.last_own {
            settled
        } else {
            self.head
        }
    }

    /// Adds the newest message to the tail, and shrinks the tail to its bounds.
    pub(super) fn push(&mut self, entry: Arc<LogEntry>) {
        self.tail.push(entry);
        let (messages, bytes) = self.rule.tail();
        // A committed message may still have to be sent to members.
        let done = self.settled().min(self.shown);
        self.tail.shrink(done, messages, bytes);
        if self.tail.is_crowded() {
            let floor = self.tail.floor();
            self.tail.shrink(done, messages, CROWDED_BYTES);
            if self.tail.floor() > floor {
                (self.is_shed, self.filled) = (true, false);
            }
        }
    }
}
