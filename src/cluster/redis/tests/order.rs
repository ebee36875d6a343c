//! Messages arrive once and in order.

use std::sync::atomic::Ordering::SeqCst;

use bytes::Bytes;

use super::support::{Node, Server, message, nonce_of, until};
use crate::cluster::bus::{Answer, Bus, To};
use crate::lock::lock;
use crate::log::{Epoch, MessageId, Seq};

#[test]
fn what_is_sent_after_the_confirmation_arrives() {
    let server = Server::start();
    let (hears, sends) = (Node::start(server.url()), Node::start(server.url()));
    for number in 0..200 {
        let topic = format!("room:{number}");
        hears.attach(&topic);
        sends
            .bus
            .send(To::Topic(&topic), message(sends.id, number, ""));
    }
    until("each topic has its message", || {
        lock(&hears.heard.arrived).len() == 200
    });
    for (topic, place, message) in lock(&hears.heard.arrived).iter() {
        assert_eq!(*topic, format!("room:{}", nonce_of(message)));
        assert_eq!(*place, None);
    }
}

#[test]
fn messages_of_one_node_keep_their_order() {
    let server = Server::start();
    let (hears, sends) = (Node::start(server.url()), Node::start(server.url()));
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
        assert!(
            lock(&node.heard.told)
                .iter()
                .map(|bytes| nonce_of(bytes))
                .is_sorted()
        );
    }
    assert_eq!(sends.bus.counters().sent.load(SeqCst), 10_000);
    until("nothing waits", || {
        sends.bus.counters().waiting_bytes.load(SeqCst) == 0
    });
}

#[test]
fn three_nodes_hear_one_order_and_their_own_once() {
    let server = Server::start();
    let nodes = [(); 3].map(|()| Node::start(server.url()));
    nodes[0].begin("room");
    for node in &nodes {
        node.attach("room");
    }
    let mut nonces = Vec::new();
    for _ in 0..200 {
        for node in &nodes {
            nonces.push((node, node.publish("room")));
        }
    }
    until("all have arrived", || {
        nodes.iter().all(|node| node.arrived("room").len() == 600)
    });
    let heard = nodes[0].arrived("room");
    assert_eq!(heard, nodes[1].arrived("room"));
    assert_eq!(heard, nodes[2].arrived("room"));
    let places: Vec<_> = heard.iter().filter_map(|(place, _)| *place).collect();
    let expected = (1..=600).map(|seq| MessageId::new(Epoch::new(0x2f), Seq::new(seq)));
    assert!(places.into_iter().eq(expected));
    for (node, nonce) in nonces {
        let Answer::Taken(id) = node.answer(nonce) else {
            panic!("not taken");
        };
        let own = |(place, bytes): &&(Option<MessageId>, Bytes)| {
            *place == Some(id) && *bytes == message(node.id, nonce, "hello")
        };
        assert_eq!(heard.iter().filter(own).count(), 1);
    }
}

#[test]
fn seqs_beyond_a_lua_number_are_exact() {
    let server = Server::start();
    let node = Node::start(server.url());
    node.attach("room");
    let head = Seq::new((1 << 52) + 12_345_678_901_234);
    let token = super::support::wait(crate::cluster::bus::Sequencer::lock(&*node.bus, "room"));
    let token = token.expect("up").expect("free");
    let epoch = Epoch::new(i64::MAX);
    let begun = crate::cluster::bus::Sequencer::begin(&*node.bus, "room", token, epoch, head);
    assert_eq!(super::support::wait(begun), Ok(true));
    let id = MessageId::new(epoch, head.next());
    assert_eq!(node.answer(node.publish("room")), Answer::Taken(id));
    until("the echo is here", || node.arrived("room").len() == 1);
    assert_eq!(node.arrived("room")[0].0, Some(id));
}

#[test]
fn a_strangers_message_is_passed_on_and_harmless() {
    let server = Server::start();
    let node = Node::start(server.url());
    node.begin("room");
    node.attach("room");
    let channel = format!("{}:{{room}}:c", server.keys());
    let odd = [
        "",
        " ",
        "x",
        "1 2",
        "1 2 ",
        "zz 2 x",
        "1 -2 x",
        "\u{1}\u{1}\u{1}",
    ];
    for text in odd {
        server.run::<i64>(&["PUBLISH", &channel, text]);
    }
    server.run::<i64>(&["PUBLISH", "slackir:all", "x"]);
    server.run::<i64>(&["PUBLISH", &format!("slackir:node:{}", node.id), ""]);
    assert!(matches!(
        node.answer(node.publish("room")),
        Answer::Taken(_)
    ));
    until("all have arrived", || {
        node.arrived("room").len() == odd.len() + 1
    });
    until("all are told", || lock(&node.heard.told).len() == 2);
    let arrived = node.arrived("room");
    for ((place, bytes), text) in arrived.iter().zip(odd) {
        // Of these only one has the form of an ordered message.
        let is_placed = text == "1 2 ";
        assert_eq!(place.is_some(), is_placed);
        assert_eq!(bytes, if is_placed { "" } else { text });
    }
    assert_eq!(node.heard.downs.load(SeqCst), 0);
}

#[test]
fn messages_over_the_bound_and_while_down_are_dropped_and_counted() {
    let server = Server::start();
    let proxy = super::support::Proxy::start(server.port);
    let mut options = super::support::node::options(proxy.url());
    options.most_waiting = 1000;
    options.timing.answer = std::time::Duration::from_secs(5);
    let node = Node::with(options);
    until("the bus is up", || node.bus.is_up());
    proxy.faults.hang.store(true, SeqCst);
    for nonce in 0..5 {
        node.bus
            .send(To::All, message(node.id, nonce, &"x".repeat(300)));
    }
    let counters = node.bus.counters();
    assert_eq!(counters.dropped.load(SeqCst), 2);
    proxy.faults.hang.store(false, SeqCst);
    until("the others are told", || lock(&node.heard.told).len() == 3);
    proxy.faults.refuse.store(true, SeqCst);
    proxy.reset();
    until("the bus is down", || !node.bus.is_up());
    node.bus.send(To::All, message(node.id, 9, ""));
    assert_eq!(counters.dropped.load(SeqCst), 3);
    until("nothing waits", || counters.waiting_bytes.load(SeqCst) == 0);
}
