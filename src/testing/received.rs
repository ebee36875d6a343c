//! [`Received`]: what the server has sent, as a client reads it.

use std::fmt;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::message::{PHX_CLOSE, PHX_ERROR, PHX_REPLY};
use crate::serializer::receive_binary;

/// One frame as the client would see it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Received {
    pub(super) join_ref: Value,
    reference: Value,
    pub(super) topic: Value,
    event: String,
    body: Body,
}

/// What a frame carries.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Body {
    Json(Value),
    Binary(Bytes),
    /// A reply, whose status stands in the header.
    BinaryReply(String, Bytes),
}

impl Received {
    /// A frame as its client reads it. JSON begins with a bracket, binary with its kind.
    pub(super) fn read(frame: &Bytes) -> Option<Self> {
        if frame.first() == Some(&b'[') {
            let (join_ref, reference, topic, event, payload) =
                serde_json::from_slice(frame).ok()?;
            return Some(Self {
                join_ref,
                reference,
                topic,
                event,
                body: Body::Json(payload),
            });
        }
        let binary = receive_binary(frame)?;
        let (reference, event, body) = match binary.reply {
            None => (Value::Null, &*binary.event, Body::Binary(binary.data)),
            Some((reference, status)) => {
                let body = Body::BinaryReply(status.to_string(), binary.data);
                (Value::from(&*reference), PHX_REPLY, body)
            }
        };
        Some(Self {
            join_ref: binary.join_ref.as_deref().map_or(Value::Null, Value::from),
            reference,
            topic: Value::from(&*binary.topic),
            event: event.to_owned(),
            body,
        })
    }

    pub(super) fn push(&self, event: &str) -> Option<&Body> {
        (self.event == event && !self.join_ref.is_null()).then_some(&self.body)
    }

    pub(super) fn broadcast(&self, event: &str) -> Option<&Body> {
        (self.event == event && self.join_ref.is_null()).then_some(&self.body)
    }

    pub(super) fn reply(&self, reference: &str) -> Option<&Body> {
        (self.event == PHX_REPLY && self.reference == reference).then_some(&self.body)
    }

    pub(super) fn closes(&self, topic: &str) -> Option<()> {
        (self.event == PHX_CLOSE && self.topic == topic).then_some(())
    }

    pub(super) fn crashes(&self, topic: &str) -> Option<()> {
        (self.event == PHX_ERROR && self.topic == topic).then_some(())
    }
}

/// As the frame of a vsn 2.0.0 client.
impl fmt::Display for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = match &self.body {
            Body::Json(json) => json.clone(),
            Body::Binary(data) => json!(format!("{data:?}")),
            Body::BinaryReply(status, data) => json!([status, format!("{data:?}")]),
        };
        let frame = json!([self.join_ref, self.reference, self.topic, self.event, body]);
        write!(f, "{frame}")
    }
}

impl Body {
    pub(super) fn json(&self) -> Option<Value> {
        match self {
            Self::Json(json) => Some(json.clone()),
            _ => None,
        }
    }

    pub(super) fn binary(&self) -> Option<Bytes> {
        match self {
            Self::Binary(data) => Some(data.clone()),
            _ => None,
        }
    }

    pub(super) fn binary_reply(&self) -> Option<(String, Bytes)> {
        match self {
            Self::BinaryReply(status, data) => Some((status.clone(), data.clone())),
            _ => None,
        }
    }
}
