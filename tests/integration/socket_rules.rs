//! The rules of joins, leaves and frames that the recorded scenarios leave out.

use std::time::Duration;

use serde_json::{Value, json};
use slackir::channel::{Channel, Context, HandleIn, HandleInResult, Join, JoinResult, Refused};
use slackir::endpoint::TransportOptions;
use slackir::log::LogRule;
use slackir::message::Payload;
use slackir::pubsub::PubSub;
use slackir::socket::{Socket, SocketOptions, SocketRouter};
use slackir::testing::MemoryStore;
use slackir::transport::{CheckOrigin, HandshakeOptions};
use slackir::{Assigns, Endpoint, Mount};

use crate::support::conformance_app;
use crate::support::phoenix::Phoenix;
use crate::support::server::TestServer;
use crate::support::transport::{Wire, both_transports, over_both_transports};
use crate::support::wire::{DEADLINE, Frame, WireClient};

over_both_transports! {
    two_joins_of_one_topic_in_one_packet_are_both_answered
    the_replaced_channel_is_closed_also_when_the_new_join_fails
    only_joined_channels_count_against_the_limit
    what_was_sent_before_a_leave_is_answered_before_it
    phoenix_events_from_a_client_are_events_like_others
    routes_match_in_order_and_bring_their_assigns
    a_broadcast_on_the_own_topic_inside_join_is_not_received
    control_events_in_binary_frames_are_answered_in_text
    only_disconnect_on_the_socket_id_closes_it
    deep_nesting_is_echoed
}

struct Anyone;
impl Socket for Anyone {}

