//! Public Phoenix frontends, served by a configuration alone: what each sends, and what it waits for.

use std::net::SocketAddr;

use serde_json::{Value, json};
use slackir::token::{KeyOptions, SecretKeyBase, SignOptions, Signer};
use tempfile::TempDir;

use crate::support::backend::{HookBackend, SECRET as HOOK_SECRET};
use crate::support::jwt::guardian;
use crate::support::phoenix::Phoenix;
use crate::support::process::Process;
use crate::support::transport::Wire;
use crate::support::wire::WireClient;

/// A server with this configuration.
fn serve(config: &str) -> (TempDir, Process) {
    Process::configured(config, &[])
}

/// The same, with the secret of a Phoenix application.
fn serve_with_secret(config: &str, secret: &str) -> (TempDir, Process) {
    serve(&format!("secret_key_base = {secret:?}\n{config}"))
}

async fn dial(addr: SocketAddr, params: &str) -> Phoenix {
    Phoenix::dial_with(addr, params).await
}

/// Joins, and returns the join_ref and the reply.
async fn join(client: &mut Phoenix, topic: &str, params: Value) -> (String, Value) {
    let join_ref = client.send_join(topic, params).await;
    let reply = client.reply_to(&join_ref).await;
    (join_ref, reply)
}

/// FelisOrion/Oso: the payload of a message is a string.
#[actix_web::test]
async fn a_string_becomes_an_object_with_the_name_of_the_socket() {
    let (_dir, server) = serve(
        r#"
        [identity]
        fields = { name = "{connect.user}" }
        [[rooms]]
        topics = "search:chat"
        history = "none"
        [rooms.presence]
        key = "{user.name}"
        meta = { user = "{user.name}", timestamp = "{now.ms}", online_at = "{now.ms}" }
        [rooms.on."message:new"]
        payload = { user = "{user.name}", body = "{payload}", timestamp = "{now.ms}" }
        store = false
        "#,
    );
    let mut ann = dial(server.addr, "&user=ann").await;
    let (join_ref, reply) = join(&mut ann, "search:chat", json!({})).await;
    assert_eq!(reply, json!({"status": "ok", "response": {}}));
    let (event, diff) = ann.next_event().await;
    assert_eq!(event, "presence_diff");
    assert!(diff["joins"]["ann"].is_object(), "{diff}");
    let (event, state) = ann.next_event().await;
    assert_eq!(event, "presence_state");
    let meta = &state["ann"]["metas"][0];
    assert!(
        meta["online_at"].is_u64() && meta["user"] == "ann",
        "{state}"
    );
    ann.push(&join_ref, "search:chat", "message:new", json!("hi§ann"))
        .await;
    let (event, message) = ann.next_event().await;
    assert_eq!(
        (&*event, &message["body"]),
        ("message:new", &json!("hi§ann"))
    );
    assert!(
        message["timestamp"].is_u64() && message["user"] == "ann",
        "{message}"
    );
}

