//! Frontends of similar chat applications, served by a config file alone: other topics, other events,
//! other fields, another history.

use serde_json::{Value, json};

use crate::support::database::{Database, Row, on_each_database};
use crate::support::phoenix::Phoenix;
use crate::support::process::Process;

const ROOMS: &str = r#"
[[rooms]]
topics = "elixirbridge"
events = ["new_message"]
history = "none"
fields = { name = "user", message = "body" }

[[rooms]]
topics = "lobby"

[[rooms]]
topics = "room:*"
history = "per_event"
"#;

on_each_database! {
    #[actix_web::test]
    elixirbridge_has_its_own_event_and_fields,
    the_lobby_is_one_topic,
    a_room_gives_its_history_as_one_shout_a_row,
}

fn serve(database: &Database) -> Process {
    let path = database.dir.path().join("rooms.toml");
    std::fs::write(path, ROOMS).expect("writable");
    database.serve(&["--config", "rooms.toml"])
}

/// Joins, which is answered with `{}` as in Phoenix.
async fn join(client: &mut Phoenix, topic: &str) -> String {
    let (join_ref, reply) = client.join(topic).await;
    assert_eq!(reply, json!({}));
    join_ref
}

/// One says something, and everybody hears exactly that; nobody is answered.
async fn say(clients: &mut [Phoenix], join_ref: &str, topic: &str, event: &str, payload: Value) {
    clients[0]
        .push(join_ref, topic, event, payload.clone())
        .await;
    for client in clients {
        assert_eq!(
            client.next_event().await,
            (event.to_owned(), payload.clone())
        );
        client.heartbeat().await;
    }
}

async fn elixirbridge_has_its_own_event_and_fields(database: Database) {
    const TOPIC: &str = "elixirbridge";
    let server = serve(&database);
    let mut ada = Phoenix::connect(server.addr).await;
    let join_ref = join(&mut ada, TOPIC).await;
    ada.heartbeat().await;
    let mut bob = Phoenix::connect(server.addr).await;
    join(&mut bob, TOPIC).await;

    let said = json!({"user": "ada", "body": "hi", "colour": "#f0f", "name": "not this"});
    let mut both = [ada, bob];
    say(&mut both, &join_ref, TOPIC, "new_message", said.clone()).await;
    let [mut ada, _] = both;
    let shout = ada.push(&join_ref, TOPIC, "shout", said.clone()).await;
    let unknown = json!({"status": "error", "response": {"reason": "unknown event"}});
    assert_eq!(ada.reply_to(&shout).await, unknown);

    let mut late = Phoenix::connect(server.addr).await;
    join(&mut late, TOPIC).await;
    late.heartbeat().await;
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0));
    let row = Row {
        seq: 1,
        event: "new_message".to_owned(),
        payload: said.to_string(),
        name: Some("ada".to_owned()),
        message: Some("hi".to_owned()),
    };
    assert_eq!(database.rows(TOPIC), [row]);
}

async fn the_lobby_is_one_topic(database: Database) {
    const TOPIC: &str = "lobby";
    let server = serve(&database);
    let mut ada = Phoenix::connect(server.addr).await;
    let join_ref = join(&mut ada, TOPIC).await;
    let none = ("messages_history".to_owned(), json!({"messages": []}));
    assert_eq!(ada.next_event().await, none);
    let said = json!({"name": "ada", "message": "hi", "room_id": 7});
    let mut alone = [ada];
    say(&mut alone, &join_ref, TOPIC, "shout", said.clone()).await;

    let mut late = Phoenix::connect(server.addr).await;
    join(&mut late, TOPIC).await;
    let history = ("messages_history".to_owned(), json!({"messages": [said]}));
    assert_eq!(late.next_event().await, history);

    for elsewhere in ["lobby:1", "lobb", "random:lobby"] {
        let join_ref = late.send_join(elsewhere, json!({})).await;
        let unmatched = json!({"status": "error", "response": {"reason": "unmatched topic"}});
        assert_eq!(late.reply_to(&join_ref).await, unmatched, "{elsewhere}");
    }
}

async fn a_room_gives_its_history_as_one_shout_a_row(database: Database) {
    const TOPIC: &str = "room:lobby";
    let server = serve(&database);
    let mut ada = Phoenix::connect(server.addr).await;
    let join_ref = join(&mut ada, TOPIC).await;
    ada.heartbeat().await;
    let said = [
        json!({"name": "ada", "message": "first"}),
        json!({"name": "", "message": "second"}),
    ];
    let mut alone = [ada];
    for payload in &said {
        say(&mut alone, &join_ref, TOPIC, "shout", payload.clone()).await;
    }

    let mut late = Phoenix::connect(server.addr).await;
    let join_ref = join(&mut late, TOPIC).await;
    for payload in &said {
        let shout = json!([join_ref, null, TOPIC, "shout", payload]);
        assert_eq!(late.next().await, shout);
    }
    late.heartbeat().await;
}
