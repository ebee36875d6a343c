//! The smallest server with a channel: each message is broadcast to its topic, and comes back as the reply.
//!
//! ```sh
//! cargo run --example hello_channel     # ws://127.0.0.1:4000/socket/websocket?vsn=2.0.0
//! ```

use slackir::prelude::*;

struct Anyone;
impl Socket for Anyone {}

struct Hello;

impl Channel for Hello {
    type Info = ();

    async fn join(_: Payload, _: &mut Context<Self>) -> JoinResult<Self> {
        Ok(Join::ok(Hello))
    }

    async fn handle_in(
        &mut self,
        event: &str,
        payload: Payload,
        ctx: &mut Context<Self>,
    ) -> HandleInResult {
        ctx.broadcast(event, payload.clone()).await?;
        Ok(HandleIn::ok(payload))
    }
}

fn endpoint() -> Endpoint {
    let router = SocketRouter::new().channel::<Hello>("hello:*");
    Endpoint::builder(PubSub::new())
        .mount(Mount::new("/socket", Anyone, router))
        .build()
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    slackir::serve(&endpoint(), ("127.0.0.1", 4000)).await
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use slackir::testing::TestSocket;

    #[actix_web::test]
    async fn it_says_hello() {
        let endpoint = super::endpoint();
        let connected = TestSocket::connect(&endpoint, "/socket", json!({})).await;
        let mut ann = connected.expect("everybody may connect");
        ann.subscribe_and_join("hello:world", json!({})).await;
        let shout = ann.push("hello:world", "shout", json!({"n": 1}));
        ann.assert_reply(&shout, "ok", json!({"n": 1})).await;
        ann.on("hello:world")
            .assert_broadcast("shout", json!({"n": 1}))
            .await;
    }
}
