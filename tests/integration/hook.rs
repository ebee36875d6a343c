//! `[hook]`: what the answers of an application's backend do. tests/integration/hook_connect.rs has the answers
//! to connections, tests/integration/hook_failures.rs backends that do not answer.

use serde_json::{Value, json};

use crate::support::backend::{Answer, HookBackend, HookCall};
use crate::support::phoenix::Phoenix;
use crate::support::process::Process;
use crate::support::wire::http;

pub(crate) async fn dial(server: &Process, params: &str) -> Phoenix {
    Phoenix::dial_with(server.addr, params).await
}

/// Joins, and returns the join_ref and the reply.
pub(crate) async fn join(client: &mut Phoenix, topic: &str, params: Value) -> (String, Value) {
    let join_ref = client.send_join(topic, params).await;
    let reply = client.reply_to(&join_ref).await;
    (join_ref, reply)
}

/// Pushes, and returns the reply, which must be the next frame.
pub(crate) async fn ask(
    client: &mut Phoenix,
    join_ref: &str,
    event: &str,
    payload: Value,
) -> Value {
    let reference = client.push(join_ref, "room:1", event, payload).await;
    client.reply_to(&reference).await
}

pub(crate) fn ok(response: Value) -> Value {
    let mut reply = json!({"status": "ok"});
    reply["response"] = response;
    reply
}

fn error(response: Value) -> Value {
    let mut reply = json!({"status": "error"});
    reply["response"] = response;
    reply
}

const JOINS: &str = r#"
[identity]
fields = { id = "{connect.id:int}" }
[[rooms]]
topics = "room:*"
history = "none"
join = { hook = true, set = { nick = "{params.nick}" }, reply = { you = "{user.name}", role = "{me.role}" }, refuse = { reason = "go" } }
presence = { key = "{user.name}", meta = { role = "{me.role}" } }
announce = [{ at = "join", event = "joined", payload = { name = "{user.name}" } }]
"#;

fn answer_join(call: &HookCall) -> Answer {
    let welcome = json!([
        {"push": "welcome", "payload": {"n": 1}},
        {"broadcast": "news", "topic": "room:list", "payload": {}},
        {"push": "welcome", "payload": {"n": 2}},
    ]);
    let (user, me) = (json!({"name": "Ada"}), json!({"role": "agent"}));
    Answer::Json(match call.body["topic"].as_str().unwrap_or_default() {
        "room:12:a" => json!({"ok": true, "user": user, "me": me, "do": welcome}),
        "room:list" => json!({"ok": true, "reply": [1, {"two": 2}]}),
        "room:text" => json!({"ok": false, "error": "Unauthorized"}),
        "room:any" => json!({"ok": false, "error": [1, 2]}),
        _ => json!({"ok": false}),
    })
}

#[actix_web::test]
async fn a_join_is_admitted_with_what_the_backend_adds_or_refused_with_any_json() {
    let backend = HookBackend::start(answer_join).await;
    let (_dir, server) = backend.serve("", JOINS);
    let mut ann = dial(&server, "&id=7").await;
    let (_, reply) = join(&mut ann, "room:12:a", json!({"nick": "annie"})).await;
    assert_eq!(reply, ok(json!({"you": "Ada", "role": "agent"})));
    let (event, diff) = ann.next_event().await;
    assert_eq!(event, "presence_diff");
    assert_eq!(diff["joins"]["Ada"]["metas"][0]["role"], "agent");
    let (event, state) = ann.next_event().await;
    assert_eq!(event, "presence_state");
    assert!(state["Ada"].is_object(), "{state}");
    for expected in [
        ("joined", json!({"name": "Ada"})),
        ("welcome", json!({"n": 1})),
        ("welcome", json!({"n": 2})),
    ] {
        let (event, payload) = ann.next_event().await;
        assert_eq!((&*event, payload), expected);
    }
    let mut asked = backend.bodies("join").remove(0);
    let socket = asked["socket"].take();
    assert_eq!(socket.as_str().map(str::len), Some(32));
    assert!(
        asked["id"]
            .take()
            .as_str()
            .is_some_and(|id| id.starts_with("h-"))
    );
    assert!(asked["at"].take().is_u64());
    let expected = json!({
        "v": 1, "id": null, "type": "join", "at": null, "socket": null, "user": {"id": 7},
        "me": {"nick": "annie"}, "topic": "room:12:a", "segments": ["12", "a"], "event": null,
        "payload": {"nick": "annie"}, "wants_reply": true,
    });
    assert_eq!(asked, expected);

    let mut bob = dial(&server, "&id=8").await;
    for (topic, expected) in [
        ("room:text", json!("Unauthorized")),
        ("room:any", json!([1, 2])),
        ("room:x", json!({"reason": "go"})),
    ] {
        let (_, reply) = join(&mut bob, topic, json!({})).await;
        assert_eq!(reply, error(expected));
    }
    let (_, reply) = join(&mut bob, "room:list", json!({})).await;
    assert_eq!(reply, ok(json!([1, {"two": 2}])));
    let leaves = backend.bodies("leave");
    assert!(leaves.is_empty(), "a refused join has no leave: {leaves:?}");
}

