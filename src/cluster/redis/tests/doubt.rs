//! Publishes whose answers are lost: each is answered once, and none is stored twice.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use super::support::{Node, Proxy, Server, nonce_of, until, wait};
use crate::cluster::bus::{Answer, Bus, NodeId, Sequencer};
use crate::cluster::wire;
use crate::lock::lock;
use crate::log::MessageId;

/// The places at which the journal has the node's messages, by nonce.
fn rows(reader: &Node, topic: &str, author: NodeId) -> HashMap<u64, Vec<MessageId>> {
    let position = wait(reader.bus.read(topic)).expect("up").expect("a run");
    let mut rows: HashMap<u64, Vec<MessageId>> = HashMap::new();
    for (seq, message) in position.journal {
        assert_eq!(wire::header(&message).expect("a header").author, author);
        let id = MessageId::new(position.epoch, seq);
        rows.entry(nonce_of(&message)).or_default().push(id);
    }
    rows
}

/// A random number below `end`.
fn below(end: u64) -> u64 {
    getrandom::u64().expect("random numbers") % end
}

/// Cuts the proxy in one of several ways for some milliseconds.
fn cut(proxy: &Proxy) {
    let faults = &proxy.faults;
    let pause = |most| std::thread::sleep(Duration::from_millis(below(most)));
    match below(5) {
        0 => proxy.reset(),
        1 => {
            proxy.hang_old();
            pause(1200);
            proxy.release_old();
        }
        which => {
            let direction = match which {
                2 => &faults.hang,
                3 => &faults.hang_up,
                _ => &faults.hang_down,
            };
            direction.store(true, SeqCst);
            pause(700);
            if below(2) == 0 {
                proxy.reset();
            }
            direction.store(false, SeqCst);
        }
    }
}

/// Publishes a thousand messages while the connection is cut again and again.
fn publish_under_cuts(attached: bool) {
    let server = Server::start();
    let proxy = Proxy::start(server.port);
    let (node, reader) = (Node::start(proxy.url()), Node::start(server.url()));
    let topics = ["a", "b", "c"];
    for topic in topics {
        reader.begin(topic);
        if attached {
            node.attach(topic);
        }
    }
    let published = AtomicBool::new(false);
    let (nonces, cuts) = std::thread::scope(|scope| {
        let cuts = scope.spawn(|| {
            let mut cuts = 0;
            while !published.load(SeqCst) {
                cut(&proxy);
                cuts += 1;
                std::thread::sleep(Duration::from_millis(below(100)));
            }
            cuts
        });
        let publish = |number: usize| {
            std::thread::sleep(Duration::from_micros(below(10_000)));
            node.publish(topics[number % 3])
        };
        let nonces: Vec<u64> = (0..1000).map(publish).collect();
        published.store(true, SeqCst);
        (nonces, cuts.join().expect("cuts"))
    });
    until("all are answered", || {
        nonces.iter().all(|nonce| node.answers(*nonce) > 0)
    });
    let taken: HashMap<u64, MessageId> = nonces
        .iter()
        .filter_map(|nonce| match node.answer(*nonce) {
            Answer::Taken(id) => Some((*nonce, id)),
            Answer::Unconfirmed => None,
            other => panic!("{other:?}"),
        })
        .collect();
    let mut stored = HashMap::new();
    for topic in topics {
        stored.extend(rows(&reader, topic, node.id));
    }
    assert!(stored.values().all(|ids| ids.len() == 1), "stored twice");
    for (nonce, id) in &taken {
        assert_eq!(stored.get(nonce), Some(&vec![*id]));
    }
    // The liveness key outlasts these cuts, and the server is the same: all can be found out.
    assert_eq!(taken.len(), 1000);
    let counters = node.bus.counters();
    eprintln!(
        "{cuts} cuts, {} downs, {} in doubt, {} sent again",
        node.heard.downs.load(SeqCst),
        counters.in_doubt.load(SeqCst),
        counters.resent.load(SeqCst)
    );
    assert!(counters.in_doubt.load(SeqCst) > 0);
    assert_eq!(counters.waiting_bytes.load(SeqCst), 0);
}

#[test]
fn publishes_under_cuts_are_answered_and_stored_once() {
    publish_under_cuts(false);
}

#[test]
fn publishes_to_attached_topics_under_cuts_are_answered_and_stored_once() {
    publish_under_cuts(true);
}

#[test]
fn a_taken_message_whose_answer_is_lost_is_found() {
    let server = Server::start();
    let proxy = Proxy::start(server.port);
    let (node, reader) = (Node::start(proxy.url()), Node::start(server.url()));
    reader.begin("room");
    proxy.faults.hang_down.store(true, SeqCst);
    let nonce = node.publish("room");
    until("it is stored", || rows(&reader, "room", node.id).len() == 1);
    assert_eq!(node.answers(nonce), 0);
    proxy.reset();
    proxy.faults.hang_down.store(false, SeqCst);
    let Answer::Taken(id) = node.answer(nonce) else {
        panic!("not taken");
    };
    assert_eq!(rows(&reader, "room", node.id)[&nonce], [id]);
    assert_eq!(node.bus.counters().resent.load(SeqCst), 0);
}

