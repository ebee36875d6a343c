//! Identities by JSON Web Tokens, which jose and PyJWT have made.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt;
use serde_json::{Value, json};
use slackir::token::{KeyOptions, SecretKeyBase, SignOptions, Signer};
use tempfile::TempDir;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

use crate::support::jwt::{SECRET, now, signed};
use crate::support::longpoll::PollClient;
use crate::support::phoenix::Phoenix;
use crate::support::process::{Process, run};
use crate::support::transport::Wire;
use crate::support::wire::{Headers, WireClient, http};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/jwt");

/// A token of `tokens.json`.
fn token(name: &str, by: &str) -> String {
    let text = std::fs::read_to_string(format!("{FIXTURES}/tokens.json")).expect("a fixture");
    let fixture: Value = serde_json::from_str(&text).expect("JSON");
    let tokens = fixture["tokens"].as_array().expect("a list");
    let found = tokens
        .iter()
        .find(|token| token["name"] == name && token["by"] == by);
    let found = found.unwrap_or_else(|| panic!("{name} by {by} is there"));
    found["token"].as_str().expect("a string").to_owned()
}

/// A folder with this configuration.
fn configured(config: &str) -> TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    let written = std::fs::write(dir.path().join("slackir.toml"), config);
    written.expect("the file can be written");
    dir
}

const ROOM: &str = r#"
    fields = { id = "{token.sub}", name = "{token.name|connect.name|'guest'}" }
    [[rooms]]
    topics = "room:*"
    history = "none"
    on.say = { stamp = { name = "{user.name}", id = "{user.id}" }, store = false }
"#;

/// A server whose clients are known by this `[identity]`.
fn serve(identity: &str) -> (TempDir, Process) {
    let config = format!("persist = \"off\"\n[identity]\n{identity}\n{ROOM}");
    Process::configured(&config, &[])
}

/// The name that the server stamps on a message of a client that connects so; or the status of its refusal.
async fn stamped(addr: SocketAddr, params: &str, headers: Headers<'_>) -> Result<Value, u16> {
    let target = format!("/socket/websocket?vsn=2.0.0{params}");
    let opened = WireClient::open(addr, &target, headers).await;
    let wire = opened.expect("an answer").map_err(|answer| answer.status)?;
    let mut client = Phoenix::over(wire);
    let (join_ref, _) = client.join("room:1").await;
    let said = json!({"name": "forged"});
    client.push(&join_ref, "room:1", "say", said).await;
    Ok(client.next_event().await.1["name"].take())
}

#[actix_web::test]
async fn a_token_names_the_user_and_a_wrong_one_lets_nobody_in() {
    let keys = format!("public_key_file = \"{FIXTURES}/rsa.pem\"");
    let (_dir, server) = serve(&format!(
        "from = [\"jwt\", \"params\"]\njwt = {{ algorithms = [\"RS256\", \"PS512\"], {keys}, \
         issuer = \"https://issuer.test\", audience = [\"chat\", \"mail\"] }}"
    ));
    let named = |token: String| format!("&name=Eve&token={token}");
    for (algorithm, by) in [
        ("RS256", "jose"),
        ("PS512", "jose"),
        ("RS256, rsa.pem", "PyJWT"),
    ] {
        let token = named(token(algorithm, by));
        let name = stamped(server.addr, &token, &[]).await;
        assert_eq!(name, Ok(json!("Ada")), "{algorithm} by {by}");
    }
    for wrong in [
        "RS384",
        "key of a stranger",
        "claims replaced",
        "alg none for rsa.pem",
        "key confusion",
        "HS256",
        "expired",
        "garbage a.b.c",
    ] {
        let token = named(token(wrong, "jose"));
        assert_eq!(stamped(server.addr, &token, &[]).await, Err(403), "{wrong}");
    }
    // A token that is no string is no absent one.
    let list = stamped(server.addr, "&name=Eve&token[]=x", &[]).await;
    assert_eq!(list, Err(403));
    let guest = stamped(server.addr, "&name=Eve", &[]).await;
    assert_eq!(guest, Ok(json!("Eve")));
}