const EVENTS: &str = r#"
[identity]
fields = { id = "{connect.id}" }
[[rooms]]
topics = "room:*"
history = "reply"
other_events = "hook"
accepts = ["kept"]
presence = { key = "{user.id}", meta = { state = "new" }, diff = true }
[rooms.on.say]
hook = true
require = { body = "string" }
stamp = { id = "{user.id}", role = "{me.role}" }
reply = { rule = true }
[rooms.on.check]
hook = true
require = { n = "int" }
[[rooms]]
topics = "other:*"
history = "none"
"#;

fn answer_event(call: &HookCall) -> Answer {
    let payload = &call.body["payload"];
    Answer::Json(match call.body["event"].as_str().unwrap_or_default() {
        "array" => json!({"ok": true, "reply": [1, "two"]}),
        "text" => json!({"ok": true, "reply": "done"}),
        "no" => json!({"ok": false, "error": {"reason": "no"}}),
        "silent" => json!({"ok": true}),
        "say" if payload["body"] == "quiet" => json!({"ok": true, "relay": false, "reply": {}}),
        "say" if payload["body"] == "rude" => {
            json!({"ok": true, "payload": {"body": "***", "id": "forged"}, "reply": {"seen": true}})
        }
        "relayed" => json!({"ok": true, "relay": true}),
        "become" => {
            json!({"ok": true, "user": {"name": "Ada"}, "me": {"role": "agent"}, "reply": {}})
        }
        "act" => json!({"ok": true, "reply": {"acted": true}, "do": [
            {"push": "one", "payload": {"n": 1}},
            {"broadcast": "two", "to": "others", "payload": {"n": 2}},
            {"broadcast": "three"},
            {"broadcast": "four", "topic": "other:1", "payload": {"n": 4}},
            {"broadcast": "five", "to": {"user.id": ["7", 9]}},
            {"presence": {"state": "playing"}},
            {"broadcast": "six", "to": "sender"},
        ]}),
        "keep" => json!({"ok": true, "reply": {}, "do": [
            {"broadcast": "kept", "store": true, "payload": {"n": 1}},
            {"broadcast": "unkept", "payload": {"n": 2}},
        ]}),
        "bye" => json!({"ok": true, "reply": {"bye": true}, "close": true}),
        "out" => json!({"ok": false, "error": {"reason": "out"}, "close": true}),
        _ => json!({"ok": true, "reply": {"default": true}}),
    })
}

/// Two clients in `room:1` with their presences read.
async fn two_in_a_room(server: &Process) -> [(Phoenix, String); 2] {
    let mut ann = dial(server, "&id=7").await;
    let (ann_ref, _) = join(&mut ann, "room:1", json!({})).await;
    let mut bob = dial(server, "&id=8").await;
    let (bob_ref, _) = join(&mut bob, "room:1", json!({})).await;
    for (client, frames) in [(&mut ann, 3), (&mut bob, 2)] {
        for _ in 0..frames {
            let (event, _) = client.next_event().await;
            assert!(event.starts_with("presence_"), "{event}");
        }
    }
    [(ann, ann_ref), (bob, bob_ref)]
}

