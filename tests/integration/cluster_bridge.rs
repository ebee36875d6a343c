//! A cluster beside a Phoenix application on the same Redis: `phoenix_bridge`. The application's messages were written by
//! Erlang (`tests/fixtures/phoenix_bridge`).

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use redis::aio::{MultiplexedConnection, PubSub};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::api::{Program, TOKEN};
use crate::support::bus::{Bus, Engine};
use crate::support::node::{Cluster, Node, PATIENCE, TOPIC, until};
use crate::support::phoenix::Phoenix;
use crate::support::process::run;
use crate::support::wire::{DEADLINE, Frame, http};

const MESSAGES: &str = include_str!("../fixtures/phoenix_bridge/messages.txt");
const CHANNEL: &str = "phx:Elixir.MyApp.PubSub.Adapter";

const CONFIG: &str = r#"
phoenix_bridge = "MyApp.PubSub"
[identity]
fields = { id = "{connect.user_id}" }
socket_id = "users_socket:{user.id}"
[[rooms]]
topics = "random:*"
history = "none"
server_events = ["typing"]
presence = { key = "{params.name}" }
on.shout = {}
on.typing = { store = false }
on.whisper = { store = false, to = { "user.id" = "1" } }
[[rooms]]
topics = "users_socket:*"
server_events = ["disconnect"]
"#;

/// A message that Erlang has written.
fn message(name: &str) -> Bytes {
    let mut lines = MESSAGES.lines().filter_map(|line| line.split_once(' '));
    let (_, hex) = lines.find(|(found, _)| *found == name).expect(name);
    (0..hex.len() / 2)
        .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hex digits"))
        .collect()
}

/// A node of the Phoenix application.
struct Application {
    commands: MultiplexedConnection,
    subscription: PubSub,
}

impl Application {
    async fn start(bus: &Bus) -> Self {
        let client = redis::Client::open(bus.url()).expect("a URL of Redis");
        let connected = client.get_multiplexed_async_connection().await;
        let mut subscription = client.get_async_pubsub().await.expect("Redis answers");
        subscription
            .subscribe(CHANNEL)
            .await
            .expect("it subscribes");
        Self {
            commands: connected.expect("Redis answers"),
            subscription,
        }
    }

    async fn publish_bytes(&mut self, message: &[u8]) -> i64 {
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(CHANNEL).arg(message);
        publish
            .query_async(&mut self.commands)
            .await
            .expect("an answer")
    }

    /// Publishes a message for the nodes of the cluster.
    async fn publish(&mut self, name: &str) {
        let receivers = self.publish_bytes(&message(name)).await;
        assert_eq!(receivers, 3, "two nodes and this application hear {name}");
        let own = self.hear().await;
        assert_eq!(own, message(name), "the application hears itself, too");
    }

    /// The next message on the channel.
    async fn hear(&mut self) -> Bytes {
        let mut messages = self.subscription.on_message();
        let next = tokio::time::timeout(DEADLINE, messages.next()).await;
        let next = next.expect("a message comes").expect("Redis runs");
        Bytes::copy_from_slice(next.get_payload_bytes())
    }
}

/// Two nodes, and a client of each with this user.
async fn two(cluster: &Cluster) -> ([Node; 2], [(Phoenix, String); 2]) {
    let config = cluster.database.dir.path().join("bridge.toml");
    std::fs::write(&config, CONFIG).expect("writable");
    let config = config.to_str().expect("a path of text");
    let args = ["--config", config, "--api-token", TOKEN];
    let nodes = [(); 2].map(|()| cluster.node_with(&args));
    let clients = [member(&nodes[0], "1").await, member(&nodes[1], "2").await];
    (nodes, clients)
}

async fn member(node: &Node, user: &str) -> (Phoenix, String) {
    let mut client = Phoenix::dial_with(node.addr(), &format!("&user_id={user}")).await;
    let join_ref = client.send_join(TOPIC, json!({ "name": user })).await;
    assert_eq!(client.reply_to(&join_ref).await["status"], "ok");
    (client, join_ref)
}

/// The next event that is not of a presence.
async fn heard(client: &mut Phoenix) -> (String, Value) {
    loop {
        let (event, mut payload) = client.next_event().await;
        if !event.starts_with("presence_") {
            if let Some(payload) = payload.as_object_mut() {
                payload.remove("_meta");
            }
            return (event, payload);
        }
    }
}

/// The data of the next binary frame.
async fn binary(client: &mut Phoenix) -> Vec<u8> {
    loop {
        match client.wire.recv(1, DEADLINE).await.pop() {
            Some(Frame::Binary(data)) => return data,
            Some(Frame::Text(_)) => {}
            other => panic!("a binary frame, not {other:?}"),
        }
    }
}

