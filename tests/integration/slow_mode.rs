//! Topics that a program puts into slow mode over the HTTP API, on both databases.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::support::api::{Program, TOKEN, serve};
use crate::support::database::{Database, on_each_database};
use crate::support::phoenix::Phoenix;
use crate::support::process::{Process, run};
use crate::support::rooms::eventually;
use crate::support::wire::WireClient;

const CONFIG: &str = r#"
    [identity]
    fields = { id = "{connect.id}" }
    [[rooms]]
    topics = "room:*"
    changes = true
    on.shout = {}
    on.typing = { store = false }
    on.older = { older = {} }
"#;

on_each_database! {
    #[actix_web::test]
    a_person_may_send_one_message_in_each_interval,
    a_message_that_is_refused_uses_nothing_up,
    slow_modes_survive_restarts_until_they_end_or_are_taken_away,
    ten_thousand_topics_may_be_slow,
}

fn start(database: &Database) -> Process {
    let config = database.dir.path().join("slackir.toml");
    std::fs::write(config, CONFIG).expect("it can be written");
    serve(database, &["--config", "slackir.toml"])
}

/// A member of one topic.
struct Member {
    client: Phoenix,
    join_ref: String,
    topic: &'static str,
}

impl Member {
    /// `params`: the user, as `&id=ann`.
    async fn join(server: &Process, params: &str, topic: &'static str) -> Self {
        let mut client = Phoenix::<WireClient>::dial_with(server.addr, params).await;
        let join_ref = client
            .send_join(topic, json!({"history": "none", "meta": true}))
            .await;
        assert_eq!(client.reply_to(&join_ref).await["status"], "ok");
        Self {
            client,
            join_ref,
            topic,
        }
    }

    /// Sends an event. The error reply, or the event itself as all members get it.
    async fn send(&mut self, event: &str, payload: Value) -> Result<Value, Value> {
        let (join_ref, topic) = (self.join_ref.clone(), self.topic);
        let reference = self
            .client
            .push(&join_ref, topic, event, payload.clone())
            .await;
        loop {
            let frame = self.client.next().await;
            if frame[3] == "phx_reply" && frame[1] == reference.as_str() {
                assert_eq!(frame[4]["status"], "error", "{frame}");
                return Err(frame[4]["response"].clone());
            }
            let is_mine = payload
                .as_object()
                .is_some_and(|payload| payload.iter().all(|(key, value)| frame[4][key] == *value));
            if frame[3] == event && is_mine {
                return Ok(frame[4].clone());
            }
        }
    }

    async fn shout(&mut self, n: u64) -> Result<Value, Value> {
        self.send("shout", json!({"n": n})).await
    }

    /// Asserts that a message comes too early. Returns the time that the reply names, in milliseconds.
    async fn must_wait(&mut self) -> u64 {
        let refused = self.shout(0).await.expect_err("it comes too early");
        assert_eq!(
            (&refused["reason"], &refused["limit"]),
            (&json!("rate limited"), &json!("slow_mode")),
            "{refused}"
        );
        refused["retry_after_ms"].as_u64().expect("a time")
    }
}

fn of(topic: &str) -> String {
    format!("/api/topics/{topic}/slow-mode")
}

async fn set(program: &Program, topic: &str, body: Value) -> Value {
    let (status, mode) = program.ask("PUT", &of(topic), &body).await;
    assert!(matches!(status, 200 | 201), "{mode}");
    assert_eq!(
        (&mode["topic"], &mode["interval"]),
        (&json!(topic), &body["interval"])
    );
    mode
}

async fn remove(program: &Program, topic: &str) -> (u16, Value) {
    program.ask("DELETE", &of(topic), &Value::Null).await
}

