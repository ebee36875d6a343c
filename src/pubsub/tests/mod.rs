//! The seams of the critical section, made to happen: no timing is involved.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use futures_core::future::BoxFuture;
use futures_util::FutureExt;
use serde_json::{Value, json};

mod log;

use super::idle::Idle;
use super::*;
use crate::log::{
    Change, Epoch, LoadError, LogRule, MessageId, MessageStore, Newest, OpenedRun, Pending,
    StoreFull, StoredEntry,
};
use crate::outbox::{Outbox, OutboxLimits};
use crate::serializer::Serializer;

/// A store in memory. It settles rows when it is told to, and refuses when it is told to.
#[derive(Default)]
struct Memory {
    full: AtomicBool,
    /// What is stored cannot be read.
    away: AtomicBool,
    rows: Mutex<Vec<Pending>>,
    committed: Mutex<Vec<StoredEntry>>,
    closed: Mutex<Vec<Seq>>,
}

/// The one epoch of this store.
const EPOCH: Epoch = Epoch::new(0xE);

impl Memory {
    fn commit(&self) {
        for row in lock(&self.rows).drain(..) {
            lock(&self.committed).push(StoredEntry {
                seq: row.seq(),
                event: row.event().to_owned(),
                payload: row.payload().get().to_owned(),
                target: row.change().map(Change::target),
                at: row.at(),
                client_ref: row.client_ref().map(str::to_owned),
            });
            row.committed();
        }
    }

    /// The rows that wait, taken out.
    fn take(&self) -> Vec<Pending> {
        std::mem::take(&mut lock(&self.rows))
    }
}

impl MessageStore for Memory {
    fn append(&self, row: Pending) -> Result<(), StoreFull> {
        if self.full.load(Ordering::Relaxed) {
            return Err(StoreFull { retry_after_ms: 7 });
        }
        lock(&self.rows).push(row);
        Ok(())
    }

    fn open(&self, _: &str, _: bool) -> BoxFuture<'static, Result<OpenedRun, LoadError>> {
        let run = OpenedRun {
            epoch: EPOCH,
            head: lock(&self.committed)
                .last()
                .map_or(Seq::ZERO, |row| row.seq),
            ..OpenedRun::default()
        };
        std::future::ready(Ok(run)).boxed()
    }

    fn newest(
        &self,
        topic: &str,
        limit: usize,
        _: usize,
    ) -> BoxFuture<'static, Result<Newest, LoadError>> {
        if self.away.load(Ordering::Relaxed) {
            let error = LoadError {
                topic: topic.to_owned(),
                source: "the database is away".into(),
            };
            return std::future::ready(Err(error)).boxed();
        }
        let committed = lock(&self.committed);
        let refs = committed.iter();
        let refs = refs.filter_map(|row| Some((row.client_ref.clone()?, row.seq)));
        let newest = Newest {
            entries: committed[committed.len().saturating_sub(limit)..].to_vec(),
            client_refs: refs.collect(),
        };
        std::future::ready(Ok(newest)).boxed()
    }

    fn close(&self, _: &str, last: MessageId) {
        lock(&self.closed).push(last.seq);
    }

    fn page(
        &self,
        _: &str,
        after: Seq,
        limit: usize,
        _: usize,
    ) -> BoxFuture<'static, Result<Vec<StoredEntry>, LoadError>> {
        let committed = lock(&self.committed);
        let page = committed.iter().filter(|row| row.seq > after).take(limit);
        std::future::ready(Ok(page.cloned().collect())).boxed()
    }

    fn before(
        &self,
        _: &str,
        before: Seq,
        limit: usize,
        _: usize,
    ) -> BoxFuture<'static, Result<Vec<StoredEntry>, LoadError>> {
        let committed = lock(&self.committed);
        let older: Vec<_> = committed.iter().filter(|row| row.seq < before).collect();
        let page = &older[older.len().saturating_sub(limit)..];
        std::future::ready(Ok(page.iter().map(|&row| row.clone()).collect())).boxed()
    }
}

/// Three messages of history.
fn rule(store: &Arc<Memory>) -> LogRule {
    let store = Arc::clone(store) as Arc<dyn MessageStore>;
    LogRule::new("log:*", &["shout"], 3, store)
}

fn logged() -> (PubSub, Arc<Memory>) {
    let store = Arc::new(Memory::default());
    (PubSub::with_logs(vec![rule(&store)]), store)
}

