//! Everything that a name or a topic wrote is gone: from the table, from memory, from open pages, and
//! from what clients get that come back.

use serde_json::{Value, json};
use slackir::log::{MessageId, Seq};
use slackir::message::Payload;
use slackir::pubsub::Draft;
use slackir::store::{Eraser, Target};

use crate::support::api::{Program, serve};
use crate::support::database::{Database, on_each_database};
use crate::support::phoenix::Phoenix;
use crate::support::process::run;
use crate::support::rooms::Rooms;

const TOPIC: &str = "room:a";
const LOBBY: &str = "random:lobby";

on_each_database! {
    #[actix_web::test]
    what_a_name_wrote_goes_with_all_that_was_made_of_it,
    a_topic_is_erased_and_no_resume_shows_it,
    an_erasure_waits_for_what_was_published_before_it,
    strict_rooms_erase_and_go_on,
    programs_erase_and_open_pages_follow,
    the_command_erases_where_no_server_runs,
}

fn say(name: &str, n: u32) -> Value {
    json!({"name": name, "n": n})
}

fn by(name: &str, topic: Option<&str>) -> Target {
    Target::Name {
        name: name.to_owned(),
        topic: topic.map(str::to_owned),
    }
}

fn update(id: MessageId, payload: Value) -> Draft {
    match Payload::from(payload) {
        Payload::Json(payload) => Draft::update(id, &payload),
        Payload::Binary(_) => panic!("JSON"),
    }
}

/// Whether any payload or column still holds this text.
fn is_found(database: &Database, text: &str) -> bool {
    let found = database.ask(&format!(
        "SELECT payload AS answer FROM messages WHERE payload LIKE '%{text}%' OR name = '{text}'"
    ));
    !found.is_empty()
}

async fn what_a_name_wrote_goes_with_all_that_was_made_of_it(database: Database) {
    let rooms = Rooms::open(&database);
    let eraser = Eraser::new(&rooms.writer, &rooms.pubsub);
    let mut ids = Vec::new();
    for n in 1..=3_000 {
        let name = if n % 2 == 0 { "ada" } else { "bob" };
        ids.push(rooms.shout(TOPIC, say(name, n)).await);
    }
    let elsewhere = rooms.shout("room:b", say("ada", 1)).await;
    // Ada's message as an update has made it, one that she took back later, and one that became bob's.
    for draft in [
        update(ids[1], say("ada", 9_001)),
        update(ids[3], say("ada", 9_002)),
        Draft::delete(ids[3]),
        update(ids[5], say("bob", 6)),
    ] {
        rooms.pubsub.publish(TOPIC, &draft).await.expect("room");
    }
    let (mut ann, _) = rooms.join(TOPIC, json!({})).await;
    ann.next_push("messages_history").await;

    let erased = eraser.erase(&by("ada", Some(TOPIC))).await;
    assert_eq!(erased.expect("the database is there"), 1_498);
    // She is told of the newest thousand, oldest first.
    for n in (1_002..=3_000).step_by(2) {
        let id = ids[n - 1].to_string();
        assert_eq!(
            ann.next_broadcast("message_deleted").await,
            json!({ "id": id })
        );
    }
    ann.refute_broadcast("message_deleted").await;
    let names = database.ask(&format!(
        "SELECT DISTINCT name AS answer FROM messages WHERE topic = '{TOPIC}' AND name IS NOT NULL"
    ));
    assert_eq!(names, ["bob"]);
    assert!(
        !database
            .payloads(TOPIC)
            .iter()
            .any(|payload| payload["payload"]["name"] == "ada")
    );
    let odd: Vec<u32> = (2_901..=3_000).step_by(2).collect();
    assert_eq!(rooms.history(TOPIC).await, odd);
    // Also one that has seen everything.
    for last_seen in [ids[0], ids[2_900], ids[2_999]] {
        rooms
            .assert_lost(TOPIC, last_seen, odd.iter().copied())
            .await;
    }
    let next = rooms.shout(TOPIC, say("bob", 1)).await;
    rooms
        .assert_resumes(
            TOPIC,
            MessageId {
                seq: next.seq.previous(),
                ..next
            },
            [1],
        )
        .await;

    rooms.assert_resumes("room:b", elsewhere, []).await;
    let erased = eraser.erase(&by("ada", None)).await;
    assert_eq!(erased.expect("the database is there"), 1);
    assert!(!is_found(&database, "ada"));
    rooms.assert_lost("room:b", elsewhere, []).await;
    let erased = eraser.erase(&by("ada", None)).await;
    assert_eq!(erased.expect("the database is there"), 0);
    rooms.assert_resumes(TOPIC, next, []).await;
}