/// Which route a channel came by.
struct Route(&'static str);

/// Joins as it is told and answers with the event's own name.
struct Obedient;

impl Channel for Obedient {
    type Info = ();

    async fn join(params: Payload, ctx: &mut Context<Self>) -> JoinResult<Self> {
        let params: Value = params.parse().unwrap_or_default();
        if params["own_broadcast"] == true {
            let heard = json!({"by": "nobody"});
            ctx.pubsub()
                .broadcast(ctx.topic(), "early", heard)
                .await
                .expect("an object");
        }
        if let Some(delay) = params["delay"].as_u64() {
            tokio::time::sleep(Duration::from_millis(delay)).await;
        }
        match params["do"].as_str() {
            Some("refuse") => Err(Refused::because("no").into()),
            Some("panic") => panic!("told to"),
            _ => Ok(Join::reply(
                Self,
                json!({"route": ctx.assigns().get::<Route>().map(|route| route.0)}),
            )),
        }
    }

    async fn handle_in(
        &mut self,
        event: &str,
        _: Payload,
        _: &mut Context<Self>,
    ) -> HandleInResult {
        Ok(HandleIn::ok(json!({ "event": event })))
    }
}

fn start(options: SocketOptions) -> TestServer {
    TestServer::start(move || {
        let route = |name| Assigns::of(Route(name));
        let router = SocketRouter::new()
            .channel_with::<Obedient>("a:exact", route("exact"))
            .channel_with::<Obedient>("a:*", route("prefix"))
            .channel::<Obedient>("free:*");
        Endpoint::builder(PubSub::new())
            .mount(
                Mount::new("/socket", Anyone, router)
                    .transports(both_transports())
                    .options(options),
            )
            .build()
    })
}

async fn frames<W: Wire>(client: &mut Phoenix<W>, count: usize) -> Vec<Value> {
    let mut frames = Vec::new();
    for _ in 0..count {
        frames.push(client.next().await);
    }
    frames
}

fn reply(join_ref: &str, reference: &str, status: &str, response: &Value) -> Value {
    let body = json!({"status": status, "response": response});
    json!([join_ref, reference, "free:a", "phx_reply", body])
}

fn ok(join_ref: &str, reference: &str) -> Value {
    reply(join_ref, reference, "ok", &json!({"route": null}))
}

fn close(join_ref: &str) -> Value {
    json!([join_ref, join_ref, "free:a", "phx_close", {}])
}

/// Requirement 184.
async fn two_joins_of_one_topic_in_one_packet_are_both_answered<W: Wire>() {
    let server = start(SocketOptions::default());
    let mut client = Phoenix::<W>::dial(server.addr).await;
    let join = |reference: &str, delay: u64| json!([reference, reference, "free:a", "phx_join", {"delay": delay}]);
    client.send_all(&[join("3", 0), join("7", 0)]).await;
    assert_eq!(
        frames(&mut client, 3).await,
        [ok("3", "3"), ok("7", "7"), close("3")]
    );
    // The same when the joins have to wait, and a leave of the first stands between them.
    let leave = json!(["9", "10", "free:a", "phx_leave", {}]);
    client
        .send_all(&[join("9", 50), leave, join("11", 50)])
        .await;
    let seen = frames(&mut client, 4).await;
    assert_eq!(seen[..2], [ok("9", "9"), close("7")]);
    assert!(
        seen[2..].contains(&ok("11", "11")) && seen[2..].contains(&close("9")),
        "{seen:?}"
    );
    client.heartbeat().await;
}

/// Requirement 100.
async fn the_replaced_channel_is_closed_also_when_the_new_join_fails<W: Wire>() {
    let server = start(SocketOptions::default());
    for (what, reason) in [("refuse", "no"), ("panic", "join crashed")] {
        let mut client = Phoenix::<W>::dial(server.addr).await;
        let (old, _) = client.join("free:a").await;
        let new = client.send_join("free:a", json!({ "do": what })).await;
        let refused = reply(&new, &new, "error", &json!({ "reason": reason }));
        assert_eq!(frames(&mut client, 2).await, [refused, close(&old)]);
        let event = client.push(&old, "free:a", "any", json!({})).await;
        assert_eq!(
            client.reply_to(&event).await["response"]["reason"],
            "unmatched topic"
        );
    }
}

/// Requirement 91.
async fn only_joined_channels_count_against_the_limit<W: Wire>() {
    let server = start(SocketOptions::default().max_channels(2));
    let mut client = Phoenix::<W>::dial(server.addr).await;
    for what in ["refuse", "panic"] {
        let join = client.send_join("free:x", json!({ "do": what })).await;
        assert_eq!(client.reply_to(&join).await["status"], "error");
    }
    let (left, _) = client.join("free:left").await;
    let leave = client
        .push(&left, "free:left", "phx_leave", json!({}))
        .await;
    assert_eq!(client.reply_to(&leave).await["status"], "ok");
    assert_eq!(client.next_event().await.0, "phx_close");
    client.join("free:a").await;
    client.join("free:b").await;
    // A duplicate takes no place of its own.
    client.join("free:b").await;
    assert_eq!(client.next_event().await.0, "phx_close");
    let third = client.send_join("free:c", json!({})).await;
    let reply = client.reply_to(&third).await;
    assert_eq!(reply["response"]["reason"], "too many channels joined");
}

/// Requirement 107.
async fn what_was_sent_before_a_leave_is_answered_before_it<W: Wire>() {
    let server = start(SocketOptions::default());
    let mut client = Phoenix::<W>::dial(server.addr).await;
    client.join("free:a").await;
    let event = |reference: &str, event: &str| json!(["1", reference, "free:a", event, {}]);
    client
        .send_all(&[event("2", "x"), event("3", "y"), event("4", "phx_leave")])
        .await;
    let expected = [
        reply("1", "2", "ok", &json!({"event": "x"})),
        reply("1", "3", "ok", &json!({"event": "y"})),
        reply("1", "4", "ok", &json!({})),
        close("1"),
    ];
    assert_eq!(frames(&mut client, 4).await, expected);
}

/// Requirement 113.
async fn phoenix_events_from_a_client_are_events_like_others<W: Wire>() {
    let server = start(SocketOptions::default());
    let mut client = Phoenix::<W>::dial(server.addr).await;
    let (join_ref, _) = client.join("free:a").await;
    for event in ["phx_reply", "phx_error", "phx_close", "presence_diff"] {
        let reference = client.push(&join_ref, "free:a", event, json!({})).await;
        assert_eq!(
            client.reply_to(&reference).await["response"]["event"],
            event
        );
    }
}

/// Requirements 88, 128.
async fn routes_match_in_order_and_bring_their_assigns<W: Wire>() {
    let server = start(SocketOptions::default());
    let mut client = Phoenix::<W>::dial(server.addr).await;
    for (topic, route) in [
        ("a:exact", "exact"),
        ("a:other", "prefix"),
        ("a:", "prefix"),
    ] {
        assert_eq!(
            client.join(topic).await.1,
            json!({ "route": route }),
            "{topic}"
        );
    }
    let none = client.send_join("a", json!({})).await;
    assert_eq!(
        client.reply_to(&none).await["response"]["reason"],
        "unmatched topic"
    );
}

/// Requirement 89.
#[test]
#[should_panic(expected = "'*' may only stand at the end")]
fn a_star_elsewhere_in_a_pattern_is_refused() {
    let _ = SocketRouter::new().channel::<Obedient>("a*b");
}

#[test]
#[should_panic(expected = "two sockets are mounted at \"/socket\"")]
fn two_sockets_at_one_path_are_refused() {
    let mount = || Mount::new("/socket", Anyone, SocketRouter::new());
    Endpoint::builder(PubSub::new())
        .mount(mount())
        .mount(mount())
        .build();
}

#[test]
#[should_panic(expected = "two sockets are mounted at \"/rooms/:id/\"")]
fn two_names_of_a_parameter_are_one_path() {
    let mount = |path| Mount::new(path, Anyone, SocketRouter::new());
    Endpoint::builder(PubSub::new())
        .mount(mount("/rooms/:name"))
        .mount(mount("/rooms/:id/"))
        .build();
}

#[test]
#[should_panic(
    expected = "no topic comes to the log of \"free:a\": \"free:*\" before it takes them all"
)]
fn a_log_rule_that_never_matches_is_refused() {
    let rule = |topics| LogRule::new(topics, &["say"], 50, MemoryStore::new());
    PubSub::with_logs(vec![rule("free:*"), rule("free:a")]);
}

