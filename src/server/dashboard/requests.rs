//! [`Request`]: what the page asks.

use std::net::IpAddr;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Dashboard;
use super::operator::Operator;
use crate::ban::AddressRange;
use crate::message::{MAX_NAME_LEN, Payload, RawJson};
use crate::pubsub::TopicOrder;

/// The response, or a sentence for the operator.
pub(super) type Answer = Result<Value, String>;

/// What the page asks of the server. Tails belong to the channel.
pub(super) enum Request {
    Topics { prefix: String, order: TopicOrder },
    Topic { topic: String },
    Publish(NewMessage),
    DeleteMessage(MessageRef),
    Connections(Whom),
    Disconnect(Whom),
    Revoke(Revoked),
    Ban(NewBan),
    Bans,
    Unban { id: String },
    SlowMode(NewSlowMode),
    EndSlowMode { topic: String },
    Trouble,
    System,
    Check,
}

#[derive(Deserialize)]
struct Listed {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    sort: String,
}

#[derive(Deserialize)]
struct InTopic {
    topic: String,
}

#[derive(Deserialize)]
pub(super) struct NewMessage {
    pub(super) topic: String,
    pub(super) event: String,
    pub(super) payload: Value,
}

#[derive(Deserialize)]
pub(super) struct MessageRef {
    pub(super) topic: String,
    pub(super) id: String,
}

/// The connections that are meant.
#[derive(Default, Deserialize)]
pub(super) struct Whom {
    #[serde(default)]
    pub(super) connection: Option<String>,
    #[serde(default)]
    pub(super) user: Option<String>,
    #[serde(default)]
    pub(super) address: Option<String>,
}

impl Whom {
    /// The address, if one is named.
    pub(super) fn ip(&self) -> Result<Option<IpAddr>, String> {
        let parse = |text: &String| {
            let parsed = text.parse::<IpAddr>();
            parsed.map_err(|_| format!("{text:?} is no IP address."))
        };
        self.address.as_ref().map(parse).transpose()
    }
}

#[derive(Deserialize)]
pub(super) struct Revoked {
    pub(super) user: String,
    pub(super) seconds: u64,
}

#[derive(Deserialize)]
pub(super) struct NewBan {
    #[serde(default)]
    pub(super) user: Option<String>,
    #[serde(default)]
    pub(super) address: Option<String>,
    pub(super) seconds: u64,
    pub(super) kind: NewBanKind,
}

