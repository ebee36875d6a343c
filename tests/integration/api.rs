//! The HTTP API as programs use it, beside clients on their sockets, on both databases.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::support::api::{Program, serve};
use crate::support::database::{Database, on_each_database};
use crate::support::phoenix::Phoenix;

const LOBBY: &str = "random:lobby";
const MESSAGES: &str = "/api/topics/random:lobby/messages";

on_each_database! {
    #[actix_web::test]
    messages_are_written_and_open_pages_follow,
    a_retry_is_known_by_its_client_ref,
    a_deleted_message_is_not_published_again_by_a_retry,
    ids_of_an_earlier_run_name_the_same_messages,
    pages_lose_and_double_nothing_while_others_write,
    pages_are_bounded_in_bytes,
    topics_are_any_text,
    a_database_that_does_not_answer_is_told,
}

/// A client that is told ids, and has read the history.
async fn member(addr: SocketAddr) -> (Phoenix, String, Value) {
    let mut client = Phoenix::connect(addr).await;
    let join_ref = client.send_join(LOBBY, json!({"meta": true})).await;
    assert_eq!(client.reply_to(&join_ref).await["status"], "ok");
    let (event, history) = client.next_event().await;
    assert_eq!(event, "messages_history");
    (client, join_ref, history["messages"].clone())
}

/// The next broadcast, without its own id; the id.
async fn hear(client: &mut Phoenix) -> (String, Value, Value) {
    let (event, mut payload) = client.next_event().await;
    let meta = payload
        .as_object_mut()
        .and_then(|payload| payload.remove("_meta"));
    let id = meta.map_or(Value::Null, |meta| meta["id"].clone());
    (event, payload, id)
}

fn path(message: &Value) -> String {
    format!("{MESSAGES}/{}", message["id"].as_str().expect("an id"))
}

/// Publishes `{"n": n}`.
async fn create(program: &Program, n: usize) -> Value {
    let body = json!({"payload": {"n": n}});
    let (status, message) = program.ask("POST", MESSAGES, &body).await;
    assert_eq!(status, 201, "{message}");
    message
}

fn numbers(page: &Value) -> Vec<u64> {
    let messages = page["messages"].as_array().expect("messages");
    let number = |message: &Value| message["payload"]["n"].as_u64().expect("a number");
    messages.iter().map(number).collect()
}

async fn messages_are_written_and_open_pages_follow(database: Database) {
    let server = serve(&database, &[]);
    let program = Program::of(&server).await;
    let (mut ann, join_ref, _) = member(server.addr).await;
    let payload = json!({"name": "ada", "message": "hi", "colour": [1, null]});
    let body = json!({"payload": payload}).to_string();
    let answer = program.send("POST", MESSAGES, body.as_bytes()).await;
    let created = answer.json();
    assert_eq!(answer.status, 201, "{created}");
    let (event, heard, id) = hear(&mut ann).await;
    assert_eq!((&*event, &heard), ("shout", &payload));
    assert_eq!(id, created["id"], "live and stored it has one id");
    assert_eq!(
        (&created["topic"], &created["event"], &created["payload"]),
        (&json!(LOBBY), &json!("shout"), &payload)
    );
    assert_eq!(created["inserted_at"], created["updated_at"]);
    let location = &answer.headers["location"];
    assert_eq!(program.get(location).await, created);
    ann.push(&join_ref, LOBBY, "shout", json!({"n": 2})).await;
    let (_, _, shouted) = hear(&mut ann).await;
    let next = create(&program, 3).await;
    assert_eq!(hear(&mut ann).await.2, next["id"]);
    let page = program.get(MESSAGES).await;
    assert_eq!(page["messages"][0], created);
    assert_eq!(page["messages"][1]["id"], shouted);
    assert_eq!(
        (&page["before"], &page["after"]),
        (&Value::Null, &Value::Null)
    );

    let new = json!({"name": "ada", "message": "hello"});
    let (status, updated) = program.ask("PUT", location, &json!({"payload": new})).await;
    assert_eq!((status, &updated["payload"]), (200, &new));
    assert_eq!(updated["inserted_at"], created["inserted_at"]);
    assert!(updated["updated_at"].as_str() > created["updated_at"].as_str());
    assert_eq!(program.get(location).await, updated);
    let (event, heard, _) = hear(&mut ann).await;
    let told = json!({"id": created["id"], "payload": new});
    assert_eq!((&*event, heard), ("message_updated", told));
    assert_eq!(database.rows(LOBBY)[0].message.as_deref(), Some("hello"));

    let gone = path(&next);
    let (status, _) = program.ask("DELETE", &gone, &Value::Null).await;
    assert_eq!(status, 204);
    let (event, heard, _) = hear(&mut ann).await;
    assert_eq!(
        (&*event, heard),
        ("message_deleted", json!({"id": next["id"]}))
    );
    for method in ["GET", "DELETE"] {
        let (status, error) = program.ask(method, &gone, &Value::Null).await;
        assert_eq!((status, &error["error"]), (404, &json!("unknown message")));
    }
    let (status, _) = program.ask("PUT", &gone, &json!({"payload": {}})).await;
    assert_eq!(status, 404);

    let (_, _, mut history) = member(server.addr).await;
    for message in history.as_array_mut().expect("messages") {
        let meta = message["_meta"].as_object_mut().expect("there");
        assert!(meta.remove("at").expect("there").is_string());
    }
    let mut first = new.clone();
    first["_meta"] = json!({"id": created["id"]});
    assert_eq!(history, json!([first, {"n": 2, "_meta": {"id": shouted}}]));
    let page = program.get(MESSAGES).await;
    let ids: Vec<_> = page["messages"]
        .as_array()
        .expect("messages")
        .iter()
        .map(|m| &m["id"])
        .collect();
    assert_eq!(ids, [&created["id"], &shouted], "changes are no messages");
}

