//! The default room `random:*`, as its clients see it: the `slackir` binary over the wire.

use serde_json::{Value, json};
use tempfile::tempdir;

use crate::support::database::{Database, on_each_database};
use crate::support::phoenix::Phoenix;
use crate::support::process::Process;
use crate::support::wire;

const LOBBY: &str = "random:lobby";

on_each_database! {
    #[actix_web::test]
    shouts_reach_everybody_whole_and_are_the_history_of_the_next,
    the_other_ways_to_get_the_history,
    a_history_has_fifty_messages_and_one_megabyte_at_most,
    a_full_writer_refuses_shouts_and_forgets_them,
}

/// Payloads that have to survive whole, in the broadcast and in the history.
fn payloads() -> Vec<Value> {
    vec![
        json!({"name": "ada", "message": "hi"}),
        json!({"name": "ada", "message": "hi", "colour": "#f00", "room_id": 7}),
        json!({"message": "nobody said this"}),
        json!({}),
        json!({"name": "Åsa 😀", "message": "日本語 \u{0} \" \\ / \u{2028}"}),
        json!({"name": ["not", "a", "name"], "message": {"nor": [1, 2.5, null, true]}}),
        json!({"name": "long", "message": "x".repeat(200_000)}),
    ]
}

async fn shout_all(client: &mut Phoenix, join_ref: &str) {
    for payload in payloads() {
        client.push(join_ref, LOBBY, "shout", payload.clone()).await;
        assert_eq!(client.next_event().await, ("shout".to_owned(), payload));
    }
}

async fn shouts_reach_everybody_whole_and_are_the_history_of_the_next(database: Database) {
    let server = database.serve(&[]);
    let mut ada = Phoenix::connect(server.addr).await;
    let (join_ref, reply) = ada.join(LOBBY).await;
    assert_eq!(reply, json!({}));
    assert_eq!(
        ada.next_event().await,
        ("messages_history".to_owned(), json!({"messages": []}))
    );
    let mut bob = Phoenix::connect(server.addr).await;
    bob.join(LOBBY).await;
    bob.next_event().await;

    shout_all(&mut ada, &join_ref).await;
    for payload in payloads() {
        assert_eq!(bob.next_event().await, ("shout".to_owned(), payload));
    }
    let ping = ada.push(&join_ref, LOBBY, "ping", json!({"x": [1]})).await;
    assert_eq!(
        ada.reply_to(&ping).await,
        json!({"status": "ok", "response": {"x": [1]}})
    );

    let history = json!({"messages": payloads()});
    let mut late = Phoenix::connect(server.addr).await;
    late.join(LOBBY).await;
    assert_eq!(
        late.next_event().await,
        ("messages_history".to_owned(), history.clone())
    );

    // The same after a restart, from the database alone.
    server.signal("-TERM");
    assert_eq!(ada.closed().await, 1012);
    assert_eq!(server.wait(), Some(0));
    let server = database.serve(&[]);
    let mut back = Phoenix::connect(server.addr).await;
    back.join(LOBBY).await;
    assert_eq!(
        back.next_event().await,
        ("messages_history".to_owned(), history)
    );
}

async fn the_other_ways_to_get_the_history(database: Database) {
    let server = database.serve(&["--history", "none"]);
    let mut client = Phoenix::connect(server.addr).await;
    let (join_ref, _) = client.join(LOBBY).await;
    client.heartbeat().await;
    shout_all(&mut client, &join_ref).await;
    server.signal("-INT");
    assert_eq!(server.wait(), Some(0));

    let server = database.serve(&["--history", "per_event", "--history-limit", "2"]);
    let mut client = Phoenix::connect(server.addr).await;
    let (join_ref, _) = client.join(LOBBY).await;
    for payload in &payloads()[5..] {
        let frame = client.next().await;
        assert_eq!(frame, json!([join_ref, null, LOBBY, "shout", payload]));
    }
    client.heartbeat().await;
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0));

    let server = database.serve(&["--history", "reply"]);
    let mut client = Phoenix::connect(server.addr).await;
    let (_, reply) = client.join(LOBBY).await;
    assert_eq!(reply, json!({"messages": payloads()}));
    client.heartbeat().await;
}

async fn a_history_has_fifty_messages_and_one_megabyte_at_most(database: Database) {
    let server = database.serve(&[]);
    let mut client = Phoenix::connect(server.addr).await;
    for (room, count, kept, filler) in
        [("random:many", 60, 50, 10), ("random:large", 8, 4, 220_000)]
    {
        let (join_ref, _) = client.join(room).await;
        client.next_event().await;
        for n in 0..count {
            let payload = json!({"n": n, "message": "x".repeat(filler)});
            client.push(&join_ref, room, "shout", payload).await;
            client.next_event().await;
        }
        let mut late = Phoenix::connect(server.addr).await;
        late.join(room).await;
        let (_, history) = late.next_event().await;
        let messages = history["messages"].as_array().expect("a list");
        let numbers: Vec<_> = messages.iter().filter_map(|m| m["n"].as_u64()).collect();
        assert_eq!(numbers, (count - kept..count).collect::<Vec<_>>(), "{room}");
    }
}

