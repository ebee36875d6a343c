//! The store behind its port: a `PubSub` in this process, a `DbWriter`, and what the table says.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use slackir::log::{
    Flushed, LogRule, MessageId, MessageStore, NotStored, Seq, Stored, StoredEntry,
};
use slackir::pubsub::{Draft, PubSub, Published};
use slackir::store::{DbWriter, DbWriterHandle, Store, StoreOptions, WriterOptions};
use slackir::testing::check_store;

use crate::support::database::{Database, on_each_database};
use crate::support::rooms::eventually;

const TOPIC: &str = "room:a";

on_each_database! {
    #[actix_web::test]
    a_batch_is_committed_without_the_rows_that_a_trigger_refuses,
    a_batch_is_committed_without_the_rows_that_a_constraint_refuses,
    rows_that_nobody_waits_for_are_committed_all_the_same,
    rows_that_nobody_waits_for_gather_behind_a_small_transaction,
    a_client_ref_is_stored_once_however_old_it_is,
    rows_of_another_server_cost_no_row,
    changes_change_their_target_and_are_rows_themselves,
    a_run_begins_with_its_first_message,
    a_run_that_did_not_end_in_order_is_followed_by_another,
    a_log_that_is_opened_twice_in_one_round_begins_two_runs,
    a_strict_run_needs_no_end,
    a_topic_whose_name_the_database_refuses_stops_no_other,
    a_run_without_the_database_begins_beyond_every_seq,
    histories_and_pages_have_their_bounds,
    pages_do_not_wait_for_the_writer,
    it_keeps_what_a_store_promises,
    the_database_is_free_after_the_last_handle,
}

fn writer(database: &Database, options: WriterOptions) -> DbWriterHandle {
    let (store, _) = Store::open(&database.url, StoreOptions::default()).expect("a sound database");
    DbWriter::start_on_own_thread(store, options).expect("a free connection")
}

async fn the_database_is_free_after_the_last_handle(database: Database) {
    for message in 1..=3 {
        let writer = writer(&database, WriterOptions::default());
        shout(&pubsub(&writer), json!({ "n": message })).await;
        assert_eq!(writer.flush(Duration::from_secs(5)).await, 0);
    }
    assert_eq!(database.payloads(TOPIC).len(), 3);
}

fn pubsub(writer: &DbWriterHandle) -> PubSub {
    let rule = LogRule::new("room:*", &["shout"], 50, Arc::new(writer.clone()));
    PubSub::with_logs(vec![rule])
}

async fn shout(pubsub: &PubSub, payload: Value) -> Published {
    let draft = Draft::new("shout", payload).with_receipt();
    pubsub.publish(TOPIC, &draft).await.expect("room for it")
}

async fn outcome(published: Published) -> Result<Stored, NotStored> {
    published.receipt.expect("asked for").committed().await
}

/// Ends the runs of all topics in order.
async fn saved(pubsub: &PubSub) {
    let saved = pubsub.save(Duration::from_secs(20)).await;
    assert_eq!(saved, Flushed::default());
}

async fn flushed(writer: &DbWriterHandle) {
    assert_eq!(writer.flush(Duration::from_secs(20)).await, 0);
}