#[actix_web::test]
async fn an_auth_token_counts_where_the_param_is_absent() {
    let (_dir, server) = serve(&format!(
        "jwt = {{ param = \"jwt\", algorithms = [\"ES256\"], jwks_file = \"{FIXTURES}/jwks.json\" }}"
    ));
    let right = token("ES256 of a JWKS", "jose");
    let offer = |token: &str| format!("phoenix, base64url.bearer.phx.{}", STANDARD.encode(token));
    let offered = offer(&right);
    let headers = [("Sec-WebSocket-Protocol", Some(&*offered))];
    let name = stamped(server.addr, "", &headers).await;
    assert_eq!(name, Ok(json!("Ada")));
    let offered = offer("x.y.z");
    let headers = [("Sec-WebSocket-Protocol", Some(&*offered))];
    assert_eq!(stamped(server.addr, "", &headers).await, Err(403));
    assert_eq!(stamped(server.addr, "", &[]).await, Err(403));

    let dir = configured(&format!(
        "persist = \"off\"\nsecret_key_base = \"{SECRET}\"\n[identity]\nphoenix_token = {{}}\n{ROOM}"
    ));
    let phoenix = Process::start(&dir, &["--config", "slackir.toml"]);
    let secret = SecretKeyBase::new(SECRET).expect("long enough");
    let signer = Signer::new(&secret, "user socket", KeyOptions::default());
    let signed = signer.sign(json!({"name": "Zoë"}), SignOptions::now());
    for (token, expected) in [
        (signed.expect("a token"), Ok(json!("Zoë"))),
        (right.clone(), Err(403)),
    ] {
        let offered = offer(&token);
        let headers = [("Sec-WebSocket-Protocol", Some(&*offered))];
        assert_eq!(stamped(phoenix.addr, "", &headers).await, expected);
    }

    for (token, status) in [(&*right, 410), ("x.y.z", 403)] {
        let headers = [("X-Phoenix-AuthToken", Some(token))];
        let polled = http(
            server.addr,
            "GET",
            "/socket/longpoll?vsn=2.0.0",
            &headers,
            b"",
        )
        .await;
        let answer: Value = serde_json::from_slice(&polled.expect("an answer").body).expect("JSON");
        assert_eq!(answer["status"], status, "{answer}");
    }
}

/// An issuer that counts the fetches of its keys, each of which takes a while.
fn issuer() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let addr = listener.local_addr().expect("it is bound");
    let fetches = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&fetches);
    let keys = std::fs::read_to_string(format!("{FIXTURES}/jwks.json")).expect("a fixture");
    let length = keys.len();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            counted.fetch_add(1, Ordering::SeqCst);
            let mut head = [0; 4_096];
            assert!(stream.read(&mut head).expect("a request") > 0);
            std::thread::sleep(Duration::from_millis(200));
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{keys}");
            stream.write_all(answer.as_bytes()).expect("it is read");
        }
    });
    (addr, fetches)
}

#[actix_web::test]
async fn a_flood_of_unknown_keys_fetches_the_keys_once() {
    let (issuer, fetches) = issuer();
    let (_dir, server) = serve(&format!(
        "jwt = {{ algorithms = [\"RS256\", \"ES256\"], jwks_url = \"http://{issuer}/jwks\", \
         issuer = \"https://issuer.test\", audience = \"chat\" }}"
    ));
    let params = |name: &str| format!("&token={}", token(name, "jose"));
    let (right, unknown) = (params("ES256 of a JWKS"), params("unknown kid"));
    let flood = (0..50).map(|n| {
        let params = if n % 2 == 0 { &right } else { &unknown };
        stamped(server.addr, params, &[])
    });
    let names = futures_util::future::join_all(flood).await;
    for (n, name) in names.into_iter().enumerate() {
        let expected = if n % 2 == 0 {
            Ok(json!("Ada"))
        } else {
            Err(403)
        };
        assert_eq!(name, expected, "{n}");
    }
    assert_eq!(fetches.load(Ordering::SeqCst), 1);
}

#[actix_web::test]
async fn without_the_keys_of_the_issuer_nobody_comes_in() {
    let (_dir, server) = serve(
        "jwt = { algorithms = [\"RS256\"], jwks_url = \"http://127.0.0.1:1/jwks\", \
         issuer = \"https://issuer.test\", audience = \"chat\" }",
    );
    let right = format!("&token={}", token("RS256 of a JWKS", "jose"));
    assert_eq!(stamped(server.addr, &right, &[]).await, Err(403));
}

/// An HS256 token that ends in so many seconds.
fn short_lived(seconds: u64, claims: &Value) -> String {
    let mut claims = claims.clone();
    claims["exp"] = json!(now() + seconds);
    signed(&claims)
}

