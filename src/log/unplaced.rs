//! [`Unplaced`]: a message whose place the store gives, inside the transaction that commits it.
//!
//! Several servers give places in one topic this way: the store locks the topic, so that places are in the order of
//! commits and a message is never seen before those in front of it.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use bytestring::ByteString;
use futures_core::future::BoxFuture;

use super::entry::Change;
use super::era::ClusterEra;
use super::id::{Epoch, MessageId, Seq};
use super::own_ref::is_own_ref;
use super::store::{LoadError, MessageStore, OpenedRun, StoreFull};

/// Stands in a payload for the id, which nobody knows before the message has its place. No JSON text holds it.
const ID: char = '\0';

/// A message without its place, or an erasure, which takes a place that no message gets.
pub(crate) struct Unplaced {
    pub(crate) topic: Arc<str>,
    /// The publisher's number for it.
    pub(crate) number: u64,
    /// `None` for an erasure.
    pub(crate) message: Option<UnplacedMessage>,
    pub(crate) at: SystemTime,
    /// The era in which the database gives its topic's order; `None` if it always does.
    pub(crate) within: Option<ClusterEra>,
    owner: Weak<dyn PlaceOwner>,
    progress: AtomicU8,
}

/// The message of an [`Unplaced`].
pub(crate) struct UnplacedMessage {
    pub(crate) event: ByteString,
    /// The payload, with [`ID`] in place of the message's id.
    pub(crate) payload: ByteString,
    /// The client's own name for it, or one that the node makes: by it the store recognises a message that it has already.
    pub(crate) client_ref: ByteString,
    pub(crate) change: Option<Change>,
}

/// How far the store has come with an [`Unplaced`].
#[repr(u8)]
enum Progress {
    /// It has not begun.
    Waiting,
    /// A transaction has it.
    Taken,
    /// A commit had no answer: the next transaction finds out.
    InDoubt,
    /// Its publisher waits no longer, and it is not stored.
    Withdrawn,
}

/// Messages of one topic, one after the other, that a transaction has committed.
pub(crate) struct PlacedTogether {
    pub(crate) topic: Arc<str>,
    pub(crate) epoch: Epoch,
    /// The seq before the first.
    pub(crate) prev: Seq,
    /// The last seq.
    pub(crate) head: Seq,
    /// Empty for an erasure, whose seq is `head`.
    pub(crate) messages: Vec<PlacedMessage>,
    /// The erasure.
    pub(crate) erasure: Option<Arc<Unplaced>>,
}

/// A message with its place.
pub(crate) struct PlacedMessage {
    pub(crate) seq: Seq,
    pub(crate) payload: ByteString,
    pub(crate) draft: Arc<Unplaced>,
}

/// What a transaction has done.
#[derive(Default)]
pub(crate) struct Placings {
    /// In order of seq within a topic.
    pub(crate) placed: Vec<PlacedTogether>,
    /// Messages that the store had already, with the ids of the first.
    pub(crate) found: Vec<(Arc<Unplaced>, MessageId)>,
    /// Messages that are not stored, because the bus gives the order of their topics again.
    pub(crate) late: Vec<Arc<Unplaced>>,
}

/// Hears what becomes of messages. Called on the store's thread.
pub(crate) trait PlaceOwner: Send + Sync {
    /// A transaction with new messages of these topics is about to be committed.
    fn committing(&self, topics: &[Arc<str>]);

    /// A transaction is committed.
    fn committed(self: Arc<Self>, placings: Placings);

    /// The message is not stored. `rejected`: the database never takes it; else it was not reached in time.
    fn not_stored(&self, draft: &Unplaced, rejected: bool);
}

/// A store that gives messages their place.
pub(crate) trait PlacingStore: MessageStore {
    /// Queues a message, or refuses it for want of room, or because the database is unreachable.
    ///
    /// # Errors
    /// If it is refused.
    fn place(&self, draft: Arc<Unplaced>) -> Result<(), StoreFull>;

    /// The publisher waits no longer. Whether the message is certainly not stored.
    fn withdraw(&self, draft: &Unplaced) -> bool;

    /// The run of a topic, which is made if the topic has none. It never ends, or not before the era `within`; it is not
    /// made after that era.
    fn open_placing(
        &self,
        topic: &str,
        within: Option<ClusterEra>,
    ) -> BoxFuture<'static, Result<OpenedRun, LoadError>>;

