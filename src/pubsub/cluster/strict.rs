//! Strict topics: the database gives a message its place in the transaction that commits it, and the bus only tells.
//!
//! So the bus may be away: then the nodes look into the database.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, Weak};
use std::time::SystemTime;

use bytestring::ByteString;
use tokio::sync::{Notify, oneshot};

use super::message;
use super::node::Node;
use super::outstanding::{Publisher, RETRY, Sending};
use super::untold::Untold;
use crate::cluster::follower::{Follower, Piece};
use crate::cluster::wire::{Body, Committed, CommittedRow, Message, Stored};
use crate::cluster::{Away, NodeId};
use crate::lock::lock;
use crate::log::{
    ClusterEra, LoadError, LogRule, MessageId, PlaceOwner, PlacedMessage, PlacedTogether, Placings,
    Receipt, Unplaced, UnplacedMessage, of_client, own_ref,
};
use crate::pubsub::{Draft, PublishError, Published, SubscriberId, Topic};
use crate::trace::Traced;

/// The most bytes of payloads in one message to other nodes, but for one payload of any size.
const TOLD_BYTES: usize = 200_000;

/// A node's side of strict topics.
#[derive(Default)]
pub(super) struct Strict {
    /// Publishers that wait, by the number of their message.
    waiting: Mutex<HashMap<u64, Waiting>>,
    /// Publishers that do not get their own message, by the topic and the ref of it, until it is shown.
    silent: Mutex<HashMap<(Arc<str>, ByteString), SubscriberId>>,
    pub(super) untold: Untold,
    /// A living node of the cluster cannot tell what it commits.
    pub(super) is_uneasy: AtomicBool,
    pub(super) look: Notify,
    pub(super) due: Mutex<HashSet<Arc<str>>>,
    /// Nodes that have died, with the times of their last signs of life.
    pub(super) looked_after: Mutex<HashMap<i64, i64>>,
}

/// A publisher that waits for the commit.
struct Waiting {
    draft: Arc<Unplaced>,
    publisher: Publisher,
    /// Whether a receipt is wanted.
    receipt: bool,
    traced: Traced,
}

/// A committed message, before it is shown.
#[derive(Clone)]
pub(crate) struct Row {
    pub(super) at: SystemTime,
    pub(super) message: Stored,
}

impl Row {
    /// A row of the database, whose client_ref may be a node's own.
    pub(super) fn of_entry(row: crate::log::StoredEntry) -> Self {
        let arrived = message::Arrived::of_row(row);
        let message = match arrived.content {
            message::Ordered::Message(stored) => stored,
            // A row is a message.
            message::Ordered::Erasure(_) | message::Ordered::Unread => Stored {
                event: ByteString::new(),
                client_ref: None,
                change: None,
                payload: "{}".into(),
            },
        };
        Self {
            at: arrived.at,
            message,
        }
    }

    fn of_placed(placed: &PlacedMessage) -> Option<Self> {
        let message = placed.draft.message.as_ref()?;
        Some(Self {
            at: placed.draft.at,
            message: Stored {
                event: message.event.clone(),
                client_ref: Some(message.client_ref.clone()),
                change: message.change.map(message::wire_change),
                payload: placed.payload.clone(),
            },
        })
    }
}

impl Topic {
    /// Whether the database gives its messages their places.
    pub(super) fn is_strict(&self) -> bool {
        let logged = self.joint().zip(self.rule.as_ref());
        logged.is_some_and(|(joint, rule)| joint.node.is_strict(rule))
    }
}

impl Node {
    /// Whether the database gives the order of these topics now.
    pub(super) fn is_strict(&self, rule: &LogRule) -> bool {
        self.is_always_strict(rule) || self.eras.era().is_of_database()
    }

    fn is_always_strict(&self, rule: &LogRule) -> bool {
        let has_sequencer = |bus: &Arc<dyn crate::cluster::Bus>| bus.sequencer().is_some();
        rule.is_strict() || !self.bus().is_some_and(has_sequencer)
    }

    /// The era in which the database gives the order of these topics; `None` if it always does.
    pub(super) fn era_of(&self, rule: &LogRule) -> Option<ClusterEra> {
        if self.is_always_strict(rule) {
            return None;
        }
        self.eras.of_cluster()
    }

    pub(super) fn is_strict_topic(&self, name: &str) -> bool {
        let pubsub = self.pubsub();
        pubsub.is_some_and(|pubsub| pubsub.rule(name).is_some_and(|rule| self.is_strict(rule)))
    }

    /// Whether the bus gives no topic its order now.
    pub(super) fn has_strict_topics_only(&self) -> bool {
        let pubsub = self.pubsub();
        pubsub.is_some_and(|pubsub| pubsub.shared.rules.iter().all(|rule| self.is_strict(rule)))
    }

    /// Whether the bus never gives an order.
    pub(super) fn has_strict_rules_only(&self) -> bool {
        self.pubsub().is_none_or(|pubsub| {
            let mut rules = pubsub.shared.rules.iter();
            rules.all(|rule| self.is_always_strict(rule))
        })
    }