#[actix_web::test]
async fn an_event_is_replied_relayed_replaced_or_neither() {
    let backend = HookBackend::start(answer_event).await;
    let (_dir, server) = backend.serve("", EVENTS);
    let [(mut ann, ann_ref), (mut bob, _)] = two_in_a_room(&server).await;
    for (event, expected) in [
        ("array", ok(json!([1, "two"]))),
        ("text", ok(json!("done"))),
        ("no", error(json!({"reason": "no"}))),
        ("whatever", ok(json!({"default": true}))),
        ("ping", ok(json!({"a": 1}))),
    ] {
        let reply = ask(&mut ann, &ann_ref, event, json!({"a": 1})).await;
        assert_eq!(reply, expected, "{event}");
    }
    // The backend does not see events that fail their checks, nor names of the server's own events.
    for (event, payload, expected) in [
        (
            "check",
            json!({"n": "x"}),
            json!({"reason": "invalid payload", "field": "n"}),
        ),
        (
            "presence_diff",
            json!({}),
            json!({"reason": "unknown event"}),
        ),
        ("phx_reply", json!({}), json!({"reason": "unknown event"})),
    ] {
        let reply = ask(&mut ann, &ann_ref, event, payload).await;
        assert_eq!(reply, error(expected), "{event}");
    }
    let seen: Vec<_> = backend
        .bodies("event")
        .iter()
        .map(|call| call["event"].clone())
        .collect();
    assert_eq!(seen, ["array", "text", "no", "whatever"]);

    // Checks alone leave the event to the backend; other keys of a rule are carried out unless it says no.
    let reply = ask(&mut ann, &ann_ref, "check", json!({"n": 1})).await;
    assert_eq!(reply, ok(json!({"default": true})));
    ask(&mut ann, &ann_ref, "say", json!({"body": "quiet"})).await;
    let reference = ann
        .push(&ann_ref, "room:1", "say", json!({"body": "rude", "a": 1}))
        .await;
    let clean = (
        "say".to_owned(),
        json!({"body": "***", "id": "7", "role": null}),
    );
    assert_eq!(ann.next_event().await, clean);
    assert_eq!(ann.reply_to(&reference).await, ok(json!({"seen": true})));
    assert_eq!(bob.next_event().await, clean);
    let reply = ask(&mut ann, &ann_ref, "become", json!({})).await;
    assert_eq!(reply, ok(json!({})));
    ann.push(&ann_ref, "room:1", "relayed", json!({"b": 1}))
        .await;
    assert_eq!(
        ann.next_event().await,
        ("relayed".to_owned(), json!({"b": 1}))
    );
    assert_eq!(
        bob.next_event().await,
        ("relayed".to_owned(), json!({"b": 1}))
    );
    ann.push(&ann_ref, "room:1", "silent", json!({})).await;
    ann.heartbeat().await;
    backend.wait_for("event", 10).await;
    let last = backend.bodies("event").pop().expect("a call");
    assert_eq!(
        (&last["user"], &last["me"]),
        (
            &json!({"id": "7", "name": "Ada"}),
            &json!({"role": "agent"})
        )
    );
}

#[actix_web::test]
async fn actions_are_carried_out_in_order_before_the_reply() {
    let backend = HookBackend::start(answer_event).await;
    let (_dir, server) = backend.serve("", EVENTS);
    let [(mut ann, ann_ref), (mut bob, _)] = two_in_a_room(&server).await;
    let mut carl = dial(&server, "&id=9").await;
    carl.join("other:1").await;
    let reference = ann.push(&ann_ref, "room:1", "act", json!({})).await;
    let mut events = Vec::new();
    for _ in 0..5 {
        events.push(ann.next_event().await.0);
    }
    assert_eq!(events, ["one", "three", "five", "presence_diff", "six"]);
    assert_eq!(ann.reply_to(&reference).await, ok(json!({"acted": true})));
    assert_eq!(bob.next_event().await, ("two".to_owned(), json!({"n": 2})));
    assert_eq!(bob.next_event().await, ("three".to_owned(), json!({})));
    let (event, diff) = bob.next_event().await;
    assert_eq!(event, "presence_diff");
    assert_eq!(diff["joins"]["7"]["metas"][0]["state"], "playing");
    assert_eq!(
        carl.next_event().await,
        ("four".to_owned(), json!({"n": 4}))
    );

    // A saved message is in the history, and one that is not is not.
    let reference = ann.push(&ann_ref, "room:1", "keep", json!({})).await;
    let kept = ("kept".to_owned(), json!({"n": 1}));
    assert_eq!(ann.next_event().await, kept);
    assert_eq!(ann.next_event().await.0, "unkept");
    assert_eq!(ann.reply_to(&reference).await, ok(json!({})));
    assert_eq!(bob.next_event().await, kept);
    let mut dora = dial(&server, "&id=10").await;
    let (_, reply) = join(&mut dora, "room:1", json!({})).await;
    assert_eq!(reply["response"]["messages"], json!([{"n": 1}]));
}

