//! [`RandomChannel`]: the seed's channel. `ping` is answered with its payload; `shout`, or what the
//! room's events are called, goes to everybody in the room, exactly as it came.
//!
//! It never waits for the database: the topic log hands each message to the DbWriter inside the
//! broadcast (`pubsub::log`), and refuses the broadcast when the writer is full. A client that has
//! joined with `ack: true` is answered when its message is committed.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;

use super::client_ref::InvalidClientRef;
use super::room::Room;
use crate::channel::{
    Channel, Context, HandleIn, Join, JoinResult, LogRequest, SendError, stored_messages,
};
use crate::client::log_client;
use crate::message::{Payload, RawJson, Reply, reason};
use crate::pubsub::{Draft, MessageId, PublishError, Published, StoreFull};

const PING: &str = "ping";
const UPDATE_MESSAGE: &str = "update_message";
const DELETE_MESSAGE: &str = "delete_message";
const MESSAGES_BEFORE: &str = "messages_before";

/// One client in one room.
pub struct RandomChannel {
    room: Arc<Room>,
    /// Whether the client wants to know when its messages are committed.
    ack: bool,
}

impl RandomChannel {
    /// A channel of a room of this kind.
    pub fn new(room: Arc<Room>) -> Self {
        Self { room, ack: false }
    }

    fn say(&self, event: &str, payload: Payload, ctx: &Context<Self>) -> HandleIn {
        let Payload::Json(json) = &payload else {
            return refuse(reason::INVALID_PAYLOAD, event, ctx);
        };
        if !json.is_object() {
            return refuse(reason::INVALID_PAYLOAD, event, ctx);
        }
        if json.get().len() > self.room.max_message_bytes {
            return self.too_long();
        }
        let draft = match self.room.client_ref(json) {
            Ok(None) => Draft::new(event, payload),
            Ok(Some(client_ref)) => Draft::new(event, payload).client_ref(client_ref),
            Err(InvalidClientRef) => {
                log_refusal(reason::INVALID_PAYLOAD, event, ctx);
                return HandleIn::Reply(Reply::error(json!({
                    "reason": reason::INVALID_PAYLOAD,
                    "field": self.room.fields.client_ref,
                })));
            }
        };
        self.publish(draft, self.ack, ctx)
    }

    fn too_long(&self) -> HandleIn {
        HandleIn::Reply(Reply::error(json!({
            "reason": reason::MESSAGE_TOO_LONG,
            "max_message_bytes": self.room.max_message_bytes,
        })))
    }

    /// `acknowledge`: the client is answered when the message is committed, else it is not
    /// answered at all.
    fn publish(&self, draft: Draft, acknowledge: bool, ctx: &Context<Self>) -> HandleIn {
        let draft = if acknowledge {
            draft.with_receipt()
        } else {
            draft
        };
        match ctx.publish(&draft) {
            Ok(published) if acknowledge => acknowledged(published, ctx),
            Ok(_) => HandleIn::NoReply,
            Err(refused) => HandleIn::Reply(refusal(&refused)),
        }
    }

    /// A change of a message that is there; always answered.
    async fn change(&self, event: &str, payload: &Payload, ctx: &Context<Self>) -> HandleIn {
        #[derive(Deserialize)]
        struct Change {
            id: String,
            payload: Option<Box<serde_json::value::RawValue>>,
        }
        let Ok(change) = payload.parse::<Change>() else {
            return refuse(reason::INVALID_PAYLOAD, event, ctx);
        };
        let Ok(id) = change.id.parse::<MessageId>() else {
            return refuse(reason::UNKNOWN_MESSAGE, event, ctx);
        };
        let new = match (event, change.payload) {
            (DELETE_MESSAGE, None) => None,
            (UPDATE_MESSAGE, Some(new)) if new.get().len() > self.room.max_message_bytes => {
                return self.too_long();
            }
            (UPDATE_MESSAGE, Some(new)) if new.get().starts_with('{') => Some(RawJson::from(new)),
            _ => return refuse(reason::INVALID_PAYLOAD, event, ctx),
        };
        match ctx.pubsub().find(ctx.topic(), id).await {
            Ok(Some(found)) => {
                // Others may know it by another id than this client.
                let draft = match &new {
                    None => Draft::delete(found.id()),
                    Some(new) => Draft::update(found.id(), new),
                };
                self.publish(draft, true, ctx)
            }
            Ok(None) => refuse(reason::UNKNOWN_MESSAGE, event, ctx),
            Err(error) => {
                let (client, topic) = (ctx.client(), ctx.topic());
                log_client!(error, client, topic, %error, "chat.change.unreadable");
                refuse(reason::STORAGE_UNAVAILABLE, event, ctx)
            }
        }
    }

