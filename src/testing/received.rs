//! The server's frames, as the assertions tell them apart: pushes, broadcasts, replies and ends of channels.

use bytes::Bytes;
use serde_json::Value;

use crate::message::{PHX_CLOSE, PHX_ERROR, PHX_REPLY};
use crate::serializer::{ServerBody, ServerMessage};

impl ServerMessage {
    pub(super) fn push(&self, event: &str) -> Option<&ServerBody> {
        (self.event == event && !self.join_ref.is_null()).then_some(&self.body)
    }

    pub(super) fn broadcast(&self, event: &str) -> Option<&ServerBody> {
        (self.event == event && self.join_ref.is_null()).then_some(&self.body)
    }

    pub(super) fn reply(&self, reference: &str) -> Option<&ServerBody> {
        (self.event == PHX_REPLY && self.reference == reference).then_some(&self.body)
    }

    pub(super) fn closes(&self, topic: &str) -> Option<()> {
        (self.event == PHX_CLOSE && self.topic == topic).then_some(())
    }

    pub(super) fn crashes(&self, topic: &str) -> Option<()> {
        (self.event == PHX_ERROR && self.topic == topic).then_some(())
    }
}

impl ServerBody {
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
