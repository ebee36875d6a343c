//! Servers that are nodes of one cluster: real processes, one PostgreSQL, one Redis. `cluster_nats` runs some of these
//! tests over NATS.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::api::{Program, TOKEN};
use crate::support::bus::{Bus, Engine};
use crate::support::node::{Cluster, Member, Node, PATIENCE, TOPIC};
use crate::support::phoenix::Phoenix;
use crate::support::poller::Poller;
use crate::support::process::run;
use crate::support::transport::Wire;
use crate::support::wire::{WireClient, http};

/// Requirement 137.
#[actix_web::test]
async fn clients_of_two_nodes_hear_each_other_in_one_order() {
    hears_one_order(Cluster::new()).await;
}

pub(crate) async fn hears_one_order(cluster: Cluster) {
    let nodes = [cluster.node(), cluster.node()];
    let mut ada = Member::join(&nodes[0]).await;
    let mut bob = Member::join(&nodes[1]).await;
    for n in 0..50 {
        let speaker = if n % 2 == 0 { &mut ada } else { &mut bob };
        speaker.say(n).await;
        assert_eq!((ada.hear().await, bob.hear().await), (n, n));
        assert_eq!(ada.last, bob.last, "one id on all nodes");
    }
    cluster.stored(50).await;
    nodes.into_iter().for_each(Node::end);
}

#[actix_web::test]
async fn a_client_resumes_on_the_other_node_after_a_kill() {
    resumes_after_a_kill(Cluster::new()).await;
}

pub(crate) async fn resumes_after_a_kill(cluster: Cluster) {
    let (first, second) = (cluster.node(), cluster.node());
    let mut ada = Member::join(&first).await;
    let mut bob = Member::join(&second).await;
    for n in 0..20 {
        ada.say(n).await;
        assert_eq!(ada.hear().await, n);
        assert_eq!(bob.hear().await, n);
    }
    first.server.kill();
    for n in 20..40 {
        bob.say(n).await;
        assert_eq!(bob.hear().await, n);
    }
    let mut ada = Member::resume(&second, ada.last).await;
    for n in 20..40 {
        assert_eq!(ada.hear().await, n);
    }
    // What the first node had not stored, the second does.
    cluster.stored(40).await;
    second.end();
}

#[actix_web::test]
async fn a_rolling_restart_keeps_the_epoch_and_every_resume() {
    let cluster = Cluster::new();
    let mut nodes = vec![cluster.node(), cluster.node()];
    let mut ada = Member::join(&nodes[0]).await;
    let mut said = 0;
    for _ in 0..3 {
        for _ in 0..5 {
            ada.say(said).await;
            assert_eq!(ada.hear().await, said);
            said += 1;
        }
        // The oldest goes, and a new one comes.
        nodes.remove(0).end();
        nodes.push(cluster.node());
        let mut bob = Member::join(&nodes[1]).await;
        bob.say(said).await;
        assert_eq!(bob.hear().await, said);
        ada = Member::resume(&nodes[0], ada.last).await;
        assert_eq!(ada.hear().await, said);
        said += 1;
    }
    cluster.stored(said as usize).await;
    let epochs =
        "SELECT epoch::text AS answer FROM topics WHERE past <> '' AND past NOT LIKE '0-0'";
    assert_eq!(
        cluster.database.ask(epochs),
        Vec::<String>::new(),
        "one run"
    );
    nodes.into_iter().for_each(Node::end);
}

#[actix_web::test]
async fn a_new_redis_is_a_new_run_and_nobody_who_is_connected_notices() {
    let mut cluster = Cluster::new();
    let nodes = [cluster.node(), cluster.node()];
    let mut ada = Member::join(&nodes[0]).await;
    let mut bob = Member::join(&nodes[1]).await;
    ada.say(0).await;
    assert_eq!((ada.hear().await, bob.hear().await), (0, 0));
    let port = cluster.bus.port();
    drop(cluster.bus);
    cluster.bus = Bus::start_on(Engine::Redis, port).expect("its port is free again");
    // Those that come too early wait, or are refused: then they are said again.
    let begun = Instant::now();
    let mut said = 1;
    while said < 10 {
        assert!(begun.elapsed() < PATIENCE, "the nodes come back");
        ada.say(said).await;
        if bob.hear().await == said && ada.hear().await == said {
            said += 1;
        }
    }
    assert_eq!(ada.last, bob.last);
    nodes.into_iter().for_each(Node::end);
}

#[actix_web::test]
async fn programs_and_operators_reach_the_clients_of_all_nodes() {
    programs_reach_all(Cluster::new()).await;
}

