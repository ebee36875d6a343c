//! The topic log: every stored message of a topic takes the next seq, and the newest of them stay
//! in memory as the *tail*.
//!
//! The tail holds every message after its *floor*: the newest up to the rule's bounds, and every
//! message whose row is not settled yet. A join reads it under the topic's lock, so that what a
//! member saw is in the history or arrives live, exactly once, committed or not. A resume whose
//! cursor is below the floor reads pages from the store until it has reached it.
//!
//! A strict log shows a message only once it is committed: until then it stands in the tail, and
//! its broadcast waits here.

mod entry;
mod older;
mod past;
mod refs;
mod rule;
mod store;
mod tail_bytes;

use std::collections::VecDeque;
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Weak};
use std::time::{Instant, SystemTime};

use bytestring::ByteString;
use tokio::sync::watch;

pub(super) use self::entry::Outcome;
use self::entry::Run;
pub use self::entry::{
    Change, InvalidMessageId, LogEntry, MessageId, NotStored, Pending, Receipt, Stored,
};
pub(super) use self::older::Older;
pub use self::past::PastRuns;
pub(super) use self::refs::RecentRefs;
pub use self::rule::LogRule;
pub(crate) use self::rule::topic_matches;
pub use self::store::{
    Flushed, LoadError, MessageStore, Newest, OpenedRun, StoreFull, StoredEntry,
};
#[cfg(test)]
pub(super) use self::tail_bytes::crowd;
use self::tail_bytes::{CROWDED_BYTES, TailBytes};
use super::topic::Topic;
use super::{Broadcast, Draft};
use crate::message::RawJson;

/// What a page of a resume holds at most.
const PAGE_ROWS: usize = 500;
const PAGE_BYTES: usize = 250_000;

/// What a joining client is told of the log, at the moment of its subscription.
#[derive(Clone, Debug, Default)]
pub(crate) struct Backlog {
    /// The newest message that members have been shown, or that `entries` end with.
    pub(crate) head: Option<MessageId>,
    /// Whether `entries` are exactly what the client missed, and not a history.
    pub(crate) resumed: bool,
    /// Oldest first.
    pub(crate) entries: Vec<Arc<LogEntry>>,
}

impl Backlog {
    /// What was missed will follow from the database.
    pub(crate) fn resumed() -> Self {
        Self {
            resumed: true,
            ..Self::default()
        }
    }
}

/// Where a resume stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cursor {
    /// Every missed message is in the tail.
    InTail,
    /// What was missed begins in the database.
    BelowFloor,
    /// The gap cannot be filled.
    Lost,
}

/// Where a message is.
pub(super) enum Found {
    /// In memory.
    Entry(Arc<LogEntry>),
    /// In the database, if anywhere.
    Below(Pager),
    /// Nowhere.
    Nothing,
}

/// A message was taken, or is known already.
pub(super) struct Appended {
    pub(super) id: MessageId,
    /// When it was published; for a retry, now.
    pub(super) at: SystemTime,
    pub(super) receipt: Option<Receipt>,
    pub(super) fate: Fate,
}

/// What follows for the members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// They are sent it now.
    Shown,
    /// They are sent it when it is committed.
    Waits,
    /// They have been sent it before.
    Duplicate,
}

/// The log of one topic, behind the topic's lock.
pub(super) struct TopicLog {
    rule: Arc<LogRule>,
    run: Arc<Run>,
    /// The epoch of the run that begins with the next message; `None` once it has begun.
    next_epoch: Option<i64>,
    /// The head when the log was opened.
    opened_at: i64,
    /// The last seq that was given.
    head: i64,
    /// The last seq that members were shown.
    shown: i64,
    /// The tail holds every message after this one.
    floor: i64,
    /// Messages up to this seq may be gone.
    pruned_through: i64,
    tail: VecDeque<Arc<LogEntry>>,
    tail_bytes: TailBytes,
    /// The tail has let go of rows that belong there, because all tails together were too large.
    is_shed: bool,
    /// Those of all topics.
    refs: Arc<RecentRefs>,
    /// Whether the tail has what was stored before the opening, as far as it belongs there.
    filled: bool,
    /// Strict: what was published and is not committed yet, in order.
    waiting: VecDeque<(Arc<LogEntry>, Arc<Broadcast>)>,
}

