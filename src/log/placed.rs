//! A log in a cluster: messages arrive with the place that the cluster has given them.

use std::sync::{Arc, Weak};
use std::time::SystemTime;

use bytestring::ByteString;
use tokio::sync::watch;

use super::entry::{Change, LogEntry, Pending};
use super::id::{Epoch, MessageId, Seq};
use super::receipt::Receipt;
use super::refs::RecentRefs;
use super::rule::LogRule;
use super::sequence::Run;
use super::store::OpenedRun;
use super::tail::Tail;
use super::topic_log::{Appended, LogOwner, TopicLog, Visibility};
use crate::message::RawJson;
use crate::trace::Traced;

/// A message that has its place.
pub(crate) struct Placed {
    pub(crate) id: MessageId,
    pub(crate) event: ByteString,
    pub(crate) payload: RawJson,
    pub(crate) client_ref: Option<ByteString>,
    pub(crate) change: Option<Change>,
    /// When it was published.
    pub(crate) at: SystemTime,
    /// What only the publisher's node knows; `None` on the others.
    pub(crate) own: Option<OwnPlaced>,
}

/// The publisher's side of a message.
#[derive(Clone, Default)]
pub(crate) struct OwnPlaced {
    /// Whether a receipt is wanted.
    pub(crate) receipt: bool,
    pub(crate) traced: Traced,
}

/// The first message of a client_ref, whose outcome a retry is told.
pub(crate) enum First {
    /// This node stores it.
    Awaited(Receipt),
    /// Another node stores it, or has. The row is for this node's store.
    Foreign(Receipt, Pending),
    /// It is not in memory.
    Unknown,
}

impl<W> TopicLog<W> {
    /// The log of a topic whose run the nodes of a cluster share.
    pub(crate) fn in_shared_run(
        topic: &Arc<str>,
        owner: Weak<dyn LogOwner>,
        rule: &Arc<LogRule>,
        refs: Arc<RecentRefs>,
        opened: OpenedRun,
    ) -> Self {
        let mut log = Self::in_run(topic, owner, rule, refs, opened);
        log.share_run();
        log
    }

    /// The cluster has begun another run, at a head that no message of this log has reached.
    pub(crate) fn renew(&mut self, opened: OpenedRun) {
        let OpenedRun {
            epoch,
            past,
            head,
            pruned_through,
            ..
        } = opened;
        let owner = Weak::clone(&self.run.owner);
        let run = Run::new(&self.run.topic, epoch, past, head, owner, self.run.strict);
        // Clients repeat what the death of the bus's server has left in doubt.
        self.run = Arc::new(run.with_refs_of(self.run.refs_epoch));
        self.share_run();
        self.prune(pruned_through);
    }

    /// No message of the log begins the run: it has begun in the cluster.
    fn share_run(&mut self) {
        self.next_epoch = None;
        if let Some(run) = Arc::get_mut(&mut self.run) {
            run.shared = true;
        }
    }

    /// Whether the log is in the run of this epoch.
    pub(crate) fn is_in_run_of(&self, epoch: Epoch) -> bool {
        self.run.epoch == epoch
    }

    /// Adds a message after all others, and shows it. A message of this node's own comes with the row for the store.
    pub(crate) fn place(&mut self, placed: Placed) -> (Appended, Option<Pending>) {
        let is_own = placed.own.is_some();
        let entry = Arc::new(self.entry(placed));
        self.head = entry.seq;
        if is_own {
            self.last_own = entry.seq;
        }
        self.remember_ref(&entry);
        self.push(Arc::clone(&entry));
        self.show(&entry);
        let appended = Appended {
            meta: entry.meta(),
            payload: None,
            receipt: entry.receipt(),
            visibility: Visibility::Now,
        };
        (appended, is_own.then(|| Pending::new(&entry)))
    }

    /// The row of a message that is not shown here, and its receipt if one is wanted.
    pub(crate) fn row(&self, placed: Placed) -> (Option<Receipt>, Pending) {
        let entry = Arc::new(self.entry(placed));
        (entry.receipt(), Pending::new(&entry))
    }

    /// The row of a message that another node stores, too. The topic does not hear when it is stored.
    pub(crate) fn unowned_row(&self, placed: Placed) -> Pending {
        let entry = LogEntry {
            run: Arc::new(self.run.unowned()),
            ..self.entry(placed)
        };
        Pending::new(&Arc::new(entry))
    }

    fn entry(&self, placed: Placed) -> LogEntry {
        let Placed {
            id,
            event,
            payload,
            client_ref,
            change,
            at,
            own,
        } = placed;
        let asked = |own: &OwnPlaced| own.receipt || client_ref.is_some();
        let receipt = own.as_ref().filter(|own| asked(own));
        LogEntry {
            run: Arc::clone(&self.run),
            seq: id.seq,
            event,
            payload,
            change,
            at,
            begins: false,
            receipt: receipt.map(|_| watch::Sender::new(None)),
            traced: own.map_or_else(Traced::default, |own| own.traced),
            client_ref,
        }
    }

    /// The message at `seq`, of which somebody sends a retry.
    pub(crate) fn first(&self, seq: Seq) -> First {
        match self.tail.get(seq) {
            Some(entry) => match entry.receipt() {
                Some(receipt) => First::Awaited(receipt),
                // What a change does is not known of one that was read from the database.
                None if entry.change.is_some() => First::Unknown,
                None => {
                    let (receipt, row) = entry.awaited();
                    First::Foreign(receipt, row)
                }
            },
            None => First::Unknown,
        }
    }

    /// The id of the last message of this log, or of the place where it begins.
    pub(crate) fn head_id(&self) -> MessageId {
        MessageId::new(self.run.epoch, self.head)
    }

    /// The last seq of this log.
    pub(crate) fn head(&self) -> Seq {
        self.head
    }

    /// Takes the seq of an erasure, which no message gets. From now on no resume begins before it.
    pub(crate) fn place_erasure(&mut self, erasure: Seq) {
        (self.head, self.shown) = (erasure, erasure);
        self.pruned_through = self.pruned_through.max(erasure);
    }

    /// Members have everything up to this seq. The last ones may belong to no message.
    pub(crate) fn reach(&mut self, seq: Seq) {
        (self.head, self.shown) = (self.head.max(seq), self.shown.max(seq));
    }

    /// Messages up to this seq may have been deleted while this server did not hear of it: if it keeps some of them in
    /// memory, they are read again.
    pub(crate) fn forget_deleted(&mut self, pruned_through: Seq) {
        if pruned_through > self.tail.floor() {
            self.tail = Tail::new(self.shown);
            (self.is_shed, self.filled) = (true, false);
        }
        self.pruned_through = self.pruned_through.max(pruned_through);
    }

    /// The history begins anew after this message: it must be read again.
    pub(crate) fn skip_to(&mut self, seq: Seq) {
        (self.head, self.shown, self.last_own) = (seq, seq, seq);
        self.tail = Tail::new(seq);
        (self.is_shed, self.filled) = (true, false);
    }

    /// Whether members have this message, which a client of another node has seen.
    pub(crate) fn has_shown(&self, seen: MessageId) -> bool {
        let is_here = self.run.epoch == seen.epoch && seen.seq <= self.shown;
        is_here || self.run.past.resumes(seen)
    }
}
