//! How channels and connections end: what a channel hears of it, what the client sees, and what is
//! still done before.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use slackir::channel::{
    Channel, Context, HandleIn, HandleInResult, Join, JoinResult, Refused,
    StopReason::{self, *},
};
use slackir::message::{Payload, Reply};
use slackir::pubsub::PubSub;
use slackir::socket::{
    ConnectInfo, ConnectRefused, DrainOptions, FlowLimits, Params, Socket, SocketOptions,
    SocketRouter,
};
use slackir::{Assigns, Endpoint, Mount};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

use crate::support::phoenix::Phoenix;
use crate::support::server::{TestServer, over_both_drivers};
use crate::support::transport::{Wire, both_transports, over_both_transports};
use crate::support::wire::{DEADLINE, Frame, RawFrame};

over_both_drivers! {
    what_cannot_be_decoded_ends_all_channels_of_its_connection
    a_goodbye_waits_for_what_was_said_before_it
    a_goodbye_does_not_wait_for_ever
    a_connection_that_is_not_read_is_not_idle
}

over_both_transports! {
    terminate_hears_why
    the_reply_of_a_stop_comes_before_its_end
    an_actor_that_dies_without_a_word_is_a_crashed_channel
    nothing_comes_before_the_end_of_a_drained_connection
}

/// Every client is `users:1`.
struct Named;

impl Socket for Named {
    async fn connect(
        &self,
        _: &Params,
        _: &ConnectInfo,
        _: &mut Assigns,
    ) -> Result<(), ConnectRefused> {
        Ok(())
    }

    fn id(&self, _: &Assigns) -> Option<String> {
        Some("users:1".to_owned())
    }
}

/// Ends as it is told and records why.
struct Recorder(UnboundedSender<StopReason>);

/// Where it records it.
struct Ended(UnboundedSender<StopReason>);

/// Panics when it is dropped, which no callback does.
struct Grenade;

impl AsRef<[u8]> for Grenade {
    fn as_ref(&self) -> &[u8] {
        b"boom"
    }
}

impl Drop for Grenade {
    fn drop(&mut self) {
        panic!("outside all callbacks");
    }
}

impl Channel for Recorder {
    type Info = ();

    async fn join(params: Payload, ctx: &mut Context<Self>) -> JoinResult<Self> {
        let Ended(ended) = &*ctx.state();
        let channel = Self(ended.clone());
        let params: Value = params.parse().unwrap_or_default();
        match params["do"].as_str() {
            Some("refuse") => Err(Refused::because("no").into()),
            Some("wait") => {
                tokio::time::sleep(Duration::from_millis(300)).await;
                Ok(Join::ok(channel))
            }
            Some("hang") => std::future::pending().await,
            _ => Ok(Join::ok(channel)),
        }
    }

    async fn handle_in(
        &mut self,
        event: &str,
        payload: Payload,
        ctx: &mut Context<Self>,
    ) -> HandleInResult {
        let boom = || StopReason::error("boom");
        Ok(match event {
            "stop" => HandleIn::Stop(Normal),
            "shutdown" => HandleIn::Stop(Shutdown),
            "error" => HandleIn::StopReply(boom(), Reply::ok(payload)),
            "panic" => panic!("in handle_in"),
            "die" => {
                let grenade = Payload::Binary(Bytes::from_owner(Grenade));
                HandleIn::ok(grenade)
            }
            "broadcast" => {
                ctx.broadcast("heard", payload).await.expect("an object");
                HandleIn::NoReply
            }
            "wait" => {
                tokio::time::sleep(Duration::from_millis(900)).await;
                HandleIn::ok(payload)
            }
            "hang" => std::future::pending().await,
            _ => HandleIn::ok(payload),
        })
    }

    async fn terminate(&mut self, reason: &StopReason, ctx: &mut Context<Self>) {
        ctx.push("last words", json!({})).expect("joined");
        self.0.send(reason.clone()).ok();
    }
}

struct Stage {
    server: TestServer,
    ended: UnboundedReceiver<StopReason>,
}

impl Stage {
    fn new() -> Self {
        Self::with(SocketOptions::default())
    }

    fn with(options: SocketOptions) -> Self {
        let (ended, recorded) = unbounded_channel();
        let server = TestServer::start(move || {
            let router = SocketRouter::new().state(Ended(ended));
            let router = router.channel::<Recorder>("end:*");
            Endpoint::builder(PubSub::new())
                .mount(
                    Mount::new("/socket", Named, router)
                        .transports(both_transports())
                        .options(options),
                )
                .build()
        });
        Self {
            server,
            ended: recorded,
        }
    }

