//! Users and addresses that a program bans and mutes over the HTTP API, on both databases.

use std::net::SocketAddr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

use crate::support::api::{Program, serve};
use crate::support::database::{Database, on_each_database};
use crate::support::jwt::{SECRET, now, signed};
use crate::support::longpoll::PollClient;
use crate::support::phoenix::Phoenix;
use crate::support::process::{Process, run};
use crate::support::rooms::eventually;
use crate::support::transport::Wire;
use crate::support::wire::{Headers, WireClient, http};

const BANS: &str = "/api/bans";
const CONFIG: &str = r#"
    [identity]
    from = ["jwt", "params"]
    jwt = { param = "jwt", algorithms = ["HS256"], secret_file = "secret" }
    fields = { id = "{token.name|connect.id}" }
    [[rooms]]
    topics = "room:*"
    history = "none"
    on.shout = {}
    on.typing = { store = false }
    on.older = { older = {} }
"#;

on_each_database! {
    #[actix_web::test]
    a_banned_user_is_sent_away_and_stays_away_until_the_end,
    a_banned_address_is_refused_behind_a_proxy,
    a_muted_member_stays_and_may_not_write,
    bans_survive_restarts_until_they_end_or_are_taken_back,
    a_hundred_thousand_bans_are_remembered,
}

fn start(database: &Database) -> Process {
    let write = |name: &str, text: &str| {
        std::fs::write(database.dir.path().join(name), text).expect("it can be written");
    };
    write("slackir.toml", CONFIG);
    write("secret", SECRET);
    serve(database, &["--config", "slackir.toml"])
}

/// The status of a handshake.
async fn dial<W: Wire>(addr: SocketAddr, params: &str, headers: Headers<'_>) -> u16 {
    let target = format!("/socket/{}?vsn=2.0.0{params}", W::PATH);
    let (_, answer) = W::dial(addr, &target, headers).await.expect("an answer");
    answer.status
}

async fn connect(addr: SocketAddr, params: &str) -> u16 {
    dial::<WireClient>(addr, params, &[]).await
}

async fn ban(program: &Program, kind: &str, of: (&str, &str), seconds: u64) -> Value {
    let (field, name) = of;
    let body = json!({field: name, "kind": kind, "seconds": seconds});
    let (status, ban) = program.ask("POST", BANS, &body).await;
    assert!(matches!(status, 200 | 201), "{ban}");
    assert_eq!((&ban[field], &ban["kind"]), (&json!(name), &json!(kind)));
    ban
}

async fn unban(program: &Program, ban: &Value) -> (u16, Value) {
    let target = format!("{BANS}/{}", ban["id"].as_str().expect("an id"));
    program.ask("DELETE", &target, &Value::Null).await
}

