//! A chat for teams, with most of what an application needs: who you are by a token, messages that are checked,
//! presence, a broadcast from an HTTP handler, a clock, an event that each member gets differently, an upload,
//! and a history that outlives the server.
//!
//! ```sh
//! SECRET_KEY_BASE=.. cargo run --example team_chat     # serves http://127.0.0.1:4000
//! ```

mod room;

use std::io::Error;
use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::web::{self, Data, Json, Path, ServiceConfig};
use serde_json::{Value, json};
use slackir::prelude::*;
use slackir::pubsub::MessageStore;
use slackir::store::{DbWriter, Store, StoreOptions, WriterOptions};
use slackir::token::{KeyOptions, SecretKeyBase, Signer, VerifyOptions};

use crate::room::{NEW_MSG, Room, User};

/// Lets in who has a token of the team's login, as `?token=`.
struct UserSocket {
    tokens: Signer,
}

impl Socket for UserSocket {
    async fn connect(
        &self,
        params: &Params,
        _: &ConnectInfo,
        assigns: &mut Assigns,
    ) -> Result<(), ConnectRefused> {
        let token = self
            .tokens
            .verify(params.get("token"), VerifyOptions::now());
        let token = token.map_err(|error| ConnectRefused::because(error.to_string()))?;
        let name = token
            .as_str()
            .ok_or(ConnectRefused::because("no name in the token"))?;
        assigns.insert(User(name.to_owned()));
        Ok(())
    }

    /// A broadcast of `disconnect` to this topic ends all connections of the user.
    fn id(&self, assigns: &Assigns) -> Option<String> {
        assigns.get().map(|User(name)| format!("users:{name}"))
    }
}

/// The application. Messages are kept in `store`.
fn endpoint(tokens: Signer, store: Arc<dyn MessageStore>) -> Endpoint {
    let pubsub = PubSub::with_logs(vec![LogRule::new("team:*", &[NEW_MSG], 50, store)]);
    let router = SocketRouter::new()
        .state(room::state(&pubsub))
        .channel::<Room>("team:*");
    Endpoint::builder(pubsub)
        .mount(Mount::new("/socket", UserSocket { tokens }, router))
        .build()
}

/// `POST /teams/red/news` with any object: every member of the team receives it.
async fn news(endpoint: Data<Endpoint>, team: Path<String>, news: Json<Value>) -> HttpResponse {
    let topic = format!("team:{team}");
    match endpoint.broadcast(&topic, "news", news.into_inner()).await {
        Ok(()) => HttpResponse::NoContent().finish(),
        Err(error) => HttpResponse::BadRequest().json(json!({ "reason": error.to_string() })),
    }
}

#[actix_web::main]
async fn main() -> Result<(), Error> {
    let secret = std::env::var("SECRET_KEY_BASE").map_err(Error::other)?;
    let secret = SecretKeyBase::new(secret).map_err(Error::other)?;
    let tokens = Signer::new(&secret, "team chat", KeyOptions::default());

    let (store, _) =
        Store::open("sqlite://team_chat.db", StoreOptions::default()).map_err(Error::other)?;
    let writer =
        DbWriter::start_on_own_thread(store, WriterOptions::default()).map_err(Error::other)?;
    let endpoint = endpoint(tokens, Arc::new(writer));

    let told = Data::new(endpoint.clone());
    let routes = move |app: &mut ServiceConfig| {
        app.app_data(told.clone())
            .route("/teams/{team}/news", web::post().to(news));
    };
    slackir::serve_with(&endpoint, ("127.0.0.1", 4000), routes).await
}