/// A member and what it was sent.
struct Member {
    outbox: Rc<Outbox>,
    id: SubscriberId,
    backlog: Backlog,
    subscription: Subscription,
}

impl Member {
    async fn join(pubsub: &PubSub, name: &str) -> Self {
        let topic = pubsub.topic(name);
        topic.load().await.expect("the store answers");
        Self::subscribe(pubsub, name)
    }

    /// The synchronous half of a join.
    fn subscribe(pubsub: &PubSub, name: &str) -> Self {
        Self::subscribe_with(pubsub, name, Want::History(None)).expect("nothing to read")
    }

    /// `None` when what is wanted begins in the database.
    fn subscribe_with(pubsub: &PubSub, name: &str, want: Want) -> Option<Self> {
        let outbox = Rc::new(Outbox::new(OutboxLimits::default()));
        let id = SubscriberId::next();
        let wire = Wire {
            serializer: Serializer::V2,
            meta: true,
        };
        let subscriber = Subscriber {
            id,
            fastlane: Some((Rc::clone(&outbox), wire)),
            intercept: &[],
            tap: None,
        };
        let subscribed = pubsub.subscribe(&pubsub.topic(name), subscriber, want);
        match subscribed.expect("the topic is not given up") {
            Subscribed::Behind(_) => None,
            Subscribed::Live(subscription, backlog) => Some(Self {
                outbox,
                id,
                backlog: backlog.unwrap_or_default(),
                subscription,
            }),
        }
    }

    fn publish(&self, pubsub: &PubSub, draft: &Draft) -> Result<Published, PublishError> {
        let topic = self.subscription.topic();
        let published = pubsub.publish_to(topic, draft, None).now_or_never();
        let published = published.expect("a node alone waits for nobody");
        published.map(|(published, _)| published)
    }

    fn shout(&self, pubsub: &PubSub, n: u64) -> Result<(), PublishError> {
        self.publish(pubsub, &shout(n)).map(drop)
    }

    /// The seqs that it was given when it joined.
    fn history(&self) -> Vec<i64> {
        let entries = self.backlog.entries.iter();
        entries.map(|entry| entry.seq().get()).collect()
    }

    /// The payloads that have come live.
    fn payloads(&self) -> Vec<Value> {
        let mut payloads = Vec::new();
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(Some(frame)) = self.outbox.poll_frame(&mut cx) {
            let mut frame: Value = serde_json::from_slice(&frame.payload()).expect("JSON");
            payloads.push(frame[4].take());
        }
        payloads
    }

    /// The numbers that have come live.
    fn live(&self) -> Vec<u64> {
        let payloads = self.payloads();
        payloads.iter().filter_map(|p| p["n"].as_u64()).collect()
    }
}

fn shout(n: u64) -> Draft {
    Draft::new("shout", json!({ "n": n }))
}

/// Runs a publish on another thread, to its end.
fn elsewhere(pubsub: &PubSub, n: u64) {
    let pubsub = pubsub.clone();
    let publish = move || {
        let publish = pubsub.broadcast("log:a", "shout", json!({ "n": n }));
        publish
            .now_or_never()
            .expect("nothing to wait for")
            .expect("room in the store");
    };
    std::thread::spawn(publish).join().expect("no panic");
}

/// Requirement 97.
#[actix_rt::test]
async fn what_waits_in_the_inbox_is_history_and_not_live_for_who_joins_now() {
    let (pubsub, _store) = logged();
    let ann = Member::join(&pubsub, "log:a").await;
    // Published on another worker; this one has not come to deliver it yet.
    elsewhere(&pubsub, 1);
    let bob = Member::subscribe(&pubsub, "log:a");
    elsewhere(&pubsub, 2);
    ann.shout(&pubsub, 3).expect("room in the store");
    assert_eq!(
        (bob.history().as_slice(), bob.live()),
        (&[1][..], vec![2, 3])
    );
    assert_eq!(ann.live(), [1, 2, 3]);
}

#[actix_rt::test]
async fn a_message_crosses_to_another_worker_once_for_all_its_members() {
    let (pubsub, _store) = logged();
    let first = Member::join(&pubsub, "log:a").await;
    let others = (1..100).map(|_| Member::subscribe(&pubsub, "log:a"));
    let members: Vec<_> = std::iter::once(first).chain(others).collect();
    elsewhere(&pubsub, 1);
    let table = Table::existing(pubsub.id()).expect("it has members");
    assert_eq!(table.inbox().waiting(), 1);
    assert!(members.iter().all(|member| member.live().is_empty()));
    table.drain();
    assert!(members.iter().all(|member| member.live() == [1]));
}

