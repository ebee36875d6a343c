//! Channels that panic, hang or never come back: each ends alone, and as it should.

use std::future::pending;
use std::time::Duration;

use serde_json::json;
use slackir::channel::{Channel, Context, HandleIn, HandleInResult, Join, JoinResult, StopReason};
use slackir::message::Payload;
use slackir::pubsub::PubSub;
use slackir::socket::{DrainOptions, Socket, SocketRouter};
use slackir::{Endpoint, Mount};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

use crate::support::phoenix::Phoenix;
use crate::support::rooms::eventually;
use crate::support::server::TestServer;
use crate::support::transport::{Wire, both_transports, over_both_transports};
use crate::support::wire::DEADLINE;

over_both_transports! {
    a_panic_in_handle_in_ends_its_channel_with_phx_error
    a_panic_in_join_is_an_error_reply_and_nothing_else
    a_panic_in_terminate_changes_nothing_for_the_client
    a_callback_that_never_returns_is_dropped_when_the_client_disconnects
    a_callback_that_never_returns_is_dropped_after_a_leave_and_its_grace
    a_callback_that_never_returns_is_dropped_by_a_duplicate_join
    a_drain_ends_hanging_callbacks_and_hanging_joins
    a_join_that_hangs_holds_back_messages_but_not_the_end_of_the_connection
    messages_behind_a_slow_join_wait_for_it
    an_error_of_join_is_a_crashed_join
    a_channel_that_ends_with_its_join_leaves_its_connection_whole
    an_error_that_nobody_turned_into_a_reply_crashes_the_channel
    a_channel_says_goodbye_to_the_others_in_terminate
    a_drain_keeps_its_deadline_whatever_the_batches
}

struct Anyone;
impl Socket for Anyone {}

/// Misbehaves on demand and records how it ends.
struct Unruly {
    ended: UnboundedSender<(String, StopReason)>,
}

/// Where the channels record it.
struct Ended(UnboundedSender<(String, StopReason)>);

/// Says that a callback has begun, by being dropped when it ends in any way.
struct Alive(UnboundedSender<(String, StopReason)>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.send(("dropped".to_owned(), StopReason::Normal)).ok();
    }
}

impl Channel for Unruly {
    type Info = ();

    async fn join(_: Payload, ctx: &mut Context<Self>) -> JoinResult<Self> {
        let Ended(ended) = &*ctx.state();
        let ended = ended.clone();
        match ctx.topic() {
            "unruly:panic" => panic!("in join"),
            "unruly:panic_later" => {
                tokio::task::yield_now().await;
                panic!("in join, later")
            }
            "unruly:hang" => {
                ended.send(("begun".to_owned(), StopReason::Normal)).ok();
                let _alive = Alive(ended);
                pending().await
            }
            "unruly:slow" => {
                tokio::time::sleep(Duration::from_millis(300)).await;
                Ok(Join::ok(Self { ended }))
            }
            "unruly:then" => {
                let refusal = StopReason::error("told to");
                Ok(Join::ok(Self { ended }).then(async |_, _| Err(refusal)))
            }
            "unruly:error" => Err(std::fmt::Error.into()),
            _ => Ok(Join::ok(Self { ended })),
        }
    }

    async fn handle_in(
        &mut self,
        event: &str,
        _: Payload,
        ctx: &mut Context<Self>,
    ) -> HandleInResult {
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
            "error" => Err(std::fmt::Error.into()),
            _ => Ok(HandleIn::ok(Payload::EMPTY)),
        }
    }

    async fn terminate(&mut self, reason: &StopReason, ctx: &mut Context<Self>) {
        self.ended
            .send((ctx.topic().to_owned(), reason.clone()))
            .ok();
        ctx.push("last words", json!({}))
            .expect("terminate may push");
        ctx.broadcast("gone", json!({"topic": ctx.topic()}))
            .await
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
            let router = SocketRouter::new().state(Ended(ended));
            let router = router.channel::<Unruly>("unruly:*");
            Endpoint::builder(PubSub::new())
                .mount(Mount::new("/socket", Anyone, router).transports(both_transports()))
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

    async fn client<W: Wire>(&self) -> Phoenix<W> {
        Phoenix::dial(self.server.addr).await
    }
}

/// After a crash of `topic` the neighbour still answers and the topic can be joined again.
async fn neighbours_go_on<W: Wire>(client: &mut Phoenix<W>, neighbour: &str, topic: &str) {
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
async fn a_panic_in_handle_in_ends_its_channel_with_phx_error<W: Wire>() {
    for event in ["panic", "panic_later"] {
        let mut stage = Stage::new();
        let mut client = stage.client::<W>().await;
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
            json!([join_ref, join_ref, "unruly:a", "phx_error", {"reason": "channel_crash"}])
        );
        neighbours_go_on(&mut client, &neighbour, "unruly:a").await;
    }
}