/// Waits until the writer has committed everything without being asked to.
async fn committed(writer: &DbWriterHandle) {
    let committed = async {
        while writer.unsaved() > 0 {
            actix_rt::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(20), committed).await;
    assert!(in_time.is_ok(), "{} rows wait", writer.unsaved());
}

/// From now on a trigger refuses payloads with "poison".
fn poison_by_trigger(database: &Database) {
    database.execute(match database.folder() {
        "sqlite" => {
            "CREATE TRIGGER poison BEFORE INSERT ON messages WHEN NEW.payload LIKE '%poison%' \
             BEGIN SELECT RAISE(ABORT, 'no poison here'); END"
        }
        _ => {
            "CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             IF NEW.payload LIKE '%poison%' THEN RAISE EXCEPTION 'no poison here'; END IF; \
             RETURN NEW; END $$; \
             CREATE TRIGGER poison BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION poison()"
        }
    });
}

/// From now on a constraint does.
fn poison_by_check(database: &Database) {
    database.execute(match database.folder() {
        "sqlite" => {
            "ALTER TABLE messages ADD COLUMN checked INTEGER CHECK (payload NOT LIKE '%poison%')"
        }
        _ => "ALTER TABLE messages ADD CHECK (payload::text NOT LIKE '%poison%')",
    });
}

async fn a_batch_is_committed_without_the_rows_that_a_trigger_refuses(database: Database) {
    commits_all_but_the_refused(&database, poison_by_trigger).await;
}

async fn a_batch_is_committed_without_the_rows_that_a_constraint_refuses(database: Database) {
    commits_all_but_the_refused(&database, poison_by_check).await;
}

async fn commits_all_but_the_refused(database: &Database, poison: fn(&Database)) {
    let writer = writer(database, WriterOptions::default());
    let pubsub = pubsub(&writer);
    outcome(shout(&pubsub, json!({"n": 0})).await)
        .await
        .expect("stored");
    poison(database);
    // Together in one batch, because the writer has to wait.
    let blocked = database.block_writes();
    let mut published = Vec::new();
    for n in 1..=1_500 {
        let payload = if n % 400 == 0 {
            json!({"n": n, "poison": true})
        } else {
            json!({"n": n})
        };
        published.push(shout(&pubsub, payload).await);
    }
    drop(blocked);
    let mut expected = vec![json!({"n": 0})];
    for (n, published) in (1..).zip(published) {
        match outcome(published).await {
            Ok(stored) => {
                assert!(!stored.duplicate);
                expected.push(json!({"n": n}));
            }
            Err(error) => assert_eq!((error, n % 400), (NotStored::Rejected, 0), "{n}"),
        }
    }
    assert_eq!(expected.len(), 1 + 1_500 - 3);
    assert_eq!(database.payloads(TOPIC), expected);
    assert_eq!(
        database.payloads(""),
        [json!(null); 0],
        "no stand-in is left"
    );
}

/// The writer pauses behind the first of them.
async fn rows_that_nobody_waits_for_are_committed_all_the_same(database: Database) {
    let writer = writer(&database, WriterOptions::default());
    let pubsub = pubsub(&writer);
    let mut expected = Vec::new();
    for n in 0..20 {
        let payload = json!({"n": n});
        let draft = Draft::new("shout", payload.clone());
        pubsub.publish(TOPIC, &draft).await.expect("room for it");
        expected.push(payload);
        if n % 5 == 4 {
            let answered = outcome(shout(&pubsub, json!({"asked": n})).await).await;
            assert!(answered.is_ok());
            expected.push(json!({"asked": n}));
        }
    }
    let last = Draft::new("shout", json!({"last": true}));
    pubsub.publish(TOPIC, &last).await.expect("room for it");
    expected.push(json!({"last": true}));
    committed(&writer).await;
    assert_eq!(database.payloads(TOPIC), expected);
}

/// Each comes when the one before it is committed: within the writer's pause, or when that is over.
async fn rows_that_nobody_waits_for_gather_behind_a_small_transaction(database: Database) {
    const ROWS: u32 = 20;
    const PAUSE: Duration = Duration::from_millis(5);
    let writer = writer(&database, WriterOptions::default());
    let pubsub = pubsub(&writer);
    let started = Instant::now();
    for n in 0..ROWS {
        let draft = Draft::new("shout", json!({"n": n}));
        pubsub.publish(TOPIC, &draft).await.expect("room for it");
        committed(&writer).await;
    }
    assert!(started.elapsed() >= PAUSE * (ROWS - 1));
}

async fn a_client_ref_is_stored_once_however_old_it_is(database: Database) {
    let writer = writer(&database, WriterOptions::default());
    let before = pubsub(&writer);
    let draft =
        |n: u32, client_ref: &str| Draft::new("shout", json!({"n": n})).client_ref(client_ref);
    let first = before
        .publish(TOPIC, &draft(1, "a"))
        .await
        .expect("room for it");
    let first = outcome(first).await.expect("stored");
    saved(&before).await;
    // Long ago, so that the log does not know the client_ref any more.
    database.execute("UPDATE messages SET inserted_at = '2020-01-01 00:00:00'");
    let after = pubsub(&writer);
    outcome(shout(&after, json!({"n": 2})).await)
        .await
        .expect("stored");
    let blocked = database.block_writes();
    let mut published = Vec::new();
    for (n, client_ref) in [(3, "b"), (4, "a"), (5, "c")] {
        let published_one = after.publish(TOPIC, &draft(n, client_ref)).await;
        published.push(published_one.expect("room for it"));
    }
    drop(blocked);
    let mut outcomes = Vec::new();
    for published in published {
        outcomes.push(outcome(published).await.expect("stored"));
    }
    assert_eq!((outcomes[1].id, outcomes[1].duplicate), (first.id, true));
    assert!(!outcomes[0].duplicate && !outcomes[2].duplicate);
    let numbers = [1, 2, 3, 5].map(|n| json!({"n": n}));
    assert_eq!(database.payloads(TOPIC), numbers);
}

async fn rows_of_another_server_cost_no_row(database: Database) {
    let writer = writer(&database, WriterOptions::default());
    let pubsub = pubsub(&writer);
    outcome(shout(&pubsub, json!({"n": 0})).await)
        .await
        .expect("stored");
    for seq in [3, 4, 7] {
        database.execute(&format!(
            "INSERT INTO messages (topic, event, payload, seq, inserted_at, updated_at) VALUES \
             ('{TOPIC}', 'shout', '{{}}', {seq}, '2026-01-01 00:00:00', '2026-01-01 00:00:00')"
        ));
    }
    let mut published = Vec::new();
    for n in 1..=10 {
        published.push(shout(&pubsub, json!({"n": n})).await);
    }
    for published in published {
        outcome(published).await.expect("stored");
    }
    let mut numbers: Vec<_> = database
        .payloads(TOPIC)
        .iter()
        .filter_map(|payload| payload["n"].as_u64())
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..=10).collect::<Vec<_>>());
}