    /// The messages before one that the client has; no more than a join gives.
    async fn before(&self, payload: &Payload, ctx: &Context<Self>) -> HandleIn {
        #[derive(Deserialize)]
        struct Before {
            before: String,
            limit: Option<usize>,
        }
        let Ok(asked) = payload.parse::<Before>() else {
            return refuse(reason::INVALID_PAYLOAD, MESSAGES_BEFORE, ctx);
        };
        let Ok(id) = asked.before.parse::<MessageId>() else {
            return refuse(reason::UNKNOWN_MESSAGE, MESSAGES_BEFORE, ctx);
        };
        let most = self.room.history_limit;
        let limit = asked.limit.map_or(most, |limit| limit.min(most)).max(1);
        match ctx.pubsub().before(ctx.topic(), id, limit).await {
            Ok(Some(entries)) => HandleIn::Reply(Reply::ok(stored_messages(&entries))),
            Ok(None) => refuse(reason::UNKNOWN_MESSAGE, MESSAGES_BEFORE, ctx),
            Err(error) => {
                let (client, topic) = (ctx.client(), ctx.topic());
                log_client!(error, client, topic, %error, "chat.before.unreadable");
                refuse(reason::STORAGE_UNAVAILABLE, MESSAGES_BEFORE, ctx)
            }
        }
    }
}

impl Channel for RandomChannel {
    type Info = ();

    async fn join(&mut self, params: Payload, _ctx: &mut Context<Self>) -> JoinResult {
        self.ack = wants_ack(&params);
        let request = LogRequest::from_params(self.room.history, &params)
            .history_event(self.room.history_event.as_str());
        Ok(Join::ok().with_log(request))
    }

    async fn handle_in(
        &mut self,
        event: &str,
        payload: Payload,
        ctx: &mut Context<Self>,
    ) -> HandleIn {
        match event {
            _ if self.room.events.iter().any(|known| known == event) => {
                self.say(event, payload, ctx)
            }
            PING => HandleIn::Reply(Reply::ok(payload)),
            MESSAGES_BEFORE => self.before(&payload, ctx).await,
            UPDATE_MESSAGE | DELETE_MESSAGE if self.room.changes => {
                self.change(event, &payload, ctx).await
            }
            _ => refuse(reason::UNKNOWN_EVENT, event, ctx),
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

/// Answers once the message is committed. The room goes on meanwhile.
fn acknowledged(published: Published, ctx: &Context<RandomChannel>) -> HandleIn {
    let Some(receipt) = published.receipt else {
        // Nothing is saved here, so there is nothing to wait for.
        return HandleIn::Reply(Reply::ok(json!({ "id": null })));
    };
    if let Some(client) = ctx.socket_ref() {
        actix_rt::spawn(async move {
            // An object has a form on every wire.
            let _ = client.reply(&receipt.reply().await);
        });
    }
    HandleIn::NoReply
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

fn refuse(reason: &str, event: &str, ctx: &Context<RandomChannel>) -> HandleIn {
    log_refusal(reason, event, ctx);
    HandleIn::Reply(Reply::error_reason(reason))
}

/// What a client is told of a message that nobody received.
fn refusal(error: &SendError) -> Reply {
    match error {
        SendError::Publish(PublishError::StoreFull(StoreFull { retry_after_ms })) => {
            Reply::error(json!({
                "reason": reason::STORAGE_UNAVAILABLE,
                "retry_after_ms": retry_after_ms,
            }))
        }
        other => Reply::error_reason(&other.to_string()),
    }
}
