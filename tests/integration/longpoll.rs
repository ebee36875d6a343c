//! Long-polling, beyond the recorded scenarios: windows, sessions, batches, and what is done better
//! than in Phoenix.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use slackir::endpoint::TransportOptions;
use slackir::pubsub::PubSub;
use slackir::server::rooms::{Room, UserSocket, router};
use slackir::socket::DrainOptions;
use slackir::transport::LongPollOptions;
use slackir::{Endpoint, Mount};
use tempfile::tempdir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::support::conformance_app;
use crate::support::poller::Poller;
use crate::support::process::Process;
use crate::support::server::TestServer;
use crate::support::wire::http;

const WINDOW: Duration = Duration::from_millis(400);

/// The chat with a short window.
fn chat() -> TestServer {
    TestServer::start(|| {
        let transports = TransportOptions::default()
            .longpoll("longpoll")
            .longpoll_options(LongPollOptions::default().window(WINDOW));
        Endpoint::builder(PubSub::new())
            .mount(
                Mount::new("/socket", UserSocket, router(&[Room::default()]))
                    .transports(transports),
            )
            .build()
    })
}

/// Requirements 141, 142, 143, 155, 188.
#[actix_web::test]
async fn a_poll_waits_for_its_window_and_is_woken_by_the_first_message() {
    let server = chat();
    let ann = Poller::open(server.addr).await;
    let started = Instant::now();
    let empty = ann.poll().await;
    assert!(started.elapsed() >= WINDOW, "the window passes");
    assert_eq!(
        empty,
        json!({"messages": [], "status": 204, "token": ann.token})
    );
    ann.join("random:a").await;
    let bob = Poller::open(server.addr).await;
    bob.join("random:a").await;
    let (heard, ()) = tokio::join!(ann.messages(), async {
        bob.send(json!(["1", "2", "random:a", "shout", {"n": 1}]))
            .await;
    });
    assert_eq!(heard, [json!([null, null, "random:a", "shout", {"n": 1}])]);
}

/// Requirement 144.
#[actix_web::test]
async fn the_later_of_two_polls_is_served() {
    let server = chat();
    let ann = Poller::open(server.addr).await;
    let later = async {
        // The first poll is on its way before this one.
        tokio::time::sleep(WINDOW / 4).await;
        let poll = ann.poll();
        let send = async {
            tokio::time::sleep(WINDOW / 4).await;
            ann.send(json!([null, "7", "phoenix", "heartbeat", {}]))
                .await;
        };
        tokio::join!(poll, send).0
    };
    let (first, second) = tokio::join!(ann.poll(), later);
    assert_eq!(
        (&first["status"], &second["status"]),
        (&json!(204), &json!(200))
    );
}

