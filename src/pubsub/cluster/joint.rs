//! [`Joint`]: a topic that the nodes of a cluster have in common, as this node sees it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::timeout;

use super::following::{self, StrictFollower};
use super::message;
use super::node::{Node, PATIENCE};
use crate::cluster::Away;
use crate::cluster::follower::Follower;
use crate::cluster::replica::{Limits, Replica};
use crate::lock::lock;
use crate::log::{
    Appended, Epoch, First, JUMP, LoadError, LogRule, MessageId, OpenedRun, Pending, Placed,
    Receipt, Seq, StoredEntry, TopicLog,
};
use crate::pubsub::cluster::message::Arrived;
use crate::pubsub::topic::TopicState;
use crate::pubsub::{Topic, Want};

/// Messages that arrive while older ones are read.
const BUFFER: usize = 10_000;
/// How long the journal of a log's beginning stands in for the present one.
const BEGUN: Duration = Duration::from_secs(1);
/// The most bytes of its payloads, which wait for a history that may never be read.
const BEGUN_BYTES: usize = 256_000;

/// Follows a topic's log.
pub(crate) type TopicReplica = Box<Replica<Arrived>>;

/// See the module.
pub(crate) struct Joint {
    pub(super) node: Arc<Node>,
    /// Whether members have everything that this node knows of.
    stands: watch::Sender<bool>,
    /// Whether this node has asked the bus for the topic's messages.
    asked: AtomicBool,
    /// Whether a worker has too much to send to members: see [`Node::pause`].
    pub(super) is_paused: AtomicBool,
    begun: Mutex<Option<Begun>>,
}

/// The journal with which a log has begun here. The first history is read right after it, and needs it, too.
struct Begun {
    since: Instant,
    entries: Vec<StoredEntry>,
}

impl Joint {
    pub(in crate::pubsub) fn new(node: &Arc<Node>) -> Self {
        Self {
            node: Arc::clone(node),
            stands: watch::Sender::new(false),
            asked: AtomicBool::new(false),
            is_paused: AtomicBool::new(false),
            begun: Mutex::default(),
        }
    }

    /// The log begins here after this journal.
    pub(super) fn begin_with(&self, epoch: Epoch, journal: Vec<(Seq, Arrived)>) {
        let bytes: usize = journal.iter().map(|(_, arrived)| arrived.len()).sum();
        *lock(&self.begun) = (bytes <= BEGUN_BYTES).then(|| Begun {
            since: Instant::now(),
            entries: message::rows(epoch, journal),
        });
    }

    /// The journal with which the log has begun, if its history has everything that came after it. Once.
    pub(super) fn take_begun(&self) -> Option<Vec<StoredEntry>> {
        let begun = lock(&self.begun).take()?;
        (begun.since.elapsed() < BEGUN).then_some(begun.entries)
    }

    /// The history has lost messages, or some were erased: the next one begins with the journal as it is then.
    pub(in crate::pubsub) fn forget_begun(&self) {
        *lock(&self.begun) = None;
    }

    /// The node, through which the topic's messages go.
    pub(in crate::pubsub) fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Follows the log of a topic, if the bus gives its order. `shown`: the last message that members have.
    pub(in crate::pubsub) fn replica(
        &self,
        rule: &LogRule,
        shown: Option<MessageId>,
    ) -> Option<TopicReplica> {
        if self.node.is_strict(rule) {
            return None;
        }
        let limits = Limits {
            resume: rule.most_missed(),
            buffer: BUFFER,
        };
        let replica = Replica::after(shown, (self.node.id, self.node.nonce()), limits);
        Some(Box::new(replica))
    }

    /// Follows the log of a topic, if the database gives its order. `shown`: the last message that members have.
    pub(in crate::pubsub) fn strict_follower(
        &self,
        rule: &LogRule,
        shown: Option<Seq>,
    ) -> Option<StrictFollower> {
        let is_strict = self.node.is_strict(rule);
        is_strict.then(|| following::follower(rule, shown, self.node.nonce()))
    }

    /// Whether this node has asked the bus for the topic's messages.
    pub(super) fn has_asked(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }

    /// Asks the bus for the topic's messages.
    pub(in crate::pubsub) fn attach(&self, topic: &str) {
        if !self.asked.swap(true, Ordering::AcqRel)
            && let Some(bus) = self.node.bus()
        {
            bus.attach(topic);
        }
    }

    /// The topic is out of memory.
    pub(in crate::pubsub) fn detach(&self, topic: &str) {
        self.node.forget_silent(topic);
        if self.asked.load(Ordering::Acquire)
            && let Some(bus) = self.node.bus()
        {
            bus.detach(topic);
        }
    }

    /// Waits until the topic's messages arrive here, and nothing is missing.
    ///
    /// # Errors
    /// If the bus is away for too long.
    pub(in crate::pubsub) async fn ready(&self, topic: &str) -> Result<(), LoadError> {
        self.attach(topic);
        if self.node.away_since().is_some()
            && let Some(topic) = self.node.topic(topic)
        {
            self.node.go_on_alone(&topic);
        }
        self.stands(topic).await
    }

