//! Messages of this node's drafts for the others, and what their messages say here.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use bytestring::ByteString;

use crate::cluster::NodeId;
use crate::cluster::replica::Carried;
use crate::cluster::wire::{self, Body, Content, Live, Message, Stored};
use crate::log::{Change, Epoch, MessageId, OwnPlaced, Placed, Seq, StoredEntry};
use crate::message::{Payload, RawJson};
use crate::pubsub::fastlane::Direction;
use crate::pubsub::{Draft, Selector};

/// Stands in a payload for the id, which no node knows before the message has its place. No JSON text holds it.
const ID: char = '\0';

/// A message with its place, before it is shown.
#[derive(Clone)]
pub(crate) struct Arrived {
    /// Who stores it; `None` if it is stored, or never will be.
    pub(super) author: Option<NodeId>,
    pub(super) nonce: u64,
    pub(super) at: SystemTime,
    pub(super) content: Ordered,
}

/// What takes a place in a topic.
#[derive(Clone)]
pub(crate) enum Ordered {
    Message(Stored),
    /// Taken by this node.
    Erasure(NodeId),
    /// A message that this release cannot read.
    Unread,
}

impl Carried for Arrived {
    fn author(&self) -> Option<NodeId> {
        self.author
    }
}

impl Arrived {
    /// Reads a message that has taken a place.
    pub(super) fn read(message: Bytes) -> Self {
        let Ok(message) = Message::decode(message) else {
            return Self::UNREAD;
        };
        let (author, content) = match message.body {
            Body::Stored(stored) => (Some(message.author), Ordered::Message(stored)),
            Body::Erasure => (None, Ordered::Erasure(message.author)),
            _ => return Self::UNREAD,
        };
        Self {
            author,
            nonce: message.nonce,
            at: time(message.at),
            content,
        }
    }

    /// Bytes of its payload.
    pub(super) fn len(&self) -> usize {
        match &self.content {
            Ordered::Message(stored) => stored.payload.len(),
            Ordered::Erasure(_) | Ordered::Unread => 0,
        }
    }

    const UNREAD: Self = Self {
        author: None,
        nonce: 0,
        at: UNIX_EPOCH,
        content: Ordered::Unread,
    };

    /// A row of the database, which does not tell its author.
    pub(super) fn of_row(row: StoredEntry) -> Self {
        let change = row.target.map(|target| {
            if row.event == crate::pubsub::draft::MESSAGE_DELETED {
                wire::Change::Delete(target)
            } else {
                wire::Change::Update(target)
            }
        });
        Self {
            author: None,
            nonce: 0,
            at: row.at,
            content: Ordered::Message(Stored {
                event: row.event.into(),
                client_ref: row.client_ref.map(ByteString::from),
                change,
                payload: row.payload.into(),
            }),
        }
    }
}

/// The message of a draft for a topic's log. `None` if its payload is not JSON.
pub(super) fn stored(draft: &Draft, author: NodeId, nonce: u64) -> Option<Message> {
    let payload = match (&draft.with_id, &draft.payload) {
        (Some(make), _) => {
            // Unlike anything that a client sends.
            let mark = format!("{:032x}", random());
            make(&mark).get().replace(&mark, "\0").into()
        }
        (None, Payload::Json(json)) => ByteString::from(json.get()),
        (None, Payload::Binary(_)) => return None,
    };
    let body = Body::Stored(Stored {
        event: draft.event.clone(),
        client_ref: draft.client_ref.as_deref().map(ByteString::from),
        change: draft.change.map(wire_change),
        payload,
    });
    Some(message(body, author, nonce))
}

/// The bytes of the payload of a message for a log.
pub(super) fn payload_len(message: &Message) -> usize {
    match &message.body {
        Body::Stored(stored) => stored.payload.len(),
        _ => 0,
    }
}

/// A change as nodes tell each other.
pub(super) fn wire_change(change: Change) -> wire::Change {
    match change {
        Change::Update { target } => wire::Change::Update(target),
        Change::Delete { target } => wire::Change::Delete(target),
    }
}

