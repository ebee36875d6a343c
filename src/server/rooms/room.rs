//! [`Room`]: the rules of the topics that one `[[rooms]]` section describes.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use crate::channel::HistoryMode;
use crate::pattern::{ForTopics, TopicPattern};
use crate::server::config::{Fields, History, RoomConfig};
use crate::server::language::template::Scope;
use crate::server::language::{
    Announcement, Audience, EventRule, JoinRule, OtherEvents, PresenceRule, used,
};

/// The event of the default room.
pub const SHOUT: &str = "shout";

/// The topics that match a pattern, and their rules.
#[derive(Clone, Debug, PartialEq)]
pub struct Room {
    /// Its topics.
    pub topics: TopicPattern,
    /// The events that are broadcast and saved as they came.
    pub events: Vec<String>,
    /// The rules for other events, joins and presence.
    pub rules: RoomRules,
    /// How a joining client receives the history.
    pub history: HistoryMode,
    /// The most messages of a history.
    pub history_limit: usize,
    /// The event of the push of [`HistoryMode::MessagesHistory`].
    pub history_event: String,
    /// The most messages of a resume.
    pub resume_limit: usize,
    /// The longest payload that is broadcast, in bytes.
    pub max_message_bytes: usize,
    /// Whether members may send `update_message` and `delete_message`.
    pub changes: bool,
    /// The names of the payload's members that the server reads.
    pub fields: Fields,
}

/// The rules of a room beside its plain [events](Room::events).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RoomRules {
    pub(crate) on: BTreeMap<String, EventRule>,
    pub(crate) other_events: OtherEvents,
    pub(crate) join: JoinRule,
    pub(crate) presence: Option<PresenceRule>,
    pub(crate) announce: Vec<Announcement>,
    /// The variables that the templates name.
    pub(crate) used: Scope,
}

impl RoomRules {
    fn new(config: &RoomConfig) -> Self {
        let events = config.on.values().map(EventRule::used);
        let announcements = config.announce.iter();
        let announcements = announcements.map(|announcement| used(&[&announcement.payload]));
        let presence = config.presence.iter();
        let presence = presence.map(PresenceRule::used);
        let parts = events.chain(announcements).chain(presence);
        Self {
            on: config.on.clone(),
            other_events: config.other_events,
            join: config.join.clone(),
            presence: config.presence.clone(),
            announce: config.announce.clone(),
            used: parts.fold(config.join.used(), Scope::and),
        }
    }
}

impl ForTopics for Room {
    fn pattern(&self) -> &TopicPattern {
        &self.topics
    }
}

impl Room {
    /// The room of these settings. `history` and `history_limit` apply if `config` has none.
    pub fn new(config: &RoomConfig, history: History, history_limit: usize) -> Self {
        Self {
            topics: config.topics.clone(),
            events: config.events(),
            rules: RoomRules::new(config),
            history: match config.history.unwrap_or(history) {
                History::None => HistoryMode::None,
                History::MessagesHistory => HistoryMode::MessagesHistory,
                History::PerEvent => HistoryMode::PerEvent,
                History::Reply => HistoryMode::Reply,
            },
            history_limit: config.history_limit.unwrap_or(history_limit),
            history_event: config.history_event.clone(),
            resume_limit: config.resume_limit,
            max_message_bytes: config.max_message_bytes,
            changes: config.changes,
            fields: config.fields.clone(),
        }
    }
}

impl Room {
    /// The rule of an event; `None` if the room has none.
    pub(crate) fn rule(&self, event: &str) -> Option<&EventRule> {
        /// Broadcasts and saves the client's bytes.
        static PLAIN: LazyLock<EventRule> = LazyLock::new(EventRule::default);
        if self.events.iter().any(|known| known == event) {
            return Some(&PLAIN);
        }
        self.rules.on.get(event)
    }

    /// The events that the room's log stores, as members get them.
    pub(crate) fn stored_events(&self) -> Vec<&str> {
        let rules = self.rules.on.iter().filter(|(_, rule)| rule.stores());
        let rules = rules.map(|(event, rule)| rule.name(event));
        let announced = self.rules.announce.iter();
        let announced = announced.filter(|it| it.store && it.to != Audience::Sender);
        let announced = announced.map(|announcement| &*announcement.event);
        let events = self.events.iter().map(String::as_str);
        let mut stored: Vec<_> = events.chain(rules).chain(announced).collect();
        stored.sort_unstable();
        stored.dedup();
        stored
    }
}

impl Default for Room {
    /// `random:*` with the event `shout` and a history of 50 messages.
    fn default() -> Self {
        Self::new(&RoomConfig::default(), History::MessagesHistory, 50)
    }
}
