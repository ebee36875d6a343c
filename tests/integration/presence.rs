//! Presence, beyond the recorded scenarios: errors, callbacks, and that no client ends with a wrong
//! picture.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use serde_json::{Value, json};
use slackir::channel::{Channel, Context, HandleIn, HandleInResult, Join, JoinResult, Refused};
use slackir::message::Payload;
use slackir::presence::{Presence, Presences};
use slackir::pubsub::PubSub;
use slackir::socket::{Socket, SocketRouter};
use slackir::transport::LongPollOptions;
use slackir::{Endpoint, Mount};

use crate::support::conformance_app;
use crate::support::phoenix::Phoenix;
use crate::support::server::TestServer;
use crate::support::transport::{WINDOW, Wire, both_transports, over_both_transports};

over_both_transports! {
    members_that_come_and_go_leave_everybody_with_the_same_picture
    errors_send_no_diff_and_callbacks_see_every_change
    a_presence_that_is_too_large_is_refused_and_the_old_one_stays
}

const TOPIC: &str = "presence:room";

/// The picture that phoenix.js's `Presence` would have: phx_ref -> key.
#[derive(Default)]
struct Picture(BTreeMap<String, String>);

impl Picture {
    fn apply(&mut self, event: &str, payload: &Value) {
        match event {
            "presence_state" => {
                self.0 = refs(payload);
            }
            "presence_diff" => {
                self.0.extend(refs(&payload["joins"]));
                refs(&payload["leaves"])
                    .keys()
                    .for_each(|gone| drop(self.0.remove(gone)));
            }
            _ => {}
        }
    }

    fn keys(&self) -> Vec<&str> {
        let mut keys: Vec<&str> = self.0.values().map(String::as_str).collect();
        keys.sort_unstable();
        keys
    }
}

fn refs(presences: &Value) -> BTreeMap<String, String> {
    let keys = presences.as_object().expect("an object").iter();
    keys.flat_map(|(key, presence)| {
        let metas = presence["metas"].as_array().expect("metas").iter();
        metas.map(|meta| {
            (
                meta["phx_ref"].as_str().expect("a ref").to_owned(),
                key.clone(),
            )
        })
    })
    .collect()
}

/// A member that has arrived under a key, and what it saw so far.
async fn arrive<W: Wire>(server: &TestServer, key: &str) -> (Phoenix<W>, Picture) {
    let mut client = Phoenix::dial(server.addr).await;
    client
        .send_join(TOPIC, json!({"key": key, "meta": {"phx_ref": "forged"}}))
        .await;
    let mut picture = Picture::default();
    loop {
        let (event, payload) = client.next_event().await;
        picture.apply(&event, &payload);
        if event == "presence_state" {
            return (client, picture);
        }
    }
}

/// Requirements 168, 173.
async fn members_that_come_and_go_leave_everybody_with_the_same_picture<W: Wire>() {
    let server = TestServer::start(|| {
        conformance_app::endpoint_with(LongPollOptions::default().window(WINDOW))
    });
    let (mut witness, mut picture) = arrive::<W>(&server, "witness").await;
    let mut members = Vec::new();
    for round in 0..40 {
        members.push(arrive::<W>(&server, &format!("u{}", round % 7)).await);
        if round % 3 == 0 {
            drop(members.swap_remove(round % members.len()));
        }
    }
    let mut expected: Vec<Value> = Vec::new();
    // Everybody is told of the last arrival, and the disconnections before it are over by the
    // time that the list has as many entries as there are members.
    while expected.len() != members.len() + 1 {
        let list = witness.push("1", TOPIC, "list", json!({})).await;
        loop {
            let frame = witness.next().await;
            if frame[1] == json!(list) {
                expected = refs(&frame[4]["response"])
                    .into_keys()
                    .map(Value::from)
                    .collect();
                break;
            }
            picture.apply(frame[3].as_str().expect("an event"), &frame[4]);
        }
    }
    let (mut last, mut last_picture) = arrive::<W>(&server, "last").await;
    let mut everybody: Vec<(Phoenix<W>, Picture)> = members;
    everybody.push((witness, picture));
    for (client, picture) in &mut everybody {
        while !picture.keys().contains(&"last") {
            let (event, payload) = client.next_event().await;
            picture.apply(&event, &payload);
        }
        assert_eq!(picture.0, last_picture.0);
    }
    let quiet = last.push("1", TOPIC, "list", json!({})).await;
    last.reply_to(&quiet).await;
    last_picture.0.clear();
}

/// Does what it is told with its own presences.
struct Tester {
    presence: Arc<Presence>,
}

