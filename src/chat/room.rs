//! [`Room`]: what the members of a kind of room may do, and what they find there.

use crate::channel::HistoryMode;

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
    /// Whether members may change and delete messages: `update_message` and `delete_message`.
    pub changes: bool,
    /// What the members of a payload are called.
    pub fields: Fields,
}

/// The members of a payload that mean something here; all others are the clients' own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    /// Who speaks: the column `name`.
    pub name: String,
    /// What is said: the column `message`.
    pub message: String,
    /// The client's own name for the message, by which a retry is known.
    pub client_ref: String,
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

impl Default for Room {
    /// The seed's rooms.
    fn default() -> Self {
        Self {
            topics: "random:*".to_owned(),
            events: vec![SHOUT.to_owned()],
            history: HistoryMode::MessagesHistory,
            history_limit: 50,
            changes: false,
            fields: Fields::default(),
        }
    }
}
