//! Topics and fan-out: subscribe and publish. Phoenix: `Phoenix.PubSub`.
//!
//! **Publish is one critical section per topic**, so that members on all workers see messages in one order.
//! It reserves room at the store, takes the next seq, appends to the log's tail, enqueues the row, and
//! pushes one message into the inbox of every worker with members. The publisher's own worker drains its
//! inbox before `publish` returns, which keeps one channel's messages in order. There is no other way to
//! send a broadcast.

#[cfg(feature = "_cluster")]
mod cluster;
mod draft;
mod erase;
mod fastlane;
mod idle;
mod inspect;
mod listener;
#[cfg(not(feature = "_cluster"))]
mod lone;
mod publish;
mod selector;
mod topic;
mod worker;

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

#[cfg(feature = "_cluster")]
use self::cluster as node;
#[cfg(feature = "_cluster")]
pub(crate) use self::cluster::SeenNode;
#[cfg(feature = "_cluster")]
pub use self::cluster::{Cluster, ClusterError, ClusterOptions, NodeInfo};
pub use self::draft::Draft;
#[cfg(feature = "_store")]
pub(crate) use self::erase::Erasure;
pub use self::fastlane::Broadcast;
pub(crate) use self::fastlane::{Subscriber, SubscriberId, Tap, Wire, with_meta};
use self::idle::IdleTopics;
pub use self::inspect::{ListedTopics, TopicInfo, TopicOrder};
pub use self::listener::{Lagged, Listener};
#[cfg(not(feature = "_cluster"))]
use self::lone as node;
#[cfg(not(feature = "_cluster"))]
pub use self::lone::{Cluster, NodeInfo};
pub(crate) use self::node::Neighbours;
use self::node::{Joint, Node};
#[cfg(feature = "_cluster")]
pub(crate) use self::node::{Part, PartSender};
pub use self::publish::{PublishError, Published};
pub(crate) use self::selector::Labels;
pub use self::selector::{IntoValues, Selector};
pub(crate) use self::topic::Topic;
use self::worker::Table;
pub(crate) use self::worker::{Inbox, Subscription};
use crate::lock::lock;
use crate::log::{Backlog, Found, LoadError, LogEntry, LogRule, MessageId, Pager, RecentRefs, Seq};
use crate::pattern::{ForTopics, TopicPattern, first_match, shadowed};
#[cfg(any(feature = "server", feature = "_cluster"))]
pub use crate::prefix::{InvalidPrefix, InvalidPubSubName};

/// One server's topics. A clone is cheap and refers to the same topics. Two instances in one process share
/// nothing.
///
/// ```
/// use slackir::pubsub::PubSub;
///
/// # actix_rt::System::new().block_on(async {
/// let pubsub = PubSub::new();
/// let nobody_listens = pubsub.broadcast("room:1", "news", serde_json::json!({"n": 1})).await;
/// assert!(nobody_listens.is_ok());
/// # });
/// ```
#[derive(Clone)]
pub struct PubSub {
    shared: Arc<Shared>,
}

named_debug!(PubSub);

struct Shared {
    /// Identifies this instance in the tables of the worker threads.
    id: u64,
    rules: Vec<Arc<LogRule>>,
    topics: Mutex<HashMap<Arc<str>, Arc<Topic>, foldhash::fast::RandomState>>,
    idle: Mutex<IdleTopics>,
    refs: Arc<RecentRefs>,
    /// The cluster that shares the topics; none for a server alone.
    node: OnceLock<Arc<Node>>,
}

/// The part of the topic's log that a new member asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// No messages.
    Nothing,
    /// The newest messages: this many, or the rule's number.
    History(Option<usize>),
    /// The messages after this one; the history, of at most this many messages, if it is unknown which
    /// those are.
    Resume(MessageId, Option<usize>),
}

/// The result of a subscription.
pub(crate) enum Subscribed {
    /// The subscriber is a member; with its backlog, if the topic has a log.
    Live(Subscription, Option<Backlog>),
    /// Not a member yet, because some missed messages are only in the database. Read them with the pager,
    /// then subscribe again from the last of them.
    Behind(Pager),
}

impl Default for PubSub {
    fn default() -> Self {
        Self::new()
    }
}

impl PubSub {
    /// Makes topics without logs.
    pub fn new() -> Self {
        Self::with_logs(Vec::new())
    }

