//! Histories and resumes as a joining client sees them, without a network and with a log in memory.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use slackir::log::{Epoch, LogRule, MessageId, Seq};
use slackir::pubsub::PubSub;
use slackir::server::rooms::{Room, SHOUT, UserSocket, router};
use slackir::socket::{OutboxLimits, SocketOptions};
use slackir::testing::{MemoryStore, TestSocket};
use slackir::{Endpoint, Mount};

const LOBBY: &str = "random:lobby";

/// A server over this store, with these settings of its rooms and its log.
fn server(store: &Arc<MemoryStore>, room: Room, rule: impl Fn(LogRule) -> LogRule) -> Server {
    let logged = LogRule::new(&room.topics, &[SHOUT], room.history_limit, store.clone());
    let pubsub = PubSub::with_logs(vec![rule(logged)]);
    let options =
        SocketOptions::default().outbox(OutboxLimits::default().bytes(50_000).frames(10_000));
    let endpoint = Endpoint::builder(pubsub.clone())
        .mount(Mount::new("/socket", UserSocket, router(&[room])).options(options))
        .build();
    Server { pubsub, endpoint }
}

struct Server {
    pubsub: PubSub,
    endpoint: Endpoint,
}

impl Server {
    fn new(store: &Arc<MemoryStore>) -> Self {
        server(store, Room::default(), |rule| rule)
    }

    async fn connect(&self) -> TestSocket {
        TestSocket::connect(&self.endpoint, "/socket", json!({}))
            .await
            .expect("everybody may connect")
    }

    async fn shout(&self, numbers: impl IntoIterator<Item = usize>) {
        for n in numbers {
            let shouted = self.pubsub.broadcast(LOBBY, SHOUT, json!({ "n": n }));
            shouted.await.expect("the store takes it");
        }
    }
}

/// The ids of a message.
fn id(payload: &Value) -> MessageId {
    let id = payload["_meta"]["id"].as_str().expect("a message's id");
    id.parse().expect("an id as the server writes it")
}

/// A message without the time that stands in it: RFC 3339, UTC, milliseconds.
fn without_time(mut payload: Value) -> Value {
    let meta = payload["_meta"].as_object_mut().expect("there");
    let at = meta.remove("at").expect("there");
    let at = at.as_str().expect("text");
    assert_eq!((at.len(), &at[10..11], &at[23..]), (24, "T", "Z"), "{at}");
    payload
}

async fn next_numbers(socket: &mut TestSocket, count: usize) -> Vec<u64> {
    let mut numbers = Vec::new();
    for _ in 0..count {
        let payload = socket.next_push(SHOUT).await;
        numbers.push(payload["n"].as_u64().expect("a number"));
    }
    numbers
}

#[actix_web::test]
async fn a_client_that_asks_for_ids_gets_them_everywhere() {
    let server = Server::new(&MemoryStore::new());
    let mut ann = server.connect().await;
    let reply = ann.subscribe_and_join(LOBBY, json!({"meta": true})).await;
    assert_eq!(reply, json!({"recovered": false, "last_id": "1-0"}));
    let history = ann.next_push("messages_history").await;
    assert_eq!(history, json!({"messages": []}));
    server.shout([1]).await;
    let live = ann.next_broadcast(SHOUT).await;
    let told = without_time(live.clone());
    assert_eq!(told, json!({"n": 1, "_meta": {"id": "1-1"}}));

    let mut bob = server.connect().await;
    let reply = bob.subscribe_and_join(LOBBY, json!({"meta": true})).await;
    assert_eq!(reply, json!({"recovered": false, "last_id": "1-1"}));
    let history = json!({"messages": [live]});
    bob.assert_push("messages_history", history).await;

    let mut carl = server.connect().await;
    let reply = carl.subscribe_and_join(LOBBY, json!({})).await;
    assert_eq!(reply, json!({}), "who asks for nothing gets nothing new");
    let history = json!({"messages": [{"n": 1}]});
    carl.assert_push("messages_history", history).await;
}

