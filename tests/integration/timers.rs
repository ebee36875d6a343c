//! Timers of a channel: infos that come later, are called off, and end with the channel.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use slackir::channel::{
    Channel, Context, HandleIn, HandleInResult, Handled, Join, JoinResult, Timer,
};
use slackir::message::Payload;
use slackir::pubsub::PubSub;
use slackir::socket::{Socket, SocketRouter};
use slackir::testing::TestSocket;
use slackir::{Endpoint, Mount};

const TOPIC: &str = "clock:a";
/// Longer than a timer that rings every few milliseconds is silent.
const SILENCE: Duration = Duration::from_millis(300);

/// Says `rang` when a timer is over; every info holds on to `held`.
struct Clock {
    held: Arc<()>,
    last: Option<Timer>,
}

impl Channel for Clock {
    type Info = (Value, Arc<()>);

    async fn join(_: Payload, ctx: &mut Context<Self>) -> JoinResult<Self> {
        let Held(held) = &*ctx.state();
        let clock = Self {
            held: Arc::clone(held),
            last: None,
        };
        // Behind the reply, in this order, and before anything that the client sends.
        Ok(Join::ok(clock)
            .then(async |_, ctx| Ok(ctx.push("wound", json!({"n": 1}))?))
            .then(async |_, ctx| Ok(ctx.push("wound", json!({"n": 2}))?)))
    }

    async fn handle_in(
        &mut self,
        event: &str,
        payload: Payload,
        ctx: &mut Context<Self>,
    ) -> HandleInResult {
        if event == "cancel" {
            let cancelled = self.last.as_ref().is_some_and(Timer::cancel);
            return Ok(HandleIn::ok(json!({ "cancelled": cancelled })));
        }
        let payload: Value = payload.parse()?;
        let delay = Duration::from_millis(payload["ms"].as_u64().expect("a number"));
        if event == "sleep" {
            tokio::time::sleep(delay).await;
            return Ok(HandleIn::ok(Payload::EMPTY));
        }
        let held = Arc::clone(&self.held);
        self.last = Some(match event {
            "repeat" => ctx.send_every(delay, move || (payload.clone(), Arc::clone(&held))),
            _ => ctx.send_after(delay, (payload, held)),
        });
        Ok(HandleIn::ok(Payload::EMPTY))
    }

    async fn handle_info(&mut self, (set, _): Self::Info, ctx: &mut Context<Self>) -> Handled {
        ctx.push("rang", set)?;
        Ok(())
    }
}

/// What the infos hold on to.
struct Held(Arc<()>);

struct Anyone;
impl Socket for Anyone {}

async fn joined(held: &Arc<()>) -> TestSocket {
    let router = SocketRouter::new().state(Held(Arc::clone(held)));
    let endpoint = Endpoint::builder(PubSub::new())
        .mount(Mount::new(
            "/socket",
            Anyone,
            router.channel::<Clock>("clock:*"),
        ))
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
async fn a_repeating_timer_rings_until_it_is_cancelled() {
    let mut ann = joined(&Arc::default()).await;
    ann.push(TOPIC, "repeat", json!({"ms": 5}));
    for _ in 0..3 {
        ann.assert_push("rang", json!({"ms": 5})).await;
    }
    let cancel = ann.push(TOPIC, "cancel", json!({}));
    ann.assert_reply(&cancel, "ok", json!({"cancelled": true}))
        .await;
    // What rang before that may still be unread.
    let silent = async {
        while tokio::time::timeout(SILENCE, ann.next_push("rang"))
            .await
            .is_ok()
        {}
    };
    let ended = tokio::time::timeout(Duration::from_secs(5), silent).await;
    ended.expect("it rings no longer");
}

/// A channel that is busy for longer than the period finds one info behind it, not hundreds.
#[actix_web::test]
async fn a_repeating_timer_waits_for_its_channel() {
    let held = Arc::new(());
    let mut ann = joined(&held).await;
    ann.push(TOPIC, "repeat", json!({"ms": 1}));
    ann.next_push("rang").await;
    let before = Arc::strong_count(&held);
    let sleep = ann.push(TOPIC, "sleep", json!({"ms": 200}));
    tokio::time::sleep(Duration::from_millis(100)).await;
    let waiting = Arc::strong_count(&held) - before;
    assert!(waiting <= 1, "{waiting} infos wait");
    ann.assert_reply(&sleep, "ok", json!({})).await;
    for _ in 0..3 {
        ann.next_push("rang").await;
    }
}

#[actix_web::test]
async fn what_a_join_leaves_to_be_done_is_done_in_its_order() {
    let mut ann = joined(&Arc::default()).await;
    for n in [1, 2] {
        ann.assert_push("wound", json!({ "n": n })).await;
    }
}

#[actix_web::test]
async fn timers_end_with_their_channel() {
    let held = Arc::new(());
    let mut ann = joined(&held).await;
    for _ in 0..100 {
        set(&mut ann, 3_600_000).await;
    }
    ann.push(TOPIC, "repeat", json!({"ms": 5}));
    ann.next_push("rang").await;
    assert!(Arc::strong_count(&held) > 100);
    let leave = ann.leave(TOPIC);
    ann.assert_reply(&leave, "ok", json!({})).await;
    let ended = async {
        // The connection goes on, so the state of its router may hold one, beside the test.
        while Arc::strong_count(&held) > 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), ended)
        .await
        .expect("the timers are gone");
}