    /// Makes topics that keep a log if a rule matches. The first matching rule counts.
    ///
    /// # Panics
    /// If a rule never matches, because an earlier one matches all its topics.
    pub fn with_logs(rules: Vec<LogRule>) -> Self {
        if let Some((first, later)) = shadowed(&rules) {
            let [first, later] = [first, later].map(|at| rules[at].pattern());
            panic!(
                "no topic comes to the log of \"{later}\": \"{first}\" before it takes them all"
            );
        }
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        Self {
            shared: Arc::new(Shared {
                id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
                rules: rules.into_iter().map(Arc::new).collect(),
                topics: Mutex::default(),
                idle: Mutex::default(),
                refs: Arc::default(),
                node: OnceLock::new(),
            }),
        }
    }

    /// The topic, if it has members or keeps a log.
    fn audience(&self, name: &str) -> Option<Arc<Topic>> {
        if let Some(topic) = self.known(name) {
            return Some(topic);
        }
        self.rule(name).map(|_| self.topic(name))
    }

    /// Whether a log rule matches a topic that PostgreSQL cannot store: its name has a NUL character.
    pub(crate) fn is_unstorable(&self, name: &str) -> bool {
        name.contains('\0') && self.rule(name).is_some()
    }

    /// Changes the most messages of a history and of a resume, as [`LogRule`] has them, for all topics of the rule
    /// with this pattern, open ones included. Of two rules with the pattern the last one changes.
    pub(crate) fn set_log_limits(
        &self,
        pattern: &TopicPattern,
        history: usize,
        resume_limit: usize,
    ) {
        let mut rules = self.shared.rules.iter().rev();
        let Some(rule) = rules.find(|rule| rule.pattern() == pattern) else {
            return;
        };
        let grows = history > rule.history();
        rule.set_bounds(history, resume_limit);
        if !grows {
            return;
        }
        let of_rule = |topic: &&Arc<Topic>| {
            let of = topic.rule.as_ref();
            of.is_some_and(|of| Arc::ptr_eq(of, rule))
        };
        let topics = lock(&self.shared.topics);
        let open: Vec<_> = topics.values().filter(of_rule).cloned().collect();
        drop(topics);
        open.iter().for_each(|topic| topic.read_again());
    }

    fn rule(&self, topic: &str) -> Option<&Arc<LogRule>> {
        first_match(&self.shared.rules, topic)
    }

    /// The topic's shared state. Creates it if it is missing.
    pub(crate) fn topic(&self, name: &str) -> Arc<Topic> {
        let mut topics = lock(&self.shared.topics);
        if let Some(topic) = topics.get(name) {
            return Arc::clone(topic);
        }
        let rule = self.rule(name);
        let name: Arc<str> = name.into();
        let refs = Arc::clone(&self.shared.refs);
        let joint = self.node().map(Joint::new);
        let topic = Arc::new(Topic::new(Arc::clone(&name), rule.cloned(), refs, joint));
        topics.insert(name, Arc::clone(&topic));
        topic.metrics().topics.increment(1.0);
        drop(topics);
        // Until the caller becomes a member, the topic counts as idle: the caller may give up.
        if topic.has_log() {
            self.note_idle(&topic);
        }
        topic
    }

    /// Makes `subscriber` a member of the topic, on this worker thread, until the subscription is dropped.
    /// It receives every later broadcast and no earlier one. `want` is the part of the log that it gets.
    ///
    /// `None` if the topic was evicted since the look-up, or if its log must be loaded again: then look the
    /// topic up again.
    pub(crate) fn subscribe(
        &self,
        topic: &Arc<Topic>,
        subscriber: Subscriber,
        want: Want,
    ) -> Option<Subscribed> {
        let table = Table::current(self);
        let mut state = topic.lock();
        if state.evicted || state.must_load(want) {
            return None;
        }
        // Broadcasts of this topic in the inbox are older than the subscription. The lock keeps others from
        // being added.
        table.drain();
        let backlog = match state.backlog(want) {
            Ok(backlog) => backlog,
            Err(pager) => return Some(Subscribed::Behind(pager)),
        };
        state.members.add(table.inbox());
        state.channels += u32::from(subscriber.fastlane.is_some());
        let key = table.insert(topic, subscriber);
        drop(state);
        let subscription = Subscription::new(self.clone(), table, Arc::clone(topic), key);
        Some(Subscribed::Live(subscription, backlog))
    }