async fn a_banned_user_is_sent_away_and_stays_away_until_the_end(database: Database) {
    let server = start(&database);
    let program = Program::of(&server).await;
    let mut eve = Phoenix::<WireClient>::dial_with(server.addr, "&id=eve").await;
    eve.join("room:1").await;
    let mut polling = Phoenix::<PollClient>::dial_with(server.addr, "&id=eve").await;
    polling.join("room:1").await;
    let url = format!("ws://{}/socket/websocket?vsn=2.0.0&id=eve", server.addr);
    let (mut plain, _) = connect_async(url).await.expect("it is accepted");
    let mut ann = Phoenix::<WireClient>::dial_with(server.addr, "&id=ann").await;
    ann.join("room:1").await;

    let of_eve = ban(&program, "ban", ("user", "eve"), 60).await;
    assert!(of_eve["ends"].as_str() > of_eve["since"].as_str());
    assert_eq!(eve.closed().await, 1008);
    polling.ended_with(1008).await;
    let end = tokio::time::timeout(Duration::from_secs(20), plain.next()).await;
    let Ok(Some(Ok(Message::Close(Some(close))))) = end else {
        panic!("a close frame, got {end:?}");
    };
    assert_eq!(
        (u16::from(close.code), close.reason.as_str()),
        (1008, "banned")
    );
    ann.heartbeat().await;
    assert_eq!(connect(server.addr, "&id=eve").await, 403);
    assert_eq!(dial::<PollClient>(server.addr, "&id=eve", &[]).await, 403);
    assert_eq!(connect(server.addr, "&id=eva").await, 101);

    let listed = program.get(BANS).await;
    assert_eq!(listed, json!({"bans": [of_eve], "total": 1}));
    // The same ban, with an earlier end, at which it ends by itself.
    let again = ban(&program, "ban", ("user", "eve"), 1).await;
    assert_eq!(again["id"], of_eve["id"]);
    while connect(server.addr, "&id=eve").await == 403 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(program.get(BANS).await["total"], 0);

    // A token that gives its connection the name of a banned user.
    let token =
        |name: &str| signed(&json!({"sub": "7", "name": name, "iat": now(), "exp": now() + 1_000}));
    ban(&program, "ban", ("user", "mallory"), 60).await;
    let params = format!("&jwt={}", token("bob"));
    let mut bob = Phoenix::<WireClient>::dial_with(server.addr, &params).await;
    let (join_ref, _) = bob.join("room:1").await;
    for (name, status) in [("mallory", "error"), ("bobby", "ok")] {
        let push = json!({"access_token": token(name)});
        let push = bob.push(&join_ref, "room:1", "access_token", push).await;
        assert_eq!(bob.reply_to(&push).await["status"], status, "{name}");
    }
    ban(&program, "ban", ("user", "bobby"), 60).await;
    assert_eq!(bob.closed().await, 1008);
    let params = format!("&jwt={}", token("bobby"));
    assert_eq!(
        connect(server.addr, &params).await,
        403,
        "a new token does not help"
    );
}

async fn a_banned_address_is_refused_behind_a_proxy(database: Database) {
    let server = start(&database);
    let program = Program::of(&server).await;
    let from = async |address: &str| {
        let headers = [("X-Forwarded-For", Some(address))];
        let websocket = dial::<WireClient>(server.addr, "", &headers).await;
        assert_eq!(
            dial::<PollClient>(server.addr, "", &headers).await,
            websocket
        );
        websocket
    };
    let network = ban(&program, "ban", ("address", "203.0.113.0/24"), 60).await;
    let one = ban(&program, "ban", ("address", "2001:db8::7"), 60).await;
    for (address, status) in [
        ("203.0.113.9", 403),
        ("203.0.114.9", 101),
        ("2001:db8::7", 403),
        ("2001:db8::8", 101),
    ] {
        assert_eq!(from(address).await, status, "{address}");
    }
    assert_eq!(connect(server.addr, "").await, 101, "the proxy itself");
    assert_eq!(unban(&program, &network).await.0, 204);
    assert_eq!(from("203.0.113.9").await, 101);
    let (status, error) = unban(&program, &network).await;
    assert_eq!((status, &error["error"]), (404, &json!("not banned")));
    assert_eq!(program.get(BANS).await, json!({"bans": [one], "total": 1}));
    let mut near = Phoenix::<WireClient>::dial(server.addr).await;
    near.heartbeat().await;
    ban(&program, "ban", ("address", "127.0.0.1"), 60).await;
    assert_eq!(near.closed().await, 1008);
}

