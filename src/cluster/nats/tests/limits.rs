//! What a server refuses, and nodes at several servers.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use tempfile::TempDir;

use super::{Node, Server, node, node_with, options};
use crate::cluster::bus::{Away, Bus, To};
use crate::cluster::tests::support::{Proxy, free_port, message, until, wait};
use crate::lock::lock;

/// The text of a message that is longer than a server's own limit.
fn long() -> String {
    "x".repeat(2_000_000)
}

#[test]
fn a_message_that_is_too_long_is_dropped_and_the_others_go_on() {
    let server = Server::start(&[]);
    let node = node(server.url());
    node.bus.send(To::All, message(node.id, 1, &long()));
    let told = node.bus.tell(To::All, message(node.id, 2, &long()));
    assert_eq!(wait(told), Err(Away));
    let told = node.bus.tell(To::All, message(node.id, 3, ""));
    assert_eq!(wait(told), Ok(()));
    until("the short one is told", || {
        lock(&node.heard.told).len() == 1
    });
    let totals = node.bus.totals();
    assert_eq!(
        (totals.dropped, totals.sent, totals.waiting_bytes),
        (2, 1, 0)
    );
    assert_eq!(node.heard.downs.load(SeqCst), 0);
    let log = String::from_utf8(lock(&node.heard.log).clone()).expect("text");
    assert_eq!(log.matches("cluster.message.too_long").count(), 1, "{log}");
}

#[test]
fn a_server_that_takes_longer_messages_gets_them() {
    let dir = TempDir::new().expect("a folder");
    let server = Server::configured(&dir, "max_payload: 8MB\n");
    let node = node(server.url());
    node.attach("room");
    for nonce in 0..5 {
        let message = message(node.id, nonce, &long());
        assert_eq!(wait(node.bus.tell(To::Topic("room"), message)), Ok(()));
    }
    until("all have arrived", || node.arrived("room").len() == 5);
    assert_eq!(node.heard.downs.load(SeqCst), 0);
}

/// The server closes the connection of a node that does not read. The node notices, and has all topics afterwards.
#[test]
fn a_node_that_the_server_gives_up_is_down_and_then_up() {
    let dir = TempDir::new().expect("a folder");
    let config = "max_pending: 1MB\nwrite_deadline: \"100ms\"\n";
    let server = Server::configured(&dir, config);
    let proxy = Proxy::start(server.port);
    let mut patient = options(format!("nats://127.0.0.1:{}", proxy.port));
    // The server loses its patience, not the node.
    patient.timing.answer = Duration::from_secs(60);
    patient.timing.renew_every = Duration::from_secs(60);
    let slow = node_with(patient);
    until("the bus is up", || slow.bus.is_up());
    slow.attach("room");
    proxy.faults.hang_down.store(true, SeqCst);
    let sends = node(server.url());
    // The system keeps some megabytes on the way.
    for nonce in 0..200 {
        let message = message(sends.id, nonce, &"x".repeat(500_000));
        if wait(sends.bus.tell(To::Topic("room"), message)).is_err() {
            break;
        }
    }
    proxy.faults.hang_down.store(false, SeqCst);
    until("the bus has been down", || {
        slow.heard.downs.load(SeqCst) == 1
    });
    until("the topic is attached again", || slow.attached("room") == 2);
    let before = slow.arrived("room").len();
    sends
        .bus
        .send(To::Topic("room"), message(sends.id, 999, ""));
    until("messages arrive", || slow.arrived("room").len() > before);
}

#[test]
fn a_connection_on_which_nothing_comes_back_is_given_up() {
    let dir = TempDir::new().expect("a folder");
    // Who connects may ask, and hears nothing of what is published.
    let server = Server::configured(&dir, "max_subscriptions: 2\n");
    let node = node_with(options(server.url()));
    until("it is logged", || {
        let log = String::from_utf8_lossy(&lock(&node.heard.log)).into_owned();
        log.contains("maximum subscriptions")
    });
    assert!(!node.bus.is_up());
}

#[test]
fn nodes_at_two_servers_of_one_nats_cluster_do_not_hear_each_other() {
    let (route, other_route) = (free_port(), free_port());
    let cluster = |own: u16, other: u16| {
        let args = ["--cluster_name", "many", "--cluster"];
        let (own, other) = (
            format!("nats://127.0.0.1:{own}"),
            format!("nats://127.0.0.1:{other}"),
        );
        Server::start(&[&args[..], &[&own, "--routes", &other]].concat())
    };
    let servers = [cluster(route, other_route), cluster(other_route, route)];
    let [first, other] = servers.each_ref().map(|server| node(server.url()));
    let same = node(servers[0].url());
    let all: [&Node; 3] = [&first, &other, &same];
    for node in all {
        node.attach("room");
    }
    for _ in 0..50 {
        first.bus.send(To::Topic("room"), message(first.id, 1, ""));
        first.bus.send(To::All, message(first.id, 1, ""));
        std::thread::sleep(Duration::from_millis(10));
    }
    until("it arrives at the same server", || {
        same.arrived("room").len() == 50
    });
    assert!(other.arrived("room").is_empty() && lock(&other.heard.told).is_empty());
    let name = |node: &Node| lock(&node.heard.ups)[0].clone();
    assert_eq!(name(&first), name(&same));
    assert_ne!(name(&first), name(&other));
}