/// A server that closes connections one second after their `exp`.
fn serve_short_lived() -> (TempDir, Process) {
    let dir = configured(&format!(
        "persist = \"off\"\n[identity]\njwt = {{ algorithms = [\"HS256\"], secret_file = \"secret\", \
         leeway = \"0s\", close_after = \"1s\" }}\n{ROOM}"
    ));
    std::fs::write(dir.path().join("secret"), format!("{SECRET}\n")).expect("it can be written");
    let process = Process::start(&dir, &["--config", "slackir.toml"]);
    (dir, process)
}

#[actix_web::test]
async fn a_connection_ends_with_its_token() {
    let (_dir, server) = serve_short_lived();
    let token = short_lived(3, &json!({"sub": "u1"}));
    let url = format!(
        "ws://{}/socket/websocket?vsn=2.0.0&token={token}",
        server.addr
    );
    let (mut socket, _) = connect_async(url).await.expect("it is accepted");
    let end = tokio::time::timeout(Duration::from_secs(20), socket.next()).await;
    let Ok(Some(Ok(Message::Close(Some(close))))) = end else {
        panic!("a close frame, got {end:?}");
    };
    assert_eq!(u16::from(close.code), 1008);
    assert_eq!(close.reason.as_str(), "token expired");
}

/// phoenix.js's long-polling has a param `token` of its own.
#[actix_web::test]
async fn a_polling_client_ends_with_its_token_and_comes_back_with_a_newer_one() {
    let dir = configured(&format!(
        "persist = \"off\"\n[identity]\njwt = {{ param = \"jwt\", algorithms = [\"HS256\"], \
         secret_file = \"secret\", leeway = \"0s\", close_after = \"0s\" }}\n{ROOM}"
    ));
    std::fs::write(dir.path().join("secret"), SECRET).expect("it can be written");
    let server = Process::start(&dir, &["--config", "slackir.toml"]);
    let params = |seconds| format!("&jwt={}", short_lived(seconds, &json!({"sub": "u1"})));
    let first = params(2);
    let mut client = Phoenix::<PollClient>::dial_with(server.addr, &first).await;
    client.join("room:1").await;
    client.ended_with(1008).await;
    let target = format!("/socket/longpoll?vsn=2.0.0{first}");
    let (again, answer) = PollClient::dial(server.addr, &target, &[])
        .await
        .expect("an answer");
    assert!(again.is_none());
    assert_eq!(answer.status, 403);
    let mut client = Phoenix::<PollClient>::dial_with(server.addr, &params(100)).await;
    client.join("room:1").await;
}

#[actix_web::test]
async fn a_client_renews_its_token_and_its_name() {
    let (_dir, server) = serve_short_lived();
    let token =
        |seconds, sub: &str, name: &str| short_lived(seconds, &json!({"sub": sub, "name": name}));
    let first = token(3, "u1", "Ada");
    let mut client: Phoenix = Phoenix::dial_with(server.addr, &format!("&token={first}")).await;
    let (join_ref, _) = client.join("room:1").await;
    let (other_ref, _) = client.join("room:2").await;
    for (wrong, reason) in [
        (
            json!({"access_token": token(100, "u2", "Eve")}),
            "unauthorized",
        ),
        (json!({"access_token": "x"}), "unauthorized"),
        (json!({"access_token": 7}), "invalid payload"),
        (json!({}), "invalid payload"),
    ] {
        let push = client
            .push(&join_ref, "room:1", "access_token", wrong.clone())
            .await;
        let reply = client.reply_to(&push).await;
        assert_eq!(reply["response"]["reason"], reason, "{wrong}");
    }
    let renewed = json!({"access_token": token(100, "u1", "Ada Lovelace")});
    let push = client
        .push(&join_ref, "room:1", "access_token", renewed)
        .await;
    let reply = client.reply_to(&push).await;
    let left = reply["response"]["expires_in"].as_u64().expect("a number");
    assert!((90..=100).contains(&left), "{reply}");
    client.push(&other_ref, "room:2", "say", json!({})).await;
    assert_eq!(client.next_event().await.1["name"], "Ada Lovelace");
    tokio::time::sleep(Duration::from_millis(4_500)).await;
    client.heartbeat().await;
}

