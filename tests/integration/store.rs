//! The database from outside: what a person with a SQLite shell sees, and databases that others
//! have made.

use serde_json::{Value, json};

use crate::support::database::{Database, on_each_database};
use crate::support::phoenix::Phoenix;
use crate::support::process::{Process, run};

const LOBBY: &str = "random:lobby";

on_each_database! {
    #[actix_web::test]
    a_row_has_the_payload_whole_and_the_seeds_columns,
    an_ecto_database_is_taken_over_with_its_rows,
    rows_that_others_wrote_break_neither_history_nor_writer,
    migrations_go_back_and_forth,
}

async fn history(server: &Process) -> Value {
    let mut client = Phoenix::connect(server.addr).await;
    client.join(LOBBY).await;
    let (event, payload) = client.next_event().await;
    assert_eq!(event, "messages_history");
    payload["messages"].clone()
}

/// Shouts, and waits until the message is stored.
async fn shout(server: &Process, payload: Value) {
    let mut client = Phoenix::connect(server.addr).await;
    let join_ref = client.send_join(LOBBY, json!({"ack": true})).await;
    assert_eq!(client.reply_to(&join_ref).await["status"], "ok");
    client.next_event().await;
    let reference = client.push(&join_ref, LOBBY, "shout", payload).await;
    assert_eq!(client.next_event().await.0, "shout");
    assert_eq!(client.reply_to(&reference).await["status"], "ok");
}

fn stop(server: Process) {
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0));
}

async fn a_row_has_the_payload_whole_and_the_seeds_columns(database: Database) {
    let server = database.serve(&[]);
    shout(
        &server,
        json!({"name": "a\u{0}b", "message": "hi", "colour": 1}),
    )
    .await;
    shout(&server, json!({"message": 5})).await;
    stop(server);
    // PostgreSQL has no such file.
    let wal =
        std::fs::metadata(database.dir.path().join("slackir.db-wal")).map_or(0, |wal| wal.len());
    assert_eq!(
        wal, 0,
        "after a shutdown a copy of the database file is whole"
    );
    let rows = database.rows(LOBBY);
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

async fn an_ecto_database_is_taken_over_with_its_rows(database: Database) {
    let columns = match database.folder() {
        "sqlite" => {
            "id INTEGER PRIMARY KEY, name TEXT, message TEXT, \
             inserted_at TEXT NOT NULL, updated_at TEXT NOT NULL"
        }
        _ => {
            "id serial PRIMARY KEY, name varchar(255), message varchar(255) NOT NULL, \
             inserted_at timestamp(0) NOT NULL, updated_at timestamp(0) NOT NULL"
        }
    };
    database.execute(&format!(
        "CREATE TABLE messages ({columns}); \
         INSERT INTO messages VALUES (3, 'ada', 'hi', '2016-09-01 10:00:00', '2016-09-01 10:00:00'), \
             (4, NULL, 'it''s', '2016-09-01 10:00:01', '2016-09-01 10:00:01');",
    ));
    let server = database.serve(&[]);
    let old = [
        json!({"name": "ada", "message": "hi"}),
        json!({"name": null, "message": "it's"}),
    ];
    assert_eq!(history(&server).await, json!(old));
    // Neither a long message nor one without any fits into Ecto's columns.
    shout(
        &server,
        json!({"name": "b".repeat(300), "message": "long".repeat(100)}),
    )
    .await;
    shout(&server, json!({"name": "bob"})).await;
    stop(server);
    let rows = database.rows(LOBBY);
    let seqs: Vec<_> = rows.iter().map(|row| row.seq).collect();
    assert_eq!(seqs, [3, 4, 5, 6]);
    assert_eq!(rows[2].name.as_deref().map(str::len), Some(300));
}

async fn rows_that_others_wrote_break_neither_history_nor_writer(database: Database) {
    let server = database.serve(&[]);
    shout(&server, json!({"n": 1})).await;
    // The topic is loaded and its next seq is 2: this row takes it away, and others make room.
    let insert = |seq: u32, payload: &str| {
        let sql = format!(
            "INSERT INTO messages (topic, event, payload, seq, inserted_at, updated_at) \
             VALUES ('{LOBBY}', 'shout', '{payload}', {seq}, '2026-01-01 00:00:00', '2026-01-01 00:00:00')"
        );
        database.execute(&sql);
    };
    insert(2, "not JSON");
    shout(&server, json!({"n": 2})).await;
    shout(&server, json!({"n": 3})).await;
    stop(server);
    let stored: Vec<_> = database
        .rows(LOBBY)
        .into_iter()
        .map(|row| row.payload)
        .collect();
    assert_eq!(
        stored,
        [r#"{"n":1}"#, "not JSON", r#"{"n":2}"#, r#"{"n":3}"#]
    );
    let server = database.serve(&[]);
    assert_eq!(
        history(&server).await,
        json!([{"n": 1}, {"n": 2}, {"n": 3}])
    );
}

async fn migrations_go_back_and_forth(database: Database) {
    let migrate = || {
        let args = ["migrate", "--database-url", &database.url];
        let output = run(&args, database.dir.path());
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let first = migrate();
    let root = env!("CARGO_MANIFEST_DIR");
    let folder = format!("{root}/migrations/{}", database.folder());
    let mut names: Vec<_> = std::fs::read_dir(&folder)
        .expect("the folder can be read")
        .map(|entry| entry.expect("the folder can be read").path())
        .filter(|path| path.is_dir())
        .collect();
    names.sort();
    assert_eq!(first.matches("Migrated").count(), names.len());
    for migration in names.iter().rev() {
        let sql = std::fs::read_to_string(migration.join("down.sql"));
        database.execute(&sql.expect("each migration can be undone"));
    }
    database.execute("DELETE FROM __diesel_schema_migrations");
    assert_eq!(migrate(), first);
    assert_eq!(migrate(), "The database is up to date.\n");
    assert_eq!(database.rows(LOBBY), []);
}
