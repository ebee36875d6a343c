//! The channel: one client in one team.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use slackir::prelude::*;

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

impl Channel for Room {
    type Info = ();

    async fn join(_params: Payload, ctx: &mut Context<Self>) -> JoinResult<Self> {
        let User(user) = &*ctx.state();
        if ctx.topic() == "team:admins" && user != "ada" {
            return Err(Refused::because("unauthorized").into());
        }
        ctx.send_every(Duration::from_secs(60), || ());
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
            "new_msg" => {
                let NewMsg { body } = payload.parse()?;
                if body.trim().is_empty() {
                    return Err(InvalidPayload::of("body", "must not be empty").into());
                }
                let msg = Draft::new("new_msg", json!({"from": self.user, "body": body}));
                let published = ctx.publish(&msg.with_receipt()).await?;
                self.messages.0.fetch_add(1, Ordering::Relaxed);
                Ok(ctx.reply_when_stored(published))
            }
            "mention" => {
                let mention: Mention = payload.parse()?;
                ctx.broadcast("mention", mention).await?;
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
        &["mention"]
    }

    /// Tells the mentioned member only.
    async fn handle_out(&mut self, broadcast: Arc<Broadcast>, ctx: &mut Context<Self>) -> Handled {
        let mention: Mention = broadcast.payload().parse()?;
        if mention.who == self.user {
            ctx.push("you_were_mentioned", json!({}))?;
        }
        Ok(())
    }

    /// Every minute.
    async fn handle_info(&mut self, (): (), ctx: &mut Context<Self>) -> Handled {
        let messages = self.messages.0.load(Ordering::Relaxed);
        Ok(ctx.push("clock", json!({"messages": messages}))?)
    }
}

#[cfg(test)]
mod tests {
    use slackir::testing::{MemoryStore, TestSocket};
    use slackir::token::{KeyOptions, SecretKeyBase, SignOptions, Signer};

    use super::*;

    fn signer() -> Signer {
        let secret = SecretKeyBase::new("a secret of more than twenty bytes").expect("long enough");
        Signer::new(&secret, "team chat", KeyOptions::default())
    }

    async fn member(app: &Endpoint, name: &str) -> TestSocket {
        let token = signer().sign(name, SignOptions::now()).expect("a token");
        let socket = TestSocket::connect(app, "/socket", json!({ "token": token })).await;
        let mut socket = socket.expect("the token is good");
        socket.subscribe_and_join("team:red", json!({})).await;
        socket
    }

    #[actix_web::test]
    async fn a_team_talks() {
        let app = crate::endpoint(signer(), MemoryStore::new());
        let mut ada = member(&app, "ada").await;
        let mut bob = member(&app, "bob").await;
        let there = bob.next_push("presence_state").await;
        assert!(there["ada"].is_object() && there["bob"].is_object());

        let said = ada.push("team:red", "new_msg", json!({"body": "hi"}));
        assert_eq!(ada.reply(&said).await.0, "ok");
        let heard = json!({"from": "ada", "body": "hi"});
        bob.assert_broadcast("new_msg", heard.clone()).await;

        ada.push("team:red", "mention", json!({"who": "bob"}));
        bob.assert_push("you_were_mentioned", json!({})).await;
        ada.refute_push("you_were_mentioned").await;

        let upload = ada.push_binary("team:red", "upload", vec![0; 1_000]);
        assert_eq!(ada.reply(&upload).await.1, json!({"bytes": 1_000}));
        let uploaded = json!({"by": "ada", "bytes": 1_000});
        bob.assert_broadcast("uploaded", uploaded).await;

        let mut carl = member(&app, "carl").await;
        let history = carl.next_push("messages_history").await;
        assert_eq!(history["messages"], json!([heard]));
    }

    #[actix_web::test]
    async fn wrong_messages_are_refused_in_words() {
        let app = crate::endpoint(signer(), MemoryStore::new());
        let mut ada = member(&app, "ada").await;
        for (payload, detail) in [
            (json!({}), "missing"),
            (json!({"body": 7}), "expected a string"),
            (json!({"body": " "}), "must not be empty"),
        ] {
            let said = ada.push("team:red", "new_msg", payload);
            let refusal = json!({"reason": "invalid payload", "field": "body", "detail": detail});
            ada.assert_reply(&said, "error", refusal).await;
        }
    }

    #[actix_web::test]
    async fn strangers_stay_out() {
        let app = crate::endpoint(signer(), MemoryStore::new());
        let stranger = TestSocket::connect(&app, "/socket", json!({"token": "x"}));
        assert!(stranger.await.is_err());
        let mut bob = member(&app, "bob").await;
        let join = bob.join("team:admins", json!({}));
        assert_eq!(bob.reply(&join).await.1["reason"], "unauthorized");
    }
}
