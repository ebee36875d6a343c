//! [`Node`]: this server as a node of a cluster. What is published here goes to the bus, and what the bus says goes to
//! the topics.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant, SystemTime};

use bytestring::ByteString;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};

use super::asking::Asked;
use super::bridge::Bridge;
use super::drive::Begins;
use super::eras::Eras;
use super::message;
use super::old_rows::OldRows;
use super::outstanding::{Outstanding, Publisher, Publishing, RETRY, Sending};
use super::parts::Parts;
use super::peers::Peers;
use super::strict::Strict;
use super::watch::Watch;
use crate::cluster::wire::{Body, Message};
use crate::cluster::{Away, Bus, EndOnPanic, NodeId, Position, ProcessId, Sequencer, To};
use crate::lock::lock;
use crate::log::{MessageId, OwnPlaced, SharedStore};
use crate::message::{DISCONNECT, Payload};
use crate::metrics::count_passed_over;
use crate::pubsub::{Draft, PubSub, PublishError, Shared, SubscriberId, Topic};
use crate::trace::Traced;

/// How long clients wait for the bus, from the beginning of an outage on.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// An outage of the bus in which its server may have died.
const GONE: Duration = Duration::from_millis(300);

/// An outage after which the database may soon give the order.
const LONG_GONE: Duration = Duration::from_secs(3);

/// How many topics may read the database at the same time. When the order of all topics changes, thousands want to, and
/// what all nodes wait for, such as heartbeats and the era, must not stand behind them.
const READS: usize = 8;

/// How many runs may begin at the same time, for which nobody waits. The lock of a topic lasts for seconds only, so a
/// topic must not take it and then stand behind thousands. The database begins many at once.
const BEGINS: usize = 512;

/// See the module.
pub(crate) struct Node {
    pub(super) id: NodeId,
    /// The node's own name.
    pub(super) name: ByteString,
    pub(super) started: SystemTime,
    pub(super) runtime: Handle,
    bus: OnceLock<Arc<dyn Bus>>,
    pubsub: OnceLock<Weak<Shared>>,
    /// The database; `None` if no topic of this program keeps a log.
    pub(super) store: Option<Arc<dyn SharedStore>>,
    pub(super) outstanding: Outstanding,
    pub(super) watch: Watch,
    pub(super) peers: Peers,
    pub(super) asked: Asked,
    pub(super) strict: Strict,
    pub(super) parts: Parts,
    /// The way to a Phoenix application.
    pub(super) bridge: Option<Bridge>,
    /// Whether this node shuts down.
    pub(super) leaving: AtomicBool,
    nonces: AtomicU64,
    /// Since when the bus is down.
    away: Mutex<Option<Instant>>,
    pub(super) old_rows: OldRows,
    pub(super) eras: Eras,
    reads: Semaphore,
    begins: Semaphore,
    begun: Instant,
}

impl Node {
    pub(super) fn new(
        id: NodeId,
        name: ByteString,
        runtime: Handle,
        (store, cluster): (Option<Arc<dyn SharedStore>>, Option<String>),
        bridge: Option<Bridge>,
    ) -> Self {
        Self {
            id,
            name,
            started: SystemTime::now(),
            runtime,
            bus: OnceLock::new(),
            pubsub: OnceLock::new(),
            store,
            outstanding: Outstanding::default(),
            watch: Watch::default(),
            peers: Peers::default(),
            asked: Asked::default(),
            strict: Strict::default(),
            parts: Parts::default(),
            bridge,
            leaving: AtomicBool::new(false),
            nonces: AtomicU64::new(1),
            away: Mutex::new(Some(Instant::now())),
            old_rows: OldRows::default(),
            eras: Eras::new(cluster),
            reads: Semaphore::new(READS),
            begins: Semaphore::new(BEGINS),
            begun: Instant::now(),
        }
    }

