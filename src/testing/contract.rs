//! [`check_store`]: the requirements of a topic log on any [`MessageStore`].

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::log::{Flushed, LogRule, MessageId, MessageStore, Seq, Stored, StoredEntry};
use crate::message::RawJson;
use crate::pubsub::{Draft, PubSub, Published};

/// A store commits a few rows within this time.
const PATIENCE: Duration = Duration::from_secs(10);
/// More bytes than all payloads of the suite.
const BYTES: usize = 1_000_000;
/// The topics of the suite.
const TOPIC: &str = "contract:a";
const OTHER: &str = "contract:b";

/// Checks a store against the rules of [`MessageStore`]: rows are in order and whole, pages keep their limits, a
/// client_ref is stored once, changes reach their targets, and topics are independent. For resumes, a run goes on
/// after a clean end, and a new run begins after an unclean one.
///
/// `open` returns a store over the same data, as after a restart: opened anew, or the one that is open. No topic in the
/// data may begin with `contract:`. Call it in a test of the store, in an actix runtime:
///
/// ```
/// use slackir::testing::{MemoryStore, check_store};
///
/// # actix_rt::System::new().block_on(async {
/// let store = MemoryStore::new();
/// check_store(async || store.clone()).await;
/// # });
/// ```
///
/// # Panics
/// If the store breaks a rule; the message names it.
pub async fn check_store<S: MessageStore>(open: impl AsyncFn() -> Arc<S>) {
    rows_come_back(&open).await;
    client_refs_are_stored_once(&open).await;
    changes_change_their_target(&open).await;
    runs_go_on_after_a_clean_end_alone(&open).await;
}

/// The topics of a new server.
fn start<S: MessageStore>(store: &Arc<S>) -> PubSub {
    let store: Arc<dyn MessageStore> = store.clone();
    PubSub::with_logs(vec![LogRule::new("contract:*", &["say"], 10, store)])
}

/// The end of a server in order.
async fn end(pubsub: &PubSub) {
    let flushed = pubsub.save(PATIENCE).await;
    assert_eq!(
        flushed,
        Flushed::default(),
        "flush waits for what was appended"
    );
}

async fn say(pubsub: &PubSub, topic: &str, payload: Value) -> MessageId {
    let said = Draft::new("say", payload).with_receipt();
    let published = pubsub.publish(topic, &said).await;
    stored(published.expect("the store has room")).await.id
}

async fn stored(published: Published) -> Stored {
    let receipt = published.receipt.expect("it was asked for");
    receipt.committed().await.expect("the store commits")
}

fn payloads(entries: &[StoredEntry]) -> Vec<Value> {
    let parse = |entry: &StoredEntry| serde_json::from_str(&entry.payload);
    let parsed = entries.iter().map(parse).collect::<Result<_, _>>();
    parsed.expect("a payload comes back as the JSON that it was")
}

async fn page(
    store: &impl MessageStore,
    after: Seq,
    limit: usize,
    bytes: usize,
) -> Vec<StoredEntry> {
    let page = store.page(TOPIC, after, limit, bytes).await;
    page.expect("a page can be read")
}

async fn rows_come_back<S: MessageStore>(open: &impl AsyncFn() -> Arc<S>) {
    let store = open().await;
    let pubsub = start(&store);
    let mut ids = Vec::new();
    for n in 1..=5 {
        ids.push(say(&pubsub, TOPIC, json!({ "n": n })).await);
    }
    let elsewhere = say(&pubsub, OTHER, json!({"n": 0})).await;
    assert!(ids.is_sorted_by_key(|id| id.seq), "seqs rise: {ids:?}");
    assert!(elsewhere.seq <= ids[0].seq, "each topic counts for itself");
    let all = page(&*store, Seq::ZERO, 100, BYTES).await;
    let numbers: Vec<_> = (1..=5).map(|n| json!({ "n": n })).collect();
    assert_eq!(
        payloads(&all),
        numbers,
        "page: all of the topic, oldest first"
    );
    assert!(
        all.iter()
            .all(|entry| entry.event == "say" && entry.target.is_none())
    );
    let some = page(&*store, ids[0].seq, 2, BYTES).await;
    assert_eq!(
        payloads(&some),
        numbers[1..3],
        "page: after a seq, up to the limit"
    );
    let one = page(&*store, Seq::ZERO, 100, 1).await;
    assert_eq!(
        payloads(&one),
        numbers[..1],
        "page: one, however few bytes fit"
    );
    let before = store.before(TOPIC, ids[3].seq, 2, BYTES).await;
    let before = before.expect("older messages can be read");
    assert_eq!(
        payloads(&before),
        numbers[1..3],
        "before: the newest of the older, oldest first"
    );
    end(&pubsub).await;
    let newest = open().await.newest(TOPIC, 2, BYTES).await;
    let newest = newest.expect("the newest can be read");
    assert_eq!(
        payloads(&newest.entries),
        numbers[3..],
        "newest: over a restart"
    );
}

