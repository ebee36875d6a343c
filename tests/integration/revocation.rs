//! Users and tokens that a program revokes over the HTTP API, on both databases.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use serde_json::{Value, json};
use slackir::token::{KeyOptions, SecretKeyBase, SignOptions, Signer};
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
use crate::support::wire::{WireClient, http};

on_each_database! {
    #[actix_web::test]
    a_revoked_user_is_sent_away_and_comes_back_with_a_newer_token_alone,
    a_revoked_token_is_refused_alone,
    a_revocation_survives_restarts_until_it_ends_or_is_taken_back,
    a_hundred_thousand_are_remembered,
}

const CONFIG: &str = r#"
    secret_key_base = "a secret of thirty-two bytes or more"
    [identity]
    from = ["jwt", "phoenix_token", "params"]
    jwt = { param = "jwt", algorithms = ["HS256"], secret_file = "secret" }
    phoenix_token = { param = "phoenix" }
    fields = { id = "{token.sub|token.id|connect.id}" }
    [[rooms]]
    topics = "room:*"
    history = "none"
    [[rooms]]
    topics = "ticket:*"
    history = "none"
    join.token.jwt = { algorithms = ["HS256"], secret_file = "secret" }
"#;

fn start(database: &Database) -> Process {
    let write = |name: &str, text: &str| {
        std::fs::write(database.dir.path().join(name), text).expect("it can be written");
    };
    write("slackir.toml", CONFIG);
    write("secret", SECRET);
    serve(database, &["--config", "slackir.toml"])
}

/// A token that was issued so many seconds ago.
fn token(sub: &str, age: u64, jti: &str) -> String {
    let now = now();
    signed(&json!({"sub": sub, "iat": now - age, "exp": now + 1_000, "jti": jti}))
}

/// A token that a token service has just issued, in the second after a revocation.
fn newer(sub: &str) -> String {
    signed(&json!({"sub": sub, "iat": now() + 1, "exp": now() + 1_000}))
}

fn params(token: &str) -> String {
    format!("&jwt={token}")
}

async fn dial<W: Wire>(addr: SocketAddr, params: &str) -> u16 {
    let target = format!("/socket/{}?vsn=2.0.0{params}", W::PATH);
    let (_, answer) = W::dial(addr, &target, &[]).await.expect("an answer");
    answer.status
}

/// The status of a handshake with these params.
async fn connect(addr: SocketAddr, params: &str) -> u16 {
    dial::<WireClient>(addr, params).await
}

async fn revoke(program: &Program, target: &str) -> Value {
    let (status, body) = program.ask("POST", target, &Value::Null).await;
    assert_eq!(status, 200, "{body}");
    body
}

