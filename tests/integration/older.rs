//! What a room of the server adds to a Phoenix chat: older messages on demand, and a bound of a
//! message's size.

use serde_json::{Value, json};

use crate::support::database::{Database, on_each_database};
use crate::support::phoenix::Phoenix;
use crate::support::process::Process;

const LOBBY: &str = "random:lobby";
const ROOMS: &str = r#"
[[rooms]]
topics = "random:*"
history_limit = 3
max_message_bytes = 300_000
changes = true
"#;

on_each_database! {
    #[actix_web::test]
    older_messages_are_read_page_by_page,
    a_message_that_is_too_long_is_refused_by_its_room,
}

fn serve(database: &Database) -> Process {
    std::fs::write(database.dir.path().join("slackir.toml"), ROOMS).expect("writable");
    database.serve(&["--config", "slackir.toml"])
}

/// A member, and the messages that it was given.
async fn member(server: &Process) -> (Phoenix, String, Vec<Value>) {
    let mut client = Phoenix::connect(server.addr).await;
    let join_ref = client
        .send_join(LOBBY, json!({"meta": true, "ack": true}))
        .await;
    assert_eq!(client.reply_to(&join_ref).await["status"], "ok");
    let (event, mut history) = client.next_event().await;
    assert_eq!(event, "messages_history");
    let messages = history["messages"].as_array_mut().expect("a list");
    (client, join_ref, std::mem::take(messages))
}

/// The reply to an event; broadcasts before it are passed over.
async fn ask(client: &mut Phoenix, join_ref: &str, event: &str, payload: Value) -> Value {
    let reference = client.push(join_ref, LOBBY, event, payload).await;
    loop {
        let mut frame = client.next().await;
        if frame[1] == json!(reference) {
            return frame[4].take();
        }
    }
}

fn numbers(messages: &[Value]) -> Vec<u64> {
    let number = |message: &Value| message["n"].as_u64().expect("a number");
    messages.iter().map(number).collect()
}

async fn older_messages_are_read_page_by_page(database: Database) {
    let server = serve(&database);
    let (mut ann, join_ref, _) = member(&server).await;
    for n in 1..=8 {
        let filling = if n <= 2 { 200_000 } else { 0 };
        let payload = json!({"n": n, "filling": "x".repeat(filling)});
        assert_eq!(
            ask(&mut ann, &join_ref, "shout", payload).await["status"],
            "ok"
        );
    }
    // A log that is opened anew has the history alone in memory.
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0));
    let server = serve(&database);
    let (mut bob, join_ref, mut shown) = member(&server).await;
    assert_eq!(numbers(&shown), [6, 7, 8]);
    for (limit, expected) in [
        (json!(2), &[4, 5][..]),
        (Value::Null, &[2, 3]),
        (json!(9), &[1]),
        (Value::Null, &[]),
    ] {
        let oldest = shown[0]["_meta"]["id"].clone();
        let payload = json!({"before": oldest, "limit": limit});
        let mut reply = ask(&mut bob, &join_ref, "messages_before", payload).await;
        let page = reply["response"]["messages"].as_array_mut();
        let page = std::mem::take(page.expect("a list"));
        assert_eq!(numbers(&page), expected, "200 kB twice are no page");
        let dated = |message: &Value| message["_meta"]["at"].is_string();
        assert!(page.iter().all(dated), "{page:?}");
        shown.splice(0..0, page);
    }
    for (payload, reason) in [
        (json!({"before": "zz-1"}), "unknown message"),
        (json!({"before": "7fffffff-1"}), "unknown message"),
        (json!({"before": 7}), "invalid payload"),
        (json!({}), "invalid payload"),
    ] {
        let reply = ask(&mut bob, &join_ref, "messages_before", payload.clone()).await;
        assert_eq!(reply["response"], json!({"reason": reason}), "{payload}");
    }
}

async fn a_message_that_is_too_long_is_refused_by_its_room(database: Database) {
    let server = serve(&database);
    let (mut ann, join_ref, _) = member(&server).await;
    let around = json!({"message": ""}).to_string().len();
    let payload = |bytes: usize| json!({"message": "x".repeat(bytes - around)});
    let reply = ask(&mut ann, &join_ref, "shout", payload(300_000)).await;
    assert_eq!(reply["status"], "ok");
    let id = reply["response"]["id"].clone();
    let refused = json!({
        "status": "error",
        "response": {"reason": "message too long", "max_message_bytes": 300_000},
    });
    assert_eq!(
        ask(&mut ann, &join_ref, "shout", payload(300_001)).await,
        refused
    );
    let update = json!({"id": id, "payload": payload(300_001)});
    assert_eq!(
        ask(&mut ann, &join_ref, "update_message", update).await,
        refused
    );
    let (_, _, history) = member(&server).await;
    assert_eq!(history.len(), 1, "what was refused is not stored");
}