/// LearnPhoenix/phoenix-chat-frontend.
#[actix_web::test]
async fn a_visitor_and_an_admin_talk_with_stamps_that_nobody_forges() {
    let (_dir, server) = serve(
        r#"
        [identity]
        fields = { id = "{connect.id}", uuid = "{connect.uuid}" }
        [[rooms]]
        topics = "admin:active_users"
        history = "none"
        join = { reply = { id = "{user.uuid|user.id}" } }
        presence = { key = "{user.uuid}", meta = { online_at = "{now.s:string}" } }
        [[rooms]]
        topics = "room:*"
        history = "reply"
        history_limit = 10
        [rooms.on.message]
        require = { body = "string", timestamp = "any", room = "string" }
        stamp = { id = "{id}", user_id = "{user.id}", anonymous_user_id = "{user.uuid}" }
        reply = true
        "#,
    );
    let mut admin = dial(server.addr, "&id=7").await;
    let (_, reply) = join(&mut admin, "admin:active_users", json!({})).await;
    assert_eq!(reply["response"], json!({"id": "7"}));
    assert_eq!(
        admin.next_event().await,
        ("presence_state".to_owned(), json!({}))
    );
    let mut visitor = dial(server.addr, "&uuid=u-1").await;
    let (_, reply) = join(&mut visitor, "admin:active_users", json!({})).await;
    assert_eq!(reply["response"], json!({"id": "u-1"}));
    let (event, diff) = admin.next_event().await;
    assert_eq!(event, "presence_diff");
    assert!(
        diff["joins"]["u-1"]["metas"][0]["online_at"].is_string(),
        "{diff}"
    );

    let mut visitor = dial(server.addr, "&uuid=u-1").await;
    let (join_ref, _) = join(&mut visitor, "room:u-1", json!({})).await;
    let said =
        json!({"body": "hello", "timestamp": 1, "room": "u-1", "id": 666, "user_id": "root"});
    let reference = visitor.push(&join_ref, "room:u-1", "message", said).await;
    let (event, message) = visitor.next_event().await;
    assert_eq!(event, "message");
    let id = message["id"].as_str().expect("an id").to_owned();
    let expected = json!({
        "body": "hello", "timestamp": 1, "room": "u-1", "id": id, "user_id": null,
        "anonymous_user_id": "u-1",
    });
    assert_eq!(message, expected);
    let reply = visitor.reply_to(&reference).await;
    assert_eq!(reply, json!({"status": "ok", "response": {}}));
    let (_, reply) = join(&mut admin, "room:u-1", json!({"meta": true})).await;
    let history = &reply["response"]["messages"];
    assert_eq!(
        history[0]["id"], id,
        "the history looks like live traffic: {history}"
    );
    assert_eq!(history[0]["_meta"]["id"], id);

    let wrong = visitor
        .push(&join_ref, "room:u-1", "message", json!({"body": 7}))
        .await;
    let reply = visitor.reply_to(&wrong).await;
    let refusal = json!({"reason": "invalid payload", "field": "body"});
    assert_eq!(reply, json!({"status": "error", "response": refusal}));
}

/// programisti/phoenix-chat-redux.
#[actix_web::test]
async fn an_event_is_renamed_and_a_join_is_announced() {
    let (_dir, server) = serve(
        r#"
        [[rooms]]
        topics = "rooms:*"
        history = "none"
        announce = [{ at = "join", event = "customer_entered", payload = "{params}" }]
        on."new:msg" = { payload = { user = "{payload.user}", body = "{payload.body}" }, reply = { msg = "{payload.body}" }, store = false }
        on."rooms:lobby" = { as = "new:msg", reply = true, store = false }
        "#,
    );
    let mut agent = dial(server.addr, "").await;
    let (join_ref, _) = join(&mut agent, "rooms:lobby", json!({"chat": 1})).await;
    let entered = ("customer_entered".to_owned(), json!({"chat": 1}));
    assert_eq!(agent.next_event().await, entered);
    let said = json!({"user": "bob", "body": "hi"});
    let reference = agent
        .push(&join_ref, "rooms:lobby", "rooms:lobby", said.clone())
        .await;
    assert_eq!(
        agent.next_event().await,
        ("new:msg".to_owned(), said.clone())
    );
    assert_eq!(agent.reply_to(&reference).await["response"], json!({}));
    let more = json!({"user": "bob", "body": "hi", "admin": true});
    let reference = agent.push(&join_ref, "rooms:lobby", "new:msg", more).await;
    assert_eq!(agent.next_event().await, ("new:msg".to_owned(), said));
    assert_eq!(
        agent.reply_to(&reference).await["response"],
        json!({"msg": "hi"})
    );
}

