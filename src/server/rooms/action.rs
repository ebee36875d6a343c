//! [`CheckedAction`]: the actions in an answer of the backend.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::channel::RoomChannel;
use super::presence;
use super::room::{Room, Rooms};
use super::selection::selector_of;
use crate::channel::{Context, Failure};
use crate::message::{Payload, RawJson};
use crate::pubsub::{Draft, Selector};
use crate::server::hook::{HookAction, Receivers};

/// An action of the backend's answer that this room can carry out.
pub(super) enum CheckedAction {
    Push(String, RawJson),
    /// `topic`: `None` is the client's own.
    Broadcast {
        topic: Option<String>,
        draft: Draft,
        but_sender: bool,
    },
    Presence(Map<String, Value>),
}

impl CheckedAction {
    /// Checks an action against the rooms.
    ///
    /// # Errors
    /// The problem, in words.
    pub(super) fn check(
        action: HookAction,
        room: &Room,
        ctx: &Context<RoomChannel>,
    ) -> Result<Self, String> {
        let (event, payload, topic, to, store) = match action {
            HookAction::Push { event, payload } => return Ok(Self::Push(event, payload)),
            HookAction::Presence(_) if room.rules.presence.is_none() => {
                return Err("\"presence\": the room has no [rooms.presence]".to_owned());
            }
            HookAction::Presence(meta) => return Ok(Self::Presence(meta)),
            HookAction::Broadcast {
                event,
                payload,
                topic,
                to,
                store,
            } => (event, payload, topic, to, store),
        };
        let topic = topic.filter(|topic| topic != ctx.topic());
        let target = topic.as_deref().unwrap_or_else(|| ctx.topic());
        if store && !ctx.state::<Rooms>().store(target, &event) {
            return Err(format!(
                "\"store\": the room of the topic saves no event {event:?}"
            ));
        }
        let draft = Draft::new(&event, Payload::Json(payload));
        let draft = if store { draft } else { draft.live() };
        let but_sender = to == Receivers::Others;
        let draft = match to {
            Receivers::All | Receivers::Others => draft,
            Receivers::Labels(labels) => draft.to(selected(labels)?),
        };
        Ok(Self::Broadcast {
            topic,
            draft,
            but_sender,
        })
    }

    /// Carries the action out.
    ///
    /// # Errors
    /// If it is refused. Then nothing was sent.
    pub(super) async fn perform(
        self,
        channel: &RoomChannel,
        ctx: &Context<RoomChannel>,
    ) -> Result<(), Failure> {
        match self {
            Self::Push(event, payload) => ctx.push(&event, Payload::Json(payload))?,
            Self::Presence(meta) => {
                if let Some(key) = channel.member.presence_key() {
                    presence::update(key, meta, ctx)?;
                }
            }
            Self::Broadcast {
                topic: Some(topic),
                draft,
                ..
            } => drop(ctx.pubsub().publish(&topic, &draft).await?),
            Self::Broadcast {
                draft,
                but_sender: true,
                ..
            } => drop(ctx.publish_from(&draft).await?),
            Self::Broadcast { draft, .. } => drop(ctx.publish(&draft).await?),
        }
        Ok(())
    }
}

fn selected(labels: BTreeMap<String, Value>) -> Result<Selector, String> {
    selector_of(labels).map_err(|problem| format!("\"to\": {problem}"))
}