#[actix_web::test]
async fn an_answer_ends_the_channel_behind_its_reply_and_the_backend_gets_a_leave_for_each_end() {
    let rooms = EVENTS.replacen(
        "history = \"reply\"",
        "history = \"none\"\njoin.hook = true",
        1,
    );
    let backend = HookBackend::start(answer_event).await;
    let (_dir, server) = backend.serve("", &rooms);
    let mut ann = dial(&server, "&id=7").await;
    let mut count = 0;
    for (event, expected) in [
        ("bye", ok(json!({"bye": true}))),
        ("out", error(json!({"reason": "out"}))),
    ] {
        let (join_ref, _) = join(&mut ann, "room:1", json!({})).await;
        for _ in 0..2 {
            ann.next_event().await;
        }
        assert_eq!(ask(&mut ann, &join_ref, event, json!({})).await, expected);
        assert_eq!(ann.next_event().await.0, "phx_close");
        count += 1;
        let leave = backend
            .wait_for("leave", count)
            .await
            .pop()
            .expect("a call");
        assert_eq!(leave["payload"], json!({"reason": "closed"}));
        assert_eq!(
            (&leave["topic"], &leave["wants_reply"]),
            (&json!("room:1"), &json!(false))
        );
    }
    let (join_ref, _) = join(&mut ann, "room:1", json!({})).await;
    ann.push(&join_ref, "room:1", "phx_leave", json!({})).await;
    let leave = backend.wait_for("leave", 3).await.pop().expect("a call");
    assert_eq!(leave["payload"], json!({"reason": "left"}));
    // A duplicate join replaces the channel.
    let mut bob = dial(&server, "&id=8").await;
    join(&mut bob, "room:2", json!({})).await;
    bob.send_join("room:2", json!({})).await;
    let leave = backend.wait_for("leave", 4).await.pop().expect("a call");
    assert_eq!(
        (&leave["payload"], &leave["topic"]),
        (&json!({"reason": "closed"}), &json!("room:2"))
    );
    drop(bob);
    backend.wait_for("leave", 5).await;
    let mut carl = dial(&server, "&id=9").await;
    join(&mut carl, "room:3", json!({})).await;
    server.signal("-TERM");
    let leave = backend.wait_for("leave", 6).await.pop().expect("a call");
    assert_eq!(
        (&leave["payload"], &leave["topic"]),
        (&json!({"reason": "shutdown"}), &json!("room:3"))
    );
    assert_eq!(server.wait(), Some(0));
    assert_eq!(backend.bodies("leave").len(), 6, "one for each join");
    assert_eq!(backend.bodies("join").len(), 6);
}

#[actix_web::test]
async fn an_event_whose_call_is_out_is_carried_out_though_its_client_has_gone() {
    let backend = HookBackend::start(|call| match &call.body["event"] {
        Value::String(_) => {
            Answer::Json(json!({"ok": true, "relay": true, "do": [{"broadcast": "sold"}]}))
                .after(300)
        }
        _ => Answer::Json(json!({"ok": true})),
    })
    .await;
    let rooms = "[[rooms]]\ntopics = \"room:*\"\nhistory = \"none\"\njoin.hook = true\non.buy = { hook = true, stamp = { ok = true } }";
    let (_dir, server) = backend.serve("", rooms);
    let mut bob = dial(&server, "").await;
    join(&mut bob, "room:1", json!({})).await;
    let mut ann = dial(&server, "").await;
    let (ann_ref, _) = join(&mut ann, "room:1", json!({})).await;
    ann.push(&ann_ref, "room:1", "buy", json!({})).await;
    backend.wait_for("event", 1).await;
    drop(ann);
    assert_eq!(bob.next_event().await, ("sold".to_owned(), json!({})));
    assert_eq!(
        bob.next_event().await,
        ("buy".to_owned(), json!({"ok": true}))
    );
    backend.wait_for("leave", 1).await;
    let kinds: Vec<_> = backend
        .calls()
        .iter()
        .map(|call| call.kind().to_owned())
        .collect();
    assert_eq!(
        kinds,
        ["join", "join", "event", "leave"],
        "the leave is the last"
    );
}