#[test]
#[should_panic(expected = "no topic comes to \"free:a\": \"free:*\" before it takes them all")]
fn a_route_that_never_matches_is_refused() {
    let router = SocketRouter::new()
        .channel::<Obedient>("free:a:*")
        .channel::<Obedient>("free:*")
        .channel::<Obedient>("free:a");
    Endpoint::builder(PubSub::new())
        .mount(Mount::new("/socket", Anyone, router))
        .build();
}

/// Requirement 97.
async fn a_broadcast_on_the_own_topic_inside_join_is_not_received<W: Wire>() {
    let server = start(SocketOptions::default());
    let mut witness = Phoenix::<W>::dial(server.addr).await;
    witness.join("free:a").await;
    let mut client = Phoenix::<W>::dial(server.addr).await;
    let join = client
        .send_join("free:a", json!({"own_broadcast": true}))
        .await;
    assert_eq!(client.reply_to(&join).await["status"], "ok");
    assert_eq!(witness.next_event().await.0, "early");
    client.heartbeat().await;
}

/// Requirement 50.
#[actix_web::test]
async fn the_idle_clock_stands_still_while_a_join_is_pending() {
    let timeout = Duration::from_millis(300);
    let server = start(SocketOptions::default().timeout(timeout));
    let mut client = Phoenix::connect(server.addr).await;
    let join = client.send_join("free:a", json!({"delay": 900})).await;
    assert_eq!(client.reply_to(&join).await["status"], "ok");
    assert_eq!(client.closed().await, 1002);
}

/// Requirements 71, 72, 73.
#[actix_web::test]
async fn binary_reaches_those_who_can_read_it_and_harms_nobody() {
    let server = TestServer::start(conformance_app::endpoint);
    let mut v1 = WireClient::connect(server.addr, "/socket/websocket").await;
    let join = r#"{"topic":"conf:x","event":"phx_join","payload":{},"ref":"1"}"#;
    // A V1 client may send its JSON in a binary frame.
    v1.send_binary(join.as_bytes()).await.expect("open");
    assert_eq!(v1.next_text().await["payload"]["status"], "ok");
    let mut v2 = Phoenix::connect(server.addr).await;
    let (join_ref, _) = v2.join("conf:x").await;
    let push = b"\x00\x01\x01\x06\x0912conf:xbroadcast\x07\xff";
    v2.wire.send_binary(push).await.expect("open");
    let heard = v2.wire.recv(1, DEADLINE).await;
    assert_eq!(
        heard,
        [Frame::Binary(b"\x02\x06\x05conf:xbcast\x07\xff".to_vec())]
    );
    v2.push(&join_ref, "conf:x", "broadcast", json!({"n": 1}))
        .await;
    assert_eq!(
        v1.next_text().await["payload"],
        json!({"n": 1}),
        "the first it was sent"
    );
    // Its own binary is its channel's error.
    let ask = r#"{"topic":"conf:x","event":"reply_binary","payload":{},"ref":"2"}"#;
    v1.send_text(ask).await.expect("open");
    assert_eq!(v1.next_text().await["event"], "phx_error");
}

/// Requirement 80.
async fn control_events_in_binary_frames_are_answered_in_text<W: Wire>() {
    let server = TestServer::start(conformance_app::endpoint);
    let mut client = Phoenix::<W>::dial(server.addr).await;
    for (frame, event) in [
        (&b"\x00\x00\x01\x07\x094phoenixheartbeat"[..], "phx_reply"),
        (b"\x00\x01\x01\x06\x0855conf:xphx_join", "phx_reply"),
        (b"\x00\x01\x01\x06\x0956conf:xphx_leave", "phx_reply"),
    ] {
        client.wire.send_binary(frame).await.expect("open");
        let (found, body) = client.next_event().await;
        assert_eq!((&*found, &body["status"]), (event, &json!("ok")));
    }
    assert_eq!(client.next_event().await.0, "phx_close");
}

