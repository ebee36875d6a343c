//! What a channel intercepts is kept back or changed also where a history or a resume shows it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use slackir::channel::{
    Channel, Context, HandleIn, HandleInResult, Handled, HistoryMode, Join, JoinResult, LogRequest,
    StopReason,
};
use slackir::log::LogRule;
use slackir::message::Payload;
use slackir::pubsub::{Broadcast, PubSub};
use slackir::socket::{Socket, SocketRouter};
use slackir::testing::{MemoryStore, TestSocket};
use slackir::{Endpoint, Mount};

const TOPIC: &str = "house:a";

/// Whispers reach the one they are for, who is told so; what is said reaches everybody.
struct House {
    user: String,
    slow: bool,
}

impl Channel for House {
    type Info = ();

    async fn join(params: Payload, _: &mut Context<Self>) -> JoinResult<Self> {
        let asked: Value = params.parse()?;
        let house = Self {
            user: asked["user"].as_str().unwrap_or_default().to_owned(),
            slow: asked["slow"] == true,
        };
        let request = LogRequest::from_params(HistoryMode::MessagesHistory, &params);
        Ok(Join::ok(house).with_log(request))
    }

    async fn handle_in(
        &mut self,
        event: &str,
        payload: Payload,
        ctx: &mut Context<Self>,
    ) -> HandleInResult {
        ctx.broadcast(event, payload).await?;
        Ok(HandleIn::NoReply)
    }

