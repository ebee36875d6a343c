//! The operators' dashboard: who may use it, and what it shows and does. The page itself is tested in tests/browser.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::phoenix::Phoenix;
use crate::support::process::{Process, run};
use crate::support::wire::{HttpAnswer, WireClient, http};

const PASSWORD: &str = "correct horse battery";
const SOCKET: &str = "/dashboard/socket/websocket?vsn=2.0.0";
const TOPIC: &str = "admin:dashboard";
const ROOMS: &str = r#"
    [identity]
    fields = { id = "{connect.id}" }
    [[rooms]]
    topics = "room:*"
    events = ["shout"]
    [rooms.presence]
    key = "{user.id}"
"#;

fn start(args: &[&str]) -> (TempDir, Process) {
    Process::configured(ROOMS, args)
}

fn with_password() -> (TempDir, Process) {
    start(&["--dashboard-password", PASSWORD])
}

async fn get(addr: SocketAddr, target: &str, cookie: Option<&str>) -> HttpAnswer {
    let answer = http(addr, "GET", target, &[("Cookie", cookie)], b"").await;
    answer.expect("an answer")
}

async fn post(addr: SocketAddr, target: &str, headers: &[(&str, &str)], body: &str) -> HttpAnswer {
    let form = ("Content-Type", Some("application/x-www-form-urlencoded"));
    let headers = headers.iter().map(|(name, value)| (*name, Some(*value)));
    let headers: Vec<_> = headers.chain([form]).collect();
    let answer = http(addr, "POST", target, &headers, body.as_bytes()).await;
    answer.expect("an answer")
}

async fn login(addr: SocketAddr, password: &str) -> HttpAnswer {
    let body = format!("password={}", password.replace(' ', "+"));
    post(addr, "/dashboard/login", &[], &body).await
}

/// The cookie that an answer sets.
fn cookie(answer: &HttpAnswer) -> String {
    let set = answer.headers.get("set-cookie").expect("a cookie");
    let (cookie, attributes) = set.split_once(';').expect("attributes");
    for attribute in ["HttpOnly", "SameSite=Strict", "Path=/dashboard", "Max-Age="] {
        assert!(attributes.contains(attribute), "{set}");
    }
    cookie.to_owned()
}

/// One open dashboard.
struct Operator {
    client: Phoenix,
    join_ref: String,
    hello: Value,
    /// Pushes that came before an answer.
    pushes: Vec<(String, Value)>,
}

impl Operator {
    async fn come(addr: SocketAddr) -> Self {
        let answer = login(addr, PASSWORD).await;
        assert_eq!(answer.status, 303);
        Self::with(addr, &cookie(&answer)).await
    }

    async fn with(addr: SocketAddr, cookie: &str) -> Self {
        let opened = WireClient::open(addr, SOCKET, &[("Cookie", Some(cookie))]).await;
        let wire = opened.expect("an answer").expect("the cookie lets in");
        let mut client = Phoenix::over(wire);
        let (join_ref, hello) = client.join(TOPIC).await;
        Self {
            client,
            join_ref,
            hello,
            pushes: Vec::new(),
        }
    }

    /// The answer to a request: its status and its response.
    async fn asked(&mut self, event: &str, payload: Value) -> (String, Value) {
        let sent = self
            .client
            .push(&self.join_ref, TOPIC, event, payload)
            .await;
        loop {
            let mut frame = self.client.next().await;
            if frame[3] == "phx_reply" && frame[1] == sent.as_str() {
                let status = frame[4]["status"].as_str().unwrap_or_default().to_owned();
                return (status, frame[4]["response"].take());
            }
            let event = frame[3].as_str().unwrap_or_default().to_owned();
            self.pushes.push((event, frame[4].take()));
        }
    }

    async fn ask(&mut self, event: &str, payload: Value) -> Value {
        let (status, response) = self.asked(event, payload).await;
        assert_eq!(status, "ok", "{event}: {response}");
        response
    }

