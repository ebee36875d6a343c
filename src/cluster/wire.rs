//! [`Message`]: what nodes of a cluster send each other, and its encoding.
//!
//! Pure: no I/O. Decoding copies no text and no payload: the parts of a message are slices of the bytes
//! that arrived. Nodes trust each other: texts are checked to be UTF-8, JSON is not parsed.
//!
//! **Layout.** A [`Header`] of [`HEADER_LEN`] bytes, then the body. Numbers of the header are little endian.
//! Other numbers are varints (LEB128: seven bits a byte, the lowest first), as are the lengths in front of
//! texts and of bytes.
//!
//! **Nodes of two releases run side by side.** A decoder ignores bytes after the end of a body, so a new
//! release may append fields. It skips kinds that it does not know ([`DecodeError::Unknown`]). Any other
//! change of the layout needs a new version, which the release before must be able to read.

mod decode;
mod encode;
#[cfg(test)]
mod tests;

use bytes::{Buf, Bytes};
use bytestring::ByteString;

use super::bus::NodeId;
use crate::log::{Epoch, MessageId, Seq};

/// The version of the layout. No version may be an ASCII digit or letter: a first byte of that kind begins
/// the place of an ordered message (see [`place`]).
const VERSION: u8 = 1;

/// The length of the header in bytes.
pub(crate) const HEADER_LEN: usize = 27;

/// A message from one node to others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// The node that made the message.
    pub(crate) author: NodeId,
    /// The author's number for the message. Its own message comes back to it, and this tells which it is.
    pub(crate) nonce: u64,
    /// When the message was made, by the author's clock: microseconds since 1970.
    pub(crate) at: i64,
    /// The content.
    pub(crate) body: Body,
}

/// The content of a message, by kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// Ordered, on a topic's channel: a message for the database and the members.
    Stored(Stored),
    /// On a topic's channel: an event for the members that no log keeps.
    Live(Live),
    /// Ordered, on a topic's channel: takes a seq that no message gets. No resume begins before it.
    Erasure,
    /// On a topic's channel: messages were deleted from the database.
    Erased {
        /// The seq of the erasure.
        erasure: Seq,
        /// The deleted messages.
        seqs: Vec<Seq>,
    },
    /// On a topic's channel: the messages of a strict log that a transaction has committed.
    Committed(Committed),
    /// On a topic's channel: the database may have messages of a strict log that nobody has told.
    Look,
    /// To all nodes: a live event on a topic to which no node subscribes on the bus.
    Elsewhere {
        /// The topic.
        topic: ByteString,
        /// The event.
        event: ByteString,
        /// The payload.
        payload: Content,
    },
    /// Presences, encoded by the presence tracker.
    Presence(Bytes),
    /// Numbers of members, encoded by the presence tracker.
    Counts(Bytes),
    /// To all nodes, periodically: the author lives.
    Heartbeat(Heartbeat),
    /// To one node: a long-poll request for a session there.
    PollRequest(Numbered),
    /// To one node: the answer to its long-poll request of the same number.
    PollAnswer(Numbered),
    /// On a topic's channel: retention is about to delete every message up to this one.
    Pruned {
        /// The last message to be deleted.
        through: Seq,
    },
}

/// A message of a topic's log. Its place is not part of it: the order is given after it is encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    /// The event.
    pub(crate) event: ByteString,
    /// The client's own name for the message.
    pub(crate) client_ref: Option<ByteString>,
    /// The change that the message makes to an earlier one.
    pub(crate) change: Option<Change>,
    /// The payload: JSON text.
    pub(crate) payload: ByteString,
}

impl Stored {
    /// The flag of a message with a client_ref.
    const NAMED: u8 = 1;
    /// The flag of an update.
    const UPDATE: u8 = 2;
    /// The flag of a deletion.
    const DELETE: u8 = 4;
}

/// A change to an earlier message of the topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Replaces the payload of the message with this seq.
    Update(Seq),
    /// Deletes the message with this seq.
    Delete(Seq),
}

/// An event that no log keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Live {
    /// The event.
    pub(crate) event: ByteString,
    /// The payload.
    pub(crate) payload: Content,
    /// The members it is for, and what it does to them.
    pub(crate) direction: Direction,
}

/// The payload of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// JSON text.
    Json(ByteString),
    /// The data of a binary frame.
    Binary(Bytes),
}

impl Content {
    const JSON: u8 = 0;
    const BINARY: u8 = 1;
}

/// The members that get a live event. A selector is JSON text, which is opaque here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// All members.
    All,
    /// The members that the selector selects.
    To(Bytes),
    /// Ends the channels of the selected members; of all members without a selector.
    Close(Option<Bytes>),
}

impl Direction {
    const ALL: u8 = 0;
    const TO: u8 = 1;
    const CLOSE_ALL: u8 = 2;
    const CLOSE: u8 = 3;
}

/// Messages of a strict log, in order of seq. The author has committed them in one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Committed {
    /// The seq before the first row's: a node that has not shown it lacks messages.
    pub(crate) prev: Seq,
    /// The last seq that is given with this: that of the last row. Without rows an erasure has taken it.
    pub(crate) head: Seq,
    /// The epoch of the topic.
    pub(crate) epoch: Epoch,
    /// The messages.
    pub(crate) rows: Vec<CommittedRow>,
}