async fn changes_change_their_target_and_are_rows_themselves(database: Database) {
    let writer = writer(&database, WriterOptions::default());
    let pubsub = pubsub(&writer);
    let mut ids = Vec::new();
    for n in 1..=3 {
        let published = shout(&pubsub, json!({"name": "ada", "message": n.to_string()})).await;
        ids.push(published.id.expect("stored"));
    }
    let new = json!({"name": "bob", "message": "new", "colour": 1});
    let slackir::message::Payload::Json(raw) = new.clone().into() else {
        panic!("an object");
    };
    for draft in [Draft::update(ids[0], &raw), Draft::delete(ids[1])] {
        let published = pubsub.publish(TOPIC, &draft.with_receipt()).await;
        outcome(published.expect("room for it"))
            .await
            .expect("stored");
    }
    let rows = database.rows(TOPIC);
    let seqs: Vec<_> = rows.iter().map(|row| row.seq).collect();
    assert_eq!(seqs, [1, 3, 4, 5]);
    assert_eq!(
        serde_json::from_str::<Value>(&rows[0].payload).expect("JSON"),
        new
    );
    let seed = (rows[0].name.as_deref(), rows[0].message.as_deref());
    assert_eq!(seed, (Some("bob"), Some("new")));
    let page = writer
        .page(TOPIC, Seq::new(1), 10, 10_000)
        .await
        .expect("a page");
    let changes: Vec<_> = page
        .iter()
        .map(|row| (row.seq.get(), row.target.map(Seq::get), &*row.event))
        .collect();
    let expected = [
        (3, None, "shout"),
        (4, Some(1), "message_updated"),
        (5, Some(2), "message_deleted"),
    ];
    assert_eq!(changes, expected);
    // The updated one, and the one that nothing has changed.
    assert_eq!(writer.reader().count(TOPIC).await.ok(), Some(2));
}

const RUN: &str = "SELECT CASE WHEN clean THEN 'clean' ELSE 'open' END AS answer FROM topics";

async fn a_run_begins_with_its_first_message(database: Database) {
    let writer = writer(&database, WriterOptions::default());
    let pubsub = pubsub(&writer);
    let before = writer.open(TOPIC, false).await.expect("the topic opens");
    assert_eq!((before.epoch.get(), before.head.get()), (0, 0));
    assert_eq!(database.ask(RUN), [""; 0], "nothing is written");
    let first = outcome(shout(&pubsub, json!({"n": 1})).await).await;
    let first = first.expect("stored").id;
    assert_eq!(Some(first.epoch), before.next_epoch);
    assert_eq!(database.ask(RUN), ["open"]);
    saved(&pubsub).await;
    assert_eq!(database.ask(RUN), ["clean"]);
    let again = writer.open(TOPIC, false).await.expect("the topic opens");
    assert_eq!((again.epoch, again.head), (first.epoch, Seq::new(1)));
    assert_eq!(again.next_epoch, Some(first.epoch), "one run a process");
    assert_eq!(again.past.to_string(), "0-0");
}