/// rodrigoreis22/phoenix-chat-presence.
#[actix_web::test]
async fn typing_changes_the_presence_and_is_not_relayed() {
    let (_dir, server) = serve(
        r#"
        [identity]
        fields = { id = "{connect.user_id}" }
        [[rooms]]
        topics = "rooms:*"
        history = "none"
        presence = { key = "{user.id}", meta = { online_at = "{now.s:string}" } }
        on."new:msg" = { payload = { user = "{payload.user}", body = "{payload.body}" }, reply = { msg = "{payload.body}" }, store = false }
        on."user:typing" = { require = { typing = "bool" }, presence = { typing = "{payload.typing}", user_id = "{user.id}", online_at = "{now.s:string}" }, reply = true }
        "#,
    );
    let mut ann = dial(server.addr, "&user_id=17").await;
    let (join_ref, _) = join(&mut ann, "rooms:x", json!({})).await;
    assert_eq!(ann.next_event().await.0, "presence_diff");
    assert_eq!(ann.next_event().await.0, "presence_state");
    let typing = ann
        .push(&join_ref, "rooms:x", "user:typing", json!({"typing": true}))
        .await;
    let (event, diff) = ann.next_event().await;
    assert_eq!(event, "presence_diff");
    let meta = &diff["joins"]["17"]["metas"][0];
    assert_eq!(
        (&meta["typing"], &meta["user_id"]),
        (&json!(true), &json!("17"))
    );
    assert!(diff["leaves"]["17"].is_object(), "{diff}");
    assert_eq!(ann.reply_to(&typing).await["response"], json!({}));
}

/// dwyl/phoenix-chat-example: whoever says something under a name is present by that name.
#[actix_web::test]
async fn the_first_message_makes_its_sender_present() {
    let (_dir, server) = serve(
        r#"
        [[rooms]]
        topics = "room:lobby"
        events = ["shout"]
        history = "none"
        presence = { key = "{payload.name}", at = "shout" }
        "#,
    );
    let mut ann = dial(server.addr, "").await;
    let (join_ref, _) = join(&mut ann, "room:lobby", json!({})).await;
    let nobody = ("presence_state".to_owned(), json!({}));
    assert_eq!(ann.next_event().await, nobody);
    for body in ["hi", "again"] {
        let said = json!({"name": "ann", "message": body});
        ann.push(&join_ref, "room:lobby", "shout", said.clone())
            .await;
        if body == "hi" {
            let (event, diff) = ann.next_event().await;
            assert_eq!(event, "presence_diff");
            assert!(diff["joins"]["ann"].is_object(), "{diff}");
        }
        assert_eq!(ann.next_event().await, ("shout".to_owned(), said));
    }
}

/// A reply that repeats what members got, and the id of the connection without an `[identity]`.
#[actix_web::test]
async fn all_templates_of_an_event_have_one_time_one_uuid_and_the_id_of_the_socket() {
    let (_dir, server) = serve(
        r#"
        [[rooms]]
        topics = "room:*"
        history = "none"
        [rooms.on.say]
        payload = { uuid = "{uuid}", at = "{now.ms}", socket = "{socket.id}" }
        reply = { uuid = "{uuid}", at = "{now.ms}", socket = "{socket.id}" }
        "#,
    );
    let mut ann = dial(server.addr, "").await;
    let (join_ref, _) = join(&mut ann, "room:1", json!({})).await;
    let mut heard = Vec::new();
    for _ in 0..20 {
        let reference = ann.push(&join_ref, "room:1", "say", json!({})).await;
        let (_, said) = ann.next_event().await;
        assert_eq!(ann.reply_to(&reference).await["response"], said);
        heard.push(said);
    }
    assert_ne!(heard[0]["uuid"], heard[1]["uuid"]);
    assert_eq!(heard[0]["socket"], heard[1]["socket"]);
    assert_eq!(heard[0]["socket"].as_str().map(str::len), Some(32));
}

