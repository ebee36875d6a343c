//! [`RandomChannel`]: the seed's channel. `ping` is answered with its payload; `shout` goes to
//! everybody in the room, exactly as it came.
//!
//! It never waits for the database: the topic log hands each shout to the DbWriter inside the
//! broadcast (`pubsub::log`), and refuses the broadcast when the writer is full.

use serde_json::json;

use crate::channel::{Channel, Context, HandleIn, HistoryMode, Join, JoinResult, SendError};
use crate::message::{Payload, Reply, reason};
use crate::pubsub::{PublishError, StoreFull};

/// The event that is broadcast and saved.
pub const SHOUT: &str = "shout";
const PING: &str = "ping";

/// One client in one room.
pub struct RandomChannel {
    history: HistoryMode,
}

impl RandomChannel {
    /// A channel that gives a client the room's history in this way when it joins.
    pub fn new(history: HistoryMode) -> Self {
        Self { history }
    }
}

impl Channel for RandomChannel {
    type Info = ();

    async fn join(&mut self, _params: Payload, _ctx: &mut Context<Self>) -> JoinResult {
        Ok(Join::ok().with_history(self.history))
    }

    async fn handle_in(
        &mut self,
        event: &str,
        payload: Payload,
        ctx: &mut Context<Self>,
    ) -> HandleIn {
        match event {
            PING => HandleIn::Reply(Reply::ok(payload)),
            SHOUT if !payload.is_object() => {
                HandleIn::Reply(Reply::error_reason(reason::INVALID_PAYLOAD))
            }
            SHOUT => match ctx.broadcast(SHOUT, payload) {
                Ok(()) => HandleIn::NoReply,
                Err(refused) => HandleIn::Reply(refusal(&refused)),
            },
            _ => HandleIn::Reply(Reply::error_reason(reason::UNKNOWN_EVENT)),
        }
    }
}

/// What a client is told of a shout that nobody received.
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
