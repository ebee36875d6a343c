//! Rooms: the list of topics, one topic, its messages.

use std::time::{Duration, SystemTime};

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use super::Dashboard;
use super::audit::Deed;
use super::operator::Operator;
use super::requests::{Answer, MessageRef, NewMessage};
use crate::log::MessageId;
use crate::message::{Payload, RawJson, is_of_protocol};
use crate::pattern::first_match;
use crate::pubsub::{Draft, PubSub, TopicInfo, TopicOrder};
use crate::server::rooms::Room;
use crate::socket::ConnectionInfo;
use crate::store::{CommittedMessage, Window};

/// The most rows of a list.
pub(super) const MAX_ROWS: usize = 100;
/// The stored messages of a topic that are shown.
const MESSAGES: usize = 50;
/// The most keys of presences that are shown. In a topic with more than [`CROWD`] none are.
const PRESENCES: usize = 100;
const CROWD: usize = 2_000;
/// The longest payload that is shown whole, and what is shown of a longer one, in bytes.
const WHOLE: usize = 4_000;
const BEGINNING: usize = 2_000;
/// How long the page waits for the database.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

/// A payload for the page. A long one is `{"_cut": "the beginning of its text", "_bytes": its length}`.
pub(super) fn viewed(payload: &Payload) -> Value {
    match payload {
        Payload::Json(json) => viewed_json(json),
        Payload::Binary(bytes) => json!({ "_cut": "binary data", "_bytes": bytes.len() }),
    }
}

fn viewed_json(json: &RawJson) -> Value {
    let text = json.get();
    if text.len() <= WHOLE
        && let Ok(value) = json.parse()
    {
        return value;
    }
    let beginning = &text[..text.floor_char_boundary(BEGINNING)];
    json!({ "_cut": format!("{beginning}…"), "_bytes": text.len() })
}

/// A time as in the HTTP API.
pub(super) fn iso(at: SystemTime) -> String {
    DateTime::<Utc>::from(at).to_rfc3339_opts(SecondsFormat::Micros, true)
}

