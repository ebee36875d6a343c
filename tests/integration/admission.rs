//! How many connections there may be: of the server, of one address, and without a channel.

use std::net::SocketAddr;
use std::time::Duration;

use slackir::admission::{AddressLimit, Admission, AdmissionOptions};
use slackir::endpoint::TransportOptions;
use slackir::pubsub::PubSub;
use slackir::server::rooms::{Room, UserSocket, router};
use slackir::transport::LongPollOptions;
use slackir::{Endpoint, Mount};
use tempfile::TempDir;
use tokio::time::sleep;

use crate::support::phoenix::Phoenix;
use crate::support::poller::Poller;
use crate::support::process::Process;
use crate::support::server::{TestServer, over_both_drivers};
use crate::support::wire::{Frame, Headers, WireClient, http};

const WEBSOCKET: &str = "/socket/websocket?vsn=2.0.0";
const LONGPOLL: &str = "/socket/longpoll?vsn=2.0.0";
const WINDOW: Duration = Duration::from_millis(400);

over_both_drivers! {
    sessions_and_websockets_share_the_room_of_the_server
    an_address_has_so_many_connections_and_a_proxy_names_it
    a_connection_without_a_channel_makes_room_when_the_server_is_full
}

fn server(options: AdmissionOptions) -> TestServer {
    TestServer::start(move || {
        let transports = TransportOptions::default()
            .longpoll("longpoll")
            .longpoll_options(LongPollOptions::default().window(WINDOW));
        Endpoint::builder(PubSub::new())
            .admission(Admission::new(options))
            .mount(
                Mount::new("/socket", UserSocket, router(&[Room::default()]))
                    .transports(transports),
            )
            .build()
    })
}

/// The status of a handshake, and the connection if it has become one.
async fn connect(addr: SocketAddr, headers: Headers<'_>) -> (u16, Option<WireClient>) {
    let opened = WireClient::open(addr, WEBSOCKET, headers).await;
    match opened.expect("an answer") {
        Ok(client) => (101, Some(client)),
        Err(answer) => (answer.status, None),
    }
}

async fn sessions_and_websockets_share_the_room_of_the_server() {
    let server = server(AdmissionOptions::default().max_connections(2));
    let _session = Poller::open(server.addr).await;
    let (status, websocket) = connect(server.addr, &[]).await;
    assert_eq!(status, 101);
    assert_eq!(connect(server.addr, &[]).await.0, 503);
    let refused = http(server.addr, "GET", LONGPOLL, &[], b"").await;
    let refused = refused.expect("an answer");
    assert_eq!((refused.status, &*refused.body), (503, &b""[..]));
    drop(websocket);
    while server.endpoint.connections() == 2 {
        sleep(Duration::from_millis(5)).await;
    }
    Poller::open(server.addr).await;
    // Both sessions end for want of polls, and leave their room.
    while server.endpoint.connections() > 0 {
        sleep(Duration::from_millis(5)).await;
    }
    let _both = [
        connect(server.addr, &[]).await,
        connect(server.addr, &[]).await,
    ];
    assert_eq!(connect(server.addr, &[]).await.0, 503);
}

async fn an_address_has_so_many_connections_and_a_proxy_names_it() {
    let server = server(AdmissionOptions::default().per_address(AddressLimit::new(1)));
    let forwarded = |value| [("X-Forwarded-For", Some(value))];
    let mut open = Vec::new();
    for (address, status) in [
        ("192.0.2.7", 101),
        ("192.0.2.7", 429),
        ("192.0.2.8", 101),
        // What a client says of itself stands to the left of what the proxy says.
        ("203.0.113.1, 192.0.2.8", 429),
        ("2001:db8::1", 101),
        ("2001:db8::ffff", 429),
    ] {
        let (answered, client) = connect(server.addr, &forwarded(address)).await;
        assert_eq!(answered, status, "{address}");
        open.extend(client);
    }
    let polled = http(server.addr, "GET", LONGPOLL, &forwarded("192.0.2.7"), b"").await;
    assert_eq!(polled.expect("an answer").status, 429);
    // Whoever names nobody is counted, too, where the limit was set.
    let (status, _alone) = connect(server.addr, &[]).await;
    assert_eq!((status, connect(server.addr, &[]).await.0), (101, 429));
}

async fn a_connection_without_a_channel_makes_room_when_the_server_is_full() {
    const JOIN_WITHIN: Duration = Duration::from_secs(2);
    let server = server(
        AdmissionOptions::default()
            .max_connections(2)
            .join_within(JOIN_WITHIN),
    );
    let mut member = Phoenix::connect(server.addr).await;
    member.join("random:lobby").await;
    let (_, idler) = connect(server.addr, &[]).await;
    assert_eq!(
        connect(server.addr, &[]).await.0,
        503,
        "it has not had its time"
    );
    sleep(JOIN_WITHIN).await;
    let (status, _newcomer) = connect(server.addr, &[]).await;
    assert_eq!(status, 101);
    let mut idler = idler.expect("it was let in");
    let heard = idler.recv(1, Duration::from_secs(5)).await;
    assert_eq!(heard, [Frame::Close(Some(1013))]);
    // The newcomer has not had its time.
    assert_eq!(connect(server.addr, &[]).await.0, 503);
    member.heartbeat().await;
}

#[actix_web::test]
async fn the_limit_of_an_address_is_a_setting_and_refusals_are_counted() {
    let dir = TempDir::new().expect("a folder");
    let args = ["--persist", "off", "--max-connections-per-ip", "1"];
    let server = Process::start(&dir, &args);
    let (status, _first) = connect(server.addr, &[]).await;
    assert_eq!((status, connect(server.addr, &[]).await.0), (101, 429));
    let metrics = http(server.addr, "GET", "/metrics", &[], b"").await;
    let metrics = String::from_utf8(metrics.expect("an answer").body.to_vec()).expect("text");
    assert!(
        metrics.contains("slackir_connections_refused_total{reason=\"ip_limit\"} 1\n"),
        "{metrics}"
    );
}

#[actix_web::test]
async fn an_address_that_nobody_trusts_has_so_many_streams() {
    let dir = TempDir::new().expect("a folder");
    let args = [
        "--persist",
        "off",
        "--max-connections-per-ip",
        "2",
        "--trusted-proxies",
        "none",
    ];
    let server = Process::start(&dir, &args);
    let (_, first) = connect(server.addr, &[]).await;
    let (_, second) = connect(server.addr, &[]).await;
    let refused = http(server.addr, "GET", "/healthz", &[], b"").await;
    assert!(refused.is_err() || refused.is_ok_and(|answer| answer.status == 429));
    drop((first, second));
    let mut answer = http(server.addr, "GET", "/healthz", &[], b"").await;
    while !answer.as_ref().is_ok_and(|answer| answer.status == 200) {
        sleep(Duration::from_millis(10)).await;
        answer = http(server.addr, "GET", "/healthz", &[], b"").await;
    }
}
