//! Wire bytes to [`Message`] and back. Pure: no I/O, no actor, no clock.
//!
//! Only this module knows the order of the JSON array, the keys of the V1 object and the binary
//! headers. Phoenix: `Phoenix.Socket.Serializer`, `V1.JSONSerializer`, `V2.JSONSerializer`.

mod first_keys;
mod strict;
mod v1;
mod v2;
mod v2_binary;

pub(crate) use self::v2_binary::Received as ReceivedBinary;

use std::borrow::Cow;

use bytes::Bytes;
use bytestring::ByteString;
use serde_json::error::Category;
use serde_json::value::RawValue;

use crate::frame::{Frame, FrameBuilder, Opcode};
use crate::message::{Message, Name, Payload, RawJson, Ref, Reply};

/// The encodings a client can ask for by `vsn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Serializer {
    /// `vsn` 1.0.x: JSON objects without join_ref; what phoenix.js up to 1.2 speaks.
    V1,
    /// `vsn` 2.0.x: JSON arrays, and binary frames.
    V2,
    /// `vsn` 2.0.x towards a client whose transport carries text only (long-poll): what it sends
    /// may be binary, what it is sent may not.
    V2Text,
}

/// Why bytes are not a message. The connection ends with close code 1011.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DecodeError {
    /// Not JSON, or JSON of another shape.
    #[error("not a message: {}, at line {} column {}", fault(.0), .0.line(), .0.column())]
    Json(#[from] serde_json::Error),
    /// JSON that strict clients refuse, so it must not be relayed.
    #[error("not a message: {0}")]
    Unrelayable(&'static str),
    /// A binary frame that is truncated or of an unknown kind.
    #[error("not a binary message: {0}")]
    Binary(&'static str),
}

/// What a client reads out of a binary frame of the server's; `None` for what no server sends.
pub(crate) fn receive_binary(frame: &Bytes) -> Option<ReceivedBinary> {
    v2_binary::receive(frame)
}

/// What is wrong with JSON. The error itself quotes it.
fn fault(error: &serde_json::Error) -> &'static str {
    match error.classify() {
        Category::Eof => "it ends too early",
        Category::Data => "JSON of another shape",
        Category::Syntax | Category::Io => "no JSON",
    }
}

/// Refuses JSON text that came by another way than a socket and holds what strict clients choke on.
///
/// # Errors
/// When the text must not be relayed.
pub(crate) fn check_relayable(text: &str) -> Result<(), DecodeError> {
    strict::check(text)
}

/// Why a message has no form on this client's wire. The sender is told, not the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A push or a broadcast must carry an object or bytes.
    #[error("the payload must be a JSON object or binary")]
    NotAnObject,
    /// The client's protocol version or transport has no binary form.
    #[error("this client cannot receive binary data")]
    NoBinary,
    /// A field of a binary frame has one byte for its length.
    #[error("a field of a binary message is longer than 255 bytes")]
    FieldTooLong,
    /// A ref that is an object or an array cannot stand in a binary header.
    #[error("the ref of a binary message must be a string or a number")]
    UnprintableRef,
}

impl Serializer {
    /// All serializers, in the order of [`Serializer::index`].
    pub(crate) const COUNT: usize = 3;

    /// Place of this serializer in a table of [`Serializer::COUNT`] encodings.
    pub(crate) fn index(self) -> usize {
        match self {
            Self::V1 => 0,
            Self::V2 => 1,
            Self::V2Text => 2,
        }
    }

    /// Chooses by the `vsn` parameter: none means 1.0.0; `~> 1.0.0` and `~> 2.0.0` are known,
    /// pre-releases are not.
    pub(crate) fn negotiate(vsn: Option<&str>) -> Option<Self> {
        let version = semver::Version::parse(vsn.unwrap_or("1.0.0")).ok()?;
        if !version.pre.is_empty() {
            return None;
        }
        match (version.major, version.minor) {
            (1, 0) => Some(Self::V1),
            (2, 0) => Some(Self::V2),
            _ => None,
        }
    }

    /// The same wire towards a transport that carries text only.
    pub(crate) fn text_only(self) -> Self {
        match self {
            Self::V1 => Self::V1,
            Self::V2 | Self::V2Text => Self::V2Text,
        }
    }

    /// Decodes a text message; its parts are slices of `text`.
    ///
    /// # Errors
    /// When `text` is not JSON, has another shape, or holds what strict JSON parsers refuse.
    pub(crate) fn decode_text(self, text: &ByteString) -> Result<Message, DecodeError> {
        strict::check(text)?;
        match self {
            Self::V1 => v1::decode(text),
            Self::V2 | Self::V2Text => v2::decode(text),
        }
    }

    /// Decodes a binary message. V1 has none of its own and reads JSON from it, as Phoenix does.
    ///
    /// # Errors
    /// When the frame is truncated or of an unknown kind.
    pub(crate) fn decode_binary(self, data: Bytes) -> Result<Message, DecodeError> {
        match self {
            Self::V1 => {
                let text = ByteString::try_from(data)
                    .map_err(|_| DecodeError::Binary("not UTF-8, and vsn 1.0.0 is JSON only"))?;
                self.decode_text(&text)
            }
            Self::V2 | Self::V2Text => v2_binary::decode(&data),
        }
    }