    /// Waits until nothing is missing here.
    ///
    /// # Errors
    /// If the bus is away for too long.
    pub(super) async fn stands(&self, topic: &str) -> Result<(), LoadError> {
        let is_strict = self.node.is_strict_topic(topic);
        // A strict topic is read without the bus.
        let patience = if is_strict {
            PATIENCE
        } else {
            self.node.patience()
        };
        let mut stands = self.stands.subscribe();
        let stands = timeout(patience, stands.wait_for(|stands| *stands));
        match stands.await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(LoadError {
                topic: topic.to_owned(),
                source: Box::new(Away),
            }),
        }
    }
}

impl Topic {
    pub(super) fn stands(&self, stands: bool) {
        if let Some(joint) = self.joint() {
            joint.stands.send_replace(stands);
        }
    }

    /// Waits until this node has shown what a client has seen on another, so that it can resume here.
    ///
    /// # Errors
    /// If the bus is away for too long. The client can resume later, or from another node.
    pub(crate) async fn reach(self: &Arc<Self>, want: Want) -> Result<(), LoadError> {
        let (Some(joint), Want::Resume(seen, _)) = (self.joint(), want) else {
            return Ok(());
        };
        if self.lock().has_shown(seen) {
            return Ok(());
        }
        joint.node.drive(self, |replica, _, out| replica.look(out));
        joint.node.follow(self, Follower::look);
        // An id that no node has given gets the history then.
        joint.stands(self.name()).await
    }

    pub(super) fn is_in_run(&self, epoch: Epoch) -> bool {
        let state = self.lock();
        let log = state.log.as_ref();
        log.is_some_and(|log| log.is_in_run_of(epoch))
    }

    /// The message that a retry repeats.
    pub(super) fn first(&self, id: MessageId) -> First {
        let state = self.lock();
        let log = state.log.as_ref();
        log.map_or(First::Unknown, |log| log.first(id.seq))
    }
}

impl TopicState {
    /// Whether members were sent this message, or the message is of no run that this node knows.
    pub(super) fn has_shown(&self, seen: MessageId) -> bool {
        self.log.as_ref().is_none_or(|log| log.has_shown(seen))
    }

    /// Whether it is a strict topic that members can follow.
    pub(super) fn is_open(&self) -> bool {
        self.strict.as_ref().is_some_and(|it| it.is_open())
    }

    /// Whether the log's run has ended with the bus's server, and one that has come to `head` is the next: who opened
    /// that one has waited for what all nodes had of this one.
    pub(super) fn is_followed_by(&self, head: Seq) -> bool {
        let mut log = self.log.iter().filter(|_| self.run_has_ended);
        log.any(|log| head < log.head().plus(JUMP + JUMP / 2))
    }

    /// The log goes on in another run, or begins with it.
    pub(super) fn enter_run(&mut self, topic: &Arc<Topic>, run: OpenedRun) {
        self.run_has_ended = false;
        if let Some(log) = &mut self.log {
            return log.renew(run);
        }
        // A `Weak` must be made with its own type before it can become a trait object.
        let owner: Weak<Topic> = Arc::downgrade(topic);
        self.log = topic.rule.as_ref().map(|rule| {
            let refs = Arc::clone(&topic.refs);
            TopicLog::in_shared_run(topic.shared_name(), owner, rule, refs, run)
        });
    }

    /// The replica goes on after this message. The log may have been made at an earlier place, which was read before
    /// the connection was lost.
    pub(super) fn begin_at(&mut self, topic: &Topic, at: MessageId) {
        if self.log.as_ref().is_some_and(|log| log.head() != at.seq) {
            self.skip_to(topic, at);
        }
    }

    /// Adds a message after all others. `None` without a log.
    pub(super) fn place(
        &mut self,
        topic: &Topic,
        placed: Placed,
    ) -> Option<(Appended, Option<Pending>)> {
        let log = self.log.as_mut()?;
        let done = log.place(placed);
        topic.note_shed(log);
        Some(done)
    }

    pub(super) fn place_erasure(&mut self, erasure: Seq) {
        if let Some(log) = &mut self.log {
            log.place_erasure(erasure);
        }
    }

    /// The row of a message that members here do not get, and its receipt if one is wanted.
    pub(super) fn row(&self, placed: Placed) -> Option<(Option<Receipt>, Pending)> {
        self.log.as_ref().map(|log| log.row(placed))
    }

    /// The row of another node's message, of which this node does not hear when it is stored.
    pub(super) fn unowned_row(&self, placed: Placed) -> Option<Pending> {
        self.log.as_ref().map(|log| log.unowned_row(placed))
    }

    /// The history begins anew after this message.
    pub(super) fn skip_to(&mut self, topic: &Topic, at: MessageId) {
        if let Some(log) = &mut self.log {
            log.skip_to(at.seq);
            topic.note_shed(log);
        }
    }
}