#[actix_web::test]
async fn a_history_may_be_called_otherwise() {
    let room = Room::default().history_event("old_messages");
    let server = server(&MemoryStore::new(), room, |rule| rule);
    let mut ann = server.connect().await;
    ann.subscribe_and_join(LOBBY, json!({})).await;
    ann.assert_push("old_messages", json!({"messages": []}))
        .await;
}

#[actix_web::test]
async fn a_resume_replays_what_was_missed_as_it_would_have_come() {
    let server = Server::new(&MemoryStore::new());
    let mut ann = server.connect().await;
    ann.subscribe_and_join(LOBBY, json!({})).await;
    server.shout(1..=5).await;
    let mut bob = server.connect().await;
    let params = json!({"last_seen_id": "1-2", "meta": true});
    let reply = bob.subscribe_and_join(LOBBY, params).await;
    assert_eq!(reply, json!({"recovered": true, "last_id": "1-2"}));
    for n in 3..=5 {
        let missed = without_time(bob.next_push(SHOUT).await);
        let id = format!("1-{n}");
        assert_eq!(missed, json!({"n": n, "_meta": {"id": id}}));
    }
    bob.refute_push("messages_history").await;
    server.shout([6]).await;
    let live = without_time(bob.next_broadcast(SHOUT).await);
    assert_eq!(live, json!({"n": 6, "_meta": {"id": "1-6"}}));
}

#[actix_web::test]
async fn a_gap_that_cannot_be_filled_is_told_and_the_history_comes() {
    let server = Server::new(&MemoryStore::new());
    let mut ann = server.connect().await;
    ann.subscribe_and_join(LOBBY, json!({})).await;
    server.shout([1]).await;
    for last_seen in ["1-2", "2-0", "rubbish", "", "01-1", "1-1 "] {
        let mut bob = server.connect().await;
        let params = json!({ "last_seen_id": last_seen });
        let reply = bob.subscribe_and_join(LOBBY, params).await;
        let lost = json!({"recovered": false, "last_id": "1-1"});
        assert_eq!(reply, lost, "{last_seen:?}");
        let history = json!({"messages": [{"n": 1}]});
        bob.assert_push("messages_history", history).await;
    }
}

#[actix_web::test]
async fn a_resume_over_a_clean_restart_reads_the_store_while_others_shout() {
    const MISSED: usize = 3_000;
    let store = MemoryStore::new();
    let before = Server::new(&store);
    let mut ann = before.connect().await;
    ann.subscribe_and_join(LOBBY, json!({})).await;
    before.shout(1..=MISSED).await;
    before.pubsub.save(Duration::from_secs(5)).await;

    let server = Server::new(&store);
    let mut bob = server.connect().await;
    let params = json!({"last_seen_id": "1-10", "meta": true});
    let reply = bob.subscribe_and_join(LOBBY, params).await;
    assert_eq!(reply, json!({"recovered": true, "last_id": "1-10"}));
    // He has read nothing yet, and his outbox is small: most of it is still to be read. What he
    // says himself waits, too.
    let ping = bob.push(LOBBY, "ping", json!({"x": 1}));
    server.shout(MISSED + 1..=MISSED + 20).await;
    let mut last = Seq::new(10);
    for n in 11..=MISSED as u64 {
        let payload = bob.next_push(SHOUT).await;
        assert_eq!(payload["n"], n);
        assert!(id(&payload).seq > last, "increasing");
        last = id(&payload).seq;
    }
    assert_eq!(
        next_numbers(&mut bob, 20).await,
        (3_001..=3_020).collect::<Vec<_>>()
    );
    bob.assert_reply(&ping, "ok", json!({"x": 1})).await;
    server.shout([MISSED + 21]).await;
    let live = bob.next_broadcast(SHOUT).await;
    assert_eq!(live["n"], MISSED + 21);
    bob.refute_push(SHOUT).await;
}

#[actix_web::test]
async fn an_unclean_end_begins_a_new_epoch() {
    let store = MemoryStore::new();
    let killed = Server::new(&store);
    let mut ann = killed.connect().await;
    ann.subscribe_and_join(LOBBY, json!({})).await;
    killed.shout([1]).await;
    drop(killed);
    let server = Server::new(&store);
    let mut bob = server.connect().await;
    let params = json!({"last_seen_id": "1-1", "meta": true});
    let reply = bob.subscribe_and_join(LOBBY, params).await;
    assert_eq!(reply["recovered"], false);
    server.shout([2]).await;
    let live = bob.next_broadcast(SHOUT).await;
    assert_ne!(id(&live).epoch, Epoch::new(1));
}