async fn client_refs_are_stored_once<S: MessageStore>(open: &impl AsyncFn() -> Arc<S>) {
    let draft = Draft::new("say", json!({"n": 6})).client_ref("six");
    let pubsub = start(&open().await);
    let first = pubsub.publish(TOPIC, &draft).await.expect("room");
    let id = stored(first).await.id;
    end(&pubsub).await;
    let store = open().await;
    let pubsub = start(&store);
    let again = pubsub.publish(TOPIC, &draft).await.expect("room");
    let again = stored(again).await;
    assert!(
        again.duplicate && again.id == id,
        "a client_ref is known after a restart: {again:?}"
    );
    let elsewhere = pubsub.publish(OTHER, &draft).await.expect("room");
    assert!(
        !stored(elsewhere).await.duplicate,
        "and in its own topic alone"
    );
    let rows = page(&*store, id.seq.previous(), 100, BYTES).await;
    assert_eq!(rows.len(), 1, "a retry is no row");
    assert_eq!(rows[0].client_ref.as_deref(), Some("six"));
    end(&pubsub).await;
}

async fn changes_change_their_target<S: MessageStore>(open: &impl AsyncFn() -> Arc<S>) {
    let store = open().await;
    let pubsub = start(&store);
    let kept = say(&pubsub, TOPIC, json!({"n": 7})).await;
    let gone = say(&pubsub, TOPIC, json!({"n": 8})).await;
    let payload = RawJson::from(json!({"n": 77}));
    for change in [Draft::update(kept, &payload), Draft::delete(gone)] {
        let changed = pubsub.publish(TOPIC, &change.with_receipt()).await;
        stored(changed.expect("the store takes changes")).await;
    }
    end(&pubsub).await;
    let rows = page(&*open().await, kept.seq.previous(), 100, BYTES).await;
    let messages: Vec<_> = rows
        .iter()
        .filter(|row| row.target.is_none())
        .cloned()
        .collect();
    assert_eq!(
        payloads(&messages),
        [json!({"n": 77})],
        "one is changed, one is gone"
    );
    let targets: Vec<_> = rows.iter().filter_map(|row| row.target).collect();
    assert_eq!(
        targets,
        [kept.seq, gone.seq],
        "changes are rows of their own"
    );
}

async fn runs_go_on_after_a_clean_end_alone<S: MessageStore>(open: &impl AsyncFn() -> Arc<S>) {
    let first = start(&open().await);
    let before = say(&first, TOPIC, json!({"n": 9})).await;
    end(&first).await;
    let store = open().await;
    let second = start(&store);
    let after = say(&second, TOPIC, json!({"n": 10})).await;
    assert!(after.seq > before.seq, "seqs go on: {before} and {after}");
    // This run is not closed: clients may have seen messages that were never committed.
    drop(second);
    let opened = open().await.open(TOPIC, false).await;
    let opened = opened.expect("the topic opens");
    assert!(
        opened.epoch != after.epoch || opened.next_epoch.is_some_and(|next| next != after.epoch),
        "an end that was none begins another run: {opened:?}"
    );
    assert!(
        opened.head > after.seq,
        "whose seqs are beyond any that may have been given: {opened:?}"
    );
}