impl Channel for Tester {
    type Info = ();

    async fn join(_: Payload, ctx: &mut Context<Self>) -> JoinResult<Self> {
        let presence = ctx.state();
        Ok(Join::ok(Self { presence }))
    }

    async fn handle_in(
        &mut self,
        event: &str,
        payload: Payload,
        ctx: &mut Context<Self>,
    ) -> HandleInResult {
        let arguments: Value = payload.parse().unwrap_or_default();
        let key = arguments["key"].as_str().unwrap_or_default();
        let done = match event {
            "track" => self.presence.track(ctx, key, &arguments["meta"]),
            "update" => self.presence.update(ctx, key, &arguments["meta"]),
            "list" => {
                return Ok(HandleIn::ok(self.presence.list(ctx.topic())));
            }
            _ => {
                self.presence.untrack(ctx, key);
                Ok(String::new())
            }
        };
        let phx_ref = done.map_err(|error| Refused::because(&error.to_string()))?;
        Ok(HandleIn::ok(json!({ "ref": phx_ref })))
    }
}

/// What `handle_metas` was told: the keys that came, that left, that are there.
type Told = Arc<Mutex<Vec<[Vec<String>; 3]>>>;

fn tester(told: &Told) -> TestServer {
    let told = Arc::clone(told);
    serve(move |pubsub| {
        Presence::builder(pubsub)
            .fetch(|topic, mut presences| {
                presences
                    .values_mut()
                    .for_each(|presence| presence["from"] = topic.into());
                presences
            })
            .handle_metas(move |_, joins, leaves, now| {
                let change = [keys(joins), keys(leaves), keys(now)];
                told.lock().expect("no test panics here").push(change);
            })
            .build()
    })
}

fn keys(presences: &Presences) -> Vec<String> {
    presences.keys().cloned().collect()
}

/// A room with these presences.
fn serve(presence: impl FnOnce(PubSub) -> Presence + Send + 'static) -> TestServer {
    TestServer::start(move || {
        let pubsub = PubSub::new();
        let presence = presence(pubsub.clone());
        let router = SocketRouter::new().state(presence);
        let router = router.channel::<Tester>("presence:*");
        struct Anyone;
        impl Socket for Anyone {}
        Endpoint::builder(pubsub)
            .mount(Mount::new("/socket", Anyone, router).transports(both_transports()))
            .build()
    })
}

/// Sends an event, whose reply may come before or after the diff; both, the diff last.
async fn change<W: Wire>(client: &mut Phoenix<W>, event: &str, arguments: Value) -> (Value, Value) {
    client.push("1", TOPIC, event, arguments).await;
    let mut frames = [client.next_event().await, client.next_event().await];
    frames.sort_by(|(one, _), (other, _)| one.cmp(other));
    let [(reply, body), (diff, presences)] = frames;
    assert_eq!((&*reply, &*diff), ("phx_reply", "presence_diff"));
    (body["response"].clone(), presences)
}