impl TopicLog {
    /// Opens the log of a topic. The tail is empty until it is
    /// [filled](Self::fill).
    pub(super) async fn open(
        topic: &Arc<str>,
        owner: Weak<Topic>,
        rule: &Arc<LogRule>,
        refs: Arc<RecentRefs>,
    ) -> Result<Self, LoadError> {
        let OpenedRun {
            epoch,
            next_epoch,
            past,
            head,
            pruned_through,
        } = rule.store.open(topic, rule.strict).await?;
        Ok(Self {
            rule: Arc::clone(rule),
            run: Arc::new(Run {
                topic: Arc::clone(topic),
                epoch,
                refs_epoch: next_epoch.unwrap_or(epoch),
                past,
                settled: AtomicI64::new(head),
                owner,
                strict: rule.strict,
            }),
            next_epoch,
            opened_at: head,
            head,
            shown: head,
            floor: head,
            pruned_through,
            tail: VecDeque::new(),
            tail_bytes: TailBytes::default(),
            is_shed: false,
            refs,
            filled: false,
            waiting: VecDeque::new(),
        })
    }

    /// Puts what was stored before the opening in front of what came since.
    pub(super) fn fill(&mut self, newest: Newest) {
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
        let changes = self.tail.iter().filter(|entry| entry.change.is_some());
        let changes: Vec<_> = changes
            .filter(|entry| entry.seq <= self.shown)
            .cloned()
            .collect();
        for row in newest.entries.into_iter().rev() {
            if row.seq <= self.floor {
                let entry = self.run.stored(row);
                self.floor = entry.seq - 1;
                self.tail_bytes.change(0, entry.cost());
                self.tail.push_front(entry);
            }
        }
        // What was read may be older than they are.
        changes.iter().for_each(|change| self.apply(change));
    }

    /// Takes the next seq and hands the row to the store.
    pub(super) fn append(
        &mut self,
        draft: &Draft,
        payload: &RawJson,
    ) -> Result<Appended, StoreFull> {
        if let Some(client_ref) = &draft.client_ref
            && let Some(first) = self.refs.get(&self.run, client_ref)
        {
            return Ok(Appended {
                id: self.run.id(first),
                at: SystemTime::now(),
                receipt: Some(self.receipt_of(first).of_duplicate()),
                fate: Fate::Duplicate,
            });
        }
        let asked = draft.receipt || draft.client_ref.is_some();
        let run = match self.next_epoch {
            None => Arc::clone(&self.run),
            Some(epoch) => Arc::new(self.run.next(epoch, self.head)),
        };
        let entry = Arc::new(LogEntry {
            run,
            seq: self.head + 1,
            event: draft.event.clone(),
            payload: payload.detach(),
            client_ref: draft.client_ref.as_deref().map(ByteString::from),
            change: draft.change,
            at: SystemTime::now(),
            begins: self.next_epoch.is_some(),
            receipt: asked.then(|| watch::Sender::new(None)),
        });
        self.rule.store.append(Pending::new(&entry))?;
        if self.next_epoch.take().is_some() {
            self.run = Arc::clone(&entry.run);
        }
        self.head = entry.seq;
        if let Some(client_ref) = &entry.client_ref {
            let now = Instant::now();
            self.refs.insert(&self.run, client_ref, entry.seq, now);
        }
        self.push(Arc::clone(&entry));
        let fate = if self.rule.strict {
            Fate::Waits
        } else {
            self.show(&entry);
            Fate::Shown
        };
        Ok(Appended {
            id: entry.id(),
            at: entry.at,
            receipt: entry.receipt(),
            fate,
        })
    }

