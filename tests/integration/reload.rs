//! SIGHUP applies new settings to a server that runs; a mistake changes nothing.

use std::io::{BufRead, BufReader, Lines};
use std::net::SocketAddr;
use std::process::{ChildStderr, Stdio};

use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

use crate::support::jwt::signed_with;
use crate::support::operator::{Operator, PASSWORD, post};
use crate::support::phoenix::Phoenix;
use crate::support::process::Process;
use crate::support::transport::Wire;
use crate::support::wire::{WireClient, http};

const SECRETS: [&str; 2] = [
    "the first secret of thirty-two bytes or more",
    "the second secret of thirty-two bytes or more",
];

const IDENTITY: &str =
    "[identity]\njwt = { algorithms = [\"HS256\"], secret_file = \"jwt\", require_exp = false }\n";

struct Running {
    dir: TempDir,
    server: Process,
    log: Lines<BufReader<ChildStderr>>,
}

impl Running {
    /// A server with these settings above the identity.
    fn start(settings: &str) -> Self {
        let dir = tempdir().expect("a temporary folder");
        write(&dir, settings, SECRETS[0]);
        let args = ["--config", "slackir.toml", "--log-format", "json"];
        let mut server = Process::start_logging_to(Stdio::piped(), &dir, &args);
        let log = BufReader::new(server.take_stderr()).lines();
        Self { dir, server, log }
    }

    /// The fields of the next line of the log whose event begins so.
    fn logged(&mut self, event: &str) -> Value {
        let lines = self.log.by_ref().map_while(Result::ok);
        let mut lines = lines.filter_map(|line| serde_json::from_str::<Value>(&line).ok());
        let line = lines.find(|line| {
            let message = line["fields"]["message"].as_str();
            message.is_some_and(|message| message.starts_with(event))
        });
        line.expect("the server logs it")["fields"].take()
    }

    /// Writes other settings, sends SIGHUP, and waits for the line of the log.
    fn reload(&mut self, settings: &str, secret: &str, event: &str) -> Value {
        write(&self.dir, settings, secret);
        self.server.signal("-HUP");
        let fields = self.logged("serve.reload");
        let message = fields["message"].as_str().unwrap_or_default();
        assert_eq!(message.split(':').next(), Some(event), "{fields}");
        fields
    }

    fn addr(&self) -> SocketAddr {
        self.server.addr
    }

    /// The status of a request to the API with this token.
    async fn api(&self, token: &str) -> u16 {
        let authorization = format!("Bearer {token}");
        let headers = [("Authorization", Some(&*authorization))];
        let target = "/api/topics/random:lobby/messages";
        let answer = http(self.addr(), "GET", target, &headers, b"").await;
        answer.expect("an answer").status
    }

    /// The status of a handshake with a token of this secret, by a page of this host.
    async fn handshake(&self, secret: &str, host: &str) -> (Option<WireClient>, u16) {
        let token = signed_with(secret, &json!({"sub": "ada"}));
        let target = format!("/socket/websocket?vsn=2.0.0&token={token}");
        let origin = format!("http://{host}");
        let dialled = WireClient::dial(self.addr(), &target, &[("Origin", Some(&*origin))]).await;
        let (client, answer) = dialled.expect("an answer");
        (client, answer.status)
    }

    /// A client with a token of the first secret.
    async fn client(&self) -> Phoenix {
        let token = signed_with(SECRETS[0], &json!({"sub": "ada"}));
        Phoenix::dial_with(self.addr(), &format!("&token={token}")).await
    }

    fn end(self) {
        self.server.signal("-TERM");
        assert_eq!(self.server.wait(), Some(0));
    }
}

fn write(dir: &TempDir, settings: &str, secret: &str) {
    let config = format!("{settings}\n{IDENTITY}");
    std::fs::write(dir.path().join("slackir.toml"), config).expect("writable");
    std::fs::write(dir.path().join("jwt"), secret).expect("writable");
}

