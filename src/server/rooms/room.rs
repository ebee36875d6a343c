//! [`Room`]: the rules of the topics that one `[[rooms]]` section describes.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use super::limits::RoomBuckets;
use super::live::Version;
use crate::ban::Bans;
use crate::channel::HistoryMode;
use crate::pattern::{ForTopics, TopicPattern, first_match};
use crate::presence::Changes;
use crate::server::config::{Fields, History, HistoryOrder, RoomConfig};
use crate::server::language::template::{Scope, Template};
use crate::server::language::{
    Announcement, EventRule, JoinRule, OtherEvents, PresenceRule, RoomLimit, Tell, used,
};
use crate::slow_mode::SlowModes;

/// The event of the default room.
pub const SHOUT: &str = "shout";

/// The topics that match a pattern, and their rules.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
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
    /// The name of the list that a history is.
    pub history_member: String,
    /// The most messages of a resume.
    pub resume_limit: usize,
    /// The join param with the last message that a client has seen.
    pub resume_param: String,
    /// The longest payload that is broadcast, in bytes.
    pub max_message_bytes: usize,
    /// Whether members may send `update_message` and `delete_message`.
    pub changes: bool,
    /// The names of the payload's members that the server reads.
    pub fields: Fields,
}

setters!(Room {
topics: TopicPattern,
    events: Vec<String>,
    history: HistoryMode,
    history_limit: usize,
    history_event: impl Into<String>,
    history_member: impl Into<String>,
    resume_limit: usize,
    resume_param: impl Into<String>,
    max_message_bytes: usize,
    changes: bool,
    fields: Fields,
});

/// The rules of a room beside its plain [events](Room::events).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RoomRules {
    pub(crate) on: BTreeMap<String, EventRule>,
    /// The events that these rules save, as members get them.
    stored: Vec<String>,
    pub(crate) other_events: OtherEvents,
    pub(crate) join: JoinRule,
    pub(crate) presence: Option<PresenceRule>,
    pub(crate) announce: Vec<Announcement>,
    /// The events that rules of other rooms may send here.
    pub(crate) accepts: Vec<String>,
    /// The events that programs may send here without saving them.
    pub(crate) server_events: Vec<String>,
    /// The events that a history has; `None`: all that are stored.
    pub(crate) history_events: Option<Vec<String>>,
    /// The item of a message in a history. `None`: its payload.
    pub(crate) history_item: Option<Template>,
    pub(crate) history_order: HistoryOrder,
    /// How many messages its topics take.
    pub(crate) limit: RoomLimit,
    /// Whether an event changes its sender's presence.
    pub(crate) changes_presence: bool,
    /// Whether the backend is asked.
    pub(crate) asks_hook: bool,
    /// What the backend is told.
    pub(crate) tell: Tell,
    /// The variables that the templates name.
    pub(crate) used: Scope,
    /// The clients that may not write. `None`: nobody can be muted.
    pub(crate) bans: Option<Bans>,
    /// The topics in which members may not write often. `None`: none can be slow.
    pub(crate) slow_modes: Option<SlowModes>,
    /// Counts what `limit` bounds. `None` if there is no limit, or the room has no route.
    pub(super) buckets: Option<Arc<RoomBuckets>>,
    /// Which settings of the room these are.
    pub(super) version: Version,
}

impl RoomRules {
    fn new(config: &RoomConfig) -> Self {
        let events = config.on.values().map(EventRule::used);
        let announcements = config.announce.iter();
        let announcements = announcements
            .map(|announcement| used(&[&announcement.payload]).and(announcement.to.used()));
        let presence = config.presence.iter();
        let presence = presence.map(PresenceRule::used);
        let parts = events.chain(announcements).chain(presence);
        Self {
            on: config.on.clone(),
            stored: config.stored_by_rules(),
            other_events: config.other_events,
            join: config.join.clone(),
            presence: config.presence.clone(),
            announce: config.announce.clone(),
            accepts: config.accepts.clone(),
            server_events: config.server_events.clone(),
            history_events: config.history_events.clone(),
            history_item: config.history_item.clone(),
            history_order: config.history_order,
            limit: config.limit,
            changes_presence: config.changes_presence(),
            asks_hook: config.asks_hook(),
            tell: config.tell,
            used: parts.fold(config.join.used(), Scope::and),
            bans: None,
            slow_modes: None,
            buckets: None,
            version: Version::default(),
        }
    }
}

