//! A client that joins or pushes more often than it may: error replies that say when to try again,
//! and a pause, but no end of its connection.

use std::time::Duration;

use serde_json::{Value, json};
use slackir::endpoint::TransportOptions;
use slackir::pubsub::PubSub;
use slackir::rate::Rate;
use slackir::server::rooms::{Room, UserSocket, router};
use slackir::socket::{RateLimits, SocketOptions};
use slackir::{Endpoint, Mount};
use tokio::time::Instant;

use crate::support::phoenix::Phoenix;
use crate::support::poller::Poller;
use crate::support::server::{TestServer, over_both_drivers};

over_both_drivers! {
    joins_over_their_rate_are_refused_and_the_rest_goes_on
    a_push_over_the_rate_is_refused_and_the_client_is_not_read_for_a_second
    bytes_have_a_rate_and_one_large_message_passes
    a_leave_and_a_heartbeat_are_never_refused
}

/// The chat with these rates.
fn chat(rates: RateLimits) -> TestServer {
    TestServer::start(move || {
        let transports = TransportOptions::default().longpoll("longpoll");
        Endpoint::builder(PubSub::new())
            .mount(
                Mount::new("/socket", UserSocket, router(&[Room::default()]))
                    .transports(transports)
                    .options(SocketOptions::default().rates(rates)),
            )
            .build()
    })
}

/// The time after which a refused client is told to come back.
fn retry_after(reply: &Value, limit: &str) -> Duration {
    assert_eq!(reply["status"], "error", "{reply}");
    let response = &reply["response"];
    assert_eq!(
        (&response["reason"], &response["limit"]),
        (&json!("rate limited"), &json!(limit))
    );
    Duration::from_millis(response["retry_after_ms"].as_u64().expect("a number"))
}

async fn joins_over_their_rate_are_refused_and_the_rest_goes_on() {
    let server = chat(RateLimits::UNLIMITED.joins(Rate::new(5, 2)));
    let mut client = Phoenix::connect(server.addr).await;
    client.join("random:1").await;
    client.join("random:2").await;
    let refused = client.send_join("random:3", json!({})).await;
    let wait = retry_after(&client.reply_to(&refused).await, "joins");
    assert!(wait <= Duration::from_millis(200), "{wait:?}");
    client.heartbeat().await;
    // The time that the server has named.
    tokio::time::sleep(wait).await;
    client.join("random:3").await;
}

async fn a_push_over_the_rate_is_refused_and_the_client_is_not_read_for_a_second() {
    let server = chat(RateLimits::UNLIMITED.pushes(Rate::new(1_000, 4)));
    let mut client = Phoenix::connect(server.addr).await;
    let (join_ref, _) = client.join("random:a").await;
    let ping = |n: u32| json!([join_ref, n, "random:a", "ping", {}]);
    client
        .send_all(&(0..10).map(ping).collect::<Vec<_>>())
        .await;
    let started = Instant::now();
    let (mut refused, mut answered) = (0, Vec::new());
    for _ in 0..10 {
        let answer = client.next().await;
        answered.push(answer[1].as_u64().expect("its ref"));
        if answer[4]["status"] == "error" {
            refused += 1;
            let wait = retry_after(&answer[4], "pushes");
            assert!(wait >= Duration::from_secs(1), "{wait:?}");
        }
    }
    // A refusal does not wait for the channel, so it may come first.
    answered.sort_unstable();
    assert_eq!(answered, (0..10).collect::<Vec<_>>(), "each is answered");
    // After a second of rest the bucket is full again.
    assert!((1..=2).contains(&refused), "{refused}");
    assert!(started.elapsed() >= Duration::from_millis(900) * (refused - 1));
    client.heartbeat().await;
}

async fn bytes_have_a_rate_and_one_large_message_passes() {
    let server = chat(RateLimits::UNLIMITED.bytes(Rate::new(10_000, 1_000)));
    let mut client = Phoenix::connect(server.addr).await;
    let (join_ref, _) = client.join("random:a").await;
    // The bucket is full again.
    tokio::time::sleep(Duration::from_millis(20)).await;
    let text = "x".repeat(100_000);
    let large = client
        .push(&join_ref, "random:a", "ping", json!({ "x": text }))
        .await;
    let over = client.push(&join_ref, "random:a", "ping", json!({})).await;
    // The refusal is the socket's own and may overtake the channel's answer.
    let mut replies = [client.next().await, client.next().await];
    replies.sort_by_key(|reply| reply[1] != json!(large));
    assert_eq!(
        (&replies[0][1], &replies[1][1]),
        (&json!(large), &json!(over))
    );
    assert_eq!(replies[0][4]["status"], "ok");
    retry_after(&replies[1][4], "bytes");
    client.heartbeat().await;
}

async fn a_leave_and_a_heartbeat_are_never_refused() {
    let server = chat(RateLimits::UNLIMITED.pushes(Rate::new(1, 1)));
    let mut client = Phoenix::connect(server.addr).await;
    let (join_ref, _) = client.join("random:a").await;
    client.heartbeat().await;
    let leave = client
        .push(&join_ref, "random:a", "phx_leave", json!({}))
        .await;
    assert_eq!(client.reply_to(&leave).await["status"], "ok");
}

#[actix_web::test]
async fn a_long_polling_client_is_refused_in_the_same_words() {
    let server = chat(RateLimits::UNLIMITED.pushes(Rate::new(1, 3)));
    let ann = Poller::open(server.addr).await;
    ann.join("random:a").await;
    let lines: Vec<String> = (0..4)
        .map(|n| json!(["1", n, "random:a", "ping", {}]).to_string())
        .collect();
    let lines = lines.join("\n");
    let posted = ann.post("application/x-ndjson", lines.as_bytes()).await;
    assert_eq!(posted, json!({"status": 200}), "slowed down, and taken");
    let mut answers = Vec::new();
    while answers.len() < 4 {
        answers.extend(ann.messages().await);
    }
    let refused = answers
        .iter()
        .filter(|answer| answer[4]["status"] == "error");
    let refused: Vec<_> = refused.collect();
    assert_eq!(refused.len(), 1, "{answers:?}");
    retry_after(&refused[0][4], "pushes");
}
