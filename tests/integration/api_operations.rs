//! Each operation of the OpenAPI document is called, with the method and the path that the document has for it. Lists of
//! what is connected, the ends of connections, batches and the header Idempotency-Key.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::api::{Program, serve};
use crate::support::database::{Database, on_each_database};
use crate::support::phoenix::Phoenix;
use crate::support::process::Process;
use crate::support::wire::WireClient;

const ROOMS: &str = r#"
    [identity]
    fields = { id = "{connect.id}" }
    [[rooms]]
    topics = "room:*"
    events = ["shout"]
    server_events = ["notice"]
    [rooms.presence]
    key = "{user.id}"
    [[rooms]]
    topics = "live:*"
    history = "none"
    on.wave = { store = false }
"#;

on_each_database! {
    #[actix_web::test]
    each_operation_of_the_document_is_called,
    a_batch_has_a_result_for_each_message,
    the_header_names_a_message_as_its_client_ref_does,
}

fn start(database: &Database) -> Process {
    let written = std::fs::write(database.dir.path().join("slackir.toml"), ROOMS);
    written.expect("it can be written");
    serve(database, &["--config", "slackir.toml"])
}

async fn member(server: &Process, user: &str, topic: &str) -> Phoenix {
    let mut client = Phoenix::<WireClient>::dial_with(server.addr, &format!("&id={user}")).await;
    join(&mut client, topic).await;
    client
}

/// Joins a topic, whatever else the client is sent meanwhile.
async fn join(client: &mut Phoenix, topic: &str) {
    let reference = client.send_join(topic, json!({})).await;
    loop {
        let frame = client.next().await;
        if frame[3] == "phx_reply" && frame[1] == reference.as_str() {
            return assert_eq!(frame[4]["status"], "ok", "{frame}");
        }
    }
}

/// A call of an operation: the variable of the path, the query, the body, and the status of the answer.
type Call = (&'static str, String, &'static str, Value, u16);

/// One call for each operation, by its id, in the order in which they are made.
fn calls(message: &str, connection: &str) -> Vec<Call> {
    let payload = json!({"n": 1});
    let new = json!({"payload": payload});
    let none = || Value::Null;
    let topic = || "room:1".to_owned();
    let user = || "7".to_owned();
    let of_room = |rest: &str| format!("room:1/{rest}");
    vec![
        ("describe", String::new(), "", none(), 200),
        ("createMessage", topic(), "", new.clone(), 201),
        (
            "createMessages",
            String::new(),
            "",
            json!({"messages": [{"topic": "room:1", "payload": {}}]}),
            200,
        ),
        ("listMessages", topic(), "?limit=1", none(), 200),
        ("getMessage", of_room(message), "", none(), 200),
        ("updateMessage", of_room(message), "", new, 200),
        ("deleteMessage", of_room(message), "", none(), 204),
        ("eraseMessages", topic(), "?name=ada", none(), 200),
        (
            "eraseMessagesOfName",
            String::new(),
            "?name=ada",
            none(),
            200,
        ),
        (
            "broadcast",
            topic(),
            "",
            json!({"event": "notice", "payload": {}}),
            204,
        ),
        (
            "listTopics",
            String::new(),
            "?prefix=room:&sort=topic&limit=5",
            none(),
            200,
        ),
        ("listMembers", topic(), "?limit=5", none(), 200),
        ("listPresences", topic(), "", none(), 200),
        (
            "close",
            topic(),
            "",
            json!({"to": {"user.id": "nobody"}}),
            204,
        ),
        (
            "listConnections",
            String::new(),
            "?user=7&limit=5",
            none(),
            200,
        ),
        ("disconnect", connection.to_owned(), "", none(), 204),
        ("disconnectUser", user(), "", none(), 200),
        (
            "ban",
            String::new(),
            "",
            json!({"address": "192.0.2.0/24", "kind": "mute", "seconds": 60}),
            201,
        ),
        (
            "setSlowMode",
            topic(),
            "",
            json!({"interval": 30, "seconds": 60}),
            201,
        ),
        ("getSlowMode", topic(), "", none(), 200),
        ("listSlowModes", String::new(), "?limit=1", none(), 200),
        ("removeSlowMode", topic(), "", none(), 204),
        ("listBans", String::new(), "?limit=1", none(), 200),
        ("unban", "{ban}".to_owned(), "", none(), 204),
        ("revokeUser", user(), "", none(), 200),
        ("restoreUser", user(), "", none(), 204),
        ("revokeToken", user(), "", none(), 200),
        ("restoreToken", user(), "", none(), 204),
    ]
}

