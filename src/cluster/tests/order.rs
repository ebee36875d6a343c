//! Messages arrive once and in order.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use bytes::Bytes;

use super::engine::{Engine, Limits, behind_proxy, node, node_with};
use super::support::{Proxy, message, nonce_of, until, wait};
use crate::cluster::bus::{Away, Bus, To};
use crate::cluster::wire;
use crate::lock::lock;

pub(super) fn what_is_sent_after_the_confirmation_arrives<E: Engine>() {
    let server = E::server();
    let sends = node::<E>(&server);
    let (proxy, hears) = behind_proxy::<E>(&server);
    // What is confirmed too early is not subscribed yet.
    proxy.faults.delay.store(10, SeqCst);
    for number in 0..50 {
        let topic = format!("room:{number}");
        hears.attach(&topic);
        sends
            .bus
            .send(To::Topic(&topic), message(sends.id, number, ""));
    }
    until("each topic has its message", || {
        lock(&hears.heard.arrived).len() == 50
    });
    for (topic, place, message) in lock(&hears.heard.arrived).iter() {
        assert_eq!(*topic, format!("room:{}", nonce_of(message)));
        assert_eq!(*place, None);
    }
}

pub(super) fn messages_of_one_node_keep_their_order<E: Engine>() {
    let server = E::server();
    let (hears, sends) = (node::<E>(&server), node::<E>(&server));
    hears.attach("room");
    for nonce in 0..5000 {
        let message = message(sends.id, nonce, "live");
        sends.bus.send(To::Topic("room"), message.clone());
        match nonce % 3 {
            0 => sends.bus.send(To::All, message),
            1 => sends.bus.send(To::Node(hears.id), message),
            _ => sends.bus.send(To::Node(sends.id), message),
        }
    }
    until("all have arrived", || hears.arrived("room").len() == 5000);
    until("all are told", || {
        lock(&hears.heard.told).len() == 3334 && lock(&sends.heard.told).len() == 3333
    });
    let arrived = hears.arrived("room");
    let nonces: Vec<u64> = arrived.iter().map(|(_, bytes)| nonce_of(bytes)).collect();
    assert!(nonces.iter().copied().eq(0..5000));
    for node in [&hears, &sends] {
        let told = lock(&node.heard.told);
        assert!(told.iter().map(|bytes| nonce_of(bytes)).is_sorted());
    }
    assert_eq!(sends.bus.totals().sent, 10_000);
    until("nothing waits", || sends.bus.totals().waiting_bytes == 0);
}

pub(super) fn three_nodes_hear_each_message_and_their_own_once<E: Engine>() {
    let server = E::server();
    let nodes = [(); 3].map(|()| node::<E>(&server));
    for node in &nodes {
        node.attach("room");
    }
    for nonce in 0..500 {
        for node in &nodes {
            node.bus
                .send(To::Topic("room"), message(node.id, nonce, ""));
        }
    }
    for node in &nodes {
        until("all have arrived", || node.arrived("room").len() == 1500);
        for author in &nodes {
            let arrived = node.arrived("room").into_iter();
            let headers = arrived.map(|(_, bytes)| wire::header(&bytes).expect("a header"));
            let of_author = headers.filter(|header| header.author == author.id);
            assert!(of_author.map(|header| header.nonce).eq(0..500));
        }
    }
    for node in &nodes {
        assert_eq!(node.arrived("room").len(), 1500, "none comes twice");
        assert_eq!(node.bus.totals().received, 1500);
    }
}

