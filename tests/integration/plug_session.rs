//! The session of a Phoenix application, as `connect` sees it on both transports.

use serde_json::{Value, json};
use slackir::endpoint::TransportOptions;
use slackir::pubsub::PubSub;
use slackir::server::rooms::{Room, router};
use slackir::session::SessionOptions;
use slackir::socket::{ConnectInfo, ConnectRefused, Params, Socket};
use slackir::token::SecretKeyBase;
use slackir::transport::{CheckOrigin, HandshakeOptions};
use slackir::{Assigns, Endpoint, Mount};

use crate::support::server::TestServer;
use crate::support::wire::{WireClient, http};

/// The 64 bytes that the application shares with the server.
const SECRET: &str = "abcdefghabcdefghabcdefghabcdefghabcdefghabcdefghabcdefghabcdefgh";
/// `%{"_csrf_token" => .., "live" => true, "roles" => ["admin"], "user_id" => 7}`, signed in Python.
const COOKIE: &str = "SFMyNTY.g3QAAAAEbQAAAAtfY3NyZl90b2tlbm0AAAAYWkdWbVoyaHBhbXRzYlc1dmNIRnljM1IxbQAAAARsaXZ\
     ldwR0cnVlbQAAAAVyb2xlc2wAAAABbQAAAAVhZG1pbmptAAAAB3VzZXJfaWRhBw.CN7i4f3D-nsKvPv3NaC4OrYneyrJLSJwL3jsbZ\
     bE7i4";
/// What a page of that session sends.
const CSRF_TOKEN: &str = "Iwo4JiMKEj4bHisiUjN5IlIGHi5SCjhryMnKy8zNzs_Q0dLT1NXW19jZ";

/// Lets everybody in whose session is the one that their parameters say: `none`, or the user's id.
struct Doorman;

impl Socket for Doorman {
    async fn connect(
        &self,
        params: &Params,
        info: &ConnectInfo,
        _: &mut Assigns,
    ) -> Result<(), ConnectRefused> {
        let session = info.session.clone().map(Value::try_from);
        let seen = match session.transpose().expect("a session of JSON values") {
            None => "none".to_owned(),
            Some(session) => {
                assert_eq!(session["roles"], json!(["admin"]));
                session["user_id"].to_string()
            }
        };
        if params.get("expect") == Some(&*seen) {
            Ok(())
        } else {
            Err(ConnectRefused::because(seen))
        }
    }
}

fn options() -> SessionOptions {
    let secret = SecretKeyBase::new(SECRET).expect("long enough");
    SessionOptions::new("_my_app_key", secret, "signing salt")
}

fn endpoint(session: Option<SessionOptions>, check_origin: CheckOrigin) -> Endpoint {
    let mut handshake = HandshakeOptions::default().check_origin(check_origin);
    handshake.session = session;
    let transports = TransportOptions::default()
        .longpoll("longpoll")
        .handshake(handshake);
    Endpoint::builder(PubSub::new())
        .mount(Mount::new("/socket", Doorman, router(&[Room::default()])).transports(transports))
        .build()
}

fn server(session: Option<SessionOptions>) -> TestServer {
    TestServer::start(move || endpoint(session, CheckOrigin::default()))
}

/// Connects over both transports: what `connect` saw must be what is expected.
async fn assert_seen(server: &TestServer, query: &str, cookies: Option<&str>, expected: &str) {
    let query = format!("vsn=2.0.0&expect={expected}{query}");
    let headers = [("Cookie", cookies)];
    let path = format!("/socket/websocket?{query}");
    let opened = WireClient::open(server.addr, &path, &headers).await;
    let opened = opened.expect("an answer");
    assert!(opened.is_ok(), "{query} {cookies:?}: {opened:?}");

    let path = format!("/socket/longpoll?{query}");
    let opened = http(server.addr, "GET", &path, &headers, b"").await;
    let body = opened.expect("an answer").body;
    let answer: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(answer["status"], 410, "{query} {cookies:?}");
}

/// Requirement 42.
#[actix_web::test]
async fn a_cookie_with_its_csrf_token_is_the_session() {
    let server = server(Some(options()));
    let token = format!("&_csrf_token={CSRF_TOKEN}");
    let cookie = format!("_my_app_key={COOKIE}");
    assert_seen(&server, &token, Some(&cookie), "7").await;
    let among_others = format!("theme=d\u{e4}rk; {cookie}; lang=en");
    assert_seen(&server, &token, Some(&among_others), "7").await;
}

/// Requirement 42.
#[actix_web::test]
async fn without_cookie_or_token_there_is_no_session_and_the_client_connects() {
    let server = server(Some(options()));
    let token = format!("&_csrf_token={CSRF_TOKEN}");
    let cookie = format!("_my_app_key={COOKIE}");
    let unsigned = format!("_my_app_key={}", &COOKIE[..COOKIE.len() - 1]);
    let of_another = format!("_other_key={COOKIE}");
    let listed = format!("&_csrf_token[]={CSRF_TOKEN}");
    let renamed = format!("&csrf_token={CSRF_TOKEN}");
    let mangled = format!("&_csrf_token=A{}", &CSRF_TOKEN[1..]);
    for (query, cookies) in [
        (&*token, None),
        (&token, Some("")),
        (&token, Some(&*unsigned)),
        (&token, Some(&of_another)),
        ("", Some(&cookie)),
        ("&_csrf_token", Some(&cookie)),
        (&listed, Some(&cookie)),
        (&renamed, Some(&cookie)),
        (&mangled, Some(&cookie)),
    ] {
        assert_seen(&server, query, cookies, "none").await;
    }
}

/// Requirement 40.
#[actix_web::test]
async fn the_csrf_check_can_be_switched_off_and_sessions_are_off_by_default() {
    let cookie = format!("_my_app_key={COOKIE}");
    let unchecked = options().check_csrf(false);
    assert_seen(&server(Some(unchecked)), "", Some(&cookie), "7").await;
    let token = format!("&_csrf_token={CSRF_TOKEN}");
    assert_seen(&server(None), &token, Some(&cookie), "none").await;
}

/// As [`endpoint`], with or without the check of CSRF tokens.
fn build(check_csrf: bool, check_origin: CheckOrigin) -> Endpoint {
    let session = options().check_csrf(check_csrf);
    endpoint(Some(session), check_origin)
}

#[test]
fn one_of_origins_and_csrf_tokens_need_not_be_checked() {
    build(true, CheckOrigin::Off);
    build(false, CheckOrigin::Conn);
}

/// Requirement 43.
#[test]
#[should_panic(expected = "a session needs one of check_csrf and check_origin")]
fn with_neither_origins_nor_csrf_tokens_checked_no_endpoint_is_built() {
    build(false, CheckOrigin::Off);
}

#[test]
#[should_panic(expected = "a session needs a secret key base of 64 bytes, not 63")]
fn a_secret_that_plug_refuses_builds_no_endpoint() {
    let secret = SecretKeyBase::new(&SECRET[1..]).expect("long enough for a token");
    let session = SessionOptions::new("_my_app_key", secret, "signing salt");
    endpoint(Some(session), CheckOrigin::default());
}