    /// Runs work on the cluster's thread.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(async move {
            let _guard = EndOnPanic;
            work.await;
        });
    }

    /// The bus, once it is started.
    pub(super) fn connect(&self, bus: Arc<dyn Bus>) {
        // It is started once.
        let _ = self.bus.set(bus);
    }

    /// Waits until a topic may read the database. It may until the permit is dropped.
    pub(super) async fn may_read(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.reads.acquire().await.ok()
    }

    /// The same for the beginning of a run.
    pub(super) async fn may_begin(&self) -> Option<SemaphorePermit<'_>> {
        self.begins.acquire().await.ok()
    }

    /// The topics that this node has in common with the others.
    pub(in crate::pubsub) fn share(&self, pubsub: &PubSub) {
        let topics = Arc::downgrade(&pubsub.shared);
        assert!(
            self.pubsub.set(topics).is_ok(),
            "a cluster shares the topics of one PubSub"
        );
    }

    pub(super) fn bus(&self) -> Option<&Arc<dyn Bus>> {
        self.bus.get()
    }

    pub(super) fn sequencer(&self) -> Result<&dyn Sequencer, Away> {
        self.bus().and_then(|bus| bus.sequencer()).ok_or(Away)
    }

    pub(super) fn pubsub(&self) -> Option<PubSub> {
        let shared = self.pubsub.get()?.upgrade()?;
        Some(PubSub { shared })
    }

    /// The time since this node began.
    pub(super) fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    pub(super) fn nonce(&self) -> u64 {
        self.nonces.fetch_add(1, Ordering::Relaxed)
    }

    /// Where a topic is; `None` if it has no run.
    pub(super) async fn read(&self, topic: &str) -> Result<Option<Position>, Away> {
        let read = self.sequencer()?.read(topic);
        read.await
    }

    /// Hands a message for the topic's log to the bus.
    ///
    /// # Errors
    /// If the store has no room for it, or cannot store it.
    pub(in crate::pubsub) fn publish(
        self: &Arc<Self>,
        topic: &Arc<Topic>,
        draft: &Draft,
        from: Option<SubscriberId>,
    ) -> Result<Sending, PublishError> {
        if topic.is_strict() {
            return self.publish_strictly(topic, draft, from);
        }
        let (Some(store), Ok(sequencer)) = (&self.store, self.sequencer()) else {
            return Err(PublishError::NotLoaded);
        };
        if self.patience().is_zero() {
            return Err(RETRY.into());
        }
        let nonce = self.nonce();
        let message = message::stored(draft, self.id, nonce).ok_or(PublishError::NotStorable)?;
        let reserved = message::payload_len(&message);
        store.reserve(reserved)?;
        let message = message.encode();
        let own = OwnPlaced {
            receipt: draft.receipt,
            traced: Traced::current(),
        };
        let sending = self.await_place(nonce, |publisher| Publishing {
            topic: Arc::clone(topic),
            message: message.clone(),
            client_ref: draft.client_ref.clone(),
            from,
            own,
            reserved: Some(reserved),
            taken: None,
            publisher,
            since: Instant::now(),
        });
        sequencer.publish(topic.name(), message, draft.client_ref.as_deref(), true);
        Ok(sending)
    }

    /// Remembers a message that is about to be published.
    pub(super) fn await_place(
        self: &Arc<Self>,
        nonce: u64,
        publishing: impl FnOnce(Publisher) -> Publishing,
    ) -> Sending {
        let (publisher, published) = oneshot::channel();
        self.outstanding.insert(nonce, publishing(publisher));
        Sending {
            node: Arc::clone(self),
            nonce,
            published,
            waits: true,
        }
    }

    /// The publisher waits no longer. Whether the message was certainly not taken.
    pub(super) fn forget(&self, nonce: u64) -> bool {
        if let Some(withdrawn) = self.withdraw(nonce) {
            return withdrawn;
        }
        let forgotten = self
            .sequencer()
            .is_ok_and(|sequencer| sequencer.forget(nonce));
        if forgotten {
            self.refuse(nonce, PublishError::Unconfirmed);
        }
        forgotten
    }

    /// Nobody waits for the message any more. It is stored all the same if it was taken.
    pub(super) fn give_up(&self, nonce: u64) {
        if !self.forget(nonce) {
            self.refuse(nonce, PublishError::Unconfirmed);
        }
    }

    /// Gives up messages whose publishers have gone, and that have not arrived since.
    pub(super) fn give_up_old(&self) {
        for nonce in self.outstanding.old() {
            self.give_up(nonce);
        }
    }

    /// Ends a publish without a message.
    pub(super) fn refuse(&self, nonce: u64, error: PublishError) {
        let Some(publishing) = self.outstanding.take(nonce) else {
            return;
        };
        if let (Some(store), Some(reserved)) = (&self.store, publishing.reserved) {
            store.release(reserved);
        }
        // A publisher that has gone needs no answer.
        let _ = publishing.publisher.send(Err(error));
    }

    /// Sends the other nodes, and the Phoenix application, a broadcast that no log keeps. `disconnect` goes to all of them:
    /// none subscribes on the bus to the ids of its sockets, which are too many.
    pub(in crate::pubsub) fn send_live(&self, topic: &str, draft: &Draft, payload: &Payload) {
        let Some(bus) = self.bus() else { return };
        if draft.event == DISCONNECT {
            let body = Body::Elsewhere {
                topic: topic.into(),
                event: draft.event.clone(),
                payload: message::content(payload),
            };
            let message = message::message(body, self.id, self.nonce());
            bus.send(To::All, message.encode());
        } else {
            let message = message::live(draft, payload, self.id, self.nonce());
            bus.send(To::Topic(topic), message.encode());
        }
        if let Some(bridge) = &self.bridge {
            bridge.send(&**bus, topic, draft, payload);
        }
    }

    /// The database has a message, or never takes it: no node needs it in the journal.
    pub(in crate::pubsub) fn settled(&self, topic: &str, id: MessageId) {
        if let Ok(sequencer) = self.sequencer() {
            sequencer.stored(topic, &[id.seq]);
        }
    }

    /// Whether a message of this topic waits for its place.
    pub(in crate::pubsub) fn is_publishing_to(&self, topic: &Topic) -> bool {
        self.outstanding.has(topic)
    }

    pub(super) fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.pubsub()?.known(name)
    }

    pub(super) fn topics(&self) -> Vec<Arc<Topic>> {
        self.pubsub()
            .map_or_else(Vec::new, |pubsub| pubsub.topics())
    }

    /// Sends the members here an event from elsewhere, which no log keeps.
    pub(super) fn show_live(self: &Arc<Self>, topic: &Arc<Topic>, draft: &Draft) {
        if topic.passes_over_live(draft) {
            count_passed_over();
        } else if let Some(pubsub) = self.pubsub()
            && let Some(full) = pubsub.publish_live(topic.name(), draft)
        {
            self.pause(topic, full);
        }
    }

    /// A message that takes no place.
    pub(super) fn heard(self: &Arc<Self>, topic: &Arc<Topic>, message: Message) {
        match message.body {
            // Its members here have it already.
            Body::Live(_) if message.author == self.id => {}
            Body::Committed(_) if topic.is_paused() => {}
            Body::Live(live) => {
                if let Some(draft) = message::draft(live) {
                    self.show_live(topic, &draft);
                }
            }
            Body::Erased { erasure, seqs } => topic.erase(&seqs, erasure),
            Body::Pruned { through } => topic.prune(through),
            body => self.hear_strict(topic, message.author, body),
        }
    }
}