    /// Hands a message for a strict topic to the database.
    ///
    /// # Errors
    /// If the store has no room for it, or cannot store it.
    pub(super) fn publish_strictly(
        self: &Arc<Self>,
        topic: &Arc<Topic>,
        draft: &Draft,
        from: Option<SubscriberId>,
    ) -> Result<Sending, PublishError> {
        let number = self.nonce();
        let message = message::stored(draft, self.id, number).ok_or(PublishError::NotStorable)?;
        let Body::Stored(stored) = message.body else {
            return Err(PublishError::NotStorable);
        };
        let client_ref = stored.client_ref;
        let message = UnplacedMessage {
            event: stored.event,
            payload: stored.payload,
            client_ref: client_ref.unwrap_or_else(|| own_ref(self.id.get(), number)),
            change: draft.change,
        };
        if let Some(from) = from {
            let key = (Arc::clone(topic.shared_name()), message.client_ref.clone());
            lock(&self.strict.silent).insert(key, from);
        }
        let receipt = draft.receipt || draft.client_ref.is_some();
        self.place(topic, number, (Some(message), receipt))
    }

    fn place(
        self: &Arc<Self>,
        topic: &Arc<Topic>,
        number: u64,
        (message, receipt): (Option<UnplacedMessage>, bool),
    ) -> Result<Sending, PublishError> {
        let store = self.store.as_ref().ok_or(PublishError::NotLoaded)?;
        // A `Weak` must be made with its own type before it can become a trait object.
        let owner: Weak<Self> = Arc::downgrade(self);
        let within = topic.rule().and_then(|rule| self.era_of(rule));
        let draft = Unplaced::new((topic.shared_name(), within), owner, number, message);
        let draft = Arc::new(draft);
        let (publisher, published) = oneshot::channel();
        let waiting = Waiting {
            draft: Arc::clone(&draft),
            publisher,
            receipt,
            traced: Traced::current(),
        };
        lock(&self.strict.waiting).insert(number, waiting);
        if let Err(full) = store.place(Arc::clone(&draft)) {
            self.take_waiting(&draft);
            return Err(full.into());
        }
        Ok(Sending {
            node: Arc::clone(self),
            nonce: number,
            published,
            waits: true,
        })
    }

    /// A publisher waits no longer. Whether its message is certainly not stored; `None` if it is of no strict topic.
    pub(super) fn withdraw(&self, number: u64) -> Option<bool> {
        let draft = Arc::clone(&lock(&self.strict.waiting).get(&number)?.draft);
        let store = self.store.as_ref()?;
        let withdrawn = store.withdraw(&draft);
        if withdrawn {
            self.take_waiting(&draft);
        }
        Some(withdrawn)
    }