async fn a_run_that_did_not_end_in_order_is_followed_by_another(database: Database) {
    let writer = writer(&database, WriterOptions::default());
    let first = shout(&pubsub(&writer), json!({"n": 1})).await;
    let first = outcome(first).await.expect("stored").id;
    let second = writer.open(TOPIC, false).await.expect("the topic opens");
    assert_ne!(second.epoch, first.epoch);
    assert_eq!(
        (second.head, second.next_epoch),
        (Seq::new(1 + (1 << 32)), None)
    );
    assert!(!second.past.resumes(first));
    let last = MessageId {
        epoch: second.epoch,
        seq: second.head,
    };
    writer.close(TOPIC, last);
    flushed(&writer).await;
    assert_eq!(database.ask(RUN), ["clean"]);
    let third = writer.open(TOPIC, false).await.expect("the topic opens");
    assert_eq!((third.epoch, third.head), (last.epoch, last.seq));
}

async fn a_log_that_is_opened_twice_in_one_round_begins_two_runs(database: Database) {
    let writer = writer(&database, WriterOptions::default());
    let first = shout(&pubsub(&writer), json!({"n": 1})).await;
    let first = outcome(first).await.expect("stored").id;
    let blocked = database.block_writes();
    // The first one's round is blocked, so the others are in one.
    let opens = [(); 3].map(|()| actix_web::rt::spawn(writer.open(TOPIC, false)));
    drop(blocked);
    let mut before = first;
    for open in opens {
        let opened = open.await.expect("no panic").expect("the topic opens");
        assert_eq!(opened.next_epoch, None, "it has begun: {opened:?}");
        assert!(
            opened.epoch != before.epoch && opened.head > before.seq,
            "{opened:?} after {before}"
        );
        before = MessageId {
            epoch: opened.epoch,
            seq: opened.head,
        };
    }
}

async fn a_strict_run_needs_no_end(database: Database) {
    let options = WriterOptions::default().strict(true);
    let writer = writer(&database, options);
    let store = Arc::new(writer.clone());
    let rule = LogRule::new("room:*", &["shout"], 50, store).strict(true);
    let shouted = shout(&PubSub::with_logs(vec![rule]), json!({"n": 1})).await;
    let first = outcome(shouted).await.expect("stored").id;
    let again = writer.open(TOPIC, true).await.expect("the topic opens");
    assert_eq!((again.epoch, again.head), (first.epoch, Seq::new(1)));
}

async fn a_topic_whose_name_the_database_refuses_stops_no_other(database: Database) {
    let writer = writer(&database, WriterOptions::default());
    let blocked = database.block_writes();
    let odd = writer.open("room:\0", false);
    let sound = writer.open(TOPIC, false);
    let odd = actix_web::rt::spawn(odd);
    let sound = actix_web::rt::spawn(sound);
    drop(blocked);
    sound.await.expect("no panic").expect("a sound name");
    let odd = odd.await.expect("no panic");
    assert_eq!(
        odd.is_ok(),
        database.folder() == "sqlite",
        "PostgreSQL has no NUL"
    );
}

/// An unclean end, or a clock that was put back since, may have left a topic ahead of the clock.
async fn a_run_without_the_database_begins_beyond_every_seq(database: Database) {
    const AHEAD: i64 = 9_000_000_000_000_000;
    let first = writer(&database, WriterOptions::default());
    let rooms = pubsub(&first);
    shout(&rooms, json!({"n": 1})).await;
    saved(&rooms).await;
    drop((rooms, first));
    let ahead = format!("UPDATE topics SET last_seq = {AHEAD}; UPDATE messages SET seq = {AHEAD}");
    database.execute(&ahead);
    eventually("the file is free", || {
        Store::open(&database.url, StoreOptions::default()).is_ok()
    })
    .await;
    let second = writer(&database, WriterOptions::default());
    let rooms = pubsub(&second);
    let blocked = database.block_writes();
    // Nobody waits for this one: it tells that the database is away.
    let elsewhere = second.open("room:elsewhere", false).await;
    elsewhere.expect("it opens without the database");
    let shouted = shout(&rooms, json!({"n": 2})).await.id.expect("a log");
    assert!(shouted.seq > AHEAD, "{}", shouted.seq);
    drop(blocked);
    flushed(&second).await;
    assert_eq!(database.payloads(TOPIC), [json!({"n": 1}), json!({"n": 2})]);
    let seqs = "SELECT CAST(last_seq AS text) AS answer FROM topics WHERE topic = 'room:a'";
    let last_seq: i64 = database.ask(seqs)[0].parse().expect("a number");
    assert!(last_seq >= AHEAD, "{last_seq}");
}