async fn each_operation_of_the_document_is_called(database: Database) {
    let server = start(&database);
    let program = Program::of(&server).await;
    let mut listed: BTreeMap<_, _> = program.document.operations_by_id();
    let _ann = member(&server, "7", "room:1").await;
    let messages = "/api/topics/room:1/messages";
    let (_, message) = program.ask("POST", messages, &json!({"payload": {}})).await;
    let (_, connections) = program.ask("GET", "/api/connections", &Value::Null).await;
    let connection = connections["connections"][0]["connection"]
        .as_str()
        .expect("one");
    let mut ban = String::new();
    for (id, variables, query, body, status) in
        calls(message["id"].as_str().expect("an id"), connection)
    {
        let (method, path) = listed
            .remove(id)
            .unwrap_or_else(|| panic!("the document has no {id}"));
        let mut target = path;
        let variables = variables.replace("{ban}", &ban);
        for value in variables.split('/').filter(|value| !value.is_empty()) {
            let (open, close) = (
                target.find('{').expect("a variable"),
                target.find('}').expect("its end"),
            );
            target.replace_range(open..=close, value);
        }
        assert!(
            !target.contains('{'),
            "{id}: a variable of {target} has no value"
        );
        let (answered, answer) = program
            .ask(&method, &format!("{target}{query}"), &body)
            .await;
        assert_eq!(answered, status, "{id}: {answer}");
        if id == "ban" {
            answer["id"].as_str().expect("an id").clone_into(&mut ban);
        }
    }
    assert!(listed.is_empty(), "nothing calls {listed:?}");
}

#[actix_web::test]
async fn a_topic_knows_its_newest_saved_message_after_a_restart() {
    let database = Database::sqlite();
    let server = start(&database);
    let program = Program::of(&server).await;
    let target = "/api/topics/room:1/messages";
    let (status, message) = program
        .ask("POST", target, &json!({"payload": {"n": 1}}))
        .await;
    assert_eq!(status, 201);
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0));

    let server = start(&database);
    let _ann = member(&server, "ann", "room:1").await;
    let topics = Program::of(&server).await.get("/api/topics").await;
    assert_eq!(
        topics["topics"][0]["last_message_at"],
        message["inserted_at"]
    );
}