#[actix_web::test]
async fn new_tokens_origins_limits_and_keys_hold_from_a_hangup_on() {
    let first = "api_token = \"the-first-token-of-the-api\"\ncheck_origin = \"//a.example\"";
    let mut running = Running::start(first);
    assert_eq!(running.api("the-first-token-of-the-api").await, 200);
    let (old, status) = running.handshake(SECRETS[0], "a.example").await;
    assert_eq!(status, 101);

    let second = "api_token = \"the-second-token-of-the-api\"\ncheck_origin = \"//b.example\"\n\
                  max_connections_per_ip = 1\ndrain_batch = 5";
    let line = running.reload(second, SECRETS[1], "serve.reloaded");
    assert_eq!(
        line["changed"], "check_origin, max_connections_per_ip, api_token",
        "{line}"
    );
    assert_eq!(line["restart"], "drain_batch", "{line}");
    assert_eq!(running.api("the-first-token-of-the-api").await, 401);
    assert_eq!(running.api("the-second-token-of-the-api").await, 200);
    assert_eq!(running.handshake(SECRETS[1], "a.example").await.1, 403);
    assert_eq!(running.handshake(SECRETS[0], "b.example").await.1, 403);
    let (new, status) = running.handshake(SECRETS[1], "b.example").await;
    assert_eq!(status, 101);
    // The one from before had no limit, because loopback is a trusted proxy.
    assert_eq!(running.handshake(SECRETS[1], "b.example").await.1, 429);

    // What needs a restart is named again, and nothing else.
    let line = running.reload(second, SECRETS[1], "serve.reloaded");
    assert_eq!(
        (&line["changed"], &line["restart"]),
        (&json!(""), &json!("drain_batch"))
    );
    drop((old, new));
    running.end();
}

#[actix_web::test]
async fn a_mistake_changes_nothing() {
    let good = "api_token = \"the-first-token-of-the-api\"\ncheck_origin = \"//a.example\"";
    let mut running = Running::start(good);
    let other = "api_token = \"the-second-token-of-the-api\"\ncheck_origin = \"//b.example\"";
    for (settings, secret, part) in [
        (
            format!("{other}\nprot = 1"),
            SECRETS[1],
            "prot: there is no such setting",
        ),
        (
            other.replace("//b.example", "nonsense"),
            SECRETS[1],
            "--check-origin",
        ),
        (
            other.replace("the-second-token-of-the-api", "short"),
            SECRETS[1],
            "--api-token",
        ),
        (other.to_owned(), "a short secret", "secret_file"),
        (
            format!("{other}\napi_token_file = \"jwt\""),
            SECRETS[1],
            "are both set",
        ),
    ] {
        let line = running.reload(&settings, secret, "serve.reload.failed");
        let error = line["error"].as_str().expect("a sentence");
        assert!(error.contains(part), "{part}: {error}");
        assert_eq!(
            running.api("the-first-token-of-the-api").await,
            200,
            "{part}"
        );
        let (client, status) = running.handshake(SECRETS[0], "a.example").await;
        assert_eq!(status, 101, "{part}");
        drop(client);
    }
    running.end();
}

#[actix_web::test]
async fn the_api_is_switched_on_by_a_restart_alone_and_off_by_a_hangup() {
    let mut running = Running::start("log = \"info\"");
    let on = "api_token = \"the-first-token-of-the-api\"";
    let line = running.reload(on, SECRETS[0], "serve.reloaded");
    assert_eq!(
        (&line["changed"], &line["restart"]),
        (&json!(""), &json!("api_token"))
    );
    running.end();

    let mut running = Running::start(on);
    let line = running.reload("", SECRETS[0], "serve.reloaded");
    assert_eq!(line["changed"], "api_token");
    assert_eq!(running.api("the-first-token-of-the-api").await, 401);
    running.end();
}

/// The numbers of the messages that a client gets when it joins the room.
async fn history(client: &mut Phoenix) -> Vec<u64> {
    client.join("random:lobby").await;
    let (event, payload) = client.next_event().await;
    assert_eq!(event, "messages_history");
    let messages = payload["messages"].as_array().expect("a list");
    let numbers = messages.iter().map(|message| message["n"].as_u64());
    numbers.map(|number| number.expect("a number")).collect()
}

const ROOM: &str = "[[rooms]]\ntopics = \"random:*\"\nevents = [\"shout\"]\n\
                    on.loud = { reply = true, store = false, to = \"others\" }\n";