    async fn refused(&mut self, event: &str, payload: Value) -> String {
        let (status, response) = self.asked(event, payload).await;
        assert_eq!(status, "error", "{event}: {response}");
        response["reason"].as_str().expect("a sentence").to_owned()
    }

    /// The next push of an event.
    async fn pushed(&mut self, event: &str) -> Value {
        loop {
            if let Some(at) = self.pushes.iter().position(|(known, _)| known == event) {
                return self.pushes.remove(at).1;
            }
            let push = self.client.next_event().await;
            self.pushes.push(push);
        }
    }
}

async fn member(addr: SocketAddr, user: &str, topic: &str) -> (Phoenix, String) {
    let mut client = Phoenix::<WireClient>::dial_with(addr, &format!("&id={user}")).await;
    let reference = client.send_join(topic, json!({})).await;
    loop {
        let frame = client.next().await;
        if frame[3] == "phx_reply" && frame[1] == reference.as_str() {
            assert_eq!(frame[4]["status"], "ok", "{frame}");
            return (client, reference);
        }
    }
}

#[actix_web::test]
async fn the_page_needs_the_password_and_a_wrong_one_is_limited() {
    let (_dir, server) = with_password();
    let addr = server.addr;
    let page = get(addr, "/dashboard/", None).await;
    assert_eq!(page.status, 302);
    assert_eq!(page.headers["location"], "/dashboard/login");
    assert_eq!(
        get(addr, "/dashboard", None).await.headers["location"],
        "/dashboard/"
    );
    let form = get(addr, "/dashboard/login", None).await;
    assert_eq!(form.status, 200);
    assert!(form.headers["content-security-policy"].starts_with("default-src 'self'"));
    assert!(String::from_utf8_lossy(&form.body).contains("data-wrong=\"false\""));

    let wrong = login(addr, "wrong").await;
    assert_eq!(wrong.status, 401);
    assert!(String::from_utf8_lossy(&wrong.body).contains("data-wrong=\"true\""));
    let right = login(addr, PASSWORD).await;
    assert_eq!(
        (right.status, &*right.headers["location"]),
        (303, "/dashboard/")
    );
    let cookie = cookie(&right);
    let page = get(addr, "/dashboard/", Some(&cookie)).await;
    assert_eq!(page.status, 200);
    assert!(page.headers["content-security-policy"].starts_with("default-src 'self'"));
    let login_page = get(addr, "/dashboard/login", Some(&cookie)).await;
    assert_eq!(login_page.headers["location"], "/dashboard/");

    // Two of five tries are used up.
    for _ in 0..3 {
        assert_eq!(login(addr, "wrong").await.status, 401);
    }
    let limited = login(addr, PASSWORD).await;
    assert_eq!(limited.status, 429);
    assert!(limited.headers.contains_key("retry-after"));
    assert!(String::from_utf8_lossy(&limited.body).contains("data-wrong=\"limited\""));
    let elsewhere = [
        ("X-Forwarded-For", "192.0.2.7"),
        ("X-Forwarded-Proto", "https"),
    ];
    let body = "password=correct+horse+battery";
    let elsewhere = post(addr, "/dashboard/login", &elsewhere, body).await;
    assert_eq!(
        elsewhere.status, 303,
        "another client of the proxy has its own tries"
    );
    assert!(elsewhere.headers["set-cookie"].contains("; Secure"));
}

