//! Tables that are there already: what becomes Slackir's, what is refused, and what the application
//! before still writes.

use std::path::Path;

use serde_json::{Value, json};
use slackir::store::{DbWriter, Store, StoreOptions, WriterOptions};

use crate::support::database::{Database, on_each_database};
use crate::support::phoenix::Phoenix;
use crate::support::process::{Process, run};

const LOBBY: &str = "random:lobby";
const AT: &str = "'2016-09-01 10:00:00', '2016-09-01 10:00:00'";

on_each_database! {
    #[actix_web::test]
    a_table_that_is_not_ectos_is_refused_and_stays_as_it_was,
    a_table_is_taken_over_only_where_that_is_asked_for,
    rows_that_the_application_before_writes_are_adopted_at_the_next_start,
    rows_that_cannot_be_read_hide_no_others,
    a_table_that_takes_no_message_is_told_at_the_start,
    migrations_are_made_all_or_none,
}

/// The table that Ecto's migration creates.
fn ecto(database: &Database) -> [&'static str; 5] {
    if database.folder() == "sqlite" {
        [
            "id INTEGER PRIMARY KEY",
            "name TEXT",
            "message TEXT",
            "inserted_at TEXT NOT NULL",
            "updated_at TEXT NOT NULL",
        ]
    } else {
        [
            "id bigserial PRIMARY KEY",
            "name varchar(255)",
            "message text",
            "inserted_at timestamp(0) NOT NULL",
            "updated_at timestamp(0) NOT NULL",
        ]
    }
}

/// `ecto` with the columns at these places changed, and more behind them.
fn changed(database: &Database, changes: &[(usize, &str)], more: &str) -> String {
    let mut columns = ecto(database).map(str::to_owned);
    for &(at, column) in changes {
        column.clone_into(&mut columns[at]);
    }
    format!("CREATE TABLE messages ({}{more})", columns.join(", "))
}

/// Everything that the database's catalogue says of its tables.
fn catalogue(database: &Database) -> Vec<String> {
    database.ask(if database.folder() == "sqlite" {
        "SELECT name || coalesce(sql, '') AS answer FROM sqlite_master ORDER BY name"
    } else {
        "SELECT concat_ws(' ', table_name, column_name, data_type, character_maximum_length, \
             datetime_precision, is_nullable, column_default) AS answer \
         FROM information_schema.columns WHERE table_schema = 'public' \
         ORDER BY table_name, ordinal_position"
    })
}

fn command(database: &Database, command: &[&str]) -> (Option<i32>, String) {
    let url = ["--database-url", &database.url];
    let output = run(&[command, &url].concat(), database.dir.path());
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8(said).expect("UTF-8"),
    )
}

/// `slackir migrate` says this and changes nothing.
fn refused(database: &Database, part: &str) {
    let before = catalogue(database);
    let (code, said) = command(database, &["migrate"]);
    assert_eq!(code, Some(1), "{part}: {said}");
    assert!(said.contains(part), "{part}: {said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert_eq!(catalogue(database), before, "{part}");
}

async fn history(server: &Process) -> Value {
    let mut client = Phoenix::connect(server.addr).await;
    client.join(LOBBY).await;
    let (event, payload) = client.next_event().await;
    assert_eq!(event, "messages_history");
    payload["messages"].clone()
}

fn stop(server: Process) {
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0));
}

async fn a_table_that_is_not_ectos_is_refused_and_stays_as_it_was(database: Database) {
    let sqlite = database.folder() == "sqlite";
    let uuid = if sqlite {
        "id TEXT PRIMARY KEY NOT NULL"
    } else {
        "id uuid PRIMARY KEY"
    };
    let number = "message INTEGER";
    let no_time = if sqlite {
        "inserted_at INTEGER NOT NULL"
    } else {
        "inserted_at timestamptz NOT NULL"
    };
    for (changes, more, behind, part) in [
        (&[(0, uuid)][..], "", "", "its column id is of type"),
        (&[(0, "id INTEGER")], "", "", "its primary key is not id"),
        (&[(2, number)], "", "", "its column message is of type"),
        (&[(3, no_time)], "", "", "its column inserted_at is of type"),
        (&[(2, "body TEXT")], "", "", "it has no column message"),
        (
            &[],
            ", room_id INTEGER NOT NULL",
            "",
            "one more column, room_id",
        ),
        (&[], ", mood TEXT", "", "one more column, mood"),
        (
            &[],
            ", CHECK (length(name) < 9)",
            "",
            if sqlite { "a CHECK" } else { "the constraint" },
        ),
        (
            &[],
            "",
            "CREATE UNIQUE INDEX one ON messages (message)",
            "its index one is unique",
        ),
        (
            &[],
            "",
            "CREATE TABLE likes (id INTEGER, message INTEGER REFERENCES messages (id))",
            "the table likes refers to it",
        ),
        (
            &[],
            "",
            "CREATE TABLE topics (id INTEGER)",
            "has a table `topics`",
        ),
    ] {
        database.execute(&format!("{}; {behind}", changed(&database, changes, more)));
        refused(&database, part);
        database.execute(
            "DROP TABLE IF EXISTS likes; DROP TABLE IF EXISTS topics; DROP TABLE messages",
        );
    }
    database.execute("CREATE VIEW messages AS SELECT 1 AS id");
    refused(&database, "cannot take over");
}