pub(crate) async fn programs_reach_all(cluster: Cluster) {
    let nodes = [(); 2].map(|()| cluster.node_with(&["--api-token", TOKEN]));
    let mut bob = Member::join(&nodes[1]).await;
    let program = Program::of(&nodes[0].server).await;
    let shout = json!({"event": "shout", "payload": {"name": "bot", "message": "1"}});
    let target = format!("/api/topics/{TOPIC}/messages");
    let (status, answer) = program.ask("POST", &target, &shout).await;
    assert_eq!(status, 201, "{answer}");
    assert_eq!(bob.hear().await, 1);
    assert_eq!(bob.last, answer["id"], "{answer}");
    // A change of it, by the other node.
    let other = Program::of(&nodes[1].server).await;
    let message = format!("{target}/{}", answer["id"].as_str().expect("an id"));
    let (status, answer) = other.ask("DELETE", &message, &Value::Null).await;
    assert_eq!(status, 204, "{answer}");
    assert_eq!(bob.client.next_event().await.0, "message_deleted");
    cluster.stored(1).await;
    nodes.into_iter().for_each(Node::end);
}

#[actix_web::test]
async fn a_ban_holds_on_all_nodes_until_it_is_lifted() {
    ban_holds(Cluster::new()).await;
}

pub(crate) async fn ban_holds(cluster: Cluster) {
    let nodes = [(); 2].map(|()| cluster.node_with(&["--api-token", TOKEN]));
    let mut bob = Member::join(&nodes[1]).await;
    let program = Program::of(&nodes[0].server).await;
    let ban = json!({"address": "127.0.0.1", "kind": "ban", "seconds": 600});
    let (status, answer) = program.ask("POST", "/api/bans", &ban).await;
    assert_eq!(status, 201, "{answer}");
    assert_eq!(bob.client.closed().await, 1008);
    let lifted = format!("/api/bans/{}", answer["id"].as_str().expect("an id"));
    let (status, answer) = program.ask("DELETE", &lifted, &Value::Null).await;
    assert!(status < 300, "{answer}");
    let begun = Instant::now();
    while !is_let_in(&nodes[1]).await {
        assert!(begun.elapsed() < PATIENCE, "the ban is lifted there, too");
    }
    nodes.into_iter().for_each(Node::end);
}

#[actix_web::test]
async fn a_slow_mode_holds_on_all_nodes_until_it_is_taken_away() {
    slow_mode_holds(Cluster::new()).await;
}

pub(crate) async fn slow_mode_holds(cluster: Cluster) {
    let nodes = [(); 2].map(|()| cluster.node_with(&["--api-token", TOKEN]));
    let mut bob = Member::join(&nodes[1]).await;
    let program = Program::of(&nodes[0].server).await;
    let target = format!("/api/topics/{TOPIC}/slow-mode");
    let (status, answer) = program
        .ask("PUT", &target, &json!({"interval": 3_600}))
        .await;
    assert_eq!(status, 201, "{answer}");
    let begun = Instant::now();
    let mut said = 0;
    while is_said(&mut bob, said).await {
        said += 1;
        assert!(begun.elapsed() < PATIENCE, "the topic is slow there, too");
    }
    let other = Program::of(&nodes[1].server).await;
    assert_eq!(other.get(&target).await, answer);
    let (status, answer) = other.ask("DELETE", &target, &Value::Null).await;
    assert_eq!(status, 204, "{answer}");
    while !is_said(&mut bob, said).await {
        assert!(begun.elapsed() < PATIENCE, "it is over");
    }
    while program.get("/api/slow-modes").await["total"] != 0 {
        assert!(begun.elapsed() < PATIENCE, "it is over there, too");
    }
    nodes.into_iter().for_each(Node::end);
}

