//! The log's promises: resumes, strict logs, retries, changes, receipts.

use std::time::SystemTime;

use chrono::{DateTime, Utc};

use super::*;
use crate::log::{Epoch, MessageId, NotStored, Seq, Stored, StoredEntry};
use crate::message::RawJson;

fn id(seq: i64) -> MessageId {
    MessageId::new(EPOCH, Seq::new(seq))
}

fn resume(pubsub: &PubSub, last_seen: MessageId) -> Option<Member> {
    Member::subscribe_with(pubsub, "log:a", Want::Resume(last_seen, None))
}

#[actix_rt::test]
async fn a_resume_gives_what_came_after_and_says_when_it_cannot() {
    let (pubsub, store) = logged();
    let ann = Member::join(&pubsub, "log:a").await;
    (1..=10).for_each(|n| ann.shout(&pubsub, n).expect("room in the store"));
    store.commit();
    let after = |last_seen| {
        let member = resume(&pubsub, last_seen).expect("all is in memory");
        (member.backlog.resumed, member.history())
    };
    assert_eq!(after(id(4)), (true, vec![5, 6, 7, 8, 9, 10]));
    assert_eq!(after(id(10)), (true, vec![]));
    assert_eq!(after(id(0)), (true, (1..=10).collect()));
    let history = (false, vec![8, 9, 10]);
    assert_eq!(after(id(11)), history, "that was never given");
    let elsewhere = MessageId::new(Epoch::new(1), Seq::new(4));
    assert_eq!(after(elsewhere), history, "another epoch");
    pubsub.pruned("log:a", Seq::new(5));
    assert_eq!(after(id(4)), history, "retention has made a gap");
    assert_eq!(after(id(5)), (true, vec![6, 7, 8, 9, 10]));
}

#[actix_rt::test]
async fn a_resume_beyond_its_limit_gets_the_history() {
    let store = Arc::new(Memory::default());
    let pubsub = PubSub::with_logs(vec![rule(&store).resume_limit(5)]);
    let ann = Member::join(&pubsub, "log:a").await;
    (1..=10).for_each(|n| ann.shout(&pubsub, n).expect("room in the store"));
    let resumed = |seq| resume(&pubsub, id(seq)).map(|member| member.backlog.resumed);
    assert_eq!((resumed(4), resumed(5)), (Some(false), Some(true)));
}

#[actix_rt::test]
async fn a_resume_below_the_floor_reads_the_database_and_meets_the_tail() {
    let (pubsub, store) = logged();
    let ann = Member::join(&pubsub, "log:a").await;
    (1..=10).for_each(|n| ann.shout(&pubsub, n).expect("room in the store"));
    store.commit();
    // After a restart three are in memory.
    let restarted = PubSub::with_logs(vec![rule(&store)]);
    let bob = Member::join(&restarted, "log:a").await;
    bob.shout(&restarted, 11).expect("room in the store");
    assert!(resume(&restarted, id(4)).is_none());
    let topic = restarted.topic("log:a");
    let Err(pager) = topic.lock().backlog(Want::Resume(id(4), None)) else {
        panic!("it begins in the database");
    };
    let page = pager.page(Seq::new(4)).await.expect("the store answers");
    let read: Vec<i64> = page.iter().map(|entry| entry.seq().get()).collect();
    assert_eq!((read, pager.floor()), ((5..=10).collect(), Seq::new(7)));
    let carl = resume(&restarted, id(10)).expect("the tail begins at 8");
    assert_eq!((carl.backlog.resumed, carl.history()), (true, vec![11]));
}

#[actix_rt::test]
async fn where_all_tails_are_too_large_a_history_is_read_again() {
    let (pubsub, store) = logged();
    let ann = Member::join(&pubsub, "log:a").await;
    let others = crate::log::crowd();
    let large = |n: u64| {
        let payload = json!({"n": n, "text": "x".repeat(10_000)});
        Draft::new("shout", payload)
    };
    for n in 1..=4 {
        ann.publish(&pubsub, &large(n)).expect("room in the store");
        store.commit();
    }
    let topic = pubsub.topic("log:a");
    assert!(topic.lock().log_bytes() < 30_000, "it was made smaller");
    let want = Want::History(None);
    assert!(
        topic.lock().must_load(want),
        "not with less than the history"
    );
    assert!(!topic.lock().must_load(Want::Nothing));
    assert_eq!(Member::join(&pubsub, "log:a").await.history(), [2, 3, 4]);
    // A resume from what is in memory needs no database.
    ann.publish(&pubsub, &large(5)).expect("room in the store");
    let resumed = resume(&pubsub, id(4));
    assert_eq!(resumed.map(|member| member.history()), Some(vec![5]));
    drop(others);
}