    /// Encodes the answer to one message.
    ///
    /// # Errors
    /// When the response is binary and has no form on this wire.
    pub(crate) fn reply(
        self,
        join_ref: &Ref,
        reference: &Ref,
        topic: &Name,
        reply: &Reply,
    ) -> Result<Frame, EncodeError> {
        match (self, reply.response()) {
            (Self::V1 | Self::V2Text, Payload::Binary(_)) => Err(EncodeError::NoBinary),
            (Self::V1, Payload::Json(json)) => {
                Ok(v1::reply(reference, topic, reply.status(), json))
            }
            (Self::V2 | Self::V2Text, Payload::Json(json)) => {
                Ok(v2::reply(join_ref, reference, topic, reply.status(), json))
            }
            (Self::V2, Payload::Binary(data)) => {
                v2_binary::reply(join_ref, reference, topic, reply.status(), data)
            }
        }
    }

    /// Encodes a message to one client.
    ///
    /// # Errors
    /// When the payload is no object (V2) or has no form on this wire.
    pub(crate) fn push(
        self,
        join_ref: &Ref,
        topic: &Name,
        event: &str,
        payload: &Payload,
    ) -> Result<Frame, EncodeError> {
        match (self, payload) {
            (Self::V1 | Self::V2Text, Payload::Binary(_)) => Err(EncodeError::NoBinary),
            (Self::V1, Payload::Json(json)) => Ok(v1::message(&Ref::NULL, topic, event, json)),
            (Self::V2 | Self::V2Text, Payload::Json(json)) if json.is_object() => {
                Ok(v2::message(join_ref, &Ref::NULL, topic, event, json))
            }
            (Self::V2 | Self::V2Text, Payload::Json(_)) => Err(EncodeError::NotAnObject),
            (Self::V2, Payload::Binary(data)) => v2_binary::push(join_ref, topic, event, data),
        }
    }

    /// Encodes `phx_close` or `phx_error`, which carry the join's ref twice (V1: once, as `ref`).
    pub(crate) fn ending(
        self,
        join_ref: &Ref,
        topic: &Name,
        event: &str,
        payload: &RawJson,
    ) -> Frame {
        match self {
            Self::V1 => v1::message(join_ref, topic, event, payload),
            Self::V2 | Self::V2Text => v2::message(join_ref, join_ref, topic, event, payload),
        }
    }

    /// Encodes a message to everybody: the same bytes for each client of this serializer.
    ///
    /// # Errors
    /// When the payload is no object or has no form on this wire.
    pub(crate) fn broadcast(
        self,
        topic: &str,
        event: &str,
        payload: &Payload,
    ) -> Result<Frame, EncodeError> {
        let topic = Name::from(topic);
        match (self, payload) {
            (Self::V2, Payload::Binary(data)) => v2_binary::broadcast(&topic, event, data),
            _ => self.push(&Ref::NULL, &topic, event, payload),
        }
    }
}

/// The slice of `text` that `raw` borrows, as an owner of its own.
fn slice(text: &ByteString, raw: &RawValue) -> ByteString {
    text.slice_ref(raw.get())
}

/// A payload: relayed as it came, but for keys that an object has twice.
fn relayed(text: &ByteString, raw: &RawValue) -> Payload {
    Payload::Json(RawJson::trusted(match first_keys::first_keys(raw.get()) {
        Cow::Borrowed(_) => slice(text, raw),
        Cow::Owned(shortened) => shortened.into(),
    }))
}

/// A topic or an event: unescaped when it is a string, raw otherwise.
fn name(text: &ByteString, raw: &RawValue) -> Result<Name, serde_json::Error> {
    let json = raw.get();
    let Some(inner) = json.strip_prefix('"').and_then(|s| s.strip_suffix('"')) else {
        return Ok(Name::Other(RawJson::trusted(slice(text, raw))));
    };
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Ok(Name::Text(text.slice_ref(inner)));
    }
    serde_json::from_str::<String>(json).map(|unescaped| Name::Text(unescaped.into()))
}

/// Appends a JSON string.
fn write_str(buf: &mut Vec<u8>, text: &str) {
    // Without a branch, so that many bytes are looked at at once.
    let special = text.bytes().fold(false, |found, b| {
        found | (b < 0x20) | (b == b'"') | (b == b'\\')
    });
    if !special {
        buf.push(b'"');
        buf.extend_from_slice(text.as_bytes());
        buf.push(b'"');
    } else {
        serde_json::to_writer(buf, text).expect("a string always has a JSON form");
    }
}

/// Appends a topic.
fn write_name(buf: &mut Vec<u8>, name: &Name) {
    match name {
        Name::Text(text) => write_str(buf, text),
        Name::Other(json) => buf.extend_from_slice(json.get().as_bytes()),
    }
}

/// Room for what stands around a payload in a text frame.
const ENVELOPE_ROOM: usize = 96;

/// A builder for a text frame that carries `payload`.
fn text_frame(topic: &Name, payload: &RawJson) -> FrameBuilder {
    let topic = match topic {
        Name::Text(text) => text.len(),
        Name::Other(json) => json.get().len(),
    };
    FrameBuilder::with_capacity(ENVELOPE_ROOM + topic + payload.get().len())
}

/// Ends a text frame.
fn finish_text(builder: FrameBuilder) -> Frame {
    builder.finish(Opcode::Text)
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
