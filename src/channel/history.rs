//! How the stored messages of a topic reach a client that joins.

use crate::message::{Payload, RawJson};
use crate::pubsub::History;

/// The event of [`HistoryMode::MessagesHistory`].
const MESSAGES_HISTORY: &str = "messages_history";
/// The key under which a list of messages stands.
const MESSAGES: &str = "messages";

/// How a join delivers the topic's history, oldest message first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HistoryMode {
    /// Not at all.
    #[default]
    None,
    /// One push `messages_history` with `{"messages": [payload, ...]}`.
    MessagesHistory,
    /// One push a message, of its own event and payload.
    PerEvent,
    /// In the join reply, as its member `messages`. A reply that is no object stays as it is.
    Reply,
}

impl HistoryMode {
    /// The join reply in this mode.
    pub(super) fn reply(self, reply: Payload, history: Option<&History>) -> Payload {
        match (self, &reply, history) {
            (Self::Reply, Payload::Json(json), Some(history)) if json.is_object() => {
                Payload::Json(with_messages(json.get(), history))
            }
            _ => reply,
        }
    }

    /// The pushes that follow the join reply.
    pub(super) fn pushes(self, history: Option<&History>) -> Vec<(&str, Payload)> {
        let Some(history) = history else {
            return Vec::new();
        };
        match self {
            Self::None | Self::Reply => Vec::new(),
            Self::MessagesHistory => {
                vec![(
                    MESSAGES_HISTORY,
                    Payload::Json(with_messages("{}", history)),
                )]
            }
            Self::PerEvent => history
                .entries
                .iter()
                .map(|entry| (entry.event(), Payload::Json(entry.payload().clone())))
                .collect(),
        }
    }
}

/// The object with a member `messages` added last; the payloads are copied as they are.
fn with_messages(object: &str, history: &History) -> RawJson {
    let members = object
        .trim_end()
        .strip_suffix('}')
        .unwrap_or("{")
        .trim_end();
    let payloads: Vec<&str> = history
        .entries
        .iter()
        .map(|entry| entry.payload().get())
        .collect();
    let comma = if members.ends_with('{') { "" } else { "," };
    let text = format!("{members}{comma}\"{MESSAGES}\":[{}]}}", payloads.join(","));
    RawJson::trusted(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_added_to_the_reply() {
        let empty = History::default();
        for (object, want) in [
            ("{}", r#"{"messages":[]}"#),
            (r#"{"a":1}"#, r#"{"a":1,"messages":[]}"#),
            ("{ }", r#"{"messages":[]}"#),
        ] {
            assert_eq!(with_messages(object, &empty).get(), want);
        }
    }
}