async fn a_revoked_user_is_sent_away_and_comes_back_with_a_newer_token_alone(database: Database) {
    let server = start(&database);
    let program = Program::of(&server).await;
    let old = token("u1", 10, "t1");
    let mut tabs = Vec::new();
    for _ in 0..4 {
        tabs.push(Phoenix::<WireClient>::dial_with(server.addr, &params(&old)).await);
    }
    tabs[0].join("room:1").await;
    let mut polling = Phoenix::<PollClient>::dial_with(server.addr, &params(&old)).await;
    polling.join("room:1").await;
    let url = format!("ws://{}/socket/websocket?vsn=2.0.0&jwt={old}", server.addr);
    let (mut plain, _) = connect_async(url).await.expect("it is accepted");
    let mut other = Phoenix::connect_as(server.addr, &token("u2", 10, "t2")).await;

    let revoked = revoke(&program, "/api/users/u1/revoke").await;
    assert!(revoked["ends"].as_str() > revoked["not_before"].as_str());
    for tab in &mut tabs {
        assert_eq!(tab.closed().await, 1008);
    }
    polling.ended_with(1008).await;
    let end = tokio::time::timeout(Duration::from_secs(20), plain.next()).await;
    let Ok(Some(Ok(Message::Close(Some(close))))) = end else {
        panic!("a close frame, got {end:?}");
    };
    assert_eq!(close.reason.as_str(), "token revoked");
    other.heartbeat().await;

    assert_eq!(connect(server.addr, &params(&old)).await, 403);
    assert_eq!(dial::<PollClient>(server.addr, &params(&old)).await, 403);
    let undated = signed(&json!({"sub": "u1", "exp": now() + 1_000}));
    assert_eq!(connect(server.addr, &params(&undated)).await, 403);
    let mut back = Phoenix::connect_as(server.addr, &newer("u1")).await;
    let (join_ref, _) = back.join("room:1").await;
    let push = json!({"access_token": old});
    let push = back.push(&join_ref, "room:1", "access_token", push).await;
    let reply = back.reply_to(&push).await;
    assert_eq!(reply["response"], json!({"reason": "unauthorized"}));
    let push = json!({"access_token": newer("u1")});
    let push = back.push(&join_ref, "room:1", "access_token", push).await;
    assert_eq!(back.reply_to(&push).await["status"], "ok");
    // The tickets of joins, of this connection's user and of another's.
    for client in [&mut back, &mut other] {
        for (ticket, status) in [(&old, "error"), (&newer("u1"), "ok")] {
            let join = client
                .send_join("ticket:1", json!({ "token": ticket }))
                .await;
            assert_eq!(client.reply_to(&join).await["status"], status);
        }
    }

    // Phoenix.Tokens have the time of their signing; params have none.
    let secret = SecretKeyBase::new(SECRET).expect("long enough");
    let signer = Signer::new(&secret, "user socket", KeyOptions::default());
    let phoenix = signer.sign(json!({"id": 7}), SignOptions::now());
    let phoenix = format!("&phoenix={}", phoenix.expect("a token"));
    let mut tabs = [
        Phoenix::<WireClient>::dial_with(server.addr, &phoenix).await,
        Phoenix::<WireClient>::dial_with(server.addr, "&id=7").await,
    ];
    tokio::time::sleep(Duration::from_millis(2)).await;
    revoke(&program, "/api/users/7/revoke").await;
    for tab in &mut tabs {
        assert_eq!(tab.closed().await, 1008);
    }
    assert_eq!(connect(server.addr, &phoenix).await, 403);
    assert_eq!(connect(server.addr, "&id=7").await, 101);
    back.heartbeat().await;

    let answer = http(server.addr, "GET", "/metrics", &[], b"").await;
    let metrics = String::from_utf8_lossy(&answer.expect("an answer").body).into_owned();
    for line in [
        "# HELP slackir_token_refusals_total ",
        "slackir_token_refusals_total{reason=\"expired\"} 0",
        "slackir_jwks_refresh_total{result=\"ok\"} 0",
        "slackir_revocations 2",
    ] {
        assert!(metrics.contains(line), "{line} is in {metrics}");
    }
    let revoked = metrics
        .lines()
        .find_map(|line| line.strip_prefix("slackir_token_refusals_total{reason=\"revoked\"} "));
    let revoked: u32 = revoked.expect("it is there").parse().expect("a number");
    // The last poll of the session may have been a handshake as well.
    assert!((7..=8).contains(&revoked), "{revoked}");
}

async fn a_revoked_token_is_refused_alone(database: Database) {
    let server = start(&database);
    let program = Program::of(&server).await;
    let (one, two) = (token("u1", 10, "t/1"), token("u1", 10, "t2"));
    let mut first = Phoenix::connect_as(server.addr, &one).await;
    let mut second = Phoenix::connect_as(server.addr, &two).await;
    revoke(&program, "/api/tokens/t%2F1/revoke").await;
    assert_eq!(first.closed().await, 1008);
    second.heartbeat().await;
    assert_eq!(connect(server.addr, &params(&one)).await, 403);
    let (join_ref, _) = second.join("room:1").await;
    let push = json!({"access_token": one});
    let push = second.push(&join_ref, "room:1", "access_token", push).await;
    let reply = second.reply_to(&push).await;
    assert_eq!(reply["response"], json!({"reason": "unauthorized"}));
    // A connection ends with the token that it was renewed with.
    let push = json!({"access_token": token("u1", 10, "t3")});
    let push = second.push(&join_ref, "room:1", "access_token", push).await;
    assert_eq!(second.reply_to(&push).await["status"], "ok");
    revoke(&program, "/api/tokens/t2/revoke").await;
    second.heartbeat().await;
    revoke(&program, "/api/tokens/t3/revoke").await;
    assert_eq!(second.closed().await, 1008);
}