    /// Tells when the message with this seq is committed. What is not settled is in the tail.
    fn receipt_of(&self, seq: i64) -> Receipt {
        let pending = self.position(seq).and_then(|at| self.tail[at].receipt());
        pending.unwrap_or_else(|| Receipt::stored(self.run.id(seq)))
    }

    /// Keeps the broadcast of the message that was appended last until it is committed.
    pub(super) fn wait(&mut self, broadcast: Arc<Broadcast>) {
        if let Some(entry) = self.tail.back() {
            self.waiting.push_back((Arc::clone(entry), broadcast));
        }
    }

    /// The fate of a message that is not simply committed: returns what members are to be sent
    /// now. Every message before it is settled.
    pub(super) fn settled(
        &mut self,
        epoch: i64,
        seq: i64,
        outcome: Outcome,
    ) -> Option<Arc<Broadcast>> {
        if epoch != self.run.epoch {
            return None;
        }
        if outcome != Outcome::Committed {
            self.forget(seq, outcome);
        }
        let (entry, broadcast) = self.waiting.pop_front_if(|(entry, _)| entry.seq == seq)?;
        if outcome != Outcome::Committed {
            return None;
        }
        self.show(&entry);
        Some(broadcast)
    }

    /// Members see this message now, and what it changes is changed.
    fn show(&mut self, entry: &LogEntry) {
        self.shown = entry.seq;
        self.apply(entry);
    }

    /// Does to the tail what a change does.
    fn apply(&mut self, entry: &LogEntry) {
        match entry.change {
            None => {}
            Some(Change::Delete { target }) => self.remove(target),
            Some(Change::Update { target }) => self.replace(target, entry),
        }
    }

    /// Takes a message that will not be stored out of the tail.
    fn forget(&mut self, seq: i64, outcome: Outcome) {
        if let Some(at) = self.position(seq) {
            if let Some(client_ref) = &self.tail[at].client_ref {
                match outcome {
                    Outcome::Committed => {}
                    Outcome::DuplicateOf(first) => {
                        let now = Instant::now();
                        self.refs.insert(&self.run, client_ref, first.seq, now);
                    }
                    Outcome::Rejected => self.refs.forget(&self.run, client_ref, seq),
                }
            }
            self.remove(seq);
        }
    }

    fn position(&self, seq: i64) -> Option<usize> {
        self.tail.binary_search_by_key(&seq, |entry| entry.seq).ok()
    }

    fn remove(&mut self, seq: i64) {
        if let Some(at) = self.position(seq)
            && let Some(entry) = self.tail.remove(at)
        {
            self.tail_bytes.change(entry.cost(), 0);
        }
    }

    /// The message with this seq has the payload that `change` carries.
    fn replace(&mut self, seq: i64, change: &LogEntry) {
        let (Some(at), Some(payload)) = (self.position(seq), change.updated_payload()) else {
            return;
        };
        let old = &self.tail[at];
        let new = Arc::new(LogEntry {
            run: Arc::clone(&old.run),
            seq,
            event: old.event.clone(),
            payload,
            client_ref: old.client_ref.clone(),
            change: None,
            at: old.at,
            begins: false,
            // Whoever waits for the message waits on.
            receipt: old.receipt.clone(),
        });
        self.tail_bytes.change(old.cost(), new.cost());
        self.tail[at] = new;
    }

