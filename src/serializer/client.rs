//! The client's side of vsn 2.0.0: the frames of a server, as the client of a test reads them.

use std::fmt;

use bytes::Bytes;
use serde_json::{Value, json};

use super::is_v2_text;
use super::v2_binary::{BROADCAST, PUSH, REPLY};
use crate::message::PHX_REPLY;

/// A frame of the server.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ServerMessage {
    pub(crate) join_ref: Value,
    pub(crate) reference: Value,
    pub(crate) topic: Value,
    pub(crate) event: String,
    pub(crate) body: ServerBody,
}

/// What a frame carries.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ServerBody {
    Json(Value),
    Binary(Bytes),
    /// Status and data of a binary reply.
    BinaryReply(String, Bytes),
}

impl ServerMessage {
    /// Reads a frame; `None` if no server sends it.
    pub(crate) fn read(frame: &Bytes) -> Option<Self> {
        if !is_v2_text(frame) {
            return Self::read_binary(frame);
        }
        let (join_ref, reference, topic, event, payload) = serde_json::from_slice(frame).ok()?;
        Some(Self {
            join_ref,
            reference,
            topic,
            event,
            body: ServerBody::Json(payload),
        })
    }

    fn read_binary(frame: &Bytes) -> Option<Self> {
        let kind = *frame.first()?;
        let names = match kind {
            PUSH => 3,
            REPLY => 4,
            BROADCAST => 2,
            _ => return None,
        };
        let mut at = 1 + names;
        let mut fields = frame.get(1..at)?.iter().map(|&len| {
            let field = frame.get(at..at + usize::from(len))?;
            at += usize::from(len);
            String::from_utf8(field.to_vec()).ok()
        });
        let mut next = || fields.next().flatten();
        let join_ref = match kind {
            BROADCAST => Value::Null,
            _ => next()?.into(),
        };
        let reference = match kind {
            REPLY => next()?.into(),
            _ => Value::Null,
        };
        let (topic, last) = (next()?.into(), next()?);
        let data = frame.slice(at..);
        let (event, body) = match kind {
            REPLY => (PHX_REPLY.to_owned(), ServerBody::BinaryReply(last, data)),
            _ => (last, ServerBody::Binary(data)),
        };
        Some(Self {
            join_ref,
            reference,
            topic,
            event,
            body,
        })
    }
}

/// As a text frame.
impl fmt::Display for ServerMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = match &self.body {
            ServerBody::Json(json) => json.clone(),
            ServerBody::Binary(data) => json!(format!("{data:?}")),
            ServerBody::BinaryReply(status, data) => json!([status, format!("{data:?}")]),
        };
        let frame = json!([self.join_ref, self.reference, self.topic, self.event, body]);
        write!(f, "{frame}")
    }
}