#[actix_web::test]
async fn what_is_connected_is_listed_and_ended() {
    let database = Database::sqlite();
    let server = start(&database);
    let program = Program::of(&server).await;
    let mut ann = member(&server, "ann", "room:1").await;
    join(&mut ann, "live:1").await;
    let mut bob = member(&server, "bob", "room:1").await;
    let mut nobody = Phoenix::<WireClient>::dial(server.addr).await;
    nobody.heartbeat().await;
    join(&mut ann, "room:2").await;

    let topics = program.get("/api/topics").await;
    assert_eq!(topics["total"], 3);
    assert_eq!(
        topics["topics"][0]["topic"], "room:1",
        "it has the most members"
    );
    assert_eq!(topics["topics"][0]["members"], 2);
    let topics = program.get("/api/topics?prefix=live&sort=messages").await;
    let expected = json!({
        "topic": "live:1", "members": 1, "messages": 0, "last_message_at": null, "history": "none",
        "durability": null,
    });
    assert_eq!(topics, json!({"topics": [expected], "total": 1}));
    let topics = program.get("/api/topics?prefix=room:2").await;
    let topic = &topics["topics"][0];
    assert_eq!(
        (&topic["history"], &topic["durability"]),
        (&json!("saved"), &json!("relaxed"))
    );

    let members = program.get("/api/topics/room:1/members?limit=1").await;
    assert_eq!(
        (&members["total"], &members["complete"]),
        (&json!(2), &json!(true))
    );
    assert_eq!(members["members"][0]["user"], "bob");
    let presence = program.get("/api/topics/room:1/presence").await;
    let keys = presence["presence"].as_object().expect("presences").keys();
    assert!(keys.eq(["ann", "bob"]), "{presence}");
    assert!(presence["presence"]["ann"]["metas"][0]["phx_ref"].is_string());
    for topic in ["live:1", "other:1"] {
        let target = format!("/api/topics/{topic}/presence");
        let (status, error) = program.ask("GET", &target, &Value::Null).await;
        assert_eq!((status, &error["error"]), (404, &json!("no presence")));
    }

    let connections = program.get("/api/connections?limit=1").await;
    assert_eq!(
        (
            &connections["total"],
            &connections["connections"][0]["user"]
        ),
        (&json!(3), &Value::Null)
    );
    let of_ann = program
        .get("/api/connections?user=ann&address=127.0.0.1")
        .await;
    let ann_is = &of_ann["connections"][0];
    assert_eq!(
        (&of_ann["total"], &ann_is["address"]),
        (&json!(1), &json!("127.0.0.1"))
    );
    let mut channels: Vec<_> = ann_is["channels"]
        .as_array()
        .expect("topics")
        .iter()
        .collect();
    channels.sort_by_key(|topic| topic.as_str());
    assert_eq!(channels, ["live:1", "room:1", "room:2"]);
    for count in ["received_bytes", "sent_bytes"] {
        assert!(ann_is[count].as_u64() > Some(50), "{ann_is}");
        assert_eq!(of_ann["sum"][count], ann_is[count], "{of_ann}");
    }
    assert_eq!(
        (&ann_is["limited"], &of_ann["sum"]["limited"]),
        (&json!(0), &json!(0))
    );
    let far = program.get("/api/connections?address=192.0.2.1").await;
    let nothing = json!({"received_bytes": 0, "sent_bytes": 0, "limited": 0});
    assert_eq!(
        far,
        json!({"connections": [], "total": 0, "sum": nothing, "complete": true})
    );

    let target = format!(
        "/api/connections/{}",
        ann_is["connection"].as_str().expect("an id")
    );
    assert_eq!(program.ask("DELETE", &target, &Value::Null).await.0, 204);
    assert_eq!(ann.closed().await, 1001);
    for target in [&*target, "/api/connections/0", "/api/connections/first"] {
        let (status, error) = program.ask("DELETE", target, &Value::Null).await;
        assert_eq!(
            (status, &error["error"]),
            (404, &json!("unknown connection"))
        );
    }
    let (status, ended) = program
        .ask("POST", "/api/users/bob/disconnect", &Value::Null)
        .await;
    assert_eq!((status, ended), (200, json!({"disconnected": 1})));
    assert_eq!(bob.closed().await, 1001);
    let (_, ended) = program
        .ask("POST", "/api/users/bob/disconnect", &Value::Null)
        .await;
    assert_eq!(ended, json!({"disconnected": 0}));
    for target in [
        "/api/topics?sort=size&limit=0",
        "/api/connections?address=here&limit=1",
    ] {
        let (status, error) = program.ask("GET", target, &Value::Null).await;
        assert_eq!(
            (status, &error["error"]),
            (422, &json!("invalid")),
            "{target}"
        );
    }
}