async fn a_retry_is_known_by_its_client_ref(database: Database) {
    let server = serve(&database, &[]);
    let program = Program::of(&server).await;
    let (mut ann, join_ref, _) = member(server.addr).await;
    let body = json!({"payload": {"n": 1}, "client_ref": "a"});
    let (status, first) = program.ask("POST", MESSAGES, &body).await;
    assert_eq!((status, &first["client_ref"]), (201, &json!("a")));
    let retry = json!({"payload": {"n": 1, "again": true}, "client_ref": "a"});
    let again = program
        .send("POST", MESSAGES, retry.to_string().as_bytes())
        .await;
    assert_eq!((again.status, again.json()), (200, first.clone()));
    assert!(again.headers["location"].ends_with(first["id"].as_str().expect("an id")));
    // The same as the page would send it.
    let shout = json!({"n": 1, "client_ref": "a"});
    ann.push(&join_ref, LOBBY, "shout", shout.clone()).await;
    let (status, same) = program
        .ask("POST", MESSAGES, &json!({"payload": shout}))
        .await;
    assert_eq!((status, same), (200, first.clone()));
    let second = create(&program, 2).await;
    assert_eq!(hear(&mut ann).await.2, first["id"]);
    assert_eq!(
        hear(&mut ann).await.2,
        second["id"],
        "nobody heard it twice"
    );
    // And after a crash.
    server.kill();
    let server = serve(&database, &[]);
    let program = Program::of(&server).await;
    let (status, same) = program.ask("POST", MESSAGES, &retry).await;
    assert_eq!((status, &same["payload"]), (200, &json!({"n": 1})));
    assert_eq!(database.rows(LOBBY).len(), 2);
}

async fn a_deleted_message_is_not_published_again_by_a_retry(database: Database) {
    let server = serve(&database, &[]);
    let program = Program::of(&server).await;
    let body = json!({"payload": {"n": 1}, "client_ref": "a"});
    let (_, first) = program.ask("POST", MESSAGES, &body).await;
    let (status, _) = program.ask("DELETE", &path(&first), &Value::Null).await;
    assert_eq!(status, 204);
    let (status, error) = program.ask("POST", MESSAGES, &body).await;
    assert_eq!((status, &error["error"]), (410, &json!("gone")));
    assert_eq!(numbers(&program.get(MESSAGES).await), [0; 0]);
}

