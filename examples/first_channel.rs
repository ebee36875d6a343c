//! The program of docs/START.md, "Your first channel in Rust": a room whose members have names.
//!
//! ```sh
//! cargo run --example first_channel     # http://127.0.0.1:4000, with the page of docs/START.md in the folder page
//! ```

use actix_files::Files;
use actix_web::web::ServiceConfig;
use serde::Deserialize;
use serde_json::json;
use slackir::prelude::*;

struct Name(String);

struct Visitor;

impl Socket for Visitor {
    async fn connect(
        &self,
        params: &Params,
        _: &ConnectInfo,
        assigns: &mut Assigns,
    ) -> Result<(), ConnectRefused> {
        let name = params.get("name").unwrap_or("guest");
        assigns.insert(Name(name.to_owned()));
        Ok(())
    }
}

#[derive(Deserialize)]
struct Say {
    text: String,
}

struct Room;

impl Channel for Room {
    type Info = ();

    async fn join(_: Payload, _: &mut Context<Self>) -> JoinResult<Self> {
        Ok(Join::ok(Room))
    }

    async fn handle_in(
        &mut self,
        event: &str,
        payload: Payload,
        ctx: &mut Context<Self>,
    ) -> HandleInResult {
        match event {
            "say" => {
                let Say { text } = payload.parse()?;
                if text.trim().is_empty() {
                    return Err(InvalidPayload::of("text", "must not be empty").into());
                }
                let said = json!({ "name": ctx.state::<Name>().0, "text": text });
                ctx.broadcast("say", said).await?;
                Ok(HandleIn::ok(json!({})))
            }
            _ => Err(Failure::unhandled(event)),
        }
    }
}

fn endpoint() -> Endpoint {
    let router = SocketRouter::new().channel::<Room>("room:*");
    Endpoint::builder(PubSub::new())
        .mount(Mount::new("/socket", Visitor, router))
        .build()
}

fn page(app: &mut ServiceConfig) {
    app.service(Files::new("/", "page").index_file("index.html"));
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    slackir::serve_with(&endpoint(), ("127.0.0.1", 4000), page).await
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use slackir::testing::TestSocket;

    #[actix_web::test]
    async fn members_hear_who_says_what() {
        let endpoint = super::endpoint();
        let connected = TestSocket::connect(&endpoint, "/socket", json!({ "name": "ada" })).await;
        let mut ada = connected.expect("everybody may connect");
        let connected = TestSocket::connect(&endpoint, "/socket", json!({ "name": "bob" })).await;
        let mut bob = connected.expect("everybody may connect");
        ada.subscribe_and_join("room:1", json!({})).await;
        bob.subscribe_and_join("room:1", json!({})).await;

        let said = ada.push("room:1", "say", json!({ "text": "hi" }));
        ada.assert_reply(&said, "ok", json!({})).await;
        let heard = json!({ "name": "ada", "text": "hi" });
        bob.on("room:1").assert_broadcast("say", heard).await;

        let empty = ada.push("room:1", "say", json!({ "text": " " }));
        let (status, response) = ada.reply(&empty).await;
        assert_eq!((&*status, &response["field"]), ("error", &json!("text")));
    }
}