impl NewBan {
    /// The addresses, if it is for addresses.
    pub(super) fn range(&self) -> Result<Option<AddressRange>, String> {
        let parse = |text: &String| {
            let parsed = text.parse::<AddressRange>();
            parsed.map_err(|error| format!("The address {error}."))
        };
        self.address.as_ref().map(parse).transpose()
    }
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum NewBanKind {
    Ban,
    Mute,
}

/// A slow mode of a topic, in seconds.
#[derive(Deserialize)]
pub(super) struct NewSlowMode {
    pub(super) topic: String,
    /// Between two messages of a person.
    pub(super) interval: u64,
    /// Until its end; `None`: until it is taken away.
    #[serde(default)]
    pub(super) seconds: Option<u64>,
}

#[derive(Deserialize)]
struct WithId {
    id: String,
}

impl Request {
    /// # Errors
    /// A sentence, if the page asks what there is not.
    pub(super) fn read(event: &str, payload: &Payload) -> Result<Self, String> {
        Ok(match event {
            "topics" => {
                let Listed { prefix, sort } = parse(payload)?;
                let order = match &*sort {
                    "" | "members" => TopicOrder::Members,
                    "messages" => TopicOrder::Broadcasts,
                    "topic" => TopicOrder::Topic,
                    other => return Err(format!("Nothing is sorted by {other:?}.")),
                };
                Self::Topics { prefix, order }
            }
            "topic" => Self::Topic {
                topic: topic(payload)?,
            },
            "publish" => {
                let message: NewMessage = parse(payload)?;
                check_name("topic", &message.topic)?;
                check_name("event", &message.event)?;
                Self::Publish(message)
            }
            "delete_message" => {
                let message: MessageRef = parse(payload)?;
                check_name("topic", &message.topic)?;
                Self::DeleteMessage(message)
            }
            "connections" => Self::Connections(parse(payload)?),
            "disconnect" => Self::Disconnect(parse(payload)?),
            "revoke" => Self::Revoke(parse(payload)?),
            "ban" => Self::Ban(parse(payload)?),
            "bans" => Self::Bans,
            "unban" => {
                let WithId { id } = parse(payload)?;
                Self::Unban { id }
            }
            "slow_mode" => {
                let mode: NewSlowMode = parse(payload)?;
                check_name("topic", &mode.topic)?;
                Self::SlowMode(mode)
            }
            "end_slow_mode" => Self::EndSlowMode {
                topic: topic(payload)?,
            },
            "trouble" => Self::Trouble,
            "system" => Self::System,
            "check" => Self::Check,
            other => return Err(format!("The server knows no request {other:?}.")),
        })
    }
}

fn parse<T: DeserializeOwned>(payload: &Payload) -> Result<T, String> {
    match payload {
        Payload::Json(json) => {
            let parsed = RawJson::parse(json);
            parsed.map_err(|error| format!("The request is not valid: {error}."))
        }
        Payload::Binary(_) => Err("The request is not JSON.".to_owned()),
    }
}

/// The topic that a request names.
pub(super) fn topic(payload: &Payload) -> Result<String, String> {
    let InTopic { topic } = parse(payload)?;
    check_name("topic", &topic)?;
    Ok(topic)
}

fn check_name(what: &str, name: &str) -> Result<(), String> {
    match name.len() {
        1..=MAX_NAME_LEN => Ok(()),
        _ => Err(format!("The {what} must have 1 to {MAX_NAME_LEN} bytes.")),
    }
}

impl Dashboard {
    /// Answers a request.
    pub(super) async fn answer(&self, request: Request, operator: Operator) -> Answer {
        match request {
            Request::Topics { prefix, order } => Ok(self.topics(&prefix, order).await),
            Request::Topic { topic } => Ok(self.topic(&topic).await),
            Request::Publish(message) => self.publish(message, operator).await,
            Request::DeleteMessage(message) => self.delete_message(&message, operator).await,
            Request::Connections(whom) => self.connections(whom).await,
            Request::Disconnect(whom) => self.disconnect(whom, operator).await,
            Request::Revoke(revoked) => self.revoke(revoked, operator).await,
            Request::Ban(ban) => self.ban(ban, operator).await,
            Request::Bans => self.bans(),
            Request::Unban { id } => self.unban(id, operator).await,
            Request::SlowMode(mode) => self.slow_down(mode, operator).await,
            Request::EndSlowMode { topic } => self.end_slow_mode(topic, operator).await,
            Request::Trouble => Ok(self.trouble()),
            Request::System => self.system().await,
            Request::Check => self.check().await,
        }
    }

    /// Refuses to change anything while the server ends: a message might miss the last flush.
    pub(super) fn may_change(&self) -> Result<(), String> {
        if self.0.services.endpoint.is_draining() {
            return Err("The server is shutting down. Nothing was done.".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::message::IntoPayload;

    #[test]
    fn a_request_that_is_wrong_gets_a_sentence() {
        for (event, payload, part) in [
            ("reboot", json!({}), "knows no request"),
            ("topics", json!({"sort": "size"}), "sorted by"),
            ("topic", json!({}), "missing field `topic`"),
            ("topic", json!({"topic": ""}), "1 to 255 bytes"),
            (
                "publish",
                json!({"topic": "a", "event": "", "payload": {}}),
                "event",
            ),
            (
                "ban",
                json!({"user": "eve", "seconds": -1, "kind": "ban"}),
                "not valid",
            ),
            ("slow_mode", json!({"topic": "", "interval": 9}), "topic"),
            (
                "slow_mode",
                json!({"topic": "a"}),
                "missing field `interval`",
            ),
        ] {
            let error = Request::read(event, &payload.into_payload()).err();
            assert!(error.is_some_and(|error| error.contains(part)), "{event}");
        }
        for event in [
            "topics",
            "connections",
            "bans",
            "trouble",
            "system",
            "check",
        ] {
            assert!(
                Request::read(event, &json!({}).into_payload()).is_ok(),
                "{event}"
            );
        }
    }
}
