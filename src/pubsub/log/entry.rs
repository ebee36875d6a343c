//! [`LogEntry`]: one stored message on its way to the database, and [`Receipt`]: what became of it.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use bytestring::ByteString;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::sync::watch;

use super::past::PastRuns;
use crate::message::{RawJson, Reply, reason};
use crate::pubsub::Meta;
use crate::pubsub::topic::Topic;

/// Names one stored message of a topic: the epoch that its seq belongs to, and the seq. Clients see
/// it as an opaque string.
///
/// ```
/// use slackir::pubsub::MessageId;
///
/// let id: MessageId = "2f-17".parse().unwrap();
/// assert_eq!((id.epoch, id.seq), (0x2f, 17));
/// assert_eq!(id.to_string(), "2f-17");
/// assert!("2f-x".parse::<MessageId>().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MessageId {
    /// The run of the topic's sequence. Each process begins one with its first message of the topic:
    /// a database that was restored, or whose server was killed, does not know what its clients have
    /// seen since.
    pub epoch: i64,
    /// The place in the topic: increasing, not gapless.
    pub seq: i64,
}

/// The text is no message id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a message id")]
pub struct InvalidMessageId;

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{}", self.epoch, self.seq)
    }
}

impl FromStr for MessageId {
    type Err = InvalidMessageId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (epoch, seq) = text.split_once('-').ok_or(InvalidMessageId)?;
        let id = Self {
            epoch: i64::from_str_radix(epoch, 16).map_err(|_| InvalidMessageId)?,
            seq: seq.parse().map_err(|_| InvalidMessageId)?,
        };
        // One spelling for one message: no signs, no leading zeros.
        if id.epoch < 0 || id.seq < 0 || id.to_string() != text {
            return Err(InvalidMessageId);
        }
        Ok(id)
    }
}

/// What a stored message does to an earlier one of its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It replaces the payload of the message with this seq.
    Update {
        /// Whose payload.
        target: i64,
    },
    /// It deletes the message with this seq.
    Delete {
        /// Which message.
        target: i64,
    },
}

impl Change {
    /// The seq of the message that is changed.
    pub fn target(self) -> i64 {
        match self {
            Self::Update { target } | Self::Delete { target } => target,
        }
    }

    /// What an update makes of its target: the member `payload` of its own payload. `None` for a
    /// deletion, and for a payload without that member.
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

/// What the database made of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::pubsub) enum Outcome {
    Committed,
    /// Not stored again: its client_ref is that of this message.
    DuplicateOf(MessageId),
    Rejected,
}

/// One run of a topic's sequence, shared by its entries.
pub(in crate::pubsub) struct Run {
    pub(in crate::pubsub) topic: Arc<str>,
    pub(in crate::pubsub) epoch: i64,
    /// Under which epoch its client_refs are remembered: that of the run to come, where it has not begun.
    pub(super) refs_epoch: i64,
    /// The runs before it.
    pub(super) past: PastRuns,
    /// Every message up to here is done with; the store moves it.
    pub(super) settled: AtomicI64,
    /// Where a message must be shown or forgotten once its fate is known.
    pub(super) owner: Weak<Topic>,
    /// Whether members see a message only once it is committed.
    pub(super) strict: bool,
}

impl Run {
    /// The id of a message, which keeps that of the run that it was sent in.
    pub(super) fn id(&self, seq: i64) -> MessageId {
        self.past.id_of(seq).unwrap_or(MessageId {
            epoch: self.epoch,
            seq,
        })
    }

    /// The run that begins behind `head`, where everything is settled.
    pub(super) fn next(&self, epoch: i64, head: i64) -> Self {
        let mut past = self.past.clone();
        if epoch != self.epoch {
            let last = MessageId {
                epoch: self.epoch,
                seq: head,
            };
            past.end(last, true);
        }
        Self {
            topic: Arc::clone(&self.topic),
            epoch,
            refs_epoch: epoch,
            past,
            settled: AtomicI64::new(head),
            owner: Weak::clone(&self.owner),
            strict: self.strict,
        }
    }

