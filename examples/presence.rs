//! Presence: each member joins with a name, sees who is in the topic, and learns who joins and leaves.
//!
//! ```sh
//! cargo run --example presence     # join "room:1" with {"name": ".."}; phoenix.js has `Presence` for the rest
//! ```

use serde::Deserialize;
use serde_json::json;
use slackir::prelude::*;

struct Anyone;
impl Socket for Anyone {}

#[derive(Deserialize)]
struct Greeting {
    name: String,
}

struct Room {
    name: String,
}

impl Channel for Room {
    type Info = ();

    async fn join(params: Payload, ctx: &mut Context<Self>) -> JoinResult<Self> {
        let Greeting { name } = params.parse()?;
        let presence = ctx.state::<Presence>();
        let meta = json!({ "status": "here" });
        Ok(Join::ok(Room { name: name.clone() }).with_presence(&presence, name, meta))
    }

    async fn handle_in(
        &mut self,
        event: &str,
        payload: Payload,
        ctx: &mut Context<Self>,
    ) -> HandleInResult {
        match event {
            "status" => {
                let status: serde_json::Value = payload.parse()?;
                let presence = ctx.state::<Presence>();
                presence.update(ctx, &self.name, &status)?;
                Ok(HandleIn::ok(json!({})))
            }
            _ => Err(Failure::unhandled(event)),
        }
    }
}

fn endpoint() -> Endpoint {
    let pubsub = PubSub::new();
    let router = SocketRouter::new()
        .state(Presence::new(pubsub.clone()))
        .channel::<Room>("room:*");
    Endpoint::builder(pubsub)
        .mount(Mount::new("/socket", Anyone, router))
        .build()
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    slackir::serve(&endpoint(), ("127.0.0.1", 4000)).await
}

#[cfg(test)]
mod tests {
    use slackir::testing::TestSocket;

    use super::*;

    #[actix_web::test]
    async fn members_see_one_another() {
        let endpoint = endpoint();
        let mut ada = TestSocket::connect(&endpoint, "/socket", json!({}))
            .await
            .expect("let in");
        ada.subscribe_and_join("room:1", json!({"name": "ada"}))
            .await;
        assert!(ada.next_push("presence_state").await["ada"].is_object());
        let of_herself = ada.next_broadcast("presence_diff").await;
        assert!(of_herself["joins"]["ada"].is_object());

        let mut bob = TestSocket::connect(&endpoint, "/socket", json!({}))
            .await
            .expect("let in");
        bob.subscribe_and_join("room:1", json!({"name": "bob"}))
            .await;
        let there = bob.next_push("presence_state").await;
        assert!(there["ada"].is_object() && there["bob"].is_object());
        assert!(ada.next_broadcast("presence_diff").await["joins"]["bob"].is_object());

        drop(bob);
        assert!(ada.next_broadcast("presence_diff").await["leaves"]["bob"].is_object());
    }
}
