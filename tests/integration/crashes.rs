//! Channels that panic, hang or never come back: each ends alone, and as it should.

use std::future::pending;
use std::time::Duration;

use serde_json::json;
use slackir::Endpoint;
use slackir::channel::{Channel, Context, HandleIn, Join, JoinResult, StopReason};
use slackir::message::{Payload, Reply};
use slackir::pubsub::PubSub;
use slackir::socket::{DrainOptions, Socket, SocketRouter};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

use crate::support::phoenix::Phoenix;
use crate::support::server::TestServer;
use crate::support::wire::DEADLINE;

struct Anyone;
impl Socket for Anyone {}

/// Misbehaves on demand and records how it ends.
struct Unruly {
    ended: UnboundedSender<(String, StopReason)>,
}

/// Says that a callback has begun, by being dropped when it ends in any way.
struct Alive(UnboundedSender<(String, StopReason)>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.send(("dropped".to_owned(), StopReason::Normal)).ok();
    }
}

impl Channel for Unruly {
    type Info = ();

    async fn join(&mut self, _: Payload, ctx: &mut Context<Self>) -> JoinResult {
        match ctx.topic() {
            "unruly:panic" => panic!("in join"),
            "unruly:panic_later" => {
                tokio::task::yield_now().await;
                panic!("in join, later")
            }
            "unruly:hang" => {
                let _alive = Alive(self.ended.clone());
                pending().await
            }
            "unruly:slow" => {
                tokio::time::sleep(Duration::from_millis(300)).await;
                Ok(Join::ok())
            }
            _ => Ok(Join::ok()),
        }
    }

    async fn handle_in(&mut self, event: &str, _: Payload, ctx: &mut Context<Self>) -> HandleIn {
        match event {
            "panic" => panic!("in handle_in"),
            "panic_later" => {
                tokio::task::yield_now().await;
                panic!("in handle_in, later")
            }
            "hang" => {
                ctx.push("hanging", json!({})).expect("joined");
                let _alive = Alive(self.ended.clone());
                pending().await
            }
            _ => HandleIn::Reply(Reply::ok(Payload::EMPTY)),
        }
    }

    async fn terminate(&mut self, reason: &StopReason, ctx: &mut Context<Self>) {
        self.ended
            .send((ctx.topic().to_owned(), reason.clone()))
            .ok();
        ctx.push("last words", json!({}))
            .expect("terminate may push");
        ctx.broadcast("gone", json!({"topic": ctx.topic()}))
            .expect("terminate may broadcast");
        if ctx.topic() == "unruly:panic_in_terminate" {
            panic!("in terminate");
        }
    }
}

struct Stage {
    server: TestServer,
    ended: UnboundedReceiver<(String, StopReason)>,
}

impl Stage {
    fn new() -> Self {
        let (ended, recorded) = unbounded_channel();
        let server = TestServer::start(move || {
            let router = SocketRouter::new()
                .channel("broken", || -> Unruly { panic!("in the factory") })
                .channel("unruly:*", move || Unruly {
                    ended: ended.clone(),
                });
            Endpoint::builder(PubSub::new())
                .socket("/socket", Anyone, router)
                .build()
        });
        Self {
            server,
            ended: recorded,
        }
    }

    /// How the next channel ended, or that its callback was dropped.
    async fn ended(&mut self) -> (String, StopReason) {
        let next = timeout(2 * DEADLINE, self.ended.recv()).await;
        next.expect("a channel should end in time")
            .expect("the server holds the sender")
    }

    async fn client(&self) -> Phoenix {
        Phoenix::connect(self.server.addr).await
    }
}

/// After a crash of `topic` the neighbour still answers and the topic can be joined again.
async fn neighbours_go_on(client: &mut Phoenix, neighbour: &str, topic: &str) {
    let reference = client
        .push(neighbour, "unruly:neighbour", "any", json!({}))
        .await;
    assert_eq!(client.reply_to(&reference).await["status"], "ok");
    let reference = client.push("0", topic, "any", json!({})).await;
    assert_eq!(
        client.reply_to(&reference).await["response"]["reason"],
        "unmatched topic"
    );
    client.join(topic).await;
}

/// Requirements 109, 131.
#[actix_web::test]
async fn a_panic_in_handle_in_ends_its_channel_with_phx_error() {
    for event in ["panic", "panic_later"] {
        let mut stage = Stage::new();
        let mut client = stage.client().await;
        let (neighbour, _) = client.join("unruly:neighbour").await;
        let (join_ref, _) = client.join("unruly:a").await;
        client.push(&join_ref, "unruly:a", event, json!({})).await;
        let (topic, reason) = stage.ended().await;
        assert_eq!(topic, "unruly:a");
        assert!(matches!(reason, StopReason::Panicked(_)), "{reason:?}");
        assert_eq!(client.next_event().await.0, "last words");
        assert_eq!(client.next_event().await.0, "gone");
        assert_eq!(
            client.next().await,
            json!([join_ref, join_ref, "unruly:a", "phx_error", {}])
        );
        neighbours_go_on(&mut client, &neighbour, "unruly:a").await;
    }
}

