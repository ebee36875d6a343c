//! `[hook]`: the backend is asked who may connect.

use serde_json::{Value, json};

use crate::hook::{ask, dial, join, ok};
use crate::support::backend::{Answer, HookBackend, SECRET};
use crate::support::jwt::{now, signed_with};
use crate::support::process::Process;
use crate::support::transport::Wire;
use crate::support::wire::{WireClient, http};

#[actix_web::test]
async fn a_connection_is_accepted_with_an_identity_or_refused() {
    let backend = HookBackend::start(|call| {
        let id = call.body["user"]["id"].clone();
        Answer::Json(match id.as_str() {
            Some("7") => json!({"ok": true, "user": {"name": "Ada", "id": 7}}),
            Some("8") => json!({"ok": true}),
            _ => json!({"ok": false, "error": {"reason": "unknown"}}),
        })
    })
    .await;
    let rooms = r#"
        [identity]
        from = ["params", "hook"]
        fields = { id = "{connect.id}" }
        require = ["name"]
        socket_id = "users:{user.id}"
        [[rooms]]
        topics = "room:*"
        history = "none"
        join = { reply = { name = "{user.name}", id = "{user.id}" } }
    "#;
    let (_dir, server) = backend.serve("headers = [\"cookie\", \"User-Agent\"]", rooms);
    let target = "/socket/websocket?vsn=2.0.0&id=7&secret=x";
    let headers = [("Cookie", Some("session=abc")), ("X-Other", Some("y"))];
    let accepted = <WireClient as Wire>::dial(server.addr, target, &headers).await;
    assert!(matches!(accepted, Ok((Some(_), _))));
    let call = backend.calls().remove(0);
    assert_eq!(
        (call.header("cookie"), call.header("x-other")),
        (Some("session=abc"), None)
    );
    let facts =
        ["type", "topic", "segments", "event", "user", "me"].map(|name| call.body[name].clone());
    let expected = [
        json!("connect"),
        json!(null),
        json!([]),
        json!(null),
        json!({"id": "7"}),
        json!({}),
    ];
    assert_eq!(facts, expected);
    assert_eq!(call.body["payload"]["secret"], "x");

    let mut ann = dial(&server, "&id=7").await;
    let (_, reply) = join(&mut ann, "room:1", json!({})).await;
    assert_eq!(reply, ok(json!({"name": "Ada", "id": 7})));
    for id in ["8", "9"] {
        for path in ["websocket", "longpoll"] {
            let target = format!("/socket/{path}?vsn=2.0.0&id={id}");
            assert_eq!(status(&server, &target).await, 403, "{target}");
        }
    }
}

/// The backend is asked again about a new token, and may change the user, but not to another one.
#[actix_web::test]
async fn a_new_token_is_asked_about_as_the_first_one_was() {
    let backend = HookBackend::start(|call| {
        let user = &call.body["user"];
        Answer::Json(match user["plan"].as_str() {
            Some("none") => json!({"ok": false}),
            Some("other") => json!({"ok": true, "user": {"id": "u9"}}),
            _ => json!({"ok": true, "user": {"title": format!("{} Ada", user["plan"])}}),
        })
    })
    .await;
    let rooms = r#"
        [identity]
        from = ["jwt", "hook"]
        jwt = { param = "jwt", algorithms = ["HS256"], secret_file = "hook.secret" }
        fields = { id = "{token.sub}", plan = "{token.plan}" }
        socket_id = "users:{user.id}"
        [[rooms]]
        topics = "room:*"
        history = "none"
        on.say = { stamp = { title = "{user.title}" }, store = false }
    "#;
    let (_dir, server) = backend.serve("", rooms);
    let token = |plan: &str| {
        let claims = json!({"sub": "u1", "plan": plan, "exp": now() + 100});
        signed_with(SECRET, &claims)
    };
    let refused = format!("/socket/websocket?vsn=2.0.0&jwt={}", token("none"));
    assert_eq!(status(&server, &refused).await, 403);
    let mut ann = dial(&server, &format!("&jwt={}", token("free"))).await;
    let (join_ref, _) = join(&mut ann, "room:1", json!({})).await;
    for (plan, answer, title) in [
        ("gold", "ok", "\"gold\" Ada"),
        ("none", "error", "\"gold\" Ada"),
        ("other", "error", "\"gold\" Ada"),
        ("free", "ok", "\"free\" Ada"),
    ] {
        let renewed = json!({"access_token": token(plan)});
        let reply = ask(&mut ann, &join_ref, "access_token", renewed).await;
        assert_eq!(reply["status"], answer, "{plan}: {reply}");
        ann.push(&join_ref, "room:1", "say", json!({})).await;
        assert_eq!(ann.next_event().await.1["title"], title, "{plan}");
    }
    assert_eq!(backend.bodies("connect").len(), 6);
}

/// The status of a handshake that is refused; of a long-poll that is answered with JSON, the one in it.
async fn status(server: &Process, target: &str) -> u16 {
    let upgrade = [
        ("Upgrade", Some("websocket")),
        ("Connection", Some("Upgrade")),
        ("Sec-WebSocket-Key", Some("dGhlIHNhbXBsZSBub25jZQ==")),
        ("Sec-WebSocket-Version", Some("13")),
    ];
    let headers = if target.contains("websocket") {
        &upgrade[..]
    } else {
        &[]
    };
    let answer = http(server.addr, "GET", target, headers, b"")
        .await
        .expect("an answer");
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let inner = body["status"].as_u64().map(|status| status as u16);
    inner.unwrap_or(answer.status)
}
