//! Messages arrive once and in order.

use std::sync::atomic::Ordering::SeqCst;

use bytes::Bytes;

use super::support::{Node, Server, message, until};
use crate::cluster::bus::Answer;
use crate::lock::lock;
use crate::log::{Epoch, MessageId, Seq};

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