#[test]
fn what_an_old_connection_holds_back_is_never_executed() {
    let server = Server::start();
    let proxy = Proxy::start(server.port);
    let (node, reader) = (Node::start(proxy.url()), Node::start(server.url()));
    reader.begin("room");
    proxy.hang_old();
    let nonces: Vec<u64> = (0..100).map(|_| node.publish("room")).collect();
    for nonce in &nonces {
        assert!(matches!(node.answer(*nonce), Answer::Taken(_)));
    }
    assert_eq!(node.bus.counters().resent.load(SeqCst), 100);
    proxy.release_old();
    node.publish_until_taken("room");
    // The old connection of the proxy ends at the latest when its bytes arrive.
    until("the server has four clients of ours", || {
        let clients: String = server.run(&["CLIENT", "LIST"]);
        clients.matches("name=slackir").count() == 4
    });
    let rows = rows(&reader, "room", node.id);
    assert_eq!(rows.len(), 101);
    assert!(rows.values().all(|ids| ids.len() == 1));
}

#[test]
fn another_process_leaves_publishes_unconfirmed() {
    let mut server = Server::start();
    let proxy = Proxy::start(server.port);
    let (node, reader) = (Node::start(proxy.url()), Node::start(server.url()));
    node.begin("room");
    proxy.faults.hang_down.store(true, SeqCst);
    let in_doubt = node.publish("room");
    until("it is stored", || rows(&reader, "room", node.id).len() == 1);
    server.kill();
    until("the bus is down", || !node.bus.is_up());
    let waits = node.publish("room");
    proxy.faults.hang_down.store(false, SeqCst);
    server.start_again();
    assert_eq!(node.answer(in_doubt), Answer::Unconfirmed);
    assert_eq!(node.answer(waits), Answer::NoRun);
    assert_eq!(node.bus.counters().unconfirmed.load(SeqCst), 1);
}

#[test]
fn a_journal_that_others_may_have_emptied_proves_nothing() {
    let server = Server::start();
    let proxy = Proxy::start(server.port);
    let (node, reader) = (Node::start(proxy.url()), Node::start(server.url()));
    reader.begin("room");
    proxy.faults.hang_down.store(true, SeqCst);
    let nonce = node.publish("room");
    until("it is stored", || rows(&reader, "room", node.id).len() == 1);
    proxy.faults.refuse.store(true, SeqCst);
    proxy.reset();
    // Until then the proxy might still let the answer pass.
    until("the node has lost its connections", || !node.bus.is_up());
    proxy.faults.hang_down.store(false, SeqCst);
    // The other node takes this one for dead, and stores its messages.
    until("the node seems dead", || {
        wait(reader.bus.is_alive(node.id)) == Ok(false)
    });
    reader.bus.stored("room", &[crate::log::Seq::new(1)]);
    until("the journal is empty", || {
        rows(&reader, "room", node.id).is_empty()
    });
    proxy.faults.refuse.store(false, SeqCst);
    assert_eq!(node.answer(nonce), Answer::Unconfirmed);
    assert!(rows(&reader, "room", node.id).is_empty());
}

#[test]
fn an_echo_before_the_loss_is_an_answer() {
    let server = Server::start();
    let reader = Node::start(server.url());
    let proxy = Proxy::start(server.port);
    let node = Node::start(proxy.url());
    reader.begin("room");
    reader.attach("room");
    node.attach("room");
    // Both connections hang downwards after the echo: the commands' connection was opened first.
    proxy.faults.hang_commands_down(true);
    let nonce = node.publish("room");
    until("the echo is here", || node.arrived("room").len() == 1);
    assert_eq!(node.answers(nonce), 0);
    reader.bus.stored("room", &[crate::log::Seq::new(1)]);
    until("the journal is empty", || {
        rows(&reader, "room", node.id).is_empty()
    });
    proxy.reset();
    proxy.faults.hang_commands_down(false);
    let place = node.arrived("room")[0].0.expect("a place");
    assert_eq!(node.answer(nonce), Answer::Taken(place));
    until("the bus is up", || node.bus.is_up());
    assert!(rows(&reader, "room", node.id).is_empty());
}

#[test]
fn a_forgotten_publish_is_gone_or_answered() {
    let server = Server::start();
    let proxy = Proxy::start(server.port);
    let (node, reader) = (Node::start(proxy.url()), Node::start(server.url()));
    reader.begin("room");
    proxy.hang_old();
    let written = node.publish("room");
    // Until the task has written it, it can be taken back.
    let counters = node.bus.counters();
    // It stays down.
    proxy.faults.refuse.store(true, SeqCst);
    until("the bus is down", || !node.bus.is_up());
    let waits = node.publish("room");
    assert!(node.bus.forget(waits));
    assert!(!node.bus.forget(waits));
    let gone = node.bus.forget(written);
    proxy.faults.refuse.store(false, SeqCst);
    until("the bus is up", || node.bus.is_up());
    let last = node.publish("room");
    assert!(matches!(node.answer(last), Answer::Taken(_)));
    assert_eq!(node.answers(waits), 0);
    if !gone && counters.in_doubt.load(SeqCst) > 0 {
        assert!(matches!(
            node.answer(written),
            Answer::Unconfirmed | Answer::Taken(_)
        ));
    }
    assert!(!node.bus.forget(last));
    assert!(rows(&reader, "room", node.id).len() <= 2);
    assert_eq!(
        lock(&node.heard.answers)
            .values()
            .filter(|all| all.len() > 1)
            .count(),
        0
    );
}
