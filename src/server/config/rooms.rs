//! `[[rooms]]`: which topics the server serves, and by which rules.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error};

use super::serve::History;
use super::value;
use crate::pattern::{ForTopics, TopicPattern};
use crate::server::language::only_tables;
use crate::server::language::template::{Template, Variable};
use crate::server::language::{
    Announcement, EventRule, JoinRule, MAX_NAME, Moment, NoticeKind, OtherEvents, PresenceChange,
    PresenceRule, RoomLimit, Tell, age, check_event, history_item, of_the_server,
};

/// The default of the join param with the last message that a client has seen.
pub(crate) const RESUME_PARAM: &str = "last_seen_id";
/// The default of the most messages of a resume.
const RESUME_LIMIT: usize = 10_000;
/// The default of the longest payload. A history of 50 such payloads is about the most that a browser can
/// show.
const MAX_MESSAGE_BYTES: usize = 1_000_000;

/// The rules of the topics that match a pattern: one `[[rooms]]` section.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, remote = "Self")]
pub(crate) struct RoomConfig {
    /// The topics: one topic, or a prefix with `*` at its end.
    #[serde(deserialize_with = "pattern")]
    pub topics: TopicPattern,
    /// The events that are broadcast and saved as they came. Default `["shout"]` if there is no `on`.
    #[serde(default, deserialize_with = "events")]
    pub events: Option<Vec<String>>,
    /// What becomes of other events, by their names.
    #[serde(default, deserialize_with = "on")]
    pub on: BTreeMap<String, EventRule>,
    /// What becomes of events that the room does not name.
    #[serde(default)]
    pub other_events: OtherEvents,
    /// Who may join, and what a join is answered.
    #[serde(default)]
    pub join: JoinRule,
    /// Who is here; without it the room does not tell.
    #[serde(default)]
    pub presence: Option<PresenceRule>,
    /// The events that rules of other rooms may send to these topics.
    #[serde(default, deserialize_with = "event_names")]
    pub accepts: Vec<String>,
    /// The events that the HTTP API may send to these topics without saving them.
    #[serde(default, deserialize_with = "event_names")]
    pub server_events: Vec<String>,
    /// What the server says when members come and go.
    #[serde(default)]
    pub announce: Vec<Announcement>,
    /// How a joining client receives the history. `None`: the setting `--history`.
    #[serde(default)]
    pub history: Option<History>,
    /// The most messages of a history. `None`: the setting `--history-limit`.
    #[serde(default, deserialize_with = "history_limit")]
    pub history_limit: Option<usize>,
    /// The event that carries a history. Default `messages_history`.
    #[serde(default = "history_event", deserialize_with = "push")]
    pub history_event: String,
    /// The name of the list in the push or reply that carries a history. Default `messages`.
    #[serde(default = "history_member", deserialize_with = "field")]
    pub history_member: String,
    /// The events that a history has. `None`: all that are saved.
    #[serde(default, deserialize_with = "history_events")]
    pub history_events: Option<Vec<String>>,
    /// The item of each message in a history. `None`: its payload.
    #[serde(default, deserialize_with = "history_item")]
    pub(crate) history_item: Option<Template>,
    /// The order of a history that is a list. Default: oldest first.
    #[serde(default)]
    pub history_order: HistoryOrder,
    /// The join param with the last message that a client has seen; empty: clients do not resume. Default
    /// `last_seen_id`.
    #[serde(default = "resume_param")]
    pub resume_param: String,
    /// The most messages of a resume. A client that has missed more gets the history. Default 10,000.
    #[serde(default = "resume_limit")]
    pub resume_limit: usize,
    /// The longest payload that a member may broadcast, in bytes. Default 1 MB.
    #[serde(default = "max_message_bytes", deserialize_with = "bytes")]
    pub max_message_bytes: usize,
    /// Whether members may change and delete messages. Default no.
    #[serde(default)]
    pub changes: bool,
    /// The names of the payload's members that the server reads.
    #[serde(default, deserialize_with = "fields")]
    pub fields: Fields,
    /// How many messages its topics take. Default: any number.
    #[serde(default)]
    pub limit: RoomLimit,
    /// Which messages are pruned. Default: none.
    #[serde(default, deserialize_with = "retention")]
    pub retention: RetentionConfig,
    /// What the backend is told. Default: nothing.
    #[serde(default)]
    pub(crate) tell: Tell,
}

/// The order of a history that is a list.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum HistoryOrder {
    /// The oldest message first.
    #[default]
    Oldest,
    /// The newest message first.
    Newest,
}

/// The names of the payload's members that the server reads. It does not read other members.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields, remote = "Self")]
#[non_exhaustive]
pub struct Fields {
    /// The author, for the column `name`. Default `name`.
    #[serde(deserialize_with = "field")]
    pub name: String,
    /// The text, for the column `message`. Default `message`.
    #[serde(deserialize_with = "field")]
    pub message: String,
    /// The client_ref, by which the server recognizes a retry. Default `client_ref`.
    #[serde(deserialize_with = "field")]
    pub client_ref: String,
}

