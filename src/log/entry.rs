//! [`LogEntry`]: one message of a log. [`Pending`]: the same while the store has not settled it.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
#[cfg(any(test, feature = "testing"))]
use std::sync::Weak;
use std::time::SystemTime;

use bytestring::ByteString;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::watch;

#[cfg(any(test, feature = "testing"))]
use super::id::Epoch;
use super::id::{MessageId, Seq};
use super::own_ref::of_client;
#[cfg(any(test, feature = "testing"))]
use super::past::PastRuns;
use super::receipt::{Outcome, Receipt};
use super::sequence::Run;
use super::store::StoredEntry;
#[cfg(any(test, feature = "testing"))]
use super::topic_log::LogOwner;
use crate::message::RawJson;
use crate::trace::Traced;

/// The parts of a stored message's `_meta`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meta {
    pub(crate) id: MessageId,
    /// When it was published.
    pub(crate) at: SystemTime,
}

/// The change that a stored message makes to an earlier one of its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Replaces the payload of the message `target`.
    Update {
        /// The seq of the message to update.
        target: Seq,
    },
    /// Deletes the message `target`.
    Delete {
        /// The seq of the message to delete.
        target: Seq,
    },
}

impl Change {
    /// The seq of the message that is changed.
    pub fn target(self) -> Seq {
        match self {
            Self::Update { target } | Self::Delete { target } => target,
        }
    }

    /// The new payload of an update's target: the member `payload` of the update's own payload. `None` for
    /// a deletion, and if that member is missing.
    pub fn updated_payload(self, payload: &str) -> Option<&str> {
        #[derive(Deserialize)]
        struct Update<'a> {
            #[serde(borrow)]
            payload: &'a RawValue,
        }
        let Self::Update { .. } = self else {
            return None;
        };
        let update: Update<'_> = serde_json::from_str(payload).ok()?;
        Some(update.payload.get())
    }
}

/// One message of a log.
pub struct LogEntry {
    pub(super) run: Arc<Run>,
    pub(super) seq: Seq,
    pub(super) event: ByteString,
    pub(super) payload: RawJson,
    pub(super) client_ref: Option<ByteString>,
    pub(super) change: Option<Change>,
    pub(super) at: SystemTime,
    /// Whether a run begins with this message.
    pub(super) begins: bool,
    /// Sends the outcome to receipts; `None` if nobody asked for one.
    pub(super) receipt: Option<watch::Sender<Option<Outcome>>>,
    /// The span of the broadcast, in whose trace the commit is.
    pub(super) traced: Traced,
}

impl LogEntry {
    /// The topic of the message.
    pub fn topic(&self) -> &str {
        &self.run.topic
    }

    /// The place of the message in its topic.
    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// The id of the message.
    pub fn id(&self) -> MessageId {
        self.run.id(self.seq)
    }

    /// The event of the broadcast.
    pub fn event(&self) -> &str {
        &self.event
    }

    /// The payload as it was sent.
    pub fn payload(&self) -> &RawJson {
        &self.payload
    }

    /// The client's own name for the message. The topic stores each name once.
    pub fn client_ref(&self) -> Option<&str> {
        self.client_ref.as_deref()
    }

    /// The new payload of an update's target.
    pub fn updated_payload(&self) -> Option<RawJson> {
        let payload = self.change?.updated_payload(self.payload.get())?;
        Some(RawJson::trusted(ByteString::from(payload)))
    }

    /// Whether a run begins with this message. A store must commit that the run is open before it commits
    /// the message.
    pub fn begins(&self) -> bool {
        self.begins
    }

    /// Whether members see the message only once it is committed.
    pub fn is_strict(&self) -> bool {
        self.run.strict
    }

    /// The change that the message makes to an earlier one, if any.
    pub fn change(&self) -> Option<Change> {
        self.change
    }

    /// When it was published.
    pub fn at(&self) -> SystemTime {
        self.at
    }

    /// The row to store.
    pub fn to_stored(&self) -> StoredEntry {
        StoredEntry {
            seq: self.seq,
            event: self.event.to_string(),
            payload: self.payload.get().to_owned(),
            target: self.change.map(Change::target),
            at: self.at,
            client_ref: self.client_ref.as_deref().map(str::to_owned),
        }
    }

    /// The id and time of the message.
    pub(crate) fn meta(&self) -> Meta {
        Meta {
            id: self.id(),
            at: self.at,
        }
    }

    /// Whether a receipt or, in a strict log, the members wait for the commit.
    pub fn is_awaited(&self) -> bool {
        self.receipt.is_some() || self.run.strict
    }

    /// See [`Pending::committed`].
    pub(crate) fn mark_committed(&self) {
        self.settle(Outcome::Committed);
    }

    /// See [`Pending::duplicate_of`].
    pub(crate) fn mark_duplicate_of(&self, seq: Seq) {
        self.settle(Outcome::DuplicateOf(self.run.id(seq)));
    }

    /// See [`Pending::rejected`].
    pub(crate) fn mark_rejected(&self) {
        self.settle(Outcome::Rejected);
    }