#[actix_web::test]
async fn a_room_has_its_new_history_and_limit_for_members_and_joins() {
    let mut running = Running::start(&format!("history_limit = 3\n{ROOM}"));
    let mut ada = running.client().await;
    let (join_ref, _) = ada.join("random:lobby").await;
    assert_eq!(ada.next_event().await.0, "messages_history");
    for n in 1..=1_010 {
        ada.push(&join_ref, "random:lobby", "shout", json!({ "n": n }))
            .await;
        assert_eq!(ada.next_event().await.0, "shout");
    }
    let mut bob = running.client().await;
    assert_eq!(history(&mut bob).await, [1_008, 1_009, 1_010]);

    // Longer than what the topic keeps in memory, and with another limit and another rule.
    let limit = "limit = { topic = \"2/1h\" }\nchanges = true\n";
    let line = running.reload(
        &format!("history_limit = 1_005\n{ROOM}{limit}"),
        SECRETS[0],
        "serve.reloaded",
    );
    assert_eq!(
        (&line["changed"], &line["restart"]),
        (
            &json!("history_limit, [[rooms]] random:* limit"),
            &json!("[[rooms]]")
        )
    );
    let mut carl = running.client().await;
    let numbers = history(&mut carl).await;
    assert_eq!((numbers.len(), numbers.first()), (1_005, Some(&6)));
    for _ in 0..2 {
        let loud = ada.push(&join_ref, "random:lobby", "loud", json!({})).await;
        assert_eq!(ada.reply_to(&loud).await["status"], "ok");
    }
    let loud = ada.push(&join_ref, "random:lobby", "loud", json!({})).await;
    let refused = ada.reply_to(&loud).await;
    assert_eq!(refused["response"]["limit"], "topic", "{refused}");

    // The limit is gone again.
    let line = running.reload(
        &format!("history_limit = 2\n{ROOM}"),
        SECRETS[0],
        "serve.reloaded",
    );
    assert_eq!(line["restart"], "", "{line}");
    let loud = ada.push(&join_ref, "random:lobby", "loud", json!({})).await;
    assert_eq!(ada.reply_to(&loud).await["status"], "ok");
    let mut dora = running.client().await;
    assert_eq!(history(&mut dora).await, [1_009, 1_010]);
    drop((ada, bob, carl, dora));
    running.end();
}

#[actix_web::test]
async fn the_limits_of_connections_hold_for_those_that_are_open() {
    let mut running = Running::start("history = \"none\"");
    let mut ada = running.client().await;
    ada.join("random:1").await;
    let line = running.reload(
        "history = \"none\"\nmax_channels = 1\njoins_per_second = 1\njoins_burst = 3\n\
         presences_burst = 7",
        SECRETS[0],
        "serve.reloaded",
    );
    assert_eq!(
        line["changed"], "max_channels, joins_per_second, joins_burst, presences_burst",
        "{line}"
    );
    let refused = ada.send_join("random:2", json!({})).await;
    let reply = ada.reply_to(&refused).await;
    assert_eq!(
        reply["response"]["reason"], "too many channels joined",
        "{reply}"
    );
    // More than three joins at once are over the rate now.
    let joins: Vec<_> = (0..6)
        .map(|n| json!([null, format!("j{n}"), "random:3", "phx_join", {}]))
        .collect();
    ada.send_all(&joins).await;
    let mut limits = Vec::new();
    for _ in &joins {
        limits.push(ada.next().await[4]["response"]["limit"].take());
    }
    assert!(limits.contains(&json!("joins")), "{limits:?}");
    drop(ada);
    running.end();
}

