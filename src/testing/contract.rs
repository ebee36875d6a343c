//! [`check_store`]: what a topic log expects of any [`MessageStore`].

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::message::RawJson;
use crate::pubsub::{
    Draft, Flushed, LogRule, MessageId, MessageStore, PubSub, Published, Stored, StoredEntry,
};

/// How long a store may take to commit a few rows.
const PATIENCE: Duration = Duration::from_secs(10);
/// More payload than there is.
const BYTES: usize = 1_000_000;
/// The topics of the suite.
const TOPIC: &str = "contract:a";
const OTHER: &str = "contract:b";

/// Checks a store against what [`MessageStore`] asks for: rows in order and whole, pages within their limits,
/// client_refs that are stored once, changes, topics that know nothing of one another, and what a resume
/// stands on: a run that goes on behind a clean end, and another one behind an end that was none.
///
/// `open` gives the store over the same data, as after a restart: opened anew, or the one that is open. The data may hold no topic that begins with
/// `contract:`. Call it in a test of the store, in an actix runtime:
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
/// When the store does not keep what it should; the message says what.
pub async fn check_store<S: MessageStore>(open: impl AsyncFn() -> Arc<S>) {
    rows_come_back(&open).await;
    client_refs_are_stored_once(&open).await;
    changes_change_their_target(&open).await;
    runs_go_on_after_a_clean_end_alone(&open).await;
}

/// The topics of a server that has just started.
fn start<S: MessageStore>(store: &Arc<S>) -> PubSub {
    let store: Arc<dyn MessageStore> = store.clone();
    PubSub::with_logs(vec![LogRule::new("contract:*", &["say"], 10, store)])
}

/// As at the end of a server.
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
    after: i64,
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
    let all = page(&*store, 0, 100, BYTES).await;
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
    let one = page(&*store, 0, 100, 1).await;
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
    let rows = page(&*store, id.seq - 1, 100, BYTES).await;
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
    let rows = page(&*open().await, kept.seq - 1, 100, BYTES).await;
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
    // Nobody closes this run: what was sent and not committed may have been seen by clients.
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