#[actix_web::test]
async fn files_are_served_to_everybody_and_asked_for_again_by_their_tag() {
    let (_dir, server) = with_password();
    for (file, kind) in [
        ("dashboard.js", "text/javascript; charset=utf-8"),
        ("dashboard.css", "text/css; charset=utf-8"),
        ("favicon.svg", "image/svg+xml"),
    ] {
        let target = format!("/dashboard/{file}");
        let answer = get(server.addr, &target, None).await;
        assert_eq!(
            (answer.status, &*answer.headers["content-type"]),
            (200, kind),
            "{file}"
        );
        assert_eq!(answer.headers["cache-control"], "no-cache");
        let tag = Some(&*answer.headers["etag"]);
        let again = http(server.addr, "GET", &target, &[("If-None-Match", tag)], b"").await;
        assert_eq!(again.expect("an answer").status, 304);
        let head = http(server.addr, "HEAD", &target, &[], b"")
            .await
            .expect("an answer");
        assert_eq!((head.status, head.body.len()), (200, 0));
    }
    assert_eq!(
        get(server.addr, "/dashboard/nothing.js", None).await.status,
        404
    );
    let posted = post(server.addr, "/dashboard/dashboard.js", &[], "").await;
    assert_eq!(posted.status, 405);
}

#[actix_web::test]
async fn a_socket_and_a_form_need_the_cookie_and_a_page_of_the_server() {
    let (_dir, server) = with_password();
    let addr = server.addr;
    let cookie = cookie(&login(addr, PASSWORD).await);
    let own = format!("http://{addr}");
    let foreign = Some("https://evil.example");
    for (cookie, origin, lets_in) in [
        (None, None, false),
        (None, Some(&*own), false),
        (Some("slackir_dashboard=0.9999999999.AAAA"), None, false),
        (Some(&*cookie), foreign, false),
        (Some(&*cookie), Some("null"), false),
        (Some(&*cookie), Some(&*own), true),
    ] {
        let headers = [("Cookie", cookie), ("Origin", origin)];
        let opened = WireClient::open(addr, SOCKET, &headers)
            .await
            .expect("an answer");
        match opened {
            Ok(_) => assert!(lets_in, "{cookie:?} {origin:?}"),
            Err(answer) => assert_eq!((lets_in, answer.status), (false, 403), "{origin:?}"),
        }
    }
    for target in ["/dashboard/login", "/dashboard/logout"] {
        let headers = [("Cookie", &*cookie), ("Origin", "https://evil.example")];
        let answer = post(addr, target, &headers, "password=correct+horse+battery").await;
        assert_eq!(answer.status, 403, "{target}");
    }
    let export = get(addr, "/dashboard/export?topic=room:1", None).await;
    assert_eq!(export.status, 401);
}

#[actix_web::test]
async fn signing_out_ends_the_session_and_its_sockets() {
    let (_dir, server) = with_password();
    let cookie = cookie(&login(server.addr, PASSWORD).await);
    let mut operator = Operator::with(server.addr, &cookie).await;
    let left = post(server.addr, "/dashboard/logout", &[("Cookie", &cookie)], "").await;
    assert_eq!(
        (left.status, &*left.headers["location"]),
        (303, "/dashboard/login")
    );
    assert!(left.headers["set-cookie"].contains("Max-Age=0"));
    assert_eq!(operator.client.closed().await, 1001);
    let page = get(server.addr, "/dashboard/", Some(&cookie)).await;
    assert_eq!(page.status, 302);
    let again = WireClient::open(server.addr, SOCKET, &[("Cookie", Some(&cookie))]).await;
    assert_eq!(
        again.expect("an answer").err().expect("refused").status,
        403
    );
}

#[actix_web::test]
async fn a_loopback_server_prints_a_link_that_works_once() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut server = Process::start(&dir, &[]);
    let line = server.next_line();
    let (_, target) = line.split_once(&server.addr.to_string()).expect("a URL");
    assert!(
        line.starts_with("dashboard http://") && target.starts_with("/dashboard?token="),
        "{line}"
    );
    let head = http(server.addr, "HEAD", target, &[], b"")
        .await
        .expect("an answer");
    assert_eq!(
        head.headers["location"], "/dashboard/",
        "only a GET uses it up"
    );
    let first = get(server.addr, target, None).await;
    assert_eq!(
        (first.status, &*first.headers["location"]),
        (303, "/dashboard/")
    );
    let page = get(server.addr, "/dashboard/", Some(&cookie(&first))).await;
    assert_eq!(page.status, 200);
    let second = get(server.addr, target, None).await;
    assert_eq!(second.status, 401);
    assert!(!second.headers.contains_key("set-cookie"));
    assert_eq!(
        login(server.addr, "").await.status,
        401,
        "there is no password"
    );
}

