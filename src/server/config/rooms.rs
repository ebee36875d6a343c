//! `[[rooms]]`: which topics there are, and what their members may do and find there.

use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error};

use super::serve::History;
use super::value;

/// What a resume gives at most, unless the room says otherwise.
const RESUME_LIMIT: usize = 10_000;
/// The longest payload, unless the room says otherwise: fifty of them are as much as a browser can
/// be asked to show.
const MAX_MESSAGE_BYTES: usize = 1_000_000;
/// The longest name that a frame can carry.
const MAX_NAME: usize = 255;

/// One kind of room.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct RoomConfig {
    /// Which topics: one, or a prefix with `*` at its end.
    #[serde(deserialize_with = "pattern")]
    pub topics: String,
    /// The events that go to everybody and are saved. Default `["shout"]`.
    #[serde(default = "seed_events", deserialize_with = "events")]
    pub events: Vec<String>,
    /// How a client that joins gets the messages before it; `None`: as the flag `--history` says.
    #[serde(default)]
    pub history: Option<History>,
    /// How many of them, at most; `None`: as the flag `--history-limit` says.
    #[serde(default, deserialize_with = "history_limit")]
    pub history_limit: Option<usize>,
    /// The event that carries a history. Default `messages_history`.
    #[serde(default = "history_event", deserialize_with = "push")]
    pub history_event: String,
    /// Messages that a client which comes back is given at most; it gets the ordinary history when
    /// it has missed more. Default 10,000.
    #[serde(default = "resume_limit")]
    pub resume_limit: usize,
    /// The longest payload that a member may send to everybody, in bytes. Default 1 MB.
    #[serde(default = "max_message_bytes", deserialize_with = "bytes")]
    pub max_message_bytes: usize,
    /// Whether members may change and delete messages. Default no.
    #[serde(default)]
    pub changes: bool,
    /// What the members of a payload are called.
    #[serde(default, deserialize_with = "fields")]
    pub fields: Fields,
    /// How long messages are kept. Default for ever.
    #[serde(default, deserialize_with = "retention")]
    pub retention: RetentionConfig,
}

/// The members of a payload that mean something to the server; all others are the clients' own.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Fields {
    /// Who speaks: the column `name`. Default `name`.
    #[serde(deserialize_with = "field")]
    pub name: String,
    /// What is said: the column `message`. Default `message`.
    #[serde(deserialize_with = "field")]
    pub message: String,
    /// The client's own name for the message, by which a retry is known. Default `client_ref`.
    #[serde(deserialize_with = "field")]
    pub client_ref: String,
}

/// Which messages are no longer kept: those that are too old, and the oldest of too many.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct RetentionConfig {
    /// How old a message may become, up to a hundred years; `None`: as old as it likes.
    #[serde(deserialize_with = "max_age")]
    pub max_age: Option<Duration>,
    /// How many messages a topic keeps, at least one; `None`: any number. It may have a twentieth more
    /// before it is cut down to them.
    #[serde(deserialize_with = "max_messages")]
    pub max_messages: Option<u32>,
}

impl Default for RoomConfig {
    /// The seed's rooms.
    fn default() -> Self {
        Self {
            topics: "random:*".to_owned(),
            events: seed_events(),
            history: None,
            history_limit: None,
            history_event: history_event(),
            resume_limit: RESUME_LIMIT,
            max_message_bytes: MAX_MESSAGE_BYTES,
            changes: false,
            fields: Fields::default(),
            retention: RetentionConfig::default(),
        }
    }
}

impl Default for Fields {
    fn default() -> Self {
        Self {
            name: "name".to_owned(),
            message: "message".to_owned(),
            client_ref: "client_ref".to_owned(),
        }
    }
}

impl RoomConfig {
    /// What of this room contradicts the rest of it.
    pub(super) fn contradiction(&self) -> Option<String> {
        self.events.contains(&self.history_event).then(|| {
            format!(
                "{:?} is what the server calls a history here, and cannot be an event as well",
                self.history_event
            )
        })
    }

    /// Whether every topic of `other` is one of these.
    pub(super) fn covers(&self, other: &Self) -> bool {
        match self.topics.strip_suffix('*') {
            Some(prefix) => other.topics.starts_with(prefix),
            None => self.topics == other.topics,
        }
    }
}

