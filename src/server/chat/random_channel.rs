//! [`RandomChannel`]: the channel of the rooms. The reply to `ping` is its payload. `shout`, or another event
//! of the room, is broadcast unchanged.
//!
//! A broadcast never waits for the database: inside it the topic's log passes the message to the `DbWriter`
//! (`crate::log`), and refuses it if the writer is full. A client that joined with `ack: true` gets a reply
//! once its message is committed.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;

use super::client_ref::InvalidClientRef;
use super::room::Room;
use crate::channel::{
    Channel, Context, HandleIn, HandleInResult, Join, JoinResult, LogRequest, Refused,
    stored_messages,
};
use crate::client::log_client;
use crate::log::MessageId;
use crate::message::{Payload, RawJson, reason};
use crate::pubsub::Draft;

const PING: &str = "ping";
const UPDATE_MESSAGE: &str = "update_message";
const DELETE_MESSAGE: &str = "delete_message";
const MESSAGES_BEFORE: &str = "messages_before";

/// One client in one room. The route assigns the [`Room`].
#[derive(Debug)]
pub struct RandomChannel {
    room: Arc<Room>,
    /// Whether the client gets a reply once its message is committed.
    ack: bool,
}

impl RandomChannel {
    fn say(&self, event: &str, payload: Payload, ctx: &Context<Self>) -> HandleInResult {
        let Payload::Json(json) = &payload else {
            return Err(refuse(reason::INVALID_PAYLOAD, event, ctx).into());
        };
        if !json.is_object() {
            return Err(refuse(reason::INVALID_PAYLOAD, event, ctx).into());
        }
        if json.get().len() > self.room.max_message_bytes {
            return Err(self.too_long().into());
        }
        let draft = match self.room.client_ref(json) {
            Ok(None) => Draft::new(event, payload),
            Ok(Some(client_ref)) => Draft::new(event, payload).client_ref(client_ref),
            Err(InvalidClientRef) => {
                log_refusal(reason::INVALID_PAYLOAD, event, ctx);
                return Err(Refused::new(json!({
                    "reason": reason::INVALID_PAYLOAD,
                    "field": self.room.fields.client_ref,
                }))
                .into());
            }
        };
        self.publish(draft, self.ack, ctx)
    }

    fn too_long(&self) -> Refused {
        Refused::new(json!({
            "reason": reason::MESSAGE_TOO_LONG,
            "max_message_bytes": self.room.max_message_bytes,
        }))
    }

    /// Publishes a draft. With `acknowledge` the client gets a reply once it is committed, else none.
    fn publish(&self, draft: Draft, acknowledge: bool, ctx: &Context<Self>) -> HandleInResult {
        if acknowledge {
            let published = ctx.publish(&draft.with_receipt())?;
            return Ok(ctx.reply_when_stored(published));
        }
        ctx.publish(&draft)?;
        Ok(HandleIn::NoReply)
    }

    /// Updates or deletes a stored message. The client always gets a reply.
    async fn change(&self, event: &str, payload: &Payload, ctx: &Context<Self>) -> HandleInResult {
        #[derive(Deserialize)]
        struct Change {
            id: String,
            payload: Option<Box<serde_json::value::RawValue>>,
        }
        let Ok(change) = payload.parse::<Change>() else {
            return Err(refuse(reason::INVALID_PAYLOAD, event, ctx).into());
        };
        let Ok(id) = change.id.parse::<MessageId>() else {
            return Err(refuse(reason::UNKNOWN_MESSAGE, event, ctx).into());
        };
        let new = match (event, change.payload) {
            (DELETE_MESSAGE, None) => None,
            (UPDATE_MESSAGE, Some(new)) if new.get().len() > self.room.max_message_bytes => {
                return Err(self.too_long().into());
            }
            (UPDATE_MESSAGE, Some(new)) if new.get().starts_with('{') => Some(RawJson::from(new)),
            _ => return Err(refuse(reason::INVALID_PAYLOAD, event, ctx).into()),
        };
        match ctx.pubsub().find(ctx.topic(), id).await {
            Ok(Some(found)) => {
                // The log's current id for it, which may differ from the client's.
                let draft = match &new {
                    None => Draft::delete(found.id()),
                    Some(new) => Draft::update(found.id(), new),
                };
                self.publish(draft, true, ctx)
            }
            Ok(None) => Err(refuse(reason::UNKNOWN_MESSAGE, event, ctx).into()),
            Err(error) => {
                let (client, topic) = (ctx.client(), ctx.topic());
                log_client!(error, client, topic, %error, "chat.change.unreadable");
                Err(refuse(reason::STORAGE_UNAVAILABLE, event, ctx).into())
            }
        }
    }

