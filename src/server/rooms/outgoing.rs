//! [`Outgoing`]: a message on its way to members.

use super::member::{Member, Occasion, too_long};
use super::random::random_id;
use super::room::Room;
use crate::channel::Refused;
use crate::message::{Payload, RawJson};
use crate::pubsub::Draft;
use crate::server::language::EventRule;
use crate::server::language::template::Rendered;

/// The payload that members get.
pub(super) enum Outgoing {
    /// The client's bytes.
    Raw(RawJson),
    Made(Rendered),
}

impl Outgoing {
    /// Applies a rule to an event.
    ///
    /// # Errors
    /// If the payload becomes too long.
    pub(super) fn of(
        rule: &EventRule,
        room: &Room,
        member: &Member,
        occasion: Occasion<'_>,
        json: &RawJson,
    ) -> Result<Self, Refused> {
        let base = match &rule.payload {
            None => None,
            Some(payload) => Some(member.render(room, occasion, payload)?),
        };
        let Some(stamp) = &rule.stamp else {
            return Ok(base.map_or_else(|| Self::Raw(json.clone()), Self::Made));
        };
        let base = base.unwrap_or_else(|| Rendered::from(json));
        let stamps = member.render(room, occasion, stamp)?;
        match base.stamped(&stamps, stamp.keys()) {
            Some(stamped) if stamped.len() <= room.max_message_bytes => Ok(Self::Made(stamped)),
            Some(_) => Err(too_long(room.max_message_bytes)),
            // Not an object. The caller refuses it.
            None => Ok(Self::Raw(RawJson::NULL)),
        }
    }

    pub(super) fn is_object(&self) -> bool {
        match self {
            Self::Raw(json) => json.is_object(),
            Self::Made(rendered) => rendered.is_object(),
        }
    }

    /// The payload under this id.
    pub(super) fn with_id(self, id: &str) -> Payload {
        Payload::Json(match self {
            Self::Raw(json) => json,
            Self::Made(rendered) => with_id(&rendered, id),
        })
    }

    /// A draft that gets its id from the topic's log.
    pub(super) fn stored(self, event: &str) -> Draft {
        match self {
            Self::Made(rendered) if rendered.has_id() => {
                Draft::with_id(event, move |id| with_id(&rendered, id))
            }
            other => Draft::new(event, other.with_id("")),
        }
    }

    /// A draft that is not stored, and its random id; the id is empty if no template names it.
    pub(super) fn live(self, event: &str) -> (Draft, String) {
        let id = match &self {
            Self::Made(rendered) if rendered.has_id() => random_id(),
            _ => String::new(),
        };
        (Draft::new(event, self.with_id(&id)).live(), id)
    }
}

fn with_id(rendered: &Rendered, id: &str) -> RawJson {
    RawJson::trusted(rendered.with_id(id).into())
}
