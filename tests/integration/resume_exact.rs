//! Resumes under fire: connections are cut at random moments, also during the join, while others
//! shout as fast as they can. Every client ends with exactly the topic's messages, in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::database::{Database, on_each_database};
use crate::support::peer::Peer;
use crate::support::random::Random;

const TOPIC: &str = "random:storm";
const CLIENTS: usize = 25;
const PUBLISHERS: usize = 4;
/// Messages of a test. Nobody may miss more than 10,000, and a client that is often away sees few of them before its end.
const MESSAGES: u64 = 9_000;

/// How often the clients come back, together. `scripts/faults` asks for more.
fn reconnects() -> usize {
    let asked = std::env::var("SLACKIR_RECONNECTS").ok();
    asked.map_or(1_000, |asked| asked.parse().expect("a number"))
}

/// What one client has seen: the numbers of the messages, in the order in which they came.
struct Client {
    addr: SocketAddr,
    last_seen: Value,
    seen: Vec<u64>,
    random: Random,
}

impl Client {
    /// Connects, asks for what it missed, and reads for a while; then the line goes dead.
    async fn visit(&mut self, patience: usize) {
        let mut peer = Peer::connect(self.addr).await.expect("the server listens");
        let params = json!({"meta": true, "history": "none", "last_seen_id": self.last_seen});
        let join = peer.join(TOPIC, params).await.expect("the line is open");
        for _ in 0..patience {
            let heard = peer.next().await.expect("the server keeps the line");
            match heard.event.as_str() {
                "shout" => self.note(&heard.payload),
                "phx_reply" if heard.reference == join => self.joined(&heard.payload),
                other => panic!("nothing else should come: {other} {:?}", heard.payload),
            }
        }
    }

    fn joined(&mut self, reply: &Value) {
        assert_eq!(reply["status"], "ok", "{reply}");
        let response = &reply["response"];
        if self.last_seen.is_null() {
            self.last_seen = response["last_id"].clone();
        } else {
            assert_eq!(response["recovered"], true, "{response}");
        }
    }

    fn note(&mut self, payload: &Value) {
        self.last_seen = payload["_meta"]["id"].clone();
        self.seen.push(payload["n"].as_u64().expect("a number"));
    }

    /// Comes and goes, then stays until it has seen the last message.
    async fn live(mut self, storm: Arc<Storm>) -> Vec<u64> {
        for _ in 0..storm.visits {
            // Nothing: the line is cut during the join.
            let patience = self.random.below(60).saturating_sub(10);
            self.visit(patience).await;
            let away = self.random.below(20) as u64;
            tokio::time::sleep(Duration::from_millis(away)).await;
            storm.visited.fetch_add(1, Ordering::SeqCst);
        }
        let mut peer = Peer::connect(self.addr).await.expect("the server listens");
        let params = json!({"meta": true, "history": "none", "last_seen_id": self.last_seen});
        let join = peer.join(TOPIC, params).await.expect("the line is open");
        while self
            .seen
            .last()
            .is_none_or(|n| *n != storm.last.load(Ordering::SeqCst))
        {
            let heard = peer.next().await.expect("the server keeps the line");
            match heard.event.as_str() {
                "shout" => self.note(&heard.payload),
                _ => {
                    assert_eq!(heard.reference, join);
                    self.joined(&heard.payload);
                }
            }
        }
        self.seen
    }
}

/// What clients and publishers have in common.
#[derive(Default)]
struct Storm {
    /// How often each client comes.
    visits: usize,
    /// How often clients have come.
    visited: AtomicU64,
    /// The number of the next message.
    next: AtomicU64,
    /// The number of the last message; 0 until it is known.
    last: AtomicU64,
}

impl Storm {
    fn all_visits(&self) -> u64 {
        (self.visits * CLIENTS) as u64
    }

    fn is_over(&self) -> bool {
        self.visited.load(Ordering::SeqCst) == self.all_visits()
    }

    /// The number of a message; `None` if the clients must come more often first.
    fn number(&self) -> Option<u64> {
        let visited = self.visited.load(Ordering::SeqCst);
        let allowed = 200 + MESSAGES * visited / self.all_visits();
        let is_early = self.next.load(Ordering::SeqCst) < allowed;
        is_early.then(|| self.next.fetch_add(1, Ordering::SeqCst))
    }
}

/// Shouts, one after the other as fast as they come back, until the storm is over.
async fn publish(addr: SocketAddr, storm: Arc<Storm>) {
    let mut peer = Peer::connect(addr).await.expect("the server listens");
    let join = peer.join(TOPIC, json!({"history": "none"})).await;
    let join = join.expect("the line is open");
    peer.reply(&join).await.expect("the join is answered");
    while !storm.is_over() {
        let Some(n) = storm.number() else {
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        };
        peer.push(TOPIC, "shout", json!({ "n": n }))
            .await
            .expect("the line is open");
        while peer.next().await.expect("the line is open").payload["n"] != n {}
    }
}

async fn storm(database: &Database, args: &[&str]) {
    let server = database.serve(args);
    let storm = Arc::new(Storm {
        visits: reconnects().div_ceil(CLIENTS),
        next: AtomicU64::new(1),
        ..Storm::default()
    });
    let clients: Vec<_> = (0..CLIENTS)
        .map(|seed| {
            let client = Client {
                addr: server.addr,
                last_seen: Value::Null,
                seen: Vec::new(),
                random: Random::new(seed as u64),
            };
            tokio::spawn(client.live(Arc::clone(&storm)))
        })
        .collect();
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|_| tokio::spawn(publish(server.addr, Arc::clone(&storm))))
        .collect();
    while !storm.is_over() {
        assert!(
            clients.iter().filter(|client| client.is_finished()).count() == 0,
            "a client gave up"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for publisher in join_all(publishers).await {
        publisher.expect("a publisher goes on to the end");
    }
    // The last message, that everybody stays for.
    let end = storm.next.fetch_add(1, Ordering::SeqCst);
    storm.last.store(end, Ordering::SeqCst);
    let mut peer = Peer::connect(server.addr)
        .await
        .expect("the server listens");
    let join = peer
        .join(TOPIC, json!({"history": "none"}))
        .await
        .expect("open");
    peer.reply(&join).await.expect("the join is answered");
    peer.push(TOPIC, "shout", json!({ "n": end })).await;
    let seen: Vec<Vec<u64>> = join_all(clients)
        .await
        .into_iter()
        .map(|client| client.expect("a client goes on to the end"))
        .collect();

    // The order is the topic's own, which the table has.
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0));
    let stored = database.payloads(TOPIC);
    let stored: Vec<u64> = stored
        .iter()
        .map(|payload| payload["n"].as_u64().expect("a number"))
        .collect();
    for seen in seen {
        let from = seen.first().expect("everybody has seen the end");
        let at = stored.iter().position(|n| n == from).expect("it is stored");
        assert!(
            stored[at..] == seen[..],
            "{} of {}",
            seen.len(),
            stored.len() - at
        );
    }
}

async fn clients_whose_lines_are_cut_miss_nothing_and_see_nothing_twice(database: Database) {
    storm(&database, &[]).await;
}

async fn nor_do_they_in_strict_rooms(database: Database) {
    storm(&database, &["--durability", "strict"]).await;
}

on_each_database! {
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    clients_whose_lines_are_cut_miss_nothing_and_see_nothing_twice,
    nor_do_they_in_strict_rooms,
}