/// Requirement 93.
#[actix_web::test]
async fn a_panic_in_join_is_an_error_reply_and_nothing_else() {
    let mut stage = Stage::new();
    let mut client = stage.client().await;
    for topic in ["unruly:panic", "unruly:panic_later"] {
        let join_ref = client.send_join(topic, json!({})).await;
        let reply = client.reply_to(&join_ref).await;
        assert_eq!(
            reply,
            json!({"status": "error", "response": {"reason": "join crashed"}})
        );
        client.heartbeat().await;
    }
    assert!(
        stage.ended.try_recv().is_err(),
        "terminate does not run after a crash in join"
    );
}

/// Requirement 131.
#[actix_web::test]
async fn a_panic_in_terminate_changes_nothing_for_the_client() {
    let mut stage = Stage::new();
    let mut client = stage.client().await;
    let topic = "unruly:panic_in_terminate";
    let (neighbour, _) = client.join("unruly:neighbour").await;
    let (join_ref, _) = client.join(topic).await;
    let leave = client.push(&join_ref, topic, "phx_leave", json!({})).await;
    assert_eq!(client.reply_to(&leave).await["status"], "ok");
    assert_eq!(
        client.next().await,
        json!([join_ref, join_ref, topic, "phx_close", {}])
    );
    assert_eq!(stage.ended().await, (topic.to_owned(), StopReason::Left));
    assert_eq!(client.next_event().await.0, "last words");
    neighbours_go_on(&mut client, &neighbour, topic).await;
}

/// Requirement 114.
#[actix_web::test]
async fn a_callback_that_never_returns_is_dropped_when_the_client_disconnects() {
    let mut stage = Stage::new();
    let mut client = stage.client().await;
    let (join_ref, _) = client.join("unruly:a").await;
    client.push(&join_ref, "unruly:a", "hang", json!({})).await;
    assert_eq!(client.next_event().await.0, "hanging");
    client.wire.abort().await;
    assert_eq!(stage.ended().await.0, "dropped");
    assert_eq!(
        stage.ended().await,
        ("unruly:a".to_owned(), StopReason::PeerClosed)
    );
}

#[actix_web::test]
async fn a_callback_that_never_returns_is_dropped_after_a_leave_and_its_grace() {
    let mut stage = Stage::new();
    let mut client = stage.client().await;
    let (neighbour, _) = client.join("unruly:neighbour").await;
    let (join_ref, _) = client.join("unruly:a").await;
    client.push(&join_ref, "unruly:a", "hang", json!({})).await;
    assert_eq!(client.next_event().await.0, "hanging");
    client
        .push(&join_ref, "unruly:a", "phx_leave", json!({}))
        .await;
    // Meanwhile the other channel answers.
    let reference = client
        .push(&neighbour, "unruly:neighbour", "any", json!({}))
        .await;
    assert_eq!(client.reply_to(&reference).await["status"], "ok");
    assert_eq!(stage.ended().await.0, "dropped");
    assert_eq!(
        stage.ended().await,
        ("unruly:a".to_owned(), StopReason::Left)
    );
    assert_eq!(client.next_event().await.0, "phx_reply");
    assert_eq!(client.next_event().await.0, "phx_close");
}

/// Requirements 99, 101, 185.
#[actix_web::test]
async fn a_callback_that_never_returns_is_dropped_by_a_duplicate_join() {
    let mut stage = Stage::new();
    let mut client = stage.client().await;
    let (old, _) = client.join("unruly:a").await;
    client.push(&old, "unruly:a", "hang", json!({})).await;
    assert_eq!(client.next_event().await.0, "hanging");
    let new = client.send_join("unruly:a", json!({})).await;
    assert_eq!(client.reply_to(&new).await["status"], "ok");
    assert_eq!(
        client.next().await,
        json!([old, old, "unruly:a", "phx_close", {}])
    );
    assert_eq!(stage.ended().await.0, "dropped");
    let reference = client.push(&new, "unruly:a", "any", json!({})).await;
    assert_eq!(client.reply_to(&reference).await["status"], "ok");
    assert!(
        stage.ended.try_recv().is_err(),
        "terminate does not run after a duplicate join"
    );
}

