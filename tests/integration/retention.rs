//! What rooms no longer keep: gone from the table, from histories and from resumes.

use std::time::Duration;

use serde_json::json;
use slackir::log::{MessageId, Seq};
use slackir::pattern::TopicPattern;
use slackir::pubsub::Draft;
use slackir::store::{Retention, RetentionRule};

use crate::support::database::{Database, on_each_database};
use crate::support::phoenix::Phoenix;
use crate::support::rooms::{Rooms, eventually};
use crate::support::wire::http;

const TOPIC: &str = "room:a";
/// Between two runs.
const OFTEN: Duration = Duration::from_millis(10);
const HOUR: Duration = Duration::from_secs(3_600);

on_each_database! {
    #[actix_web::test]
    the_oldest_of_too_many_go_and_resumes_know_it,
    a_resume_that_is_overtaken_is_not_said_to_be_whole,
    what_is_too_old_goes_and_the_first_pattern_counts,
    what_waits_for_the_database_is_not_pruned,
    no_seq_is_given_twice_when_every_row_is_gone,
    a_client_ref_is_free_again_when_its_message_is_pruned,
    a_server_forgets_as_its_file_says,
    other_rules_hold_from_the_next_run_on,
}

fn rule(topics: &str, max_age: Option<Duration>, max_messages: Option<u32>) -> RetentionRule {
    let mut rule = RetentionRule::new(TopicPattern::new(topics));
    (rule.max_age, rule.max_messages) = (max_age, max_messages);
    rule
}

fn retention(rooms: &Rooms, rules: Vec<RetentionRule>) -> Retention {
    Retention::new(&rooms.writer, &rooms.pubsub, rules).every(OFTEN)
}

fn seqs(database: &Database, topic: &str) -> Vec<i64> {
    database.rows(topic).iter().map(|row| row.seq).collect()
}

/// Makes the rows of a topic up to this seq a day old.
fn age(database: &Database, topic: &str, through: i64) {
    let day = match database.folder() {
        "sqlite" => "datetime('now', '-1 day')",
        _ => "(now() AT TIME ZONE 'utc') - interval '1 day'",
    };
    database.execute(&format!(
        "UPDATE messages SET inserted_at = {day} WHERE topic = '{topic}' AND seq <= {through}"
    ));
}

fn pruned_through(database: &Database, topic: &str) -> Vec<String> {
    database.ask(&format!(
        "SELECT CAST(pruned_through AS TEXT) AS answer FROM topics WHERE topic = '{topic}'"
    ))
}

async fn the_oldest_of_too_many_go_and_resumes_know_it(database: Database) {
    let rooms = Rooms::open(&database);
    // Several transactions' worth, most of them below what is in memory.
    let ids = rooms.shout_numbers(TOPIC, 1..=2_500).await;
    // Changes do not count as messages, and one that stands before the last message to go, goes.
    let change = Draft::delete(ids[2_499]);
    rooms.pubsub.publish(TOPIC, &change).await.expect("room");
    let kept: Vec<_> = (2_490..=2_499).chain([2_501]).collect();
    rooms.committed().await;
    let rules = vec![rule("room:*", None, Some(10))];
    let task = retention(&rooms, rules).start();
    eventually("ten messages are left", || seqs(&database, TOPIC) == kept).await;
    assert_eq!(pruned_through(&database, TOPIC), ["2489"]);

    rooms.assert_lost(TOPIC, ids[0], 2_490..=2_499).await;
    rooms.assert_lost(TOPIC, ids[2_487], 2_490..=2_499).await;
    let missed = 2_490..=2_499;
    rooms.assert_resumes(TOPIC, ids[2_488], missed).await;

    // It goes on with what comes.
    rooms.shout_numbers(TOPIC, 1..=10).await;
    // The deletion stands between the last message that goes and the first that stays.
    let kept: Vec<_> = (2_501..=2_511).collect();
    eventually("ten are left", || seqs(&database, TOPIC) == kept).await;
    // And over a restart.
    drop(task);
    rooms.save().await;
    let again = Rooms::over(rooms.writer.clone(), false);
    again.assert_lost(TOPIC, ids[2_488], 1..=10).await;
}