impl RoomRules {
    /// Whether a rule sends to another topic.
    pub(super) fn sends_elsewhere(&self) -> bool {
        self.on.values().any(|rule| rule.topic.is_some())
    }
}

impl ForTopics for Room {
    fn pattern(&self) -> &TopicPattern {
        &self.topics
    }
}

impl Room {
    /// The room of these settings. `history` and `history_limit` apply if `config` has none.
    pub(crate) fn new(config: &RoomConfig, history: History, history_limit: usize) -> Self {
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
            history_member: config.history_member.clone(),
            resume_limit: config.resume_limit,
            resume_param: config.resume_param.clone(),
            max_message_bytes: config.max_message_bytes,
            changes: config.changes,
            fields: config.fields.clone(),
        }
    }
}

impl Room {
    /// Begins to count what the room's limit bounds.
    pub(super) fn count_messages(&mut self) {
        self.rules.buckets = RoomBuckets::new(&self.rules.limit).map(Arc::new);
    }

    /// This room with those settings of another one that can change while members are in it.
    pub(super) fn with_settings_of(&self, new: &Self) -> Self {
        let mut room = Self {
            history: new.history,
            history_limit: new.history_limit,
            resume_limit: new.resume_limit,
            max_message_bytes: new.max_message_bytes,
            ..self.clone()
        };
        if room.rules.limit != new.rules.limit {
            room.rules.limit = new.rules.limit;
            room.count_messages();
        }
        room
    }

    /// The rule of an event; `None` if the room has none.
    pub(crate) fn rule(&self, event: &str) -> Option<&EventRule> {
        /// Broadcasts and saves the client's bytes.
        static PLAIN: LazyLock<EventRule> = LazyLock::new(EventRule::default);
        if self.events.iter().any(|known| known == event) {
            return Some(&PLAIN);
        }
        self.rules.on.get(event)
    }

    /// The events that are saved, as members get them.
    pub(crate) fn stored_events(&self) -> Vec<&str> {
        let events = self.events.iter().chain(&self.rules.stored);
        let mut stored: Vec<_> = events.map(String::as_str).collect();
        stored.sort_unstable();
        stored.dedup();
        stored
    }
}

/// All configured rooms.
#[derive(Clone, Debug)]
pub(super) struct Rooms(Arc<[Room]>);

impl Rooms {
    pub(super) fn new(rooms: &[Room]) -> Self {
        Self(rooms.into())
    }

    /// Whether rules of other rooms may send this event to the topic.
    pub(super) fn accept(&self, topic: &str, event: &str) -> bool {
        let room = first_match(&*self.0, topic);
        room.is_some_and(|room| room.rules.accepts.iter().any(|known| known == event))
    }

    /// Whether messages with this event are saved in the topic.
    pub(super) fn store(&self, topic: &str, event: &str) -> bool {
        let room = first_match(&*self.0, topic);
        room.is_some_and(|room| room.stored_events().contains(&event))
    }

    /// What members of the topic get of changes of its presences.
    pub(super) fn presence_changes(&self, topic: &str) -> Changes {
        let room = first_match(&*self.0, topic);
        let rule = room.and_then(|room| room.rules.presence.as_ref());
        rule.map_or(Changes::Diffs, PresenceRule::changes)
    }

    /// For how long a presence in this topic stays after its client's connection is lost.
    pub(super) fn presence_grace(&self, topic: &str) -> Duration {
        let room = first_match(&*self.0, topic);
        let rule = room.and_then(|room| room.rules.presence.as_ref());
        rule.map_or(Duration::ZERO, |rule| rule.grace)
    }
}

impl Default for Room {
    /// `random:*` with the event `shout` and a history of 50 messages.
    fn default() -> Self {
        Self::new(&RoomConfig::default(), History::MessagesHistory, 50)
    }
}
