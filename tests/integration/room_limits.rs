//! The limits of users, topics, presences and addresses: refusals that say when to try again.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::support::phoenix::Phoenix;
use crate::support::process::Process;
use crate::support::wire::{Headers, WireClient, http};

const WEBSOCKET: &str = "/socket/websocket?vsn=2.0.0";
const LONGPOLL: &str = "/socket/longpoll?vsn=2.0.0";

fn serve(config: &str) -> (TempDir, Process) {
    Process::configured(config, &["--persist", "off"])
}

async fn join(client: &mut Phoenix, topic: &str) -> String {
    let join_ref = client.send_join(topic, json!({})).await;
    loop {
        let frame = client.next().await;
        if frame[1] == json!(join_ref) {
            assert_eq!(frame[4]["status"], "ok", "{frame}");
            return join_ref;
        }
    }
}

/// Pushes, and returns the reply. Broadcasts and presences before it are left out.
async fn push(client: &mut Phoenix, join_ref: &str, topic: &str, event: &str) -> Value {
    let reference = client.push(join_ref, topic, event, json!({})).await;
    loop {
        let mut frame = client.next().await;
        if frame[1] == json!(reference) {
            return frame[4].take();
        }
    }
}

/// The refusal by this limit, whose wait is at most so many seconds.
fn assert_refused(reply: &Value, limit: &str, seconds: u64) {
    assert_eq!(reply["status"], "error", "{reply}");
    let response = &reply["response"];
    assert_eq!(response["reason"], "rate limited", "{reply}");
    assert_eq!(response["limit"], limit, "{reply}");
    let wait = response["retry_after_ms"].as_u64().expect("a number");
    assert!((1..=seconds * 1_000).contains(&wait), "{reply}");
}

/// The lines of the metric `slackir_limited_total` whose count is not 0, as limit and count.
async fn limited(addr: SocketAddr) -> Vec<String> {
    let answer = http(addr, "GET", "/metrics", &[], b"").await;
    let text = String::from_utf8(answer.expect("an answer").body).expect("text");
    let lines = text.lines();
    let counted = lines.filter_map(|line| line.strip_prefix("slackir_limited_total{limit="));
    let counted = counted.filter(|line| !line.ends_with(" 0"));
    counted.map(str::to_owned).collect()
}

#[actix_web::test]
async fn a_user_has_one_limit_in_all_its_tabs_and_topics() {
    let (_dir, server) = serve(
        r#"
        [identity]
        fields = { id = "{connect.id}" }
        [[rooms]]
        topics = "room:*"
        history = "none"
        limit = { user = "3/10m" }
        on.say = { store = false, reply = true }
        "#,
    );
    let dial = |id| Phoenix::dial_with(server.addr, id);
    let (mut first, mut second) = (dial("&id=ada").await, dial("&id=ada").await);
    let first_ref = join(&mut first, "room:1").await;
    let second_ref = join(&mut second, "room:2").await;
    for _ in 0..2 {
        let reply = push(&mut first, &first_ref, "room:1", "say").await;
        assert_eq!(reply["status"], "ok");
    }
    let third = push(&mut second, &second_ref, "room:2", "say").await;
    assert_eq!(third["status"], "ok");
    for (client, join_ref, topic) in [
        (&mut first, &first_ref, "room:1"),
        (&mut second, &second_ref, "room:2"),
    ] {
        let refused = push(client, join_ref, topic, "say").await;
        assert_refused(&refused, "user", 600);
    }
    // Another user, and clients without an id: each connection is one.
    for id in ["&id=bob", "", ""] {
        let mut other = dial(id).await;
        let join_ref = join(&mut other, "room:1").await;
        let reply = push(&mut other, &join_ref, "room:1", "say").await;
        assert_eq!(reply["status"], "ok", "{id}");
    }
    assert_eq!(limited(server.addr).await, ["\"user\"} 2"]);
}

