//! The crate `supabase-realtime-rs`, which names no version and therefore speaks vsn 1.0.0. It puts
//! `realtime:` before every topic, and tells nobody of the reply to its join.

use std::sync::Arc;

use serde_json::{Value, json};
use slackir_clients_rust::{Conformance, DEADLINE};
use supabase_realtime_rs::{
    EventPayload, RealtimeChannel, RealtimeChannelOptions, RealtimeClient, RealtimeClientOptions,
};
use tokio::sync::mpsc::{self, Receiver};
use tokio::time::timeout;

async fn enter(server: &Conformance, topic: &str) -> Arc<RealtimeChannel> {
    let url = format!("{}/websocket", server.socket_url());
    let options = RealtimeClientOptions {
        api_key: "none".to_owned(),
        ..RealtimeClientOptions::default()
    };
    let client = RealtimeClient::new(url, options).expect("a client");
    client.connect().await.expect("a connection");
    let options = RealtimeChannelOptions::default();
    let channel = client.channel(topic, options).await;
    channel.subscribe().await.expect("sent");
    assert_eq!(ask(&channel, "echo", json!({})).await, ok(json!({})));
    channel
}

/// The status and the response of the reply.
async fn ask(channel: &Arc<RealtimeChannel>, event: &str, payload: Value) -> (&'static str, Value) {
    let (replied, mut replies) = mpsc::unbounded_channel();
    let keep = |status| {
        let replied = replied.clone();
        move |response| replied.send((status, response)).expect("the test waits")
    };
    let push = channel.push(event, payload);
    let push = push
        .receive("ok", keep("ok"))
        .receive("error", keep("error"));
    push.send().await.expect("sent");
    let reply = timeout(DEADLINE, replies.recv()).await;
    reply.expect("a reply in time").expect("a reply")
}

fn ok(response: Value) -> (&'static str, Value) {
    ("ok", response)
}

fn error(response: Value) -> (&'static str, Value) {
    ("error", response)
}

async fn shout(channel: &Arc<RealtimeChannel>, number: u32) {
    let push = channel.push("broadcast", json!({ "number": number }));
    push.send().await.expect("sent");
}

async fn hears(broadcasts: &mut Receiver<EventPayload>) -> Value {
    let heard = timeout(DEADLINE, broadcasts.recv()).await;
    match heard.expect("a broadcast in time") {
        Some(EventPayload::Custom(payload)) => payload,
        other => panic!("not a broadcast: {other:?}"),
    }
}

#[tokio::test]
async fn gets_ok_and_error_replies() {
    let server = Conformance::start();
    let ann = enter(&server, "replies").await;
    let intricate =
        json!({"unicode": "Grüße 你好 🦀 \0", "nested": [1, [2, {"deep": null}]], "ratio": 0.5});

    assert_eq!(
        ask(&ann, "echo", intricate.clone()).await,
        ok(intricate.clone())
    );
    assert_eq!(
        ask(&ann, "reply_error", intricate.clone()).await,
        error(intricate)
    );
}

#[tokio::test]
async fn hears_another_client_until_it_leaves() {
    let server = Conformance::start();
    let ann = enter(&server, "broadcasts").await;
    let bob = enter(&server, "broadcasts").await;
    let mut heard_by_ann = ann.on("bcast").await;
    let mut heard_by_bob = bob.on("bcast").await;

    shout(&bob, 1).await;
    assert_eq!(hears(&mut heard_by_ann).await, json!({"number": 1}));
    assert_eq!(hears(&mut heard_by_bob).await, json!({"number": 1}));

    // `unsubscribe` sends no ref, which Phoenix does not read either.
    assert_eq!(ask(&ann, "phx_leave", json!({})).await, ok(json!({})));
    shout(&bob, 2).await;
    assert_eq!(hears(&mut heard_by_bob).await, json!({"number": 2}));

    let unmatched = json!({"reason": "unmatched topic"});
    assert_eq!(ask(&ann, "echo", json!({})).await, error(unmatched));
    assert!(heard_by_ann.try_recv().is_err());
}
