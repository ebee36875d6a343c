//! Messages that do not end: all clients together have room for so many bytes of them, and each has
//! a time.

use std::time::Duration;

use serde_json::json;
use slackir::endpoint::TransportOptions;
use slackir::pubsub::PubSub;
use slackir::server::rooms::{Room, UserSocket, router};
use slackir::socket::SocketOptions;
use slackir::{Endpoint, Mount};

use crate::support::phoenix::Phoenix;
use crate::support::poller::Poller;
use crate::support::server::{TestServer, over_both_drivers};
use crate::support::wire::{DEADLINE, Frame, RawFrame, WireClient, http};

over_both_drivers! {
    a_message_that_does_not_end_in_time_ends_its_connection
    fragments_that_do_not_end_in_time_end_their_connection
    messages_that_arrive_in_pieces_without_a_pause_are_each_timed_anew
    unfinished_messages_have_a_bound_in_all_and_small_ones_go_on
}

fn chat(message_timeout: Duration) -> TestServer {
    TestServer::start(move || {
        let transports = TransportOptions::default().longpoll("longpoll");
        Endpoint::builder(PubSub::new())
            .mount(
                Mount::new("/socket", UserSocket, router(&[Room::default()]))
                    .transports(transports)
                    .options(SocketOptions::default().message_timeout(message_timeout)),
            )
            .build()
    })
}

async fn connect(server: &TestServer) -> WireClient {
    WireClient::connect(server.addr, "/socket/websocket?vsn=2.0.0").await
}

/// A heartbeat in two pieces.
fn halves() -> [Vec<u8>; 2] {
    let text = r#"[null,"1","phoenix","heartbeat",{}]"#;
    let mut first = RawFrame::new(1, text).encode();
    let second = first.split_off(first.len() / 2);
    [first, second]
}

async fn a_message_that_does_not_end_in_time_ends_its_connection() {
    let server = chat(Duration::from_millis(300));
    let mut client = connect(&server).await;
    let [first, second] = halves();
    // A byte now and then keeps the connection from being idle, and no message alive.
    client.send_bytes(&first).await.expect("open");
    let closed = loop {
        let _ = client.send_bytes(&second[..1]).await;
        if let Some(frame) = client.recv(1, Duration::from_millis(50)).await.pop() {
            break frame;
        }
    };
    assert_eq!(closed, Frame::Close(Some(1002)));
}

async fn fragments_that_do_not_end_in_time_end_their_connection() {
    let server = chat(Duration::from_millis(300));
    let mut client = connect(&server).await;
    let fragment = RawFrame {
        fin: false,
        ..RawFrame::new(1, "[")
    };
    client.send_raw_frame(&fragment).await.expect("open");
    assert_eq!(client.recv(1, DEADLINE).await, [Frame::Close(Some(1002))]);
}

async fn messages_that_arrive_in_pieces_without_a_pause_are_each_timed_anew() {
    let server = chat(Duration::from_millis(400));
    let mut client = connect(&server).await;
    let [first, second] = halves();
    // There is always one that has begun, over three times as long as one may take.
    client.send_bytes(&first).await.expect("open");
    for _ in 0..12 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let next = [&second[..], &first].concat();
        client.send_bytes(&next).await.expect("open");
        assert_eq!(client.next_text().await[1], "1");
    }
}

async fn unfinished_messages_have_a_bound_in_all_and_small_ones_go_on() {
    let server = chat(Duration::from_secs(60));
    let begun = {
        let mut frame = RawFrame::new(2, vec![0; 9_000_000]);
        frame.declared_len = Some(9_900_000);
        frame.encode()
    };
    let mut greedy = Vec::new();
    let refused = loop {
        assert!(greedy.len() < 10, "90 MB of unfinished messages");
        let mut client = connect(&server).await;
        // The end may come before all of it is written.
        let _ = client.send_bytes(&begun).await;
        if let Some(frame) = client.recv(1, Duration::from_millis(200)).await.pop() {
            break frame;
        }
        greedy.push(client);
    };
    // A reset may have taken the close frame along.
    assert!(
        matches!(refused, Frame::Close(Some(1013)) | Frame::Eof),
        "{refused:?}"
    );
    let mut honest = connect(&server).await;
    for half in halves() {
        honest.send_bytes(&half).await.expect("open");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(honest.next_text().await[1], "1");
    drop(greedy);
    Phoenix::connect(server.addr).await.heartbeat().await;
}

#[actix_web::test]
async fn a_long_poll_body_takes_of_the_same_room() {
    let server = chat(Duration::from_secs(60));
    let mut greedy = Vec::new();
    for _ in 0..8 {
        let client = connect(&server).await;
        let mut frame = RawFrame::new(2, vec![0; 7_900_000]);
        frame.declared_len = Some(9_900_000);
        client.send_bytes(&frame.encode()).await.expect("open");
        greedy.push(client);
    }
    let ann = Poller::open(server.addr).await;
    let text = "x".repeat(7_000_000);
    let large = json!(["1", "1", "random:a", "phx_join", { "x": text }]).to_string();
    let answer = http(server.addr, "POST", &ann.path(), &[], large.as_bytes()).await;
    assert_eq!(answer.expect("an answer").status, 503);
    ann.join("random:a").await;
}