pub(super) fn unix(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

/// What a topic keeps: whether messages are saved, with which durability, and how a join gets them by the rules of a
/// configured room. All words are those of the settings.
fn history(is_saved: bool, is_strict: bool, room: Option<&Room>) -> Value {
    let durability = if is_strict { "strict" } else { "relaxed" };
    json!({
        "saved": is_saved,
        "durability": is_saved.then_some(durability),
        "mode": room.filter(|_| is_saved).map(|room| room.history.name()),
    })
}

/// What members and connections have in common.
pub(super) fn connection(info: &ConnectionInfo) -> Value {
    json!({
        "connection": info.id.to_string(),
        "user": info.user,
        "address": info.address,
        "transport": info.transport,
        "since": unix(info.since),
        "outbox_bytes": info.outbox_bytes,
    })
}

impl Dashboard {
    /// The topics of the server, not of the dashboard.
    pub(super) fn pubsub(&self) -> &PubSub {
        self.0.services.endpoint.pubsub()
    }

    pub(super) async fn topics(&self, prefix: &str, order: TopicOrder) -> Value {
        let listed = self.pubsub().list_topics(prefix, order, MAX_ROWS).await;
        let rooms = self.rooms();
        let topic = |info: &TopicInfo| {
            json!({
                "topic": info.topic,
                "members": info.members,
                "messages": info.broadcasts,
                "last_message_at": info.last_message.map(unix),
                "history": history(info.is_saved, info.is_strict, first_match(&*rooms, &info.topic)),
            })
        };
        let topics: Vec<_> = listed.topics.iter().map(topic).collect();
        json!({ "topics": topics, "total": listed.total })
    }

    pub(super) async fn topic(&self, topic: &str) -> Value {
        let members = self.0.services.endpoint.members(topic, MAX_ROWS).await;
        let presence = self.presence(topic);
        let messages = self.messages(topic).await;
        let rows: Vec<_> = members.sockets.iter().map(connection).collect();
        json!({
            "topic": topic,
            "history": self.history(topic),
            "members": rows,
            "members_total": members.total,
            "presence": presence,
            "slow_mode": self.slow_mode(topic),
            // The page shows none while the database does not answer; its state is in the head of the page.
            "messages_unread": messages.is_none(),
            "messages": messages.unwrap_or_default(),
        })
    }

    fn history(&self, topic: &str) -> Value {
        let (pubsub, rooms) = (self.pubsub(), self.rooms());
        let room = first_match(&*rooms, topic);
        history(pubsub.is_saved(topic), pubsub.is_strict(topic), room)
    }

    fn presence(&self, topic: &str) -> Map<String, Value> {
        let rooms = self.rooms();
        let room = first_match(&*rooms, topic);
        let shows = room.is_some_and(|room| room.rules.presence.is_some());
        match self.0.services.presence.as_ref().filter(|_| shows) {
            Some(presence) if presence.count(topic) <= CROWD => {
                presence.list(topic).into_iter().take(PRESENCES).collect()
            }
            _ => Map::new(),
        }
    }

    /// The newest stored messages, the oldest first. `None`: they cannot be read.
    async fn messages(&self, topic: &str) -> Option<Vec<Value>> {
        let writer = self.0.services.writer.as_ref();
        let Some(writer) = writer.filter(|_| self.pubsub().is_saved(topic)) else {
            return Some(Vec::new());
        };
        if topic.contains('\0') {
            return Some(Vec::new());
        }
        let reader = writer.reader();
        let read = timeout(PATIENCE, reader.list(topic, Window::default(), MESSAGES)).await;
        let page = read.ok()?.ok()?;
        let message = |message: &CommittedMessage| {
            json!({
                "id": message.id.to_string(),
                "event": message.event,
                "payload": viewed_json(&message.payload),
                "inserted_at": iso(message.inserted_at),
            })
        };
        Some(page.messages.iter().map(message).collect())
    }

    pub(super) async fn publish(&self, message: NewMessage, operator: Operator) -> Answer {
        self.may_change()?;
        let NewMessage {
            topic,
            event,
            payload,
        } = message;
        if is_of_protocol(&event) {
            return Err(format!(
                "{event:?} is an event of the protocol. Take another one."
            ));
        }
        let draft = Draft::new(&event, payload);
        let published = self.pubsub().publish(&topic, &draft).await;
        published.map_err(|error| format!("Nothing was published: {error}."))?;
        let deed = Deed {
            topic: Some(&topic),
            event: Some(&event),
            ..Deed::default()
        };
        operator.audit("published", &deed);
        Ok(json!({}))
    }

    pub(super) async fn delete_message(
        &self,
        MessageRef { topic, id }: &MessageRef,
        operator: Operator,
    ) -> Answer {
        self.may_change()?;
        let unknown = || "There is no such message any more.".to_owned();
        let id: MessageId = id.parse().map_err(|_| unknown())?;
        let found = self.pubsub().find(topic, id).await;
        let found = found.map_err(|error| format!("The message cannot be read: {error}."))?;
        let id = found.ok_or_else(unknown)?.id();
        let draft = Draft::delete(id).with_receipt();
        let published = self.pubsub().publish(topic, &draft).await;
        let published = published.map_err(|error| format!("Nothing was deleted: {error}."))?;
        let deed = Deed {
            topic: Some(topic),
            id: Some(&id),
            ..Deed::default()
        };
        operator.audit("deleted a message", &deed);
        let receipt = published.receipt.ok_or_else(unknown)?;
        receipt.confirmed().await.map_err(|_| {
            "The members see that the message is deleted, but the database has not confirmed it yet.".to_owned()
        })?;
        Ok(json!({}))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::IntoPayload;

    #[test]
    fn a_long_payload_is_cut_for_the_view() {
        let short = json!({ "message": "hi" });
        assert_eq!(viewed(&short.clone().into_payload()), short);
        let long = json!({ "message": "ä".repeat(WHOLE) }).into_payload();
        let shown = viewed(&long);
        assert_eq!(shown["_bytes"], 2 * WHOLE + 14);
        let beginning = shown["_cut"].as_str().unwrap_or_default();
        assert!(
            beginning.ends_with("ä…") && beginning.len() <= BEGINNING + 3,
            "{shown}"
        );
    }
}
