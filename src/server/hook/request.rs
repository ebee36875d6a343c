//! [`Call`]: a question to the backend, and its body.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use crate::message::RawJson;

/// The version of the body.
const VERSION: u32 = 1;

/// What a call is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallKind {
    /// A client connects. The backend may refuse it, and adds to its identity.
    Connect,
    Join,
    Event,
    /// A notice: the answer does nothing.
    Leave,
}

impl CallKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Join => "join",
            Self::Event => "event",
            Self::Leave => "leave",
        }
    }
}

impl Serialize for CallKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// Headers of a handshake, as (name, value), for the calls of its socket.
pub(crate) type PassedHeaders = Arc<[(String, String)]>;

/// The facts of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    pub(crate) kind: CallKind,
    pub(crate) socket: &'a str,
    pub(crate) user: &'a Value,
    pub(crate) me: &'a Map<String, Value>,
    /// `None` for a connection.
    pub(crate) topic: Option<&'a str>,
    /// The part of the topic for which the pattern's `*` stands.
    pub(crate) matched: Option<&'a str>,
    /// `None` unless it is an event.
    pub(crate) event: Option<&'a str>,
    pub(crate) payload: &'a RawJson,
    pub(crate) wants_reply: bool,
}

/// A call as it is sent.
#[derive(Clone, Debug)]
pub(crate) struct WrittenCall {
    pub(super) kind: CallKind,
    /// The name of the call in the logs of server and backend.
    pub(super) id: String,
    pub(super) body: Bytes,
    pub(super) headers: PassedHeaders,
}

/// Notices as they are sent. The same batch may be sent more than once.
#[derive(Clone, Debug)]
pub(crate) struct WrittenBatch {
    /// The name of the batch in the logs of server and backend.
    pub(crate) id: String,
    pub(super) body: Bytes,
}

impl WrittenBatch {
    /// A batch of these notices, each a JSON object.
    pub(crate) fn new(notices: &[RawJson]) -> Self {
        #[derive(Serialize)]
        struct Body<'a> {
            v: u32,
            id: &'a str,
            r#type: &'a str,
            at: u64,
            notices: &'a [RawJson],
        }
        let id = random_id();
        let body = Body {
            v: VERSION,
            id: &id,
            r#type: "told",
            at: millis(SystemTime::now()),
            notices,
        };
        let body = serde_json::to_vec(&body).expect("strings and JSON have a JSON form");
        Self {
            id,
            body: body.into(),
        }
    }
}

/// The name of a call or a batch.
fn random_id() -> String {
    // Without the system's randomness ids repeat. They name calls in logs, and nothing is looked up by them.
    format!("h-{:016x}", getrandom::u64().unwrap_or_default())
}

/// Milliseconds since 1970.
pub(crate) fn millis(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

impl Call<'_> {
    /// Writes the body. The call carries these headers of its handshake.
    pub(crate) fn write(&self, headers: PassedHeaders) -> WrittenCall {
        #[derive(Serialize)]
        struct Body<'a> {
            v: u32,
            id: &'a str,
            r#type: CallKind,
            at: u64,
            socket: &'a str,
            user: &'a Value,
            me: &'a Map<String, Value>,
            topic: Option<&'a str>,
            segments: Vec<&'a str>,
            event: Option<&'a str>,
            payload: &'a RawJson,
            wants_reply: bool,
        }
        let id = random_id();
        let body = Body {
            v: VERSION,
            id: &id,
            r#type: self.kind,
            at: millis(SystemTime::now()),
            socket: self.socket,
            user: self.user,
            me: self.me,
            topic: self.topic,
            segments: self
                .matched
                .map_or_else(Vec::new, |matched| matched.split(':').collect()),
            event: self.event,
            payload: self.payload,
            wants_reply: self.wants_reply,
        };
        let body = serde_json::to_vec(&body).expect("strings and JSON have a JSON form");
        WrittenCall {
            kind: self.kind,
            id,
            body: body.into(),
            headers,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_batch_has_its_notices_in_order() {
        let notices = [json!({"n": 1}), json!({"n": 2})].map(RawJson::from);
        let written = WrittenBatch::new(&notices);
        let mut body: Value = serde_json::from_slice(&written.body).expect("JSON");
        assert_eq!(body["id"].take(), written.id);
        assert!(body["at"].take().is_u64());
        let expected = json!({
            "v": 1, "id": null, "type": "told", "at": null, "notices": [{"n": 1}, {"n": 2}],
        });
        assert_eq!(body, expected);
    }

    #[test]
    fn the_body_has_every_member() {
        let (user, me) = (json!({"id": 7}), Map::new());
        let call = Call {
            kind: CallKind::Event,
            socket: "9b",
            user: &user,
            me: &me,
            topic: Some("room:12:a"),
            matched: Some("12:a"),
            event: Some("say"),
            payload: &RawJson::from(json!("any JSON")),
            wants_reply: true,
        };
        let written = call.write(Arc::default());
        let mut body: Value = serde_json::from_slice(&written.body).expect("JSON");
        assert_eq!(body["id"], written.id);
        assert!(body["at"].is_u64());
        for name in ["id", "at"] {
            body[name].take();
        }
        let expected = json!({
            "v": 1, "id": null, "type": "event", "at": null, "socket": "9b", "user": {"id": 7}, "me": {},
            "topic": "room:12:a", "segments": ["12", "a"], "event": "say", "payload": "any JSON",
            "wants_reply": true,
        });
        assert_eq!(body, expected);
    }
}