    /// The newest messages, at most `limit` and what the rule allows.
    pub(super) fn history(&self, limit: Option<usize>) -> Backlog {
        let limit = limit.map_or(self.rule.history, |limit| limit.min(self.rule.history));
        let (_, max_bytes) = self.rule.tail();
        let mut bytes = 0;
        let newest = self
            .tail
            .iter()
            .rev()
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
            resumed: false,
            entries,
        }
    }

    /// What a client that has seen everything up to `last_seen` has missed, if it is in the tail;
    /// the ordinary history when the gap cannot be filled. `None` when it begins below the floor.
    pub(super) fn resume(&self, last_seen: MessageId, limit: Option<usize>) -> Option<Backlog> {
        match self.locate(last_seen) {
            Cursor::Lost => Some(self.history(limit)),
            Cursor::BelowFloor => None,
            Cursor::InTail => Some(Backlog {
                head: Some(self.run.id(self.shown)),
                resumed: true,
                entries: self.after(last_seen.seq),
            }),
        }
    }

    /// The messages after this seq, which is not below the floor.
    fn after(&self, seq: i64) -> Vec<Arc<LogEntry>> {
        let first = self.tail.partition_point(|entry| entry.seq <= seq);
        let missed = self.tail.range(first..);
        missed
            .take_while(|entry| entry.seq <= self.shown)
            .cloned()
            .collect()
    }

    /// Whether a client that has seen this message last gets the history instead of what it missed.
    pub(super) fn is_lost(&self, last_seen: MessageId) -> bool {
        self.locate(last_seen) == Cursor::Lost
    }

    fn locate(&self, last_seen: MessageId) -> Cursor {
        let holds = last_seen.epoch == self.run.epoch || self.run.past.resumes(last_seen);
        let known = holds && (self.pruned_through..=self.shown).contains(&last_seen.seq);
        let missed = self.shown.saturating_sub(last_seen.seq);
        if !known || usize::try_from(missed).is_ok_and(|missed| missed > self.rule.resume_limit) {
            return Cursor::Lost;
        }
        if last_seen.seq >= self.floor {
            Cursor::InTail
        } else {
            Cursor::BelowFloor
        }
    }

    /// Whether this id may be that of a message of this topic.
    fn may_name(&self, id: MessageId) -> bool {
        id.epoch == self.run.epoch || self.run.past.may_name(id, self.opened_at)
    }

    /// Where the message with this id is. Two runs that do not know of each other may have given the
    /// same seq, one of them before the database was restored.
    pub(super) fn find(&self, id: MessageId) -> Found {
        let seq = id.seq;
        if !self.may_name(id) {
            return Found::Nothing;
        }
        if seq <= self.floor {
            return Found::Below(self.pager());
        }
        match self.position(seq) {
            Some(at) if seq <= self.shown => Found::Entry(Arc::clone(&self.tail[at])),
            _ => Found::Nothing,
        }
    }

    /// How a resume goes on from a cursor that is below the floor.
    pub(super) fn pager(&self) -> Pager {
        Pager {
            rule: Arc::clone(&self.rule),
            run: Arc::clone(&self.run),
            floor: self.floor,
            shown: self.shown,
        }
    }

    pub(super) fn id_of(&self, seq: i64) -> MessageId {
        self.run.id(seq)
    }

    pub(super) fn is_pruned_after(&self, seq: i64) -> bool {
        self.pruned_through > seq
    }

    /// Messages up to this seq are gone.
    pub(super) fn prune(&mut self, through: i64) {
        self.pruned_through = self.pruned_through.max(through);
        while let Some(oldest) = self.tail.front()
            && oldest.seq <= through
        {
            self.pop_oldest();
        }
    }

    /// Takes a seq that no message gets, and before which no resume begins any more.
    pub(super) fn begin_erasure(&mut self) -> MessageId {
        self.head += 1;
        self.pruned_through = self.head;
        self.run.id(self.head)
    }

    /// The store has noted the seq of an erasure, so that it is not given again after a crash.
    pub(super) fn erased(&mut self, seq: i64) {
        // Strict: what is not shown yet comes before it.
        if self.waiting.is_empty() {
            self.shown = self.shown.max(seq);
        }
    }

    /// These messages are gone.
    pub(super) fn erase(&mut self, seqs: &[i64]) {
        seqs.iter().for_each(|&seq| self.remove(seq));
    }

    /// The run has ended, if it had begun.
    pub(super) fn close(&self) {
        if self.next_epoch.is_none() {
            let last = MessageId {
                epoch: self.run.epoch,
                seq: self.head,
            };
            self.rule.store.close(&self.run.topic, last);
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.tail_bytes.get()
    }

    /// Whether the tail must be filled again before it can give a history.
    pub(super) fn is_shed(&self) -> bool {
        self.is_shed
    }

    /// The store could not be read: the tail does with what it has.
    pub(super) fn do_without(&mut self) {
        self.is_shed = false;
    }

    /// The newest message before this seq, if its row is not settled.
    pub(super) fn newest_unsettled(&self, before: i64) -> Option<i64> {
        // What is not settled is in the tail.
        let end = self.tail.partition_point(|entry| entry.seq < before);
        let newest = self.tail.get(end.checked_sub(1)?)?;
        (newest.seq > self.run.settled()).then_some(newest.seq)
    }

    fn push(&mut self, entry: Arc<LogEntry>) {
        self.tail_bytes.change(0, entry.cost());
        self.tail.push_back(entry);
        let (messages, bytes) = self.rule.tail();
        self.shrink(messages, bytes);
        if self.tail_bytes.is_too_much() {
            let floor = self.floor;
            self.shrink(messages, CROWDED_BYTES);
            if self.floor > floor {
                (self.is_shed, self.filled) = (true, false);
            }
        }
    }

    /// Lets go of the oldest rows that are committed, down to so much.
    fn shrink(&mut self, messages: usize, bytes: usize) {
        // A row that is committed may still have to be shown.
        let done = self.run.settled().min(self.shown);
        while let Some(oldest) = self.tail.front()
            && oldest.seq <= done
            && (self.tail.len() > messages || self.tail_bytes.get() > bytes)
        {
            self.pop_oldest();
        }
    }

    fn pop_oldest(&mut self) {
        if let Some(oldest) = self.tail.pop_front() {
            self.tail_bytes.change(oldest.cost(), 0);
            self.floor = oldest.seq;
        }
    }
}