    async fn handle_out(&mut self, broadcast: Arc<Broadcast>, ctx: &mut Context<Self>) -> Handled {
        if self.slow {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let whisper: Value = broadcast.payload().parse()?;
        match whisper["to"].as_str() {
            Some("stop") => return Err(StopReason::error("told to")),
            Some(to) if to == self.user => {
                let heard = json!({"n": whisper["n"], "for": to});
                ctx.push("whisper", heard)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn intercept() -> &'static [&'static str] {
        &["whisper"]
    }
}

struct Anyone;
impl Socket for Anyone {}

struct Server {
    endpoint: Endpoint,
    pubsub: PubSub,
}

impl Server {
    fn new(store: &Arc<MemoryStore>) -> Self {
        let rule = LogRule::new("house:*", &["say", "whisper"], 50, store.clone());
        let pubsub = PubSub::with_logs(vec![rule.resume_limit(10_000)]);
        let router = SocketRouter::new().channel::<House>("house:*");
        let endpoint = Endpoint::builder(pubsub.clone())
            .mount(Mount::new("/socket", Anyone, router))
            .build();
        Self { endpoint, pubsub }
    }

    async fn join(&self, params: Value) -> (TestSocket, Value) {
        let socket = TestSocket::connect(&self.endpoint, "/socket", json!({})).await;
        let mut socket = socket.expect("everybody may connect");
        let reply = socket.subscribe_and_join(TOPIC, params).await;
        (socket, reply)
    }

    async fn publish(&self, event: &str, payload: Value) {
        let published = self.pubsub.broadcast(TOPIC, event, payload).await;
        published.expect("the store takes it");
    }

    /// Message n is a whisper to Ann, message n + 1 one to Bob, and message n + 2 is said aloud.
    async fn talk(&self, rounds: impl Iterator<Item = usize>) {
        for n in rounds.map(|round| round * 3) {
            self.publish("whisper", json!({"n": n, "to": "ann"})).await;
            self.publish("whisper", json!({"n": n + 1, "to": "bob"}))
                .await;
            self.publish("say", json!({ "n": n + 2 })).await;
        }
    }
}

#[actix_web::test]
async fn a_history_shows_what_the_channel_makes_of_it() {
    for slow in [false, true] {
        let server = Server::new(&MemoryStore::new());
        let (_member, _) = server.join(json!({})).await;
        server.talk(0..2).await;
        let made = json!([{"n": 0, "for": "ann"}, {"n": 2}, {"n": 3, "for": "ann"}, {"n": 5}]);
        let history = json!({ "messages": made });

        let (mut list, _) = server.join(json!({"user": "ann", "slow": slow})).await;
        list.assert_push("messages_history", history.clone()).await;

        let params = json!({"user": "ann", "slow": slow, "history": "reply"});
        let (mut in_reply, reply) = server.join(params).await;
        assert_eq!(reply, history);

        let params = json!({"user": "ann", "slow": slow, "history": "per_event"});
        let (mut each, _) = server.join(params).await;
        for (event, n) in [("whisper", 0), ("say", 1), ("whisper", 2), ("say", 3)] {
            each.assert_push(event, made[n].clone()).await;
        }

        for client in [&mut list, &mut in_reply, &mut each] {
            let ping = client.push(TOPIC, "say", json!({"live": slow}));
            client.refute_reply(&ping).await;
            client.assert_broadcast("say", json!({"live": slow})).await;
            client.refute_push("whisper").await;
        }
    }
}

#[actix_web::test]
async fn a_passed_on_message_says_which_it_is_to_who_asked() {
    let server = Server::new(&MemoryStore::new());
    let (mut ann, _) = server.join(json!({"user": "ann", "meta": true})).await;
    let (mut deaf, _) = server.join(json!({"user": "ann"})).await;
    server.talk(0..1).await;
    let live = ann.next_push("whisper").await;
    let id = live["_meta"]["id"]
        .as_str()
        .expect("the id of a stored message");
    deaf.assert_push("whisper", json!({"n": 0, "for": "ann"}))
        .await;

    let (mut again, _) = server.join(json!({"user": "ann", "meta": true})).await;
    let history = again.next_push("messages_history").await;
    assert_eq!(history["messages"][0], live);
    let (mut after, _) = server
        .join(json!({"user": "bob", "last_seen_id": id, "meta": true}))
        .await;
    let bobs = after.next_push("whisper").await;
    assert_eq!((&bobs["n"], &bobs["for"]), (&json!(1), &json!("bob")));
    assert!(bobs["_meta"]["id"].is_string());
}

/// From the database page by page, then from memory, then live: nothing kept back, doubled or out of order.
#[actix_web::test]
async fn a_long_resume_goes_through_a_slow_channel_while_others_talk() {
    const ROUNDS: usize = 400;
    let store = MemoryStore::new();
    let before = Server::new(&store);
    let (_member, _) = before.join(json!({})).await;
    before.talk(0..ROUNDS).await;
    before.pubsub.save(Duration::from_secs(5)).await;

    let server = Server::new(&store);
    let params = json!({"user": "ann", "slow": true, "last_seen_id": "1-0"});
    let (mut ann, reply) = server.join(params).await;
    assert_eq!(reply["recovered"], true);
    let mut said = Vec::new();
    for round in 0..ROUNDS + 50 {
        if round < 50 {
            server.talk(ROUNDS + round..=ROUNDS + round).await;
        }
        let heard = ann.next_push("whisper").await;
        assert_eq!(heard, json!({"n": round * 3, "for": "ann"}));
        if round < ROUNDS {
            said.push(ann.next_push("say").await["n"].clone());
        }
    }
    assert_eq!(
        said,
        (0..ROUNDS)
            .map(|round| json!(round * 3 + 2))
            .collect::<Vec<_>>()
    );
    ann.refute_push("whisper").await;
}

#[actix_web::test]
async fn a_channel_that_stops_at_a_replayed_message_ends() {
    let server = Server::new(&MemoryStore::new());
    let (_member, _) = server.join(json!({"user": "bob"})).await;
    server.publish("say", json!({"n": 0})).await;
    let (mut ann, reply) = server
        .join(json!({"user": "ann", "last_seen_id": null, "meta": true}))
        .await;
    server
        .publish("whisper", json!({"n": 1, "to": "stop"}))
        .await;
    ann.assert_crashed(TOPIC).await;

    let params = json!({"user": "ann", "last_seen_id": reply["last_id"]});
    let (mut back, reply) = server.join(params).await;
    assert_eq!(reply["recovered"], true);
    back.assert_crashed(TOPIC).await;
    let socket = TestSocket::connect(&server.endpoint, "/socket", json!({})).await;
    let mut in_reply = socket.expect("everybody may connect");
    let join = in_reply.join(TOPIC, json!({"history": "reply"}));
    in_reply
        .assert_reply(&join, "error", json!({"reason": "join crashed"}))
        .await;
}