impl Node {
    /// The bus is up, in this process of its server.
    pub(super) fn up(self: &Arc<Self>, process: &ProcessId) {
        if self.old_rows.up(process, Instant::now()) {
            self.end_runs();
            self.settle_taken();
        }
        *lock(&self.away) = None;
        self.eras.up();
        self.check_era();
        self.tell_life();
        self.tell_untold();
        self.parts.each(|part| part.up());
    }

    /// The bus is down.
    pub(super) fn down(self: &Arc<Self>) {
        let since = Instant::now();
        *lock(&self.away) = Some(since);
        self.old_rows.down(since + GONE);
        self.eras.down();
        self.parts.each(|part| part.down());
        for topic in self.topics() {
            self.away(&topic);
        }
        // The server seems to be gone, and its journals with it. Nodes that come back to a new one sooner than this one
        // read the database.
        let node = Arc::clone(self);
        self.spawn(async move {
            tokio::time::sleep(GONE).await;
            if node.away_since() == Some(since) {
                node.rescue_all();
            }
            tokio::time::sleep(LONG_GONE - GONE).await;
            if node.away_since() == Some(since) {
                // Before the database gives the order, it must have these.
                node.settle_taken();
            }
        });
    }

    /// Since when the bus is down; `None` while it is up.
    pub(super) fn away_since(&self) -> Option<Instant> {
        *lock(&self.away)
    }

    /// How long a client may wait for the bus: no longer than others have waited in this outage already.
    pub(super) fn patience(&self) -> Duration {
        self.away_since()
            .map_or(PATIENCE, |since| PATIENCE.saturating_sub(since.elapsed()))
    }

    /// The message is a retry. Its publisher hears when the first one is stored.
    pub(super) fn answer_retry(self: &Arc<Self>, nonce: u64, first: MessageId) {
        let Some(publishing) = self.outstanding.take(nonce) else {
            return;
        };
        if let (Some(store), Some(reserved)) = (&self.store, publishing.reserved) {
            store.release(reserved);
        }
        let published = self.retry_of(&publishing.topic, first);
        // A publisher that has gone needs no answer.
        let _ = publishing.publisher.send(Ok(published));
    }

    /// The topic had no run: opens one, then sends the message again.
    pub(super) fn publish_again(self: &Arc<Self>, nonce: u64) {
        let node = Arc::clone(self);
        self.spawn(async move {
            let Some(again) = node.outstanding.again(nonce) else {
                return;
            };
            let located = node.locate(&again.topic, Begins::AtOnce).await;
            if located.is_ok() {
                // Its members may stand behind many topics.
                node.find_again(&again.topic);
            }
            match (located, node.sequencer()) {
                // Its publisher may have given up meanwhile.
                (Ok(_), Ok(_)) if node.outstanding.again(nonce).is_none() => {}
                (Ok(_), Ok(sequencer)) => {
                    let (topic, client_ref) = (again.topic.name(), again.client_ref.as_deref());
                    sequencer.publish(topic, again.message, client_ref, again.is_row);
                }
                _ => node.refuse(nonce, RETRY.into()),
            }
        });
    }
}
