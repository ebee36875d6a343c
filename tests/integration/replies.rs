//! Payloads, refs and replies: what a channel is given, and what it may answer from where.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use slackir::channel::{
    Channel, Context, Handle, HandleIn, HandleInResult, Handled, Join, JoinResult, Refused,
    StopReason,
};
use slackir::message::Payload;
use slackir::pubsub::{Broadcast, PubSub};
use slackir::socket::{Socket, SocketRouter};
use slackir::testing::TestSocket;
use slackir::{Endpoint, Mount};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::support::phoenix::Phoenix;
use crate::support::server::TestServer;
use crate::support::wire::{DEADLINE, Frame};

struct Anyone;
impl Socket for Anyone {}

/// Gives every payload back, and tells in each callback whether there is a message to reply to.
struct Probe {
    ended: UnboundedSender<StopReason>,
}

/// Where the channels say why they have ended.
struct Ended(UnboundedSender<StopReason>);

/// What one channel assigns.
struct Mark;

impl Probe {
    fn tell(callback: &str, ctx: &Context<Self>) {
        let told = json!({"can_reply": ctx.socket_ref().is_some()});
        ctx.push(callback, told).expect("joined");
    }
}

impl Channel for Probe {
    type Info = ();

    fn intercept() -> &'static [&'static str] {
        &["intercepted"]
    }

    async fn join(params: Payload, ctx: &mut Context<Self>) -> JoinResult<Self> {
        let Ended(ended) = &*ctx.state();
        match ctx.topic() {
            "probe:refused" => Err(Refused::new(params).into()),
            _ => Ok(Join::reply(
                Self {
                    ended: ended.clone(),
                },
                params,
            )),
        }
    }

    async fn handle_in(
        &mut self,
        event: &str,
        payload: Payload,
        ctx: &mut Context<Self>,
    ) -> HandleInResult {
        match event {
            "tell" => {
                Self::tell("handle_in", ctx);
                return Ok(HandleIn::NoReply);
            }
            "call all" => {
                ctx.subscribe("elsewhere");
                ctx.handle().send(())?;
                ctx.broadcast("intercepted", json!({})).await?;
            }
            "hear twice" => {
                let own = ctx.topic().to_owned();
                ctx.subscribe(&own);
            }
            "assign" => {
                let had = ctx.assigns().get::<Mark>().is_some();
                ctx.assigns_mut().insert(Mark);
                return Ok(HandleIn::ok(json!({ "had": had })));
            }
            _ => {}
        }
        Ok(HandleIn::ok(payload))
    }

    async fn handle_out(&mut self, _: Arc<Broadcast>, ctx: &mut Context<Self>) -> Handled {
        Self::tell("handle_out", ctx);
        Ok(())
    }

    async fn handle_info(&mut self, (): (), ctx: &mut Context<Self>) -> Handled {
        Self::tell("handle_info", ctx);
        Ok(())
    }

    async fn handle_broadcast(&mut self, _: Arc<Broadcast>, ctx: &mut Context<Self>) -> Handled {
        Self::tell("handle_broadcast", ctx);
        ctx.timeout_after(Duration::from_millis(1));
        Ok(())
    }

    async fn handle_timeout(&mut self, ctx: &mut Context<Self>) -> Handled {
        Self::tell("handle_timeout", ctx);
        Err(StopReason::Normal)
    }

    async fn terminate(&mut self, reason: &StopReason, ctx: &mut Context<Self>) {
        Self::tell("terminate", ctx);
        self.ended.send(reason.clone()).ok();
    }
}

fn start() -> (TestServer, UnboundedReceiver<StopReason>) {
    let (ended, reasons) = unbounded_channel();
    let server = TestServer::start(move || {
        let router = SocketRouter::new().state(Ended(ended));
        Endpoint::builder(PubSub::new())
            .mount(Mount::new(
                "/socket",
                Anyone,
                router.channel::<Probe>("probe:*"),
            ))
            .build()
    });
    (server, reasons)
}

const TOPIC: &str = "probe:a";