/// Requirements 145, 149, 150, 151.
#[actix_web::test]
async fn a_batch_holds_text_and_binary_lines_and_empty_ones_are_skipped() {
    let server = TestServer::start(conformance_app::endpoint);
    let ann = Poller::open(server.addr).await;
    let push = BASE64_STANDARD.encode(b"\x00\x01\x01\x06\x0411conf:anoop");
    let broken = BASE64_STANDARD.encode(b"\x00\x01\x01\x06\x0612conf:areply\x01");
    let mut lines = vec![
        r#"["1","1","conf:a","phx_join",{}]"#.to_owned(),
        String::new(),
    ];
    lines.extend((2..150).map(|n| format!(r#"["1","{n}","conf:a","echo",{{"n":{n}}}]"#)));
    let body = lines.join("\r\n");
    assert_eq!(
        ann.post("application/x-ndjson", body.as_bytes()).await,
        json!({"status": 200})
    );
    let mut replies = ann.messages().await;
    while replies.len() < 149 {
        replies.extend(ann.messages().await);
    }
    let order: Vec<_> = replies.iter().map(|reply| reply[1].clone()).collect();
    assert_eq!(
        order,
        (1..150).map(|n| json!(n.to_string())).collect::<Vec<_>>()
    );
    // Both are binary; the channel has no clause for either, which ends it.
    let body = format!("{push}\n{broken}\n");
    assert_eq!(
        ann.post("application/x-ndjson", body.as_bytes()).await,
        json!({"status": 200})
    );
    assert_eq!(ann.messages().await[0][3], "phx_error");
}

/// Requirement 150.
#[actix_web::test]
async fn too_many_lines_are_an_error_and_none_is_handled() {
    let server = chat();
    let ann = Poller::open(server.addr).await;
    let body = "[null,\"1\",\"phoenix\",\"heartbeat\",{}]\n".repeat(1_001);
    assert_eq!(
        ann.post("application/x-ndjson", body.as_bytes()).await,
        json!({"status": 413})
    );
    assert_eq!(ann.poll().await["status"], 204);
}

/// Requirements 148, 157.
#[actix_web::test]
async fn a_message_that_cannot_be_read_ends_the_session_at_once() {
    let server = chat();
    let ann = Poller::open(server.addr).await;
    let started = Instant::now();
    assert_eq!(
        ann.post("application/json", b"nonsense").await,
        json!({"status": 408})
    );
    let mut next = ann.poll().await;
    while next["status"] != 410 {
        next = ann.poll().await;
    }
    assert_ne!(next["token"], ann.token);
    assert!(started.elapsed() < WINDOW, "nobody waits for it");
}

/// Requirement 159.
#[actix_web::test]
async fn binary_towards_a_polling_client_is_the_senders_error() {
    let server = TestServer::start(conformance_app::endpoint);
    let ann = Poller::open(server.addr).await;
    ann.join("conf:a").await;
    ann.send(json!(["1", "2", "conf:a", "push_binary", {}]))
        .await;
    assert_eq!(
        ann.messages().await,
        [json!(["1", "1", "conf:a", "phx_error", {"reason": "channel_crash"}])]
    );
}

/// Requirement 152.
#[actix_web::test]
async fn bodies_over_eight_megabytes_are_refused_and_the_session_lives() {
    let server = chat();
    let ann = Poller::open(server.addr).await;
    let body = vec![b' '; 8_000_001];
    let answer = http(server.addr, "POST", &ann.path(), &[], &body)
        .await
        .expect("an answer");
    assert_eq!(answer.status, 400);
    ann.join("random:a").await;
}

/// Requirement 153.
#[actix_web::test]
async fn the_token_may_come_in_the_header() {
    let server = chat();
    let ann = Poller::open(server.addr).await;
    ann.send(json!([null, "7", "phoenix", "heartbeat", {}]))
        .await;
    let headers = [("X-Phoenix-Longpoll-Token", Some(ann.token.as_str()))];
    let path = "/socket/longpoll?vsn=2.0.0&";
    let answer = http(server.addr, "GET", path, &headers, b"")
        .await
        .expect("an answer");
    let body: Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(body["status"], 200);
}

/// Requirement 156.
#[actix_web::test]
async fn a_session_that_is_not_polled_ends_though_it_posts() {
    let server = chat();
    let ann = Poller::open(server.addr).await;
    assert_eq!(server.endpoint.connections(), 1);
    let started = Instant::now();
    while server.endpoint.connections() == 1 {
        assert!(
            started.elapsed() < WINDOW * 3,
            "it should have ended by now"
        );
        ann.post(
            "application/json",
            br#"[null,"1","phoenix","heartbeat",{}]"#,
        )
        .await;
        tokio::time::sleep(WINDOW / 20).await;
    }
    assert!(started.elapsed() >= WINDOW * 3 / 2, "it ended too early");
    let gone = ann
        .post(
            "application/json",
            br#"[null,"1","phoenix","heartbeat",{}]"#,
        )
        .await;
    assert_eq!(gone, json!({"status": 410}));
}

#[actix_web::test]
async fn a_waiting_poll_is_woken_when_the_server_drains() {
    let server = TestServer::start(conformance_app::endpoint);
    let ann = Poller::open(server.addr).await;
    let started = Instant::now();
    let drain = async {
        // The poll is on its way; its window is ten seconds.
        tokio::time::sleep(Duration::from_millis(100)).await;
        server.endpoint.drain(DrainOptions::default()).await
    };
    let (woken, left) = tokio::join!(ann.poll(), drain);
    assert_eq!((&woken["status"], left), (&json!(204), 0));
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[actix_web::test]
async fn a_server_ends_although_a_client_has_vanished_in_its_poll() {
    let dir = tempdir().expect("a temporary folder");
    let server = Process::start(&dir, &[]);
    let ann = Poller::open(server.addr).await;
    let poll = format!("GET {} HTTP/1.1\r\nHost: {}\r\n\r\n", ann.path(), ann.addr);
    let mut request = TcpStream::connect(server.addr).await.expect("it listens");
    request.write_all(poll.as_bytes()).await.expect("open");
    drop(request);
    let started = Instant::now();
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0));
    assert!(
        started.elapsed() < Duration::from_secs(4),
        "its window is ten seconds"
    );
}

/// Requirements 22, 140, 154.
#[actix_web::test]
async fn pages_of_other_hosts_are_refused_with_the_protocols_403() {
    let server = chat();
    let headers = [("Origin", Some("http://evil.test"))];
    for method in ["GET", "POST", "OPTIONS"] {
        let path = "/socket/longpoll?vsn=2.0.0";
        let answer = http(server.addr, method, path, &headers, b"")
            .await
            .expect("an answer");
        let body: Value = serde_json::from_slice(&answer.body).expect("JSON");
        assert_eq!(
            (answer.status, &body),
            (200, &json!({"status": 403})),
            "{method}"
        );
        assert_eq!(answer.headers["access-control-allow-origin"], "*");
    }
}