async fn ids_of_an_earlier_run_name_the_same_messages(database: Database) {
    let server = serve(&database, &[]);
    let old = create(&Program::of(&server).await, 1).await;
    // Unclean: the topic gets another epoch.
    server.kill();
    let server = serve(&database, &[]);
    let program = Program::of(&server).await;
    let (mut ann, _, history) = member(server.addr).await;
    let new = program.get(&path(&old)).await;
    assert_ne!(new["id"], old["id"]);
    assert_eq!(
        new["id"], history[0]["_meta"]["id"],
        "the id that clients have now"
    );
    assert_eq!(
        (&new["payload"], &new["inserted_at"]),
        (&old["payload"], &old["inserted_at"])
    );
    let next = create(&program, 2).await;
    hear(&mut ann).await;
    let old_cursor = old["id"].as_str().expect("an id");
    let page = program.get(&format!("{MESSAGES}?after={old_cursor}")).await;
    assert_eq!(page["messages"], json!([next]));
    let (status, _) = program
        .ask("PUT", &path(&old), &json!({"payload": {"n": 3}}))
        .await;
    assert_eq!(status, 200);
    let (_, told, _) = hear(&mut ann).await;
    assert_eq!(told, json!({"id": new["id"], "payload": {"n": 3}}));
}

async fn pages_lose_and_double_nothing_while_others_write(database: Database) {
    const COUNT: u64 = 400;
    let server = serve(&database, &["--history-limit", "1"]);
    let program = Program::of(&server).await;
    let (mut ann, join_ref, _) = member(server.addr).await;
    let writing = async {
        for n in 0..COUNT {
            ann.push(&join_ref, LOBBY, "shout", json!({"n": n})).await;
            // Its own broadcast: it writes no faster than it reads.
            hear(&mut ann).await;
        }
    };
    let reading = async {
        let (mut seen, mut cursor) = (Vec::new(), "0-0".to_owned());
        while seen.len() < COUNT as usize {
            let page = program
                .get(&format!("{MESSAGES}?after={cursor}&limit=7"))
                .await;
            assert_eq!(page["before"].is_null(), seen.is_empty());
            seen.extend(numbers(&page));
            let last = page["messages"]
                .as_array()
                .and_then(|messages| messages.last());
            if let Some(id) = last.and_then(|message| message["id"].as_str()) {
                id.clone_into(&mut cursor);
                assert!(page["after"].is_null() || page["after"] == cursor);
            }
        }
        seen
    };
    let looking_back = async {
        for _ in 0..5 {
            let mut page = program.get(&format!("{MESSAGES}?limit=9")).await;
            let mut seen = numbers(&page);
            while let Some(before) = page["before"].as_str() {
                page = program
                    .get(&format!("{MESSAGES}?limit=9&before={before}"))
                    .await;
                assert!(page["after"].is_string(), "there are newer ones");
                seen.splice(0..0, numbers(&page));
            }
            assert!(seen.iter().copied().eq(0..seen.len() as u64), "{seen:?}");
        }
    };
    let ((), seen, ()) = tokio::join!(writing, reading, looking_back);
    assert!(seen.iter().copied().eq(0..COUNT), "{seen:?}");

    // What is deleted while pages are turned leaves no gap beside it.
    let page = program.get(&format!("{MESSAGES}?limit=10")).await;
    let before = page["before"].as_str().expect("older ones");
    for message in page["messages"].as_array().expect("messages") {
        let (status, _) = program.ask("DELETE", &path(message), &Value::Null).await;
        assert_eq!(status, 204);
    }
    let older = program
        .get(&format!("{MESSAGES}?limit=3&before={before}"))
        .await;
    assert_eq!(numbers(&older), [387, 388, 389]);
    assert_eq!(older["after"], Value::Null, "nothing newer is left");
    let between = format!("{MESSAGES}?after=0-0&before={before}&limit=389");
    let page = program.get(&between).await;
    assert!(numbers(&page).into_iter().eq(0..389));
    let last = page["after"].as_str().expect("one is left");
    let between = format!("{MESSAGES}?after={last}&before={before}");
    assert_eq!(numbers(&program.get(&between).await), [389]);
    let none = program.get(&format!("{MESSAGES}?after={before}")).await;
    assert_eq!(none["messages"], json!([]));
    let last = none["before"].as_str().expect("there are older ones");
    let page = program
        .get(&format!("{MESSAGES}?limit=1&before={last}"))
        .await;
    assert_eq!(numbers(&page), [389]);
}

