//! Encodes a [`Message`]. The inverse of [`decode`](super::decode).

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    Body, Change, Committed, Content, Direction, HEADER_LEN, Heartbeat, Kind, Live, Message,
    Numbered, Stored, VERSION,
};
use crate::log::Seq;

/// Room for the header and for short texts, in bytes.
const ROOM: usize = HEADER_LEN + 101;

/// See [`Message::encode`].
pub(super) fn message(message: &Message) -> Bytes {
    let mut out = BytesMut::with_capacity(ROOM + payload_len(&message.body));
    out.put_u8(VERSION);
    out.put_u8(message.body.kind() as u8);
    out.put_u8(0);
    out.put_u64_le(message.author.get());
    out.put_u64_le(message.nonce);
    out.put_i64_le(message.at);
    put_body(&mut out, &message.body);
    out.freeze()
}

impl Body {
    /// The kind of the body.
    pub(super) const fn kind(&self) -> Kind {
        match self {
            Self::Stored(_) => Kind::Stored,
            Self::Live(_) => Kind::Live,
            Self::Erasure => Kind::Erasure,
            Self::Erased { .. } => Kind::Erased,
            Self::Committed(_) => Kind::Committed,
            Self::Elsewhere { .. } => Kind::Elsewhere,
            Self::Presence(_) => Kind::Presence,
            Self::Counts(_) => Kind::Counts,
            Self::Heartbeat(_) => Kind::Heartbeat,
            Self::PollRequest(_) => Kind::PollRequest,
            Self::PollAnswer(_) => Kind::PollAnswer,
            Self::Pruned { .. } => Kind::Pruned,
            Self::Look => Kind::Look,
        }
    }
}

impl Content {
    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Json(text) => text.as_bytes(),
            Self::Binary(data) => data,
        }
    }
}

/// The length of the largest part of the body, so that the buffer rarely grows.
fn payload_len(body: &Body) -> usize {
    match body {
        Body::Stored(stored) => stored.payload.len(),
        Body::Live(Live { payload, .. }) | Body::Elsewhere { payload, .. } => {
            payload.as_bytes().len()
        }
        Body::Presence(bytes) | Body::Counts(bytes) => bytes.len(),
        Body::PollRequest(numbered) | Body::PollAnswer(numbered) => numbered.bytes.len(),
        Body::Committed(committed) => {
            let rows = committed.rows.iter();
            rows.map(|row| ROOM + row.message.payload.len()).sum()
        }
        Body::Erased { seqs, .. } => seqs.len() * size_of::<Seq>(),
        Body::Erasure | Body::Heartbeat(_) | Body::Pruned { .. } | Body::Look => 0,
    }
}

fn put_body(out: &mut BytesMut, body: &Body) {
    match body {
        Body::Erasure | Body::Look => {}
        Body::Stored(stored) => put_stored(out, stored),
        Body::Live(live) => put_live(out, live),
        Body::Erased { erasure, seqs } => {
            put_seq(out, *erasure);
            put_varint(out, seqs.len() as u64);
            seqs.iter().for_each(|seq| put_seq(out, *seq));
        }
        Body::Committed(committed) => put_committed(out, committed),
        Body::Elsewhere {
            topic,
            event,
            payload,
        } => {
            put_bytes(out, topic.as_bytes());
            put_bytes(out, event.as_bytes());
            put_content(out, payload);
        }
        Body::Presence(bytes) | Body::Counts(bytes) => put_bytes(out, bytes),
        Body::Heartbeat(heartbeat) => put_heartbeat(out, heartbeat),
        Body::PollRequest(numbered) | Body::PollAnswer(numbered) => {
            let Numbered { number, bytes } = numbered;
            put_varint(out, *number);
            put_bytes(out, bytes);
        }
        Body::Pruned { through } => put_seq(out, *through),
    }
}

/// A byte of flags, then the parts.
fn put_stored(out: &mut BytesMut, stored: &Stored) {
    let (change, target) = match stored.change {
        None => (0, None),
        Some(Change::Update(target)) => (Stored::UPDATE, Some(target)),
        Some(Change::Delete(target)) => (Stored::DELETE, Some(target)),
    };
    let named = if stored.client_ref.is_some() {
        Stored::NAMED
    } else {
        0
    };
    out.put_u8(change | named);
    put_bytes(out, stored.event.as_bytes());
    if let Some(client_ref) = &stored.client_ref {
        put_bytes(out, client_ref.as_bytes());
    }
    if let Some(target) = target {
        put_seq(out, target);
    }
    put_bytes(out, stored.payload.as_bytes());
}

/// The rows have their length in front, so that a newer release can append to each.
fn put_committed(out: &mut BytesMut, committed: &Committed) {
    put_seq(out, committed.prev);
    put_seq(out, committed.head);
    put_varint(out, committed.epoch.get() as u64);
    put_varint(out, committed.rows.len() as u64);
    for row in &committed.rows {
        let mut encoded = BytesMut::with_capacity(ROOM + row.message.payload.len());
        put_seq(&mut encoded, row.seq);
        encoded.put_i64_le(row.at);
        put_stored(&mut encoded, &row.message);
        put_bytes(out, &encoded);
    }
}

fn put_live(out: &mut BytesMut, live: &Live) {
    let (number, selector) = match &live.direction {
        Direction::All => (Direction::ALL, None),
        Direction::To(selector) => (Direction::TO, Some(selector)),
        Direction::Close(None) => (Direction::CLOSE_ALL, None),
        Direction::Close(Some(selector)) => (Direction::CLOSE, Some(selector)),
    };
    out.put_u8(number);
    if let Some(selector) = selector {
        put_bytes(out, selector);
    }
    put_bytes(out, live.event.as_bytes());
    put_content(out, &live.payload);
}

fn put_heartbeat(out: &mut BytesMut, heartbeat: &Heartbeat) {
    out.put_i64_le(heartbeat.started);
    out.put_u8(heartbeat.leaving.into());
    put_bytes(out, heartbeat.name.as_bytes());
}

fn put_content(out: &mut BytesMut, content: &Content) {
    out.put_u8(match content {
        Content::Json(_) => Content::JSON,
        Content::Binary(_) => Content::BINARY,
    });
    put_bytes(out, content.as_bytes());
}

fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.put_slice(bytes);
}

/// Negative seqs, which only other applications write, take ten bytes.
fn put_seq(out: &mut BytesMut, seq: Seq) {
    put_varint(out, seq.get() as u64);
}

fn put_varint(out: &mut BytesMut, mut number: u64) {
    while number >= 0x80 {
        out.put_u8(number as u8 | 0x80);
        number >>= 7;
    }
    out.put_u8(number as u8);
}