#[actix_web::test]
async fn the_events_of_a_membership_are_asked_one_after_the_other_and_other_memberships_do_not_wait()
 {
    let backend = HookBackend::start(|call| {
        let n = call.body["payload"]["n"].as_u64().unwrap_or_default();
        // The earlier, the slower.
        Answer::Json(json!({"ok": true, "reply": {"n": n}})).after(200 / (n + 1))
    })
    .await;
    let rooms = "[[rooms]]\ntopics = \"room:*\"\nhistory = \"none\"\nother_events = \"hook\"\non.plain = { reply = true, to = \"sender\" }";
    let (_dir, server) = backend.serve("", rooms);
    let mut ann = dial(&server, "").await;
    let (ann_ref, _) = join(&mut ann, "room:1", json!({})).await;
    let mut refs = Vec::new();
    for n in 0..4 {
        refs.push(ann.push(&ann_ref, "room:1", "count", json!({"n": n})).await);
    }
    let plain = ann.push(&ann_ref, "room:1", "plain", json!({})).await;
    // Another topic of the same connection.
    let second = ann.send_join("room:2", json!({})).await;
    assert_eq!(ann.reply_to(&second).await["status"], "ok");
    for (n, reference) in refs.iter().enumerate() {
        assert_eq!(ann.reply_to(reference).await, ok(json!({"n": n})));
    }
    assert_eq!(ann.next_event().await.0, "plain");
    assert_eq!(ann.reply_to(&plain).await, ok(json!({})));
    assert_eq!(backend.most_at_once(), 1);
}

#[actix_web::test]
async fn a_refused_join_is_refused_again_without_a_call() {
    let backend = HookBackend::start(answer_join).await;
    let (_dir, server) = backend.serve("deny_cache = \"10s\"", JOINS);
    for id in [7, 7, 8] {
        let mut client = dial(&server, &format!("&id={id}")).await;
        for _ in 0..3 {
            let (_, reply) = join(&mut client, "room:text", json!({})).await;
            assert_eq!(reply, error(json!("Unauthorized")));
        }
        let (_, reply) = join(&mut client, "room:list", json!({})).await;
        assert_eq!(reply["status"], "ok");
    }
    // One for each user; the admitted ones are asked each time.
    let asked = backend.bodies("join");
    let refused = asked.iter().filter(|call| call["topic"] == "room:text");
    assert_eq!((refused.count(), asked.len()), (2, 5));
    let mut client = dial(&server, "&id=7").await;
    join(&mut client, "room:text", json!({"password": "other"})).await;
    assert_eq!(
        backend.bodies("join").len(),
        6,
        "other params are asked about"
    );
}

#[actix_web::test]
async fn calls_are_counted_by_type_and_outcome() {
    let backend = HookBackend::start(answer_join).await;
    let (_dir, server) = backend.serve("", JOINS);
    let mut ann = dial(&server, "&id=7").await;
    for topic in ["room:text", "room:list"] {
        join(&mut ann, topic, json!({})).await;
    }
    let answer = http(server.addr, "GET", "/metrics", &[], b"")
        .await
        .expect("an answer");
    let metrics = String::from_utf8_lossy(&answer.body).into_owned();
    for line in [
        "slackir_hook_requests_total{hook=\"join\",result=\"ok\"} 1",
        "slackir_hook_requests_total{hook=\"join\",result=\"refused\"} 1",
        "slackir_hook_requests_total{hook=\"leave\",result=\"timeout\"} 0",
        "slackir_hook_queue 0",
        "slackir_hook_seconds_count{hook=\"join\",result=\"answered\"} 2",
    ] {
        assert!(metrics.contains(line), "{line} is in {metrics}");
    }
}