#[actix_web::test]
async fn the_client_may_choose_its_history() {
    let server = Server::new(&MemoryStore::new());
    let mut ann = server.connect().await;
    ann.subscribe_and_join(LOBBY, json!({})).await;
    server.shout(1..=3).await;
    let two = json!([{"n": 2}, {"n": 3}]);

    let mut bob = server.connect().await;
    bob.subscribe_and_join(LOBBY, json!({"history": 2})).await;
    bob.assert_push("messages_history", json!({"messages": two}))
        .await;

    let mut carl = server.connect().await;
    let reply = carl
        .subscribe_and_join(LOBBY, json!({"history": "reply"}))
        .await;
    assert_eq!(reply, json!({"messages": [{"n": 1}, {"n": 2}, {"n": 3}]}));

    let mut dora = server.connect().await;
    dora.subscribe_and_join(LOBBY, json!({"history": "per_event"}))
        .await;
    assert_eq!(next_numbers(&mut dora, 3).await, [1, 2, 3]);

    for nothing in [json!("none"), json!(0)] {
        let mut eve = server.connect().await;
        eve.subscribe_and_join(LOBBY, json!({"history": nothing}))
            .await;
        eve.refute_push(SHOUT).await;
    }
    for not_meant_for_us in [
        json!({"since": 1}),
        json!("everything"),
        json!(-1),
        json!(null),
    ] {
        let mut fred = server.connect().await;
        fred.subscribe_and_join(LOBBY, json!({"history": not_meant_for_us}))
            .await;
        let history = fred.next_push("messages_history").await;
        assert_eq!(history["messages"][0], json!({"n": 1}));
    }
}

#[actix_web::test]
async fn rooms_without_a_log_say_so() {
    let endpoint = Endpoint::builder(PubSub::new())
        .mount(Mount::new(
            "/socket",
            UserSocket,
            router(&[Room::default()]),
        ))
        .build();
    let mut ann = TestSocket::connect(&endpoint, "/socket", json!({}))
        .await
        .expect("everybody may connect");
    let params = json!({"last_seen_id": "1-1", "ack": true});
    let reply = ann.subscribe_and_join(LOBBY, params).await;
    assert_eq!(reply, json!({"recovered": false, "last_id": null}));
    let shout = ann.push(LOBBY, SHOUT, json!({}));
    ann.assert_reply(&shout, "ok", json!({"id": null})).await;
}

