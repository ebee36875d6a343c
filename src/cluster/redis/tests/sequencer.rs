//! Runs, journals, locks and client_refs.

use std::sync::atomic::Ordering::SeqCst;

use super::support::{Node, Proxy, Server, message, until, wait};
use crate::cluster::bus::{Answer, Bus, ProcessId, Sequencer};
use crate::lock::lock;
use crate::log::{Epoch, MessageId, Seq};

fn id(seq: i64) -> MessageId {
    MessageId::new(Epoch::new(0x2f), Seq::new(seq))
}

/// The seqs in the journal of a topic.
fn journal(node: &Node, topic: &str) -> Vec<i64> {
    let position = wait(node.bus.read(topic)).expect("up").expect("a run");
    position.journal.iter().map(|(seq, _)| seq.get()).collect()
}

#[test]
fn a_run_is_opened_once_and_read_with_its_journal() {
    let server = Server::start();
    let (node, other) = (Node::start(server.url()), Node::start(server.url()));
    assert_eq!(wait(node.bus.read("room")), Ok(None));
    assert_eq!(node.answer(node.publish("room")), Answer::NoRun);
    let token = wait(node.bus.lock("room")).expect("up").expect("free");
    assert_eq!(wait(other.bus.lock("room")), Ok(None));
    let (epoch, head) = (Epoch::new(0x2f), Seq::new(41));
    let begin = |token| wait(node.bus.begin("room", token, epoch, head));
    assert_eq!(begin(token.clone()), Ok(true));
    assert_eq!(begin(token), Ok(false));
    assert_eq!(other.answer(other.publish("room")), Answer::Taken(id(42)));
    assert_eq!(node.answer(node.publish("room")), Answer::Taken(id(43)));
    let position = wait(node.bus.read("room")).expect("up").expect("a run");
    assert_eq!((position.epoch, position.head), (epoch, Seq::new(43)));
    let process = server.keys().replace("slackir:", "");
    assert_eq!(position.process, ProcessId::new(&process));
    let rows = [
        (Seq::new(42), message(other.id, 1, "hello")),
        (Seq::new(43), message(node.id, 2, "hello")),
    ];
    assert_eq!(position.journal, rows);
    let late = wait(other.bus.lock("room")).expect("up").expect("free");
    assert_eq!(begin(late), Ok(false), "the topic has a run");
    let kept: i64 = server.run(&["TTL", &format!("{}:{{room}}:t", server.keys())]);
    assert!(kept > 600_000);
}

#[test]
fn a_client_ref_is_taken_once_and_an_erasure_leaves_no_row() {
    let server = Server::start();
    let (node, other) = (Node::start(server.url()), Node::start(server.url()));
    node.begin("room");
    node.attach("room");
    let publish = |node: &Node| node.answer(node.publish_as("room", Some("ref"), true));
    assert_eq!(publish(&node), Answer::Taken(id(1)));
    assert_eq!(publish(&other), Answer::First(id(1)));
    assert_eq!(
        node.answer(node.publish_as("room", None, false)),
        Answer::Taken(id(2))
    );
    assert_eq!(journal(&node, "room"), [1]);
    until("both arrive", || node.arrived("room").len() == 2);
    let kept: i64 = server.run(&["TTL", &format!("{}:{{room}}:r:ref", server.keys())]);
    assert!((590..=600).contains(&kept));
}

#[test]
fn stored_rows_leave_the_journal_also_after_a_lost_connection() {
    let server = Server::start();
    let proxy = Proxy::start(server.port);
    let node = Node::start(proxy.url());
    for topic in ["a", "b", "c"] {
        node.begin(topic);
        for _ in 0..20 {
            assert!(matches!(node.answer(node.publish(topic)), Answer::Taken(_)));
        }
    }
    assert_eq!(
        wait(node.bus.journals()),
        Ok(["a", "b", "c"].map(str::to_owned).to_vec())
    );
    let seqs: Vec<Seq> = (1..=20).map(Seq::new).collect();
    node.bus.stored("a", &seqs[..10]);
    node.bus.stored("a", &seqs[10..]);
    until("the journal is empty", || journal(&node, "a").is_empty());
    proxy.faults.hang_up.store(true, SeqCst);
    node.bus.stored("b", &seqs[..19]);
    until("the bus is down", || !node.bus.is_up());
    node.bus.stored("c", &seqs);
    proxy.faults.hang_up.store(false, SeqCst);
    until("the bus is up", || node.bus.is_up());
    until("both journals are short", || {
        journal(&node, "b") == [20] && journal(&node, "c").is_empty()
    });
    assert_eq!(wait(node.bus.journals()), Ok(vec!["b".to_owned()]));
    assert_eq!(wait(node.bus.journaled("b")), Ok(vec![Seq::new(20)]));
    assert_eq!(wait(node.bus.journaled("a")), Ok(Vec::new()));
}

