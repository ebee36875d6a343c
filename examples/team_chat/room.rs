//! The channel: one client in one team.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use slackir::prelude::*;

/// The event of a message. It is stored.
pub(crate) const NEW_MSG: &str = "new_msg";
/// An intercepted event: the channel decides whether its client receives it.
const MENTION: &str = "mention";

/// The name of the client. `connect` assigns it.
pub(crate) struct User(pub(crate) String);

/// The number of messages since the start, which all channels share.
#[derive(Default)]
pub(crate) struct Messages(AtomicU64);

/// The payload of a client's `new_msg`.
#[derive(Deserialize)]
struct NewMsg {
    body: String,
}

#[derive(Deserialize, Serialize)]
struct Mention {
    who: String,
}

pub(crate) struct Room {
    user: String,
    messages: Arc<Messages>,
}

pub(crate) struct Tick;

impl Channel for Room {
    type Info = Tick;

    async fn join(_params: Payload, ctx: &mut Context<Self>) -> JoinResult<Self> {
        let User(user) = &*ctx.state();
        if ctx.topic() == "team:admins" && user != "ada" {
            return Err(Refused::because("unauthorized").into());
        }
        ctx.send_every(Duration::from_secs(60), || Tick);
        let room = Self {
            user: user.clone(),
            messages: ctx.state(),
        };
        Ok(Join::ok(room)
            .with_history(HistoryMode::MessagesHistory)
            .with_presence(&ctx.state::<Presence>(), user, json!({"device": "web"})))
    }

    async fn handle_in(
        &mut self,
        event: &str,
        payload: Payload,
        ctx: &mut Context<Self>,
    ) -> HandleInResult {
        match event {
            NEW_MSG => {
                let NewMsg { body } = payload.parse()?;
                if body.trim().is_empty() {
                    return Err(InvalidPayload::of("body", "must not be empty").into());
                }
                let msg = Draft::new(NEW_MSG, json!({"from": self.user, "body": body}));
                let published = ctx.publish(&msg.with_receipt()).await?;
                self.messages.0.fetch_add(1, Ordering::Relaxed);
                Ok(ctx.reply_when_stored(published))
            }
            MENTION => {
                let mention: Mention = payload.parse()?;
                ctx.broadcast(MENTION, mention).await?;
                Ok(HandleIn::NoReply)
            }
            "upload" => {
                let bytes = payload.binary()?.len();
                let uploaded = json!({"by": self.user, "bytes": bytes});
                ctx.broadcast_from("uploaded", uploaded).await?;
                Ok(HandleIn::ok(json!({"bytes": bytes})))
            }
            _ => Err(Failure::unhandled(event)),
        }
    }

    fn intercept() -> &'static [&'static str] {
        &[MENTION]
    }

    /// Tells the mentioned member only.
    async fn handle_out(&mut self, broadcast: Arc<Broadcast>, ctx: &mut Context<Self>) -> Handled {
        let mention: Mention = broadcast.payload().parse()?;
        if mention.who == self.user {
            ctx.push("you_were_mentioned", json!({}))?;
        }
        Ok(())
    }

    async fn handle_info(&mut self, Tick: Tick, ctx: &mut Context<Self>) -> Handled {
        let messages = self.messages.0.load(Ordering::Relaxed);
        ctx.push("clock", json!({"messages": messages}))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use slackir::testing::{MemoryStore, TestSocket};
    use slackir::token::{KeyOptions, SecretKeyBase, SignOptions, Signer};

    use super::*;

    const TEAM: &str = "team:red";

    fn signer() -> Signer {
        let secret = SecretKeyBase::new("a secret of more than twenty bytes").expect("long enough");
        Signer::new(&secret, "team chat", KeyOptions::default())
    }

    fn app() -> Endpoint {
        crate::endpoint(signer(), MemoryStore::new())
    }

    async fn member(app: &Endpoint, name: &str) -> TestSocket {
        let token = signer().sign(name, SignOptions::now()).expect("a token");
        let socket = TestSocket::connect(app, "/socket", json!({ "token": token })).await;
        let mut socket = socket.expect("the token is good");
        socket.subscribe_and_join(TEAM, json!({})).await;
        socket
    }

    #[actix_web::test]
    async fn a_team_talks() {
        let app = app();
        let mut ada = member(&app, "ada").await;
        let mut bob = member(&app, "bob").await;
        let there = bob.next_push("presence_state").await;
        assert!(there["ada"].is_object() && there["bob"].is_object());

        let said = ada.push(TEAM, NEW_MSG, json!({"body": "hi"}));
        assert_eq!(ada.reply(&said).await.0, "ok");
        let heard = json!({"from": "ada", "body": "hi"});
        bob.assert_broadcast(NEW_MSG, heard.clone()).await;

        ada.push(TEAM, MENTION, json!({"who": "bob"}));
        bob.assert_push("you_were_mentioned", json!({})).await;
        ada.refute_push("you_were_mentioned").await;

        let upload = ada.push_binary(TEAM, "upload", vec![0; 1_000]);
        assert_eq!(ada.reply(&upload).await.1, json!({"bytes": 1_000}));
        let uploaded = json!({"by": "ada", "bytes": 1_000});
        bob.assert_broadcast("uploaded", uploaded).await;

        let mut carl = member(&app, "carl").await;
        let history = carl.next_push("messages_history").await;
        assert_eq!(history["messages"], json!([heard]));
    }

    #[actix_web::test]
    async fn wrong_messages_are_refused_in_words() {
        let app = app();
        let mut ada = member(&app, "ada").await;
        for (payload, detail) in [
            (json!({}), "missing"),
            (json!({"body": 7}), "expected a string"),
            (json!({"body": " "}), "must not be empty"),
        ] {
            let said = ada.push(TEAM, NEW_MSG, payload);
            let refusal = json!({"reason": "invalid payload", "field": "body", "detail": detail});
            ada.assert_reply(&said, "error", refusal).await;
        }
    }

    #[actix_web::test]
    async fn strangers_stay_out() {
        let app = app();
        let stranger = TestSocket::connect(&app, "/socket", json!({"token": "x"})).await;
        assert!(stranger.is_err());
        let mut bob = member(&app, "bob").await;
        let join = bob.join("team:admins", json!({}));
        assert_eq!(bob.reply(&join).await.1["reason"], "unauthorized");
    }
}
