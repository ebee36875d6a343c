//! Attached topics, many of them, over lost connections.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use super::engine::{Engine, behind_proxy, node};
use super::support::{Node, message, until};
use crate::cluster::bus::{Bus, To};
use crate::lock::lock;

/// Sends until the topic's message has arrived.
fn arrives<B: Bus>(from: &Node<B>, to: &Node<B>, topic: &str) {
    let before = to.arrived(topic).len();
    until("a message arrives", || {
        from.bus.send(To::Topic(topic), message(from.id, 0, ""));
        std::thread::sleep(Duration::from_millis(5));
        to.arrived(topic).len() > before
    });
}

pub(super) fn a_hundred_thousand_topics_are_attached_and_again_after_a_cut<E: Engine>() {
    let server = E::server();
    let (proxy, node) = behind_proxy::<E>(&server);
    let names: Vec<String> = (0..100_000)
        .map(|number| format!("room:{number}"))
        .collect();
    for name in &names {
        node.bus.attach(name);
    }
    let all_attached = |times: usize| {
        let attached = lock(&node.heard.attached);
        attached.len() == names.len() && attached.values().all(|number| *number >= times)
    };
    until("all are attached", || all_attached(1));
    proxy.reset();
    until("all are attached again", || all_attached(2));
    for name in names.iter().step_by(11_111) {
        arrives(&node, &node, name);
    }
    for name in &names {
        node.bus.detach(name);
    }
    until("the server has no topic left", || E::topics(&server) == 0);
}

pub(super) fn a_server_killed_while_subscribing_has_all_topics_afterwards<E: Engine>() {
    let mut server = E::server();
    let node = node::<E>(&server);
    for number in 0..10_000 {
        node.bus.attach(&format!("room:{number}"));
    }
    until("some are attached", || {
        lock(&node.heard.attached).len() > 100
    });
    E::kill(&mut server);
    until("the bus is down", || !node.bus.is_up());
    E::start_again(&mut server);
    until("the server has all topics", || E::topics(&server) == 10_000);
    until("all are attached", || {
        lock(&node.heard.attached).len() == 10_000
    });
    let ups = lock(&node.heard.ups).clone();
    assert_eq!(ups.len(), 2);
    assert_ne!(ups[0], ups[1]);
}

pub(super) fn a_node_that_was_away_long_is_subscribed_again<E: Engine>() {
    let server = E::server();
    let other = node::<E>(&server);
    let (proxy, node) = behind_proxy::<E>(&server);
    node.attach("before");
    proxy.faults.refuse.store(true, SeqCst);
    proxy.reset();
    until("the bus is down", || !node.bus.is_up());
    node.bus.attach("meanwhile");
    node.bus.detach("before");
    node.bus.attach("before");
    // As many attempts as a bus with the default limits has in 20 s.
    let before = proxy.faults.connections.load(SeqCst);
    until("it has tried often", || {
        proxy.faults.connections.load(SeqCst) > before + 15
    });
    proxy.faults.refuse.store(false, SeqCst);
    until("both are attached", || {
        node.attached("before") == 2 && node.attached("meanwhile") == 1
    });
    arrives(&other, &node, "before");
    arrives(&other, &node, "meanwhile");
}

pub(super) fn attach_and_detach_in_quick_turns_end_as_the_last_call_says<E: Engine>() {
    let server = E::server();
    let node = node::<E>(&server);
    for number in 0..100 {
        let topic = format!("room:{number}");
        for _ in 0..10 {
            node.bus.attach(&topic);
            node.bus.detach(&topic);
        }
        if number % 2 == 0 {
            node.bus.attach(&topic);
        }
    }
    until("half of them are subscribed", || E::topics(&server) == 50);
    for number in (0..100).step_by(2) {
        arrives(&node, &node, &format!("room:{number}"));
    }
    // An attach of what is attached is answered as well.
    node.attach("room:0");
}
