//! vsn 2.0.0 binary frames: a kind, one length byte for each field, the fields, the data.
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

pub(super) const PUSH: u8 = 0;
pub(super) const REPLY: u8 = 1;
pub(super) const BROADCAST: u8 = 2;

/// The kind and the four lengths of a client's push.
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

/// The topic of a channel. It is always text, because only joined topics get here.
fn topic_str(topic: &Name) -> &str {
    topic.as_str().unwrap_or_default()
}

/// The text of a ref in a header: empty for null, without quotes for a string, printed for a number.
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
