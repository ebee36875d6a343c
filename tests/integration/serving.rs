//! A server put together by a program of one's own: in one call, in an actix-web server, and the whole
//! server of the binary with channels beside its rooms.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use actix_web::web::{self, Data, ServiceConfig};
use rustix::process::{Signal, getpid, kill_process};
use serde_json::json;
use slackir::prelude::*;
use slackir::server::{Config, Server};
use slackir::socket::ConnectRefused;

use crate::support::database::Database;
use crate::support::server::{TestServer, over_both_drivers};
use crate::support::wire::{HttpAnswer, WireClient, http};

over_both_drivers! {
    a_hook_takes_over_what_a_request_carries
}

/// Who a client is, by its cookie.
struct Member(String);

struct Members;

impl Socket for Members {
    async fn connect(
        &self,
        _: &Params,
        _: &ConnectInfo,
        assigns: &mut Assigns,
    ) -> Result<(), ConnectRefused> {
        match assigns.get::<Member>() {
            Some(Member(name)) if name == "panic" => panic!("in connect"),
            Some(_) => Ok(()),
            None => Err(ConnectRefused::because("no cookie")),
        }
    }
}

struct Game;

impl Channel for Game {
    type Info = ();

    async fn join(_: Payload, ctx: &mut Context<Self>) -> JoinResult<Self> {
        let member = ctx.assigns().get::<Member>();
        let name = member.map(|Member(name)| name.clone());
        Ok(Join::reply(Game, json!({ "name": name })).with_history(HistoryMode::MessagesHistory))
    }

    async fn handle_in(
        &mut self,
        event: &str,
        payload: Payload,
        ctx: &mut Context<Self>,
    ) -> HandleInResult {
        ctx.broadcast(event, payload).await?;
        Ok(HandleIn::NoReply)
    }
}

/// Middleware and cookies are the App's, so the handshake has to come by it, whatever the driver.
async fn a_hook_takes_over_what_a_request_carries() {
    let server = TestServer::start(|| {
        let mount = Mount::new(
            "/socket",
            Members,
            SocketRouter::new().channel::<Game>("game:*"),
        )
        .on_request(|request, assigns| {
            let cookies = request
                .headers()
                .get("cookie")
                .and_then(|all| all.to_str().ok());
            let member = cookies.and_then(|all| all.split_once("member="));
            if let Some((_, name)) = member {
                assert!(name != "hook panics");
                assigns.insert(Member(name.to_owned()));
            }
        });
        Endpoint::builder(PubSub::new()).mount(mount).build()
    });
    let open = async |cookie: Option<&str>| {
        let target = "/socket/websocket?vsn=2.0.0";
        let opened = WireClient::open(server.addr, target, &[("Cookie", cookie)]).await;
        opened.expect("an answer")
    };
    let mut ada = open(Some("other=1; member=ada")).await.expect("a member");
    let join = r#"["1","1","game:1","phx_join",{}]"#;
    ada.send_text(join).await.expect("the server reads");
    let reply = ada.next_text().await;
    assert_eq!(reply[4]["response"], json!({"name": "ada"}));
    for (cookie, status) in [
        (None, 403),
        (Some("member=panic"), 500),
        (Some("member=hook panics"), 500),
    ] {
        let refused = open(cookie).await.expect_err("nobody");
        assert_eq!(refused.status, status, "{cookie:?}");
    }
}

/// A port that was free a moment ago.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("port 0 is always free");
    listener.local_addr().expect("it is bound")
}

/// Asks until something listens.
async fn get(addr: SocketAddr, target: &str) -> HttpAnswer {
    loop {
        match http(addr, "GET", target, &[], b"").await {
            Ok(answer) => return answer,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// As an operator or a supervisor does. The test has its process to itself.
fn ask_to_end() {
    kill_process(getpid(), Signal::TERM).expect("a process may end itself");
}

/// Under tokio's own runtime, as other programs have it.
#[tokio::test(flavor = "multi_thread")]
async fn one_call_serves_and_ends_in_order() {
    let addr = free_address();
    let endpoint = Endpoint::builder(PubSub::new())
        .mount(Mount::new(
            "/socket",
            slackir::server::rooms::UserSocket,
            SocketRouter::new().channel::<Game>("game:*"),
        ))
        .build();
    let told = Data::new(endpoint.clone());
    let routes = move |app: &mut ServiceConfig| {
        let tell = async |endpoint: Data<Endpoint>| {
            let told = endpoint.broadcast("game:1", "news", json!({})).await;
            told.map_or_else(|error| error.to_string(), |()| "told".to_owned())
        };
        app.app_data(told.clone())
            .route("/tell", web::get().to(tell));
    };
    let client = async {
        assert_eq!(get(addr, "/nowhere").await.status, 404);
        let mut ada = WireClient::connect(addr, "/socket/websocket?vsn=2.0.0").await;
        let join = r#"["1","1","game:1","phx_join",{}]"#;
        ada.send_text(join).await.expect("the server reads");
        assert_eq!(ada.next_text().await[4]["status"], "ok");
        assert_eq!(get(addr, "/tell").await.body, b"told");
        assert_eq!(ada.next_text().await[3], "news");
        ask_to_end();
        ada
    };
    let serving = slackir::serve_with(&endpoint, addr, routes);
    let (served, _ada) = tokio::join!(serving, client);
    served.expect("it ends in order");
}

#[actix_web::test]
async fn the_whole_server_takes_channels_logs_and_routes_of_ones_own() {
    let database = Database::sqlite();
    let addr = free_address();
    let serve = || {
        let port = addr.port().to_string();
        let args = ["--log", "off", "--workers", "2", "--port", &port];
        let config = Config::from_args(args.iter().chain(&["--database-url", &database.url]));
        let config = config.expect("valid");
        Server::from_config(config)
            .channel::<Game>("game:*")
            .log(|store| LogRule::new("game:*", &["move"], 10, store))
            .routes(|endpoint, app| {
                let endpoint = Data::new(endpoint.clone());
                let members = async |endpoint: Data<Endpoint>| {
                    let told = endpoint.broadcast("random:1", "news", json!({})).await;
                    format!("{}", told.is_ok())
                };
                app.app_data(endpoint).route("/own", web::get().to(members));
            })
            .run()
    };
    let join = async |topic: &str| {
        assert_eq!(get(addr, "/readyz").await.body, b"ready\n");
        let mut client = WireClient::connect(addr, "/socket/websocket?vsn=2.0.0").await;
        let join = json!(["1", "1", topic, "phx_join", {}]).to_string();
        client.send_text(&join).await.expect("the server reads");
        assert_eq!(client.next_text().await[4]["status"], "ok");
        let history = client.next_text().await;
        (client, history[4]["messages"].clone())
    };
    let first = async {
        let (mut player, none) = join("game:1").await;
        assert_eq!(none, json!([]));
        let moved = r#"["1","2","game:1","move",{"to":"e4"}]"#;
        player.send_text(moved).await.expect("the server reads");
        assert_eq!(player.next_text().await[4], json!({"to": "e4"}));
        let (mut chatter, _) = join("random:1").await;
        assert_eq!(get(addr, "/own").await.body, b"true");
        assert_eq!(chatter.next_text().await[3], "news");
        ask_to_end();
        (player, chatter)
    };
    let (ended, _clients) = tokio::join!(serve(), first);
    ended.expect("it ends in order");
    assert!(TcpListener::bind(addr).is_ok(), "nobody listens any more");
    assert_eq!(database.payloads("game:1"), [json!({"to": "e4"})]);
}
