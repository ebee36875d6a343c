//! `slackir export` and `slackir import`: what is written down comes back, in either database.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use slackir::log::{Epoch, MessageId, Seq};
use slackir::pubsub::Draft;

use crate::support::database::{Database, on_each_database};
use crate::support::phoenix::Phoenix;
use crate::support::process::{program, run};
use crate::support::rooms::Rooms;

const TOPIC: &str = "room:a";
const HEADER: &str = "{\"slackir_export\":1}\n";
const AT: &str = "\"2026-01-02T03:04:05.000006Z\"";

on_each_database! {
    #[actix_web::test]
    an_export_comes_back_byte_by_byte_in_either_database,
    an_import_again_skips_what_is_there,
    other_contents_are_refused_or_appended,
    nobody_resumes_before_the_last_line_is_in,
    what_was_removed_comes_back_only_when_it_is_asked_for,
    a_bad_line_is_named_and_those_before_it_stay,
    a_running_server_can_be_exported,
    a_database_that_is_none_is_not_exported,
}

fn one_of_each() -> Vec<Database> {
    vec![
        Database::sqlite(),
        #[cfg(feature = "postgres")]
        Database::postgres(),
    ]
}

/// Runs a command on this database; its exit code, what it wrote, and what it said.
fn slackir(database: &Database, args: &[&str]) -> (Option<i32>, Vec<u8>, String) {
    let (command, rest) = args.split_first().expect("a command");
    let args = [&[command, "--database-url", &database.url], rest].concat();
    let output = run(&args, database.dir.path());
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    (output.status.code(), output.stdout, said)
}

fn export(database: &Database, args: &[&str]) -> String {
    let (code, lines, said) = slackir(database, &[&["export"], args].concat());
    assert_eq!(code, Some(0), "{said}");
    assert!(said.starts_with("Exported "), "{said}");
    assert_eq!(
        said.lines().count(),
        1,
        "no bar is drawn where nobody looks: {said}"
    );
    String::from_utf8(lines).expect("UTF-8")
}

fn import(database: &Database, lines: &str) -> (Option<i32>, String) {
    import_with(database, lines, &[])
}

fn import_with(database: &Database, lines: &str, flags: &[&str]) -> (Option<i32>, String) {
    let file = database.dir.path().join("lines");
    std::fs::write(&file, lines).expect("writable");
    let (code, stdout, said) = slackir(database, &[&["import", "lines"], flags].concat());
    assert!(stdout.is_empty());
    (code, said)
}

