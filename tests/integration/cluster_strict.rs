//! Nodes of a cluster with `durability = "strict"`: PostgreSQL gives the order, and Redis or NATS only tells. Real
//! processes, one PostgreSQL.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::api::{Program, TOKEN};
use crate::support::bus::{Bus, Engine};
use crate::support::database::Database;
use crate::support::peer::Peer;
use crate::support::process::Process;
use crate::support::random::Random;
use crate::support::wire::http;

const TOPIC: &str = "random:lobby";

/// Nodes on one database and one Redis or NATS.
struct Cluster {
    database: Database,
    bus: Option<Bus>,
    engine: Engine,
    port: u16,
}

impl Cluster {
    fn new() -> Self {
        Self::over(Engine::Redis)
    }

    fn over(engine: Engine) -> Self {
        let bus = Bus::start(engine);
        Self {
            database: Database::postgres(),
            port: bus.port(),
            engine,
            bus: Some(bus),
        }
    }

    /// A node with a folder of its own.
    fn node(&self) -> (Process, TempDir) {
        self.node_at(&self.database.url)
    }

    /// A node that reaches the database at this URL.
    fn node_at(&self, database: &str) -> (Process, TempDir) {
        let dir = TempDir::new().expect("a folder");
        let mut args = vec!["--database-url", database, "--api-token", TOKEN];
        if self.engine == Engine::Redis {
            args.extend(["--durability", "strict"]);
        }
        let bus = self.engine.url(format_args!("127.0.0.1:{}", self.port));
        let bus = self.engine.args(&bus);
        args.extend(bus.iter().map(String::as_str));
        (Process::start(&dir, &args), dir)
    }

    fn kill_bus(&mut self) {
        self.bus = None;
    }

    fn start_bus(&mut self) {
        let begun = Instant::now();
        while self.bus.is_none() && begun.elapsed().as_secs() < 10 {
            self.bus = Bus::start_on(self.engine, self.port);
        }
        assert!(self.bus.is_some(), "the port is free again");
    }

    /// The numbers of the stored messages, in order of seq. The seqs have no holes.
    fn stored(&self) -> Vec<u64> {
        let rows = self.database.rows(TOPIC);
        let first = rows.first().map_or(0, |row| row.seq);
        let numbers = rows.iter().zip(first..).map(|(row, seq)| {
            assert_eq!(row.seq, seq);
            number(&serde_json::from_str(&row.payload).expect("JSON"))
        });
        numbers.collect()
    }

    fn epochs(&self) -> Vec<String> {
        let epochs = "SELECT epoch::text || clean::text AS answer FROM topics WHERE topic = \
                      'random:lobby'";
        self.database.ask(epochs)
    }
}

fn number(payload: &Value) -> u64 {
    payload["n"].as_u64().expect("a number")
}

/// A member of the room.
struct Member {
    peer: Peer,
    last_seen: Value,
    seen: Vec<u64>,
    recovered: bool,
}

impl Member {
    async fn join(node: &Process, last_seen: Value) -> Self {
        let mut peer = Peer::connect(node.addr).await.expect("the node listens");
        let params =
            json!({"meta": true, "history": "none", "ack": true, "last_seen_id": last_seen});
        let join = peer.join(TOPIC, params).await.expect("the line is open");
        let mut member = Self {
            peer,
            last_seen,
            seen: Vec::new(),
            recovered: false,
        };
        let reply = member.reply(&join).await;
        assert_eq!(reply["status"], "ok", "{reply}");
        let response = &reply["response"];
        if member.last_seen.is_null() {
            member.last_seen = response["last_id"].clone();
        } else {
            member.recovered = response["recovered"] == true;
        }
        member
    }

    /// Hears one thing; a reply is returned.
    async fn hear(&mut self) -> Option<(Value, Value)> {
        let heard = self.peer.next().await.expect("the line is open");
        match heard.event.as_str() {
            "shout" => {
                self.last_seen = heard.payload["_meta"]["id"].clone();
                self.seen.push(number(&heard.payload));
                None
            }
            "phx_reply" => Some((heard.reference, heard.payload)),
            _ => None,
        }
    }

