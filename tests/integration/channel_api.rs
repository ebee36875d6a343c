//! What an application can do in a channel, beyond the recorded scenarios.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use slackir::channel::{
    Channel, Context, HandleIn, HandleInResult, Handled, Join, JoinResult, Refused, SendError,
    StopReason,
};
use slackir::message::{Payload, Reply};
use slackir::pubsub::{Broadcast, Listener, PubSub};
use slackir::socket::{Socket, SocketRouter};
use slackir::{Endpoint, Mount};

use crate::support::phoenix::Phoenix;
use crate::support::server::TestServer;
use crate::support::transport::{Wire, both_transports, over_both_transports};

over_both_transports! {
    silence_after_a_callback_becomes_a_timeout_and_a_message_calls_it_off
    a_channel_hears_other_topics_as_often_as_it_subscribed
    what_one_channel_emits_arrives_in_the_order_it_was_made
    replies_may_come_late_and_often
    nothing_is_sent_before_the_join_is_complete
    a_push_that_has_no_form_crashes_its_channel_only
    intercepted_broadcasts_that_pile_up_end_the_channel
}

struct Anyone;
impl Socket for Anyone {}

/// Does one thing for each event.
struct Tester;

impl Channel for Tester {
    type Info = ();

    fn intercept() -> &'static [&'static str] {
        &["flood"]
    }

    async fn join(params: Payload, ctx: &mut Context<Self>) -> JoinResult<Self> {
        if params
            .parse::<serde_json::Value>()
            .is_ok_and(|params| params["early"] == true)
        {
            // Before the join is complete there is nobody to send to.
            let early = [
                ctx.push("early", json!({})),
                ctx.broadcast("early", json!({})).await,
                ctx.broadcast_from("early", json!({})).await,
            ];
            let refused = early.iter().all(|sent| *sent == Err(SendError::NotJoined));
            assert!(refused && ctx.socket_ref().is_none());
            return Err(Refused::because("too early").into());
        }
        Ok(Join::ok(Self))
    }

    async fn handle_in(
        &mut self,
        event: &str,
        payload: Payload,
        ctx: &mut Context<Self>,
    ) -> HandleInResult {
        Ok(match event {
            "timeout" => {
                ctx.timeout_after(Duration::from_millis(100));
                HandleIn::NoReply
            }
            "listen" => {
                ctx.subscribe("elsewhere");
                HandleIn::ok(Payload::EMPTY)
            }
            "unlisten" => {
                ctx.unsubscribe("elsewhere");
                HandleIn::ok(Payload::EMPTY)
            }
            "reply_and_leave" => {
                let socket = ctx.socket_ref().expect("the message has a ref");
                actix_rt::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    for n in [1, 2] {
                        socket
                            .reply(&Reply::ok(json!({ "n": n })))
                            .expect("an object");
                    }
                });
                HandleIn::Stop(StopReason::Normal)
            }
            "order" => {
                let captured = ctx.socket_ref().expect("the message has a ref");
                ctx.broadcast("1", json!({})).await.expect("joined");
                ctx.push("2", json!({})).expect("joined");
                ctx.reply(&captured, &Reply::ok(json!({})))
                    .expect("an object");
                ctx.broadcast("3", json!({})).await.expect("joined");
                Reply::with_status("weird", "4").into()
            }
            "push_list" => {
                ctx.push("list", json!([1]))?;
                HandleIn::NoReply
            }
            "flood" => {
                for _ in 0..2_000 {
                    ctx.broadcast("flood", json!({})).await.expect("joined");
                }
                HandleIn::NoReply
            }
            _ => HandleIn::ok(payload),
        })
    }

    async fn handle_out(&mut self, _: Arc<Broadcast>, _: &mut Context<Self>) -> Handled {
        std::future::pending().await
    }

    async fn handle_broadcast(
        &mut self,
        heard: Arc<Broadcast>,
        ctx: &mut Context<Self>,
    ) -> Handled {
        let told = json!({"topic": heard.topic(), "event": heard.event()});
        ctx.push("heard", told).expect("joined");
        Ok(())
    }

    async fn handle_timeout(&mut self, ctx: &mut Context<Self>) -> Handled {
        ctx.push("timeout", json!({})).expect("joined");
        Err(StopReason::Shutdown)
    }
}

fn start() -> TestServer {
    TestServer::start(|| {
        let router = SocketRouter::new().channel::<Tester>("test:*");
        Endpoint::builder(PubSub::new())
            .mount(Mount::new("/socket", Anyone, router).transports(both_transports()))
            .build()
    })
}

const TOPIC: &str = "test:a";

async fn joined<W: Wire>(server: &TestServer) -> (Phoenix<W>, String) {
    let mut client = Phoenix::dial(server.addr).await;
    let (join_ref, _) = client.join(TOPIC).await;
    (client, join_ref)
}

