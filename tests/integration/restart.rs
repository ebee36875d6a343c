//! Clients that come back after the server has ended, in order or not, and say what they saw last.

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