async fn joined(server: &TestServer) -> (Phoenix, String) {
    let mut client = Phoenix::connect(server.addr).await;
    let (join_ref, _) = client.join(TOPIC).await;
    (client, join_ref)
}

/// Requirement 116.
#[actix_web::test]
async fn payloads_of_any_type_reach_join_and_handle_in() {
    let (server, _) = start();
    let mut client = Phoenix::connect(server.addr).await;
    for payload in [
        json!([1]),
        json!("text"),
        json!(7),
        json!(null),
        json!(true),
        json!({}),
    ] {
        let join_ref = client.send_join(TOPIC, payload.clone()).await;
        assert_eq!(client.reply_to(&join_ref).await["response"], payload);
        let echo = client.push(&join_ref, TOPIC, "echo", payload.clone()).await;
        assert_eq!(client.reply_to(&echo).await["response"], payload);
        let leave = client.push(&join_ref, TOPIC, "phx_leave", json!({})).await;
        client.reply_to(&leave).await;
        assert_eq!(client.next_event().await.0, "phx_close");
        assert_eq!(client.next_event().await.0, "terminate");
    }
    for event in ["phx_join", "echo"] {
        let header = [0, 1, 1, TOPIC.len() as u8, event.len() as u8];
        let push = [
            &header,
            &b"12"[..],
            TOPIC.as_bytes(),
            event.as_bytes(),
            b"\x07\xff",
        ]
        .concat();
        client.wire.send_binary(&push).await.expect("open");
        let header = [1, 1, 1, TOPIC.len() as u8, 2];
        let reply = [&header, &b"12"[..], TOPIC.as_bytes(), b"ok\x07\xff"].concat();
        assert_eq!(client.wire.recv(1, DEADLINE).await, [Frame::Binary(reply)]);
    }
}

/// Requirement 94.
#[actix_web::test]
async fn a_refused_join_is_answered_with_the_given_value_and_makes_no_channel() {
    let (server, mut reasons) = start();
    let mut client = Phoenix::connect(server.addr).await;
    let join = client.send_join("probe:refused", json!(["full", 7])).await;
    let reply = client.reply_to(&join).await;
    assert_eq!(reply, json!({"status": "error", "response": ["full", 7]}));
    client.heartbeat().await;
    assert!(reasons.try_recv().is_err(), "there is nothing to terminate");
}

#[actix_web::test]
async fn a_join_of_a_topic_that_is_an_object_is_answered() {
    let (server, _) = start();
    let mut client = Phoenix::connect(server.addr).await;
    client
        .send(json!([null, "4", {"a": 1}, "phx_join", {}]))
        .await;
    let unmatched = json!({"status": "error", "response": {"reason": "unmatched topic"}});
    let answer = json!([null, "4", {"a": 1}, "phx_reply", unmatched]);
    assert_eq!(client.next().await, answer);
}

/// Requirement 121.
#[actix_web::test]
async fn only_a_message_with_a_ref_can_be_replied_to_later() {
    let (server, _) = start();
    let (mut client, join_ref) = joined(&server).await;
    for (reference, can_reply) in [(json!("9"), true), (json!(null), false)] {
        client
            .send(json!([join_ref, reference, TOPIC, "tell", {}]))
            .await;
        let told = json!({ "can_reply": can_reply });
        assert_eq!(client.next_event().await, ("handle_in".to_owned(), told));
    }
}

/// Requirement 122.
#[actix_web::test]
async fn there_is_no_message_to_reply_to_outside_handle_in() {
    let (server, _) = start();
    let (mut client, join_ref) = joined(&server).await;
    client.push(&join_ref, TOPIC, "call all", json!({})).await;
    let mut told = Vec::new();
    while told.len() < 2 {
        let (event, payload) = client.next_event().await;
        if event != "phx_reply" {
            told.push((event, payload["can_reply"].clone()));
        }
    }
    let news = server.endpoint.broadcast("elsewhere", "news", json!({}));
    news.await.expect("an object");
    while told.len() < 5 {
        let (event, payload) = client.next_event().await;
        if event != "phx_close" {
            told.push((event, payload["can_reply"].clone()));
        }
    }
    told.sort_by(|(one, _), (other, _)| one.cmp(other));
    let callbacks = [
        "handle_broadcast",
        "handle_info",
        "handle_out",
        "handle_timeout",
        "terminate",
    ];
    assert_eq!(told, callbacks.map(|name| (name.to_owned(), json!(false))));
}