    pub(super) fn settled(&self) -> i64 {
        self.settled.load(Ordering::Acquire)
    }
}

/// One stored message.
pub struct LogEntry {
    pub(super) run: Arc<Run>,
    pub(super) seq: i64,
    pub(super) event: ByteString,
    pub(super) payload: RawJson,
    pub(super) client_ref: Option<ByteString>,
    pub(super) change: Option<Change>,
    pub(super) at: SystemTime,
    /// Whether its run begins with it.
    pub(super) begins: bool,
    /// Those who wait for the outcome; `None` where nobody may ask.
    pub(super) receipt: Option<watch::Sender<Option<Outcome>>>,
}

impl LogEntry {
    /// The topic it was sent to.
    pub fn topic(&self) -> &str {
        &self.run.topic
    }

    /// Its place in the topic: increasing, not gapless.
    pub fn seq(&self) -> i64 {
        self.seq
    }

    /// What clients know it by.
    pub fn id(&self) -> MessageId {
        self.run.id(self.seq)
    }

    /// What happened.
    pub fn event(&self) -> &str {
        &self.event
    }

    /// The payload as it came, whole.
    pub fn payload(&self) -> &RawJson {
        &self.payload
    }

    /// The client's own name for the message, which is stored once in its topic.
    pub fn client_ref(&self) -> Option<&str> {
        self.client_ref.as_deref()
    }

    /// What an update makes of its target.
    pub fn updated_payload(&self) -> Option<RawJson> {
        let payload = self.change?.updated_payload(self.payload.get())?;
        Some(RawJson::trusted(ByteString::from(payload)))
    }

    /// Whether its run begins with this message. A store commits that the run is open before it commits
    /// the message.
    pub fn begins(&self) -> bool {
        self.begins
    }

    /// Whether members see the message only once it is committed.
    pub fn is_strict(&self) -> bool {
        self.run.strict
    }

    /// What it does to an earlier message, if anything.
    pub fn change(&self) -> Option<Change> {
        self.change
    }

    /// When it was published.
    pub fn at(&self) -> SystemTime {
        self.at
    }

    /// What a client is told of it.
    pub(crate) fn meta(&self) -> Meta {
        Meta {
            id: self.id(),
            at: self.at,
        }
    }

    /// Whether somebody waits until it is committed: who asked for a receipt, or the members of a
    /// topic that shows nothing earlier.
    pub fn is_awaited(&self) -> bool {
        self.receipt.is_some() || self.run.strict
    }

    /// See [`Pending::committed`].
    pub(crate) fn mark_committed(&self) {
        self.settle(Outcome::Committed);
    }

    /// See [`Pending::duplicate_of`].
    pub(crate) fn mark_duplicate_of(&self, seq: i64) {
        self.settle(Outcome::DuplicateOf(self.run.id(seq)));
    }

    /// See [`Pending::rejected`].
    pub(crate) fn mark_rejected(&self) {
        self.settle(Outcome::Rejected);
    }

    fn settle(&self, outcome: Outcome) {
        self.run.settled.fetch_max(self.seq, Ordering::AcqRel);
        let ordinary = outcome == Outcome::Committed && !self.run.strict;
        if !ordinary && let Some(topic) = self.run.owner.upgrade() {
            topic.settled(self.run.epoch, self.seq, outcome);
        }
        // After members have it, so that nobody holds a receipt for what nobody was sent.
        if let Some(receipt) = &self.receipt {
            receipt.send_replace(Some(outcome));
        }
    }

    /// `None` where nobody may ask.
    pub(super) fn receipt(&self) -> Option<Receipt> {
        Some(Receipt {
            id: self.id(),
            duplicate: false,
            outcome: self.receipt.as_ref()?.subscribe(),
        })
    }

    /// What keeping it costs, in bytes.
    pub(super) fn cost(&self) -> usize {
        const OVERHEAD: usize = 192;
        OVERHEAD + self.event.len() + self.payload.get().len()
    }
}