async fn a_topic_is_erased_and_no_resume_shows_it(database: Database) {
    let rooms = Rooms::open(&database);
    let ids = rooms.shout_numbers(TOPIC, 1..=2_500).await;
    let kept = rooms.shout_numbers("room:b", 1..=2).await;
    let eraser = Eraser::new(&rooms.writer, &rooms.pubsub);
    let erased = eraser.erase(&Target::Topic(TOPIC.to_owned())).await;
    assert_eq!(erased.expect("the database is there"), 2_500);
    assert_eq!(database.rows(TOPIC), []);
    for last_seen in [ids[0], ids[2_000], ids[2_499]] {
        rooms.assert_lost(TOPIC, last_seen, []).await;
    }
    rooms.assert_resumes("room:b", kept[0], [2]).await;
    let next = rooms.shout_numbers(TOPIC, [7]).await;
    assert!(next[0].seq > 2_501, "its own seq stands between");

    // And over a restart.
    rooms.save().await;
    let again = Rooms::over(rooms.writer.clone(), false);
    again.assert_lost(TOPIC, ids[2_499], [7]).await;
    again.assert_resumes(TOPIC, next[0], []).await;
}

async fn an_erasure_waits_for_what_was_published_before_it(database: Database) {
    let rooms = Rooms::open(&database);
    rooms.shout_numbers(TOPIC, 1..=3).await;
    rooms.shout_numbers("room:b", [4]).await;
    let blocked = database.block_writes();
    rooms.shout(TOPIC, json!({"n": 4})).await;
    rooms.shout("room:b", say("ada", 5)).await;
    let eraser = Eraser::new(&rooms.writer, &rooms.pubsub);
    let topic = Target::Topic(TOPIC.to_owned());
    let name = by("ada", None);
    let (both, ()) = tokio::join!(
        async { (eraser.erase(&topic).await, eraser.erase(&name).await) },
        async {
            assert_eq!(rooms.history(TOPIC).await, [1, 2, 3, 4]);
            drop(blocked);
        }
    );
    assert_eq!(both.0.expect("the database is back"), 4);
    assert_eq!(both.1.expect("the database is back"), 1);
    assert_eq!(database.rows(TOPIC), []);
    assert_eq!(database.payloads("room:b"), [json!({"n": 4})]);
}

async fn strict_rooms_erase_and_go_on(database: Database) {
    let rooms = Rooms::open_as(&database, true);
    let ids = rooms.shout_numbers(TOPIC, 1..=20).await;
    let eraser = Eraser::new(&rooms.writer, &rooms.pubsub);
    let erased = eraser.erase(&Target::Topic(TOPIC.to_owned())).await;
    assert_eq!(erased.expect("the database is there"), 20);
    rooms.assert_lost(TOPIC, ids[19], []).await;
    // After an unclean end the run goes on, and gives no seq again: not even that of the erasure.
    let again = Rooms::over(rooms.writer.clone(), true);
    let next = again.shout_numbers(TOPIC, [21]).await;
    assert_eq!(next[0], MessageId::new(ids[0].epoch, Seq::new(22)));
    again.assert_lost(TOPIC, ids[19], [21]).await;
    again
        .assert_resumes(TOPIC, MessageId::new(ids[0].epoch, Seq::new(21)), [21])
        .await;
}