/// Requirement 104.
#[actix_web::test]
async fn a_leave_may_have_a_null_join_ref() {
    let (server, _) = start();
    let (mut client, join_ref) = joined(&server).await;
    client
        .send(json!([null, "9", TOPIC, "phx_leave", {}]))
        .await;
    let reply = json!({"status": "ok", "response": {}});
    assert_eq!(
        client.next().await,
        json!([join_ref, "9", TOPIC, "phx_reply", reply])
    );
    let close: Value = json!([join_ref, join_ref, TOPIC, "phx_close", {}]);
    assert_eq!(client.next().await, close);
}

/// Requirement 129.
#[actix_web::test]
async fn what_one_channel_assigns_no_other_sees() {
    let (server, _) = start();
    let (mut client, one) = joined(&server).await;
    let (other, _) = client.join("probe:b").await;
    for (join_ref, topic, had) in [
        (&one, TOPIC, false),
        (&other, "probe:b", false),
        (&one, TOPIC, true),
    ] {
        let assign = client.push(join_ref, topic, "assign", json!({})).await;
        assert_eq!(
            client.reply_to(&assign).await["response"]["had"],
            had,
            "{topic}"
        );
    }
}

#[actix_web::test]
async fn a_channel_that_subscribes_to_its_own_topic_hears_it_itself() {
    let (server, _) = start();
    let (mut client, join_ref) = joined(&server).await;
    let twice = client.push(&join_ref, TOPIC, "hear twice", json!({})).await;
    client.reply_to(&twice).await;
    let news = server.endpoint.broadcast(TOPIC, "news", json!({}));
    news.await.expect("an object");
    let mut events = [client.next_event().await.0, client.next_event().await.0];
    events.sort();
    assert_eq!(events, ["handle_broadcast", "news"]);
}

/// Tells what it was given, in order. "pass on" gives an info to the channel that joined first.
struct Teller {
    first: Arc<First>,
}

/// The channel that joined first.
type First = Mutex<Option<Handle<()>>>;

impl Channel for Teller {
    type Info = ();

    async fn join(_: Payload, ctx: &mut Context<Self>) -> JoinResult<Self> {
        let first = ctx.state::<First>();
        let mut known = first.lock().expect("no panic");
        known.get_or_insert_with(|| ctx.handle());
        drop(known);
        Ok(Join::ok(Self { first }))
    }

    async fn handle_in(
        &mut self,
        event: &str,
        _: Payload,
        ctx: &mut Context<Self>,
    ) -> HandleInResult {
        if event == "pass on" {
            let first = self.first.lock().expect("no panic");
            let handle = first.as_ref().expect("somebody has joined");
            handle.send(()).expect("the channel lives");
        }
        ctx.push("told", json!({ "of": event }))?;
        Ok(HandleIn::NoReply)
    }

    async fn handle_info(&mut self, (): (), ctx: &mut Context<Self>) -> Handled {
        ctx.push("told", json!({"of": "info"}))?;
        Ok(())
    }
}

/// The first channel has the event before the second one runs and gives it the info.
#[actix_web::test]
async fn an_info_is_handled_behind_the_message_that_came_before_it() {
    let router = SocketRouter::new().state(First::default());
    let router = router.channel::<Teller>("tell:*");
    let endpoint = Endpoint::builder(PubSub::new())
        .mount(Mount::new("/socket", Anyone, router))
        .build();
    let mut ann = TestSocket::connect(&endpoint, "/socket", json!({}))
        .await
        .expect("everybody may connect");
    ann.subscribe_and_join("tell:first", json!({})).await;
    ann.subscribe_and_join("tell:second", json!({})).await;
    ann.push("tell:second", "pass on", json!({}));
    ann.push("tell:first", "event", json!({}));
    for of in ["pass on", "event", "info"] {
        assert_eq!(ann.next_push("told").await, json!({ "of": of }));
    }
}
