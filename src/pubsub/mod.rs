//! Topics and fan-out: subscribe, publish, and the topic log. Phoenix: `Phoenix.PubSub`.
//!
//! **Publish is one critical section per topic**, so that all members see one order whichever
//! worker they are on: reserve the store's room, take the next seq, append to the tail, enqueue the
//! row, push one message to the inbox of every worker that has members. The publisher's own worker
//! drains its inbox before `publish` returns, which keeps what one channel emits in the order it
//! was made. Nothing else writes broadcasts.

mod fastlane;
mod listener;
mod log;
mod topic;
mod worker;

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytestring::ByteString;

pub use self::fastlane::Broadcast;
pub(crate) use self::fastlane::{Subscriber, SubscriberId, Tap};
pub use self::listener::{Lagged, Listener};
pub(crate) use self::log::{History, topic_matches};
pub use self::log::{
    LoadError, LogEntry, LogRule, LogSnapshot, MessageStore, StoreFull, StoredEntry,
};
pub(crate) use self::topic::Topic;
use self::worker::Table;
pub(crate) use self::worker::{Inbox, Subscription};
use crate::message::{MAX_NAME_LEN, Payload};
use crate::metrics::metrics;

/// How long a topic's log stays loaded after its last member has left.
const IDLE_TOPIC: Duration = Duration::from_secs(300);
/// How many topics without members stay loaded; clients can invent topics.
const MAX_IDLE_TOPICS: usize = 10_000;
/// What the tails of topics without members may hold together.
const MAX_IDLE_BYTES: usize = 64_000_000;

/// Why a broadcast was refused: it was not stored, and nobody received it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The payload must be an object or binary, as every Phoenix client expects.
    #[error("a broadcast carries a JSON object or binary")]
    NotAnObject,
    /// Topic or event do not fit the header of a binary frame.
    #[error("topic and event of a binary broadcast have at most {MAX_NAME_LEN} bytes each")]
    NameTooLong,
    /// The rule of the topic's log says that this event is stored, and bytes have no place there.
    #[error("a stored event carries JSON, not binary")]
    NotStorable,
    /// The store cannot take the message.
    #[error(transparent)]
    StoreFull(#[from] StoreFull),
    /// The topic's log could not be read, so that no seq can be given.
    #[error("the topic's log is not loaded")]
    NotLoaded,
}

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