#[actix_web::test]
async fn all_members_of_a_topic_have_one_limit() {
    let (_dir, server) = serve(
        r#"
        [[rooms]]
        topics = "room:*"
        history = "none"
        limit = { topic = "2/10m" }
        on.say = { to = "others", store = false, reply = true }
        "#,
    );
    let mut ann = Phoenix::connect(server.addr).await;
    let mut bob = Phoenix::connect(server.addr).await;
    let ann_ref = join(&mut ann, "room:1").await;
    let bob_ref = join(&mut bob, "room:1").await;
    assert_eq!(
        push(&mut ann, &ann_ref, "room:1", "say").await["status"],
        "ok"
    );
    assert_eq!(bob.next_event().await.0, "say");
    assert_eq!(
        push(&mut bob, &bob_ref, "room:1", "say").await["status"],
        "ok"
    );
    let refused = push(&mut bob, &bob_ref, "room:1", "say").await;
    assert_refused(&refused, "topic", 600);
    assert_eq!(ann.next_event().await.0, "say");
    let other_ref = join(&mut ann, "room:2").await;
    let reply = push(&mut ann, &other_ref, "room:2", "say").await;
    assert_eq!(reply["status"], "ok", "another topic has its own");
    assert_eq!(limited(server.addr).await, ["\"topic\"} 1"]);
}

#[actix_web::test]
async fn a_client_changes_its_presences_so_often() {
    let config = r#"
        presences_per_second = 1
        presences_burst = 3
        [identity]
        fields = { id = "{connect.id}" }
        [[rooms]]
        topics = "room:*"
        history = "none"
        [rooms.presence]
        key = "{user.id}"
        [rooms.on.typing]
        require = { on = "bool?" }
        presence = { typing = "{now.ms}" }
        reply = true
        [rooms.on.say]
        store = false
        reply = true
    "#;
    let (_dir, server) = serve(config);
    let mut ada = Phoenix::dial_with(server.addr, "&id=ada").await;
    let one = join(&mut ada, "room:1").await;
    let two = join(&mut ada, "room:2").await;
    for (join_ref, topic) in [(&one, "room:1"), (&two, "room:2"), (&one, "room:1")] {
        let reply = push(&mut ada, join_ref, topic, "typing").await;
        assert_eq!(reply["status"], "ok", "{reply}");
    }
    let refused = push(&mut ada, &two, "room:2", "typing").await;
    assert_refused(&refused, "presences", 1);
    let said = push(&mut ada, &two, "room:2", "say").await;
    assert_eq!(said["status"], "ok", "other events have no part in it");
    let mut bob = Phoenix::dial_with(server.addr, "&id=bob").await;
    let join_ref = join(&mut bob, "room:1").await;
    let reply = push(&mut bob, &join_ref, "room:1", "typing").await;
    assert_eq!(reply["status"], "ok", "another client has its own");
    assert_eq!(limited(server.addr).await, ["\"presences\"} 1"]);
}

#[actix_web::test]
async fn a_user_has_so_many_connections() {
    let (_dir, server) = serve(
        r#"
        [identity]
        fields = { id = "{connect.id}" }
        max_connections = 2
        "#,
    );
    let open = async |id: &str| {
        let path = format!("{WEBSOCKET}{id}");
        let opened = WireClient::open(server.addr, &path, &[]).await;
        opened.expect("an answer").map_err(|answer| answer.status)
    };
    let first = open("&id=ada").await.expect("the first");
    let second = open("&id=ada").await.expect("the second");
    assert_eq!(open("&id=ada").await.err(), Some(429));
    let path = format!("{LONGPOLL}&id=ada");
    let polled = http(server.addr, "GET", &path, &[], b"").await;
    assert_eq!(polled.expect("an answer").status, 429);
    let others = [
        open("&id=bob").await,
        open("").await,
        open("").await,
        open("").await,
    ];
    assert!(
        others.iter().all(Result::is_ok),
        "who has no id is not counted"
    );
    assert_eq!(limited(server.addr).await, ["\"connections\"} 2"]);
    drop((first, second));
    while open("&id=ada").await.is_err() {
        sleep(Duration::from_millis(10)).await;
    }
}