#[actix_rt::test]
async fn a_log_that_could_not_be_read_does_with_what_comes_and_is_filled_later() {
    let (pubsub, store) = logged();
    let ann = Member::join(&pubsub, "log:a").await;
    for n in 1..=3 {
        let draft = shout(n).client_ref(format!("ref-{n}"));
        pubsub.publish("log:a", &draft).await.expect("room for it");
    }
    drop(ann);
    store.commit();
    let restarted = PubSub::with_logs(vec![rule(&store)]);
    store.away.store(true, Ordering::Relaxed);
    let bob = Member::join(&restarted, "log:a").await;
    assert_eq!(bob.history(), [0; 0]);
    bob.shout(&restarted, 4).expect("room in the store");
    let delete = restarted.publish("log:a", &Draft::delete(id(2))).await;
    delete.expect("room for it");
    let carl = Member::join(&restarted, "log:a").await;
    assert_eq!(carl.history(), [4]);
    store.away.store(false, Ordering::Relaxed);
    let dora = Member::join(&restarted, "log:a").await;
    assert_eq!(dora.history(), [1, 3, 4]);
    let again = restarted
        .publish("log:a", &shout(3).client_ref("ref-3"))
        .await;
    assert!(
        again.expect("room for it").duplicate,
        "client_refs are read, too"
    );
    let all = resume(&restarted, id(0)).expect("all is in memory");
    assert!(all.backlog.resumed);
}

#[actix_rt::test]
async fn a_strict_log_shows_nothing_that_is_not_committed() {
    let store = Arc::new(Memory::default());
    let pubsub = PubSub::with_logs(vec![rule(&store).strict(true)]);
    let ann = Member::join(&pubsub, "log:a").await;
    ann.shout(&pubsub, 1).expect("room in the store");
    ann.shout(&pubsub, 2).expect("room in the store");
    let bob = Member::subscribe(&pubsub, "log:a");
    assert_eq!((ann.live(), bob.history()), (vec![], vec![]));
    let rows = store.take();
    rows[0].committed();
    actix_rt::task::yield_now().await;
    assert_eq!((ann.live(), bob.live()), (vec![1], vec![1]));
    assert_eq!(Member::subscribe(&pubsub, "log:a").history(), [1]);
    rows[1].rejected();
    ann.shout(&pubsub, 3).expect("room in the store");
    store.commit();
    actix_rt::task::yield_now().await;
    assert_eq!((ann.live(), bob.live()), (vec![3], vec![3]));
    assert_eq!(Member::subscribe(&pubsub, "log:a").history(), [1, 3]);
}

#[actix_rt::test]
async fn a_retry_is_not_sent_again_and_gets_the_first_ones_answer() {
    let (pubsub, store) = logged();
    let ann = Member::join(&pubsub, "log:a").await;
    let draft = shout(1).client_ref("c1");
    let first = ann.publish(&pubsub, &draft).expect("room in the store");
    let retry = ann.publish(&pubsub, &draft).expect("known");
    assert_eq!((first.duplicate, retry.duplicate), (false, true));
    assert_eq!((first.id, retry.id), (Some(id(1)), Some(id(1))));
    let mut waits = Box::pin(retry.receipt.expect("there").committed());
    assert!((&mut waits).now_or_never().is_none(), "not committed yet");
    store.commit();
    let stored = |duplicate| Stored {
        id: id(1),
        duplicate,
    };
    assert_eq!(waits.await, Ok(stored(true)));
    let first = first.receipt.expect("there").committed().await;
    assert_eq!(first, Ok(stored(false)));
    assert_eq!(ann.live(), [1]);

    let restarted = PubSub::with_logs(vec![rule(&store)]);
    let bob = Member::join(&restarted, "log:a").await;
    let again = bob.publish(&restarted, &draft).expect("known");
    let again = again.receipt.expect("there").committed().await;
    assert_eq!((again, bob.live()), (Ok(stored(true)), vec![]));
}