/// One message of [`Committed`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CommittedRow {
    /// The place of the message.
    pub(crate) seq: Seq,
    /// When it was published: microseconds since 1970.
    pub(crate) at: i64,
    /// The message.
    pub(crate) message: Stored,
}

/// A sign of life of the author.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heartbeat {
    /// When the author's process started: microseconds since 1970.
    pub(crate) started: i64,
    /// Whether the author is shutting down.
    pub(crate) leaving: bool,
    /// The author's name, the same in every run.
    pub(crate) name: ByteString,
}

/// A long-poll request or answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Numbered {
    /// The number that the asking node gave the request.
    pub(crate) number: u64,
    /// The request or answer, encoded by the long-poll transport.
    pub(crate) bytes: Bytes,
}

/// The fixed part in front of every message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// The kind of the body; `None` for a kind of a newer release.
    pub(crate) kind: Option<Kind>,
    /// See [`Message::author`].
    pub(crate) author: NodeId,
    /// See [`Message::nonce`].
    pub(crate) nonce: u64,
    /// See [`Message::at`].
    pub(crate) at: i64,
}

/// The kind of a body. The numbers are part of the layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// [`Body::Stored`].
    Stored = 1,
    /// [`Body::Live`].
    Live = 2,
    /// [`Body::Erasure`].
    Erasure = 3,
    /// [`Body::Erased`].
    Erased = 4,
    /// [`Body::Committed`].
    Committed = 5,
    /// [`Body::Elsewhere`].
    Elsewhere = 6,
    /// [`Body::Presence`].
    Presence = 7,
    /// [`Body::Counts`].
    Counts = 8,
    /// [`Body::Heartbeat`].
    Heartbeat = 9,
    /// [`Body::PollRequest`].
    PollRequest = 10,
    /// [`Body::PollAnswer`].
    PollAnswer = 11,
    /// [`Body::Pruned`].
    Pruned = 12,
    /// [`Body::Look`].
    Look = 13,
}

impl Kind {
    /// All kinds.
    const ALL: [Self; 13] = [
        Self::Stored,
        Self::Live,
        Self::Erasure,
        Self::Erased,
        Self::Committed,
        Self::Elsewhere,
        Self::Presence,
        Self::Counts,
        Self::Heartbeat,
        Self::PollRequest,
        Self::PollAnswer,
        Self::Pruned,
        Self::Look,
    ];

    /// The kind with this number, if this release knows it.
    fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }
}

/// Why a message cannot be read. The caller skips it and counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    /// The message has a version, a kind or a variant of a newer release.
    #[error("the message is of a kind that this release does not know")]
    Unknown,
    /// The message ends too early, or holds an impossible value.
    #[error("the message is damaged")]
    Malformed,
}

impl Message {
    /// Encodes the message.
    pub(crate) fn encode(&self) -> Bytes {
        encode::message(self)
    }

    /// Reads a message. Its texts and payloads are slices of `bytes`, and keep all of `bytes` in memory.
    ///
    /// # Errors
    /// If the message is of a newer release, or damaged.
    pub(crate) fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        decode::message(bytes)
    }
}

/// Reads the header alone. `None` if the version is unknown or the header is incomplete.
pub(crate) fn header(mut bytes: &[u8]) -> Option<Header> {
    if bytes.len() < HEADER_LEN || bytes.get_u8() != VERSION {
        return None;
    }
    let kind = Kind::from_number(bytes.get_u8());
    // The flags: no release uses them yet.
    bytes.advance(1);
    Some(Header {
        kind,
        author: NodeId::new(bytes.get_u64_le()),
        nonce: bytes.get_u64_le(),
        at: bytes.get_i64_le(),
    })
}

/// Splits what arrived on a topic's channel into the place and the message. An ordered message has its
/// place in front: the epoch in hexadecimal digits, a space, the seq in decimal digits, a space. Any other
/// message is returned as it is.
pub(crate) fn place(bytes: &Bytes) -> (Option<MessageId>, Bytes) {
    match split_place(bytes) {
        Some((id, len)) => (Some(id), bytes.slice(len..)),
        None => (None, bytes.clone()),
    }
}

/// The place in front of an ordered message, and the length of its text.
fn split_place(bytes: &[u8]) -> Option<(MessageId, usize)> {
    let (epoch, rest) = split_number(bytes, 16)?;
    let (seq, rest) = split_number(rest, 10)?;
    let id = MessageId::new(Epoch::new(epoch), Seq::new(seq));
    Some((id, bytes.len() - rest.len()))
}

/// A number without a sign and the space after it, and the rest.
fn split_number(bytes: &[u8], radix: u32) -> Option<(i64, &[u8])> {
    let len = bytes
        .iter()
        .position(|byte| !char::from(*byte).is_digit(radix))?;
    let (digits, rest) = bytes.split_at(len);
    let number = i64::from_str_radix(str::from_utf8(digits).ok()?, radix).ok()?;
    Some((number, rest.strip_prefix(b" ")?))
}