    fn settle(&self, outcome: Outcome) {
        self.run.settle(self.seq);
        self.traced.record("persist", self.at, |span| {
            span.set("slackir.topic", self.topic());
            span.set("slackir.id", &self.id());
            match outcome {
                Outcome::Committed => {}
                Outcome::DuplicateOf(first) => span.set("slackir.duplicate_of", &first),
                Outcome::Rejected => span.fail("the database rejects the message"),
            }
        });
        let ordinary = outcome == Outcome::Committed && !self.run.strict && !self.run.shared;
        if !ordinary && let Some(owner) = self.run.owner.upgrade() {
            owner.settled(self.run.epoch, self.seq, outcome);
        }
        // Members get the message first, so that nobody holds a receipt for a message that was not sent.
        if let Some(receipt) = &self.receipt {
            receipt.send_replace(Some(outcome));
        }
    }

    /// A receipt for the message; `None` if nobody asked for one.
    pub(super) fn receipt(&self) -> Option<Receipt> {
        let sender = self.receipt.as_ref()?;
        Some(Receipt::pending(self.id(), sender))
    }

    /// An entry as a log makes it of a row, for tests of what takes entries, such as the closure of
    /// [`LogRequest::items`](crate::channel::LogRequest::items).
    ///
    /// ```
    /// use std::time::SystemTime;
    /// use slackir::log::{Epoch, LogEntry, Seq, StoredEntry};
    ///
    /// let row = StoredEntry::new(Seq::new(7), "shout", r#"{"message":"hi"}"#, SystemTime::now());
    /// let entry = LogEntry::of_row("room:lobby", Epoch::new(1), row);
    /// assert_eq!((entry.topic(), entry.event()), ("room:lobby", "shout"));
    /// assert_eq!(entry.id().to_string(), "1-7");
    /// ```
    #[cfg(any(test, feature = "testing"))]
    pub fn of_row(topic: &str, epoch: Epoch, row: StoredEntry) -> Arc<Self> {
        /// Nobody is told of entries that no log has.
        enum Nobody {}
        impl LogOwner for Nobody {
            fn settled(&self, _: Epoch, _: Seq, _: Outcome) {
                match *self {}
            }
        }
        let owner = Weak::<Nobody>::new();
        let run = Run::new(
            &topic.into(),
            epoch,
            PastRuns::default(),
            row.seq,
            owner,
            false,
        );
        Self::stored(&Arc::new(run), row)
    }

    /// Makes an entry of this run from a row of the store.
    pub(super) fn stored(run: &Arc<Run>, row: StoredEntry) -> Arc<Self> {
        Arc::new(Self {
            run: Arc::clone(run),
            seq: row.seq,
            event: row.event.into(),
            payload: RawJson::trusted(row.payload.into()),
            client_ref: of_client(row.client_ref).map(ByteString::from),
            // The change is already applied to its target.
            change: row.target.map(|target| Change::Update { target }),
            at: row.at,
            begins: false,
            receipt: None,
            traced: Traced::default(),
        })
    }

    /// The same message with another payload.
    pub(super) fn with_payload(&self, payload: RawJson) -> Arc<Self> {
        Arc::new(Self {
            run: Arc::clone(&self.run),
            seq: self.seq,
            event: self.event.clone(),
            payload,
            client_ref: self.client_ref.clone(),
            change: None,
            at: self.at,
            begins: false,
            // The publisher's receipt stays valid.
            receipt: self.receipt.clone(),
            traced: Traced::default(),
        })
    }

    /// The same message, for a store that tells its outcome to whoever has a receipt.
    #[cfg(feature = "_cluster")]
    pub(super) fn awaited(&self) -> (Receipt, Pending) {
        let sender = watch::Sender::new(None);
        let receipt = Receipt::pending(self.id(), &sender);
        let entry = Self {
            run: Arc::clone(&self.run),
            seq: self.seq,
            event: self.event.clone(),
            payload: self.payload.clone(),
            client_ref: self.client_ref.clone(),
            change: self.change,
            at: self.at,
            begins: false,
            receipt: Some(sender),
            traced: Traced::default(),
        };
        (receipt, Pending(Arc::new(entry)))
    }

    /// The memory that the entry takes, in bytes.
    pub(super) fn cost(&self) -> usize {
        const OVERHEAD: usize = 192;
        OVERHEAD + self.event.len() + self.payload.get().len()
    }
}

/// A message that its store has not settled: the entry, and the only way to report its outcome. A store
/// calls one of [`committed`](Self::committed), [`duplicate_of`](Self::duplicate_of) and
/// [`rejected`](Self::rejected) for each message, once, in order of seq within a topic.
#[derive(Clone, Debug)]
pub struct Pending(Arc<LogEntry>);

impl Pending {
    pub(super) fn new(entry: &Arc<LogEntry>) -> Self {
        Self(Arc::clone(entry))
    }

    /// Reports that the message is stored.
    pub fn committed(&self) {
        self.mark_committed();
    }

    /// Reports that the message is not stored, because the row of this seq has the same client_ref.
    pub fn duplicate_of(&self, seq: Seq) {
        self.mark_duplicate_of(seq);
    }

    /// Reports that the database rejects the message for good.
    pub fn rejected(&self) {
        self.mark_rejected();
    }

    pub(crate) fn into_entry(self) -> Arc<LogEntry> {
        self.0
    }
}

impl Deref for Pending {
    type Target = LogEntry;

    fn deref(&self) -> &LogEntry {
        &self.0
    }
}

impl fmt::Debug for LogEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (topic, id, event) = (self.topic(), self.id(), self.event());
        write!(f, "{topic}#{id} {event} {:?}", self.payload)
    }
}