async fn a_revocation_survives_restarts_until_it_ends_or_is_taken_back(database: Database) {
    let server = start(&database);
    let program = Program::of(&server).await;
    let old = params(&token("u1", 10, "t1"));
    let first = revoke(&program, "/api/users/u1/revoke").await;
    let shorter = json!({"for": "1m"});
    let (_, again) = program.ask("POST", "/api/users/u1/revoke", &shorter).await;
    assert_eq!(again["ends"], first["ends"], "it never becomes shorter");
    assert!(again["not_before"].as_str() > first["not_before"].as_str());
    let (_, short) = program
        .ask("POST", "/api/tokens/t2/revoke", &json!({"for": "1s"}))
        .await;
    assert!(short["ends"].is_string(), "{short}");
    server.kill();

    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let server = start(&database);
    assert_eq!(connect(server.addr, &old).await, 403);
    let subjects = || database.ask("SELECT subject AS answer FROM revocations");
    eventually("the ended one is forgotten", || subjects() == ["u1"]).await;
    let program = Program::of(&server).await;
    let (status, _) = program
        .ask("DELETE", "/api/users/u1/revoke", &Value::Null)
        .await;
    assert_eq!(status, 204);
    assert_eq!(connect(server.addr, &old).await, 101);
    let (status, error) = program
        .ask("DELETE", "/api/users/u1/revoke", &Value::Null)
        .await;
    assert_eq!((status, &error["error"]), (404, &json!("not revoked")));
    server.kill();

    let server = start(&database);
    assert_eq!(connect(server.addr, &old).await, 101);
}

async fn a_hundred_thousand_are_remembered(database: Database) {
    let migrated = run(
        &["migrate", "--database-url", &database.url],
        database.dir.path(),
    );
    assert!(migrated.status.success());
    database.execute(
        "INSERT INTO revocations (kind, subject, not_before, ends) \
         WITH RECURSIVE users(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM users WHERE id < 100000) \
         SELECT 'user', CAST(id AS TEXT), 1, 9000000000000000 FROM users",
    );
    let server = start(&database);
    let program = Program::of(&server).await;
    let undated = |sub: &str| params(&signed(&json!({"sub": sub, "exp": now() + 1_000})));
    assert_eq!(connect(server.addr, &undated("100000")).await, 403);
    assert_eq!(connect(server.addr, &undated("100001")).await, 101);
    let answer = program.send("POST", "/api/users/100001/revoke", b"").await;
    let error = answer.json();
    assert_eq!(
        (answer.status, &error["error"]),
        (503, &json!("too many revocations"))
    );
    assert!(answer.headers.contains_key("retry-after"));
    revoke(&program, "/api/users/100000/revoke").await;
    let (status, _) = program
        .ask("DELETE", "/api/users/7/revoke", &Value::Null)
        .await;
    assert_eq!(status, 204);
    revoke(&program, "/api/users/100001/revoke").await;
    assert_eq!(connect(server.addr, &undated("100001")).await, 403);
}

#[actix_web::test]
async fn a_revocation_that_is_not_stored_has_no_effect() {
    let database = Database::sqlite();
    let server = start(&database);
    let program = Program::of(&server).await;
    let old = token("u1", 10, "t1");
    let mut ann = Phoenix::connect_as(server.addr, &old).await;
    let mut blocked = database.block_writes();
    let ask = || program.ask("POST", "/api/users/u1/revoke", &Value::Null);
    let (status, error) = ask().await;
    assert_eq!(
        (status, &error["error"]),
        (503, &json!("storage unavailable"))
    );
    ann.heartbeat().await;
    assert_eq!(connect(server.addr, &params(&old)).await, 101);
    blocked.execute("ROLLBACK");
    // The server notices a moment later that it can write.
    while ask().await.0 != 200 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(ann.closed().await, 1008);
    assert_eq!(connect(server.addr, &params(&old)).await, 403);
}

impl Phoenix {
    async fn connect_as(addr: SocketAddr, token: &str) -> Self {
        Self::dial_with(addr, &params(token)).await
    }
}

