//! Decodes [`Message`]s from wire bytes, and encodes messages for the wire. Pure: no I/O, no actor, no
//! clock.
//!
//! Only this module knows the order of the JSON array, the keys of the V1 object and the binary
//! headers. Phoenix: `Phoenix.Socket.Serializer`, `V1.JSONSerializer`, `V2.JSONSerializer`.

#[cfg(any(test, feature = "testing"))]
mod client;
#[cfg(feature = "server")]
mod client_text;
mod first_keys;
mod strict;
mod v1;
mod v2;
mod v2_binary;

#[cfg(any(test, feature = "testing"))]
pub(crate) use self::client::{ServerBody, ServerMessage};
#[cfg(feature = "server")]
pub(crate) use self::client_text::{ServerText, client_text, heartbeat_text};

use std::borrow::Cow;

use bytes::Bytes;
use bytestring::ByteString;
use serde_json::error::Category;
use serde_json::value::RawValue;

use crate::frame::{Frame, FrameBuilder, Opcode};
use crate::message::{Message, Name, Payload, RawJson, Ref, Reply};

/// The encodings that a client can choose by `vsn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Serializer {
    /// `vsn` 1.0.x: JSON objects without join_ref, as phoenix.js up to 1.2 uses them.
    V1,
    /// `vsn` 2.0.x: JSON arrays, and binary frames.
    V2,
    /// `vsn` 2.0.x for a client whose transport carries only text (long-poll): it may send binary messages,
    /// but cannot receive them.
    V2Text,
}

/// Why bytes are not a message. The connection ends with close code 1011.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DecodeError {
    /// The text is not JSON, or JSON of another shape.
    #[error("not a message: {}, at line {} column {}", fault(.0), .0.line(), .0.column())]
    Json(#[from] serde_json::Error),
    /// The JSON would break strict clients, so it must not be relayed.
    #[error("not a message: {0}")]
    Unrelayable(&'static str),
    /// The binary frame is truncated or of an unknown kind.
    #[error("not a binary message: {0}")]
    Binary(&'static str),
}

/// Whether a message of vsn 2.0.0 is text: an array. Any other is binary.
pub(crate) fn is_v2_text(message: &[u8]) -> bool {
    message.starts_with(b"[")
}

/// Describes a JSON error. The error's own text quotes the JSON.
fn fault(error: &serde_json::Error) -> &'static str {
    match error.classify() {
        Category::Eof => "it ends too early",
        Category::Data => "JSON of another shape",
        Category::Syntax | Category::Io => "not valid JSON",
    }
}

/// Checks JSON text that did not come through a socket for content that breaks strict clients.
///
/// # Errors
/// If the text must not be relayed.
pub(crate) fn check_relayable(text: &str) -> Result<(), DecodeError> {
    strict::check(text)
}

/// Why a message cannot be encoded for a client. The error goes to the sender, not to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The payload of a push or a broadcast must be an object or bytes.
    #[error("the payload must be a JSON object or binary")]
    NotAnObject,
    /// The client's protocol version or transport cannot carry binary data.
    #[error("this client cannot receive binary data")]
    NoBinary,
    /// A field is too long for the one byte that holds its length.
    #[error("a field of a binary message is longer than 255 bytes")]
    FieldTooLong,
    /// The ref is an object or an array, which a binary header cannot hold.
    #[error("the ref of a binary message must be a string or a number")]
    UnprintableRef,
}

impl Serializer {
    /// The number of serializers.
    pub(crate) const COUNT: usize = 3;

    /// The place of this serializer in a table of [`Serializer::COUNT`] encodings.
    pub(crate) fn index(self) -> usize {
        match self {
            Self::V1 => 0,
            Self::V2 => 1,
            Self::V2Text => 2,
        }
    }

    /// Chooses by the parameter `vsn`. `None` counts as 1.0.0. Accepts `~> 1.0.0` and `~> 2.0.0`, but no
    /// pre-releases.
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

    /// The same serializer for a transport that carries only text.
    pub(crate) fn text_only(self) -> Self {
        match self {
            Self::V1 => Self::V1,
            Self::V2 | Self::V2Text => Self::V2Text,
        }
    }

    /// Decodes a text message; its parts are slices of `text`.
    ///
    /// # Errors
    /// If `text` is not JSON, has another shape, or would break strict JSON parsers.
    pub(crate) fn decode_text(self, text: &ByteString) -> Result<Message, DecodeError> {
        strict::check(text)?;
        match self {
            Self::V1 => v1::decode(text),
            Self::V2 | Self::V2Text => v2::decode(text),
        }
    }

    /// Decodes a binary message. V1 has no binary form and reads the bytes as JSON, as Phoenix does.
    ///
    /// # Errors
    /// If the frame is truncated or of an unknown kind.
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
    /// If the response is binary and this serializer cannot carry it.
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
    /// If the payload is not an object (V2), or this serializer cannot carry it.
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

    /// Encodes `phx_close` or `phx_error`. Both carry the join's ref twice (in V1 once, as `ref`).
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

    /// Encodes a broadcast: the same bytes for each client of this serializer.
    ///
    /// # Errors
    /// If the payload is not an object, or this serializer cannot carry it.
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

/// The slice of `text` that `raw` borrows, as an owned string that shares the bytes.
fn slice(text: &ByteString, raw: &RawValue) -> ByteString {
    text.slice_ref(raw.get())
}

/// A payload as it was sent, without the members that repeat a key.
fn relayed(text: &ByteString, raw: &RawValue) -> Payload {
    Payload::Json(RawJson::trusted(match first_keys::first_keys(raw.get()) {
        Cow::Borrowed(_) => slice(text, raw),
        Cow::Owned(shortened) => shortened.into(),
    }))
}

/// A topic or an event: unescaped if it is a string, raw otherwise.
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
    // Without a branch in the loop, so that it is vectorised.
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

/// The room for everything but the topic and the payload in a text frame.
const ENVELOPE_ROOM: usize = 96;

/// Makes a builder for a text frame that carries `payload`.
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