    /// The payload of the next event of this kind; others are passed over.
    async fn hear_event(&mut self, event: &str) -> Value {
        loop {
            let heard = self.peer.next().await.expect("the line is open");
            if heard.event == event {
                return heard.payload;
            }
        }
    }

    async fn reply(&mut self, reference: &str) -> Value {
        loop {
            if let Some((to, reply)) = self.hear().await
                && to == reference
            {
                return reply;
            }
        }
    }

    /// Shouts, and waits for the answer.
    async fn shout(&mut self, payload: Value) -> Value {
        let reference = self.peer.push(TOPIC, "shout", payload).await;
        self.reply(&reference.expect("the line is open")).await
    }

    async fn hear_up_to(&mut self, count: usize) {
        while self.seen.len() < count {
            self.hear().await;
        }
    }
}

/// Shouts numbers, one after the other.
async fn shout_all(mut member: Member, numbers: impl Iterator<Item = u64>) -> Member {
    for n in numbers {
        let reply = member.shout(json!({ "n": n })).await;
        assert_eq!(reply["status"], "ok", "{reply}");
    }
    member
}

#[actix_web::test]
async fn all_nodes_show_the_order_of_the_database() {
    shows_the_order_of_the_database(Cluster::new()).await;
}

#[actix_web::test]
async fn all_nodes_show_the_order_of_the_database_over_nats() {
    shows_the_order_of_the_database(Cluster::over(Engine::Nats)).await;
}

async fn shows_the_order_of_the_database(cluster: Cluster) {
    let nodes = [cluster.node(), cluster.node()];
    let mut members = Vec::new();
    for at in 0..6 {
        members.push(Member::join(&nodes[at % 2].0, Value::Null).await);
    }
    let shouting = members
        .into_iter()
        .zip(0..)
        .map(|(member, first)| shout_all(member, (first..600).step_by(6)));
    let mut members = join_all(shouting).await;
    let stored = cluster.stored();
    assert_eq!(stored.len(), 600);
    for member in &mut members {
        member.hear_up_to(600).await;
        assert_eq!(member.seen, stored);
    }
    let refs = "SELECT client_ref AS answer FROM messages";
    let refs: HashSet<_> = cluster.database.ask(refs).into_iter().collect();
    assert_eq!(refs.len(), 600, "each has a ref");
    for (node, _) in nodes {
        node.signal("-TERM");
        assert_eq!(node.wait(), Some(0));
    }
}

#[actix_web::test]
async fn a_client_resumes_on_another_node_when_its_own_is_killed() {
    let cluster = Cluster::new();
    let (ada_node, _dir) = cluster.node();
    let (bob_node, _other_dir) = cluster.node();
    let mut ada = Member::join(&ada_node, Value::Null).await;
    let bob = Member::join(&bob_node, Value::Null).await;
    let (_, bob) = futures_util::future::join(
        async {
            for n in 0..50 {
                ada.shout(json!({ "n": n })).await;
            }
            ada_node.kill();
        },
        shout_all(bob, 50..200),
    )
    .await;
    let heard = ada.seen.len();
    let mut again = Member::join(&bob_node, ada.last_seen.clone()).await;
    assert!(again.recovered);
    let stored = cluster.stored();
    again.hear_up_to(stored.len() - heard).await;
    ada.seen.append(&mut again.seen);
    assert_eq!(ada.seen, stored, "each once and in order");
    assert!(
        (0..50).all(|n| stored.contains(&n)),
        "what was answered is stored"
    );
    let mut bob = bob;
    bob.hear_up_to(stored.len()).await;
    assert_eq!(bob.seen, stored);
}

