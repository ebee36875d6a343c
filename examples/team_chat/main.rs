//! A chat for teams, with most parts of an application: login by a token, checked messages, presence, a
//! broadcast from an HTTP handler, a timer, an intercepted event that only one member receives, a binary upload,
//! and a history in a database. `SECRET_KEY_BASE=.. cargo run --example team_chat` serves it on port 4000.

mod room;

use std::error::Error;
use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::web::{self, Data, Json, Path, ServiceConfig};
use serde_json::Value;
use slackir::prelude::*;
use slackir::token::{KeyOptions, SecretKeyBase, Signer, VerifyOptions};

use crate::room::{Messages, Room, User};

/// Accepts clients with a token of the team's login, in the parameter `token`.
struct UserSocket(Signer);

impl Socket for UserSocket {
    async fn connect(
        &self,
        params: &Params,
        _: &ConnectInfo,
        assigns: &mut Assigns,
    ) -> Result<(), ConnectRefused> {
        let token = (self.0).verify(params.get("token"), VerifyOptions::now())?;
        let Some(name) = token.as_str() else {
            return Err(ConnectRefused::because("no name in the token"));
        };
        assigns.insert(User(name.to_owned()));
        Ok(())
    }
}

/// The application's endpoint. `store` keeps the messages.
fn endpoint(tokens: Signer, store: Arc<dyn MessageStore>) -> Endpoint {
    let pubsub = PubSub::with_logs(vec![LogRule::new("team:*", &["new_msg"], 50, store)]);
    let router = SocketRouter::new()
        .state(Presence::new(pubsub.clone()))
        .state(Messages::default())
        .channel::<Room>("team:*");
    Endpoint::builder(pubsub)
        .mount(Mount::new("/socket", UserSocket(tokens), router))
        .build()
}

/// `POST /teams/red/news` with any object: every member of the team receives it.
async fn news(
    endpoint: Data<Endpoint>,
    team: Path<String>,
    news: Json<Value>,
) -> actix_web::Result<HttpResponse> {
    let topic = format!("team:{team}");
    endpoint.broadcast(&topic, "news", news.0).await?;
    Ok(HttpResponse::NoContent().finish())
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let secret = SecretKeyBase::new(std::env::var("SECRET_KEY_BASE")?)?;
    let tokens = Signer::new(&secret, "team chat", KeyOptions::default());
    let store = slackir::store::open("sqlite://team_chat.db")?;
    let endpoint = endpoint(tokens, Arc::new(store));

    let data = Data::new(endpoint.clone());
    let routes = move |app: &mut ServiceConfig| {
        app.app_data(data.clone())
            .route("/teams/{team}/news", web::post().to(news));
    };
    Ok(slackir::serve_with(&endpoint, ("127.0.0.1", 4000), routes).await?)
}
