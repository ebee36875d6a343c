//! Timers of a channel: infos that come later, are called off, and end with the channel.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use slackir::Endpoint;
use slackir::channel::{Channel, Context, HandleIn, Handled, Join, JoinResult, Timer};
use slackir::message::{Payload, Reply};
use slackir::pubsub::PubSub;
use slackir::socket::{Socket, SocketRouter};
use slackir::testing::TestSocket;

const TOPIC: &str = "clock:a";

/// Says `rang` when a timer is over; every info holds on to `held`.
struct Clock {
    held: Arc<()>,
    last: Option<Timer>,
}

impl Channel for Clock {
    type Info = (Value, Arc<()>);

    async fn join(&mut self, _: Payload, _: &mut Context<Self>) -> JoinResult {
        Ok(Join::ok())
    }

    async fn handle_in(
        &mut self,
        event: &str,
        payload: Payload,
        ctx: &mut Context<Self>,
    ) -> HandleIn {
        if event == "cancel" {
            let cancelled = self.last.as_ref().is_some_and(Timer::cancel);
            return HandleIn::Reply(Reply::ok(json!({ "cancelled": cancelled })));
        }
        let payload: Value = payload.parse().expect("JSON");
        let delay = Duration::from_millis(payload["ms"].as_u64().expect("a number"));
        self.last = Some(ctx.send_after(delay, (payload, Arc::clone(&self.held))));
        HandleIn::Reply(Reply::ok(Payload::EMPTY))
    }

    async fn handle_info(&mut self, (set, _): Self::Info, ctx: &mut Context<Self>) -> Handled {
        ctx.push("rang", set).expect("an object");
        Handled::NoReply
    }
}

struct Anyone;
impl Socket for Anyone {}

async fn joined(held: &Arc<()>) -> TestSocket {
    let held = Arc::clone(held);
    let clock = move || Clock {
        held: Arc::clone(&held),
        last: None,
    };
    let endpoint = Endpoint::builder(PubSub::new())
        .socket(
            "/socket",
            Anyone,
            SocketRouter::new().channel("clock:*", clock),
        )
        .build();
    let socket = TestSocket::connect(&endpoint, "/socket", json!({})).await;
    let mut socket = socket.expect("everybody may connect");
    socket.subscribe_and_join(TOPIC, json!({})).await;
    socket
}

async fn set(socket: &mut TestSocket, ms: u64) {
    let set = socket.push(TOPIC, "set", json!({ "ms": ms }));
    socket.assert_reply(&set, "ok", json!({})).await;
}

#[actix_web::test]
async fn a_timer_rings_once_unless_it_is_cancelled() {
    let mut ann = joined(&Arc::default()).await;
    set(&mut ann, 20).await;
    ann.assert_push("rang", json!({"ms": 20})).await;
    let late = ann.push(TOPIC, "cancel", json!({}));
    ann.assert_reply(&late, "ok", json!({"cancelled": false}))
        .await;

    set(&mut ann, 60).await;
    for cancelled in [true, false] {
        let cancel = ann.push(TOPIC, "cancel", json!({}));
        ann.assert_reply(&cancel, "ok", json!({ "cancelled": cancelled }))
            .await;
    }
    ann.refute_push("rang").await;
}

#[actix_web::test]
async fn timers_end_with_their_channel() {
    let held = Arc::new(());
    let mut ann = joined(&held).await;
    for _ in 0..100 {
        set(&mut ann, 3_600_000).await;
    }
    assert!(Arc::strong_count(&held) > 100);
    let leave = ann.leave(TOPIC);
    ann.assert_reply(&leave, "ok", json!({})).await;
    let ended = async {
        // The connection goes on, so the factory of its endpoint may hold one, beside the test.
        while Arc::strong_count(&held) > 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), ended)
        .await
        .expect("the timers are gone");
}