fn seed_events() -> Vec<String> {
    vec!["shout".to_owned()]
}

fn history_event() -> String {
    "messages_history".to_owned()
}

fn resume_limit() -> usize {
    RESUME_LIMIT
}

fn max_message_bytes() -> usize {
    MAX_MESSAGE_BYTES
}

fn bytes<'de, D: Deserializer<'de>>(input: D) -> Result<usize, D::Error> {
    let number = i64::deserialize(input)?;
    value::positive(&number.to_string()).map_err(D::Error::custom)
}

fn pattern<'de, D: Deserializer<'de>>(input: D) -> Result<String, D::Error> {
    let pattern = name(String::deserialize(input)?)?;
    match pattern.find('*') {
        Some(at) if at + 1 < pattern.len() => Err(D::Error::custom(
            "'*' may only stand at the end of a pattern",
        )),
        _ => Ok(pattern),
    }
}

fn events<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<String>, D::Error> {
    let events = Vec::<String>::deserialize(input)?;
    if events.is_empty() {
        return Err(D::Error::custom("must name at least one event"));
    }
    for (index, event) in events.iter().enumerate() {
        if events[..index].contains(event) {
            return Err(D::Error::custom(format!("{event:?} is there twice")));
        }
        if *event == history_event() {
            return Err(D::Error::custom(format!("{event:?} {OF_THE_SERVER}")));
        }
    }
    events.into_iter().map(free).collect()
}

/// The event of a push.
fn push<'de, D: Deserializer<'de>>(input: D) -> Result<String, D::Error> {
    free(String::deserialize(input)?)
}

/// What no event of the settings may be called: clients could not tell it from the server's own.
const OF_THE_SERVER: &str = "is an event of the server's own, which clients would take it for";

fn free<E: Error>(event: String) -> Result<String, E> {
    if event.starts_with("phx_") {
        return Err(E::custom("names that begin with phx_ are the protocol's"));
    }
    let pushed = ["message_updated", "message_deleted"].contains(&&*event);
    if pushed || event.starts_with("presence_") {
        return Err(E::custom(format!("{event:?} {OF_THE_SERVER}")));
    }
    name(event)
}

fn field<'de, D: Deserializer<'de>>(input: D) -> Result<String, D::Error> {
    name(String::deserialize(input)?)
}

fn fields<'de, D: Deserializer<'de>>(input: D) -> Result<Fields, D::Error> {
    let fields = Fields::deserialize(input)?;
    let Fields {
        name,
        message,
        client_ref,
    } = &fields;
    if name == message || name == client_ref || message == client_ref {
        return Err(D::Error::custom(format!(
            "name is {name:?}, message {message:?} and client_ref {client_ref:?}: each must be another \
             member of the payload"
        )));
    }
    Ok(fields)
}

fn retention<'de, D: Deserializer<'de>>(input: D) -> Result<RetentionConfig, D::Error> {
    let retention = RetentionConfig::deserialize(input)?;
    if retention == RetentionConfig::default() {
        return Err(D::Error::custom(
            "must have max_age, max_messages or both; without it messages are kept for ever",
        ));
    }
    Ok(retention)
}

fn name<E: Error>(name: String) -> Result<String, E> {
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(E::custom(format!("must have 1 to {MAX_NAME} bytes")));
    }
    Ok(name)
}

fn history_limit<'de, D: Deserializer<'de>>(input: D) -> Result<Option<usize>, D::Error> {
    let limit = i64::deserialize(input)?;
    let checked = value::history_limit(&limit.to_string());
    checked.map(Some).map_err(D::Error::custom)
}

fn max_age<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(input)?;
    value::age(&text)
        .map(Some)
        .map_err(|problem| D::Error::custom(format!("max_age: {text:?} {problem}")))
}

fn max_messages<'de, D: Deserializer<'de>>(input: D) -> Result<Option<u32>, D::Error> {
    let number = i64::deserialize(input)?;
    match u32::try_from(number) {
        Ok(0) | Err(_) => Err(D::Error::custom(format!(
            "max_messages: {number} must be a number from 1 to {}",
            u32::MAX
        ))),
        Ok(number) => Ok(Some(number)),
    }
}