async fn a_resume_that_is_overtaken_is_not_said_to_be_whole(database: Database) {
    let rooms = Rooms::open(&database);
    let mut ids = Vec::new();
    for n in 1..=3_000 {
        let payload = json!({"n": n, "long": "x".repeat(1_000)});
        ids.push(rooms.shout(TOPIC, payload).await);
    }
    rooms.committed().await;
    // With the next message memory lets go of what is committed.
    rooms.shout_numbers(TOPIC, [3_001]).await;
    // He reads nothing yet: most of what he has missed is still in the database when it goes.
    let params = json!({ "last_seen_id": ids[9].to_string() });
    let (mut bob, reply) = rooms.join(TOPIC, params).await;
    assert_eq!(reply["recovered"], true);
    let _task = retention(&rooms, vec![rule("room:*", None, Some(10))]).start();
    eventually("ten are left", || seqs(&database, TOPIC).len() == 10).await;
    // So he comes back, and is told.
    bob.assert_crashed(TOPIC).await;
    rooms.assert_lost(TOPIC, ids[500], 2_992..=3_001).await;
}

async fn what_is_too_old_goes_and_the_first_pattern_counts(database: Database) {
    let rooms = Rooms::open(&database);
    let mut ids: Vec<MessageId> = Vec::new();
    for topic in [TOPIC, "room:keep", "room:count"] {
        ids = rooms.shout_numbers(topic, 1..=1_500).await;
        age(&database, topic, 1_200);
    }
    // Never opened by this server.
    database.execute(
        "INSERT INTO messages (topic, event, payload, seq, inserted_at, updated_at) VALUES \
         ('room:old', 'shout', '{}', 7, '2020-01-01 00:00:00', '2020-01-01 00:00:00')",
    );
    let _task = retention(
        &rooms,
        vec![
            rule("room:keep", None, None),
            rule("room:count", Some(HOUR), Some(100)),
            rule("room:*", Some(HOUR), Some(100_000)),
        ],
    )
    .start();
    for (topic, first) in [(TOPIC, 1_201), ("room:count", 1_401)] {
        let kept: Vec<_> = (first..=1_500).collect();
        eventually(topic, || seqs(&database, topic) == kept).await;
    }
    eventually("room:old", || seqs(&database, "room:old").is_empty()).await;
    assert_eq!(seqs(&database, "room:keep").len(), 1_500);
    rooms
        .assert_lost("room:count", ids[1_398], 1_451..=1_500)
        .await;
    rooms
        .assert_resumes("room:count", ids[1_399], 1_401..=1_500)
        .await;
    // Its seqs go on behind those that are gone.
    let id = rooms.shout("room:old", json!({})).await;
    assert_eq!(id.seq, 8);
}

async fn what_waits_for_the_database_is_not_pruned(database: Database) {
    let rooms = Rooms::open(&database);
    rooms.shout_numbers(TOPIC, 1..=20).await;
    let blocked = database.block_writes();
    for n in 21..=40 {
        rooms.shout(TOPIC, json!({ "n": n })).await;
    }
    let _task = retention(&rooms, vec![rule("room:*", None, Some(5))]).start();
    // Pruned by what is committed, the newest five of which are 16 to 20.
    let kept: Vec<_> = (16..=40).collect();
    let waiting = async { while rooms.history(TOPIC).await != kept {} };
    let pruned = tokio::time::timeout(Duration::from_secs(20), waiting).await;
    pruned.expect("memory lets go of what is to be deleted, and of nothing else");
    drop(blocked);
    eventually("the newest are left", || {
        let payloads = database.payloads(TOPIC);
        payloads.len() == 5 && payloads[4] == json!({"n": 40})
    })
    .await;
}