#[actix_rt::test]
async fn a_rejected_message_may_be_tried_again_and_leaves_the_history() {
    let (pubsub, store) = logged();
    let ann = Member::join(&pubsub, "log:a").await;
    let draft = shout(1).client_ref("c1");
    let first = ann.publish(&pubsub, &draft).expect("room in the store");
    store.take()[0].rejected();
    let first = first.receipt.expect("there").committed().await;
    assert_eq!(first, Err(NotStored::Rejected));
    assert!(Member::subscribe(&pubsub, "log:a").history().is_empty());
    let second = ann.publish(&pubsub, &draft).expect("room in the store");
    assert_eq!((second.duplicate, second.id), (false, Some(id(2))));
}

#[actix_rt::test]
async fn the_database_may_know_a_retry_that_memory_has_forgotten() {
    let (pubsub, store) = logged();
    let ann = Member::join(&pubsub, "log:a").await;
    let draft = shout(1).client_ref("c1");
    let retry = ann.publish(&pubsub, &draft).expect("room in the store");
    store.take()[0].duplicate_of(Seq::ZERO);
    let first = Stored {
        id: id(0),
        duplicate: true,
    };
    let retry = retry.receipt.expect("there").committed().await;
    assert_eq!(retry, Ok(first));
    assert!(Member::subscribe(&pubsub, "log:a").history().is_empty());
}