async fn programs_erase_and_open_pages_follow(database: Database) {
    let server = serve(&database, &[]);
    let program = Program::of(&server).await;
    let messages = "/api/topics/random:lobby/messages";
    let mut ids = Vec::new();
    for n in 1..=4 {
        let name = if n % 2 == 0 { "ada" } else { "bob" };
        let body = json!({"payload": say(name, n)});
        let (status, created) = program.ask("POST", messages, &body).await;
        assert_eq!(status, 201);
        ids.push(created["id"].clone());
    }
    let mut ann = Phoenix::connect(server.addr).await;
    ann.join(LOBBY).await;
    ann.next_event().await;
    let erase = async |target: &str| program.ask("DELETE", target, &Value::Null).await;
    let by_ada = format!("{messages}?name=ada");
    assert_eq!(erase(&by_ada).await, (200, json!({"erased": 2})));
    for id in [&ids[1], &ids[3]] {
        let told = ("message_deleted".to_owned(), json!({ "id": id }));
        assert_eq!(ann.next_event().await, told);
    }
    assert_eq!(erase(&by_ada).await, (200, json!({"erased": 0})));
    let page = program.get(messages).await;
    let left = page["messages"].as_array().expect("a list").iter();
    let left: Vec<_> = left.map(|message| message["id"].clone()).collect();
    assert_eq!(left, [ids[0].clone(), ids[2].clone()]);
    let everywhere = "/api/messages?name=bob";
    assert_eq!(erase(everywhere).await, (200, json!({"erased": 2})));
    assert_eq!(erase(messages).await, (200, json!({"erased": 0})));
    assert_eq!(database.rows(LOBBY), []);

    // A page that comes back, having seen everything.
    let mut bob = Phoenix::connect(server.addr).await;
    let join_ref = bob.send_join(LOBBY, json!({"last_seen_id": ids[3]})).await;
    let reply = bob.reply_to(&join_ref).await;
    assert_eq!(reply["response"]["recovered"], false);
    let history = ("messages_history".to_owned(), json!({"messages": []}));
    assert_eq!(bob.next_event().await, history);
}

async fn the_command_erases_where_no_server_runs(database: Database) {
    let rooms = Rooms::open(&database);
    let ids = rooms.shout_numbers(TOPIC, 1..=1_500).await;
    for topic in ["room:b", "room:c"] {
        rooms.shout(topic, say("ada", 1)).await;
        rooms.shout(topic, say("bob", 2)).await;
    }
    rooms.committed().await;
    let erase = |args: &[&str]| {
        let args = [&["erase", "--database-url", &database.url], args].concat();
        let output = run(&args, database.dir.path());
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        let errors = String::from_utf8(output.stderr).expect("UTF-8");
        (output.status.code(), text, errors)
    };
    if database.folder() == "sqlite" {
        let (code, _, errors) = erase(&["--name", "ada"]);
        assert_eq!(code, Some(1));
        assert!(errors.contains("in use by another slackir"), "{errors}");
    }
    rooms.end(&database).await;

    let said = |args: &[&str]| {
        let (code, text, errors) = erase(args);
        assert_eq!(code, Some(0), "{errors}");
        text
    };
    let dry = ["--name", "ada", "--dry-run"];
    assert_eq!(said(&dry), "Would erase 2 messages.\n");
    assert_eq!(
        said(&["--name", "ada", "--topic", "room:b"]),
        "Erased 1 message.\n"
    );
    assert_eq!(said(&["--name", "ada"]), "Erased 1 message.\n");
    assert_eq!(said(&dry), "Would erase 0 messages.\n");
    assert_eq!(said(&["--topic", TOPIC]), "Erased 1500 messages.\n");
    let (code, ..) = erase(&[]);
    assert_eq!(code, Some(2), "nothing is erased by accident");
    let left = database.ask("SELECT topic AS answer FROM messages ORDER BY topic");
    assert_eq!(left, ["room:b", "room:c"]);

    let rooms = Rooms::open(&database);
    rooms.assert_lost(TOPIC, ids[1_499], []).await;
    let next = rooms.shout(TOPIC, json!({})).await;
    assert_eq!(next.seq, 1_502, "no seq is given again");
}