fn parse(lines: &str) -> Vec<Value> {
    let lines = lines.lines();
    lines
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

/// A message as a line.
fn line(topic: &str, seq: u32, payload: &str, client_ref: &str) -> String {
    format!(
        "{{\"topic\":{topic:?},\"seq\":{seq},\"event\":\"shout\",\"payload\":{payload},\"name\":null,\
         \"message\":null,\"client_ref\":{client_ref},\"target\":null,\"inserted_at\":{AT},\
         \"updated_at\":{AT}}}\n"
    )
}

/// Messages of every kind; the ids of the plain ones in [`TOPIC`].
async fn fill(rooms: &Rooms, database: &Database) -> Vec<MessageId> {
    let ids = rooms.shout_numbers(TOPIC, 1..=20_000).await;
    rooms
        .pubsub
        .publish(TOPIC, &Draft::delete(ids[0]))
        .await
        .expect("room");
    let new = slackir::message::RawJson::EMPTY_OBJECT;
    let update = Draft::update(ids[1], &new);
    rooms.pubsub.publish(TOPIC, &update).await.expect("room");
    for payload in [
        json!({"name": "a\u{0}da", "message": "\u{0}\u{1f600}\n"}),
        json!({"name": "ada", "long": "x".repeat(3_000_000)}),
        json!({"name": "ada", "long": "y".repeat(3_000_000)}),
    ] {
        rooms.shout("room:odd \"\\ é", payload).await;
    }
    let named = Draft::new("shout", json!({})).client_ref("c1");
    rooms
        .pubsub
        .publish("room:ref", &named)
        .await
        .expect("room");
    rooms.committed().await;
    // What others have written, in an order of names that databases see differently.
    for (topic, payload) in [
        ("Room:B", "not JSON"),
        ("room-b", "{\"a\":\r\n1.50}"),
        ("room:É", " {\"n\": 1e2} "),
    ] {
        database.execute(&format!(
            "INSERT INTO messages (topic, event, payload, seq, inserted_at, updated_at) VALUES \
             ('{topic}', 'shout', '{payload}', 7, '2016-09-01 10:00:00', '2016-09-01 10:00:01')"
        ));
    }
    ids
}

async fn an_export_comes_back_byte_by_byte_in_either_database(database: Database) {
    let rooms = Rooms::open(&database);
    let ids = fill(&rooms, &database).await;
    rooms.end(&database).await;
    let lines = export(&database, &[]);
    assert!(lines.starts_with(HEADER));
    assert!(
        lines.contains(r#""payload":{"message":"\u0000😀\n","name":"a\u0000da"},"name":"ada""#)
    );
    assert!(lines.contains(r#""payload_text":"not JSON""#));
    let values = parse(&lines);
    let messages = values.iter().filter(|value| value["seq"].is_i64()).count();
    assert_eq!((messages, values.len()), (20_008, 1 + 20_008 + 3));

    let one = export(&database, &["--topic", "room:o*"]);
    let topics: Vec<_> = parse(&one)[1..]
        .iter()
        .map(|line| line["topic"].clone())
        .collect();
    assert_eq!(topics, ["room:odd \"\\ é"; 4]);
    let (code, stdout, said) = slackir(&database, &["export", "--output", "out"]);
    assert_eq!((code, &*stdout), (Some(0), &b""[..]), "{said}");
    let written = std::fs::read_to_string(database.dir.path().join("out"));
    assert!(written.expect("a file") == lines);

    for target in one_of_each() {
        let (code, said) = import(&target, &lines);
        assert_eq!(said, "20008 messages imported, 0 skipped, 3 new topics.\n");
        assert_eq!(code, Some(0));
        assert!(export(&target, &[]) == lines, "into {}", target.folder());
        // Who was here before moves over without a gap.
        let rooms = Rooms::open(&target);
        rooms
            .assert_resumes(TOPIC, ids[19_989], 19_991..=20_000)
            .await;
        let draft = Draft::new("shout", json!({})).client_ref("c1");
        let again = rooms
            .pubsub
            .publish("room:ref", &draft)
            .await
            .expect("room");
        let again = again
            .receipt
            .expect("it has a client_ref")
            .committed()
            .await;
        assert!(again.expect("known").duplicate);
        assert_eq!(rooms.shout(TOPIC, json!({})).await.seq, 20_003);
    }
}

async fn an_import_again_skips_what_is_there(database: Database) {
    let rooms = Rooms::open(&database);
    let ids = rooms.shout_numbers(TOPIC, 1..=5).await;
    rooms.end(&database).await;
    let before = export(&database, &[]);
    let (_, said) = import(&database, &before);
    assert_eq!(said, "0 messages imported, 5 skipped, 0 new topics.\n");
    let more = [
        line(TOPIC, 6, "{\"n\":6}", "\"a\""),
        line("room:new", 1, "{\"n\":9}", "\"a\""),
    ]
    .concat();
    // Blank lines are none; the last one needs no end.
    let file = format!("{HEADER}\n{more}");
    for said in [
        "2 messages imported, 0 skipped, 0 new topics.\n",
        "0 messages imported, 2 skipped, 0 new topics.\n",
    ] {
        let imported = import(&database, file.trim_end());
        assert_eq!(imported, (Some(0), said.to_owned()));
    }
    let numbers: Vec<_> = (1..=6).map(|n| json!({ "n": n })).collect();
    assert_eq!(database.payloads(TOPIC), numbers);
    let rooms = Rooms::open(&database);
    rooms.assert_resumes(TOPIC, ids[4], [6]).await;
    assert_eq!(rooms.history("room:new").await, [9]);
}

/// A topic as a line.
fn topic_line(topic: &str, epoch: u32, last_seq: u32) -> String {
    format!(
        "{{\"topic\":{topic:?},\"epoch\":{epoch},\"last_seq\":{last_seq},\"pruned_through\":0,\
         \"clean\":true}}\n"
    )
}

async fn other_contents_are_refused_or_appended(database: Database) {
    let rooms = Rooms::open(&database);
    let ids = rooms.shout_numbers(TOPIC, 1..=3).await;
    rooms.end(&database).await;
    let before = database.payloads(TOPIC);
    let two = |payload| {
        [
            line(TOPIC, 1, payload, "\"a\""),
            line(TOPIC, 2, payload, "null"),
        ]
        .concat()
    };
    let other_run = [HEADER, &topic_line(TOPIC, 7, 2), &two("{\"n\":8}")].concat();
    let other_message = [HEADER, &two("{\"n\":8}")].concat();
    for (file, named) in [
        (&other_run, "line 2: topic \"room:a\" has another history"),
        (
            &other_message,
            "line 2: topic \"room:a\" has another message",
        ),
    ] {
        let (code, said) = import(&database, file);
        assert_eq!(code, Some(1));
        assert!(said.contains(named) && said.contains("--append"), "{said}");
        assert_eq!(database.payloads(TOPIC), before);
    }
    // Again and again: what was appended is known.
    for (file, said) in [
        (
            &other_run,
            "2 messages imported, 0 skipped, 0 new topics.\n",
        ),
        (
            &other_message,
            "0 messages imported, 2 skipped, 0 new topics.\n",
        ),
        (
            &other_run,
            "0 messages imported, 2 skipped, 0 new topics.\n",
        ),
    ] {
        let imported = import_with(&database, file, &["--append"]);
        assert_eq!(imported, (Some(0), said.to_owned()));
    }
    let rooms = Rooms::open(&database);
    assert_eq!(rooms.history(TOPIC).await, [1, 2, 3, 8, 8]);
    rooms.assert_resumes(TOPIC, ids[1], [3, 8, 8]).await;
    let strange = MessageId::new(Epoch::new(7), Seq::new(1));
    rooms.assert_lost(TOPIC, strange, [1, 2, 3, 8, 8]).await;
}

async fn nobody_resumes_before_the_last_line_is_in(database: Database) {
    let rooms = Rooms::open(&database);
    let ids = rooms.shout_numbers(TOPIC, 1..=2_500).await;
    rooms.end(&database).await;
    let lines = export(&database, &[]);
    let cut = lines.lines().take(1 + 1 + 2_000).collect::<Vec<_>>();
    for target in one_of_each() {
        // The last line is not whole: the import ends there.
        let (code, said) = import(&target, &format!("{}\n{{", cut.join("\n")));
        assert_eq!(code, Some(1), "{said}");
        assert_eq!(target.rows(TOPIC).len(), 2_000);
        // Made again, it goes on; and once more, where it ended behind the last message.
        assert_eq!(import(&target, &format!("{lines}{{")).0, Some(1));
        assert_eq!(import(&target, &lines).0, Some(0));
        let rooms = Rooms::open(&target);
        rooms.assert_resumes(TOPIC, ids[2_489], 2_491..=2_500).await;
        rooms.end(&target).await;
    }
    for target in one_of_each() {
        assert_eq!(
            import(&target, &format!("{}\n{{", cut.join("\n"))).0,
            Some(1)
        );
        // A server comes between.
        let rooms = Rooms::open(&target);
        rooms.assert_lost(TOPIC, ids[1_989], 1_951..=2_000).await;
        rooms.end(&target).await;
        let (code, said) = import(&target, &lines);
        assert_eq!(code, Some(1));
        assert!(said.contains("has another history"), "{said}");
    }
}

async fn what_was_removed_comes_back_only_when_it_is_asked_for(database: Database) {
    let rooms = Rooms::open(&database);
    let ids = rooms.shout_numbers(TOPIC, 1..=3).await;
    rooms.end(&database).await;
    let lines = export(&database, &[]);
    let rooms = Rooms::open(&database);
    let delete = Draft::delete(ids[1]);
    rooms.pubsub.publish(TOPIC, &delete).await.expect("room");
    rooms.end(&database).await;
    let (code, said) = import(&database, &lines);
    assert_eq!(code, Some(1));
    assert!(said.contains("0 messages imported, 2 skipped"), "{said}");
    assert!(
        said.contains("1 message left out") && said.contains("--removed"),
        "{said}"
    );
    assert_eq!(slackir(&database, &["erase", "--topic", TOPIC]).0, Some(0));
    let (code, said) = import(&database, &lines);
    assert_eq!(code, Some(1));
    assert!(said.contains("3 messages left out"), "{said}");
    let (code, said) = import_with(&database, &lines, &["--removed"]);
    assert_eq!(code, Some(0), "{said}");
    let rooms = Rooms::open(&database);
    rooms.assert_lost(TOPIC, ids[0], 1..=3).await;
}

async fn a_bad_line_is_named_and_those_before_it_stay(database: Database) {
    let good: String = (1..=1_500).map(|n| line(TOPIC, n, "{}", "null")).collect();
    for (bad, problem) in [
        (
            "{",
            "line 1502: is no topic and no message: EOF while parsing",
        ),
        ("[]", "is no topic and no message"),
        ("{\"topic\":\"a\"}", "missing field `epoch`"),
        ("{\"topic\":\"a\",\"seq\":1}", "missing field `event`"),
        (
            &line("a", 1, "{},\"colour\":1", "null"),
            "unknown field `colour`",
        ),
        (&line("a", 1, "{", "null"), "is no topic and no message"),
        (
            &line("a", 1, "{},\"payload_text\":\"\"", "null"),
            "either payload or payload_text",
        ),
        (
            &line("a", 1, "{}", "null").replace("-02T", "-32T"),
            "is no time",
        ),
        (
            &line("a", 1, "{}", "null").replace("\"seq\":1", "\"seq\":\"1\""),
            "invalid type",
        ),
    ] {
        let (code, said) = import(&database, &format!("{HEADER}{good}{bad}"));
        assert_eq!(code, Some(1), "{bad}");
        assert!(
            said.starts_with("slackir: lines, line 1502: ") && said.contains(problem),
            "{said}"
        );
        assert!(
            said.contains("1500 messages imported") || said.contains("1500 skipped"),
            "{said}"
        );
    }
    assert_eq!(database.rows(TOPIC).len(), 1_500);
    for (file, problem) in [
        ("", "line 1: is not the first line of an export"),
        ("\n", "line 1: is not the first line of an export"),
        (
            &*line("a", 1, "{}", "null"),
            "line 1: is not the first line of an export",
        ),
        (
            "{\"slackir_export\":2}\n",
            "line 1: is an export of version 2",
        ),
    ] {
        let (code, said) = import(&database, file);
        assert_eq!(code, Some(1), "{file}");
        assert!(said.contains(problem), "{said}");
    }
    if database.folder() != "sqlite" {
        // A topic that PostgreSQL cannot hold, among others.
        let odd = line("b\\u0000", 1, "{}", "null").replace("\\\\", "\\");
        let file = [
            HEADER,
            &line("b", 1, "{}", "null"),
            &odd,
            &line("b", 2, "{}", "null"),
        ]
        .concat();
        let (code, said) = import(&database, &file);
        assert_eq!(code, Some(1));
        assert!(
            said.contains("line 3: the database refused a statement"),
            "{said}"
        );
        assert!(said.contains("1 messages imported"), "{said}");
        assert_eq!(database.rows("b").len(), 1);
    }
    let (_, _, said) = slackir(&database, &["import", "nowhere"]);
    assert!(said.starts_with("slackir: cannot open nowhere: "), "{said}");
}

async fn a_running_server_can_be_exported(database: Database) {
    let lobby = "random:lobby";
    let server = database.serve(&[]);
    let mut ann = Phoenix::connect(server.addr).await;
    let join_ref = ann
        .send_join(lobby, json!({"ack": true, "history": "none"}))
        .await;
    ann.reply_to(&join_ref).await;
    for n in 1..=300 {
        let payload = json!({"n": n, "x": "x".repeat(4_000)});
        let shout = ann.push(&join_ref, lobby, "shout", payload).await;
        ann.next_event().await;
        ann.reply_to(&shout).await;
    }
    let lines = parse(&export(&database, &[]));
    assert_eq!(lines.len(), 302);
    assert_eq!(
        (&lines[301]["seq"], &lines[301]["payload"]["n"]),
        (&json!(300), &json!(300))
    );
    if database.folder() == "sqlite" {
        let (code, said) = import(&database, HEADER);
        assert_eq!(code, Some(1));
        assert!(said.contains("in use by another slackir"), "{said}");
    }
    // Whoever reads the beginning alone gets it, and nothing is said; the exit code tells.
    let script = "{ \"$0\" export --database-url \"$1\"; echo \"code $?\" >&2; } | head -n 1";
    let head = Command::new("sh")
        .args(["-c", script])
        .arg(program())
        .arg(&database.url)
        .output();
    let head = head.expect("a shell runs");
    assert_eq!(head.stdout, HEADER.as_bytes());
    assert_eq!(String::from_utf8_lossy(&head.stderr), "code 1\n");
}

async fn a_database_that_is_none_is_not_exported(database: Database) {
    let (code, lines, said) = slackir(&database, &["export"]);
    assert_eq!((code, &*lines), (Some(1), &b""[..]));
    if database.folder() == "sqlite" {
        assert!(said.contains("there is no database file"), "{said}");
        assert!(!Path::new(&database.dir.path().join("slackir.db")).exists());
    }
    database.execute("CREATE TABLE messages (id INTEGER PRIMARY KEY, name TEXT)");
    let (code, lines, said) = slackir(&database, &["export"]);
    assert_eq!((code, &*lines), (Some(1), &b""[..]));
    assert!(said.contains("run `slackir migrate`"), "{said}");
}