struct Shared {
    /// Names this instance in the tables of the worker threads.
    id: u64,
    rules: Vec<Arc<LogRule>>,
    topics: Mutex<HashMap<Arc<str>, Arc<Topic>, foldhash::fast::RandomState>>,
    idle: Mutex<IdleTopics>,
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
            }),
        }
    }

    /// Sends a message to every member of a topic, from outside its channels: an HTTP handler, a
    /// background task, another channel. Waits only for the topic's log to be loaded.
    /// Phoenix: `Endpoint.broadcast/3`.
    ///
    /// # Errors
    /// When the message is not one, or the store refuses it; then nobody received it.
    pub async fn broadcast(
        &self,
        topic: &str,
        event: &str,
        payload: impl Into<Payload>,
    ) -> Result<(), PublishError> {
        self.broadcast_as(None, topic, event, payload.into()).await
    }

    /// As [`PubSub::broadcast`], to everybody but `listener`. Phoenix: `broadcast_from/4`.
    ///
    /// # Errors
    /// As [`PubSub::broadcast`].
    pub async fn broadcast_from(
        &self,
        listener: &Listener,
        topic: &str,
        event: &str,
        payload: impl Into<Payload>,
    ) -> Result<(), PublishError> {
        self.broadcast_as(Some(listener.id()), topic, event, payload.into())
            .await
    }

    async fn broadcast_as(
        &self,
        from: Option<SubscriberId>,
        topic: &str,
        event: &str,
        payload: Payload,
    ) -> Result<(), PublishError> {
        let event = ByteString::from(event);
        loop {
            let Some(topic) = self.audience(topic) else {
                return Ok(());
            };
            self.load(&topic)
                .await
                .map_err(|_| PublishError::NotLoaded)?;
            match self.try_publish(&topic, &event, &payload, from) {
                // The topic was given up between look-up and publish: look again.
                Err(Refusal::Evicted) => {}
                Err(Refusal::Error(error)) => return Err(error),
                Ok(None) => return Ok(()),
                // The message is on its way; whoever sends more waits for the slow worker.
                Ok(Some(inbox)) => {
                    poll_fn(|cx| inbox.poll_drained(cx)).await;
                    return Ok(());
                }
            }
        }
    }

    /// Sends an event that no rule stores to those who are there now.
    pub(crate) fn broadcast_live(&self, topic: &str, event: &str, payload: &Payload) {
        let event = ByteString::from(event);
        while let Some(topic) = self.audience(topic) {
            match self.try_publish(&topic, &event, payload, None) {
                Err(Refusal::Evicted) => {}
                Err(Refusal::Error(error)) => {
                    tracing::error!(topic = topic.name(), %event, %error, "pubsub.live.refused");
                    return;
                }
                Ok(_) => return,
            }
        }
    }

    /// The topic, if anybody can hear it: it has members, or a log.
    fn audience(&self, name: &str) -> Option<Arc<Topic>> {
        if let Some(topic) = lock(&self.shared.topics).get(name) {
            return Some(Arc::clone(topic));
        }
        let logged = self.shared.rules.iter().any(|rule| rule.matches(name));
        logged.then(|| self.topic(name))
    }

    /// The topic's shared state, made if need be.
    pub(crate) fn topic(&self, name: &str) -> Arc<Topic> {
        let mut topics = lock(&self.shared.topics);
        if let Some(topic) = topics.get(name) {
            return Arc::clone(topic);
        }
        let rule = self.shared.rules.iter().find(|rule| rule.matches(name));
        let name: Arc<str> = name.into();
        let topic = Arc::new(Topic::new(Arc::clone(&name), rule.cloned()));
        topics.insert(name, Arc::clone(&topic));
        drop(topics);
        // Whoever asked for it may give up before it becomes a member.
        if topic.has_log() {
            self.note_idle(&topic);
        }
        topic
    }

    /// Loads the topic's log, if it has one and it is not loaded yet.
    pub(crate) async fn load(&self, topic: &Arc<Topic>) -> Result<(), LoadError> {
        topic.load().await
    }

    /// Makes `subscriber` a member of the topic, on this worker thread, until the subscription is
    /// dropped. What was published before is not delivered to it, everything after is; `history`
    /// is what its log holds of the former.
    ///
    /// `None` when the topic was given up since it was looked up; look again.
    pub(crate) fn subscribe(
        &self,
        topic: &Arc<Topic>,
        subscriber: Subscriber,
    ) -> Option<(Subscription, Option<History>)> {
        let table = Table::current(self.shared.id);
        let mut state = topic.lock();
        if state.evicted {
            return None;
        }
        // Deliveries of this topic that wait in the inbox are older than the subscription. While
        // the topic is locked no other can be added.
        table.drain();
        let history = state.history();
        state.members.add(table.inbox());
        let key = table.insert(topic, subscriber);
        drop(state);
        Some((
            Subscription::new(self.clone(), table, Arc::clone(topic), key),
            history,
        ))
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
            // A topic that was given up since it was looked up is looked up again.
            if let Some((subscription, _)) = self.subscribe(&self.topic(topic), subscriber) {
                return subscription;
            }
        }
    }

    /// Publishes on behalf of a member of the topic; `from` is left out. Returns the inbox of a
    /// worker that cannot keep up, if there is one.
    pub(crate) fn publish(
        &self,
        topic: &Arc<Topic>,
        event: &ByteString,
        payload: &Payload,
        from: Option<SubscriberId>,
    ) -> Result<Option<Arc<Inbox>>, PublishError> {
        let mut topic = Arc::clone(topic);
        loop {
            match self.try_publish(&topic, event, payload, from) {
                Ok(congested) => return Ok(congested),
                Err(Refusal::Error(error)) => return Err(error),
                // The channel has left, and with it the last member: others may have come since.
                Err(Refusal::Evicted) => match self.audience(topic.name()) {
                    Some(again) => topic = again,
                    None => return Ok(None),
                },
            }
        }
    }

    fn try_publish(
        &self,
        topic: &Arc<Topic>,
        event: &ByteString,
        payload: &Payload,
        from: Option<SubscriberId>,
    ) -> Result<Option<Arc<Inbox>>, Refusal> {
        check(topic, event, payload)?;
        let table = Table::existing(self.shared.id);
        let broadcast = Arc::new(Broadcast::new(topic, event, payload, from));
        let mut congested = None;
        let mut state = topic.lock();
        if state.evicted {
            return Err(Refusal::Evicted);
        }
        state.append(topic, event, payload)?;
        for inbox in state.members.inboxes() {
            let local = table
                .as_ref()
                .is_some_and(|table| Arc::ptr_eq(inbox, table.inbox()));
            if inbox.push(&broadcast, local) {
                congested = Some(Arc::clone(inbox));
            }
        }
        drop(state);
        metrics().broadcasts.increment(1);
        if let Some(table) = table {
            table.drain();
        }
        Ok(congested)
    }

    /// The last member of a worker has left: gives the topic up, now or later.
    fn release(&self, topic: &Arc<Topic>, table: &Table) {
        let mut state = topic.lock();
        state.members.remove(table.inbox());
        if !state.members.is_empty() {
            return;
        }
        if topic.has_log() {
            drop(state);
            self.note_idle(topic);
        } else {
            state.evicted = true;
            drop(state);
            lock(&self.shared.topics).remove(topic.name());
        }
    }

    /// Remembers that a logged topic may be without members, and gives up those that were for too
    /// long, are too many, or hold too much.
    fn note_idle(&self, topic: &Arc<Topic>) {
        let now = Instant::now();
        let mut idle = lock(&self.shared.idle);
        idle.push(Idle {
            since: now,
            bytes: topic.lock().log_bytes(),
            topic: Arc::clone(topic),
        });
        // One round at most: a topic that cannot be given up goes to the end.
        for _ in 0..idle.queue.len() {
            let Some(oldest) = idle.pop_surplus(now) else {
                return;
            };
            if let Some(waits) = self.evict(oldest, now) {
                idle.push(waits);
            }
        }
    }

    /// Forgets a topic without members whose rows are all committed. One with rows on their way is
    /// returned, to wait for another round.
    fn evict(&self, idle: Idle, now: Instant) -> Option<Idle> {
        let mut state = idle.topic.lock();
        if state.evicted || !state.members.is_empty() {
            return None;
        }
        if state.has_uncommitted() {
            drop(state);
            return Some(Idle { since: now, ..idle });
        }
        state.evicted = true;
        drop(state);
        lock(&self.shared.topics).remove(idle.topic.name());
        None
    }
}