    /// Replies with the messages before a given one, at most as many as a join's history has.
    async fn before(&self, payload: &Payload, ctx: &Context<Self>) -> HandleInResult {
        #[derive(Deserialize)]
        struct Before {
            before: String,
            limit: Option<usize>,
        }
        let Ok(asked) = payload.parse::<Before>() else {
            return Err(refuse(reason::INVALID_PAYLOAD, MESSAGES_BEFORE, ctx).into());
        };
        let Ok(id) = asked.before.parse::<MessageId>() else {
            return Err(refuse(reason::UNKNOWN_MESSAGE, MESSAGES_BEFORE, ctx).into());
        };
        let most = self.room.history_limit;
        let limit = asked.limit.map_or(most, |limit| limit.min(most)).max(1);
        match ctx.pubsub().before(ctx.topic(), id, limit).await {
            Ok(Some(entries)) => Ok(HandleIn::ok(stored_messages(&entries))),
            Ok(None) => Err(refuse(reason::UNKNOWN_MESSAGE, MESSAGES_BEFORE, ctx).into()),
            Err(error) => {
                let (client, topic) = (ctx.client(), ctx.topic());
                log_client!(error, client, topic, %error, "chat.before.unreadable");
                Err(refuse(reason::STORAGE_UNAVAILABLE, MESSAGES_BEFORE, ctx).into())
            }
        }
    }
}

impl Channel for RandomChannel {
    type Info = ();

    async fn join(params: Payload, ctx: &mut Context<Self>) -> JoinResult<Self> {
        let room = ctx.state::<Room>();
        let request = LogRequest::from_params(room.history, &params)
            .history_event(room.history_event.as_str());
        let ack = wants_ack(&params);
        Ok(Join::ok(Self { room, ack }).with_log(request))
    }

    async fn handle_in(
        &mut self,
        event: &str,
        payload: Payload,
        ctx: &mut Context<Self>,
    ) -> HandleInResult {
        match event {
            _ if self.room.events.iter().any(|known| known == event) => {
                self.say(event, payload, ctx)
            }
            PING => Ok(HandleIn::ok(payload)),
            MESSAGES_BEFORE => self.before(&payload, ctx).await,
            UPDATE_MESSAGE | DELETE_MESSAGE if self.room.changes => {
                self.change(event, &payload, ctx).await
            }
            _ => Err(refuse(reason::UNKNOWN_EVENT, event, ctx).into()),
        }
    }
}

/// `ack: true` in the join params.
fn wants_ack(params: &Payload) -> bool {
    let Payload::Json(json) = params else {
        return false;
    };
    let ack = json.members(["ack"]).and_then(|[ack]| ack);
    ack.is_some_and(|ack| ack.get() == "true")
}

fn log_refusal(reason: &str, event: &str, ctx: &Context<RandomChannel>) {
    log_client!(
        info,
        ctx.client(),
        topic = ctx.topic(),
        event,
        reason,
        "chat.event.refused"
    );
}

fn refuse(reason: &str, event: &str, ctx: &Context<RandomChannel>) -> Refused {
    log_refusal(reason, event, ctx);
    Refused::reason(reason)
}