#[actix_web::test]
async fn without_a_password_other_addresses_have_no_dashboard() {
    let (_dir, server) = start(&["--host", "0.0.0.0"]);
    let addr = SocketAddr::from(([127, 0, 0, 1], server.addr.port()));
    for target in [
        "/dashboard",
        "/dashboard/",
        "/dashboard/login",
        "/dashboard/dashboard.js",
    ] {
        assert_eq!(get(addr, target, None).await.status, 404, "{target}");
    }
    let opened = WireClient::open(addr, SOCKET, &[])
        .await
        .expect("an answer");
    assert_eq!(opened.err().expect("refused").status, 404);
}

#[test]
fn a_password_that_could_be_guessed_is_refused() {
    let output = run(
        &["serve", "--port", "0", "--dashboard-password", "hunter2"],
        Path::new("."),
    );
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(
        error.contains("at least 12 characters") && !error.contains("hunter2"),
        "{error}"
    );
}

#[actix_web::test]
async fn snapshots_come_by_themselves_and_the_dashboard_is_in_no_list() {
    let (_dir, server) = with_password();
    let mut operator = Operator::come(server.addr).await;
    let hello = operator.hello.clone();
    assert_eq!(hello["node"], server.addr.to_string());
    let points = hello["history"]["at"].as_array().map(Vec::len);
    for list in ["deliveries", "messages", "commit_lag_ms", "outbox_bytes"] {
        assert_eq!(
            hello["history"][list].as_array().map(Vec::len),
            points,
            "{list}"
        );
    }
    let first = operator.pushed("snapshot").await;
    let second = operator.pushed("snapshot").await;
    assert!(
        second["at"].as_u64() > first["at"].as_u64(),
        "{first} {second}"
    );
    assert_eq!(
        (&first["state"], &first["connections"]),
        (&json!("ready"), &json!(0))
    );
    assert!(first["memory_bytes"].as_u64() > Some(1_000_000), "{first}");
    assert!(first["open_files"].as_u64() > Some(2), "{first}");

    let rooms = operator.ask("topics", json!({})).await;
    assert_eq!(rooms, json!({"topics": [], "total": 0}));
    let people = operator.ask("connections", json!({})).await;
    assert_eq!(people, json!({"connections": [], "total": 0}));
    // Clients of the server cannot reach the channel, even where a room takes every topic.
    let (_dir, open) = Process::configured(
        "[[rooms]]\ntopics = \"*\"\nevents = [\"shout\"]\n",
        &["--dashboard-password", PASSWORD],
    );
    let mut operator = Operator::come(open.addr).await;
    let mut client = Phoenix::<WireClient>::connect(open.addr).await;
    client.join(TOPIC).await;
    operator.pushed("snapshot").await;
    operator.pushed("snapshot").await;
    let (event, _) = client.next_event().await;
    assert_eq!(event, "messages_history");
    client.heartbeat().await;
}