async fn no_seq_is_given_twice_when_every_row_is_gone(database: Database) {
    // A strict server's run goes on after an unclean end.
    let rooms = Rooms::open_as(&database, true);
    let ids = rooms.shout_numbers(TOPIC, 1..=20).await;
    age(&database, TOPIC, 20);
    let task = retention(&rooms, vec![rule("room:*", Some(HOUR), None)]).start();
    eventually("nothing is left", || seqs(&database, TOPIC).is_empty()).await;
    drop(task);
    // The logs are not closed.
    let again = Rooms::over(rooms.writer.clone(), true);
    let next = again.shout_numbers(TOPIC, 21..=22).await;
    assert_eq!((next[0].epoch, next[0].seq), (ids[0].epoch, Seq::new(21)));
    again.assert_lost(TOPIC, ids[18], 21..=22).await;
    again.assert_resumes(TOPIC, ids[19], 21..=22).await;
}

async fn a_client_ref_is_free_again_when_its_message_is_pruned(database: Database) {
    let rooms = Rooms::open(&database);
    let draft = Draft::new("shout", json!({"n": 1})).client_ref("a");
    let first = rooms.pubsub.publish(TOPIC, &draft).await.expect("room");
    rooms.shout_numbers(TOPIC, 2..=3).await;
    age(&database, TOPIC, 2);
    let task = retention(&rooms, vec![rule("room:*", None, Some(1))]).start();
    eventually("one is left", || seqs(&database, TOPIC) == [3]).await;
    drop(task);
    let retry = rooms.pubsub.publish(TOPIC, &draft).await.expect("room");
    assert!(retry.duplicate, "the log still knows it");
    assert_eq!(retry.id, first.id);
    rooms.save().await;
    let again = Rooms::over(rooms.writer.clone(), false);
    let anew = again.pubsub.publish(TOPIC, &draft).await.expect("room");
    assert_eq!(
        (anew.duplicate, anew.id.map(|id| id.seq)),
        (false, Some(Seq::new(4)))
    );
    let stored = anew.receipt.expect("it has a client_ref").committed().await;
    assert!(stored.is_ok_and(|stored| !stored.duplicate));
}

async fn a_server_forgets_as_its_file_says(database: Database) {
    let lobby = "random:lobby";
    let server = database.serve(&[]);
    let mut ann = Phoenix::connect(server.addr).await;
    let (join_ref, _) = ann.join(lobby).await;
    ann.next_event().await;
    for n in 1..=5 {
        ann.push(&join_ref, lobby, "shout", json!({ "n": n })).await;
        ann.next_event().await;
    }
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0));
    assert_eq!(seqs(&database, lobby).len(), 5);
    let file = database.dir.path().join("slackir.toml");
    let text =
        "[[rooms]]\ntopics = \"random:*\"\nretention = { max_messages = 2, max_age = \"1d\" }";
    std::fs::write(&file, text).expect("writable");
    let server = database.serve(&["--config", "slackir.toml"]);
    eventually("two are left", || seqs(&database, lobby) == [4, 5]).await;
    // Counted after they are gone.
    let counted = async {
        loop {
            let metrics = http(server.addr, "GET", "/metrics", &[], b"").await;
            let metrics = String::from_utf8(metrics.expect("an answer").body).expect("UTF-8");
            if metrics.contains("slackir_rows_pruned_total 3") {
                return;
            }
        }
    };
    let counted = tokio::time::timeout(Duration::from_secs(20), counted).await;
    counted.expect("three rows are counted");
}

async fn other_rules_hold_from_the_next_run_on(database: Database) {
    let rooms = Rooms::open(&database);
    rooms.shout_numbers(TOPIC, 1..=100).await;
    rooms.committed().await;
    let retention = retention(&rooms, Vec::new());
    let rules = retention.rules();
    let task = retention.start();
    rules.set(vec![rule("room:*", None, Some(50))]);
    let kept: Vec<_> = (51..=100).collect();
    eventually("fifty messages are left", || seqs(&database, TOPIC) == kept).await;
    rules.set(vec![rule("room:*", None, Some(5))]);
    let kept: Vec<_> = (96..=100).collect();
    eventually("five messages are left", || seqs(&database, TOPIC) == kept).await;
    drop(task);
}
