//! Connections that are lost, hang, or are deaf.

use std::sync::atomic::Ordering::SeqCst;

use super::support::{Node, Proxy, Server, until, wait};
use crate::cluster::bus::{Answer, Away, Bus, NodeId, Sequencer};

#[test]
fn subscriptions_that_bring_nothing_are_given_up() {
    let server = Server::start();
    let proxy = Proxy::start(server.port);
    let node = Node::start(proxy.url());
    node.begin("room");
    node.attach("room");
    proxy.faults.deaf.store(true, SeqCst);
    let nonce = node.publish("room");
    assert!(matches!(node.answer(nonce), Answer::Taken(_)));
    until("the bus has been down", || {
        node.heard.downs.load(SeqCst) == 1
    });
    proxy.faults.deaf.store(false, SeqCst);
    until("the topic is attached again", || node.attached("room") == 2);
    node.publish_until_taken("room");
    until("the message arrives", || !node.arrived("room").is_empty());
}

#[test]
fn a_slow_connection_is_no_lost_one() {
    let server = Server::start();
    let proxy = Proxy::start(server.port);
    let node = Node::start(proxy.url());
    node.begin("room");
    node.attach("room");
    proxy.faults.delay.store(40, SeqCst);
    for _ in 0..10 {
        assert!(matches!(
            node.answer(node.publish("room")),
            Answer::Taken(_)
        ));
    }
    until("all have arrived", || node.arrived("room").len() == 10);
    assert_eq!(node.heard.downs.load(SeqCst), 0);
}

#[test]
fn questions_fail_at_once_while_the_bus_is_down() {
    let mut server = Server::start();
    let node = Node::start(server.url());
    server.kill();
    until("the bus is down", || !node.bus.is_up());
    assert_eq!(wait(node.bus.read("room")), Err(Away));
    assert_eq!(wait(node.bus.lock("room")), Err(Away));
    assert_eq!(wait(node.bus.journals()), Err(Away));
    assert_eq!(wait(node.bus.claim("adopt", 5)), Err(Away));
    assert_eq!(wait(node.bus.is_alive(node.id)), Err(Away));
}

#[test]
fn questions_fail_when_the_connection_is_lost() {
    let server = Server::start();
    let proxy = Proxy::start(server.port);
    let node = Node::start(proxy.url());
    proxy.faults.hang.store(true, SeqCst);
    let questions = [
        node.bus.is_alive(node.id),
        node.bus.is_alive(NodeId::new(1)),
    ];
    proxy.reset();
    for question in questions {
        assert_eq!(wait(question), Err(Away));
    }
    until("the bus has been down", || {
        node.heard.downs.load(SeqCst) == 1
    });
    proxy.faults.hang.store(false, SeqCst);
    until("the bus is up", || node.bus.is_up());
    assert_eq!(wait(node.bus.is_alive(node.id)), Ok(true));
    assert_eq!(wait(node.bus.is_alive(NodeId::new(1))), Ok(false));
}

#[test]
fn a_lost_script_is_loaded_again_and_the_order_stays() {
    let server = Server::start();
    let node = Node::start(server.url());
    node.begin("room");
    node.attach("room");
    let mut nonces = Vec::new();
    for number in 0..2000 {
        nonces.push(node.publish("room"));
        if number % 500 == 250 {
            server.run::<String>(&["SCRIPT", "FLUSH"]);
        }
    }
    until("all have arrived", || node.arrived("room").len() == 2000);
    let arrived = node.arrived("room");
    let heard = arrived
        .iter()
        .map(|(_, bytes)| super::support::nonce_of(bytes));
    assert!(heard.eq(nonces.iter().copied()));
    for nonce in nonces {
        assert!(matches!(node.answer(nonce), Answer::Taken(_)));
    }
    server.run::<String>(&["SCRIPT", "FLUSH"]);
    assert!(wait(node.bus.read("room")).expect("up").is_some());
    assert_eq!(node.heard.downs.load(SeqCst), 0);
}