setters!(Fields {
name: impl Into<String>,
    message: impl Into<String>,
    client_ref: impl Into<String>,
});

/// Which messages are pruned: those over an age, and the oldest of a topic over a number.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields, remote = "Self")]
pub(crate) struct RetentionConfig {
    /// The highest age of a message, up to a hundred years. `None`: any age.
    #[serde(deserialize_with = "max_age")]
    pub max_age: Option<Duration>,
    /// The most messages of a topic, at least one. `None`: any number. A topic is pruned once it has a
    /// twentieth more.
    #[serde(deserialize_with = "max_messages")]
    pub max_messages: Option<u32>,
}

only_tables!(RoomConfig, Fields, RetentionConfig);

impl Default for RoomConfig {
    /// `random:*`, with the event `shout`.
    fn default() -> Self {
        Self {
            topics: TopicPattern::new("random:*"),
            events: None,
            on: BTreeMap::new(),
            other_events: OtherEvents::default(),
            join: JoinRule::default(),
            presence: None,
            accepts: Vec::new(),
            server_events: Vec::new(),
            announce: Vec::new(),
            history: None,
            history_limit: None,
            history_event: history_event(),
            history_member: history_member(),
            history_events: None,
            history_item: None,
            history_order: HistoryOrder::default(),
            resume_param: resume_param(),
            resume_limit: RESUME_LIMIT,
            max_message_bytes: MAX_MESSAGE_BYTES,
            changes: false,
            fields: Fields::default(),
            limit: RoomLimit::default(),
            retention: RetentionConfig::default(),
            tell: Tell::default(),
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
    /// The events that go to everybody and are saved, as they came.
    pub(crate) fn events(&self) -> Vec<String> {
        match &self.events {
            Some(events) => events.clone(),
            None if self.on.is_empty() => vec!["shout".to_owned()],
            None => Vec::new(),
        }
    }

    /// The problem of a room whose settings contradict each other.
    pub(super) fn contradiction(&self) -> Option<String> {
        let (events, history) = (self.events(), &self.history_event);
        let names = self.on.iter().map(|(event, rule)| rule.name(event));
        let announced = self
            .announce
            .iter()
            .map(|announcement| &*announcement.event);
        let state = self.presence.iter().map(|rule| &*rule.state_event);
        let mut sent = events
            .iter()
            .map(String::as_str)
            .chain(names)
            .chain(announced)
            .chain(state);
        if sent.any(|event| event == history) {
            return Some(format!(
                "{history:?} is the history_event of this room, so it cannot be one of its events"
            ));
        }
        if let Some(problem) = self.join.contradiction() {
            return Some(format!("join: {problem}"));
        }
        let presence = self.presence.as_ref();
        if let Some(problem) = presence.and_then(PresenceRule::contradiction) {
            return Some(format!("presence: {problem}"));
        }
        if let Some(problem) = self.history_contradiction() {
            return Some(problem);
        }
        if self.tell.has(NoticeKind::Message)
            && events.is_empty()
            && self.stored_by_rules().is_empty()
        {
            return Some(
                "tell: \"message\" is about saved messages, and the room saves none".to_owned(),
            );
        }
        if let Some(event) = events.iter().find(|event| self.on.contains_key(*event)) {
            return Some(format!(
                "{event:?} is in \"events\" and has a rule in \"on\""
            ));
        }
        if let Some(event) = self.on.iter().find(|(_, rule)| rule.presence.is_some())
            && self.presence.is_none()
        {
            return Some(format!(
                "on.{:?}.presence: the room has no [rooms.presence]",
                event.0
            ));
        }
        if let Some(Moment::Event(event)) = self.presence.as_ref().map(|rule| &rule.at)
            && !events.contains(event)
            && !self.on.contains_key(event)
        {
            return Some(format!("presence.at: the room has no event {event:?}"));
        }
        let entry = self.presence.as_ref().and_then(|rule| rule.entry.as_ref());
        if entry.is_some_and(|entry| entry.keys().iter().any(|key| key == "metas")) {
            return Some("presence.entry: \"metas\" has the metas of the members".to_owned());
        }
        if let Some(rule) = &self.presence
            && rule.at == Moment::Join
            && rule.used().has(Variable::Payload)
            && !self
                .on
                .values()
                .any(|rule| rule.presence == Some(PresenceChange::Track))
        {
            return Some("presence: a join has no {payload}; see \"at\"".to_owned());
        }
        let odd = self.announce.iter().find_map(|it| match &it.at {
            Moment::Event(event) => Some(event),
            Moment::Join | Moment::Leave => None,
        });
        odd.map(|event| format!("announce.at: {event:?} must be \"join\" or \"leave\""))
    }
}

impl RoomConfig {
    /// Whether the room asks the backend.
    pub(crate) fn asks_hook(&self) -> bool {
        let asks = self.on.values().any(|rule| rule.hook);
        asks || self.join.hook || self.other_events == OtherEvents::Hook
    }

    /// The events beside [`events`](Self::events) that are saved, as members get them.
    pub(crate) fn stored_by_rules(&self) -> Vec<String> {
        let own = |rule: &&EventRule| rule.topic.is_none() && rule.stores();
        let rules = self.on.iter().filter(|(_, rule)| own(rule));
        let rules = rules.map(|(event, rule)| rule.name(event).to_owned());
        let announced = self.announce.iter().filter(|it| it.store);
        let announced = announced.map(|announcement| announcement.event.clone());
        let accepted = self.accepts.iter().cloned();
        rules.chain(announced).chain(accepted).collect()
    }

    /// Whether an event changes its sender's presence.
    pub(crate) fn changes_presence(&self) -> bool {
        let by_rule = self.on.values().any(|rule| rule.presence.is_some());
        let moment = self.presence.as_ref().map(|rule| &rule.at);
        by_rule || matches!(moment, Some(Moment::Event(_)))
    }

    fn history_contradiction(&self) -> Option<String> {
        if self.history == Some(History::PerEvent) && self.history_item.is_some() {
            return Some("history_item: \"per_event\" sends messages as they are".to_owned());
        }
        let (plain, stored) = (self.events(), self.stored_by_rules());
        let mut events = self.history_events.iter().flatten();
        let unknown = events.find(|event| !plain.contains(event) && !stored.contains(event))?;
        Some(format!(
            "history_events: the room saves no event {unknown:?}"
        ))
    }
}

/// The position of a room with a rule that sends an event to topics, none of which accepts it; with the problem.
pub(super) fn unaccepted(rooms: &[RoomConfig]) -> Option<(usize, String)> {
    let accepted = |name: &str| {
        let mut accepted = rooms.iter().flat_map(|room| &room.accepts);
        accepted.any(|event| event == name)
    };
    rooms.iter().enumerate().find_map(|(at, room)| {
        let mut sent = room.on.iter().filter(|(_, rule)| rule.topic.is_some());
        let (event, rule) = sent.find(|(event, rule)| !accepted(rule.name(event)))?;
        let name = rule.name(event);
        Some((
            at,
            format!("on.{event:?}.topic: no room lists {name:?} in \"accepts\""),
        ))
    })
}

impl ForTopics for RoomConfig {
    fn pattern(&self) -> &TopicPattern {
        &self.topics
    }
}

fn event_names<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<String>, D::Error> {
    let events = Vec::<String>::deserialize(input)?;
    for event in &events {
        check_event(event).map_err(D::Error::custom)?;
    }
    Ok(events)
}

fn on<'de, D: Deserializer<'de>>(input: D) -> Result<BTreeMap<String, EventRule>, D::Error> {
    let rules = BTreeMap::<String, EventRule>::deserialize(input)?;
    for (event, rule) in &rules {
        check_event(event).map_err(D::Error::custom)?;
        if let Some(problem) = rule.contradiction() {
            return Err(D::Error::custom(format!("{event:?}: {problem}")));
        }
    }
    Ok(rules)
}

fn history_event() -> String {
    "messages_history".to_owned()
}

fn history_member() -> String {
    "messages".to_owned()
}

fn history_events<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Vec<String>>, D::Error> {
    event_names(input).map(Some)
}

fn resume_param() -> String {
    RESUME_PARAM.to_owned()
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

fn pattern<'de, D: Deserializer<'de>>(input: D) -> Result<TopicPattern, D::Error> {
    let pattern: String = name(String::deserialize(input)?)?;
    if pattern.contains(['{', '}']) {
        return Err(D::Error::custom(format!(
            "{pattern:?}: topics have no variables; write a prefix with \"*\" at its end, and conditions in join.match"
        )));
    }
    pattern.parse().map_err(D::Error::custom)
}

fn events<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Vec<String>>, D::Error> {
    let events = Vec::<String>::deserialize(input)?;
    if events.is_empty() {
        return Err(D::Error::custom("must name at least one event"));
    }
    for (index, event) in events.iter().enumerate() {
        if events[..index].contains(event) {
            return Err(D::Error::custom(format!("{event:?} is there twice")));
        }
        if *event == history_event() {
            return Err(D::Error::custom(of_the_server(event)));
        }
    }
    let events: Result<_, _> = events.into_iter().map(free).collect();
    events.map(Some)
}

/// The event of the server's push of a history.
fn push<'de, D: Deserializer<'de>>(input: D) -> Result<String, D::Error> {
    free(String::deserialize(input)?)
}

fn free<E: Error>(event: String) -> Result<String, E> {
    check_event(&event).map_err(E::custom)?;
    Ok(event)
}

fn field<'de, D: Deserializer<'de>>(input: D) -> Result<String, D::Error> {
    name(String::deserialize(input)?)
}

fn fields<'de, D: Deserializer<'de>>(input: D) -> Result<Fields, D::Error> {
    let fields = <Fields as Deserialize>::deserialize(input)?;
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
    let retention = <RetentionConfig as Deserialize>::deserialize(input)?;
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
    age(&text)
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