/// A message that its store has not settled yet: the entry, and the only way to say what became of it. A
/// store calls one of [`committed`](Self::committed), [`duplicate_of`](Self::duplicate_of) and
/// [`rejected`](Self::rejected) for each, once, in the order of their seqs in a topic.
#[derive(Clone, Debug)]
pub struct Pending(Arc<LogEntry>);

impl Pending {
    pub(in crate::pubsub) fn new(entry: &Arc<LogEntry>) -> Self {
        Self(Arc::clone(entry))
    }

    /// The message is stored: whoever waits for it is told.
    pub fn committed(&self) {
        self.mark_committed();
    }

    /// The message is not stored again: its client_ref is that of the row of this seq.
    pub fn duplicate_of(&self, seq: i64) {
        self.mark_duplicate_of(seq);
    }

    /// The database will never take this message.
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

/// A message is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The message's id; that of the first one, if this was a retry.
    pub id: MessageId,
    /// Whether it was stored before, under the same client_ref.
    pub duplicate: bool,
}

/// The message will not be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotStored {
    /// The database will never take it.
    #[error("the database rejected the message")]
    Rejected,
    /// The store is gone, or too slow; it may have stored the message.
    #[error("the message was not confirmed")]
    Unconfirmed,
}

/// Tells when a published message is committed.
#[derive(Clone, Debug)]
pub struct Receipt {
    id: MessageId,
    duplicate: bool,
    outcome: watch::Receiver<Option<Outcome>>,
}

impl Receipt {
    /// A receipt of what is stored already.
    pub(super) fn stored(id: MessageId) -> Self {
        // A sender that is gone leaves its last value.
        let (_, outcome) = watch::channel(Some(Outcome::Committed));
        Self {
            id,
            duplicate: false,
            outcome,
        }
    }

    /// The same, for one who asks again.
    pub(super) fn of_duplicate(self) -> Self {
        Self {
            duplicate: true,
            ..self
        }
    }

    /// The id that the message was given.
    pub fn id(&self) -> MessageId {
        self.id
    }

    /// Waits until the message is committed. It may take as long as the database is away: give it
    /// a time limit.
    ///
    /// # Errors
    /// When the database rejected the message, or the store has ended before it said anything.
    pub async fn committed(mut self) -> Result<Stored, NotStored> {
        let outcome = self
            .outcome
            .wait_for(Option::is_some)
            .await
            .map_err(|_| NotStored::Unconfirmed)?;
        let (id, duplicate) = match *outcome {
            Some(Outcome::Committed) => (self.id, self.duplicate),
            Some(Outcome::DuplicateOf(first)) => (first, true),
            Some(Outcome::Rejected) => return Err(NotStored::Rejected),
            None => return Err(NotStored::Unconfirmed),
        };
        Ok(Stored { id, duplicate })
    }

    /// As [`Receipt::committed`], for a client who waits: 10 seconds at most.
    ///
    /// # Errors
    /// As [`Receipt::committed`]; also when the time is over, after which the message may still be
    /// stored.
    pub async fn confirmed(self) -> Result<Stored, NotStored> {
        tokio::time::timeout(CONFIRM_TIMEOUT, self.committed())
            .await
            .unwrap_or(Err(NotStored::Unconfirmed))
    }

    /// What a client is told who wants to know whether its message is stored: ok with its `id`, and
    /// `"duplicate": true` for a retry; error `unconfirmed` when 10 seconds have passed, after
    /// which it may still be stored.
    pub async fn reply(self) -> Reply {
        match self.confirmed().await {
            Ok(Stored {
                id,
                duplicate: false,
            }) => Reply::ok(json!({ "id": id.to_string() })),
            Ok(Stored {
                id,
                duplicate: true,
            }) => Reply::ok(json!({ "id": id.to_string(), "duplicate": true })),
            Err(NotStored::Rejected) => Reply::error_reason(reason::REJECTED),
            Err(NotStored::Unconfirmed) => Reply::error_reason(reason::UNCONFIRMED),
        }
    }
}

/// How long a client waits for its answer.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(10);