/// Requirements 161, 163, 165, 167, 170, 173.
async fn errors_send_no_diff_and_callbacks_see_every_change<W: Wire>() {
    let told = Told::default();
    let server = tester(&told);
    let mut client = Phoenix::<W>::dial(server.addr).await;
    client.join(TOPIC).await;
    let track = json!({"key": "a", "meta": {"n": 1, "phx_ref_prev": "forged"}});
    let (tracked, diff) = change(&mut client, "track", track.clone()).await;
    let meta = json!({"n": 1, "phx_ref": tracked["ref"]});
    let there = json!({"a": {"metas": [meta], "from": TOPIC}});
    assert_eq!(diff, json!({"joins": there, "leaves": {}}));
    assert_eq!(tracked["ref"].as_str().map(str::len), Some(16));

    for (event, arguments, reason) in [
        ("track", track, "already tracked"),
        ("update", json!({"key": "b", "meta": {}}), "not tracked"),
        (
            "track",
            json!({"key": "__proto__", "meta": {}}),
            "\"__proto__\" cannot be a presence key",
        ),
        (
            "track",
            json!({"key": "c", "meta": [1]}),
            "a presence meta must be a JSON object",
        ),
    ] {
        let reference = client.push("1", TOPIC, event, arguments).await;
        assert_eq!(
            client.reply_to(&reference).await["response"]["reason"],
            reason
        );
    }
    let unknown = client
        .push("1", TOPIC, "untrack", json!({"key": "nobody"}))
        .await;
    assert_eq!(client.reply_to(&unknown).await["status"], "ok");

    let (updated, diff) =
        change(&mut client, "update", json!({"key": "a", "meta": {"n": 2}})).await;
    let renewed = json!({"n": 2, "phx_ref": updated["ref"], "phx_ref_prev": tracked["ref"]});
    assert_eq!(diff["joins"]["a"]["metas"], json!([renewed]));
    assert_eq!(diff["leaves"], there, "the old meta, complete");
    change(&mut client, "track", json!({"key": "b", "meta": {}})).await;

    // The end of the channel is one diff with everything it had.
    let mut witness = Phoenix::<W>::dial(server.addr).await;
    witness.join(TOPIC).await;
    client.wire.abort().await;
    let (_, diff) = witness.next_event().await;
    let left = diff["leaves"].as_object().expect("an object").keys();
    assert_eq!(left.collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(diff["joins"], json!({}));
    // It takes the lock under which the last change was told.
    let lock = witness
        .push("1", TOPIC, "untrack", json!({"key": "nobody"}))
        .await;
    witness.reply_to(&lock).await;
    let keys = |keys: &[&str]| keys.iter().map(|&key| key.to_owned()).collect::<Vec<_>>();
    let expected = [
        [keys(&["a"]), keys(&[]), keys(&["a"])],
        [keys(&["a"]), keys(&["a"]), keys(&["a"])],
        [keys(&["b"]), keys(&[]), keys(&["a", "b"])],
        [keys(&[]), keys(&["a", "b"]), keys(&[])],
    ];
    assert_eq!(*told.lock().expect("no test panics here"), expected);
}

/// Requirements 166, 167, 170.
#[actix_web::test]
async fn fetch_runs_once_before_each_broadcast_and_handle_metas_after_it() {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let [fetched, told] = [Arc::clone(&calls), Arc::clone(&calls)];
    let call =
        |calls: &Mutex<Vec<String>>, call| calls.lock().expect("no test panics here").push(call);
    let server = serve(move |pubsub| {
        Presence::builder(pubsub.clone())
            .fetch(move |_, presences| {
                call(&fetched, format!("fetch {:?}", keys(&presences)));
                presences
            })
            .handle_metas(move |topic, _, _, _| {
                call(&told, "handle_metas".to_owned());
                let after = pubsub.broadcast(topic, "after", json!({}));
                let sent = after.now_or_never().expect("no store to wait for");
                sent.expect("an object");
            })
            .build()
    });
    let mut client = Phoenix::connect(server.addr).await;
    client.join(TOPIC).await;
    let nobody = client.push("1", TOPIC, "list", json!({})).await;
    assert_eq!(client.reply_to(&nobody).await["response"], json!({}));
    let mut seen = Vec::new();
    for event in ["track", "untrack"] {
        let arguments = json!({"key": "a", "meta": {}});
        client.push("1", TOPIC, event, arguments).await;
        for _ in 0..3 {
            seen.push(client.next_event().await.0);
        }
        let list = client.push("1", TOPIC, "list", json!({})).await;
        client.reply_to(&list).await;
    }
    seen.retain(|event| event != "phx_reply");
    assert_eq!(seen, ["presence_diff", "after", "presence_diff", "after"]);
    let expected = [
        "fetch []",
        "fetch [\"a\"]",
        "fetch []",
        "handle_metas",
        "fetch [\"a\"]",
        "fetch []",
        "fetch [\"a\"]",
        "handle_metas",
        "fetch []",
    ];
    assert_eq!(*calls.lock().expect("no test panics here"), expected);
}

async fn a_presence_that_is_too_large_is_refused_and_the_old_one_stays<W: Wire>() {
    let start = || conformance_app::endpoint_with(LongPollOptions::default().window(WINDOW));
    let server = TestServer::start(start);
    let mut client = Phoenix::<W>::dial(server.addr).await;
    let params = json!({"key": "ann", "meta": {"n": 1}});
    let join_ref = client.send_join(TOPIC, params).await;
    assert_eq!(client.reply_to(&join_ref).await["status"], "ok");
    while client.next_event().await.0 != "presence_state" {}
    let large = json!({ "text": "x".repeat(64_000) });
    let update = client.push(&join_ref, TOPIC, "update", large).await;
    let refused = client.reply_to(&update).await;
    let reason = "a presence has at most 64000 bytes";
    assert_eq!(refused["response"]["reason"], reason, "{refused}");
    let list = client.push(&join_ref, TOPIC, "list", json!({})).await;
    let listed = client.reply_to(&list).await;
    assert_eq!(listed["response"]["ann"]["metas"][0]["n"], 1);
}