async fn a_person_may_send_one_message_in_each_interval(database: Database) {
    let server = start(&database);
    let program = Program::of(&server).await;
    let mut ann = Member::join(&server, "&id=ann", "room:1").await;
    let mut tab = Member::join(&server, "&id=ann", "room:1").await;
    let mut bob = Member::join(&server, "&id=bob", "room:1").await;
    let mut nobody = Member::join(&server, "", "room:1").await;
    ann.shout(1).await.expect("no slow mode");
    ann.shout(2).await.expect("no slow mode");

    let body = json!({"interval": 3_600});
    let (status, mode) = program.ask("PUT", &of("room:1"), &body).await;
    assert_eq!((status, &mode["ends"]), (201, &Value::Null), "{mode}");
    assert_eq!(program.get(&of("room:1")).await, mode);
    let shouted = ann.shout(3).await.expect("the first");
    for member in [&mut ann, &mut tab] {
        let wait = member.must_wait().await;
        assert!((3_500_000..=3_600_000).contains(&wait), "{wait}");
    }
    bob.shout(4).await.expect("another person");
    bob.must_wait().await;
    // Connections without a user are persons, too.
    nobody.shout(5).await.expect("a person");
    nobody.must_wait().await;
    let mut other = Member::join(&server, "", "room:1").await;
    other.shout(6).await.expect("another connection");
    let mut elsewhere = Member::join(&server, "&id=ann", "room:2").await;
    elsewhere.shout(7).await.expect("another topic");
    elsewhere.shout(8).await.expect("another topic");
    // What is no message is not counted, and programs are not limited.
    for n in 0..3 {
        ann.send("typing", json!({"n": n}))
            .await
            .expect("no message");
    }
    let change = json!({"id": shouted["_meta"]["id"], "payload": {"n": 33}});
    let (join_ref, topic) = (ann.join_ref.clone(), ann.topic);
    ann.client
        .push(&join_ref, topic, "update_message", change)
        .await;
    while ann.client.next_event().await.0 != "message_updated" {}
    let target = "/api/topics/room:1/messages";
    for n in 9..12 {
        let message = json!({"event": "shout", "payload": {"n": n}});
        assert_eq!(program.ask("POST", target, &message).await.0, 201);
    }

    // Another interval holds at once, and ends with the time that the reply names.
    let mode = set(&program, "room:1", json!({"interval": 1, "seconds": 600})).await;
    assert!(mode["ends"].as_str() > mode["since"].as_str(), "{mode}");
    ann.shout(12).await.expect("it begins anew");
    let wait = ann.must_wait().await;
    assert!(wait <= 1_000, "{wait}");
    tokio::time::sleep(Duration::from_millis(wait)).await;
    tab.shout(13).await.expect("the time is over");

    let listed = program.get("/api/slow-modes").await;
    assert_eq!(listed, json!({"slow_modes": [mode], "total": 1}));
    let hits = program.get("/api/connections?user=ann").await["sum"]["limited"].clone();
    assert_eq!(hits, 3, "two of the first tab, one of the second");
    assert_eq!(remove(&program, "room:1").await.0, 204);
    ann.shout(14).await.expect("no slow mode");
    ann.shout(15).await.expect("no slow mode");
    let (status, error) = remove(&program, "room:1").await;
    assert_eq!((status, &error["error"]), (404, &json!("no slow mode")));
    let (status, _) = program.ask("GET", &of("room:1"), &Value::Null).await;
    assert_eq!(status, 404);
}

async fn a_message_that_is_refused_uses_nothing_up(database: Database) {
    let server = start(&database);
    let program = Program::of(&server).await;
    let mut ann = Member::join(&server, "&id=ann", "room:1").await;
    set(&program, "room:1", json!({"interval": 3_600})).await;
    for _ in 0..2 {
        let refused = ann.send("shout", json!([])).await.expect_err("no object");
        assert_eq!(refused["reason"], "invalid payload");
    }
    // A muted member has not spoken.
    let mute = json!({"user": "ann", "kind": "mute", "seconds": 600});
    let (_, mute) = program.ask("POST", "/api/bans", &mute).await;
    assert_eq!(ann.shout(1).await.expect_err("muted")["reason"], "muted");
    let lifted = format!("/api/bans/{}", mute["id"].as_str().expect("an id"));
    assert_eq!(program.ask("DELETE", &lifted, &Value::Null).await.0, 204);
    ann.shout(1).await.expect("the first that is sent");
    ann.must_wait().await;
}

