//! Messages to some members, to other topics and from programs, and the forms of histories: by configuration alone.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::api::{Program, TOKEN};
use crate::support::phoenix::Phoenix;
use crate::support::process::Process;

/// A server with this configuration and the HTTP API.
fn serve(config: &str) -> (TempDir, Process) {
    Process::configured(config, &["--api-token", TOKEN])
}

/// A client with an id and a role, in the topic; and its join_ref.
async fn member(addr: SocketAddr, id: u32, role: &str, topic: &str) -> (Phoenix, String) {
    let mut client = Phoenix::dial_with(addr, &format!("&id={id}&role={role}")).await;
    let join_ref = join(&mut client, topic).await;
    (client, join_ref)
}

/// Joins the topic; the join_ref.
async fn join(client: &mut Phoenix, topic: &str) -> String {
    let join_ref = client.send_join(topic, json!({})).await;
    assert_eq!(client.reply_to(&join_ref).await["status"], "ok");
    join_ref
}

fn event(name: &str, payload: Value) -> (String, Value) {
    (name.to_owned(), payload)
}

const CALLS: &str = r#"
    [identity]
    fields = { id = "{connect.id:int}", role = "{connect.role}" }
    [[rooms]]
    topics = "call:*"
    history = "reply"
    server_events = ["ring"]
    [rooms.on.signal]
    to = { "user.id" = "{payload.to}" }
    stamp = { from = "{user.id}" }
    reply = true
    [rooms.on.page]
    to = { "me.duty" = ["yes", "{payload.duty}"], "user.role" = "agent" }
    [rooms.on.duty]
    set = { duty = "{payload.duty}" }
    to = "sender"
    [rooms.on.done]
"#;

/// Signalling of WebRTC: an offer reaches the one whom it is for.
#[actix_web::test]
async fn a_message_reaches_the_members_whose_labels_it_names() {
    let (_dir, server) = serve(CALLS);
    let topic = "call:1";
    let (mut ann, ann_ref) = member(server.addr, 1, "agent", topic).await;
    let (mut bob, bob_ref) = member(server.addr, 2, "agent", topic).await;
    let (mut tab, _) = member(server.addr, 2, "guest", topic).await;
    let offer = json!({"to": 2, "from": 9, "sdp": "v=0"});
    let reference = ann.push(&ann_ref, topic, "signal", offer).await;
    let signal = event("signal", json!({"to": 2, "sdp": "v=0", "from": 1}));
    assert_eq!(bob.next_event().await, signal);
    assert_eq!(tab.next_event().await, signal, "both tabs of the user");
    assert_eq!(ann.reply_to(&reference).await["status"], "ok");
    for nobody in [json!(3), json!(null), json!([2])] {
        let to_nobody = json!({"to": nobody});
        let reference = ann.push(&ann_ref, topic, "signal", to_nobody).await;
        assert_eq!(ann.reply_to(&reference).await["status"], "ok");
    }

    // Labels of `me.*` follow the member.
    bob.push(&bob_ref, topic, "duty", json!({"duty": "late"}))
        .await;
    assert_eq!(bob.next_event().await.0, "duty");
    let page = json!({"duty": "late"});
    ann.push(&ann_ref, topic, "page", page.clone()).await;
    assert_eq!(bob.next_event().await, event("page", page));
    ann.push(&ann_ref, topic, "done", json!({})).await;
    for client in [&mut ann, &mut bob, &mut tab] {
        assert_eq!(client.next_event().await, event("done", json!({})));
    }
    let mut late: Phoenix = Phoenix::dial_with(server.addr, "").await;
    let join_ref = late.send_join(topic, json!({})).await;
    let history = &late.reply_to(&join_ref).await["response"]["messages"];
    assert_eq!(*history, json!([{}]), "only what was for all is kept");
}