    /// Why the next channel ended.
    async fn ended(&mut self) -> StopReason {
        let next = timeout(3 * DEADLINE, self.ended.recv()).await;
        next.expect("a channel should end in time")
            .expect("the server holds the sender")
    }
}

/// What happens to a client with a joined channel.
#[derive(Debug)]
enum Way {
    Event(&'static str),
    Disconnect,
    Drain,
    Nonsense,
    Vanishing,
    /// It sends a close frame.
    Goodbye,
    /// It waits for the idle timeout.
    Silence,
}

/// What the channel hears of it.
async fn reason_of<W: Wire>(way: Way) -> StopReason {
    let mut options = SocketOptions::default();
    if matches!(way, Way::Silence) {
        options.timeout = Duration::from_millis(300);
    }
    let mut stage = Stage::with(options);
    let mut client = Phoenix::<W>::dial(stage.server.addr).await;
    let (join_ref, _) = client.join("end:a").await;
    match way {
        Way::Event(event) => drop(client.push(&join_ref, "end:a", event, json!({})).await),
        Way::Disconnect => {
            let told = stage
                .server
                .endpoint
                .broadcast("users:1", "disconnect", json!({}));
            told.await.expect("an object");
        }
        Way::Drain => drop(stage.server.endpoint.drain(DrainOptions::default()).await),
        // Long-poll answers that it was not taken.
        Way::Nonsense => drop(client.wire.send_text("nonsense").await),
        Way::Vanishing => client.wire.abort().await,
        Way::Goodbye => {
            let goodbye = RawFrame::new(8, 1001u16.to_be_bytes());
            client.wire.send_frame(&goodbye).await.expect("open");
        }
        Way::Silence => {}
    }
    stage.ended().await
}

/// Requirement 130.
async fn terminate_hears_why<W: Wire>() {
    let has_frames = W::close_code(1000).is_some();
    let mut table = vec![
        (Way::Event("stop"), Normal),
        (Way::Event("shutdown"), Shutdown),
        (Way::Event("error"), StopReason::error("boom")),
        (Way::Event("panic"), Panicked("in handle_in".into())),
        (Way::Event("phx_leave"), Left),
        (Way::Disconnect, Disconnected),
        (Way::Drain, Draining),
        (Way::Nonsense, Aborted("undecodable message")),
        (
            Way::Vanishing,
            if has_frames { PeerClosed } else { Expired },
        ),
    ];
    if has_frames {
        table.extend([(Way::Goodbye, LocalClosed), (Way::Silence, ReadTimeout)]);
    }
    for (way, reason) in table {
        let what = format!("{way:?}");
        assert_eq!(reason_of::<W>(way).await, reason, "{what}");
    }
}

/// Requirement 110.
async fn the_reply_of_a_stop_comes_before_its_end<W: Wire>() {
    let stage = Stage::new();
    let mut client = Phoenix::<W>::dial(stage.server.addr).await;
    let (join_ref, _) = client.join("end:a").await;
    let stop = client
        .push(&join_ref, "end:a", "error", json!({"n": 1}))
        .await;
    assert_eq!(client.reply_to(&stop).await["response"], json!({"n": 1}));
    assert_eq!(client.next_event().await.0, "last words");
    let error = ("phx_error".to_owned(), json!({"reason": "channel_crash"}));
    assert_eq!(client.next_event().await, error);
}

/// Requirement 109.
async fn an_actor_that_dies_without_a_word_is_a_crashed_channel<W: Wire>() {
    let mut stage = Stage::new();
    let mut client = Phoenix::<W>::dial(stage.server.addr).await;
    let (neighbour, _) = client.join("end:neighbour").await;
    let (join_ref, _) = client.join("end:a").await;
    client.push(&join_ref, "end:a", "die", json!({})).await;
    // Its reply is on its way before it dies, where the transport carries binary.
    let mut frame = client.wire.recv(1, DEADLINE).await;
    if matches!(frame[..], [Frame::Binary(_)]) {
        frame = client.wire.recv(1, DEADLINE).await;
    }
    let crashed = json!([join_ref, join_ref, "end:a", "phx_error", {"reason": "channel_crash"}]);
    assert_eq!(frame, [Frame::Text(crashed)]);
    let event = client.push(&join_ref, "end:a", "any", json!({})).await;
    assert_eq!(
        client.reply_to(&event).await["response"]["reason"],
        "unmatched topic"
    );
    let event = client
        .push(&neighbour, "end:neighbour", "any", json!({}))
        .await;
    assert_eq!(client.reply_to(&event).await["status"], "ok");
    assert!(stage.ended.try_recv().is_err(), "its terminate did not run");
}

/// Requirement 57.
async fn nothing_comes_before_the_end_of_a_drained_connection<W: Wire>() {
    let mut stage = Stage::new();
    let mut client = Phoenix::<W>::dial(stage.server.addr).await;
    for topic in ["end:a", "end:b"] {
        client.join(topic).await;
    }
    stage.server.endpoint.drain(DrainOptions::default()).await;
    assert_eq!(
        (stage.ended().await, stage.ended().await),
        (Draining, Draining)
    );
    let close = W::close_code(1012).map(|code| Frame::Close(Some(code)));
    let expected: Vec<_> = close.into_iter().chain([Frame::Eof]).collect();
    assert_eq!(client.wire.recv(3, DEADLINE).await, expected);
}

/// Requirement 52.
async fn what_cannot_be_decoded_ends_all_channels_of_its_connection() {
    let mut stage = Stage::new();
    let mut client = Phoenix::connect(stage.server.addr).await;
    let topics = ["end:a", "end:b", "end:c"];
    for topic in topics {
        client.join(topic).await;
    }
    client.wire.send_text("nonsense").await.expect("open");
    for _ in topics {
        assert_eq!(stage.ended().await, Aborted("undecodable message"));
    }
    assert_eq!(client.closed().await, 1011);
}

/// A join, an event and a close frame, all in one packet.
async fn join_speak_and_go(client: &Phoenix, join: &str) {
    let join = json!(["1", "1", "end:a", "phx_join", {"do": join}]);
    let speak = json!(["1", "2", "end:a", "broadcast", {"last": "words"}]);
    let texts = [join, speak].map(|message| RawFrame::new(1, message.to_string()));
    let goodbye = RawFrame::new(8, 1001u16.to_be_bytes());
    let frames = texts.iter().chain([&goodbye]);
    let packet: Vec<u8> = frames.flat_map(RawFrame::encode).collect();
    client.wire.send_bytes(&packet).await.expect("open");
}

/// Requirement 98.
async fn a_goodbye_waits_for_what_was_said_before_it() {
    let mut stage = Stage::new();
    let mut witness = Phoenix::connect(stage.server.addr).await;
    witness.join("end:a").await;
    let mut client = Phoenix::connect(stage.server.addr).await;
    join_speak_and_go(&client, "wait").await;
    assert_eq!(client.reply_to("1").await["status"], "ok");
    assert_eq!(client.closed().await, 1000);
    let heard = ("heard".to_owned(), json!({"last": "words"}));
    assert_eq!(witness.next_event().await, heard);
    assert_eq!(stage.ended().await, LocalClosed);
}

/// Requirement 98.
async fn a_goodbye_does_not_wait_for_ever() {
    let stage = Stage::new();
    let client = Phoenix::connect(stage.server.addr).await;
    join_speak_and_go(&client, "hang").await;
    let gone = async {
        while stage.server.endpoint.connections() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let gone = timeout(4 * DEADLINE, gone).await;
    gone.expect("the connection should end although its join hangs");
}

/// Requirement 50.
async fn a_connection_that_is_not_read_is_not_idle() {
    let options = |idle| {
        SocketOptions::default()
            .timeout(Duration::from_millis(idle))
            .flow(FlowLimits::default().messages(4).bytes(1_000_000))
    };
    let stage = Stage::with(options(300));
    let mut client = Phoenix::connect(stage.server.addr).await;
    let (join_ref, _) = client.join("end:a").await;
    let mut sent = vec![client.push(&join_ref, "end:a", "wait", json!({})).await];
    for _ in 0..10 {
        sent.push(client.push(&join_ref, "end:a", "any", json!({})).await);
    }
    for reference in sent {
        assert_eq!(client.reply_to(&reference).await["status"], "ok");
    }
    assert_eq!(client.closed().await, 1002, "from now on it is");

    // Where nothing is ever read again, it ends after ten times the timeout.
    let stage = Stage::with(options(100));
    let mut client = Phoenix::connect(stage.server.addr).await;
    let (join_ref, _) = client.join("end:a").await;
    for _ in 0..10 {
        client.push(&join_ref, "end:a", "hang", json!({})).await;
    }
    assert_eq!(client.closed().await, 1002);
}