#[actix_web::test]
async fn a_room_is_shown_followed_written_to_and_cleaned() {
    let (_dir, server) = with_password();
    let (mut ada, joined) = member(server.addr, "ada", "room:tea").await;
    let mut operator = Operator::come(server.addr).await;
    let rooms = operator
        .ask("topics", json!({"prefix": "room:", "sort": "members"}))
        .await;
    assert_eq!(rooms["total"], 1);
    let row = &rooms["topics"][0];
    let shown = [&row["topic"], &row["members"], &row["history"]];
    assert_eq!(shown, [&json!("room:tea"), &json!(1), &json!("saved")]);

    let tail = operator.ask("tail", json!({"topic": "room:tea"})).await;
    assert!(tail["until"].as_u64() > Some(1_700_000_000), "{tail}");
    ada.push(&joined, "room:tea", "shout", json!({"message": "hi"}))
        .await;
    let heard = operator.pushed("tail").await;
    assert_eq!(
        (&heard["event"], &heard["payload"]["message"]),
        (&json!("shout"), &json!("hi"))
    );
    let text = "x".repeat(5_000);
    let written = json!({"topic": "room:tea", "event": "shout", "payload": {"message": text}});
    operator.ask("publish", written).await;
    let heard = operator.pushed("tail").await;
    assert_eq!(heard["payload"]["_bytes"], 5_014, "a long one is cut");
    operator.ask("tail", json!({"topic": "room:other"})).await;
    assert_eq!(
        operator.pushed("tail_end").await,
        json!({"topic": "room:tea"})
    );
    operator.ask("untail", json!({})).await;
    for (event, payload, part) in [
        (
            "publish",
            json!({"topic": "room:tea", "event": "phx_close", "payload": {}}),
            "protocol",
        ),
        (
            "publish",
            json!({"topic": "room:tea", "event": "shout", "payload": 7}),
            "object",
        ),
        (
            "delete_message",
            json!({"topic": "room:tea", "id": "1-1"}),
            "no such message",
        ),
        ("reboot", json!({}), "knows no request"),
    ] {
        let reason = operator.refused(event, payload).await;
        assert!(reason.contains(part), "{reason}");
    }

    let room = loop {
        let room = operator.ask("topic", json!({"topic": "room:tea"})).await;
        if room["messages"]
            .as_array()
            .is_some_and(|messages| messages.len() == 2)
        {
            break room;
        }
    };
    assert_eq!(
        (&room["saved"], &room["members_total"]),
        (&json!(true), &json!(1))
    );
    let member = &room["members"][0];
    assert_eq!(
        (&member["user"], &member["transport"]),
        (&json!("ada"), &json!("websocket"))
    );
    assert!(room["presence"]["ada"]["metas"].is_array(), "{room}");
    let id = room["messages"][0]["id"].clone();
    operator
        .ask("delete_message", json!({"topic": "room:tea", "id": id}))
        .await;
    let room = operator.ask("topic", json!({"topic": "room:tea"})).await;
    assert_eq!(room["messages"].as_array().map(Vec::len), Some(1));

    let cookie = cookie(&login(server.addr, PASSWORD).await);
    let export = get(
        server.addr,
        "/dashboard/export?topic=room:tea",
        Some(&cookie),
    )
    .await;
    assert!(export.headers["content-disposition"].contains("room-tea.jsonl"));
    let lines = String::from_utf8(export.body).expect("text");
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["payload"]["message"], text, "an export is whole");
}