#[actix_rt::test]
async fn a_refused_message_takes_no_seq_and_reaches_nobody() {
    let (pubsub, store) = logged();
    let ann = Member::join(&pubsub, "log:a").await;
    ann.shout(&pubsub, 1).expect("room in the store");
    store.full.store(true, Ordering::Relaxed);
    let refused = PublishError::StoreFull(StoreFull { retry_after_ms: 7 });
    assert_eq!(ann.shout(&pubsub, 2), Err(refused));
    store.full.store(false, Ordering::Relaxed);
    ann.shout(&pubsub, 3).expect("room in the store");
    assert_eq!(ann.live(), [1, 3]);
    assert_eq!(Member::subscribe(&pubsub, "log:a").history(), [1, 2]);
}

#[actix_rt::test]
async fn the_tail_keeps_what_is_not_committed_and_gives_what_the_rule_says() {
    let (pubsub, store) = logged();
    let ann = Member::join(&pubsub, "log:a").await;
    (1..=1_500).for_each(|n| ann.shout(&pubsub, n).expect("room in the store"));
    let tail = || pubsub.topic("log:a").lock().log_bytes();
    let uncommitted = tail();
    store.commit();
    ann.shout(&pubsub, 1_501).expect("room in the store");
    assert!(
        tail() < uncommitted,
        "committed rows beyond the bound leave"
    );
    let bob = Member::subscribe(&pubsub, "log:a");
    assert_eq!(bob.history(), [1_499, 1_500, 1_501]);
}

#[actix_rt::test]
async fn a_topic_goes_on_where_the_store_ends() {
    let (pubsub, store) = logged();
    let ann = Member::join(&pubsub, "log:a").await;
    (1..=4).for_each(|n| ann.shout(&pubsub, n).expect("room in the store"));
    store.commit();
    let restarted = PubSub::with_logs(vec![rule(&store)]);
    let bob = Member::join(&restarted, "log:a").await;
    assert_eq!(bob.history(), [2, 3, 4]);
    bob.shout(&restarted, 5).expect("room in the store");
    assert_eq!(Member::subscribe(&restarted, "log:a").history(), [3, 4, 5]);
}

#[actix_rt::test]
async fn a_topic_with_rows_on_their_way_is_not_forgotten() {
    let (pubsub, store) = logged();
    let ann = Member::join(&pubsub, "log:a").await;
    ann.shout(&pubsub, 1).expect("room in the store");
    drop(ann);
    let topic = pubsub.topic("log:a");
    let idle = |since| Idle {
        since,
        topic: Arc::clone(&topic),
        bytes: 0,
    };
    assert!(pubsub.evict(idle(Instant::now()), Instant::now()).is_some());
    store.commit();
    assert!(pubsub.evict(idle(Instant::now()), Instant::now()).is_none());
    assert_eq!(
        *lock(&store.closed),
        [Seq::new(1)],
        "the store learns of the end"
    );
    assert!(
        !Arc::ptr_eq(&topic, &pubsub.topic("log:a")),
        "it is looked up anew"
    );
    assert_eq!(Member::join(&pubsub, "log:a").await.history(), [1]);
}

#[actix_rt::test]
async fn topics_without_members_leave_nothing_behind() {
    let pubsub = PubSub::new();
    let known = |pubsub: &PubSub| lock(&pubsub.shared.topics).len();
    let ann = Member::join(&pubsub, "room").await;
    let bob = Member::join(&pubsub, "room").await;
    assert_eq!(known(&pubsub), 1);
    drop(ann);
    assert_eq!(known(&pubsub), 1);
    drop(bob);
    assert_eq!(known(&pubsub), 0);
    for n in 0..10 {
        pubsub
            .broadcast(&n.to_string(), "shout", json!({}))
            .await
            .expect("an object");
    }
    assert_eq!(known(&pubsub), 0, "nobody can hear these");
}

#[actix_rt::test]
async fn broadcast_from_leaves_its_sender_out() {
    let pubsub = PubSub::new();
    let ann = Member::join(&pubsub, "room").await;
    let bob = Member::join(&pubsub, "room").await;
    pubsub
        .publish_to(ann.subscription.topic(), &shout(1), Some(ann.id))
        .await
        .expect("an object");
    assert_eq!((ann.live(), bob.live()), (vec![], vec![1]));
}