async fn all_hear(clients: &mut [(Phoenix, String); 2], event: &str, payload: &Value) {
    for (client, _) in clients {
        assert_eq!(heard(client).await, (event.to_owned(), payload.clone()));
    }
}

async fn bridged(node: &Node, result: &str) -> u64 {
    let metrics = http(node.addr(), "GET", "/metrics", &[], &[]).await;
    let metrics = String::from_utf8(metrics.expect("an answer").body).expect("text");
    let name = format!("slackir_cluster_bridge_total{{result=\"{result}\"}} ");
    let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
    line.and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("{name} in {metrics}"))
}

/// The payload of the message `written_map`, with its keys in another order.
fn typing() -> Value {
    json!({"pi": 3.5, "name": "zoë", "n": -7, "list": [true, "two", {}], "none": null})
}

#[actix_web::test]
async fn events_of_a_phoenix_application_are_shown_once_on_each_node() {
    let cluster = Cluster::new();
    let (nodes, mut clients) = two(&cluster).await;
    let mut application = Application::start(&cluster.bus).await;
    application.publish("map").await;
    let payload = json!({
        "name": "zoë", "n": -7, "big": 9_007_199_254_740_993_i64, "pi": 3.5, "state": "away", "none": null, "yes": true,
        "no": false, "list": [1, "two", {"3": []}], "bytes": [97, 98, 99],
    });
    all_hear(&mut clients, "typing", &payload).await;
    application.publish("binary").await;
    for (client, _) in &mut clients {
        let expected = b"\x02\x0c\x06random:lobbytyping\x00\xff\x01";
        assert_eq!(binary(client).await, expected);
    }
    // None of these is shown, and neither does any of them harm.
    let untranslatable = [
        "of_another_topic",
        "no_map",
        "no_utf8",
        "struct",
        "tuple",
        "pid",
        "no_broadcast",
        "another_struct",
        "presence_heartbeat",
        "phx_close",
        "presence_diff",
        "message_deleted",
        "old",
    ];
    for name in untranslatable {
        application.publish(name).await;
    }
    for name in ["our_own", "for_another_node", "stored"] {
        application.publish(name).await;
    }
    for rubbish in [&b""[..], b"hello", &[131], &[131, 80, 0, 16, 0, 0, 0x78]] {
        application.publish_bytes(rubbish).await;
        application.hear().await;
    }
    application.publish("compressed").await;
    let payload = json!({"long": "slackir ".repeat(500)});
    all_hear(&mut clients, "typing", &payload).await;
    // What a node shows to its members, it sends to nobody: the next event is this one again.
    application.publish("for_us_alone").await;
    all_hear(&mut clients, "typing", &json!({})).await;
    for node in &nodes {
        assert_eq!(bridged(node, "received").await, 4);
        assert_eq!(bridged(node, "stored").await, 1);
        let refused = untranslatable.len() as u64 + 4;
        assert_eq!(bridged(node, "untranslatable").await, refused);
        assert_eq!(bridged(node, "sent").await, 0);
    }
    assert_eq!(cluster.database.payloads(TOPIC), Vec::<String>::new());
    nodes.into_iter().for_each(Node::end);
}

#[actix_web::test]
async fn live_events_reach_a_phoenix_application_once_and_saved_ones_do_not() {
    let cluster = Cluster::new();
    let (nodes, mut clients) = two(&cluster).await;
    let mut application = Application::start(&cluster.bus).await;
    let written = message("written_map");
    for round in 0..2 {
        let (client, join_ref) = &mut clients[round];
        client.push(join_ref, TOPIC, "typing", typing()).await;
        all_hear(&mut clients, "typing", &typing()).await;
        assert_eq!(application.hear().await, written, "round {round}");
        // Nothing of this crosses: a saved message, one for some members, and who comes and goes.
        let (client, join_ref) = &mut clients[round];
        let said = json!({"name": "ada", "message": "hi"});
        client.push(join_ref, TOPIC, "shout", said.clone()).await;
        all_hear(&mut clients, "shout", &said).await;
        let (client, join_ref) = &mut clients[round];
        client.push(join_ref, TOPIC, "whisper", said.clone()).await;
        let whispered = heard(&mut clients[0].0).await;
        assert_eq!(whispered, ("whisper".to_owned(), said));
        drop(member(&nodes[round], "3").await);
    }
    // A program's event, for a topic without members.
    let program = Program::of(&nodes[0].server).await;
    let event = json!({"event": "typing", "payload": typing()});
    let target = "/api/topics/random:empty/broadcast";
    let (status, answer) = program.ask("POST", target, &event).await;
    assert_eq!(status, 204, "{answer}");
    let heard = application.hear().await;
    let topic = b"random:empty";
    assert!(heard.windows(topic.len()).any(|part| part == topic));
    assert_eq!(bridged(&nodes[0], "sent").await, 2);
    assert_eq!(bridged(&nodes[1], "sent").await, 1);
    assert_eq!(bridged(&nodes[1], "received").await, 0);
    nodes.into_iter().for_each(Node::end);
}