async fn a_batch_has_a_result_for_each_message(database: Database) {
    let server = start(&database);
    let program = Program::of(&server).await;
    let mut ann = member(&server, "ann", "room:1").await;
    let batch = json!({"messages": [
        {"topic": "room:1", "payload": {"n": 1}, "client_ref": "a"},
        {"topic": "room:1", "payload": 7},
        {"topic": "nowhere", "payload": {}},
        {"topic": "room:2", "event": "shout", "payload": {"n": 2}},
        {"payload": {}},
        7,
        {"topic": "room:1", "payload": {"n": 1}, "client_ref": "a"},
        {"topic": "room:1", "payload": {"n": 3}},
    ]});
    let (status, body) = program.ask("POST", "/api/messages/batch", &batch).await;
    assert_eq!(status, 200, "{body}");
    let results = body["results"].as_array().expect("results");
    let statuses = results.iter().map(|result| result["status"].as_u64());
    let expected = [201, 422, 404, 201, 422, 422, 200, 201];
    assert!(statuses.eq(expected.map(Some)), "{body}");
    assert_eq!(results[0]["message"], results[6]["message"], "a retry");
    assert_eq!(results[3]["message"]["topic"], "room:2");
    assert!(results[1]["error"]["fields"]["payload"].is_string());
    assert_eq!(results[2]["error"]["error"], "no log");
    assert!(results[4]["error"]["fields"]["topic"].is_string());
    let mut heard = Vec::new();
    while heard.len() < 2 {
        let (event, payload) = ann.next_event().await;
        if event == "shout" {
            heard.push(payload["n"].as_u64());
        }
    }
    assert_eq!(heard, [Some(1), Some(3)]);
    assert_eq!(
        database.payloads("room:1"),
        [json!({"n": 1}), json!({"n": 3})]
    );

    let full = vec![json!({"topic": "room:3", "payload": {}}); 100];
    let (_, body) = program
        .ask("POST", "/api/messages/batch", &json!({"messages": full}))
        .await;
    let results = body["results"].as_array().expect("results");
    assert!(results.len() == 100 && results.iter().all(|result| result["status"] == 201));
    for messages in [json!([]), json!(7), json!(vec![json!({}); 101])] {
        let body = json!({"messages": messages});
        let (status, error) = program.ask("POST", "/api/messages/batch", &body).await;
        assert_eq!(
            (status, error["fields"]["messages"].is_string()),
            (422, true)
        );
    }
    assert_eq!(database.payloads("room:3").len(), 100);
}

async fn the_header_names_a_message_as_its_client_ref_does(database: Database) {
    let server = start(&database);
    let program = Program::of(&server).await;
    let messages = "/api/topics/room:1/messages";
    let post = async |key: &str, body: Value| {
        let header = [("Idempotency-Key", Some(key))];
        let body = body.to_string();
        let answer = program
            .send_with(&header, "POST", messages, body.as_bytes())
            .await;
        (answer.status, answer.json())
    };
    let (status, first) = post("k1", json!({"payload": {"n": 1}})).await;
    assert_eq!((status, &first["client_ref"]), (201, &json!("k1")));
    let retries = [
        ("\"k1\"", json!({"payload": {"n": 1}})),
        ("k1", json!({"payload": {"n": 1}, "client_ref": "k1"})),
        ("k1", json!({"payload": {"n": 1}, "client_ref": null})),
    ];
    for (key, body) in retries {
        let (status, again) = post(key, body).await;
        assert_eq!((status, &again["id"]), (200, &first["id"]), "{key}");
    }
    let (status, error) = post("k1", json!({"payload": {}, "client_ref": "k2"})).await;
    assert_eq!((status, &error["error"]), (400, &json!("conflicting keys")));
    for key in ["\"\"", &"x".repeat(65)] {
        let (status, error) = post(key, json!({"payload": {}})).await;
        assert_eq!(
            (status, error["fields"]["idempotency-key"].is_string()),
            (422, true)
        );
    }
    let header = [("Idempotency-Key", Some("k3"))];
    let batch = json!({"messages": [{"topic": "room:1", "payload": {}}]}).to_string();
    let answer = program
        .send_with(&header, "POST", "/api/messages/batch", batch.as_bytes())
        .await;
    assert_eq!(answer.status, 422);
    assert_eq!(database.payloads("room:1").len(), 1);
}