/// The identity of a token, as a Phoenix application signs it, and a topic of one's own.
#[actix_web::test]
async fn a_token_says_who_may_join_and_a_wrong_one_lets_nobody_in() {
    const SECRET: &str = "a secret that is long enough for all";
    let (_dir, server) = serve_with_secret(
        r#"
        [identity]
        from = ["phoenix_token", "params"]
        phoenix_token = { salt = "user", max_age = "14d" }
        fields = { id = "{token.id|connect.guest}", role = "{token.role|'guest'}" }
        require = ["id"]
        socket_id = "users:{user.id}"
        [[rooms]]
        topics = "user:*"
        history = "none"
        join = { match = { "topic.1" = "{user.id}" }, refuse = "Unauthorized" }
        [[rooms]]
        topics = "room:closed"
        join.closed = true
        [[rooms]]
        topics = "room:*"
        history = "none"
        join = { match = { "user.role" = ["agent", "admin"] }, set = { nick = "{params.nick|user.id}" }, reply = { you = "{me.nick}" } }
        on.say = { stamp = { nick = "{me.nick}" }, to = "others", rate = "2/1h" }
        on.nick = { require = { nick = "string 1..20" }, set = { nick = "{payload.nick}" }, to = "sender", reply = true }
        on.id = { payload = { id = "{id}" }, reply = { id = "{id}" }, store = false }
        on.list = { error = { reason = "not here" } }
        on.tag = { ignore = true }
        other_events = "ignore"
        [[rooms.announce]]
        at = "leave"
        event = "left"
        payload = { nick = "{me.nick}" }
        "#,
        SECRET,
    );
    let secret = SecretKeyBase::new(SECRET).expect("long enough");
    let signer = Signer::new(&secret, "user", KeyOptions::default());
    let token = |id: i64, role: &str| {
        let data = json!({"id": id, "role": role});
        signer.sign(data, SignOptions::now()).expect("a token")
    };
    let mut ann = dial(server.addr, &format!("&token={}", token(7, "agent"))).await;
    let mut bob = dial(server.addr, &format!("&token={}", token(8, "admin"))).await;
    let mut guest = dial(server.addr, "&guest=g").await;
    for wrong in ["&token=x&guest=g", ""] {
        let refused = <WireClient as Wire>::dial(
            server.addr,
            &format!("/socket/websocket?vsn=2.0.0{wrong}"),
            &[],
        )
        .await;
        assert!(
            !matches!(refused, Ok((Some(_), _))),
            "{wrong:?} lets nobody in"
        );
    }
    let unauthorized = json!({"status": "error", "response": {"reason": "unauthorized"}});
    let (_, own) = join(&mut ann, "user:7", json!({})).await;
    assert_eq!(own["status"], "ok");
    let (_, other) = join(&mut ann, "user:8", json!({})).await;
    assert_eq!(
        other,
        json!({"status": "error", "response": "Unauthorized"})
    );
    for topic in ["room:closed", "room:1"] {
        let (_, reply) = join(&mut guest, topic, json!({})).await;
        assert_eq!(reply, unauthorized, "{topic}");
    }

    let (ann_ref, reply) = join(&mut ann, "room:1", json!({"nick": "annie"})).await;
    assert_eq!(reply["response"], json!({"you": "annie"}));
    let (bob_ref, reply) = join(&mut bob, "room:1", json!({})).await;
    assert_eq!(reply["response"], json!({"you": 8}));
    ann.push(
        &ann_ref,
        "room:1",
        "say",
        json!({"body": "hi", "nick": "root"}),
    )
    .await;
    let said = ("say".to_owned(), json!({"body": "hi", "nick": "annie"}));
    assert_eq!(bob.next_event().await, said);
    let nick = bob
        .push(&bob_ref, "room:1", "nick", json!({"nick": "bobby"}))
        .await;
    assert_eq!(
        bob.next_event().await,
        ("nick".to_owned(), json!({"nick": "bobby"}))
    );
    assert_eq!(bob.reply_to(&nick).await["status"], "ok");
    for event in ["tag", "whatever"] {
        bob.push(&bob_ref, "room:1", event, json!({})).await;
    }
    let id = bob.push(&bob_ref, "room:1", "id", json!({})).await;
    let (_, broadcast) = bob.next_event().await;
    let reply = bob.reply_to(&id).await;
    assert_eq!(
        reply["response"], broadcast,
        "the reply names the id that members got"
    );
    assert_eq!(ann.next_event().await, ("id".to_owned(), broadcast));
    let list = bob.push(&bob_ref, "room:1", "list", json!({})).await;
    assert_eq!(
        bob.reply_to(&list).await,
        json!({"status": "error", "response": {"reason": "not here"}})
    );
    for _ in 0..2 {
        bob.push(&bob_ref, "room:1", "say", json!({})).await;
        assert_eq!(
            ann.next_event().await,
            ("say".to_owned(), json!({"nick": "bobby"}))
        );
    }
    let much = bob.push(&bob_ref, "room:1", "say", json!({})).await;
    let refusal = bob.reply_to(&much).await;
    assert_eq!(refusal["response"]["reason"], "rate limited");
    assert!(
        refusal["response"]["retry_after_ms"]
            .as_u64()
            .is_some_and(|wait| wait > 60_000),
        "{refusal}"
    );
    drop(bob);
    assert_eq!(
        ann.next_event().await,
        ("left".to_owned(), json!({"nick": "bobby"}))
    );
}