/// Whoever hears them skips what he cannot decode.
pub(super) fn any_bytes_are_passed_on<E: Engine>() {
    let server = E::server();
    let nodes = [(); 2].map(|()| node::<E>(&server));
    nodes[0].attach("room");
    let odd: [&[u8]; 6] = [b"", b"\r\n", b"\0\xff", b"PING\r\n", &[1; 100_000], b"end"];
    for bytes in odd {
        let bytes = Bytes::from_static(bytes);
        nodes[1].bus.send(To::Topic("room"), bytes.clone());
        nodes[1].bus.send(To::All, bytes.clone());
        nodes[1].bus.send(To::Node(nodes[0].id), bytes);
    }
    until("all have arrived", || {
        nodes[0].arrived("room").len() == odd.len()
            && lock(&nodes[0].heard.told).len() == 2 * odd.len()
    });
    let arrived = nodes[0].arrived("room").into_iter();
    assert!(arrived.map(|(_, bytes)| bytes).eq(odd));
    for node in &nodes {
        assert_eq!(node.heard.downs.load(SeqCst), 0);
    }
}

pub(super) fn any_topic_has_messages_of_its_own<E: Engine>() {
    let server = E::server();
    let (hears, sends) = (node::<E>(&server), node::<E>(&server));
    let long = "x".repeat(6_000);
    let other = format!("{long}y");
    let topics = [
        "",
        " ",
        ".",
        "*",
        ">",
        "a.b",
        "a.*",
        "a b",
        "a\tb",
        "a\r\nPUB x 0",
        "%",
        "%2E",
        "{a}",
        "ä",
        "日本",
        "a\0b",
        &long,
        &other,
    ];
    for topic in topics {
        hears.attach(topic);
    }
    for (topic, nonce) in topics.iter().zip(0..) {
        sends
            .bus
            .send(To::Topic(topic), message(sends.id, nonce, ""));
    }
    until("all have arrived", || {
        lock(&hears.heard.arrived).len() == topics.len()
    });
    for (topic, nonce) in topics.iter().zip(0..) {
        let arrived = hears.arrived(topic).into_iter();
        let nonces: Vec<u64> = arrived.map(|(_, bytes)| nonce_of(&bytes)).collect();
        assert_eq!(nonces, [nonce], "{topic:?}");
    }
    assert_eq!(hears.heard.downs.load(SeqCst), 0);
}

pub(super) fn messages_over_the_bound_and_while_down_are_dropped_and_counted<E: Engine>() {
    let server = E::server();
    let proxy = Proxy::start(E::port(&server));
    let limits = Limits {
        most_waiting: 1000,
        answer: Duration::from_secs(5),
        ..Limits::default()
    };
    let node = node_with::<E>(proxy.port, limits);
    until("the bus is up", || node.bus.is_up());
    proxy.faults.hang.store(true, SeqCst);
    for nonce in 0..5 {
        node.bus
            .send(To::All, message(node.id, nonce, &"x".repeat(300)));
    }
    assert_eq!(node.bus.totals().dropped, 2);
    proxy.faults.hang.store(false, SeqCst);
    until("the others are told", || lock(&node.heard.told).len() == 3);
    proxy.faults.refuse.store(true, SeqCst);
    proxy.reset();
    until("the bus is down", || !node.bus.is_up());
    node.bus.send(To::All, message(node.id, 9, ""));
    assert_eq!(node.bus.totals().dropped, 3);
    until("nothing waits", || node.bus.totals().waiting_bytes == 0);
}

pub(super) fn what_is_told_is_taken<E: Engine>() {
    let server = E::server();
    let (proxy, teller) = behind_proxy::<E>(&server);
    let hears = node::<E>(&server);
    hears.attach("room");
    for nonce in 0..100 {
        let told = teller
            .bus
            .tell(To::Topic("room"), message(teller.id, nonce, ""));
        assert_eq!(wait(told), Ok(()));
    }
    until("all have arrived", || hears.arrived("room").len() == 100);
    proxy.faults.hang.store(true, SeqCst);
    let told = teller.bus.tell(To::All, message(teller.id, 0, ""));
    proxy.faults.refuse.store(true, SeqCst);
    proxy.reset();
    assert_eq!(wait(told), Err(Away));
    until("the bus is down", || !teller.bus.is_up());
    let told = teller.bus.tell(To::All, message(teller.id, 0, ""));
    assert_eq!(wait(told), Err(Away));
}