/// Says something. Whether it was sent; otherwise it came too early.
async fn is_said(member: &mut Member, n: u64) -> bool {
    member.say(n).await;
    let (event, payload) = member.client.next_event().await;
    if event == "phx_reply" {
        assert_eq!(payload["response"]["limit"], "slow_mode", "{payload}");
        // A client with too many refusals is not read for a while.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    event == "shout"
}

/// Whether the node answers a handshake with 101.
async fn is_let_in(node: &Node) -> bool {
    let dialed = <WireClient as Wire>::dial(node.addr(), "/socket/websocket?vsn=2.0.0", &[]).await;
    matches!(dialed, Ok((Some(_), _)))
}

#[actix_web::test]
async fn a_long_polling_client_may_ask_any_node() {
    polls_any_node(Cluster::new()).await;
}

pub(crate) async fn polls_any_node(cluster: Cluster) {
    let nodes = [cluster.node(), cluster.node()];
    let mut ada = Member::join(&nodes[0]).await;
    let mut poller = Poller::open(nodes[0].addr()).await;
    // From now on all its requests come to the other node.
    poller.addr = nodes[1].addr();
    poller.send(json!(["1", "1", TOPIC, "phx_join", {}])).await;
    let answers = poller.messages().await;
    assert_eq!(answers[0][3], "phx_reply", "{answers:?}");
    ada.say(1).await;
    assert_eq!(ada.hear().await, 1);
    loop {
        let heard = poller.messages().await;
        if heard.iter().any(|message| message[3] == "shout") {
            break;
        }
    }
    let shout = json!({"name": "bob", "message": "2"});
    poller.send(json!(["1", "2", TOPIC, "shout", shout])).await;
    assert_eq!(ada.hear().await, 2);
    nodes.into_iter().for_each(Node::end);
}

/// A config file whose room shows who is there.
const PRESENT: &str = r#"
[[rooms]]
topics = "random:*"
history = "none"
presence = { key = "{params.name}" }
"#;

/// The keys of the next change of presence: those that came, and those that went.
async fn change(client: &mut Phoenix) -> (Vec<String>, Vec<String>) {
    loop {
        let (event, payload) = client.next_event().await;
        if event == "presence_diff" {
            let keys = |side: &str| {
                payload[side]
                    .as_object()
                    .map(|keys| keys.keys().cloned().collect())
            };
            return (
                keys("joins").unwrap_or_default(),
                keys("leaves").unwrap_or_default(),
            );
        }
    }
}

async fn present(node: &Node, name: &str) -> Phoenix {
    let mut client = Phoenix::connect(node.addr()).await;
    let join_ref = client.send_join(TOPIC, json!({ "name": name })).await;
    assert_eq!(client.reply_to(&join_ref).await["status"], "ok");
    // Its own join, and the list.
    while client.next_event().await.0 != "presence_state" {}
    client
}

/// Requirements 171, 172.
#[actix_web::test]
async fn presences_are_those_of_all_nodes() {
    presences_of_all(Cluster::new()).await;
}

pub(crate) async fn presences_of_all(cluster: Cluster) {
    let config = cluster.database.dir.path().join("present.toml");
    std::fs::write(&config, PRESENT).expect("writable");
    let config = config.to_str().expect("a path of text");
    let nodes = [(); 2].map(|()| cluster.node_with(&["--config", config]));
    let mut ada = present(&nodes[0], "ada").await;
    let bob = present(&nodes[1], "bob").await;
    assert_eq!(change(&mut ada).await, (vec!["bob".to_owned()], Vec::new()));
    drop(bob);
    assert_eq!(change(&mut ada).await, (Vec::new(), vec!["bob".to_owned()]));
    let _eve = present(&nodes[1], "eve").await;
    assert_eq!(change(&mut ada).await, (vec!["eve".to_owned()], Vec::new()));
    let [first, second] = nodes;
    // Without a word: after ten seconds of silence its members have left.
    second.server.kill();
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < PATIENCE, "eve leaves");
        let heard = tokio::time::timeout(Duration::from_secs(1), change(&mut ada));
        if let Ok(heard) = heard.await {
            assert_eq!(heard, (Vec::new(), vec!["eve".to_owned()]));
            break;
        }
    }
    first.end();
}

#[cfg(all(feature = "load", target_os = "linux"))]
#[actix_web::test]
async fn a_load_on_two_nodes_gets_every_message_once_and_in_order() {
    let cluster = Cluster::new();
    let nodes = [cluster.node(), cluster.node()];
    let [url, other] = nodes.each_ref().map(|node| node.addr().to_string());
    let url = format!("ws://{url}/socket/websocket");
    let pids = nodes.each_ref().map(|node| node.server.id().to_string());
    let args = ["load", "--url", &url, "--node", &other, "--pid", &pids[0]];
    let more = [
        "--pid",
        &pids[1],
        "--clients",
        "40",
        "--topics",
        "2",
        "--rate",
        "200",
    ];
    let dir = TempDir::new().expect("a folder");
    let all = [&args[..], &more, &["--seconds", "2", "--json"]].concat();
    let output = run(&all, dir.path());
    let result: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(result["deliveries"], 400 * 20, "{result}");
    for node in &nodes {
        let metrics = http(node.addr(), "GET", "/metrics", &[], &[]).await;
        let metrics = metrics.expect("the node answers").body;
        let metrics = String::from_utf8(metrics).expect("text");
        assert!(
            metrics.contains("slackir_broadcasts_total{pattern=\"random:*\"} 400\n"),
            "{metrics}"
        );
    }
}
