//! SIGHUP applies new settings to a server that runs; a mistake changes nothing. tests/integration/reload_operators.rs has
//! the dashboard and the backend.

use serde_json::json;

use crate::support::jwt::signed_with;
use crate::support::phoenix::Phoenix;
use crate::support::reload::{IDENTITY, Running, SECRETS};
use crate::support::wire::http;

#[actix_web::test]
async fn new_tokens_origins_limits_and_keys_hold_from_a_hangup_on() {
    let first = "api_token = \"the-first-token-of-the-api\"\ncheck_origin = \"//a.example\"";
    let mut running = Running::start(first);
    assert_eq!(running.api("the-first-token-of-the-api").await, 200);
    let (old, status) = running.handshake(SECRETS[0], "a.example").await;
    assert_eq!(status, 101);

    let second = "api_token = \"the-second-token-of-the-api\"\ncheck_origin = \"//b.example\"\n\
                  max_connections_per_ip = 1\ndrain_batch = 5";
    let line = running.reload(second, SECRETS[1], "serve.reloaded");
    assert_eq!(
        line["changed"], "check_origin, max_connections_per_ip, api_token",
        "{line}"
    );
    assert_eq!(line["restart"], "drain_batch", "{line}");
    assert_eq!(running.api("the-first-token-of-the-api").await, 401);
    assert_eq!(running.api("the-second-token-of-the-api").await, 200);
    assert_eq!(running.handshake(SECRETS[1], "a.example").await.1, 403);
    assert_eq!(running.handshake(SECRETS[0], "b.example").await.1, 403);
    let (new, status) = running.handshake(SECRETS[1], "b.example").await;
    assert_eq!(status, 101);
    // The one from before had no limit, because loopback is a trusted proxy.
    assert_eq!(running.handshake(SECRETS[1], "b.example").await.1, 429);

    // What needs a restart is named again, and nothing else.
    let line = running.reload(second, SECRETS[1], "serve.reloaded");
    assert_eq!(
        (&line["changed"], &line["restart"]),
        (&json!(""), &json!("drain_batch"))
    );
    drop((old, new));
    running.end();
}

#[actix_web::test]
async fn a_mistake_changes_nothing() {
    let good = "api_token = \"the-first-token-of-the-api\"\ncheck_origin = \"//a.example\"";
    let mut running = Running::start(good);
    let other = "api_token = \"the-second-token-of-the-api\"\ncheck_origin = \"//b.example\"";
    for (settings, secret, part) in [
        (
            format!("{other}\nprot = 1"),
            SECRETS[1],
            "prot: there is no such setting",
        ),
        (
            other.replace("//b.example", "nonsense"),
            SECRETS[1],
            "--check-origin",
        ),
        (
            other.replace("the-second-token-of-the-api", "short"),
            SECRETS[1],
            "--api-token",
        ),
        (other.to_owned(), "a short secret", "secret_file"),
        (
            format!("{other}\napi_token_file = \"jwt\""),
            SECRETS[1],
            "are both set",
        ),
    ] {
        let line = running.reload(&settings, secret, "serve.reload.failed");
        let error = line["error"].as_str().expect("a sentence");
        assert!(error.contains(part), "{part}: {error}");
        assert_eq!(
            running.api("the-first-token-of-the-api").await,
            200,
            "{part}"
        );
        let (client, status) = running.handshake(SECRETS[0], "a.example").await;
        assert_eq!(status, 101, "{part}");
        drop(client);
    }
    running.end();
}

#[actix_web::test]
async fn the_api_is_switched_on_by_a_restart_alone_and_off_by_a_hangup() {
    let mut running = Running::start("log = \"info\"");
    let on = "api_token = \"the-first-token-of-the-api\"";
    let line = running.reload(on, SECRETS[0], "serve.reloaded");
    assert_eq!(
        (&line["changed"], &line["restart"]),
        (&json!(""), &json!("api_token"))
    );
    running.end();

    let mut running = Running::start(on);
    let line = running.reload("", SECRETS[0], "serve.reloaded");
    assert_eq!(line["changed"], "api_token");
    assert_eq!(running.api("the-first-token-of-the-api").await, 401);
    running.end();
}

/// The numbers of the messages that a client gets when it joins the room.
async fn history(client: &mut Phoenix) -> Vec<u64> {
    client.join("random:lobby").await;
    let (event, payload) = client.next_event().await;
    assert_eq!(event, "messages_history");
    let messages = payload["messages"].as_array().expect("a list");
    let numbers = messages.iter().map(|message| message["n"].as_u64());
    numbers.map(|number| number.expect("a number")).collect()
}