/// A program rings one user, and ends channels.
#[actix_web::test]
async fn a_program_reaches_some_members_and_ends_their_channels() {
    let (_dir, server) = serve(CALLS);
    let program = Program::of(&server).await;
    let topic = "call:1";
    let (mut ann, ann_ref) = member(server.addr, 1, "agent", topic).await;
    let (mut bob, bob_ref) = member(server.addr, 2, "guest", topic).await;
    let broadcast = "/api/topics/call:1/broadcast";
    let ring = |n: u32, to: Value| json!({"event": "ring", "payload": {"n": n}, "to": to});
    for (n, to) in [
        (1, json!({"user.id": [2, 3]})),
        (2, json!({"user.id": 1})),
        (3, Value::Null),
    ] {
        let (status, answer) = program.ask("POST", broadcast, &ring(n, to)).await;
        assert_eq!(status, 204, "{answer}");
    }
    for (client, numbers) in [(&mut ann, [2, 3]), (&mut bob, [1, 3])] {
        for n in numbers {
            assert_eq!(client.next_event().await, event("ring", json!({"n": n})));
        }
    }
    for (body, field) in [
        (json!({"event": "signal", "payload": {}}), "event"),
        (json!({"payload": {}}), "event"),
        (json!({"event": "ring", "payload": 7}), "payload"),
        (ring(1, json!({"payload.id": 7})), "to"),
        (ring(1, json!({"user.id": {}})), "to"),
        (ring(1, json!("all")), "to"),
    ] {
        let (status, answer) = program.ask("POST", broadcast, &body).await;
        assert_eq!(status, 422, "{body}");
        assert!(answer["fields"][field].is_string(), "{body}: {answer}");
    }

    let close = "/api/topics/call:1/close";
    let one = json!({"to": {"user.id": 2}});
    assert_eq!(program.ask("POST", close, &one).await.0, 204);
    let closed = json!([bob_ref, bob_ref, topic, "phx_close", {}]);
    assert_eq!(bob.next().await, closed);
    bob.heartbeat().await;
    // The connection stays.
    join(&mut bob, topic).await;
    ann.push(&ann_ref, topic, "done", json!({})).await;
    assert_eq!(ann.next_event().await.0, "done", "others stay");
    assert_eq!(program.ask("POST", close, &Value::Null).await.0, 204);
    let closed = json!([ann_ref, ann_ref, topic, "phx_close", {}]);
    assert_eq!(ann.next().await, closed);
    let refused = json!({"to": {"name": "ann"}});
    assert_eq!(program.ask("POST", close, &refused).await.0, 422);
}

/// A program publishes the events of rules, too.
#[actix_web::test]
async fn a_program_publishes_every_event_that_the_room_stores() {
    let (_dir, server) = serve(CALLS);
    let program = Program::of(&server).await;
    let (mut ann, _) = member(server.addr, 1, "agent", "call:1").await;
    let messages = "/api/topics/call:1/messages";
    let body = json!({"event": "done", "payload": {"n": 1}});
    let (status, message) = program.ask("POST", messages, &body).await;
    assert_eq!((status, &message["event"]), (201, &json!("done")));
    assert_eq!(ann.next_event().await, event("done", json!({"n": 1})));
    let (status, answer) = program
        .ask("POST", messages, &json!({"event": "signal", "payload": {}}))
        .await;
    assert_eq!(status, 422, "a message to some is not stored: {answer}");
}

/// A message to the topic of another user, whose room says what it accepts.
#[actix_web::test]
async fn another_topic_gets_what_its_room_accepts() {
    let (_dir, server) = serve(
        r#"
        [identity]
        fields = { id = "{connect.id:int}" }
        [[rooms]]
        topics = "user:*"
        history = "reply"
        join = { match = { "topic.1" = "{user.id}" } }
        accepts = ["invite", "poke"]
        events = ["note"]
        [[rooms]]
        topics = "room:*"
        history = "none"
        [rooms.on.invite]
        topic = "user:{payload.user}"
        payload = { room = "{topic}", by = "{user.id}", id = "{id}" }
        reply = { id = "{id}" }
        [rooms.on.poke]
        topic = "{payload.topic}"
        store = false
        reply = true
        "#,
    );
    let (mut bob, _) = member(server.addr, 2, "", "user:2").await;
    let (mut ann, join_ref) = member(server.addr, 1, "", "room:7").await;
    let room = "room:7";
    let push = json!({"user": 2});
    let reference = ann.push(&join_ref, room, "invite", push.clone()).await;
    let (name, invite) = bob.next_event().await;
    assert_eq!(name, "invite");
    let reply = ann.reply_to(&reference).await;
    let expected = json!({"room": room, "by": 1, "id": reply["response"]["id"]});
    assert_eq!(invite, expected);
    let poke = json!({"topic": "user:2"});
    let reference = ann.push(&join_ref, room, "poke", poke.clone()).await;
    assert_eq!(bob.next_event().await, event("poke", poke));
    assert_eq!(ann.reply_to(&reference).await["status"], "ok");
    for elsewhere in [json!("room:8"), json!("other:1"), json!(null), json!([])] {
        let poke = json!({"topic": elsewhere});
        let reference = ann.push(&join_ref, room, "poke", poke).await;
        let reply = ann.reply_to(&reference).await;
        let unauthorized = json!({"status": "error", "response": {"reason": "unauthorized"}});
        assert_eq!(reply, unauthorized, "{elsewhere}");
    }
    // It is stored in the topic that got it, for a user who is away as well.
    let reference = ann
        .push(&join_ref, room, "invite", json!({"user": 3}))
        .await;
    let id = ann.reply_to(&reference).await["response"]["id"].clone();
    let mut cid: Phoenix = Phoenix::dial_with(server.addr, "&id=3").await;
    let join_ref = cid.send_join("user:3", json!({})).await;
    let history = &cid.reply_to(&join_ref).await["response"]["messages"];
    assert_eq!(*history, json!([{"room": room, "by": 1, "id": id}]));
}

