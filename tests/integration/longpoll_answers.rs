//! Long-polling: single answers that the recorded scenarios leave out.

use std::time::Duration;

use serde_json::{Value, json};
use slackir::endpoint::TransportOptions;
use slackir::pubsub::PubSub;
use slackir::server::rooms::{Room, UserSocket, router};
use slackir::socket::{OutboxLimits, SocketOptions};
use slackir::transport::LongPollOptions;
use slackir::{Endpoint, Mount};

use crate::support::conformance_app;
use crate::support::phoenix::Phoenix;
use crate::support::poller::Poller;
use crate::support::server::TestServer;
use crate::support::wire::{Headers, http};

async fn get(server: &TestServer, query: &str, headers: Headers<'_>) -> Value {
    let path = format!("/socket/longpoll?{query}");
    let answer = http(server.addr, "GET", &path, headers, b"").await;
    let answer = answer.expect("an answer");
    assert_eq!(answer.status, 200, "{query}");
    serde_json::from_slice(&answer.body).expect("JSON")
}

/// Requirement 140.
#[actix_web::test]
async fn a_bad_vsn_is_refused_with_the_protocols_403() {
    let server = TestServer::start(conformance_app::endpoint);
    for vsn in ["vsn=9.0.0", "vsn=abc", "vsn=", "vsn[]=2.0.0"] {
        assert_eq!(
            get(&server, vsn, &[]).await,
            json!({"status": 403}),
            "{vsn}"
        );
    }
    assert_eq!(get(&server, "", &[]).await["status"], 410, "1.0.0");
}

/// Requirement 153.
#[actix_web::test]
async fn of_two_tokens_the_one_in_the_header_counts() {
    let server = TestServer::start(conformance_app::endpoint);
    let ann = Poller::open(server.addr).await;
    for (header, parameter, status) in [("nobody", &*ann.token, 410), (&*ann.token, "nobody", 200)]
    {
        ann.send(json!([null, "7", "phoenix", "heartbeat", {}]))
            .await;
        let query = format!("vsn=2.0.0&token={parameter}");
        let header = [("X-Phoenix-Longpoll-Token", Some(header))];
        assert_eq!(get(&server, &query, &header).await["status"], status);
    }
}

/// Requirement 154.
#[actix_web::test]
async fn options_allow_what_the_page_asks_for() {
    let server = TestServer::start(conformance_app::endpoint);
    let asked = [(
        "Access-Control-Request-Headers",
        Some("x-one, content-type"),
    )];
    let path = "/socket/longpoll?vsn=2.0.0";
    let answer = http(server.addr, "OPTIONS", path, &asked, b"").await;
    let answer = answer.expect("an answer");
    let header = |name: &str| answer.headers.get(name).map(String::as_str);
    assert_eq!(answer.status, 200);
    assert_eq!(
        header("access-control-allow-headers"),
        Some("x-one, content-type")
    );
    assert_eq!(
        header("access-control-allow-methods"),
        Some("get, post, options")
    );
    assert_eq!(header("access-control-allow-origin"), Some("*"));
    assert_eq!(header("access-control-max-age"), Some("3600"));
}

/// A session does not take messages while its client leaves the answers to earlier ones lying.
/// Requirement 148.
#[actix_web::test]
async fn a_message_that_is_not_taken_in_the_window_is_answered_with_408() {
    let server = TestServer::start(|| {
        let transports = TransportOptions::default()
            .longpoll("longpoll")
            .longpoll_options(LongPollOptions::default().window(Duration::from_secs(1)));
        let outbox = OutboxLimits::default().frames(4);
        Endpoint::builder(PubSub::new())
            .mount(
                Mount::new("/socket", UserSocket, router(&[Room::default()]))
                    .transports(transports)
                    .options(SocketOptions::default().outbox(outbox)),
            )
            .build()
    });
    let ann = Poller::open(server.addr).await;
    let mut taken = 0;
    let refused = loop {
        let heartbeat = json!([null, taken.to_string(), "phoenix", "heartbeat", {}]);
        let body = heartbeat.to_string();
        let answer = ann.post("application/json", body.as_bytes()).await;
        if answer != json!({"status": 200}) {
            break answer;
        }
        taken += 1;
        assert!(taken < 10, "four answers wait");
    };
    assert_eq!(refused, json!({"status": 408}));
    // What was taken is answered, and nothing else.
    let mut replies = Vec::new();
    while replies.len() < taken {
        replies.extend(ann.messages().await);
    }
    let refs: Vec<_> = replies.iter().map(|reply| reply[1].clone()).collect();
    let expected: Vec<_> = (0..taken).map(|n| json!(n.to_string())).collect();
    assert_eq!(refs, expected);
    ann.send(json!([null, "again", "phoenix", "heartbeat", {}]))
        .await;
    assert_eq!(ann.messages().await[0][1], "again");
}

/// Requirement 159.
#[actix_web::test]
async fn a_binary_broadcast_passes_polling_clients_over() {
    let server = TestServer::start(conformance_app::endpoint);
    let ann = Poller::open(server.addr).await;
    ann.join("conf:a").await;
    let mut bob = Phoenix::connect(server.addr).await;
    let (join_ref, _) = bob.join("conf:a").await;
    let push = b"\x00\x01\x01\x06\x0912conf:abroadcast\x07\xff";
    bob.wire.send_binary(push).await.expect("open");
    bob.push(&join_ref, "conf:a", "broadcast", json!({"n": 1}))
        .await;
    let heard = ann.messages().await;
    assert_eq!(heard, [json!([null, null, "conf:a", "bcast", {"n": 1}])]);
}