#[actix_web::test]
async fn a_disconnect_of_a_sockets_id_crosses_both_ways() {
    let cluster = Cluster::new();
    let (nodes, [(mut ada, _), (mut bob, _)]) = two(&cluster).await;
    let mut application = Application::start(&cluster.bus).await;
    application.publish("disconnect").await;
    assert_eq!(ada.closed().await, 1001);
    let program = Program::of(&nodes[1].server).await;
    let target = "/api/topics/users_socket:1/broadcast";
    let event = json!({"event": "disconnect", "payload": {}});
    let (status, answer) = program.ask("POST", target, &event).await;
    assert_eq!(status, 204, "{answer}");
    assert_eq!(application.hear().await, message("written_disconnect"));
    bob.push("1", TOPIC, "typing", typing()).await;
    assert_eq!(heard(&mut bob).await.0, "typing", "bob is another user");
    nodes.into_iter().for_each(Node::end);
}

#[actix_web::test]
async fn the_bridge_carries_again_after_redis_has_restarted() {
    let mut cluster = Cluster::new();
    let (nodes, mut clients) = two(&cluster).await;
    let port = cluster.bus.port();
    drop(cluster.bus);
    let (client, join_ref) = &mut clients[0];
    client.push(join_ref, TOPIC, "typing", json!({})).await;
    let lost = heard(client).await;
    assert_eq!(lost.0, "typing", "members of the node hear it all the same");
    cluster.bus = Bus::start_on(Engine::Redis, port).expect("its port is free again");
    let mut application = Application::start(&cluster.bus).await;
    let begun = Instant::now();
    while application.publish_bytes(&message("our_own")).await < 3 {
        assert!(begun.elapsed() < PATIENCE, "the nodes come back");
        application.hear().await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    application.hear().await;
    application.publish("for_us_alone").await;
    all_hear(&mut clients, "typing", &json!({})).await;
    let (client, join_ref) = &mut clients[1];
    client.push(join_ref, TOPIC, "typing", typing()).await;
    assert_eq!(heard(client).await, ("typing".to_owned(), typing()));
    assert_eq!(application.hear().await, message("written_map"));
    nodes.into_iter().for_each(Node::end);
}

/// A real Elixir does what the adapter does.
#[actix_web::test]
async fn an_elixir_program_hears_and_is_heard() {
    let cluster = Cluster::new();
    let (nodes, mut clients) = two(&cluster).await;
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/phoenix_bridge/application.exs"
    );
    let mut elixir = Command::new("elixir")
        .args([script, &cluster.bus.port().to_string()])
        .stdout(Stdio::null())
        .spawn()
        .expect("it is installed: `apt install elixir`");
    all_hear(
        &mut clients,
        "typing",
        &json!({"from": "elixir", "at": null}),
    )
    .await;
    let (client, join_ref) = &mut clients[0];
    client.push(join_ref, TOPIC, "typing", typing()).await;
    all_hear(&mut clients, "typing", &typing()).await;
    let inspected = r#"%{"list" => [true, "two", %{}], "n" => -7, "name" => "zoë", "none" => nil, "pi" => 3.5}"#;
    let [(ada, _), (bob, _)] = &mut clients;
    let expected = ("typing".to_owned(), json!({ "heard": inspected }));
    assert_eq!(heard(bob).await, expected);
    assert_eq!(heard(ada).await, expected);
    assert_eq!(ada.closed().await, 1001);
    let mut ended = None;
    until("the program ends", || {
        ended = elixir.try_wait().expect("it is a child");
        ended.is_some()
    })
    .await;
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}");
    nodes.into_iter().for_each(Node::end);
}

#[actix_web::test]
async fn a_bridge_without_redis_is_refused() {
    let dir = TempDir::new().expect("a folder");
    let nats = ["--nats-url", "nats://127.0.0.1:1", "--persist", "off"];
    let bridge = ["--phoenix-bridge", "MyApp.PubSub"];
    let wrong = ["--phoenix-bridge", "My App"];
    for (args, says) in [
        (&bridge[..], "the Phoenix application of phoenix_bridge"),
        (&[&nats[..], &bridge].concat(), "set redis_url to its URL"),
        (&wrong, "must be the name of a Phoenix.PubSub"),
    ] {
        for command in [&["serve"][..], &["config", "check"]] {
            let args = [command, &["--port", "0"], args].concat();
            let refused = run(&args, dir.path());
            let said = [refused.stdout, refused.stderr].concat();
            let said = String::from_utf8_lossy(&said);
            assert!(
                !refused.status.success() && said.contains(says),
                "{args:?}: {said}"
            );
        }
    }
}
