//! The test kit, used as a user of the library uses it.

use bytes::Bytes;
use serde_json::json;
use slackir::message::Payload;
use slackir::socket::DrainOptions;
use slackir::testing::{ConnectError, TestSocket};

use crate::support::conformance_app;

#[actix_web::test]
async fn a_conversation_without_a_network() {
    let endpoint = conformance_app::endpoint();
    let connect = |params| TestSocket::connect(&endpoint, "/socket", params);
    let mut ann = connect(json!({"user_id": "1"})).await.expect("let in");
    let mut bob = connect(json!({"user_id": "2"})).await.expect("let in");
    for socket in [&mut ann, &mut bob] {
        let reply = socket
            .subscribe_and_join("conf:a", json!({"want_reply": true}))
            .await;
        assert_eq!(reply, json!({"params": {"want_reply": true}}));
    }
    let echo = ann.push("conf:a", "echo", json!({"n": 1}));
    ann.assert_reply(&echo, "ok", json!({"n": 1})).await;
    let noreply = ann.push("conf:a", "noreply", json!({}));
    ann.refute_reply(&noreply).await;
    ann.push("conf:a", "push", json!({"n": 2}));
    ann.assert_push("pushed", json!({"n": 2})).await;
    bob.refute_push("pushed").await;
    ann.push("conf:a", "broadcast_from", json!({"n": 3}));
    bob.assert_broadcast("bcast_from", json!({"n": 3})).await;
    ann.refute_broadcast("bcast_from").await;
    ann.push("conf:a", "broadcast_intercepted", json!({"n": 4}));
    bob.assert_push("intercepted", json!({"n": 4, "for": "2"}))
        .await;
    bob.push("conf:a", "crash", json!({}));
    bob.assert_crashed("conf:a").await;
    let leave = ann.leave("conf:a");
    ann.assert_reply(&leave, "ok", json!({})).await;
    ann.assert_closed("conf:a").await;
    ann.close();
}

#[actix_web::test]
async fn refusals_are_values() {
    let endpoint = conformance_app::endpoint();
    let denied = TestSocket::connect(&endpoint, "/socket", json!({"deny": "1"})).await;
    assert!(matches!(denied.err(), Some(ConnectError::Refused(_))));
    let nowhere = TestSocket::connect(&endpoint, "/nowhere", json!({})).await;
    assert_eq!(
        nowhere.err(),
        Some(ConnectError::NotMounted("/nowhere".to_owned()))
    );
    let mut ann = TestSocket::connect(&endpoint, "/socket", json!({}))
        .await
        .expect("let in");
    let join = ann.join("conf:deny", json!({}));
    ann.assert_reply(&join, "error", json!({"reason": "unauthorized"}))
        .await;
    endpoint.drain(DrainOptions::default()).await;
    let late = TestSocket::connect(&endpoint, "/socket", json!({})).await;
    assert_eq!(late.err(), Some(ConnectError::Draining));
}

#[actix_web::test]
#[should_panic(expected = "a push of \"nothing\" should have come")]
async fn an_assertion_that_does_not_hold_fails() {
    let endpoint = conformance_app::endpoint();
    let mut ann = TestSocket::connect(&endpoint, "/socket", json!({}))
        .await
        .expect("let in");
    ann.subscribe_and_join("conf:a", json!({})).await;
    ann.assert_push("nothing", json!({})).await;
}

#[actix_web::test]
#[should_panic(expected = "a broadcast of \"pushed\" should have come; it came as a push")]
async fn a_push_in_place_of_a_broadcast_is_named() {
    let endpoint = conformance_app::endpoint();
    let mut ann = TestSocket::connect(&endpoint, "/socket", json!({}))
        .await
        .expect("let in");
    ann.subscribe_and_join("conf:a", json!({})).await;
    ann.push("conf:a", "push", json!({}));
    ann.assert_broadcast("pushed", json!({})).await;
}

#[actix_web::test]
async fn bytes_go_both_ways() {
    let endpoint = conformance_app::endpoint();
    let mut ann = TestSocket::connect(&endpoint, "/socket", json!({}))
        .await
        .expect("let in");
    ann.subscribe_and_join("conf:a", json!({})).await;
    let echo = ann.push_binary("conf:a", "echo", &b"\x00\xff"[..]);
    let echoed = ann.binary_reply(&echo).await;
    assert_eq!(echoed, ("ok".to_owned(), Bytes::from_static(b"\x00\xff")));
    ann.push("conf:a", "push_binary", json!({}));
    assert!(!ann.next_binary_push("pushed_binary").await.is_empty());
    let data = Bytes::from_static(b"for all");
    let sent = endpoint.broadcast("conf:a", "news", Payload::Binary(data.clone()));
    sent.await.expect("a broadcast");
    assert_eq!(ann.next_binary_broadcast("news").await, data);
}