/// A room whose joins need a token of their own: the token names the room, and gives the member its role.
#[actix_web::test]
async fn a_join_needs_a_token_where_the_room_says_so() {
    let dir = configured(&format!(
        r#"
        persist = "off"
        secret_key_base = "{SECRET}"
        [[rooms]]
        topics = "jwt:*"
        [rooms.join]
        token.jwt = {{ param = "ticket", algorithms = ["EdDSA"], public_key_file = "{FIXTURES}/ed25519.pem" }}
        match = {{ "topic.1" = "{{token.sub}}" }}
        set = {{ name = "{{token.name}}" }}
        reply = {{ claims = "{{token.aud}}", name = "{{me.name}}" }}
        refuse = {{ reason = "no ticket", sub = "{{token.sub}}" }}
        [[rooms]]
        topics = "phoenix:*"
        join = {{ token = {{ phoenix_token = {{ salt = "room" }} }}, reply = "{{token}}" }}
        "#
    ));
    let server = Process::start(&dir, &["--config", "slackir.toml"]);
    let secret = SecretKeyBase::new(SECRET).expect("long enough");
    let sign = |salt: &str| {
        let signer = Signer::new(&secret, salt, KeyOptions::default());
        signer
            .sign(json!({"id": 7}), SignOptions::now())
            .expect("a token")
    };
    let right = token("EdDSA", "jose");
    let mut client = Phoenix::connect(server.addr).await;
    let refused = |sub: Value| ("error", json!({"reason": "no ticket", "sub": sub}));
    let unauthorized = ("error", json!({"reason": "unauthorized"}));
    for (topic, params, (status, response)) in [
        (
            "jwt:u1",
            json!({"ticket": right}),
            ("ok", json!({"claims": "chat", "name": "Ada"})),
        ),
        ("jwt:u2", json!({"ticket": right}), refused(json!("u1"))),
        ("jwt:u1", json!({"token": right}), refused(Value::Null)),
        ("jwt:u1", json!({"ticket": [right]}), refused(Value::Null)),
        (
            "jwt:u1",
            json!({"ticket": token("HS256", "jose")}),
            refused(Value::Null),
        ),
        ("jwt:u1", json!([]), refused(Value::Null)),
        (
            "phoenix:1",
            json!({"token": sign("room")}),
            ("ok", json!({"id": 7})),
        ),
        (
            "phoenix:1",
            json!({"token": sign("user")}),
            unauthorized.clone(),
        ),
        ("phoenix:1", json!({}), unauthorized),
    ] {
        let mut client = Phoenix::connect(server.addr).await;
        let join = client.send_join(topic, params.clone()).await;
        let reply = client.reply_to(&join).await;
        assert_eq!(reply["status"], status, "{topic} {params}: {reply}");
        assert_eq!(reply["response"], response, "{topic} {params}");
    }
    client.heartbeat().await;
}

#[test]
fn a_key_that_cannot_be_used_refuses_the_start_in_one_line() {
    let pem = |file: &str| format!("public_key_file = \"{FIXTURES}/{file}\"");
    let jwks = format!("jwks_file = \"{FIXTURES}/jwks.json\"");
    for (algorithm, keys, expected) in [
        ("RS256", pem("none.pem"), "public_key_file: cannot read"),
        ("RS256", pem("jwks.json"), "holds no PEM public key"),
        (
            "ES256",
            pem("rsa.pem"),
            "rsa.pem is an RSA key, and ES256 needs a P-256 key",
        ),
        (
            "HS256",
            "secret_env = \"NO_SUCH\"".to_owned(),
            "secret_env: the environment has no NO_SUCH",
        ),
        (
            "HS256",
            "secret_file = \"slackir.db\"".to_owned(),
            "secret_file: cannot read slackir.db",
        ),
        (
            "HS256",
            "secret_file = \"short\"".to_owned(),
            "the secret has 5 bytes",
        ),
        (
            "ES256",
            jwks.replace("jwks.json", "tokens.json"),
            "it is no JWKS",
        ),
    ] {
        let dir = configured(&format!(
            "persist = \"off\"\n[identity]\njwt = {{ algorithms = [\"{algorithm}\"], {keys} }}"
        ));
        std::fs::write(dir.path().join("short"), "short\n").expect("the file can be written");
        let output = run(&["--config", "slackir.toml", "--port", "0"], dir.path());
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{keys}");
        let line = error.lines().last().expect("an error");
        assert!(line.starts_with("slackir: [identity] jwt: "), "{error}");
        assert!(line.contains(expected), "{error}");
    }
}