async fn slow_modes_survive_restarts_until_they_end_or_are_taken_away(database: Database) {
    let server = start(&database);
    let program = Program::of(&server).await;
    let ever = set(&program, "room:1", json!({"interval": 600})).await;
    let long = set(&program, "room:2", json!({"interval": 7, "seconds": 1_000})).await;
    let short = set(&program, "room:3", json!({"interval": 7, "seconds": 1})).await;
    server.kill();

    let ends: DateTime<Utc> = short["ends"]
        .as_str()
        .and_then(|ends| ends.parse().ok())
        .expect("a time");
    while Utc::now() < ends {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let server = start(&database);
    let program = Program::of(&server).await;
    let listed = program.get("/api/slow-modes").await;
    assert_eq!(listed, json!({"slow_modes": [long, ever], "total": 2}));
    let mut ann = Member::join(&server, "&id=ann", "room:1").await;
    ann.shout(1).await.expect("the first");
    ann.must_wait().await;
    let topics = || database.ask("SELECT topic AS answer FROM slow_modes ORDER BY topic");
    eventually("the ended one is forgotten", || {
        topics() == ["room:1", "room:2"]
    })
    .await;
    assert_eq!(remove(&program, "room:1").await.0, 204);
    server.kill();

    let server = start(&database);
    let mut ann = Member::join(&server, "&id=ann", "room:1").await;
    ann.shout(2).await.expect("no slow mode");
    ann.shout(3).await.expect("no slow mode");
    assert_eq!(topics(), ["room:2"]);
}

async fn ten_thousand_topics_may_be_slow(database: Database) {
    let migrated = run(
        &["migrate", "--database-url", &database.url],
        database.dir.path(),
    );
    assert!(migrated.status.success());
    database.execute(
        "INSERT INTO slow_modes (topic, seconds, since, ends) \
         WITH RECURSIVE topics(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM topics WHERE n < 10000) \
         SELECT 'room:' || CAST(n AS TEXT), 30, 1, NULL FROM topics",
    );
    let server = start(&database);
    let program = Program::of(&server).await;
    assert_eq!(
        program.get("/api/slow-modes?limit=1").await["total"],
        10_000
    );
    let body = json!({"interval": 9}).to_string();
    let answer = program.send("PUT", &of("room:more"), body.as_bytes()).await;
    assert_eq!(
        (answer.status, &answer.json()["error"]),
        (503, &json!("too many slow modes"))
    );
    assert!(answer.headers.contains_key("retry-after"));
    set(&program, "room:7", json!({"interval": 9})).await;
    assert_eq!(remove(&program, "room:7").await.0, 204);
    set(&program, "room:more", json!({"interval": 9})).await;
}

#[actix_web::test]
async fn a_slow_mode_that_is_not_stored_has_no_effect() {
    let database = Database::sqlite();
    let server = start(&database);
    let program = Program::of(&server).await;
    let mut ann = Member::join(&server, "&id=ann", "room:1").await;
    let mut blocked = database.block_writes();
    let body = json!({"interval": 3_600});
    let (status, error) = program.ask("PUT", &of("room:1"), &body).await;
    assert_eq!(
        (status, &error["error"]),
        (503, &json!("storage unavailable"))
    );
    ann.send("typing", json!({"n": 1}))
        .await
        .expect("no message");
    assert_eq!(program.get("/api/slow-modes").await["total"], 0);
    blocked.execute("ROLLBACK");
    // The server notices a moment later that it can write.
    while program.ask("PUT", &of("room:1"), &body).await.0 >= 300 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    ann.shout(1).await.expect("the first");
    ann.must_wait().await;
}

#[actix_web::test]
async fn a_slow_mode_has_an_interval_and_a_line_in_the_log() {
    let database = Database::sqlite();
    let config = database.dir.path().join("slackir.toml");
    std::fs::write(config, CONFIG).expect("it can be written");
    let path = database.dir.path().join("log");
    let log = std::fs::File::create(&path).expect("a file");
    let args = ["--api-token", TOKEN, "--config", "slackir.toml"];
    let server = Process::start_logging_to(log.into(), &database.dir, &args);
    let program = Program::of(&server).await;
    for (body, fields) in [
        (json!({}), &["interval"][..]),
        (json!({"interval": 0}), &["interval"]),
        (json!({"interval": 3_601}), &["interval"]),
        (json!({"interval": "30s"}), &["interval"]),
        (json!({"interval": 1.5}), &["interval"]),
        (json!({"interval": 9, "seconds": 0}), &["seconds"]),
        (json!({"interval": 9, "seconds": "1"}), &["seconds"]),
        (json!({"seconds": 9, "why": 1}), &["interval", "why"]),
    ] {
        let (status, error) = program.ask("PUT", &of("room:1"), &body).await;
        assert_eq!(status, 422, "{body}");
        let named = error["fields"].as_object().expect("fields").keys();
        assert!(named.eq(fields), "{body}: {error}");
    }
    let null = json!({"interval": 9, "seconds": null});
    assert_eq!(set(&program, "room:1", null).await["ends"], Value::Null);
    let (status, error) = program
        .ask("PUT", &of("nowhere"), &json!({"interval": 9}))
        .await;
    assert_eq!((status, &error["error"]), (404, &json!("no log")));
    assert_eq!(remove(&program, "room:1").await.0, 204);
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0));
    let log = std::fs::read_to_string(path).expect("text");
    for part in [
        "api.slow_mode.changed done=\"set\" topic=\"room:1\" interval=9 peer=127.0.0.1",
        "api.slow_mode.changed done=\"removed\" topic=\"room:1\" peer=127.0.0.1",
    ] {
        assert!(log.contains(part), "{part}\n{log}");
    }
}
