//! What the rooms tell the backend: the queue for members, and the messages of the database.

use std::sync::Arc;

use super::ServeError;
use crate::pattern::{ForTopics, TopicPattern, first_match};
use crate::server::config::{RoomConfig, ServeConfig, Switch};
use crate::server::hook::{Hook, HookError};
use crate::server::language::NoticeKind;
use crate::server::told::{TellTask, Teller};
use crate::store::{DbWriterHandle, Feed, OtherServers};

/// The cursor over the messages that the backend has taken.
const CURSOR: &str = "messages";

/// The queue; `None` if no room tells anything.
///
/// # Errors
/// If a room tells messages, and none is saved.
pub(super) fn teller(config: &ServeConfig) -> Result<Option<Arc<Teller>>, ServeError> {
    if config.persist == Switch::Off && config.rooms.iter().any(tells_messages) {
        return Err(HookError::NothingSaved.into());
    }
    let mut rooms = config.rooms.iter();
    let tells = rooms.any(|room| !room.tell.is_empty());
    Ok(tells.then(Arc::default))
}

/// Starts to tell.
pub(super) fn tell(
    config: &ServeConfig,
    (hook, teller): (Arc<Hook>, Arc<Teller>),
    writer: Option<&DbWriterHandle>,
    others: OtherServers,
) -> TellTask {
    let writer = writer.filter(|_| config.rooms.iter().any(tells_messages));
    let topics: Vec<_> = config.rooms.iter().map(ToldTopics::new).collect();
    let feed = writer.map(|writer| {
        Feed::begin(writer, others, CURSOR, move |topic| {
            first_match(&topics, topic).is_some_and(|topics| topics.are_told)
        })
    });
    TellTask::start(teller, hook, feed)
}

fn tells_messages(room: &RoomConfig) -> bool {
    room.tell.has(NoticeKind::Message)
}

/// The topics of a room.
struct ToldTopics {
    pattern: TopicPattern,
    are_told: bool,
}

impl ToldTopics {
    fn new(room: &RoomConfig) -> Self {
        Self {
            pattern: room.topics.clone(),
            are_told: tells_messages(room),
        }
    }
}

impl ForTopics for ToldTopics {
    fn pattern(&self) -> &TopicPattern {
        &self.pattern
    }
}