/// Requirement 57.
#[actix_web::test]
async fn a_drain_ends_hanging_callbacks_and_hanging_joins() {
    let mut stage = Stage::new();
    let mut client = stage.client().await;
    let (join_ref, _) = client.join("unruly:a").await;
    client.push(&join_ref, "unruly:a", "hang", json!({})).await;
    assert_eq!(client.next_event().await.0, "hanging");
    let mut joining = stage.client().await;
    joining.send_join("unruly:hang", json!({})).await;
    // The ping is answered although the join is pending: the server has read the join.
    joining.wire.ping(b"x").await.expect("open");
    joining.wire.recv(1, DEADLINE).await;

    let left = stage.server.endpoint.drain(DrainOptions::default()).await;
    assert_eq!(left, 0, "every connection should be gone");
    assert_eq!(
        (client.closed().await, joining.closed().await),
        (1012, 1012)
    );
    let mut ended = [
        stage.ended().await,
        stage.ended().await,
        stage.ended().await,
    ];
    ended.sort_by(|a, b| a.0.cmp(&b.0));
    let names = ended.each_ref().map(|(name, _)| name.as_str());
    assert_eq!(names, ["dropped", "dropped", "unruly:a"]);
    assert_eq!(ended[2].1, StopReason::Draining);
}

/// Requirement 98.
#[actix_web::test]
async fn a_join_that_hangs_holds_back_messages_but_not_the_end_of_the_connection() {
    let mut stage = Stage::new();
    let mut client = stage.client().await;
    client.send_join("unruly:hang", json!({})).await;
    client
        .send(json!([null, "9", "phoenix", "heartbeat", {}]))
        .await;
    let early = client.wire.recv(1, Duration::from_millis(200)).await;
    assert_eq!(early, [], "the heartbeat waits for the join");
    client.wire.abort().await;
    assert_eq!(stage.ended().await.0, "dropped");
}

/// Requirement 98.
#[actix_web::test]
async fn messages_behind_a_slow_join_wait_for_it() {
    let stage = Stage::new();
    let mut client = stage.client().await;
    let slow = client.send_join("unruly:slow", json!({})).await;
    let event = client.push(&slow, "unruly:slow", "any", json!({})).await;
    let other = client.send_join("unruly:other", json!({})).await;
    assert_eq!(client.reply_to(&slow).await["status"], "ok");
    // As in Phoenix, a reply of the socket may overtake one of a channel; both follow the join.
    let mut after = [
        client.next().await[1].clone(),
        client.next().await[1].clone(),
    ];
    after.sort_by_key(ToString::to_string);
    assert_eq!(after, [json!(event), json!(other)]);
}

/// Requirement 93.
#[actix_web::test]
async fn a_factory_that_panics_is_a_crashed_join() {
    let stage = Stage::new();
    let mut client = stage.client().await;
    let (neighbour, _) = client.join("unruly:neighbour").await;
    let join = client.send_join("broken", json!({})).await;
    assert_eq!(
        client.reply_to(&join).await["response"]["reason"],
        "join crashed"
    );
    let reference = client
        .push(&neighbour, "unruly:neighbour", "any", json!({}))
        .await;
    assert_eq!(client.reply_to(&reference).await["status"], "ok");
}

/// Requirement 114.
#[actix_web::test]
async fn a_channel_says_goodbye_to_the_others_in_terminate() {
    let stage = Stage::new();
    let mut witness = stage.client().await;
    witness.join("unruly:a").await;
    for way in ["leave", "disconnect"] {
        let mut client = stage.client().await;
        let (join_ref, _) = client.join("unruly:a").await;
        if way == "leave" {
            client
                .push(&join_ref, "unruly:a", "phx_leave", json!({}))
                .await;
            let events = [client.next_event().await.0, client.next_event().await.0];
            assert_eq!(events, ["phx_reply", "phx_close"]);
            assert_eq!(client.next_event().await.0, "last words");
        } else {
            client.wire.abort().await;
        }
        assert_eq!(witness.next_event().await.0, "gone", "{way}");
    }
}

/// Requirements 58, 59.
#[actix_web::test]
async fn a_drain_keeps_its_deadline_whatever_the_batches() {
    let stage = Stage::new();
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(stage.client().await);
    }
    let options = DrainOptions {
        batch_size: 1,
        batch_interval: Duration::from_millis(300),
        shutdown: Duration::from_millis(500),
    };
    let started = std::time::Instant::now();
    stage.server.endpoint.drain(options).await;
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "{:?}",
        started.elapsed()
    );
    for client in &mut clients {
        assert_eq!(client.closed().await, 1012);
    }
}