/// The API with tokens of an issuer: the role counts, and so do revocations.
#[actix_web::test]
async fn callers_of_the_api_may_have_a_token_of_their_issuer() {
    let database = Database::sqlite();
    let write = |name: &str, text: &str| {
        std::fs::write(database.dir.path().join(name), text).expect("it can be written");
    };
    write("secret", SECRET);
    write(
        "slackir.toml",
        r#"
        [api]
        claim = "realm_access.roles"
        values = ["service", "admin"]
        [identity]
        jwt = { param = "jwt", algorithms = ["HS256"], secret_file = "secret", issuer = "https://id.test" }
        fields = { id = "{token.sub}" }
        "#,
    );
    let log = std::fs::File::create(database.dir.path().join("log")).expect("a file");
    let server = Process::start_logging_to(
        log.into(),
        &database.dir,
        &["--config", "slackir.toml", "--database-url", &database.url],
    );
    let of = |claims: Value| {
        let mut all = json!({
            "sub": "robot", "iss": "https://id.test", "iat": now() - 5, "exp": now() + 100,
            "jti": "r1", "realm_access": {"roles": ["user", "service"]},
        });
        for (name, value) in claims.as_object().expect("an object") {
            all[name] = value.clone();
        }
        format!("Bearer {}", signed(&all))
    };
    let right = of(json!({}));
    let messages = "/api/topics/random:lobby/messages";
    let body = json!({"payload": {}});
    for (authorization, status, error, detail) in [
        (
            of(json!({"realm_access": {"roles": ["user"]}})),
            403,
            "forbidden",
            "realm_access.roles",
        ),
        (
            of(json!({"realm_access": "service"})),
            403,
            "forbidden",
            "realm_access.roles",
        ),
        (
            of(json!({"exp": now() - 100})),
            401,
            "unauthorized",
            "expired",
        ),
        (
            of(json!({"iss": "https://other.test"})),
            401,
            "unauthorized",
            "issuer",
        ),
        (format!("{right}x"), 401, "unauthorized", "signature"),
        ("Bearer nonsense".to_owned(), 401, "unauthorized", "invalid"),
        (of(json!({"realm_access": {"roles": "admin"}})), 201, "", ""),
        (
            of(json!({"realm_access.roles": ["admin"], "realm_access": 1})),
            201,
            "",
            "",
        ),
    ] {
        let program = Program::of(&server).await;
        let program = program.authorized(Some(&authorization));
        let (answered, answer) = program.ask("POST", messages, &body).await;
        assert_eq!(answered, status, "{answer}");
        if status != 201 {
            assert_eq!(answer["error"], error, "{answer}");
            let told = answer["detail"].as_str().expect("a text");
            assert!(told.contains(detail), "{answer}");
        }
    }
    let program = Program::of(&server).await.authorized(Some(&right));
    revoke(&program, "/api/tokens/other/revoke").await;
    revoke(&program, "/api/users/robot/revoke").await;
    let (status, answer) = program.ask("POST", messages, &body).await;
    assert_eq!((status, &answer["detail"]), (401, &json!("token revoked")));
    let log = database.dir.path().join("log");
    let logged = || std::fs::read_to_string(&log).expect("it is readable");
    let line = "api.revocation.changed done=\"revoked\" user=\"robot\"";
    eventually("the audit is written", || logged().contains(line)).await;
    assert!(
        logged().contains("credential=Jwt sub=\"robot\""),
        "{}",
        logged()
    );
}

/// The keys of the API's own tokens are behind a URL at which nobody answers.
#[actix_web::test]
async fn without_keys_a_token_of_an_issuer_is_neither_right_nor_wrong() {
    let database = Database::sqlite();
    let config = r#"
        [api]
        claim = "role"
        values = ["service_role"]
        jwt = { algorithms = ["RS256"], jwks_url = "http://127.0.0.1:1/", issuer = "https://id.test", audience = "api" }
    "#;
    let written = std::fs::write(database.dir.path().join("slackir.toml"), config);
    written.expect("it can be written");
    let server = serve(&database, &["--config", "slackir.toml"]);
    let program = Program::of(&server).await;
    program.get("/api/topics/random:lobby/messages").await;
    let bearer = format!("Bearer {}", signed(&json!({"role": "service_role"})));
    let program = program.authorized(Some(&bearer));
    let messages = "/api/topics/random:lobby/messages";
    let (status, error) = program.ask("GET", messages, &Value::Null).await;
    assert_eq!((status, &error["error"]), (503, &json!("no keys")));
}