async fn a_muted_member_stays_and_may_not_write(database: Database) {
    let server = start(&database);
    let program = Program::of(&server).await;
    let mut eve = Phoenix::<WireClient>::dial_with(server.addr, "&id=eve").await;
    let (join_ref, _) = eve.join("room:1").await;
    let mute = ban(&program, "mute", ("user", "eve"), 60).await;
    for event in ["shout", "typing", "update_message", "anything"] {
        let push = eve.push(&join_ref, "room:1", event, json!({})).await;
        let reply = eve.reply_to(&push).await;
        assert_eq!(reply["response"]["reason"], "muted", "{event}");
        let left = reply["response"]["retry_after_ms"].as_u64();
        assert!(
            left.is_some_and(|left| (50_000..=60_000).contains(&left)),
            "{reply}"
        );
    }
    for event in ["ping", "older"] {
        let push = eve.push(&join_ref, "room:1", event, json!({})).await;
        assert_eq!(eve.reply_to(&push).await["status"], "ok", "{event}");
    }
    eve.heartbeat().await;
    let (join_ref, _) = eve.join("room:2").await;
    let mut back = Phoenix::<WireClient>::dial_with(server.addr, "&id=eve").await;
    let (back_ref, _) = back.join("room:3").await;
    let push = back.push(&back_ref, "room:3", "shout", json!({})).await;
    assert_eq!(back.reply_to(&push).await["response"]["reason"], "muted");
    let mut ann = Phoenix::<WireClient>::dial_with(server.addr, "&id=ann").await;
    let (ann_ref, _) = ann.join("room:1").await;
    ann.push(&ann_ref, "room:1", "shout", json!({"n": 1})).await;
    assert_eq!(ann.next_event().await.0, "shout");
    assert_eq!(eve.next_event().await.0, "shout");

    assert_eq!(unban(&program, &mute).await.0, 204);
    eve.push(&join_ref, "room:2", "shout", json!({"n": 2}))
        .await;
    assert_eq!(eve.next_event().await.1, json!({"n": 2}));
    // Everybody from here, and for a second.
    ban(&program, "mute", ("address", "127.0.0.0/8"), 1).await;
    let push = ann.push(&ann_ref, "room:1", "typing", json!({})).await;
    let reply = ann.reply_to(&push).await;
    assert_eq!(reply["response"]["reason"], "muted");
    // The server says when it is over.
    let left = reply["response"]["retry_after_ms"].as_u64();
    tokio::time::sleep(Duration::from_millis(left.expect("a time"))).await;
    ann.push(&ann_ref, "room:1", "typing", json!({})).await;
    assert_eq!(ann.next_event().await.0, "typing");
    assert_eq!(eve.next_event().await.0, "typing");
    let push = eve.push(&join_ref, "room:2", "phx_leave", json!({})).await;
    assert_eq!(eve.reply_to(&push).await["status"], "ok");
}