/// Requirements 118, 119.
async fn silence_after_a_callback_becomes_a_timeout_and_a_message_calls_it_off<W: Wire>() {
    let server = start();
    let (mut client, join_ref) = joined::<W>(&server).await;
    client.push(&join_ref, TOPIC, "timeout", json!({})).await;
    let echo = client
        .push(&join_ref, TOPIC, "echo", json!({"still": "here"}))
        .await;
    assert_eq!(
        client.reply_to(&echo).await["response"],
        json!({"still": "here"})
    );
    // Twice the timeout passes without one, because the echo has called it off.
    let quiet = client.wire.recv(1, Duration::from_millis(200)).await;
    assert_eq!(quiet, []);
    client.push(&join_ref, TOPIC, "timeout", json!({})).await;
    assert_eq!(client.next_event().await.0, "timeout");
    assert_eq!(client.next_event().await.0, "phx_close");
}

/// Requirements 134, 136.
async fn a_channel_hears_other_topics_as_often_as_it_subscribed<W: Wire>() {
    let server = start();
    let (mut client, join_ref) = joined::<W>(&server).await;
    for _ in 0..2 {
        let listen = client.push(&join_ref, TOPIC, "listen", json!({})).await;
        client.reply_to(&listen).await;
    }
    server
        .endpoint
        .broadcast("elsewhere", "news", json!({}))
        .await
        .expect("an object");
    for _ in 0..2 {
        let heard = json!({"topic": "elsewhere", "event": "news"});
        assert_eq!(client.next_event().await, ("heard".to_owned(), heard));
    }
    let unlisten = client.push(&join_ref, TOPIC, "unlisten", json!({})).await;
    client.reply_to(&unlisten).await;
    server
        .endpoint
        .broadcast("elsewhere", "news", json!({}))
        .await
        .expect("an object");
    client.heartbeat().await;
}

/// Requirements 67, 127.
async fn what_one_channel_emits_arrives_in_the_order_it_was_made<W: Wire>() {
    let server = start();
    let (mut client, join_ref) = joined::<W>(&server).await;
    client.push(&join_ref, TOPIC, "order", json!({})).await;
    let mut events = Vec::new();
    for _ in 0..5 {
        events.push(client.next_event().await);
    }
    let reply = json!({"status": "weird", "response": "4"});
    assert_eq!(events[4], ("phx_reply".to_owned(), reply));
    let names: Vec<_> = events.iter().map(|(event, _)| event.as_str()).collect();
    assert_eq!(names, ["1", "2", "phx_reply", "3", "phx_reply"]);
}

/// Requirement 121.
async fn replies_may_come_late_and_often<W: Wire>() {
    let server = start();
    let (mut client, join_ref) = joined::<W>(&server).await;
    let reference = client
        .push(&join_ref, TOPIC, "reply_and_leave", json!({}))
        .await;
    assert_eq!(client.next_event().await.0, "phx_close");
    for n in [1, 2] {
        assert_eq!(
            client.reply_to(&reference).await["response"],
            json!({ "n": n })
        );
    }
}

/// Requirements 120, 122.
async fn nothing_is_sent_before_the_join_is_complete<W: Wire>() {
    let server = start();
    let mut client = Phoenix::<W>::dial(server.addr).await;
    let join = client.send_join(TOPIC, json!({"early": true})).await;
    assert_eq!(
        client.reply_to(&join).await["response"]["reason"],
        "too early"
    );
    client.heartbeat().await;
}

/// Requirement 68.
async fn a_push_that_has_no_form_crashes_its_channel_only<W: Wire>() {
    let server = start();
    let (mut client, join_ref) = joined::<W>(&server).await;
    client.push(&join_ref, TOPIC, "push_list", json!({})).await;
    assert_eq!(client.next_event().await.0, "phx_error");
    client.heartbeat().await;
}

/// Requirement 125.
async fn intercepted_broadcasts_that_pile_up_end_the_channel<W: Wire>() {
    let server = start();
    let (mut client, join_ref) = joined::<W>(&server).await;
    client.push(&join_ref, TOPIC, "flood", json!({})).await;
    assert_eq!(client.next_event().await.0, "phx_error");
    client.heartbeat().await;
}

/// Requirements 68, 132, 133.
#[actix_web::test]
async fn listeners_outside_channels_hear_broadcasts_but_not_their_own() {
    let pubsub = PubSub::new();
    let mut ann = Listener::new(&pubsub);
    let mut bob = Listener::new(&pubsub);
    for listener in [&mut ann, &mut bob] {
        listener.subscribe("room");
    }
    pubsub
        .broadcast_from(&ann, "room", "1", json!({}))
        .await
        .expect("an object");
    pubsub
        .broadcast("room", "2", json!({}))
        .await
        .expect("an object");
    assert_eq!(ann.recv().await.expect("not slow").event(), "2");
    assert_eq!(bob.recv().await.expect("not slow").event(), "1");
    bob.unsubscribe("room");
    for n in 0..1_100 {
        pubsub
            .broadcast("room", &n.to_string(), json!({}))
            .await
            .expect("an object");
    }
    for n in 0..1_024 {
        assert_eq!(ann.recv().await.expect("not yet").event(), n.to_string());
    }
    assert!(
        ann.recv().await.is_err(),
        "the rest was dropped, and the listener is told"
    );
    assert!(
        pubsub.broadcast("room", "x", json!([1])).await.is_err(),
        "a list is no payload"
    );
}