const ROOM: &str = "[[rooms]]\ntopics = \"random:*\"\nevents = [\"shout\"]\n\
                    on.loud = { reply = true, store = false, to = \"others\" }\n";

#[actix_web::test]
async fn a_room_has_its_new_history_and_limit_for_members_and_joins() {
    let mut running = Running::start(&format!("history_limit = 3\n{ROOM}"));
    let mut ada = running.client().await;
    let (join_ref, _) = ada.join("random:lobby").await;
    assert_eq!(ada.next_event().await.0, "messages_history");
    for n in 1..=1_010 {
        ada.push(&join_ref, "random:lobby", "shout", json!({ "n": n }))
            .await;
        assert_eq!(ada.next_event().await.0, "shout");
    }
    let mut bob = running.client().await;
    assert_eq!(history(&mut bob).await, [1_008, 1_009, 1_010]);

    // Longer than what the topic keeps in memory, and with another limit and another rule.
    let limit = "limit = { topic = \"2/1h\" }\nchanges = true\n";
    let line = running.reload(
        &format!("history_limit = 1_005\n{ROOM}{limit}"),
        SECRETS[0],
        "serve.reloaded",
    );
    assert_eq!(
        (&line["changed"], &line["restart"]),
        (
            &json!("history_limit, [[rooms]] random:* limit"),
            &json!("[[rooms]]")
        )
    );
    let mut carl = running.client().await;
    let numbers = history(&mut carl).await;
    assert_eq!((numbers.len(), numbers.first()), (1_005, Some(&6)));
    for _ in 0..2 {
        let loud = ada.push(&join_ref, "random:lobby", "loud", json!({})).await;
        assert_eq!(ada.reply_to(&loud).await["status"], "ok");
    }
    let loud = ada.push(&join_ref, "random:lobby", "loud", json!({})).await;
    let refused = ada.reply_to(&loud).await;
    assert_eq!(refused["response"]["limit"], "topic", "{refused}");

    // The limit is gone again.
    let line = running.reload(
        &format!("history_limit = 2\n{ROOM}"),
        SECRETS[0],
        "serve.reloaded",
    );
    assert_eq!(line["restart"], "", "{line}");
    let loud = ada.push(&join_ref, "random:lobby", "loud", json!({})).await;
    assert_eq!(ada.reply_to(&loud).await["status"], "ok");
    let mut dora = running.client().await;
    assert_eq!(history(&mut dora).await, [1_009, 1_010]);
    drop((ada, bob, carl, dora));
    running.end();
}

#[actix_web::test]
async fn a_room_takes_messages_of_its_new_length_from_members_and_programs() {
    const TOKEN: &str = "a-token-of-the-tests";
    let settings = |bytes: u32| {
        format!(
            "api_token = \"{TOKEN}\"\n[[rooms]]\ntopics = \"random:*\"\nhistory = \"none\"\n\
             events = [\"shout\"]\n\
             on.say = {{ reply = true, store = false, to = \"others\" }}\nmax_message_bytes = {bytes}\n"
        )
    };
    let mut running = Running::start(&settings(100));
    let addr = running.addr();
    let mut ada = running.client().await;
    let (join_ref, _) = ada.join("random:1").await;
    let long = json!({ "text": "x".repeat(200) });
    let say = async |ada: &mut Phoenix| {
        let sent = ada.push(&join_ref, "random:1", "say", long.clone()).await;
        ada.reply_to(&sent).await
    };
    let publish = async || {
        let authorization = format!("Bearer {TOKEN}");
        let headers = [
            ("Authorization", Some(&*authorization)),
            ("Content-Type", Some("application/json")),
        ];
        let body = json!({ "event": "shout", "payload": long }).to_string();
        let target = "/api/topics/random:2/messages";
        let answer = http(addr, "POST", target, &headers, body.as_bytes()).await;
        answer.expect("an answer").status
    };
    assert_eq!(say(&mut ada).await["response"]["max_message_bytes"], 100);
    assert_eq!(publish().await, 422);
    let line = running.reload(&settings(1_000), SECRETS[0], "serve.reloaded");
    let shown = (&line["changed"], &line["restart"]);
    assert_eq!(
        shown,
        (&json!("[[rooms]] random:* max_message_bytes"), &json!(""))
    );
    assert_eq!(say(&mut ada).await["status"], "ok");
    assert_eq!(publish().await, 201);
    drop(ada);
    running.end();
}