/// Requirement 93.
async fn a_panic_in_join_is_an_error_reply_and_nothing_else<W: Wire>() {
    let mut stage = Stage::new();
    let mut client = stage.client::<W>().await;
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
async fn a_panic_in_terminate_changes_nothing_for_the_client<W: Wire>() {
    let mut stage = Stage::new();
    let mut client = stage.client::<W>().await;
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
async fn a_callback_that_never_returns_is_dropped_when_the_client_disconnects<W: Wire>() {
    let mut stage = Stage::new();
    let mut client = stage.client::<W>().await;
    let (join_ref, _) = client.join("unruly:a").await;
    client.push(&join_ref, "unruly:a", "hang", json!({})).await;
    assert_eq!(client.next_event().await.0, "hanging");
    client.wire.abort().await;
    assert_eq!(stage.ended().await.0, "dropped");
    assert_eq!(stage.ended().await.0, "unruly:a");
}

async fn a_callback_that_never_returns_is_dropped_after_a_leave_and_its_grace<W: Wire>() {
    let mut stage = Stage::new();
    let mut client = stage.client::<W>().await;
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
async fn a_callback_that_never_returns_is_dropped_by_a_duplicate_join<W: Wire>() {
    let mut stage = Stage::new();
    let mut client = stage.client::<W>().await;
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
async fn a_drain_ends_hanging_callbacks_and_hanging_joins<W: Wire>() {
    let mut stage = Stage::new();
    let mut client = stage.client::<W>().await;
    let (join_ref, _) = client.join("unruly:a").await;
    client.push(&join_ref, "unruly:a", "hang", json!({})).await;
    assert_eq!(client.next_event().await.0, "hanging");
    let mut joining = stage.client::<W>().await;
    joining.send_join("unruly:hang", json!({})).await;
    assert_eq!(stage.ended().await.0, "begun");

    let left = stage.server.endpoint.drain(DrainOptions::default()).await;
    assert_eq!(left, 0, "every connection should be gone");
    client.ended_with(1012).await;
    joining.ended_with(1012).await;
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
async fn a_join_that_hangs_holds_back_messages_but_not_the_end_of_the_connection<W: Wire>() {
    let mut stage = Stage::new();
    let mut client = stage.client::<W>().await;
    client.send_join("unruly:hang", json!({})).await;
    client
        .send(json!([null, "9", "phoenix", "heartbeat", {}]))
        .await;
    let early = client.wire.recv(1, Duration::from_millis(200)).await;
    assert_eq!(early, [], "the heartbeat waits for the join");
    assert_eq!(stage.ended().await.0, "begun");
    client.wire.abort().await;
    assert_eq!(stage.ended().await.0, "dropped");
}

/// Requirement 98.
async fn messages_behind_a_slow_join_wait_for_it<W: Wire>() {
    let stage = Stage::new();
    let mut client = stage.client::<W>().await;
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
async fn an_error_of_join_is_a_crashed_join<W: Wire>() {
    let stage = Stage::new();
    let mut client = stage.client::<W>().await;
    let (neighbour, _) = client.join("unruly:neighbour").await;
    let join = client.send_join("unruly:error", json!({})).await;
    assert_eq!(
        client.reply_to(&join).await["response"]["reason"],
        "join crashed"
    );
    let reference = client
        .push(&neighbour, "unruly:neighbour", "any", json!({}))
        .await;
    assert_eq!(client.reply_to(&reference).await["status"], "ok");
}

/// Requirement 109.
async fn an_error_that_nobody_turned_into_a_reply_crashes_the_channel<W: Wire>() {
    let mut stage = Stage::new();
    let mut client = stage.client::<W>().await;
    let (join_ref, _) = client.join("unruly:a").await;
    client.push(&join_ref, "unruly:a", "error", json!({})).await;
    let (_, reason) = stage.ended().await;
    let text = "an error occurred when formatting an argument";
    assert_eq!(reason, StopReason::error(text));
    assert_eq!(client.next_event().await.0, "last words");
    while client.next_event().await.0 != "phx_error" {}
}

async fn a_channel_that_ends_with_its_join_leaves_its_connection_whole<W: Wire>() {
    let mut stage = Stage::new();
    let mut client = stage.client::<W>().await;
    let (neighbour, _) = client.join("unruly:neighbour").await;
    let join = client.send_join("unruly:then", json!({})).await;
    assert_eq!(client.reply_to(&join).await["status"], "ok");
    assert_eq!(stage.ended().await.1, StopReason::error("told to"));
    while client.next_event().await.0 != "phx_error" {}
    neighbours_go_on(&mut client, &neighbour, "unruly:other").await;
    client.wire.abort().await;
    eventually("the connection is gone", || {
        stage.server.endpoint.connections() == 0
    })
    .await;
}

/// Requirement 114.
async fn a_channel_says_goodbye_to_the_others_in_terminate<W: Wire>() {
    let stage = Stage::new();
    let mut witness = stage.client::<W>().await;
    witness.join("unruly:a").await;
    for way in ["leave", "disconnect"] {
        let mut client = stage.client::<W>().await;
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
async fn a_drain_keeps_its_deadline_whatever_the_batches<W: Wire>() {
    let stage = Stage::new();
    let mut clients = Vec::<Phoenix<W>>::new();
    for _ in 0..5 {
        clients.push(stage.client::<W>().await);
    }
    let options = DrainOptions::default()
        .batch_size(1)
        .batch_interval(Duration::from_millis(300))
        .shutdown(Duration::from_millis(500));
    let started = std::time::Instant::now();
    stage.server.endpoint.drain(options).await;
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "{:?}",
        started.elapsed()
    );
    for client in &mut clients {
        client.ended_with(1012).await;
    }
}