#[actix_web::test]
async fn without_persistence_nothing_is_kept_and_no_file_is_made() {
    let dir = tempdir().expect("a temporary folder");
    let server = Process::start(&dir, &["--persist", "off"]);
    let mut client = Phoenix::connect(server.addr).await;
    let (join_ref, _) = client.join(LOBBY).await;
    shout_all(&mut client, &join_ref).await;
    let mut late = Phoenix::connect(server.addr).await;
    late.join(LOBBY).await;
    late.heartbeat().await;
    assert_eq!(std::fs::read_dir(dir.path()).expect("readable").count(), 0);
}

/// Requirement 135.
async fn a_full_writer_refuses_shouts_and_forgets_them(database: Database) {
    let server = database.serve(&[
        "--writer-rows",
        "1",
        "--writer-bytes",
        "1",
        "--spool-bytes",
        "1",
    ]);
    let mut client = Phoenix::connect(server.addr).await;
    let (join_ref, _) = client.join(LOBBY).await;
    client.next_event().await;
    // Somebody else holds the database's write lock, so the first row waits for its commit.
    let blocked = database.block_writes();
    client
        .push(&join_ref, LOBBY, "shout", json!({"n": 1}))
        .await;
    assert_eq!(client.next_event().await.1, json!({"n": 1}));
    let refused = client
        .push(&join_ref, LOBBY, "shout", json!({"n": 2}))
        .await;
    let reply = client.reply_to(&refused).await;
    assert_eq!(reply["response"]["reason"], "storage unavailable");
    assert!(
        reply["response"]["retry_after_ms"].as_u64() > Some(0),
        "{reply}"
    );
    drop(blocked);
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0));
    assert_eq!(database.payloads(LOBBY), [json!({"n": 1})]);
}

#[actix_web::test]
async fn the_page_and_what_operators_ask_for_are_served() {
    let dir = tempdir().expect("a temporary folder");
    let server = Process::start(&dir, &[]);
    for (path, content_type, part) in [
        ("/", "text/html", "importmap"),
        ("/assets/app.js", "text/javascript", "\"phoenix\""),
        ("/assets/app.css", "text/css", "prefers-color-scheme"),
        ("/assets/favicon.svg", "image/svg+xml", "<svg"),
        ("/healthz", "", "ok"),
        ("/readyz", "", "ready"),
        ("/metrics", "text/plain", "slackir_connections"),
    ] {
        let answer = wire::http(server.addr, "GET", path, &[], b"")
            .await
            .expect("an answer");
        let found = answer
            .headers
            .get("content-type")
            .cloned()
            .unwrap_or_default();
        assert_eq!(answer.status, 200, "{path}");
        assert!(found.starts_with(content_type), "{path}: {found}");
        assert!(
            String::from_utf8_lossy(&answer.body).contains(part),
            "{path} holds {part}"
        );
    }
    let missing = wire::http(server.addr, "GET", "/nothing", &[], b"")
        .await
        .expect("an answer");
    assert_eq!(missing.status, 404);
}

#[actix_web::test]
async fn a_folder_takes_the_pages_place() {
    let dir = tempdir().expect("a temporary folder");
    std::fs::create_dir(dir.path().join("frontend")).expect("writable");
    std::fs::write(dir.path().join("frontend/index.html"), "<h1>mine</h1>").expect("writable");
    let server = Process::start(&dir, &["--static-dir", "frontend"]);
    let answer = wire::http(server.addr, "GET", "/", &[], b"")
        .await
        .expect("an answer");
    assert_eq!(String::from_utf8_lossy(&answer.body), "<h1>mine</h1>");
    Phoenix::connect(server.addr).await.heartbeat().await;
}

#[actix_web::test]
async fn many_large_histories_at_once_reach_a_client_that_reads() {
    let dir = tempdir().expect("a temporary folder");
    let server = Process::start(&dir, &[]);
    let rooms: Vec<String> = (0..12).map(|n| format!("random:{n}")).collect();
    let mut client = Phoenix::connect(server.addr).await;
    for room in &rooms {
        let (join_ref, _) = client.join(room).await;
        client.next_event().await;
        for _ in 0..4 {
            let payload = json!({"message": "x".repeat(200_000)});
            client.push(&join_ref, room, "shout", payload).await;
            client.next_event().await;
        }
    }
    // All at once, as phoenix.js joins again after a reconnect: 9.6 MB of history.
    let mut back = Phoenix::connect(server.addr).await;
    for room in &rooms {
        back.send_join(room, json!({})).await;
    }
    let mut histories = 0;
    while histories < rooms.len() {
        let (event, payload) = back.next_event().await;
        if event == "messages_history" {
            assert_eq!(payload["messages"].as_array().map(Vec::len), Some(4));
            histories += 1;
        }
    }
}
