//! Clients that come back after the server has ended, in order or not, and say what they saw last.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::database::{Database, on_each_database};
use crate::support::phoenix::Phoenix;
use crate::support::process::Process;

const LOBBY: &str = "random:lobby";

on_each_database! {
    #[actix_web::test]
    a_clean_restart_costs_nobody_a_message,
    after_a_kill_the_gap_is_told_and_the_history_comes,
    a_strict_server_that_was_killed_has_lost_nothing,
    many_topics_come_back_at_once,
}

/// Joins with these params; returns the reply.
async fn join(client: &mut Phoenix, params: Value) -> (String, Value) {
    let join_ref = client.send_join(LOBBY, params).await;
    let reply = client.reply_to(&join_ref).await;
    assert_eq!(reply["status"], "ok");
    (join_ref, reply["response"].clone())
}

/// Shouts two messages, each once the one before is committed. Returns the first one's id.
async fn shout_two(server: &Process) -> String {
    let mut client = Phoenix::connect(server.addr).await;
    let (join_ref, _) = join(&mut client, json!({"ack": true})).await;
    client.next_event().await;
    let mut ids = Vec::new();
    for n in 1..=2 {
        let shout = client.push(&join_ref, LOBBY, "shout", json!({ "n": n }));
        let shout = shout.await;
        assert_eq!(client.next_event().await.1, json!({ "n": n }));
        let reply = client.reply_to(&shout).await;
        let id = reply["response"]["id"].as_str().map(str::to_owned);
        ids.push(id.expect("a committed message has an id"));
    }
    ids.swap_remove(0)
}

/// What a client gets that has seen the first of the two messages.
async fn come_back(server: &Process, first: &str) -> (Value, (String, Value)) {
    let mut client = Phoenix::connect(server.addr).await;
    let (_, reply) = join(&mut client, json!({ "last_seen_id": first })).await;
    let next = client.next_event().await;
    client.heartbeat().await;
    (reply, next)
}

fn missed() -> (String, Value) {
    ("shout".to_owned(), json!({"n": 2}))
}

async fn a_clean_restart_costs_nobody_a_message(database: Database) {
    let server = database.serve(&[]);
    let first = shout_two(&server).await;
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0));
    let server = database.serve(&[]);
    let (reply, next) = come_back(&server, &first).await;
    assert_eq!(reply, json!({"recovered": true, "last_id": first}));
    assert_eq!(next, missed());
}

async fn after_a_kill_the_gap_is_told_and_the_history_comes(database: Database) {
    let server = database.serve(&[]);
    let first = shout_two(&server).await;
    server.kill();
    let server = database.serve(&[]);
    let (reply, next) = come_back(&server, &first).await;
    assert_eq!(reply["recovered"], false);
    let history = json!({"messages": [{"n": 1}, {"n": 2}]});
    assert_eq!(next, ("messages_history".to_owned(), history));
}

async fn a_strict_server_that_was_killed_has_lost_nothing(database: Database) {
    let strict = ["--durability", "strict"];
    let server = database.serve(&strict);
    let first = shout_two(&server).await;
    server.kill();
    let server = database.serve(&strict);
    let (reply, next) = come_back(&server, &first).await;
    assert_eq!(reply, json!({"recovered": true, "last_id": first}));
    assert_eq!(next, missed());
}

/// More topics than a round of the writer opens.
const TOPICS: usize = 90;

/// Joins all topics at once, with the last message of each that was seen. Returns each one's reply, and its history if it
/// was sent one.
async fn come_back_to_all(
    client: &mut Phoenix,
    seen: &BTreeMap<usize, String>,
) -> BTreeMap<usize, (Value, Option<Value>)> {
    let joins = (0..TOPICS).map(|n| {
        let params = seen.get(&n).map_or(
            json!({"ack": true}),
            |id| json!({"ack": true, "last_seen_id": id}),
        );
        json!([
            n.to_string(),
            n.to_string(),
            format!("random:{n}"),
            "phx_join",
            params
        ])
    });
    client.send_all(&joins.collect::<Vec<_>>()).await;
    let mut found: BTreeMap<usize, (Value, Option<Value>)> = BTreeMap::new();
    let is_whole = |(reply, history): &(Value, Option<Value>)| {
        reply["response"]["recovered"] == true || history.is_some()
    };
    while found.len() < TOPICS || !found.values().all(is_whole) {
        let frame = client.next().await;
        let n = frame[0].as_str().and_then(|n| n.parse().ok());
        let n = n.expect("the join_ref of a topic");
        match frame[3].as_str() {
            Some("phx_reply") => {
                assert_eq!(frame[4]["status"], "ok", "{frame}");
                found.insert(n, (frame[4].clone(), None));
            }
            _ => {
                let (_, history) = found.get_mut(&n).expect("its reply comes first");
                *history = Some(frame[4]["messages"].clone());
            }
        }
    }
    found
}

/// Shouts in these topics. Returns the ids of the messages.
async fn shout_in(
    client: &mut Phoenix,
    topics: impl Iterator<Item = usize> + Clone,
) -> BTreeMap<usize, String> {
    let shouts = topics.clone().map(|n| {
        let (join_ref, topic) = (n.to_string(), format!("random:{n}"));
        json!([join_ref, format!("s{n}"), topic, "shout", {"n": n}])
    });
    client.send_all(&shouts.collect::<Vec<_>>()).await;
    let mut ids = BTreeMap::new();
    while ids.len() < topics.clone().count() {
        let frame = client.next().await;
        if frame[3] == "phx_reply" {
            let n = frame[0].as_str().and_then(|n| n.parse().ok());
            let id = frame[4]["response"]["id"].as_str();
            ids.insert(n.expect("a topic"), id.expect("an id").to_owned());
        }
    }
    ids
}

async fn many_topics_come_back_at_once(database: Database) {
    let server = database.serve(&[]);
    let mut client = Phoenix::connect(server.addr).await;
    come_back_to_all(&mut client, &BTreeMap::new()).await;
    // Every second topic has a message.
    let seen = shout_in(&mut client, (0..TOPICS).step_by(2)).await;
    server.kill();
    let server = database.serve(&[]);
    let mut client = Phoenix::connect(server.addr).await;
    for (n, (reply, history)) in come_back_to_all(&mut client, &seen).await {
        let expected = if n % 2 == 0 {
            json!([{ "n": n }])
        } else {
            json!([])
        };
        assert_eq!(history, Some(expected), "topic {n}: {reply}");
    }
    let again = shout_in(&mut client, 0..TOPICS).await;
    let run = |id: &str| id.split_once('-').map(|(epoch, _)| epoch.to_owned());
    for (n, id) in &seen {
        assert_ne!(run(id), run(&again[n]), "topic {n} is in another run");
    }
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0));
    let server = database.serve(&[]);
    let mut client = Phoenix::connect(server.addr).await;
    for (n, (reply, _)) in come_back_to_all(&mut client, &again).await {
        let resumed = json!({"recovered": true, "last_id": again[&n]});
        assert_eq!(reply["response"], resumed, "topic {n}");
    }
}