async fn pages_are_bounded_in_bytes(database: Database) {
    let rooms = "[[rooms]]\ntopics = \"random:*\"\nmax_message_bytes = 6_000_000\n";
    std::fs::write(database.dir.path().join("slackir.toml"), rooms).expect("writable");
    let server = serve(&database, &["--config", "slackir.toml"]);
    let program = Program::of(&server).await;
    for (n, size) in [
        (0, 1_500_000),
        (1, 1_500_000),
        (2, 1_500_000),
        (3, 5_000_000),
    ] {
        let body = json!({"payload": {"n": n, "long": "x".repeat(size)}});
        let (status, _) = program.ask("POST", MESSAGES, &body).await;
        assert_eq!(status, 201);
    }
    let mut page = program.get(MESSAGES).await;
    assert_eq!(numbers(&page), [3], "one that is longer than a page");
    let mut seen = Vec::new();
    while let Some(before) = page["before"].as_str() {
        page = program.get(&format!("{MESSAGES}?before={before}")).await;
        seen.push(numbers(&page));
    }
    assert_eq!(seen, [vec![1, 2], vec![0]]);
    let page = program.get(&format!("{MESSAGES}?after=0-0")).await;
    assert_eq!(numbers(&page), [0, 1]);
    assert!(page["after"].is_string());
}

async fn topics_are_any_text(database: Database) {
    let server = serve(&database, &[]);
    let program = Program::of(&server).await;
    for (encoded, topic) in [
        ("random%3Aa", "random:a"),
        ("random:a%2Fb", "random:a/b"),
        ("random:%25%2B+%20%3F%23%7B", "random:%++ ?#{"),
        ("random:%C3%A9%F0%9F%98%80", "random:é😀"),
        ("random:%2525", "random:%25"),
        ("random:..", "random:.."),
    ] {
        let messages = format!("/api/topics/{encoded}/messages");
        let body = json!({"payload": {"topic": topic}}).to_string();
        let answer = program.send("POST", &messages, body.as_bytes()).await;
        assert_eq!(
            (answer.status, &answer.json()["topic"]),
            (201, &json!(topic))
        );
        let found = program.get(&answer.headers["location"]).await;
        assert_eq!(found["topic"], topic);
        assert_eq!(database.payloads(topic), [json!({ "topic": topic })]);
    }
    assert_eq!(
        program.get("/api/topics/random:nobody/messages").await,
        json!({"messages": [], "before": null, "after": null})
    );
}

async fn a_database_that_does_not_answer_is_told(database: Database) {
    let server = serve(&database, &["--writer-rows", "1"]);
    let program = Program::of(&server).await;
    let first = create(&program, 1).await;
    let (mut ann, _, _) = member(server.addr).await;
    let mut blocked = database.block_writes();
    let body = json!({"payload": {"n": 2}, "client_ref": "a"});
    let refused = async {
        // The other message waits for the database, which has room for no more.
        assert_eq!(hear(&mut ann).await.0, "shout");
        for (method, target) in [("POST", MESSAGES), ("DELETE", &path(&first))] {
            let answer = program.send(method, target, br#"{"payload":{}}"#).await;
            let error = answer.json();
            assert_eq!(
                (answer.status, &error["error"]),
                (503, &json!("storage unavailable"))
            );
            assert_eq!(error["retry_after_ms"], 1_000);
            assert_eq!(answer.headers["retry-after"], "1");
        }
        assert_eq!(numbers(&program.get(MESSAGES).await), [1], "it can be read");
    };
    let ((status, error), ()) = tokio::join!(program.ask("POST", MESSAGES, &body), refused);
    assert_eq!((status, &error["error"]), (504, &json!("unconfirmed")));
    blocked.execute("ROLLBACK");
    let (status, retried) = program.ask("POST", MESSAGES, &body).await;
    assert_eq!((status, &retried["payload"]), (200, &json!({"n": 2})));
}