#[actix_web::test]
async fn an_address_opens_connections_so_often() {
    let (_dir, server) = serve("connects_per_second = 1\nconnects_burst = 2");
    let from = |address| [("X-Forwarded-For", Some(address))];
    let open = async |headers: Headers<'_>| {
        let opened = WireClient::open(server.addr, WEBSOCKET, headers).await;
        opened.expect("an answer")
    };
    let ada = from("192.0.2.7");
    assert!(open(&ada).await.is_ok());
    let polled = http(server.addr, "GET", LONGPOLL, &ada, b"").await;
    assert_eq!(
        polled.expect("an answer").status,
        200,
        "a session counts, too"
    );
    let refused = open(&ada).await.map(drop).expect_err("too often");
    assert_eq!(refused.status, 429);
    assert_eq!(refused.headers["retry-after"], "1");
    let polled = http(server.addr, "GET", LONGPOLL, &ada, b"").await;
    assert_eq!(polled.expect("an answer").status, 429);
    assert!(open(&from("192.0.2.8")).await.is_ok());
    // A proxy that names nobody connects for many.
    for _ in 0..4 {
        assert!(open(&[]).await.is_ok());
    }
    assert_eq!(limited(server.addr).await, ["\"connects\"} 2"]);
    while open(&ada).await.is_err() {
        sleep(Duration::from_millis(50)).await;
    }
}

#[actix_web::test]
async fn who_is_refused_a_hundred_times_is_not_read_for_a_second() {
    let (_dir, server) = serve(
        r#"
        [[rooms]]
        topics = "room:*"
        history = "none"
        on.say = { store = false, reply = true, rate = "1/h" }
        "#,
    );
    let mut client = Phoenix::connect(server.addr).await;
    let join_ref = join(&mut client, "room:1").await;
    let started = Instant::now();
    for _ in 0..101 {
        push(&mut client, &join_ref, "room:1", "say").await;
    }
    let refused = started.elapsed();
    // The refusal over the hundred was sent; what follows waits.
    push(&mut client, &join_ref, "room:1", "say").await;
    client.heartbeat().await;
    let read_again = started.elapsed() - refused;
    assert!(read_again >= Duration::from_millis(900), "{read_again:?}");
    assert_eq!(limited(server.addr).await, ["\"event\"} 101"]);
}

#[actix_web::test]
async fn a_token_has_so_many_requests_to_the_api() {
    let config =
        "api_token = \"0123456789abcdef\"\napi_requests_per_second = 1\napi_requests_burst = 2";
    let (_dir, server) = Process::configured(config, &[]);
    let path = "/api/topics/random:lobby/messages";
    let get = async |token: &str| {
        let bearer = format!("Bearer {token}");
        let headers = [("Authorization", Some(&*bearer))];
        let answer = http(server.addr, "GET", path, &headers, b"").await;
        answer.expect("an answer")
    };
    for _ in 0..2 {
        assert_eq!(get("0123456789abcdef").await.status, 200);
    }
    let refused = get("0123456789abcdef").await;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.headers["retry-after"], "1");
    let body: Value = serde_json::from_slice(&refused.body).expect("JSON");
    assert_eq!(body["error"], "rate limited", "{body}");
    assert_eq!(
        get("a-wrong-token-of-16").await.status,
        401,
        "it uses up nothing"
    );
    assert_eq!(limited(server.addr).await, ["\"api\"} 1"]);
    while get("0123456789abcdef").await.status != 200 {
        sleep(Duration::from_millis(50)).await;
    }
}

#[actix_web::test]
async fn a_visitor_without_a_token_is_a_guest_and_a_wrong_token_is_refused() {
    let (_dir, server) = serve(
        r#"
        secret_key_base = "a secret of at least 20 bytes"
        [identity]
        from = ["phoenix_token", "params"]
        phoenix_token = {}
        fields = { id = "{token.id|'guest'}" }
        [[rooms]]
        topics = "room:*"
        join.reply = { id = "{user.id}" }
        "#,
    );
    for params in ["", "&token=", "&token=undefined", "&token=null"] {
        let mut guest: Phoenix = Phoenix::dial_with(server.addr, params).await;
        let join_ref = guest.send_join("room:1", json!({})).await;
        let reply = guest.reply_to(&join_ref).await;
        assert_eq!(reply["response"]["id"], "guest", "{params}: {reply}");
    }
    let wrong = format!("{WEBSOCKET}&token=wrong");
    let opened = WireClient::open(server.addr, &wrong, &[]).await;
    assert_eq!(
        opened
            .expect("an answer")
            .map(drop)
            .expect_err("refused")
            .status,
        403
    );
}
