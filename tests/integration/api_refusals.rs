//! What the HTTP API refuses, and how it says so.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use actix_web::App;
use actix_web::test::{self, TestRequest};
use serde_json::{Value, json};
use slackir::Endpoint;
use slackir::log::LogRule;
use slackir::pubsub::PubSub;
use slackir::server::api::{self, Api, Auth};
use slackir::server::rooms::Room;
use slackir::socket::DrainOptions;
use slackir::store::{DbWriter, Store, StoreOptions, WriterOptions};
use slackir::token::{KeyOptions, SecretKeyBase, SignOptions, Signer};
use tempfile::tempdir;

use crate::cli::fails;
use crate::support::api::{Program, TOKEN, serve};
use crate::support::database::{Database, on_each_database};
use crate::support::process::{Process, run};
use crate::support::wire::http;

const MESSAGES: &str = "/api/topics/random:lobby/messages";
const SECRET: &str = "a secret of at least twenty bytes";

on_each_database! {
    #[actix_web::test]
    each_field_that_is_wrong_is_named,
    what_is_not_there_is_not_found,
}

async fn each_field_that_is_wrong_is_named(database: Database) {
    let server = serve(&database, &["--max-frame-size", "1000"]);
    let program = Program::of(&server).await;
    let (_, message) = program.ask("POST", MESSAGES, &json!({"payload": {}})).await;
    let one = format!("{MESSAGES}/{}", message["id"].as_str().expect("an id"));
    let query = |query: &str| format!("{MESSAGES}?{query}");
    let long = format!("/api/topics/random:{}/messages", "x".repeat(249));
    for (method, target, body, fields) in [
        ("GET", &*query("limit=0"), "", &["limit"][..]),
        ("GET", &query("limit=1001"), "", &["limit"]),
        (
            "GET",
            &query("limit=many&before=17"),
            "",
            &["before", "limit"],
        ),
        ("GET", &query("offset=3"), "", &["offset"]),
        ("DELETE", &query("name="), "", &["name"]),
        ("DELETE", &query("nmae=ada"), "", &["nmae"]),
        ("DELETE", "/api/messages", "", &["name"]),
        ("DELETE", "/api/messages?topic=a", "", &["topic"]),
        ("GET", &long, "", &["topic"]),
        ("GET", "/api/topics/random:%00/messages", "", &["topic"]),
        ("GET", "/api/topics/random:%FF/messages", "", &["topic"]),
        ("POST", "/api/users/7/revoke", r#"{"for":7}"#, &["for"]),
        ("POST", "/api/users/7/revoke", r#"{"for":"0s"}"#, &["for"]),
        (
            "POST",
            "/api/tokens/7/revoke",
            r#"{"until":"1d"}"#,
            &["until"],
        ),
        ("POST", "/api/users/%00/revoke", "", &["id"]),
        ("DELETE", "/api/tokens/%FF/revoke", "", &["jti"]),
        ("POST", MESSAGES, "", &["body"]),
        ("POST", MESSAGES, "payload=1", &["body"]),
        ("POST", MESSAGES, "[1]", &["body"]),
        ("POST", MESSAGES, "{}", &["payload"]),
        ("POST", MESSAGES, r#"{"payload":"hi"}"#, &["payload"]),
        (
            "POST",
            MESSAGES,
            r#"{"payload":{"a":"\udc00"}}"#,
            &["payload"],
        ),
        (
            "POST",
            MESSAGES,
            r#"{"payload":{"client_ref":[]}}"#,
            &["payload"],
        ),
        (
            "POST",
            MESSAGES,
            r#"{"payload":{},"client_ref":1}"#,
            &["client_ref"],
        ),
        (
            "POST",
            MESSAGES,
            r#"{"payload":{},"event":"ping"}"#,
            &["event"],
        ),
        (
            "POST",
            MESSAGES,
            r#"{"event":null,"id":1}"#,
            &["event", "id", "payload"],
        ),
        ("PUT", &one, "nonsense", &["body"]),
        ("PUT", &one, r#"{"payload":null}"#, &["payload"]),
        ("PUT", &one, r#"{"payload":{},"event":"shout"}"#, &["event"]),
    ] {
        let answer = program.send(method, target, body.as_bytes()).await;
        let error = answer.json();
        assert_eq!(
            (answer.status, &error["error"]),
            (422, &json!("invalid")),
            "{method} {target} {body}"
        );
        let named = error["fields"].as_object().expect("fields").keys();
        assert!(named.eq(fields), "{method} {target} {body}: {error}");
    }
    for (method, target) in [("POST", MESSAGES), ("PUT", &one)] {
        let body = json!({"payload": {"long": "x".repeat(1_000)}});
        let (status, error) = program.ask(method, target, &body).await;
        assert_eq!((status, &error["error"]), (413, &json!("too large")));
    }
    let page = program.get(MESSAGES).await;
    assert_eq!(
        page["messages"],
        json!([message]),
        "nothing else was stored"
    );
}

async fn what_is_not_there_is_not_found(database: Database) {
    let server = serve(&database, &[]);
    let program = Program::of(&server).await;
    let (_, message) = program.ask("POST", MESSAGES, &json!({"payload": {}})).await;
    let id = message["id"].as_str().expect("an id");
    let (epoch, _) = id.split_once('-').expect("epoch and seq");
    let other = format!("/api/topics/random:other/messages/{id}");
    let body = json!({"payload": {}});
    let (_, deletable) = program.ask("POST", MESSAGES, &body).await;
    let gone = format!("{MESSAGES}/{}", deletable["id"].as_str().expect("an id"));
    let (status, _) = program.ask("DELETE", &gone, &Value::Null).await;
    assert_eq!(status, 204);
    for (target, error) in [
        ("/api", "not found"),
        ("/api/", "not found"),
        ("/api/topics/", "not found"),
        ("/api/bans/", "not found"),
        ("/api/topics//messages", "not found"),
        ("/api/topics/random:lobby/messages/", "not found"),
        ("/api/topics/random:lobby/messages/1/2", "not found"),
        ("/api/topics/lobby/messages/1-1", "no log"),
        (&other, "unknown message"),
        (&gone, "unknown message"),
        // The row of the deletion is no message.
        (&format!("{MESSAGES}/{epoch}-3"), "unknown message"),
        (&format!("{MESSAGES}/{epoch}-4"), "unknown message"),
        (&format!("{MESSAGES}/17"), "unknown message"),
        (&format!("{MESSAGES}/1--1"), "unknown message"),
    ] {
        for method in ["GET", "PUT", "DELETE"] {
            let (status, answer) = program.ask(method, target, &body).await;
            assert_eq!(
                (status, &answer["error"]),
                (404, &json!(error)),
                "{method} {target}"
            );
        }
    }
    for method in ["GET", "POST", "DELETE"] {
        let (status, answer) = program
            .ask(method, "/api/topics/lobby/messages", &body)
            .await;
        assert_eq!((status, &answer["error"]), (404, &json!("no log")));
    }
    for (method, target, allow) in [
        ("POST", "/api/openapi.json", "GET, HEAD, OPTIONS"),
        ("PUT", MESSAGES, "GET, HEAD, POST, DELETE, OPTIONS"),
        ("GET", "/api/messages", "DELETE, OPTIONS"),
        ("PATCH", &gone, "GET, HEAD, PUT, DELETE, OPTIONS"),
        ("POST", &gone, "GET, HEAD, PUT, DELETE, OPTIONS"),
    ] {
        let answer = program.send(method, target, b"").await;
        let error = answer.json();
        assert_eq!(
            (answer.status, &error["error"]),
            (405, &json!("method not allowed"))
        );
        assert_eq!(answer.headers["allow"], allow);
    }
    assert_eq!(
        database.rows("random:other"),
        [],
        "nobody has written there"
    );
}

#[actix_web::test]
async fn only_those_with_a_token_are_let_in() {
    let database = Database::sqlite();
    let args = ["--api-token-salt", "api", "--secret-key-base", SECRET];
    let server = serve(&database, &args);
    let secret = SecretKeyBase::new(SECRET).expect("long enough");
    let signed = |salt: &str, age: u64| {
        let signer = Signer::new(&secret, salt, KeyOptions::DEFAULT);
        let at = SystemTime::now() - Duration::from_secs(age);
        let token = signer.sign("user-42", SignOptions::at(at));
        format!("Bearer {}", token.expect("a text has a form"))
    };
    let right = format!("Bearer {TOKEN}");
    for (authorization, detail) in [
        (None, Some("missing")),
        (Some(""), Some("missing")),
        (Some("Bearer"), Some("missing")),
        (Some(TOKEN), Some("missing")),
        (Some(&*format!("Basic {TOKEN}")), Some("missing")),
        (Some("Bearer nonsense"), Some("invalid")),
        (Some(&format!("{right}x")), Some("invalid")),
        (Some(&signed("user socket", 1)), Some("invalid")),
        (Some(&signed("api", 86_500)), Some("expired")),
        (Some(&right), None),
        (Some(&right.replace("Bearer", "bearer")), None),
        (Some(&signed("api", 86_300)), None),
    ] {
        let program = Program::of(&server).await.authorized(authorization);
        for (method, path) in program.document.operations() {
            let target = path
                .replace("{topic}", "random:lobby")
                .replace("{id}", "1-9")
                .replace("{jti}", "t1");
            let answer = program.send(&method, &target, b"{}").await;
            let (error, challenge) = (answer.json(), answer.headers.get("www-authenticate"));
            match detail {
                Some(detail) if path != "/api/openapi.json" => {
                    assert_eq!(
                        (answer.status, &error["error"]),
                        (401, &json!("unauthorized"))
                    );
                    assert_eq!(
                        error["detail"],
                        format!(
                            "the token {}",
                            match detail {
                                "missing" => "is missing",
                                "invalid" => "is invalid",
                                _ => "has expired",
                            }
                        )
                    );
                    let bare = detail == "missing";
                    let expected = if bare {
                        "Bearer"
                    } else {
                        "Bearer error=\"invalid_token\""
                    };
                    assert_eq!(challenge.map(String::as_str), Some(expected));
                }
                _ => assert_ne!(answer.status, 401, "{method} {target} {authorization:?}"),
            }
        }
    }
    assert_eq!(database.rows("random:lobby"), []);
}

#[actix_web::test]
async fn a_token_of_the_command_line_lets_in() {
    let database = Database::sqlite();
    let args = ["--api-token-salt", "api", "--secret-key-base", SECRET];
    let server = database.serve(&[&args[..], &["--api-token-max-age", "3600"]].concat());
    let sign = [
        "token",
        "sign",
        "--salt",
        "api",
        "--secret-key-base",
        SECRET,
        "7",
    ];
    let output = run(&sign, database.dir.path());
    let token = String::from_utf8(output.stdout).expect("UTF-8");
    let bearer = format!("Bearer {}", token.trim());
    let program = Program::of(&server).await.authorized(Some(&bearer));
    program.get(MESSAGES).await;
    let other = Program::of(&server)
        .await
        .authorized(Some(&format!("Bearer {TOKEN}")));
    let (status, _) = other.ask("GET", MESSAGES, &Value::Null).await;
    assert_eq!(status, 401);
}

#[actix_web::test]
async fn without_a_token_there_is_no_api() {
    let dir = tempdir().expect("a temporary folder");
    let server = Process::start(&dir, &["--secret-key-base", SECRET]);
    for path in ["/api", "/api/openapi.json", MESSAGES] {
        let bearer = [("Authorization", Some("Bearer "))];
        let answer = http(server.addr, "GET", path, &bearer, b"").await;
        assert_eq!(answer.expect("an answer").status, 404, "{path}");
    }
}

#[actix_web::test]
async fn a_server_that_shuts_down_takes_nothing_new() {
    let database = Database::sqlite();
    let (store, _) = Store::open(&database.url, StoreOptions::default()).expect("it opens");
    let writer = DbWriter::start_on_own_thread(store, WriterOptions::default()).expect("it starts");
    let rooms = [Room::default()];
    let rule = LogRule::new("random:*", &["shout"], 50, Arc::new(writer.clone()));
    let endpoint = Endpoint::builder(PubSub::with_logs(vec![rule])).build();
    let auth = Auth::by_token(TOKEN).expect("sound");
    let api = Api::new(auth, &endpoint, &rooms, &writer, 1_000);
    let app = test::init_service(App::new().configure(api::routes(Some(&api)))).await;
    let send = |method: TestRequest, target: &str, body: &'static str| {
        let bearer = ("Authorization", format!("Bearer {TOKEN}"));
        let request = method.uri(target).insert_header(bearer);
        test::call_service(&app, request.set_payload(body).to_request())
    };
    let request = |method: TestRequest| send(method, MESSAGES, r#"{"payload":{}}"#);
    assert_eq!(request(TestRequest::post()).await.status(), 201);
    assert_eq!(endpoint.drain(DrainOptions::default()).await, 0);
    let refused = request(TestRequest::post()).await;
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    let error: Value = test::read_body_json(refused).await;
    assert_eq!(error["error"], "shutting down");
    for (method, target, body) in [
        (
            TestRequest::post(),
            "/api/messages/batch",
            r#"{"messages":[{"topic":"random:lobby","payload":{}}]}"#,
        ),
        (
            TestRequest::post(),
            "/api/bans",
            r#"{"user":"eve","kind":"ban","seconds":9}"#,
        ),
        (TestRequest::delete(), "/api/bans/1", ""),
        (TestRequest::delete(), "/api/connections/1", ""),
        (TestRequest::post(), "/api/users/7/disconnect", ""),
    ] {
        assert_eq!(send(method, target, body).await.status(), 503, "{target}");
    }
    assert_eq!(request(TestRequest::get()).await.status(), 200);
    assert_eq!(database.rows("random:lobby").len(), 1);
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let dir = tempdir().expect("a temporary folder");
    for (args, part) in [
        (&["--api-token", "s3cret"][..], "--api-token"),
        (&["--api-token", ""], "--api-token"),
        (&["--api-token-salt", "api"], "SECRET_KEY_BASE"),
        (
            &["--api-token-salt", "api", "--secret-key-base", "s3cret"],
            "too short",
        ),
        (
            &["--api-token", "s3cret-s3cret-s3cret", "--persist", "off"],
            "--persist on",
        ),
    ] {
        fails(dir.path(), &[&["--port", "0"], args].concat(), part);
    }
    assert_eq!(
        std::fs::read_dir(dir.path()).expect("readable").count(),
        0,
        "nothing was made"
    );
}