/// itzikbenh's chat: its list has other members than its live messages.
#[actix_web::test]
async fn a_history_has_the_form_that_the_frontend_reads() {
    let (_dir, server) = serve(
        r#"
        [identity]
        fields = { name = "{connect.id}" }
        [[rooms]]
        topics = "room:*"
        history = "reply"
        history_member = "posts"
        history_events = ["post"]
        history_item = { id = "{id}", user = "{payload.user.name}", at = "{inserted.ms}", text = "{payload.body}", of = "{topic.1}" }
        on.post = { stamp = { user = { name = "{user.name}" } } }
        on.wave = {}
        "#,
    );
    let topic = "room:1";
    let (mut ann, join_ref) = member(server.addr, 1, "", topic).await;
    for (name, payload) in [("post", json!({"body": "hi"})), ("wave", json!({}))] {
        ann.push(&join_ref, topic, name, payload).await;
        assert_eq!(ann.next_event().await.0, name);
    }
    let mut bob: Phoenix = Phoenix::dial_with(server.addr, "").await;
    let asked = bob.send_join(topic, json!({"meta": true})).await;
    let mut reply = bob.reply_to(&asked).await["response"].take();
    let post = reply["posts"][0].as_object_mut().expect("an item");
    let meta = post.remove("_meta").expect("asked for");
    assert!(post.remove("at").is_some_and(|at| at.is_u64()));
    let id = meta["id"].clone();
    assert_eq!(
        reply["posts"],
        json!([{"id": id, "user": "1", "text": "hi", "of": "1"}])
    );
    // A resume is live traffic, whatever the form of a history.
    let before = id.as_str().expect("an id").replace("-1", "-0");
    let mut cid: Phoenix = Phoenix::dial_with(server.addr, "").await;
    let asked = cid.send_join(topic, json!({"last_seen_id": before})).await;
    let reply = cid.reply_to(&asked).await;
    assert_eq!(reply["response"]["recovered"], true, "{reply}");
    let live = json!({"body": "hi", "user": {"name": "1"}});
    assert_eq!(cid.next_event().await, event("post", live));
    assert_eq!(cid.next_event().await, event("wave", json!({})));
    // Older messages come in the same form.
    let last = reply["response"]["last_id"].clone();
    let wave = ann
        .push(&join_ref, topic, "messages_before", json!({"before": id}))
        .await;
    let page = ann.reply_to(&wave).await;
    assert_eq!(page["response"], json!({"posts": []}), "{last}");
}

/// reticulum's `ret`: the list at the join, and no diffs.
#[actix_web::test]
async fn presences_come_without_diffs_where_the_room_says_so() {
    let (_dir, server) = serve(
        r#"
        [identity]
        fields = { id = "{connect.id}" }
        [[rooms]]
        topics = "room:*"
        history = "none"
        presence = { key = "{user.id}", diff = false }
        on.say = { store = false }
        "#,
    );
    let topic = "room:1";
    let (mut ann, join_ref) = member(server.addr, 1, "", topic).await;
    let (name, state) = ann.next_event().await;
    assert_eq!((&*name, state["1"].is_object()), ("presence_state", true));
    let (mut bob, _) = member(server.addr, 2, "", topic).await;
    let (name, state) = bob.next_event().await;
    assert_eq!((&*name, state["1"].is_object()), ("presence_state", true));
    ann.push(&join_ref, topic, "say", json!({})).await;
    assert_eq!(ann.next_event().await, event("say", json!({})));
}

/// A large room: its members get how many are here, and nobody's presence. Two tabs of one user are one.
#[actix_web::test]
async fn members_get_the_number_of_presences_where_the_room_says_so() {
    let (_dir, server) = serve(
        r#"
        [identity]
        fields = { id = "{connect.id}" }
        [[rooms]]
        topics = "room:*"
        history = "none"
        presence = { key = "{user.id}", count = true }
        "#,
    );
    let topic = "room:1";
    let count = |count: u32| event("presence_count", json!({ "count": count }));
    let (mut ann, _) = member(server.addr, 1, "", topic).await;
    assert_eq!(ann.next_event().await, count(1), "the change");
    assert_eq!(ann.next_event().await, count(1), "the push after the join");
    let (mut tab, _) = member(server.addr, 1, "", topic).await;
    assert_eq!(tab.next_event().await, count(1));
    let (bob, _) = member(server.addr, 2, "", topic).await;
    let mut guests = Vec::new();
    for id in 3..=20 {
        guests.push(member(server.addr, id, "", topic).await);
    }
    let mut counts = 0;
    loop {
        let (name, payload) = ann.next_event().await;
        assert_eq!(name, "presence_count");
        counts += 1;
        if payload == json!({ "count": 20 }) {
            break;
        }
    }
    // Twenty joins take a small part of a second, so most of them share a message.
    assert!(counts < 15, "{counts} messages for 19 joins");
    drop(bob);
    assert_eq!(ann.next_event().await, count(19));
    drop((tab, guests));
    while ann.next_event().await != count(1) {}
}
