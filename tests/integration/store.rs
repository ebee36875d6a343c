//! The database from outside: what a person with a SQLite shell sees, and databases that others
//! have made.

use std::path::Path;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text};
use serde_json::{Value, json};
use tempfile::tempdir;

use crate::support::phoenix::Phoenix;
use crate::support::process::{Process, run};

const LOBBY: &str = "random:lobby";

/// A row of `messages` as a person would read it.
#[derive(Debug, PartialEq, QueryableByName)]
pub(crate) struct Row {
    #[diesel(sql_type = BigInt)]
    pub(crate) seq: i64,
    #[diesel(sql_type = Text)]
    pub(crate) event: String,
    #[diesel(sql_type = Text)]
    pub(crate) payload: String,
    #[diesel(sql_type = Nullable<Text>)]
    pub(crate) name: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    pub(crate) message: Option<String>,
}

pub(crate) fn open(path: &Path) -> SqliteConnection {
    let mut connection =
        SqliteConnection::establish(&path.to_string_lossy()).expect("the database opens");
    execute(&mut connection, "PRAGMA busy_timeout = 5000");
    connection
}

pub(crate) fn execute(connection: &mut SqliteConnection, sql: &str) {
    connection.batch_execute(sql).expect("the statement runs");
}

/// The rows of a topic in the order of their seq.
pub(crate) fn rows(path: &Path, topic: &str) -> Vec<Row> {
    diesel::sql_query(
        "SELECT seq, event, payload, name, message FROM messages WHERE topic = ? ORDER BY seq",
    )
    .bind::<Text, _>(topic)
    .load(&mut open(path))
    .expect("the table can be read")
}

/// The payloads of a topic in the order of their seq.
pub(crate) fn payloads(path: &Path, topic: &str) -> Vec<Value> {
    let parse = |row: Row| serde_json::from_str(&row.payload).expect("payloads are JSON");
    rows(path, topic).into_iter().map(parse).collect()
}

async fn history(server: &Process) -> Value {
    let mut client = Phoenix::connect(server.addr).await;
    client.join(LOBBY).await;
    let (event, payload) = client.next_event().await;
    assert_eq!(event, "messages_history");
    payload["messages"].clone()
}

async fn shout(server: &Process, payload: Value) {
    let mut client = Phoenix::connect(server.addr).await;
    let (join_ref, _) = client.join(LOBBY).await;
    client.next_event().await;
    client.push(&join_ref, LOBBY, "shout", payload).await;
    assert_eq!(client.next_event().await.0, "shout");
}

fn stop(server: Process) {
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0));
}

#[actix_web::test]
async fn a_row_has_the_payload_whole_and_the_seeds_columns() {
    let dir = tempdir().expect("a temporary folder");
    let server = Process::start(&dir, &[]);
    shout(
        &server,
        json!({"name": "a\u{0}b", "message": "hi", "colour": 1}),
    )
    .await;
    shout(&server, json!({"message": 5})).await;
    stop(server);
    let wal = std::fs::metadata(dir.path().join("slackir.db-wal")).map_or(0, |wal| wal.len());
    assert_eq!(
        wal, 0,
        "after a shutdown a copy of the database file is whole"
    );
    let rows = rows(&dir.path().join("slackir.db"), LOBBY);
    assert_eq!(rows.iter().map(|row| row.seq).collect::<Vec<_>>(), [1, 2]);
    let [first, second] = &rows[..] else {
        panic!("two rows: {rows:?}")
    };
    assert_eq!(
        (first.name.as_deref(), first.message.as_deref()),
        (Some("ab"), Some("hi"))
    );
    let payload: Value = serde_json::from_str(&first.payload).expect("JSON");
    assert_eq!(
        payload,
        json!({"name": "a\u{0}b", "message": "hi", "colour": 1})
    );
    assert_eq!(
        (&second.name, &second.message, &*second.event),
        (&None, &None, "shout")
    );
}

#[actix_web::test]
async fn an_ecto_database_is_taken_over_with_its_rows() {
    let dir = tempdir().expect("a temporary folder");
    let path = dir.path().join("slackir.db");
    execute(
        &mut open(&path),
        "CREATE TABLE messages (id INTEGER PRIMARY KEY, name TEXT, message TEXT, \
             inserted_at TEXT NOT NULL, updated_at TEXT NOT NULL); \
         INSERT INTO messages VALUES (3, 'ada', 'hi', '2016-09-01 10:00:00', '2016-09-01 10:00:00'), \
             (4, NULL, 'it''s', '2016-09-01 10:00:01', '2016-09-01 10:00:01');",
    );
    let server = Process::start(&dir, &[]);
    let old = [
        json!({"name": "ada", "message": "hi"}),
        json!({"name": null, "message": "it's"}),
    ];
    assert_eq!(history(&server).await, json!(old));
    shout(&server, json!({"name": "bob"})).await;
    stop(server);
    let seqs: Vec<_> = rows(&path, LOBBY).iter().map(|row| row.seq).collect();
    assert_eq!(seqs, [3, 4, 5]);
}

#[actix_web::test]
async fn rows_that_others_wrote_break_neither_history_nor_writer() {
    let dir = tempdir().expect("a temporary folder");
    let path = dir.path().join("slackir.db");
    let server = Process::start(&dir, &[]);
    shout(&server, json!({"n": 1})).await;
    // The topic is loaded and its next seq is 2: this row takes it away.
    let insert = |seq: u32, payload: &str| {
        let sql = format!(
            "INSERT INTO messages (topic, event, payload, seq, inserted_at, updated_at) \
             VALUES ('{LOBBY}', 'shout', '{payload}', {seq}, '2026-01-01 00:00:00', '2026-01-01 00:00:00')"
        );
        execute(&mut open(&path), &sql);
    };
    insert(2, "not JSON");
    shout(&server, json!({"n": 2})).await;
    shout(&server, json!({"n": 3})).await;
    stop(server);
    let stored: Vec<_> = rows(&path, LOBBY)
        .into_iter()
        .map(|row| row.payload)
        .collect();
    assert_eq!(stored, [r#"{"n":1}"#, "not JSON", r#"{"n":3}"#]);
    let server = Process::start(&dir, &[]);
    assert_eq!(history(&server).await, json!([{"n": 1}, {"n": 3}]));
}

#[test]
fn migrations_go_back_and_forth() {
    let dir = tempdir().expect("a temporary folder");
    let path = dir.path().join("slackir.db");
    assert_eq!(run(&["migrate"], dir.path()).status.code(), Some(0));
    let down = |name: &str| {
        let file = format!(
            "{}/migrations/sqlite/{name}/down.sql",
            env!("CARGO_MANIFEST_DIR")
        );
        let sql = std::fs::read_to_string(file).expect("each migration can be undone");
        execute(&mut open(&path), &sql);
    };
    down("2026-11-22-000002_add_topic_log");
    down("2026-11-22-000001_create_messages");
    execute(&mut open(&path), "DELETE FROM __diesel_schema_migrations");
    assert_eq!(run(&["migrate"], dir.path()).status.code(), Some(0));
    assert_eq!(rows(&path, LOBBY), []);
}