impl Run {
    /// An entry that the store has given back.
    fn stored(self: &Arc<Self>, row: StoredEntry) -> Arc<LogEntry> {
        Arc::new(LogEntry {
            run: Arc::clone(self),
            seq: row.seq,
            event: row.event.into(),
            payload: RawJson::trusted(row.payload.into()),
            client_ref: row.client_ref.map(ByteString::from),
            // What it does to its target is done.
            change: row.target.map(|target| Change::Update { target }),
            at: row.at,
            begins: false,
            receipt: None,
        })
    }
}

/// Reads what a resume has missed from the store, a page at a time.
pub(crate) struct Pager {
    rule: Arc<LogRule>,
    run: Arc<Run>,
    floor: i64,
    shown: i64,
}

impl Pager {
    /// What comes after this seq is in memory.
    pub(crate) fn floor(&self) -> i64 {
        self.floor
    }

    /// The messages after this seq that members have been shown, oldest first; as many as make a page.
    pub(crate) async fn page(&self, after: i64) -> Result<Vec<Arc<LogEntry>>, LoadError> {
        let mut page = self.read(after, PAGE_ROWS).await?;
        page.retain(|entry| entry.seq <= self.shown);
        Ok(page)
    }

    /// The id of a message that members had been shown when this pager was made.
    pub(crate) fn id_of(&self, seq: i64) -> MessageId {
        self.run.id(seq)
    }

    /// The message with this seq, if it is there.
    pub(super) async fn find(&self, seq: i64) -> Result<Option<Arc<LogEntry>>, LoadError> {
        let next = self.read(seq.saturating_sub(1), 1).await?;
        Ok(next.into_iter().find(|entry| entry.seq == seq))
    }

    async fn read(&self, after: i64, rows: usize) -> Result<Vec<Arc<LogEntry>>, LoadError> {
        let store = &self.rule.store;
        let rows = store.page(&self.run.topic, after, rows, PAGE_BYTES).await?;
        Ok(rows.into_iter().map(|row| self.run.stored(row)).collect())
    }
}
