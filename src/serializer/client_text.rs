//! The client's side of vsn 2.0.0 text frames, for the commands that are clients of a server.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::write_str;
use crate::message::{HEARTBEAT, PHOENIX_TOPIC};

/// A message of a client. `payload` is JSON.
pub(crate) fn client_text(
    join_ref: Option<&str>,
    reference: &str,
    topic: &str,
    event: &str,
    payload: &str,
) -> String {
    let names = reference.len() + topic.len() + event.len();
    let mut buf = Vec::with_capacity(names + payload.len() + 32);
    buf.push(b'[');
    match join_ref {
        Some(join_ref) => write_str(&mut buf, join_ref),
        None => buf.extend_from_slice(b"null"),
    }
    for text in [reference, topic, event] {
        buf.push(b',');
        write_str(&mut buf, text);
    }
    buf.push(b',');
    buf.extend_from_slice(payload.as_bytes());
    buf.push(b']');
    String::from_utf8(buf).expect("each part is UTF-8")
}

/// A client's heartbeat.
pub(crate) fn heartbeat_text(reference: &str) -> String {
    client_text(None, reference, PHOENIX_TOPIC, HEARTBEAT, "{}")
}

#[derive(Deserialize)]
struct Array<'a>(
    IgnoredAny,
    #[serde(borrow)] Option<Cow<'a, str>>,
    #[serde(borrow)] Cow<'a, str>,
    #[serde(borrow)] Cow<'a, str>,
    #[serde(borrow)] &'a RawValue,
);

/// A message of a server. Its payload is not parsed.
#[derive(Debug)]
pub(crate) struct ServerText<'a> {
    pub(crate) reference: Option<Cow<'a, str>>,
    pub(crate) topic: Cow<'a, str>,
    pub(crate) event: Cow<'a, str>,
    pub(crate) payload: &'a RawValue,
}

impl<'a> ServerText<'a> {
    /// Reads a text frame; `None` if no server sends it.
    pub(crate) fn read(frame: &'a [u8]) -> Option<Self> {
        let Array(_, reference, topic, event, payload) = serde_json::from_slice(frame).ok()?;
        Some(Self {
            reference,
            topic,
            event,
            payload,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serializer::Serializer;

    #[test]
    fn a_server_reads_what_a_client_writes() {
        let text = client_text(Some("1"), "p2", "room:\"ä\"", "shout", "{\"a\": 1}");
        assert_eq!(text, r#"["1","p2","room:\"ä\"","shout",{"a": 1}]"#);
        let message = Serializer::V2.decode_text(&text.into()).expect("sound");
        assert_eq!(message.topic.as_str(), Some("room:\"ä\""));
        assert_eq!(
            heartbeat_text("h"),
            r#"[null,"h","phoenix","heartbeat",{}]"#
        );
    }

    #[test]
    fn a_client_reads_what_a_server_writes() {
        let frame = br#"["1",null,"room:\"1","shout",{"a":[1, 2]}]"#;
        let message = ServerText::read(frame).expect("sound");
        assert_eq!(message.reference, None);
        assert_eq!(message.topic, "room:\"1");
        assert_eq!(message.event, "shout");
        assert_eq!(message.payload.get(), r#"{"a":[1, 2]}"#);
        for other in ["[]", "{}", r#"["1","1","room:1","shout"]"#, "text"] {
            assert!(ServerText::read(other.as_bytes()).is_none(), "{other}");
        }
    }
}
