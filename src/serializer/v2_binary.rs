//! vsn 2.0.0 binary frames: a kind, one length byte a field, the fields, the data.
//!
//! ```text
//! push  client->server  00 | join_ref ref topic event (lengths) | the same (bytes) | data
//! push  server->client  00 | join_ref topic event               | ...              | data
//! reply server->client  01 | join_ref ref topic status          | ...              | data
//! bcast server->client  02 | topic event                        | ...              | data
//! ```

use std::borrow::Cow;

use bytes::Bytes;
use bytestring::ByteString;

use super::{DecodeError, EncodeError};
use crate::frame::{Frame, FrameBuilder, Opcode};
use crate::message::{Message, Name, Payload, RawJson, Ref};

const PUSH: u8 = 0;
const REPLY: u8 = 1;
const BROADCAST: u8 = 2;

/// Kind and four lengths of a client's push.
const PUSH_HEADER: usize = 5;

pub(super) fn decode(data: &Bytes) -> Result<Message, DecodeError> {
    let Some(&[kind, join_ref, reference, topic, event]) = data.first_chunk::<PUSH_HEADER>() else {
        return Err(DecodeError::Binary("the header is truncated"));
    };
    if kind != PUSH {
        return Err(DecodeError::Binary(
            "a client may only send pushes (kind 0)",
        ));
    }
    let mut at = PUSH_HEADER;
    let mut field = |len: u8| {
        let end = at + usize::from(len);
        if end > data.len() {
            return Err(DecodeError::Binary("a field is truncated"));
        }
        let bytes = data.slice(at..end);
        at = end;
        ByteString::try_from(bytes).map_err(|_| DecodeError::Binary("a field is not UTF-8"))
    };
    let (join_ref, reference) = (field(join_ref)?, field(reference)?);
    let (topic, event) = (field(topic)?, field(event)?);
    Ok(Message {
        join_ref: string_ref(&join_ref),
        reference: string_ref(&reference),
        topic: Name::Text(topic),
        event: Name::Text(event),
        payload: Payload::Binary(data.slice(at..)),
    })
}

/// In a binary frame every ref is a string: an empty field is `""`, not null.
fn string_ref(text: &ByteString) -> Ref {
    let json = RawJson::encode::<str>(text).expect("a string always has a JSON form");
    Ref::trusted(json.get().into())
}

pub(super) fn push(
    join_ref: &Ref,
    topic: &Name,
    event: &str,
    data: &Bytes,
) -> Result<Frame, EncodeError> {
    frame(PUSH, &[&printed(join_ref)?, topic_str(topic), event], data)
}

pub(super) fn reply(
    join_ref: &Ref,
    reference: &Ref,
    topic: &Name,
    status: &str,
    data: &Bytes,
) -> Result<Frame, EncodeError> {
    let fields = [
        &*printed(join_ref)?,
        &*printed(reference)?,
        topic_str(topic),
        status,
    ];
    frame(REPLY, &fields, data)
}

pub(super) fn broadcast(topic: &Name, event: &str, data: &Bytes) -> Result<Frame, EncodeError> {
    frame(BROADCAST, &[topic_str(topic), event], data)
}

/// What a client reads out of a binary frame of the server's.
pub(crate) struct Received {
    /// `None` in a broadcast.
    pub(crate) join_ref: Option<ByteString>,
    /// The ref and the status of a reply.
    pub(crate) reply: Option<(ByteString, ByteString)>,
    pub(crate) topic: ByteString,
    /// Empty in a reply.
    pub(crate) event: ByteString,
    pub(crate) data: Bytes,
}

/// The client's side; `None` for what no server sends.
pub(super) fn receive(frame: &Bytes) -> Option<Received> {
    let kind = *frame.first()?;
    let names = match kind {
        PUSH => 3,
        REPLY => 4,
        BROADCAST => 2,
        _ => return None,
    };
    let lens = frame.get(1..=names)?;
    let mut at = 1 + names;
    let mut fields = lens.iter().map(|&len| {
        let bytes =
            (frame.len() >= at + usize::from(len)).then(|| frame.slice(at..at + usize::from(len)));
        at += usize::from(len);
        ByteString::try_from(bytes?).ok()
    });
    let mut next = || fields.next().flatten();
    let join_ref = if kind == BROADCAST {
        None
    } else {
        Some(next()?)
    };
    let reference = if kind == REPLY { Some(next()?) } else { None };
    let topic = next()?;
    let last = next()?;
    let (event, reply) = match reference {
        Some(reference) => (ByteString::new(), Some((reference, last))),
        None => (last, None),
    };
    Some(Received {
        join_ref,
        reply,
        topic,
        event,
        data: frame.slice(at..),
    })
}

/// A channel's topic is always text: only joined topics reach this file.
fn topic_str(topic: &Name) -> &str {
    topic.as_str().unwrap_or_default()
}

/// A ref as it stands in a header: null is empty, strings lose their quotes, numbers are printed.
fn printed(reference: &Ref) -> Result<Cow<'_, str>, EncodeError> {
    let text = reference.get();
    match text.as_bytes().first() {
        _ if reference.is_null() => Ok("".into()),
        Some(b'"') if text.contains('\\') => serde_json::from_str::<String>(text)
            .map(Cow::Owned)
            .map_err(|_| EncodeError::UnprintableRef),
        Some(b'"') => Ok(text[1..text.len() - 1].into()),
        Some(b'-' | b'0'..=b'9') => Ok(text.into()),
        _ => Err(EncodeError::UnprintableRef),
    }
}

fn frame(kind: u8, fields: &[&str], data: &Bytes) -> Result<Frame, EncodeError> {
    let room: usize = fields.iter().map(|field| field.len() + 1).sum();
    let mut builder = FrameBuilder::with_capacity(1 + room + data.len());
    builder.buf.push(kind);
    for field in fields {
        let len = u8::try_from(field.len()).map_err(|_| EncodeError::FieldTooLong)?;
        builder.buf.push(len);
    }
    for field in fields {
        builder.buf.extend_from_slice(field.as_bytes());
    }
    builder.buf.extend_from_slice(data);
    Ok(builder.finish(Opcode::Binary))
}