#[actix_web::test]
async fn new_keys_of_joins_and_the_token_of_the_metrics_hold_from_a_hangup_on() {
    const PRIVATE: &str = "[[rooms]]\ntopics = \"random:*\"\nhistory = \"none\"\n\
        [rooms.join]\ntoken = { jwt = { algorithms = [\"HS256\"], secret_file = \"jwt\", \
        require_exp = false } }\n";
    let settings = |token: &str| format!("metrics_token = \"{token}\"\n{PRIVATE}");
    let mut running = Running::start(&settings("first"));
    let mut ada = running.client().await;
    let join = async |ada: &mut Phoenix, secret: &str| {
        let token = signed_with(secret, &json!({"sub": "ada"}));
        let join = ada.send_join("random:1", json!({ "token": token })).await;
        let status = ada.reply_to(&join).await["status"].take();
        if status == "ok" {
            let leave = ada.push(&join, "random:1", "phx_leave", json!({})).await;
            assert_eq!(ada.reply_to(&leave).await["status"], "ok");
            assert_eq!(ada.next_event().await.0, "phx_close");
        }
        status
    };
    let metrics = async |addr, token: &str| {
        let authorization = format!("Bearer {token}");
        let headers = [("Authorization", Some(&*authorization))];
        let answer = http(addr, "GET", "/metrics", &headers, b"").await;
        answer.expect("an answer").status
    };
    let addr = running.addr();
    assert_eq!(join(&mut ada, SECRETS[0]).await, "ok");
    assert_eq!(join(&mut ada, SECRETS[1]).await, "error");
    assert_eq!(
        (metrics(addr, "first").await, metrics(addr, "second").await),
        (200, 401)
    );

    let line = running.reload(&settings("second"), SECRETS[1], "serve.reloaded");
    assert_eq!(line["changed"], "metrics_token", "{line}");
    assert_eq!(join(&mut ada, SECRETS[0]).await, "error");
    assert_eq!(join(&mut ada, SECRETS[1]).await, "ok");
    assert_eq!(
        (metrics(addr, "first").await, metrics(addr, "second").await),
        (401, 200)
    );

    let line = running.reload(&settings("third"), "a short secret", "serve.reload.failed");
    assert!(
        line["error"]
            .as_str()
            .is_some_and(|error| error.contains("secret_file")),
        "{line}"
    );
    assert_eq!(join(&mut ada, SECRETS[1]).await, "ok");
    assert_eq!(metrics(addr, "second").await, 200);
    drop(ada);
    running.end();
}

#[actix_web::test]
async fn the_dashboard_shows_and_heeds_the_new_settings() {
    const LOGIN: &str = "/dashboard/login";
    const BODY: &str = "password=correct+horse+battery";
    let settings = |more: &str| format!("dashboard_password = \"{PASSWORD}\"\n{more}");
    let old = "public_host = \"old.example\"\ntrusted_proxies = \"none\"";
    let mut running = Running::start(&settings(old));
    let addr = running.addr();
    let proxied = [
        ("X-Forwarded-For", "192.0.2.7"),
        ("X-Forwarded-Proto", "https"),
        ("Origin", "https://old.example"),
    ];
    let answer = post(addr, LOGIN, &proxied, BODY).await;
    assert!(!answer.headers["set-cookie"].contains("; Secure"));
    let line = running.logged("dashboard.session.changed");
    assert_eq!(
        line["peer"], "127.0.0.1",
        "nobody is trusted to say another"
    );

    let new = "public_host = \"new.example\"\ntrusted_proxies = \"127.0.0.0/8\"\n\
               history_limit = 7\ncheck_origin = \"off\"\nstatic_dir = \"nowhere\"";
    let line = running.reload(&settings(new), SECRETS[0], "serve.reloaded");
    assert_eq!(line["restart"], "static_dir", "{line}");
    assert_eq!(post(addr, LOGIN, &proxied, BODY).await.status, 403);
    let proxied = [proxied[0], proxied[1], ("Origin", "https://New.example")];
    let answer = post(addr, LOGIN, &proxied, BODY).await;
    assert!(answer.headers["set-cookie"].contains("; Secure"));
    let line = running.logged("dashboard.session.changed");
    assert_eq!(line["peer"], "192.0.2.7", "{line}");

    let mut operator = Operator::come(addr).await;
    let system = operator.ask("system", json!({})).await;
    let shown = |name: &str| {
        let settings = system["settings"].as_array().expect("a list");
        let setting = settings.iter().find(|setting| setting["name"] == name);
        let setting = setting.expect("a setting");
        (setting["value"].clone(), setting["source"].clone())
    };
    assert_eq!(shown("history_limit"), (json!("7"), json!("file")));
    assert_eq!(shown("public_host"), (json!("new.example"), json!("file")));
    // It waits for the restart, as the check says.
    assert_eq!(shown("static_dir"), (Value::Null, json!("default")));
    let check = operator.ask("check", json!({})).await;
    let level = |name: &str| {
        let lines = check["lines"].as_array().expect("a list");
        let line = lines.iter().find(|line| line["name"] == name);
        line.expect("a line")["level"].clone()
    };
    assert_eq!(
        (level("check_origin"), level("static_dir")),
        (json!("warn"), json!("fail"))
    );
    drop(operator);
    running.end();
}