    /// A stored message, committed or pending. `None` if there is no such message, if it is an update or a
    /// deletion, or if the topic keeps no log.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn find(
        &self,
        topic: &str,
        id: MessageId,
    ) -> Result<Option<Arc<LogEntry>>, LoadError> {
        if self.is_unstorable(topic) {
            return Ok(None);
        }
        let topic = self.topic(topic);
        topic.load().await?;
        let found = topic.lock().find(id);
        let entry = match found {
            Found::Entry(entry) => Some(entry),
            Found::Nothing => None,
            Found::Below(pager) => pager.find(id.seq).await?,
        };
        Ok(entry.filter(|entry| entry.change().is_none()))
    }

    /// The newest stored messages before another one, oldest first: at most `limit`, and at most 250 kB
    /// together, but at least one if there is any. They include later updates. `None` if the id does not
    /// belong to this topic, or the topic keeps no log.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn before(
        &self,
        topic: &str,
        id: MessageId,
        limit: usize,
    ) -> Result<Option<Vec<Arc<LogEntry>>>, LoadError> {
        let topic = self.topic(topic);
        topic.load().await?;
        let Some(older) = topic.lock().before(id, limit) else {
            return Ok(None);
        };
        older.page().await.map(Some)
    }

    /// The newest stored messages, as [`before`](Self::before) returns them. `None` if the topic keeps no log.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn newest(
        &self,
        topic: &str,
        limit: usize,
    ) -> Result<Option<Vec<Arc<LogEntry>>>, LoadError> {
        if self.is_unstorable(topic) {
            return Ok(None);
        }
        let topic = self.topic(topic);
        topic.load().await?;
        let Some(newest) = topic.lock().newest(limit) else {
            return Ok(None);
        };
        newest.page().await.map(Some)
    }

    /// Call before retention deletes messages of a topic, up to this seq; all of them must be settled. From
    /// now on no resume begins before that seq, and histories leave those messages out. A running resume
    /// can detect the gap.
    pub(crate) fn pruned(&self, topic: &str, through: Seq) {
        if let Some(topic) = self.known(topic) {
            topic.prune(through);
        }
        if let Some(node) = self.node() {
            node.tell_pruned(topic, through);
        }
    }

    /// Whether this server does a task that one node of a cluster does for all, for so many seconds. A server alone
    /// does it.
    pub(crate) async fn claims(&self, task: &str, seconds: u32) -> bool {
        match self.node() {
            None => true,
            Some(node) => node.claims(task, seconds).await,
        }
    }

    /// All present topics.
    fn topics(&self) -> Vec<Arc<Topic>> {
        lock(&self.shared.topics).values().cloned().collect()
    }

    fn known(&self, name: &str) -> Option<Arc<Topic>> {
        lock(&self.shared.topics).get(name).cloned()
    }

    /// In a cluster: this server as one of its nodes.
    fn node(&self) -> Option<&Arc<Node>> {
        self.shared.node.get()
    }

    /// Sends every broadcast of a topic to `tap`, on this worker thread, until the subscription is dropped.
    pub(crate) fn subscribe_tap(
        &self,
        topic: &str,
        id: SubscriberId,
        tap: &Rc<dyn Tap>,
    ) -> Subscription {
        let subscription = self.subscribe_tap_here(topic, id, tap);
        if let Some(joint) = subscription.topic().joint() {
            joint.attach(topic);
        }
        subscription
    }

    /// As [`subscribe_tap`](Self::subscribe_tap), for a topic of which other nodes of a cluster tell by `disconnect`
    /// alone: the id of a socket.
    pub(crate) fn subscribe_tap_here(
        &self,
        topic: &str,
        id: SubscriberId,
        tap: &Rc<dyn Tap>,
    ) -> Subscription {
        loop {
            let subscriber = Subscriber {
                id,
                fastlane: None,
                intercept: &[],
                tap: Some(Rc::clone(tap)),
            };
            let subscribed = self.subscribe(&self.topic(topic), subscriber, Want::Nothing);
            // The topic was evicted since the look-up: look it up again.
            if let Some(Subscribed::Live(subscription, _)) = subscribed {
                return subscription;
            }
        }
    }

    fn id(&self) -> u64 {
        self.shared.id
    }
}

#[cfg(test)]
mod tests;