#[test]
fn a_server_that_lost_its_data_has_no_run() {
    let server = Server::start();
    let node = Node::start(server.url());
    node.begin("room");
    assert_eq!(node.answer(node.publish("room")), Answer::Taken(id(1)));
    server.run::<String>(&["FLUSHALL"]);
    assert_eq!(node.answer(node.publish("room")), Answer::NoRun);
    node.begin("room");
    assert_eq!(node.answer(node.publish("room")), Answer::Taken(id(1)));
    until("the node is alive again", || {
        wait(node.bus.is_alive(node.id)) == Ok(true)
    });
}

#[test]
fn a_full_journal_takes_no_message() {
    let server = Server::start();
    let node = Node::start(server.url());
    node.begin("room");
    let fill = "for i = 1, 100000 do redis.call('HSET', KEYS[1], -i, 'x') end return 1";
    let key = format!("{}:{{room}}:j", server.keys());
    server.run::<i64>(&["EVAL", fill, "1", &key]);
    assert_eq!(node.answer(node.publish("room")), Answer::Full);
    server.run::<i64>(&["HDEL", &key, "-1"]);
    assert_eq!(node.answer(node.publish("room")), Answer::Taken(id(1)));
}

#[test]
fn a_server_without_memory_takes_no_message_and_stays_up() {
    let server = Server::start();
    let proxy = Proxy::start(server.port);
    let node = Node::start(proxy.url());
    node.begin("room");
    assert_eq!(node.answer(node.publish("room")), Answer::Taken(id(1)));
    server.run::<String>(&["CONFIG", "SET", "maxmemory", "1"]);
    for _ in 0..3 {
        assert_eq!(node.answer(node.publish("room")), Answer::Full);
    }
    assert_eq!(node.bus.totals().refused, 3);
    let log = String::from_utf8(lock(&node.heard.log).clone()).expect("text");
    assert_eq!(log.matches("cluster.redis.full").count(), 1, "{log}");
    assert_eq!(node.heard.downs.load(SeqCst), 0);
    proxy.reset();
    until("the bus has been down", || {
        node.heard.downs.load(SeqCst) == 1
    });
    until("the bus is up", || node.bus.is_up());
    node.bus.stored("room", &[Seq::new(1)]);
    until("the journal is empty", || journal(&node, "room").is_empty());
    server.run::<String>(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(node.answer(node.publish("room")), Answer::Taken(id(2)));
}

#[test]
fn a_node_that_leaves_has_emptied_the_journals_of_what_is_stored() {
    let server = Server::start();
    let (node, other) = (Node::start(server.url()), Node::start(server.url()));
    for topic in 0..600 {
        let topic = topic.to_string();
        node.begin(&topic);
        assert!(matches!(
            node.answer(node.publish(&topic)),
            Answer::Taken(_)
        ));
        node.bus.stored(&topic, &[Seq::new(1)]);
    }
    assert_eq!(wait(node.bus.leave()), Ok(()));
    assert_eq!(wait(other.bus.journals()), Ok(Vec::new()));
    assert_eq!(wait(other.bus.is_alive(node.id)), Ok(false));
}

#[test]
fn a_name_is_claimed_once() {
    let server = Server::start();
    let (node, other) = (Node::start(server.url()), Node::start(server.url()));
    assert_eq!(wait(node.bus.claim("adopt", 60)), Ok(true));
    assert_eq!(wait(other.bus.claim("adopt", 60)), Ok(false));
    assert_eq!(wait(other.bus.claim("sweep", 60)), Ok(true));
}

#[test]
fn a_dead_node_is_found_dead() {
    let server = Server::start();
    let node = Node::start(server.url());
    let mut short = super::support::node::options(server.url());
    short.timing.liveness = std::time::Duration::from_millis(500);
    let other = Node::with(short);
    until("it is alive", || {
        wait(node.bus.is_alive(other.id)) == Ok(true)
    });
    let key = format!("{}:n:{}", server.keys(), other.id);
    let life = || server.run::<i64>(&["PTTL", &key]);
    until("its key is renewed", || {
        let before = life();
        std::thread::sleep(std::time::Duration::from_millis(5));
        life() > before
    });
    let id = other.id;
    drop(other);
    until("it is dead", || wait(node.bus.is_alive(id)) == Ok(false));
}