/// Params in params, as jQuery's and phoenix.js's serializers write them.
#[actix_web::test]
async fn tokens_may_be_nested_in_the_params() {
    const SECRET: &str = "a secret that is long enough for all";
    let (_dir, server) = serve_with_secret(
        r#"
        [identity]
        phoenix_token = { salt = "user", param = "user.token" }
        fields = { id = "{token}", page = "{connect.user.page}" }
        [[rooms]]
        topics = "room:*"
        history = "none"
        join = { token = { phoenix_token = { salt = "room", param = "params.token" } }, reply = { id = "{user.id}", room = "{token}", page = "{user.page}" } }
        "#,
        SECRET,
    );
    let secret = SecretKeyBase::new(SECRET).expect("long enough");
    let token = |salt: &str, data: i64| {
        let signer = Signer::new(&secret, salt, KeyOptions::default());
        signer.sign(data, SignOptions::now()).expect("a token")
    };
    let params = format!("&user[token]={}&user[page]=home", token("user", 7));
    let mut ann = dial(server.addr, &params).await;
    let nested = json!({"params": {"token": token("room", 12)}});
    let (_, reply) = join(&mut ann, "room:12", nested).await;
    assert_eq!(
        reply,
        json!({"status": "ok", "response": {"id": 7, "room": 12, "page": "home"}})
    );
    for params in [json!({"token": token("room", 12)}), json!({"params": "x"})] {
        let (_, reply) = join(&mut ann, "room:13", params).await;
        assert_eq!(reply["status"], "error", "{reply}");
    }
}

/// What the server of i-ka/simple_phoenix_chat answers: two conversations of three users.
fn simple_phoenix_chat(call: &Value) -> Value {
    let (user, payload) = (&call["user"]["id"], &call["payload"]);
    let said = |id: u64, body: &Value, user: &Value| {
        let user = json!({"id": user, "username": format!("user {user}")});
        json!({"id": id, "content": {"body": body}, "user": user})
    };
    match (call["type"].as_str(), call["event"].as_str()) {
        (Some("join"), _) if call["segments"] != json!(["3"]) || *user == 9 => {
            json!({"ok": false, "error": "Unathorized"})
        }
        (Some("join"), _) => json!({"ok": true, "reply": {
            "id": 3, "name": "tea", "participants": [{"id": 7, "username": "user 7"}],
            "messages": [said(1, &json!("first"), &json!(8))],
        }}),
        (_, Some("get_my_rooms")) => json!({"ok": true, "reply": [{"id": 3, "name": "tea"}]}),
        (_, Some("new_conversation")) if payload["name"] == "" => {
            json!({"ok": false, "error": {"error": "can't be blank"}})
        }
        (_, Some("new_conversation")) => {
            let invited = payload["users_to_invite"]
                .as_array()
                .expect("a list")
                .iter();
            let invite = invited.map(|id| {
                json!({"broadcast": "invite", "topic": format!("direct:{id}"), "payload": {"to_room": 4}})
            });
            let invite: Vec<_> = invite.collect();
            json!({"ok": true, "reply": {"id": 4, "name": payload["name"]}, "do": invite})
        }
        (_, Some("new_message")) => {
            let message = said(2, &payload["body"], user);
            json!({"ok": true, "reply": message, "do": [{"broadcast": "new_message", "payload": message}]})
        }
        _ => json!({"ok": false, "error": {"error": "unknown"}}),
    }
}