async fn bans_survive_restarts_until_they_end_or_are_taken_back(database: Database) {
    let server = start(&database);
    let program = Program::of(&server).await;
    let of_eve = ban(&program, "ban", ("user", "eve"), 1_000).await;
    let network = ban(&program, "mute", ("address", "127.0.0.0/8"), 1_000).await;
    let short = ban(&program, "ban", ("user", "short"), 1).await;
    server.kill();

    let ends = short["ends"].as_str().expect("a time");
    let ends: DateTime<Utc> = ends.parse().expect("a time");
    while Utc::now() < ends {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let server = start(&database);
    let program = Program::of(&server).await;
    let listed = program.get(BANS).await;
    assert_eq!(listed, json!({"bans": [network, of_eve], "total": 2}));
    assert_eq!(connect(server.addr, "&id=eve").await, 403);
    assert_eq!(connect(server.addr, "&id=short").await, 101);
    let mut ann = Phoenix::<WireClient>::dial_with(server.addr, "&id=ann").await;
    let (join_ref, _) = ann.join("room:1").await;
    let push = ann.push(&join_ref, "room:1", "shout", json!({})).await;
    assert_eq!(ann.reply_to(&push).await["response"]["reason"], "muted");
    let subjects = || database.ask("SELECT subject AS answer FROM bans ORDER BY subject");
    eventually("the ended one is forgotten", || {
        subjects() == ["127.0.0.0/8", "eve"]
    })
    .await;
    assert_eq!(unban(&program, &of_eve).await.0, 204);
    assert_eq!(connect(server.addr, "&id=eve").await, 101);
    server.kill();

    let server = start(&database);
    assert_eq!(connect(server.addr, "&id=eve").await, 101);
    assert_eq!(subjects(), ["127.0.0.0/8"]);
}

async fn a_hundred_thousand_bans_are_remembered(database: Database) {
    let migrated = run(
        &["migrate", "--database-url", &database.url],
        database.dir.path(),
    );
    assert!(migrated.status.success());
    database.execute(
        "INSERT INTO bans (kind, target, subject, id, since, ends) \
         WITH RECURSIVE users(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM users WHERE id < 100000) \
         SELECT 'ban', 'user', CAST(id AS TEXT), CAST(id AS TEXT), 1, 9000000000000000 FROM users",
    );
    let server = start(&database);
    let program = Program::of(&server).await;
    assert_eq!(connect(server.addr, "&id=100000").await, 403);
    assert_eq!(connect(server.addr, "&id=100001").await, 101);
    let more = json!({"user": "100001", "kind": "mute", "seconds": 9});
    let answer = program
        .send("POST", BANS, more.to_string().as_bytes())
        .await;
    let error = answer.json();
    assert_eq!(
        (answer.status, &error["error"]),
        (503, &json!("too many bans"))
    );
    assert!(answer.headers.contains_key("retry-after"));
    ban(&program, "ban", ("user", "7"), 1_000).await;
    assert_eq!(unban(&program, &json!({"id": "7"})).await.0, 204);
    ban(&program, "mute", ("user", "100001"), 9).await;
}

#[actix_web::test]
async fn a_ban_that_is_not_stored_has_no_effect() {
    let database = Database::sqlite();
    let server = start(&database);
    let program = Program::of(&server).await;
    let mut blocked = database.block_writes();
    let body = json!({"user": "eve", "kind": "ban", "seconds": 60});
    let (status, error) = program.ask("POST", BANS, &body).await;
    assert_eq!(
        (status, &error["error"]),
        (503, &json!("storage unavailable"))
    );
    assert_eq!(connect(server.addr, "&id=eve").await, 101);
    blocked.execute("ROLLBACK");
    // The server notices a moment later that it can write.
    while program.ask("POST", BANS, &body).await.0 != 201 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(connect(server.addr, "&id=eve").await, 403);
}

#[actix_web::test]
async fn a_ban_names_one_target_a_kind_and_its_seconds() {
    let database = Database::sqlite();
    let log = std::fs::File::create(database.dir.path().join("log")).expect("a file");
    let args = [
        "--api-token",
        crate::support::api::TOKEN,
        "--database-url",
        &database.url,
    ];
    let server = Process::start_logging_to(log.into(), &database.dir, &args);
    let program = Program::of(&server).await;
    for (body, fields) in [
        (json!({}), &["kind", "seconds", "user"][..]),
        (
            json!({"user": "a", "address": "::1", "kind": "ban", "seconds": 1}),
            &["user"],
        ),
        (json!({"user": "", "kind": "ban", "seconds": 1}), &["user"]),
        (
            json!({"user": "a\u{0}", "kind": "ban", "seconds": 1}),
            &["user"],
        ),
        (json!({"user": 7, "kind": "ban", "seconds": 1}), &["user"]),
        (
            json!({"address": "here", "kind": "ban", "seconds": 1}),
            &["address"],
        ),
        (
            json!({"address": "10.0.0.0/33", "kind": "mute", "seconds": 1}),
            &["address"],
        ),
        (
            json!({"user": "a", "kind": "exile", "seconds": 1}),
            &["kind"],
        ),
        (json!({"user": "a", "kind": "ban"}), &["seconds"]),
        (
            json!({"user": "a", "kind": "ban", "seconds": 0}),
            &["seconds"],
        ),
        (
            json!({"user": "a", "kind": "ban", "seconds": 1.5, "why": ""}),
            &["seconds", "why"],
        ),
    ] {
        let (status, error) = program.ask("POST", BANS, &body).await;
        assert_eq!(status, 422, "{body}");
        let named = error["fields"].as_object().expect("fields").keys();
        assert!(named.eq(fields), "{body}: {error}");
    }
    let body = json!({"address": "::ffff:192.0.2.7", "kind": "ban", "seconds": 60});
    let (_, made) = program.ask("POST", BANS, &body).await;
    assert_eq!(made["address"], "192.0.2.7", "an address has one form");
    unban(&program, &made).await;
    let log = database.dir.path().join("log");
    let logged = || std::fs::read_to_string(&log).expect("it is readable");
    for done in ["added", "removed"] {
        let line = format!("api.ban.changed done=\"{done}\" kind=\"ban\" address=192.0.2.7");
        eventually("the audit is written", || logged().contains(&line)).await;
    }
    let answer = http(server.addr, "GET", BANS, &[], b"").await;
    assert_eq!(answer.expect("an answer").status, 401);
}