#[actix_web::test]
async fn people_are_found_ended_banned_and_let_in_again() {
    let (_dir, server) = with_password();
    let (mut eve, _) = member(server.addr, "eve", "room:tea").await;
    let (mut ada, _) = member(server.addr, "ada", "room:tea").await;
    let mut operator = Operator::come(server.addr).await;
    let all = operator.ask("connections", json!({})).await;
    assert_eq!(all["total"], 2);
    assert_eq!(all["connections"][0]["user"], "ada", "the newest first");
    assert_eq!(all["connections"][0]["channels"], json!(["room:tea"]));
    let found = operator.ask("connections", json!({"user": "eve"})).await;
    let id = found["connections"][0]["connection"].clone();
    let ended = operator.ask("disconnect", json!({"connection": id})).await;
    assert_eq!(ended, json!({"disconnected": 1}));
    eve.closed().await;
    let reason = operator.refused("disconnect", json!({})).await;
    assert!(reason.contains("Name a connection"), "{reason}");
    let ended = operator.ask("disconnect", json!({"user": "ada"})).await;
    assert_eq!(ended, json!({"disconnected": 1}));
    ada.closed().await;

    operator
        .ask("ban", json!({"user": "eve", "seconds": 60, "kind": "ban"}))
        .await;
    operator
        .ask(
            "ban",
            json!({"address": "192.0.2.0/24", "seconds": 60, "kind": "mute"}),
        )
        .await;
    let bans = operator.ask("bans", json!({})).await;
    let kinds: Vec<_> = bans["bans"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|ban| &ban["kind"])
        .collect();
    assert_eq!(kinds.len(), 2);
    let of_eve = bans["bans"]
        .as_array()
        .expect("a list")
        .iter()
        .find(|ban| ban["user"] == "eve");
    let id = of_eve.expect("a ban")["id"].clone();
    let refused = WireClient::open(server.addr, "/socket/websocket?vsn=2.0.0&id=eve", &[]).await;
    assert_eq!(
        refused.expect("an answer").err().expect("banned").status,
        403
    );
    operator.ask("unban", json!({"id": id})).await;
    let reason = operator.refused("unban", json!({"id": id})).await;
    assert!(reason.contains("no such ban"), "{reason}");
    member(server.addr, "eve", "room:tea").await;
    operator
        .ask("revoke", json!({"user": "eve", "seconds": 60}))
        .await;
    let reason = operator
        .refused("revoke", json!({"user": "eve", "seconds": 0}))
        .await;
    assert!(reason.contains("at least a second"), "{reason}");
}

#[actix_web::test]
async fn the_system_and_its_trouble_are_shown_without_secrets() {
    let (_dir, server) = with_password();
    let mut operator = Operator::come(server.addr).await;
    let system = operator.ask("system", json!({})).await;
    let text = system.to_string();
    assert!(!text.contains(PASSWORD), "{text}");
    let settings = system["settings"].as_array().expect("a list");
    let of = |name: &str| {
        settings
            .iter()
            .find(|setting| setting["name"] == name)
            .expect("a setting")
    };
    assert_eq!(of("dashboard_password")["source"], "flag");
    assert_eq!(
        (
            &of("history_limit")["value"],
            &of("history_limit")["source"]
        ),
        (&json!("50"), &json!("default"))
    );
    assert!(system["database"]["bytes"].as_u64() > Some(0), "{system}");
    let check = operator.ask("check", json!({})).await;
    let names: Vec<_> = check["lines"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|line| &line["name"])
        .collect();
    assert!(
        names.contains(&&json!("database")) && !names.contains(&&json!("port")),
        "{check}"
    );
    let trouble = operator.ask("trouble", json!({})).await;
    assert!(
        trouble["entries"].is_array() && trouble["limited"]["joins"] == 0,
        "{trouble}"
    );
    assert_eq!(
        trouble["refused"],
        json!({"full": 0, "address": 0, "files": 0})
    );
}

#[actix_web::test]
async fn each_action_is_a_line_of_the_log() {
    let dir = tempfile::tempdir().expect("a folder");
    let args = [
        "--dashboard-password",
        PASSWORD,
        "--log",
        "warn,slackir::audit=info",
    ];
    let mut server = Process::start_logging_to(Stdio::piped(), &dir, &args);
    let mut operator = Operator::come(server.addr).await;
    let written = json!({"topic": "random:tea", "event": "shout", "payload": {"message": "hi"}});
    operator.ask("publish", written).await;
    login(server.addr, "wrong").await;
    let mut stderr = server.take_stderr();
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0));
    let mut log = String::new();
    std::io::Read::read_to_string(&mut stderr, &mut log).expect("text");
    for part in [
        "dashboard.session.changed done=\"signed in\" by=\"password\" actor=\"dashboard\" peer=127.0.0.1",
        "dashboard.action done=\"published\" topic=\"random:tea\" event=\"shout\" actor=\"dashboard\" peer=127.0.0.1",
        "dashboard.login.refused by=\"password\" reason=\"wrong\" actor=\"dashboard\" peer=127.0.0.1",
    ] {
        assert!(log.contains(part), "{part}\n{log}");
    }
}