#[actix_web::test]
async fn a_message_that_goes_to_two_nodes_at_once_is_stored_once() {
    let cluster = Cluster::new();
    let nodes = [cluster.node(), cluster.node()];
    let mut ada = Member::join(&nodes[0].0, Value::Null).await;
    let mut bob = Member::join(&nodes[1].0, Value::Null).await;
    for n in 0..200 {
        let payload = json!({"n": n, "client_ref": format!("ref {n}")});
        let (one, other) =
            futures_util::future::join(ada.shout(payload.clone()), bob.shout(payload)).await;
        assert_eq!(
            one["response"]["id"], other["response"]["id"],
            "{one} {other}"
        );
        assert_ne!(
            one["response"]["duplicate"] == true,
            other["response"]["duplicate"] == true,
            "{one} {other}"
        );
    }
    assert_eq!(cluster.stored(), (0..200).collect::<Vec<_>>());
    for member in [&mut ada, &mut bob] {
        member.hear_up_to(200).await;
        assert_eq!(member.seen, cluster.stored());
    }
}

#[actix_web::test]
async fn without_redis_messages_go_on_and_other_nodes_hear_them_late() {
    goes_on_without_the_bus(Cluster::new()).await;
}

#[actix_web::test]
async fn without_nats_messages_go_on_and_other_nodes_hear_them_late() {
    goes_on_without_the_bus(Cluster::over(Engine::Nats)).await;
}

async fn goes_on_without_the_bus(mut cluster: Cluster) {
    let nodes = [cluster.node(), cluster.node()];
    let mut ada = Member::join(&nodes[0].0, Value::Null).await;
    let mut bob = Member::join(&nodes[1].0, Value::Null).await;
    ada.shout(json!({"n": 0})).await;
    bob.hear_up_to(1).await;
    let epochs = cluster.epochs();
    cluster.kill_bus();
    for n in 1..20 {
        let (member, other) = if n % 2 == 0 {
            (&mut ada, &mut bob)
        } else {
            (&mut bob, &mut ada)
        };
        let begun = Instant::now();
        let reply = member.shout(json!({ "n": n })).await;
        assert_eq!(reply["status"], "ok", "{reply}");
        assert!(
            begun.elapsed() < Duration::from_secs(3),
            "{:?}",
            begun.elapsed()
        );
        other.hear_up_to(n as usize + 1).await;
        if n > 4 {
            // A few are enough to see that it takes a second.
            break;
        }
    }
    // A member that comes now.
    let (late, _dir) = cluster.node();
    let mut eve = Member::join(&late, json!(ada.last_seen)).await;
    assert!(eve.recovered);
    cluster.start_bus();
    let before = ada.seen.len();
    for n in 100..130 {
        let reply = ada.shout(json!({ "n": n })).await;
        assert_eq!(reply["status"], "ok", "{reply}");
    }
    let count = before + 30;
    for member in [&mut ada, &mut bob] {
        member.hear_up_to(count).await;
        assert_eq!(member.seen, cluster.stored());
    }
    eve.hear_up_to(30).await;
    assert_eq!(eve.seen, (100..130).collect::<Vec<_>>());
    assert_eq!(cluster.epochs(), epochs, "the run never ends");
    assert!(epochs[0].ends_with("true"), "{epochs:?}");
}

/// Shouts numbers; returns what was answered to each.
async fn try_all(mut member: Member, numbers: impl Iterator<Item = u64>) -> Vec<(u64, Value)> {
    let mut answers = Vec::new();
    for n in numbers {
        let answer = member.shout(json!({ "n": n })).await;
        if answer["status"] != "ok" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        answers.push((n, answer));
    }
    answers
}