    /// Takes a seq for an erasure, and waits until it is committed.
    ///
    /// # Errors
    /// If the database is away.
    pub(super) async fn take_strict_place(
        self: &Arc<Self>,
        topic: &Arc<Topic>,
    ) -> Result<MessageId, LoadError> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| LoadError {
            topic: topic.name().to_owned(),
            source,
        };
        let sending = self.place(topic, self.nonce(), (None, false));
        let placed = sending.map_err(|error| failed(error.into()))?.placed();
        let published = placed.await.map_err(|error| failed(error.into()))?;
        published.id.ok_or_else(|| failed(Away.into()))
    }

    /// The subscriber that does not get the message with this ref, which is shown now.
    pub(super) fn take_silent(
        &self,
        topic: &Arc<str>,
        client_ref: ByteString,
    ) -> Option<SubscriberId> {
        let mut silent = lock(&self.strict.silent);
        if silent.is_empty() {
            return None;
        }
        silent.remove(&(Arc::clone(topic), client_ref))
    }

    /// Messages of this topic that were not shown are not shown any more: it begins anew, or is out of memory.
    pub(in crate::pubsub) fn forget_silent(&self, topic: &str) {
        lock(&self.strict.silent).retain(|(of, _), _| **of != *topic);
    }

    /// Whether members here get a stored message later, after those before it.
    fn is_shown_later(&self, topic: &str, id: MessageId) -> bool {
        let topic = self.topic(topic);
        topic.is_some_and(|topic| !topic.lock().has_shown(id))
    }

    /// The message is shown already, or never.
    fn take_waiting(&self, draft: &Unplaced) -> Option<Waiting> {
        if let Some(message) = &draft.message {
            self.take_silent(&draft.topic, message.client_ref.clone());
        }
        lock(&self.strict.waiting).remove(&draft.number)
    }

    fn answer_publisher(&self, draft: &Unplaced, answer: Result<Published, PublishError>) {
        let id = answer.as_ref().ok().and_then(|published| published.id);
        let waiting = if id.is_some_and(|id| self.is_shown_later(&draft.topic, id)) {
            lock(&self.strict.waiting).remove(&draft.number)
        } else {
            self.take_waiting(draft)
        };
        let Some(waiting) = waiting else {
            return;
        };
        if let Ok(Published { id: Some(id), .. }) = &answer {
            waiting.traced.record("persist", draft.at, |span| {
                span.set("slackir.topic", &draft.topic);
                span.set("slackir.id", id);
            });
        }
        let answer = answer.map(|published| Published {
            receipt: published.receipt.filter(|_| waiting.receipt),
            ..published
        });
        // A publisher that has gone needs no answer.
        let _ = waiting.publisher.send(answer);
    }

    /// Shows members here what this node has committed, and answers its publishers.
    fn show_own(self: &Arc<Self>, part: &PlacedTogether) {
        if let Some(topic) = self.topic(&part.topic) {
            let messages = part.messages.iter();
            let messages = messages.filter_map(|it| Some((it.seq, Row::of_placed(it)?)));
            let piece = Piece {
                prev: part.prev,
                head: part.head,
                messages: messages.collect(),
            };
            self.follow(&topic, |follower, out| follower.arrived(piece, out));
        }
        for placed in &part.messages {
            let id = MessageId::new(part.epoch, placed.seq);
            let published = Published {
                id: Some(id),
                duplicate: false,
                receipt: Some(Receipt::stored(id)),
            };
            self.answer_publisher(&placed.draft, Ok(published));
        }
        if let Some(draft) = &part.erasure {
            let published = Published {
                id: Some(MessageId::new(part.epoch, part.head)),
                ..Published::default()
            };
            self.answer_publisher(draft, Ok(published));
        }
    }

    /// The message was stored before: perhaps by a node that died before it could tell anybody.
    fn answer_with_first(self: &Arc<Self>, draft: &Unplaced, first: MessageId) {
        let topic = self.topic(&draft.topic);
        if let Some(topic) = &topic {
            self.follow(topic, |follower, out| follower.head(first.seq, out));
        }
        self.tell_look(&draft.topic);
        let id = topic.and_then(|topic| topic.id_of(first.seq));
        let id = id.unwrap_or(first);
        let published = Published {
            id: Some(id),
            duplicate: true,
            receipt: Some(Receipt::stored(id).of_duplicate()),
        };
        self.answer_publisher(draft, Ok(published));
    }

    /// Another node, or this one, tells what it has committed.
    pub(super) fn hear_strict(self: &Arc<Self>, topic: &Arc<Topic>, author: NodeId, body: Body) {
        match body {
            // The topic goes on in another run, which this node reads.
            Body::Committed(committed) if !topic.is_in_run(committed.epoch) => {
                self.follow(topic, Follower::look);
            }
            Body::Committed(committed) => {
                let rows = committed.rows.into_iter().map(|row| {
                    let (at, message) = (message::time(row.at), row.message);
                    (row.seq, Row { at, message })
                });
                let piece = Piece {
                    prev: committed.prev,
                    head: committed.head,
                    messages: rows.collect(),
                };
                self.follow(topic, |follower, out| follower.arrived(piece, out));
            }
            Body::Look if author != self.id => {
                self.follow(topic, Follower::look);
            }
            _ => {}
        }
    }
}

impl PlaceOwner for Node {
    fn committing(&self, topics: &[Arc<str>]) {
        self.strict.untold.add(topics);
    }

    fn committed(self: Arc<Self>, placings: Placings) {
        self.strict.untold.end();
        for part in &placings.placed {
            self.show_own(part);
            self.tell_committed(part);
        }
        for (draft, first) in &placings.found {
            self.answer_with_first(draft, *first);
        }
        for draft in &placings.late {
            // By then this node knows the era.
            self.answer_publisher(draft, Err(RETRY.into()));
        }
    }

    fn not_stored(&self, draft: &Unplaced, rejected: bool) {
        if rejected {
            self.strict.untold.end();
        }
        let answer = if rejected {
            Ok(Published {
                receipt: Some(Receipt::rejected()),
                ..Published::default()
            })
        } else {
            Err(RETRY.into())
        };
        self.answer_publisher(draft, answer);
    }
}

/// What other nodes are told of committed messages.
pub(super) fn committed(part: &PlacedTogether, author: NodeId, nonce: u64) -> Vec<Message> {
    let tell = |prev, head, rows| {
        let epoch = part.epoch;
        let body = Body::Committed(Committed {
            prev,
            head,
            epoch,
            rows,
        });
        message::message(body, author, nonce)
    };
    let (mut told, mut rows, mut prev, mut bytes) = (Vec::new(), Vec::new(), part.prev, 0);
    for placed in &part.messages {
        let Some(Row { at, message }) = Row::of_placed(placed) else {
            continue;
        };
        if bytes > 0 && bytes + message.payload.len() > TOLD_BYTES {
            let head = placed.seq.previous();
            told.push(tell(prev, head, std::mem::take(&mut rows)));
            (prev, bytes) = (head, 0);
        }
        bytes += message.payload.len();
        rows.push(CommittedRow {
            seq: placed.seq,
            at: message::micros(at),
            message: Stored {
                client_ref: of_client(message.client_ref),
                ..message
            },
        });
    }
    told.push(tell(prev, part.head, rows));
    told
}
