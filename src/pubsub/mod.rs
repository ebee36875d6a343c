//! Topics and fan-out: subscribe, publish, and the topic log. Phoenix: `Phoenix.PubSub`.
//!
//! **Publish is one critical section per topic**, so that all members see one order whichever
//! worker they are on: reserve the store's room, take the next seq, append to the tail, enqueue the
//! row, push one message to the inbox of every worker that has members. The publisher's own worker
//! drains its inbox before `publish` returns, which keeps what one channel emits in the order it
//! was made. Nothing else writes broadcasts.

mod erase;
mod fastlane;
mod idle;
mod listener;
mod log;
mod publish;
mod topic;
mod worker;

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[cfg(feature = "_store")]
pub(crate) use self::erase::Erasure;
pub use self::fastlane::Broadcast;
pub(crate) use self::fastlane::{Meta, Subscriber, SubscriberId, Tap, Wire, with_meta};
use self::idle::IdleTopics;
pub use self::listener::{Lagged, Listener};
pub(crate) use self::log::{Backlog, Pager, topic_matches};
pub use self::log::{
    Change, Flushed, InvalidMessageId, LoadError, LogEntry, LogRule, MessageId, MessageStore,
    Newest, NotStored, OpenedRun, PastRuns, Pending, Receipt, StoreFull, Stored, StoredEntry,
};
use self::log::{Found, RecentRefs};
pub use self::publish::{Draft, PublishError, Published};
pub(crate) use self::topic::Topic;
use self::worker::Table;
pub(crate) use self::worker::{Inbox, Subscription};

/// One server's topics. Cloning is cheap and names the same topics; two instances in one process
/// share nothing.
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
    /// Names this instance in the tables of the worker threads.
    id: u64,
    rules: Vec<Arc<LogRule>>,
    topics: Mutex<HashMap<Arc<str>, Arc<Topic>, foldhash::fast::RandomState>>,
    idle: Mutex<IdleTopics>,
    refs: Arc<RecentRefs>,
}

/// What a new member wants of the topic's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// Nothing.
    Nothing,
    /// The newest messages: so many, or as many as the rule says.
    History(Option<usize>),
    /// What came after this message; the history (of at most so many messages) if that cannot be
    /// told.
    Resume(MessageId, Option<usize>),
}

/// What becomes of a subscription.
pub(crate) enum Subscribed {
    /// It stands; with what was wanted, if the topic has a log.
    Live(Subscription, Option<Backlog>),
    /// It does not stand yet: what was missed begins in the database. Read it, and try again from
    /// there.
    Behind(Pager),
}

impl Default for PubSub {
    fn default() -> Self {
        Self::new()
    }
}

impl PubSub {
    /// Topics without a log.
    pub fn new() -> Self {
        Self::with_logs(Vec::new())
    }

    /// Topics of which those that match a rule keep a log; the first rule that matches counts.
    pub fn with_logs(rules: Vec<LogRule>) -> Self {
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        Self {
            shared: Arc::new(Shared {
                id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
                rules: rules.into_iter().map(Arc::new).collect(),
                topics: Mutex::default(),
                idle: Mutex::default(),
                refs: Arc::default(),
            }),
        }
    }

    /// The topic, if anybody can hear it: it has members, or a log.
    fn audience(&self, name: &str) -> Option<Arc<Topic>> {
        if let Some(topic) = self.known(name) {
            return Some(topic);
        }
        let logged = self.shared.rules.iter().any(|rule| rule.matches(name));
        logged.then(|| self.topic(name))
    }

    /// Whether the topic would keep a log that PostgreSQL cannot: its name has a NUL character.
    pub(crate) fn is_unstorable(&self, name: &str) -> bool {
        name.contains('\0') && self.shared.rules.iter().any(|rule| rule.matches(name))
    }

    /// The topic's shared state, made if need be.
    pub(crate) fn topic(&self, name: &str) -> Arc<Topic> {
        let mut topics = lock(&self.shared.topics);
        if let Some(topic) = topics.get(name) {
            return Arc::clone(topic);
        }
        let rule = self.shared.rules.iter().find(|rule| rule.matches(name));
        let name: Arc<str> = name.into();
        let refs = Arc::clone(&self.shared.refs);
        let topic = Arc::new(Topic::new(Arc::clone(&name), rule.cloned(), refs));
        topics.insert(name, Arc::clone(&topic));
        drop(topics);
        // Whoever asked for it may give up before it becomes a member.
        if topic.has_log() {
            self.note_idle(&topic);
        }
        topic
    }

    /// Makes `subscriber` a member of the topic, on this worker thread, until the subscription is
    /// dropped. What was published before is not delivered to it, everything after is; `want` says
    /// what its log gives of the former.
    ///
    /// `None` when the topic was given up since it was looked up, or its log must be loaded again; look
    /// again.
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
        // Deliveries of this topic that wait in the inbox are older than the subscription. While
        // the topic is locked no other can be added.
        table.drain();
        let backlog = match state.backlog(want) {
            Ok(backlog) => backlog,
            Err(pager) => return Some(Subscribed::Behind(pager)),
        };
        state.members.add(table.inbox());
        let key = table.insert(topic, subscriber);
        drop(state);
        let subscription = Subscription::new(self.clone(), table, Arc::clone(topic), key);
        Some(Subscribed::Live(subscription, backlog))
    }

    /// A stored message of a topic: the newest of them may not be committed yet. `None` when there
    /// is no such message, or the topic keeps none. Changes are no messages of this kind.
    ///
    /// # Errors
    /// When the store cannot be read.
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

    /// The stored messages of a topic that stand before one of them, as they are now: the newest
    /// `limit`, at most 250 kB together but one if there is any, oldest first. `None` when the id is of
    /// another run of the topic, or the topic keeps no messages.
    ///
    /// # Errors
    /// When the store cannot be read.
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

    /// Retention deletes the messages of a topic up to this seq from the store, all of which are
    /// settled: a resume from before it is no longer possible, and histories no longer hold them.
    /// Said before they are deleted, so that no resume that is under way leaves them out unnoticed.
    pub(crate) fn pruned(&self, topic: &str, through: i64) {
        if let Some(topic) = self.known(topic) {
            topic.prune(through);
        }
    }

    /// All topics that there are now.
    fn topics(&self) -> Vec<Arc<Topic>> {
        lock(&self.shared.topics).values().cloned().collect()
    }

    fn known(&self, name: &str) -> Option<Arc<Topic>> {
        lock(&self.shared.topics).get(name).cloned()
    }

    /// Hears everything on a topic, on this worker thread, until the subscription is dropped.
    pub(crate) fn subscribe_tap(
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
            // A topic that was given up since it was looked up is looked up again.
            if let Some(Subscribed::Live(subscription, _)) = subscribed {
                return subscription;
            }
        }
    }

    fn id(&self) -> u64 {
        self.shared.id
    }
}

/// Locks. A panic while a lock of this module is held can only be a failed allocation; the data is
/// whole, so the poison is ignored.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