    /// The last seqs of topics. `settled`: waits for transactions that are giving seqs.
    fn heads(
        &self,
        topics: Vec<String>,
        settled: bool,
    ) -> BoxFuture<'static, Result<Vec<(String, Seq)>, LoadError>>;
}

impl Unplaced {
    /// A message of a publisher, who hears by this number what becomes of it.
    pub(crate) fn new(
        (topic, within): (&Arc<str>, Option<ClusterEra>),
        owner: Weak<dyn PlaceOwner>,
        number: u64,
        message: Option<UnplacedMessage>,
    ) -> Self {
        Self {
            topic: Arc::clone(topic),
            number,
            message,
            at: SystemTime::now(),
            within,
            owner,
            progress: AtomicU8::new(Progress::Waiting as u8),
        }
    }

    pub(crate) fn owner(&self) -> Option<Arc<dyn PlaceOwner>> {
        self.owner.upgrade()
    }

    /// The bytes of the payload.
    pub(crate) fn bytes(&self) -> usize {
        self.message.as_ref().map_or(0, |it| it.payload.len())
    }

    /// A transaction begins with it. `false` if it is withdrawn.
    pub(crate) fn take(&self) -> bool {
        self.turn(Progress::Waiting, Progress::Taken);
        self.progress.load(Ordering::Acquire) != Progress::Withdrawn as u8
    }

    /// The transaction was rolled back.
    pub(crate) fn put_back(&self) {
        self.turn(Progress::Taken, Progress::Waiting);
    }

    /// The commit had no answer.
    pub(crate) fn doubt(&self) {
        self.turn(Progress::Taken, Progress::InDoubt);
    }

    /// Whether a commit had no answer.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.progress.load(Ordering::Acquire) == Progress::InDoubt as u8
    }

    /// Nobody waits for it any more. `false` if it may be stored.
    pub(crate) fn withdraw(&self) -> bool {
        self.turn(Progress::Waiting, Progress::Withdrawn)
    }

    fn turn(&self, from: Progress, to: Progress) -> bool {
        let (from, to) = (from as u8, to as u8);
        let turned = self
            .progress
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
        turned.is_ok()
    }
}

impl UnplacedMessage {
    /// The payload of the message with this id.
    pub(crate) fn payload_of(&self, id: MessageId) -> ByteString {
        if self.payload.contains(ID) {
            return self.payload.replace(ID, &id.to_string()).into();
        }
        self.payload.clone()
    }

    /// Whether the server has made its ref.
    pub(crate) fn has_own_ref(&self) -> bool {
        is_own_ref(&self.client_ref)
    }
}

#[cfg(test)]
mod tests {
    use super::super::own_ref::own_ref;
    use super::*;

    struct Nobody;

    impl PlaceOwner for Nobody {
        fn committing(&self, _: &[Arc<str>]) {}
        fn committed(self: Arc<Self>, _: Placings) {}
        fn not_stored(&self, _: &Unplaced, _: bool) {}
    }

    #[test]
    fn a_message_that_may_be_stored_is_not_withdrawn() {
        let draft = || Unplaced::new((&"t".into(), None), Weak::<Nobody>::new(), 1, None);
        let waiting = draft();
        assert!(waiting.withdraw() && !waiting.take());
        let taken = draft();
        assert!(taken.take() && !taken.withdraw());
        taken.put_back();
        assert!(taken.withdraw(), "the transaction was rolled back");
        let in_doubt = draft();
        assert!(in_doubt.take());
        in_doubt.doubt();
        assert!(in_doubt.take() && in_doubt.is_in_doubt());
        in_doubt.put_back();
        assert!(!in_doubt.withdraw(), "an earlier commit had no answer");
    }

    #[test]
    fn a_payload_holds_its_id() {
        let message = UnplacedMessage {
            event: "shout".into(),
            payload: "{\"id\":\"\0\"}".into(),
            client_ref: own_ref(1, 1),
            change: None,
        };
        let id = MessageId::new(Epoch::new(0x2f), Seq::new(17));
        assert_eq!(&*message.payload_of(id), "{\"id\":\"2f-17\"}");
    }
}