/// Requirements 54, 56.
async fn only_disconnect_on_the_socket_id_closes_it<W: Wire>() {
    let server = TestServer::start(conformance_app::endpoint);
    let mut client = Phoenix::<W>::dial_with(server.addr, "&user_id=7").await;
    client.join("conf:x").await;
    server
        .endpoint
        .broadcast("users:7", "other", json!({}))
        .await
        .expect("an object");
    server
        .endpoint
        .broadcast("conf:x", "disconnect", json!({}))
        .await
        .expect("an object");
    assert_eq!(
        client.next_event().await.0,
        "disconnect",
        "on a topic it is an event like others"
    );
    client.heartbeat().await;
    server
        .endpoint
        .broadcast("users:7", "disconnect", json!({}))
        .await
        .expect("an object");
    client.ended_with(1001).await;
}

/// A polling client gets it only if a poll waits, on Phoenix too.
/// Requirement 55.
#[actix_web::test]
async fn what_was_queued_before_the_disconnect_is_delivered() {
    let server = TestServer::start(conformance_app::endpoint);
    let mut client = Phoenix::<WireClient>::dial_with(server.addr, "&user_id=7").await;
    client.join("conf:x").await;
    for (topic, event) in [("conf:x", "last"), ("users:7", "disconnect")] {
        let sent = server.endpoint.broadcast(topic, event, json!({}));
        sent.await.expect("an object");
    }
    assert_eq!(client.next_event().await.0, "last");
    client.ended_with(1001).await;
}

/// Requirement 49.
#[actix_web::test]
async fn close_frames_are_answered_by_their_code() {
    let server = start(SocketOptions::default());
    for (code, answer) in [
        (1000, 1000),
        (1001, 1000),
        (3000, 1000),
        (4999, 1000),
        (0, 1002),
        (999, 1002),
        (1004, 1002),
        (1005, 1002),
        (1006, 1002),
        (1012, 1002),
        (1015, 1002),
        (2999, 1002),
        (5000, 1002),
    ] {
        let mut client = Phoenix::connect(server.addr).await;
        client.wire.close(code).await.expect("open");
        assert_eq!(client.closed().await, answer, "{code}");
    }
}

/// Requirement 81.
async fn deep_nesting_is_echoed<W: Wire>() {
    let server = TestServer::start(conformance_app::endpoint);
    let mut client = Phoenix::<W>::dial(server.addr).await;
    client.join("conf:x").await;
    let deep = format!("{}{}", "[".repeat(50_000), "]".repeat(50_000));
    let text = format!(r#"["1","2","conf:x","echo",{deep}]"#);
    client.wire.send_text(&text).await.expect("open");
    let echoed = client.wire.recv(1, DEADLINE).await;
    assert!(
        matches!(&echoed[..], [Frame::RawText(text)] if text.contains(&deep)),
        "all of it"
    );
}

/// Requirements 9, 31, 53.
#[actix_web::test]
async fn each_mount_has_its_own_origins_and_no_compression_is_agreed() {
    let server = TestServer::start(|| {
        let transports = |check_origin| {
            TransportOptions::default()
                .handshake(HandshakeOptions::default().check_origin(check_origin))
        };
        let list = |origin: &str| CheckOrigin::List(vec![origin.parse().expect("an origin")]);
        let router = || SocketRouter::new().channel::<Obedient>("free:*");
        Endpoint::builder(PubSub::new())
            .mount(Mount::new("/one", Anyone, router()).transports(transports(list("//one.test"))))
            .mount(Mount::new("/two", Anyone, router()).transports(transports(list("//two.test"))))
            .build()
    });
    for (path, origin, status) in [
        ("/one", "http://one.test", 101),
        ("/one", "http://two.test", 403),
        ("/two", "http://two.test", 101),
        ("/two", "http://one.test", 403),
    ] {
        let headers = [
            ("Origin", Some(origin)),
            ("Connection", Some("keep-alive, Upgrade")),
            ("Upgrade", Some("WebSocket")),
            ("Sec-WebSocket-Extensions", Some("permessage-deflate")),
        ];
        let path = format!("{path}/websocket?vsn=2.0.0");
        let opened = WireClient::open(server.addr, &path, &headers)
            .await
            .expect("an answer");
        let answer = opened.map_or_else(|refused| refused, |client| client.answer.clone());
        assert_eq!(answer.status, status, "{path} from {origin}");
        assert_eq!(answer.headers.get("sec-websocket-extensions"), None);
    }
}