/// i-ka/simple_phoenix_chat, whose application keeps conversations, members and messages. Its users have a token of
/// Guardian.
#[actix_web::test]
async fn a_backend_keeps_conversations_and_invites_users() {
    let backend = HookBackend::start(|call| simple_phoenix_chat(&call.body).into()).await;
    let (_dir, server) = backend.serve(
        "",
        r#"
        [identity]
        jwt = { algorithms = ["HS512"], secret_file = "hook.secret", issuer = "tandyr", audience = "tandyr" }
        fields = { id = "{token.sub:int}" }
        [[rooms]]
        topics = "direct:*"
        history = "none"
        other_events = "hook"
        join = { match = { "topic.1" = "{user.id}" }, refuse = "Unathorized" }
        [[rooms]]
        topics = "room:*"
        history = "none"
        other_events = "hook"
        join = { hook = true }
        "#,
    );
    let token = |id: &str| format!("&token={}", guardian("tandyr", HOOK_SECRET, id));
    let mut ann = dial(server.addr, &token("7")).await;
    let mut bob = dial(server.addr, &token("8")).await;
    let mut eve = dial(server.addr, &token("9")).await;
    let refused = json!({"status": "error", "response": "Unathorized"});
    for topic in ["direct:8", "room:4"] {
        assert_eq!(join(&mut ann, topic, json!({})).await.1, refused, "{topic}");
    }
    assert_eq!(join(&mut eve, "room:3", json!({})).await.1, refused);
    let (ann_direct, own) = join(&mut ann, "direct:7", json!({})).await;
    assert_eq!(own, json!({"status": "ok", "response": {}}));
    join(&mut bob, "direct:8", json!({})).await;

    let rooms = ann
        .push(&ann_direct, "direct:7", "get_my_rooms", json!({}))
        .await;
    let expected = json!({"status": "ok", "response": [{"id": 3, "name": "tea"}]});
    assert_eq!(ann.reply_to(&rooms).await, expected);
    let new = |name: &str| json!({"name": name, "description": "", "users_to_invite": [8, 10]});
    let made = ann
        .push(&ann_direct, "direct:7", "new_conversation", new("cake"))
        .await;
    let expected = json!({"status": "ok", "response": {"id": 4, "name": "cake"}});
    assert_eq!(ann.reply_to(&made).await, expected);
    let invited = ("invite".to_owned(), json!({"to_room": 4}));
    assert_eq!(bob.next_event().await, invited);
    let wrong = ann
        .push(&ann_direct, "direct:7", "new_conversation", new(""))
        .await;
    let expected = json!({"status": "error", "response": {"error": "can't be blank"}});
    assert_eq!(ann.reply_to(&wrong).await, expected);

    let (ann_room, joined) = join(&mut ann, "room:3", json!({})).await;
    assert_eq!(
        joined["response"]["messages"][0]["content"]["body"],
        "first"
    );
    join(&mut bob, "room:3", json!({})).await;
    let said = ann
        .push(&ann_room, "room:3", "new_message", json!({"body": "hi"}))
        .await;
    let message =
        json!({"id": 2, "content": {"body": "hi"}, "user": {"id": 7, "username": "user 7"}});
    for client in [&mut ann, &mut bob] {
        assert_eq!(
            client.next_event().await,
            ("new_message".to_owned(), message.clone())
        );
    }
    assert_eq!(
        ann.reply_to(&said).await,
        json!({"status": "ok", "response": message})
    );
}
