//! Clients that authenticate with a `Phoenix.Token`. phoenix.js takes it as its option `authToken` and sends it
//! in a subprotocol over WebSocket, in a header over long-polling. It is never in the URL, which proxies write
//! into their logs.
//!
//! ```sh
//! export SECRET_KEY_BASE="a secret of at least twenty bytes"
//! cargo run --example auth_token -- --port 4000
//! slackir token sign ada     # prints a token; so does Phoenix.Token.sign(secret, "user socket", "ada")
//! ```
//!
//! ```js
//! const socket = new Socket("http://127.0.0.1:4000/socket", { authToken: token });
//! socket.connect();
//!
//! const channel = socket.channel("room:lobby", {});
//! channel.join();
//! channel.push("whoami", {}).receive("ok", ({ user }) => console.log(user)); // ada
//! ```

use std::net::TcpListener;

use clap::Parser;
use serde_json::json;
use slackir::channel::{Channel, Context, Failure, HandleIn, HandleInResult, Join, JoinResult};
use slackir::endpoint::TransportOptions;
use slackir::message::Payload;
use slackir::pubsub::PubSub;
use slackir::socket::{ConnectInfo, ConnectRefused, Params, Socket, SocketRouter};
use slackir::token::{KeyOptions, SecretKeyBase, Signer, VerifyOptions};
use slackir::transport::HandshakeOptions;
use slackir::{Assigns, Endpoint, Mount};

/// The purpose of the tokens: a token that was signed with another salt is refused.
const SALT: &str = "user socket";

/// Accepts clients with a token that was signed with the secret.
struct UserSocket {
    tokens: Signer,
}

/// The name of the client. `connect` assigns it, and every channel of the connection can read it.
struct User(String);

impl Socket for UserSocket {
    async fn connect(
        &self,
        _params: &Params,
        info: &ConnectInfo,
        assigns: &mut Assigns,
    ) -> Result<(), ConnectRefused> {
        let data = self
            .tokens
            .verify(info.auth_token.as_deref(), VerifyOptions::now())
            .map_err(|error| ConnectRefused::because(error.to_string()))?;
        let user = data
            .as_str()
            .ok_or(ConnectRefused::because("the token names nobody"))?;
        assigns.insert(User(user.to_owned()));
        Ok(())
    }

    /// A broadcast of `disconnect` to this topic closes all connections of the user.
    fn id(&self, assigns: &Assigns) -> Option<String> {
        let User(user) = assigns.get()?;
        Some(format!("users:{user}"))
    }
}

/// Replies to `whoami` with the client's name.
struct RoomChannel;

impl Channel for RoomChannel {
    type Info = ();

    async fn join(_params: Payload, _ctx: &mut Context<Self>) -> JoinResult<Self> {
        Ok(Join::ok(Self))
    }

    async fn handle_in(
        &mut self,
        event: &str,
        _payload: Payload,
        ctx: &mut Context<Self>,
    ) -> HandleInResult {
        match (event, ctx.assigns().get()) {
            ("whoami", Some(User(user))) => Ok(HandleIn::ok(json!({ "user": user }))),
            _ => Err(Failure::unhandled(event)),
        }
    }
}

/// The endpoint, with WebSocket and long-polling.
fn endpoint(secret: &SecretKeyBase) -> Endpoint {
    let socket = UserSocket {
        tokens: Signer::new(secret, SALT, KeyOptions::default()),
    };
    let router = SocketRouter::new().channel::<RoomChannel>("room:*");
    let transports = TransportOptions::default()
        .longpoll("longpoll")
        .handshake(HandshakeOptions::default().auth_token(true));
    Endpoint::builder(PubSub::new())
        .mount(Mount::new("/socket", socket, router).transports(transports))
        .build()
}

/// Serves rooms to clients with a token.
#[derive(Parser)]
struct Args {
    /// Port to listen on, on 127.0.0.1
    #[arg(long, default_value_t = 4000)]
    port: u16,
    /// The secret that the tokens are signed with, at least 20 bytes
    #[arg(long, env = "SECRET_KEY_BASE", hide_env_values = true)]
    secret_key_base: String,
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let Args {
        port,
        secret_key_base,
    } = Args::parse();
    let secret = SecretKeyBase::new(secret_key_base).map_err(std::io::Error::other)?;
    let endpoint = endpoint(&secret);
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    println!("Rooms for clients with a token, on http://127.0.0.1:{port}");
    slackir::serve_on(&endpoint, listener, |_| {}).await
}
