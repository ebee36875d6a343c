//! [`Run`]: a run of a topic's sequence, as its messages share it.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Weak};

use super::id::{Epoch, MessageId, Seq};
use super::past::PastRuns;
use super::topic_log::LogOwner;

/// One run of a topic's sequence, shared by its entries.
pub(super) struct Run {
    pub(super) topic: Arc<str>,
    pub(super) epoch: Epoch,
    /// The epoch under which client_refs are remembered: that of the next run until that run begins.
    pub(super) refs_epoch: Epoch,
    /// Earlier runs.
    pub(super) past: PastRuns,
    /// Every message up to this seq is settled.
    settled: AtomicI64,
    /// Notified when a message is settled.
    pub(super) owner: Weak<dyn LogOwner>,
    /// Whether members see a message only once it is committed.
    pub(super) strict: bool,
    /// Whether the nodes of a cluster share the run: then the owner hears of every message that is settled.
    pub(super) shared: bool,
}

impl Run {
    /// Makes a run. Its messages up to `head` are settled.
    pub(super) fn new(
        topic: &Arc<str>,
        epoch: Epoch,
        past: PastRuns,
        head: Seq,
        owner: Weak<dyn LogOwner>,
        strict: bool,
    ) -> Self {
        Self {
            topic: Arc::clone(topic),
            epoch,
            refs_epoch: epoch,
            past,
            settled: AtomicI64::new(head.get()),
            owner,
            strict,
            shared: false,
        }
    }

    /// The same run, which remembers client_refs under the epoch of the next run.
    pub(super) fn with_refs_of(self, refs_epoch: Epoch) -> Self {
        Self { refs_epoch, ..self }
    }

    /// The id of a message: its epoch is that of the run in which the message was sent.
    pub(super) fn id(&self, seq: Seq) -> MessageId {
        let past = self.past.id_of(seq);
        past.unwrap_or(MessageId::new(self.epoch, seq))
    }

    /// The run that follows this one, from the message after `head` on.
    pub(super) fn next(&self, epoch: Epoch, head: Seq) -> Self {
        let mut past = self.past.clone();
        if epoch != self.epoch {
            past.end(MessageId::new(self.epoch, head), true);
        }
        let owner = Weak::clone(&self.owner);
        Self {
            shared: self.shared,
            ..Self::new(&self.topic, epoch, past, head, owner, self.strict)
        }
    }

    /// The same run, whose owner does not hear of what is settled.
    #[cfg(feature = "_cluster")]
    pub(super) fn unowned(&self) -> Self {
        let (epoch, past, head) = (self.epoch, self.past.clone(), self.settled());
        let owner = Weak::clone(&self.owner);
        Self::new(&self.topic, epoch, past, head, owner, self.strict)
    }

    /// The last seq up to which every message is settled.
    pub(super) fn settled(&self) -> Seq {
        Seq::new(self.settled.load(Ordering::Acquire))
    }

    /// Marks the message at `seq`, and every message before it, as settled.
    pub(super) fn settle(&self, seq: Seq) {
        self.settled.fetch_max(seq.get(), Ordering::AcqRel);
    }
}
