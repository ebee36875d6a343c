//! The form in which a room's clients get stored messages.

use std::sync::Arc;

use serde_json::Value;

use super::room::Room;
use crate::channel::{LogRequest, MESSAGES, MESSAGES_HISTORY};
use crate::log::LogEntry;
use crate::message::{Payload, RawJson};
use crate::server::config::{HistoryOrder, RESUME_PARAM};
use crate::server::language::template::Values;

/// The request for stored messages in these join params, in the room's form.
pub(super) fn request(room: &Arc<Room>, params: &Payload) -> LogRequest {
    let mut request = LogRequest::from_params(room.history, params);
    // Most joins need no form of their own.
    if room.history_event != MESSAGES_HISTORY {
        request = request.history_event(room.history_event.as_str());
    }
    if room.history_member != MESSAGES {
        request = request.history_member(room.history_member.as_str());
    }
    if room.rules.history_order == HistoryOrder::Newest {
        request = request.newest_first();
    }
    if room.resume_param != RESUME_PARAM {
        request = request.resumes_by(&room.resume_param, params);
    }
    if room.rules.history_events.is_none() && room.rules.history_item.is_none() {
        return request;
    }
    let room = Arc::clone(room);
    request.items(move |entry| item(&room, entry))
}

/// The item of a message in a history. `None` if the history does not list its event, or if the item is longer than
/// a message of the room may be.
fn item(room: &Room, entry: &LogEntry) -> Option<RawJson> {
    let events = room.rules.history_events.as_ref();
    let is_listed = |events: &Vec<String>| events.iter().any(|event| event == entry.event());
    if !events.is_none_or(is_listed) {
        return None;
    }
    let Some(template) = &room.rules.history_item else {
        return Some(entry.payload().clone());
    };
    // A stored payload is JSON.
    let payload: Value = serde_json::from_str(entry.payload().get()).unwrap_or_default();
    let values = Values {
        payload: Some(&payload),
        event: entry.event(),
        topic: entry.topic(),
        matched: room.topics.rest(entry.topic()),
        inserted: Some(entry.at()),
        ..Values::default()
    };
    let rendered = template.render(&values, room.max_message_bytes).ok()?;
    let id = entry.id().to_string();
    Some(RawJson::trusted(rendered.with_id(&id).into()))
}
