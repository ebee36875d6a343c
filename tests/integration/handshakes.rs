//! Odd requests for a WebSocket, and their answers.

use slackir::pubsub::PubSub;
use slackir::server::rooms::{Room, UserSocket, router};
use slackir::{Endpoint, Mount};

use crate::support::conformance_app;
use crate::support::server::{Driver, TestServer, over_both_drivers};
use crate::support::wire::{self, WireClient};

over_both_drivers! {
    odd_handshakes_get_phoenix_answers
    pages_of_other_hosts_may_not_connect
    a_handshake_with_a_body_is_refused
}

/// The chat without a database.
fn chat() -> TestServer {
    TestServer::start(|| {
        Endpoint::builder(PubSub::new())
            .mount(Mount::new(
                "/socket",
                UserSocket,
                router(&[Room::default()]),
            ))
            .build()
    })
}

/// Requirements 5, 6, 8, 12, 16.
async fn odd_handshakes_get_phoenix_answers() {
    let server = TestServer::start(conformance_app::endpoint);
    let path = "/socket/websocket?vsn=2.0.0";
    for (method, path, headers, status, body) in [
        ("POST", path, vec![], 400, ""),
        ("OPTIONS", path, vec![], 400, ""),
        (
            "GET",
            path,
            vec![],
            400,
            "'connection' header must contain 'upgrade', got [\"close\"]",
        ),
        ("GET", path, vec![("Host", None)], 400, ""),
        ("GET", "/socket/websocket?vsn=2.0.0&deny=1", vec![], 403, ""),
        ("GET", "/socket/websocket?vsn[]=2.0.0", vec![], 403, ""),
        (
            "GET",
            "/socket/websocket?vsn=2.0.0&x=%ff",
            vec![],
            400,
            "the query string is not UTF-8",
        ),
        ("GET", "/socket", vec![], 404, ""),
    ] {
        let answer = wire::http(server.addr, method, path, &headers, b"")
            .await
            .expect("an answer");
        let text = String::from_utf8_lossy(&answer.body);
        assert_eq!((answer.status, &*text), (status, body), "{method} {path}");
    }
}

/// Requirement 22.
async fn pages_of_other_hosts_may_not_connect() {
    let server = chat();
    let path = "/socket/websocket?vsn=2.0.0";
    for (origin, accepted) in [("http://evil.test", false), ("http://127.0.0.1:3000", true)] {
        let headers = [("Origin", Some(origin))];
        let opened = WireClient::open(server.addr, path, &headers)
            .await
            .expect("an answer");
        match opened {
            Ok(_) => assert!(accepted, "{origin}"),
            Err(answer) => assert_eq!((answer.status, accepted), (403, false), "{origin}"),
        }
    }
}

/// What stands behind the head would reach nobody or the wrong one.
async fn a_handshake_with_a_body_is_refused() {
    let server = chat();
    let path = "/socket/websocket?vsn=2.0.0";
    for header in [("Content-Length", "5"), ("Transfer-Encoding", "chunked")] {
        let headers = [(header.0, Some(header.1))];
        let refused = WireClient::open(server.addr, path, &headers).await;
        let status = refused.expect("an answer").map_err(|answer| answer.status);
        assert_eq!(status.err(), Some(400), "{header:?}");
    }
    // actix-http would go on to read requests behind a list.
    let list = [("Upgrade", Some("x, WebSocket"))];
    let answer = WireClient::open(server.addr, path, &list).await;
    let status = answer
        .expect("an answer")
        .map_or_else(|refused| refused.status, |_| 101);
    let expected = match Driver::current() {
        Driver::Direct => 101,
        Driver::ActixWs => 400,
    };
    assert_eq!(status, expected);
}