#[actix_rt::test]
async fn changes_are_messages_and_histories_show_what_they_made() {
    let (pubsub, store) = logged();
    let ann = Member::join(&pubsub, "log:a").await;
    (1..=3).for_each(|n| ann.shout(&pubsub, n).expect("room in the store"));
    let update = Draft::update(id(2), &RawJson::from(json!({"n": 20})));
    ann.publish(&pubsub, &update).expect("room in the store");
    ann.publish(&pubsub, &Draft::delete(id(3)))
        .expect("room in the store");
    let bob = Member::subscribe(&pubsub, "log:a");
    let texts = bob.backlog.entries.iter();
    let texts: Vec<&str> = texts.map(|entry| entry.payload().get()).collect();
    assert_eq!(texts, [r#"{"n":1}"#, r#"{"n":20}"#]);
    let carl = resume(&pubsub, id(2)).expect("all is in memory");
    assert_eq!(carl.history(), [4, 5], "an update and a deletion");
    let live: Vec<_> = ann.payloads().into_iter().map(without_time).collect();
    assert_eq!(
        live[3..],
        [
            json!({"id": "e-2", "payload": {"n": 20}, "_meta": {"id": "e-4"}}),
            json!({"id": "e-3", "_meta": {"id": "e-5"}}),
        ]
    );
    store.commit();
}

/// A payload whose `_meta` names the time of its publication; the time taken out.
fn without_time(mut payload: Value) -> Value {
    let meta = payload["_meta"].as_object_mut().expect("there");
    let at = meta.remove("at").expect("there");
    let at = DateTime::parse_from_rfc3339(at.as_str().expect("text")).expect("a time");
    let age = Utc::now().signed_duration_since(at).num_seconds();
    assert!((0..60).contains(&age), "published {age} s ago");
    payload
}

#[actix_rt::test]
async fn older_messages_come_from_memory_and_then_from_the_store() {
    let (pubsub, store) = logged();
    let row = |seq: i64| StoredEntry {
        seq: Seq::new(seq),
        event: "shout".to_owned(),
        payload: json!({ "n": seq }).to_string(),
        target: None,
        at: SystemTime::now(),
        client_ref: None,
    };
    lock(&store.committed).extend((1..=6).map(row));
    let ann = Member::join(&pubsub, "log:a").await;
    (7..=8).for_each(|n| ann.shout(&pubsub, n).expect("room in the store"));
    let seqs = async |before, limit| {
        let page = pubsub.before("log:a", before, limit).await.expect("read");
        page.map(|page| {
            page.iter()
                .map(|entry| entry.seq().get())
                .collect::<Vec<_>>()
        })
    };
    assert_eq!(seqs(id(9), 1).await, Some(vec![8]));
    assert_eq!(seqs(id(8), 3).await, Some(vec![5, 6, 7]), "all in the tail");
    assert_eq!(
        seqs(id(7), 4).await,
        Some(vec![3, 4, 5, 6]),
        "half in the tail"
    );
    assert_eq!(seqs(id(3), 5).await, Some(vec![1, 2]));
    assert_eq!(seqs(id(1), 5).await, Some(vec![]));
    let other_run = MessageId::new(Epoch::new(1), Seq::new(9));
    assert_eq!(seqs(other_run, 5).await, None);
    assert_eq!(
        pubsub
            .before("quiet", id(1), 5)
            .await
            .expect("read")
            .map(drop),
        None
    );
    let deletion = Draft::delete(id(5));
    ann.publish(&pubsub, &deletion).expect("room in the store");
    assert_eq!(
        seqs(id(8), 3).await.map(|page| page.contains(&5)),
        Some(false)
    );
}

#[actix_rt::test]
async fn nobody_can_forge_the_id_of_a_message() {
    let (pubsub, _store) = logged();
    let ann = Member::join(&pubsub, "log:a").await;
    for event in ["shout", "typing"] {
        let forged = json!({"_meta": {"id": "e-99"}});
        ann.publish(&pubsub, &Draft::new(event, forged))
            .expect("room in the store");
    }
    let ids: Vec<Value> = ann
        .payloads()
        .into_iter()
        .map(|mut payload| payload["_meta"]["id"].take())
        .collect();
    assert_eq!(
        ids,
        [json!("e-1"), Value::Null],
        "the last of two members counts"
    );
}

#[actix_rt::test]
async fn changes_need_a_log_and_refs_have_a_bound() {
    let pubsub = PubSub::new();
    let ann = Member::join(&pubsub, "room").await;
    let deleted = ann.publish(&pubsub, &Draft::delete(id(1))).map(drop);
    assert_eq!(deleted, Err(PublishError::NoLog));
    let long = shout(1).client_ref("c".repeat(65));
    let refused = ann.publish(&pubsub, &long).map(drop);
    assert_eq!(refused, Err(PublishError::ClientRefTooLong));
    let nul = shout(1).client_ref("c\0");
    let refused = ann.publish(&pubsub, &nul).map(drop);
    assert_eq!(refused, Err(PublishError::NulInClientRef));
}

#[actix_rt::test]
async fn a_topic_with_nul_keeps_nothing() {
    let (pubsub, _) = logged();
    let refused = pubsub.publish("log:\0", &shout(1)).await.map(drop);
    assert_eq!(refused, Err(PublishError::NulInTopic));
    let erasure = pubsub
        .begin_erasure("log:\0")
        .await
        .expect("nothing to load");
    assert!(erasure.is_none());
    let found = pubsub.find("log:\0", id(1)).await.expect("nothing to load");
    assert!(found.is_none());
    assert!(pubsub.topics().is_empty(), "nothing is opened");
    // Where nothing is kept a name is a name.
    let published = pubsub.publish("live:\0", &shout(1)).await;
    assert!(published.is_ok());
}

#[actix_rt::test]
async fn the_end_of_a_server_closes_its_logs_once() {
    let (pubsub, store) = logged();
    let ann = Member::join(&pubsub, "log:a").await;
    ann.shout(&pubsub, 1).expect("room in the store");
    pubsub.close_logs();
    pubsub.close_logs();
    assert_eq!(*lock(&store.closed), [Seq::new(1)]);
}

#[actix_rt::test]
async fn an_erasure_ends_every_resume_from_before_it() {
    let (pubsub, store) = logged();
    let ann = Member::join(&pubsub, "log:a").await;
    (1..=3).for_each(|n| ann.shout(&pubsub, n).expect("room in the store"));
    let erasure = pubsub.begin_erasure("log:a").await.expect("it loads");
    let erasure = erasure.expect("it has a log");
    assert_eq!(erasure.through(), Seq::new(4));
    ann.shout(&pubsub, 5).expect("room in the store");
    assert!(erasure.settled().now_or_never().is_none());
    store.commit();
    erasure.settled().await;
    erasure.deleted(&[1, 3].map(Seq::new));
    let after = |seq| {
        let member = resume(&pubsub, id(seq)).expect("all is in memory");
        (member.backlog.resumed, member.history())
    };
    for seen in 0..=3 {
        assert_eq!(after(seen), (false, vec![2, 5]), "{seen}");
    }
    assert_eq!(after(4), (true, vec![5]));
    assert_eq!(after(5), (true, vec![]));
}