// The way to the database passes things on while the node starts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_without_an_answer_is_found_out() {
    let cluster = Cluster::new();
    let (proxy, url) = cluster.database.behind_proxy().await;
    let (node, _dir) = cluster.node_at(&url);
    let (other, _other_dir) = cluster.node();
    let mut listener = Member::join(&other, Value::Null).await;
    let mut shouting = Vec::new();
    for first in 0..8 {
        let member = Member::join(&node, Value::Null).await;
        shouting.push(try_all(member, (first..1_600).step_by(8)));
    }
    let cutting = async {
        let mut random = Random::new(7);
        for _ in 0..30 {
            tokio::time::sleep(Duration::from_millis(20 + random.below(40) as u64)).await;
            proxy.cut();
            tokio::time::sleep(Duration::from_millis(30)).await;
            proxy.mend();
        }
    };
    let (answers, ()) = futures_util::future::join(join_all(shouting), cutting).await;
    // What is in doubt is found out before anything else is committed.
    let mut last = Member::join(&node, Value::Null).await;
    let mut reply = json!({});
    let begun = Instant::now();
    while reply["status"] != "ok" && begun.elapsed().as_secs() < 10 {
        reply = last.shout(json!({"n": 9_999})).await;
    }
    assert_eq!(reply["status"], "ok", "{reply}");
    let stored = cluster.stored();
    let mut counts: HashMap<u64, usize> = HashMap::new();
    for n in &stored {
        *counts.entry(*n).or_default() += 1;
    }
    let (mut taken, mut refused, mut unconfirmed) = (0, 0, 0);
    for (n, answer) in answers.into_iter().flatten() {
        let count = counts.get(&n).copied().unwrap_or_default();
        match answer["response"]["reason"].as_str() {
            None => {
                taken += 1;
                assert_eq!(
                    (count, &answer["status"]),
                    (1, &json!("ok")),
                    "{n} {answer}"
                );
            }
            Some("unconfirmed") => {
                unconfirmed += 1;
                assert!(count <= 1, "{n} is stored {count} times");
            }
            Some(_) => {
                refused += 1;
                assert_eq!(count, 0, "{n} {answer}");
            }
        }
    }
    println!("{taken} taken, {refused} refused, {unconfirmed} unconfirmed");
    let metrics = http(node.addr, "GET", "/metrics", &[], b"").await;
    let metrics = String::from_utf8(metrics.expect("an answer").body).expect("UTF-8");
    let cut = metrics.lines().any(|line| {
        line.strip_prefix("slackir_writer_retries_total ")
            .is_some_and(|retries| retries != "0")
    });
    assert!(taken > 100 && cut, "transactions were cut off:\n{metrics}");
    listener.hear_up_to(stored.len()).await;
    assert_eq!(listener.seen, stored);
}

#[actix_web::test]
async fn changes_and_erasures_reach_all_nodes() {
    let cluster = Cluster::new();
    let nodes = [cluster.node(), cluster.node()];
    let mut ada = Member::join(&nodes[0].0, Value::Null).await;
    let mut bob = Member::join(&nodes[1].0, Value::Null).await;
    for n in 0..5 {
        ada.shout(json!({"n": n, "name": "ada"})).await;
        bob.shout(json!({"n": 10 + n, "name": "bob"})).await;
    }
    ada.hear_up_to(10).await;
    let before = ada.last_seen.clone();
    let program = Program::of(&nodes[0].0).await;
    let messages = format!("/api/topics/{TOPIC}/messages");
    let id = before.as_str().expect("an id");
    let one = format!("{messages}/{id}");
    let (status, answer) = program.ask("DELETE", &one, &Value::Null).await;
    assert!((200..300).contains(&status), "{status} {answer}");
    bob.hear_up_to(10).await;
    assert_eq!(bob.hear_event("message_deleted").await["id"], id);
    let by_ada = format!("{messages}?name=ada");
    let (status, answer) = program.ask("DELETE", &by_ada, &Value::Null).await;
    assert!((200..300).contains(&status), "{status} {answer}");
    bob.hear_event("message_deleted").await;
    let mut again = Member::join(&nodes[1].0, before).await;
    assert!(!again.recovered, "the history has changed");
    again.shout(json!({"n": 99, "name": "eve"})).await;
    bob.hear_up_to(11).await;
    assert_eq!(bob.seen.last(), Some(&99));
    let rows = cluster.database.rows(TOPIC);
    let names = rows.iter().map(|row| row.name.clone().unwrap_or_default());
    assert_eq!(names.filter(|name| name == "ada").count(), 0);
    let epoch = |id: &Value| {
        id.as_str()
            .map(|id| id.split_once('-').map(|it| it.0.to_owned()))
    };
    assert_eq!(epoch(&again.last_seen), epoch(&bob.last_seen));
}
