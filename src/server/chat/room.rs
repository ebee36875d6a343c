//! [`Room`]: the rules of the topics that one `[[rooms]]` section describes.

use crate::channel::HistoryMode;
use crate::pattern::{ForTopics, TopicPattern};
use crate::server::config::{Fields, History, RoomConfig};

/// The event of the default room.
pub const SHOUT: &str = "shout";

/// The topics that match a pattern, and their rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// Its topics.
    pub topics: TopicPattern,
    /// The events that are broadcast and saved.
    pub events: Vec<String>,
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
    /// `random:*` with the event `shout` and a history of 50 messages.
    fn default() -> Self {
        Self::new(&RoomConfig::default(), History::MessagesHistory, 50)
    }
}