async fn histories_and_pages_have_their_bounds(database: Database) {
    let writer = writer(&database, WriterOptions::default());
    let pubsub = pubsub(&writer);
    let mut ids = Vec::new();
    for n in 1..=20 {
        let filler = "x".repeat(if n == 15 { 5_000 } else { 80 });
        ids.push(
            shout(&pubsub, json!({"n": n, "x": filler}))
                .await
                .id
                .expect("stored"),
        );
    }
    let raw = slackir::message::RawJson::EMPTY_OBJECT;
    let change = pubsub.publish(TOPIC, &Draft::update(ids[0], &raw)).await;
    change.expect("room for it");
    saved(&pubsub).await;
    let seqs = |rows: &[StoredEntry]| rows.iter().map(|row| row.seq).collect::<Vec<_>>();
    for (limit, bytes, expected) in [
        (3, 10_000, 18..22),
        (50, 4_000, 16..22),
        (50, 1_000_000, 1..22),
        (0, 1_000, 0..0),
    ] {
        let run = writer.open(TOPIC, true).await.expect("the topic opens");
        assert_eq!(run.head, 21);
        let newest = writer.newest(TOPIC, limit, bytes).await.expect("a history");
        let expected: Vec<_> = expected.collect();
        assert_eq!(seqs(&newest.entries), expected, "{limit} {bytes}");
    }
    for (after, limit, bytes, expected) in [
        (0, 5, 10_000, 1..6),
        (12, 50, 400, 13..15),
        (14, 50, 400, 15..16),
        (21, 50, 400, 0..0),
    ] {
        let page = writer
            .page(TOPIC, Seq::new(after), limit, bytes)
            .await
            .expect("a page");
        assert_eq!(seqs(&page), expected.collect::<Vec<_>>(), "after {after}");
    }
}

async fn pages_do_not_wait_for_the_writer(database: Database) {
    let writer = writer(&database, WriterOptions::default());
    let pubsub = pubsub(&writer);
    outcome(shout(&pubsub, json!({"n": 1})).await)
        .await
        .expect("stored");
    let blocked = database.block_writes();
    shout(&pubsub, json!({"n": 2})).await;
    let page = writer
        .page(TOPIC, Seq::ZERO, 10, 1_000)
        .await
        .expect("a page");
    assert_eq!((page.len(), writer.unsaved()), (1, 1));
    drop(blocked);
    flushed(&writer).await;
}

#[actix_web::test]
async fn the_write_ahead_log_of_sqlite_is_bounded_under_a_steady_load() {
    let database = Database::sqlite();
    let writer = writer(&database, WriterOptions::default());
    let pubsub = pubsub(&writer);
    let log = database.dir.path().join("slackir.db-wal");
    let mut longest = 0;
    for n in 0..2_000 {
        // 80 MB in all, a few rows in each transaction.
        let published = shout(&pubsub, json!({"n": n, "x": "x".repeat(40_000)})).await;
        if n % 5 == 0 {
            outcome(published).await.expect("stored");
        }
        longest = longest.max(std::fs::metadata(&log).map_or(0, |log| log.len()));
    }
    assert!(
        longest > 8_000_000,
        "it should have been long once: {longest}"
    );
    assert!(
        longest < 40_000_000,
        "it should not grow for ever: {longest}"
    );
    flushed(&writer).await;
    assert_eq!(std::fs::metadata(&log).map_or(0, |log| log.len()), 0);
}

#[actix_web::test]
async fn a_foreign_reader_of_sqlite_stops_no_commit() {
    let database = Database::sqlite();
    let writer = writer(&database, WriterOptions::default());
    let pubsub = pubsub(&writer);
    let log = database.dir.path().join("slackir.db-wal");
    let length = || std::fs::metadata(&log).map_or(0, |log| log.len());
    let payload = json!({"x": "x".repeat(400_000)});
    outcome(shout(&pubsub, payload.clone()).await)
        .await
        .expect("stored");
    let mut reader = database.connect();
    reader.execute("BEGIN; SELECT max(seq) FROM messages");
    let mut slowest = Duration::ZERO;
    while length() < 60_000_000 {
        let begun = Instant::now();
        outcome(shout(&pubsub, payload.clone()).await)
            .await
            .expect("stored");
        slowest = slowest.max(begun.elapsed());
    }
    // Without the reader a commit that meets the bound waits for a copy; with it, once at most.
    assert!(slowest < Duration::from_secs(4), "{slowest:?}");
    drop(reader);
    let begun = Instant::now();
    while length() > 8_000_000 {
        assert!(begun.elapsed() < Duration::from_secs(20), "{}", length());
        outcome(shout(&pubsub, json!({})).await)
            .await
            .expect("stored");
    }
}

async fn it_keeps_what_a_store_promises(database: Database) {
    let writer = Arc::new(writer(&database, WriterOptions::default()));
    check_store(async || writer.clone()).await;
}
