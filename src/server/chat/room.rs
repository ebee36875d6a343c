//! [`Room`]: what the members of a kind of room may do, and what they find there.

use crate::channel::HistoryMode;
use crate::server::config::{Fields, History, RoomConfig};

/// The event of the seed that is broadcast and saved.
pub const SHOUT: &str = "shout";

/// One kind of room: the topics that match a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// Which topics, as in a route: `"random:*"`, or one topic.
    pub topics: String,
    /// The events that go to everybody and are saved.
    pub events: Vec<String>,
    /// How a client that joins gets the messages before it.
    pub history: HistoryMode,
    /// How many of them, at most.
    pub history_limit: usize,
    /// What the push of [`HistoryMode::MessagesHistory`] is called.
    pub history_event: String,
    /// How many messages a resume gives, at most.
    pub resume_limit: usize,
    /// The longest payload that goes to everybody, in bytes.
    pub max_message_bytes: usize,
    /// Whether members may change and delete messages: `update_message` and `delete_message`.
    pub changes: bool,
    /// What the members of a payload are called.
    pub fields: Fields,
}

impl Room {
    /// The room of these settings; `history` and `history_limit` are for one that does not say.
    pub fn new(config: &RoomConfig, history: History, history_limit: usize) -> Self {
        Self {
            topics: config.topics.clone(),
            events: config.events.clone(),
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

impl Default for Room {
    /// The seed's rooms.
    fn default() -> Self {
        Self::new(&RoomConfig::default(), History::MessagesHistory, 50)
    }
}