/// A logged topic that may be without members.
struct Idle {
    since: Instant,
    topic: Arc<Topic>,
    /// What its tail held then.
    bytes: usize,
}

/// The topics that may be without members, oldest first; one may stand here more than once.
#[derive(Default)]
struct IdleTopics {
    queue: VecDeque<Idle>,
    bytes: usize,
}

impl IdleTopics {
    fn push(&mut self, idle: Idle) {
        self.bytes += idle.bytes;
        self.queue.push_back(idle);
    }

    /// The oldest, if it is time for it to go.
    fn pop_surplus(&mut self, now: Instant) -> Option<Idle> {
        let oldest = self.queue.front()?;
        let surplus = self.queue.len() > MAX_IDLE_TOPICS
            || self.bytes > MAX_IDLE_BYTES
            || now.duration_since(oldest.since) > IDLE_TOPIC;
        if !surplus {
            return None;
        }
        let oldest = self.queue.pop_front()?;
        self.bytes -= oldest.bytes;
        Some(oldest)
    }
}

/// What `try_publish` answers when it does not publish.
enum Refusal {
    Evicted,
    Error(PublishError),
}

impl<E: Into<PublishError>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

/// Refuses what some member could not be sent.
fn check(topic: &Topic, event: &str, payload: &Payload) -> Result<(), PublishError> {
    match payload {
        Payload::Json(json) if json.is_object() => Ok(()),
        Payload::Json(_) => Err(PublishError::NotAnObject),
        Payload::Binary(_) if topic.stores(event) => Err(PublishError::NotStorable),
        Payload::Binary(_) if topic.name().len().max(event.len()) > MAX_NAME_LEN => {
            Err(PublishError::NameTooLong)
        }
        Payload::Binary(_) => Ok(()),
    }
}

/// Locks. A panic while a lock of this module is held can only be a failed allocation; the data is
/// whole, so the poison is ignored.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