/// The message of a broadcast that no log keeps.
pub(super) fn live(draft: &Draft, payload: &Payload, author: NodeId, nonce: u64) -> Message {
    let direction = match &draft.direction {
        // A node fails its own members alone, and sends that to nobody.
        None | Some(Direction::Fail) => wire::Direction::All,
        Some(Direction::To(selector)) => wire::Direction::To(selector.encode()),
        Some(Direction::Close(selector)) => {
            wire::Direction::Close(selector.as_ref().map(|selector| selector.encode()))
        }
    };
    let body = Body::Live(Live {
        event: draft.event.clone(),
        payload: content(payload),
        direction,
    });
    message(body, author, nonce)
}

pub(super) fn message(body: Body, author: NodeId, nonce: u64) -> Message {
    Message {
        author,
        nonce,
        at: micros(SystemTime::now()),
        body,
    }
}

pub(super) fn content(payload: &Payload) -> Content {
    match payload {
        Payload::Json(json) => Content::Json(json.get().into()),
        Payload::Binary(data) => Content::Binary(data.clone()),
    }
}

pub(super) fn payload(content: Content) -> Payload {
    match content {
        Content::Json(text) => Payload::Json(RawJson::trusted(text)),
        Content::Binary(data) => Payload::Binary(data),
    }
}

/// The draft of a broadcast that no log keeps. `None` if this release cannot read its selector.
pub(super) fn draft(live: Live) -> Option<Draft> {
    let mut draft = Draft::new(&live.event, payload(live.payload)).live();
    draft.direction = match live.direction {
        wire::Direction::All => None,
        wire::Direction::To(selector) => {
            Some(Direction::To(Arc::new(Selector::decode(&selector)?)))
        }
        wire::Direction::Close(None) => Some(Direction::Close(None)),
        wire::Direction::Close(Some(selector)) => {
            let selector = Selector::decode(&selector)?;
            Some(Direction::Close(Some(Arc::new(selector))))
        }
    };
    Some(draft)
}

/// The entry of a message for the topic's log.
pub(super) fn placed(
    id: MessageId,
    at: SystemTime,
    stored: Stored,
    own: Option<OwnPlaced>,
) -> Placed {
    Placed {
        id,
        event: stored.event,
        payload: with_id(stored.payload, id),
        client_ref: stored.client_ref,
        change: stored.change.map(|change| match change {
            wire::Change::Update(target) => Change::Update { target },
            wire::Change::Delete(target) => Change::Delete { target },
        }),
        at,
        own,
    }
}

/// The messages of a journal as rows of the database.
pub(super) fn rows(epoch: Epoch, journal: Vec<(Seq, Arrived)>) -> Vec<StoredEntry> {
    let rows = journal.into_iter().filter_map(|(seq, arrived)| {
        let Ordered::Message(stored) = arrived.content else {
            return None;
        };
        Some(row(MessageId::new(epoch, seq), arrived.at, stored))
    });
    rows.collect()
}

fn row(id: MessageId, at: SystemTime, stored: Stored) -> StoredEntry {
    let target = stored.change.map(|change| match change {
        wire::Change::Update(target) | wire::Change::Delete(target) => target,
    });
    StoredEntry {
        seq: id.seq,
        event: stored.event.to_string(),
        payload: with_id(stored.payload, id).get().to_owned(),
        target,
        at,
        client_ref: stored.client_ref.map(|client_ref| client_ref.to_string()),
    }
}

/// The payload with the id in its place.
fn with_id(payload: ByteString, id: MessageId) -> RawJson {
    if payload.contains(ID) {
        let made = payload.replace(ID, &id.to_string());
        return RawJson::trusted(made.into());
    }
    RawJson::trusted(payload)
}

/// A number that is random. Without the system's randomness it is the time.
pub(super) fn random() -> u64 {
    getrandom::u64().unwrap_or_else(|_| micros(SystemTime::now()).unsigned_abs())
}

pub(super) fn micros(at: SystemTime) -> i64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

pub(super) fn time(micros: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(micros.max(0).unsigned_abs())
}

/// The target of a change.
pub(super) fn target(draft: &Draft) -> Option<Seq> {
    draft.change.map(Change::target)
}