async fn a_table_is_taken_over_only_where_that_is_asked_for(database: Database) {
    database.execute(&changed(&database, &[], ""));
    let before = catalogue(&database);
    let opened = Store::open(&database.url, StoreOptions::default());
    assert!(opened.is_err_and(|error| error.is_unadopted()));
    let empty = "{\"slackir_export\":1}\n";
    std::fs::write(database.dir.path().join("lines"), empty).expect("writable");
    for args in [
        &["import", "lines"][..],
        &["erase", "--topic", "a"],
        &["erase", "--dry-run", "--topic", "a"],
    ] {
        let (code, said) = command(&database, args);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("`slackir migrate` takes it over"), "{said}");
    }
    assert_eq!(catalogue(&database), before);
    assert_eq!(command(&database, &["migrate"]).0, Some(0));
    assert_eq!(command(&database, &["import", "lines"]).0, Some(0));
}

async fn rows_that_the_application_before_writes_are_adopted_at_the_next_start(database: Database) {
    let insert = |name: &str| {
        database.execute(&format!(
            "INSERT INTO messages (name, message, inserted_at, updated_at) \
             VALUES ('{name}', 'one', {AT}), ('{name}', 'two', {AT})"
        ));
    };
    database.execute(&changed(&database, &[], ""));
    insert("before");
    stop(database.serve(&[]));
    insert("between");
    let server = database.serve(&[]);
    let message = |name: &str, message: &str| json!({"name": name, "message": message});
    let mut expected = vec![
        message("before", "one"),
        message("before", "two"),
        message("between", "one"),
        message("between", "two"),
    ];
    assert_eq!(history(&server).await, json!(expected));
    // While it runs they wait.
    insert("meanwhile");
    stop(server);
    let options = StoreOptions::default().adopt_ecto_messages(true);
    let (store, prepared) = Store::open(&database.url, options).expect("sound");
    assert_eq!((prepared.adopted, prepared.migrations.len()), (2, 0));
    drop(store);
    insert("unasked");
    let (store, prepared) = Store::open(&database.url, StoreOptions::default()).expect("sound");
    assert_eq!(prepared.adopted, 0);
    let writer = DbWriter::start_on_own_thread(store, WriterOptions::default()).expect("sound");
    assert_eq!(writer.reader().rows_of_others().await.ok(), Some(2));
    assert_eq!(writer.reader().count(LOBBY).await.ok(), Some(6));
    let seqs: Vec<_> = database.rows(LOBBY).iter().map(|row| row.seq).collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5, 6]);
    expected.extend([message("meanwhile", "one"), message("meanwhile", "two")]);
    assert_eq!(database.payloads(LOBBY), expected);
}

async fn rows_that_cannot_be_read_hide_no_others(database: Database) {
    stop(database.serve(&[]));
    let insert = |seq: &str, payload: &str, at: &str| {
        database.execute(&format!(
            "INSERT INTO messages (topic, event, payload, seq, inserted_at, updated_at) \
             VALUES ('{LOBBY}', 'shout', {payload}, {seq}, '{at}', '2026-01-01 00:00:00')"
        ));
    };
    let at = "2026-01-01 00:00:00";
    insert("1", "'{\"n\":1}'", at);
    insert("3", "'{\"n\":3}'", at);
    let mut left_out = if database.folder() == "sqlite" {
        insert("2", "'{}'", "soon");
        insert("'f4b3'", "'{}'", at);
        insert("'f4b4'", "'{}'", at);
        insert("1.5", "'{}'", at);
        insert("x'00'", "'{}'", at);
        vec![
            "seq 2 cannot be read",
            "4 rows of topic \"random:lobby\" whose seq is no whole number",
        ]
    } else {
        insert("2", "'{}'", "infinity");
        vec!["seq 2 cannot be read"]
    };
    let server = database.serve(&[]);
    assert_eq!(history(&server).await, json!([{"n": 1}, {"n": 3}]));
    stop(server);
    let (code, said) = command(&database, &["export"]);
    assert_eq!(code, Some(0), "{said}");
    left_out.extend(["Exported 2 messages of 1 topic.", "Left out"]);
    for part in left_out {
        assert!(said.contains(part), "{part}: {said}");
    }
    let retention = "[[rooms]]\ntopics = \"random:*\"\nretention = { max_age = \"1d\" }\n";
    std::fs::write(database.dir.path().join("short.toml"), retention).expect("writable");
    let server = database.serve(&["--config", "short.toml"]);
    for _ in 0..100 {
        if history(&server).await == json!([]) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("retention goes past rows that it cannot read");
}

async fn a_table_that_takes_no_message_is_told_at_the_start(database: Database) {
    assert_eq!(command(&database, &["migrate"]).0, Some(0));
    assert!(Path::new(database.dir.path()).exists());
    if database.folder() == "sqlite" {
        database.execute(
            "CREATE TRIGGER no BEFORE INSERT ON messages BEGIN SELECT raise(ABORT, 'closed'); END",
        );
    } else {
        database.execute(
            "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS \
                 'BEGIN RAISE EXCEPTION ''closed''; END'; \
             CREATE TRIGGER no BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION no()",
        );
    }
    refused(
        &database,
        "the table `messages` does not take what slackir writes",
    );
}

async fn migrations_are_made_all_or_none(database: Database) {
    // The last of the names that the migrations need is taken.
    database.execute(
        "CREATE TABLE other (n INTEGER); CREATE INDEX messages_recent_client_refs ON other (n)",
    );
    refused(&database, "messages_recent_client_refs");
    database.execute("DROP TABLE other");
    assert_eq!(command(&database, &["migrate"]).0, Some(0));
}
