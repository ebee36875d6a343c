//! WebSocket frames at the edge of what is allowed, and the clock that they wind.

use std::time::Duration;

use serde_json::json;
use slackir::pubsub::PubSub;
use slackir::server::rooms::{Room, UserSocket, router};
use slackir::socket::SocketOptions;
use slackir::{Endpoint, Mount};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::phoenix::Phoenix;
use crate::support::server::{TestServer, over_both_drivers};
use crate::support::wire::{DEADLINE, Frame, RawFrame, WireClient};

over_both_drivers! {
    a_pong_that_nobody_asked_for_is_ignored
    a_client_may_speak_before_it_has_read_its_101
    fragments_over_eight_megabytes_are_closed_with_1009
    what_the_server_sends_does_not_keep_a_silent_connection
}

/// The chat without a database, with these options.
fn chat(options: SocketOptions) -> TestServer {
    TestServer::start(move || {
        Endpoint::builder(PubSub::new())
            .mount(Mount::new("/socket", UserSocket, router(&[Room::default()])).options(options))
            .build()
    })
}

/// Requirement 44.
async fn a_pong_that_nobody_asked_for_is_ignored() {
    let server = chat(SocketOptions::default());
    let mut client = Phoenix::connect(server.addr).await;
    for payload in [&b""[..], b"hi", &[0; 125]] {
        let pong = RawFrame::new(0xA, payload);
        client.wire.send_raw_frame(&pong).await.expect("open");
    }
    client.heartbeat().await;
}

async fn a_client_may_speak_before_it_has_read_its_101() {
    let server = chat(SocketOptions::default());
    let request = "GET /socket/websocket?vsn=2.0.0 HTTP/1.1\r\nHost: localhost\r\n\
        Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let join = RawFrame::new(1, r#"["1","1","random:lobby","phx_join",{}]"#).encode();
    let heartbeat = RawFrame::new(1, r#"[null,"2","phoenix","heartbeat",{}]"#).encode();
    let (begun, rest) = heartbeat.split_at(9);
    let mut stream = TcpStream::connect(server.addr).await.expect("it listens");
    let packet = [request.as_bytes(), &join, begun].concat();
    stream.write_all(&packet).await.expect("open");
    let mut received = String::new();
    for (sent, answer) in [
        (&b""[..], r#"["1","1","random:lobby","phx_reply""#),
        (rest, r#"[null,"2""#),
    ] {
        stream.write_all(sent).await.expect("open");
        while !received.contains(answer) {
            let mut bytes = [0; 1_024];
            let read = timeout(DEADLINE, stream.read(&mut bytes)).await;
            let len = read.expect("an answer").expect("open");
            assert_ne!(len, 0, "{received}");
            received += &String::from_utf8_lossy(&bytes[..len]);
        }
    }
    assert!(received.starts_with("HTTP/1.1 101"), "{received}");
}

/// A message of so many spaces, in fragments of a megabyte; how it is closed.
async fn closed_after(server: &TestServer, spaces: usize) -> Vec<Frame> {
    let mut client = WireClient::connect(server.addr, "/socket/websocket?vsn=2.0.0").await;
    let message = vec![b' '; spaces];
    let mut fragments = message.chunks(1_000_000).enumerate().peekable();
    while let Some((index, fragment)) = fragments.next() {
        let frame = RawFrame {
            fin: fragments.peek().is_none(),
            ..RawFrame::new(u8::from(index == 0), fragment)
        };
        // The server may close before it has read everything.
        if client.send_raw_frame(&frame).await.is_err() {
            break;
        }
    }
    client.recv(1, DEADLINE).await
}

/// Requirement 48.
async fn fragments_over_eight_megabytes_are_closed_with_1009() {
    let server = chat(SocketOptions::default());
    let read = closed_after(&server, 8_000_000).await;
    assert_eq!(read, [Frame::Close(Some(1011))], "read, and no message");
    let refused = closed_after(&server, 8_000_001).await;
    assert_eq!(refused, [Frame::Close(Some(1009))]);
}

/// Requirement 50.
async fn what_the_server_sends_does_not_keep_a_silent_connection() {
    assert_eq!(SocketOptions::default().timeout, Duration::from_secs(60));
    let timeout = Duration::from_millis(400);
    let server = chat(SocketOptions::default().timeout(timeout));
    let mut silent = Phoenix::connect(server.addr).await;
    silent.join("random:lobby").await;
    let mut alive = Phoenix::connect(server.addr).await;
    let (join_ref, _) = alive.join("random:lobby").await;
    const SHOUTS: usize = 12;
    for n in 0..SHOUTS {
        let shout = json!({ "n": n });
        alive.push(&join_ref, "random:lobby", "shout", shout).await;
        assert_eq!(alive.next_event().await.0, "shout");
        // The pace of the test, well below the timeout; the sum is three times the timeout.
        tokio::time::sleep(timeout / 4).await;
    }
    let mut received = silent.wire.recv(SHOUTS + 2, DEADLINE).await;
    assert_eq!(received.pop(), Some(Frame::Eof));
    assert_eq!(received.pop(), Some(Frame::Close(Some(1002))));
    assert!((1..SHOUTS).contains(&received.len()), "{received:?}");
}