#[actix_web::test]
async fn an_acknowledged_shout_is_committed() {
    let store = MemoryStore::new();
    let server = Server::new(&store);
    let mut ann = server.connect().await;
    ann.subscribe_and_join(LOBBY, json!({"ack": true})).await;
    store.hold();
    let shout = ann.push(LOBBY, SHOUT, json!({"n": 1}));
    ann.assert_broadcast(SHOUT, json!({"n": 1})).await;
    ann.refute_reply(&shout).await;
    store.release();
    ann.assert_reply(&shout, "ok", json!({"id": "1-1"})).await;
    assert_eq!(store.rows(LOBBY)[0].payload, r#"{"n":1}"#);

    store.refuse(true);
    let shout = ann.push(LOBBY, SHOUT, json!({"n": 2}));
    let refused = json!({"reason": "storage unavailable", "retry_after_ms": 1000});
    ann.assert_reply(&shout, "error", refused).await;
    ann.refute_broadcast(SHOUT).await;
}

#[actix_web::test]
async fn a_retry_is_stored_once_and_answered_as_one() {
    let store = MemoryStore::new();
    let server = Server::new(&store);
    let mut ann = server.connect().await;
    ann.subscribe_and_join(LOBBY, json!({"ack": true})).await;
    let payload = json!({"message": "hi", "client_ref": "c1"});
    store.hold();
    let first = ann.push(LOBBY, SHOUT, payload.clone());
    let retry = ann.push(LOBBY, SHOUT, payload.clone());
    ann.assert_broadcast(SHOUT, payload.clone()).await;
    ann.refute_broadcast(SHOUT).await;
    store.release();
    ann.assert_reply(&first, "ok", json!({"id": "1-1"})).await;
    let duplicate = json!({"id": "1-1", "duplicate": true});
    ann.assert_reply(&retry, "ok", duplicate).await;
    assert_eq!(store.rows(LOBBY).len(), 1);

    for wrong in [json!(7), json!("x".repeat(65)), json!("")] {
        let shout = ann.push(LOBBY, SHOUT, json!({"client_ref": wrong}));
        let refused = json!({"reason": "invalid payload", "field": "client_ref"});
        ann.assert_reply(&shout, "error", refused).await;
    }
}

#[actix_web::test]
async fn a_strict_room_shows_what_is_committed_and_nothing_else() {
    let store = MemoryStore::new();
    let server = server(&store, Room::default(), |rule| rule.strict(true));
    let mut ann = server.connect().await;
    ann.subscribe_and_join(LOBBY, json!({"ack": true})).await;
    store.hold();
    let shout = ann.push(LOBBY, SHOUT, json!({"n": 1}));
    let mut bob = server.connect().await;
    bob.subscribe_and_join(LOBBY, json!({})).await;
    bob.assert_push("messages_history", json!({"messages": []}))
        .await;
    ann.refute_broadcast(SHOUT).await;
    store.release();
    ann.assert_broadcast(SHOUT, json!({"n": 1})).await;
    bob.assert_broadcast(SHOUT, json!({"n": 1})).await;
    ann.assert_reply(&shout, "ok", json!({"id": "1-1"})).await;
}

#[actix_web::test]
async fn messages_are_changed_where_the_room_allows_it() {
    let room = Room::default().changes(true);
    let store = MemoryStore::new();
    let server = server(&store, room, |rule| rule);
    let mut ann = server.connect().await;
    ann.subscribe_and_join(LOBBY, json!({})).await;
    server.shout(1..=2).await;
    let update = json!({"id": "1-1", "payload": {"n": 10}});
    let updated = ann.push(LOBBY, "update_message", update.clone());
    ann.assert_broadcast("message_updated", update).await;
    ann.assert_reply(&updated, "ok", json!({"id": "1-3"})).await;
    let deleted = ann.push(LOBBY, "delete_message", json!({"id": "1-2"}));
    ann.assert_broadcast("message_deleted", json!({"id": "1-2"}))
        .await;
    ann.assert_reply(&deleted, "ok", json!({"id": "1-4"})).await;

    let mut bob = server.connect().await;
    bob.subscribe_and_join(LOBBY, json!({"history": "per_event"}))
        .await;
    assert_eq!(next_numbers(&mut bob, 1).await, [10]);
    bob.refute_push("message_updated").await;
    assert_eq!(store.rows(LOBBY)[0].payload, r#"{"n":10}"#);

    for (payload, reason) in [
        (json!({"id": "1-2"}), "unknown message"),
        (json!({"id": "1-3"}), "unknown message"),
        (json!({"id": "x"}), "unknown message"),
        (json!({}), "invalid payload"),
        (json!([]), "invalid payload"),
    ] {
        let change = ann.push(LOBBY, "delete_message", payload);
        let refused = json!({ "reason": reason });
        ann.assert_reply(&change, "error", refused).await;
    }
    let update = ann.push(LOBBY, "update_message", json!({"id": "1-1", "payload": 7}));
    let refused = json!({"reason": "invalid payload"});
    ann.assert_reply(&update, "error", refused).await;
}

#[actix_web::test]
async fn messages_are_not_changed_where_the_room_does_not_allow_it() {
    let server = Server::new(&MemoryStore::new());
    let mut ann = server.connect().await;
    ann.subscribe_and_join(LOBBY, json!({})).await;
    let deleted = ann.push(LOBBY, "delete_message", json!({"id": "1-1"}));
    let refused = json!({"reason": "unknown event"});
    ann.assert_reply(&deleted, "error", refused).await;
}