#[actix_web::test]
async fn a_user_may_have_more_connections_after_a_hangup_if_they_were_counted() {
    let settings = |max: &str| {
        format!("history = \"none\"\n{IDENTITY}fields = {{ id = \"{{token.sub}}\" }}\n{max}")
    };
    for (before, after, applied, restart) in [
        (
            "max_connections = 1\n",
            "max_connections = 2\n",
            "[identity] max_connections",
            "",
        ),
        (
            "max_connections = 1\n",
            "",
            "[identity] max_connections",
            "",
        ),
        ("", "max_connections = 2\n", "", "[identity]"),
    ] {
        let mut running = Running::start(&settings(before));
        let (first, status) = running.handshake(SECRETS[0], "127.0.0.1").await;
        assert_eq!(status, 101);
        let is_limited = running.handshake(SECRETS[0], "127.0.0.1").await.1 == 429;
        assert_eq!(is_limited, !before.is_empty());
        let line = running.reload(&settings(after), SECRETS[0], "serve.reloaded");
        let shown = (&line["changed"], &line["restart"]);
        assert_eq!(shown, (&json!(applied), &json!(restart)));
        assert_eq!(running.handshake(SECRETS[0], "127.0.0.1").await.1, 101);
        drop(first);
        running.end();
    }
}

#[actix_web::test]
async fn the_limits_of_connections_hold_for_those_that_are_open() {
    let mut running = Running::start("history = \"none\"");
    let mut ada = running.client().await;
    ada.join("random:1").await;
    let line = running.reload(
        "history = \"none\"\nmax_channels = 1\njoins_per_second = 1\njoins_burst = 3\n\
         presences_burst = 7",
        SECRETS[0],
        "serve.reloaded",
    );
    assert_eq!(
        line["changed"], "max_channels, joins_per_second, joins_burst, presences_burst",
        "{line}"
    );
    let refused = ada.send_join("random:2", json!({})).await;
    let reply = ada.reply_to(&refused).await;
    assert_eq!(
        reply["response"]["reason"], "too many channels joined",
        "{reply}"
    );
    // More than three joins at once are over the rate now.
    let joins: Vec<_> = (0..6)
        .map(|n| json!([null, format!("j{n}"), "random:3", "phx_join", {}]))
        .collect();
    ada.send_all(&joins).await;
    let mut limits = Vec::new();
    for _ in &joins {
        limits.push(ada.next().await[4]["response"]["limit"].take());
    }
    assert!(limits.contains(&json!("joins")), "{limits:?}");
    drop(ada);
    running.end();
}

#[actix_web::test]
async fn new_keys_of_joins_and_the_token_of_the_metrics_hold_from_a_hangup_on() {
    const PRIVATE: &str = "[[rooms]]\ntopics = \"random:*\"\nhistory = \"none\"\n\
        [rooms.join]\ntoken = { jwt = { algorithms = [\"HS256\"], secret_file = \"jwt\", \
        require_exp = false } }\n";
    let settings = |token: &str| format!("metrics_token = \"{token}\"\n{PRIVATE}");
    let mut running = Running::start(&settings("first"));
    let mut ada = running.client().await;
    let join = async |ada: &mut Phoenix, secret: &str| {
        let token = signed_with(secret, &json!({"sub": "ada"}));
        let join = ada.send_join("random:1", json!({ "token": token })).await;
        let status = ada.reply_to(&join).await["status"].take();
        if status == "ok" {
            let leave = ada.push(&join, "random:1", "phx_leave", json!({})).await;
            assert_eq!(ada.reply_to(&leave).await["status"], "ok");
            assert_eq!(ada.next_event().await.0, "phx_close");
        }
        status
    };
    let metrics = async |addr, token: &str| {
        let authorization = format!("Bearer {token}");
        let headers = [("Authorization", Some(&*authorization))];
        let answer = http(addr, "GET", "/metrics", &headers, b"").await;
        answer.expect("an answer").status
    };
    let addr = running.addr();
    assert_eq!(join(&mut ada, SECRETS[0]).await, "ok");
    assert_eq!(join(&mut ada, SECRETS[1]).await, "error");
    assert_eq!(
        (metrics(addr, "first").await, metrics(addr, "second").await),
        (200, 401)
    );

    let line = running.reload(&settings("second"), SECRETS[1], "serve.reloaded");
    assert_eq!(line["changed"], "metrics_token", "{line}");
    assert_eq!(join(&mut ada, SECRETS[0]).await, "error");
    assert_eq!(join(&mut ada, SECRETS[1]).await, "ok");
    assert_eq!(
        (metrics(addr, "first").await, metrics(addr, "second").await),
        (401, 200)
    );

    let line = running.reload(&settings("third"), "a short secret", "serve.reload.failed");
    assert!(
        line["error"]
            .as_str()
            .is_some_and(|error| error.contains("secret_file")),
        "{line}"
    );
    assert_eq!(join(&mut ada, SECRETS[1]).await, "ok");
    assert_eq!(metrics(addr, "second").await, 200);
    drop(ada);
    running.end();
}
