//! What only PostgreSQL can do, or do wrong.

use std::net::TcpListener;

use serde_json::json;
use tempfile::tempdir;

use crate::away::ready;
use crate::cli::fails;
use crate::support::database::Database;
use crate::support::phoenix::Phoenix;
use crate::support::process::{Process, run};
use crate::support::proxy::Proxy;

const LOBBY: &str = "random:lobby";

#[test]
fn servers_that_start_at_once_migrate_one_after_the_other() {
    let database = Database::postgres();
    let migrate = || {
        let args = ["migrate", "--database-url", &database.url];
        run(&args, database.dir.path())
    };
    let outputs: Vec<_> = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..4).map(|_| scope.spawn(migrate)).collect();
        let joined = runs.into_iter().map(|run| run.join().expect("no panic"));
        joined.collect()
    });
    for output in &outputs {
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{stderr}");
    }
    let busy = outputs
        .iter()
        .filter(|output| output.stdout.starts_with(b"Migrated"));
    assert_eq!(busy.count(), 1, "{outputs:?}");
}

#[test]
fn who_keeps_a_migration_waiting_is_named() {
    let database = Database::postgres();
    let url = format!("{}?options=-c%20lock_timeout%3D300", database.url);
    database.execute(
        "CREATE TABLE messages (id bigserial PRIMARY KEY, name text, message text, \
             inserted_at timestamp NOT NULL, updated_at timestamp NOT NULL)",
    );
    for lock in [
        "SELECT pg_advisory_lock(32488787857336690)",
        "BEGIN; LOCK TABLE messages IN SHARE MODE",
    ] {
        let mut person = database.connect();
        person.execute("SET application_name = 'the night shift'");
        person.execute(lock);
        let part = "the night shift";
        fails(
            database.dir.path(),
            &["migrate", "--database-url", &url],
            part,
        );
    }
    let args = ["migrate", "--database-url", &database.url];
    assert_eq!(run(&args, database.dir.path()).status.code(), Some(0));
}

/// PgBouncer in transaction mode gives the next transaction another session, or the session to
/// another client: neither a prepared statement nor a lock may be left in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_in_a_session() {
    let database = Database::postgres();
    let address = database
        .url
        .split(['@', '/'])
        .nth(3)
        .expect("a host and a port");
    let proxy = Proxy::start(address).await;
    let url = database.url.replace(address, &proxy.addr.to_string());
    let server = Process::start(&database.dir, &["--database-url", &url]);
    let mut client = Phoenix::connect(server.addr).await;
    let (join_ref, _) = client.join(LOBBY).await;
    client.next_event().await;
    client
        .push(&join_ref, LOBBY, "shout", json!({ "n": 1 }))
        .await;
    client.next_event().await;
    let locks = "SELECT locktype AS answer FROM pg_locks WHERE locktype = 'advisory' \
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    assert!(database.ask(locks).is_empty());
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0));
    assert_eq!(database.payloads(LOBBY), [json!({ "n": 1 })]);
    assert!(!proxy.has_sent("__diesel_stmt"), "no statement has a name");
    assert!(proxy.has_sent("COPY"), "the proxy sees what is sent");
}

#[test]
fn an_ecto_table_is_widened() {
    for id in ["serial", "bigserial"] {
        let database = Database::postgres();
        database.execute(&format!(
            "CREATE TABLE messages (id {id} PRIMARY KEY, name varchar(255) NOT NULL, \
                 message varchar(255), inserted_at timestamp(0) NOT NULL, \
                 updated_at timestamp(0) NOT NULL); \
             INSERT INTO messages (name, message, inserted_at, updated_at) \
             SELECT 'ada', n::text, now(), now() FROM generate_series(1, 1000) n"
        ));
        let args = ["migrate", "--database-url", &database.url];
        assert_eq!(run(&args, database.dir.path()).status.code(), Some(0));
        let columns = database.ask(
            "SELECT concat_ws(' ', column_name, data_type, datetime_precision, is_nullable) AS answer \
             FROM information_schema.columns WHERE table_name = 'messages' ORDER BY ordinal_position \
             LIMIT 5",
        );
        let expected = [
            "id bigint NO",
            "name text YES",
            "message text YES",
            "inserted_at timestamp without time zone 6 NO",
            "updated_at timestamp without time zone 6 NO",
        ];
        assert_eq!(columns, expected);
        let sequence = "SELECT data_type || ' ' || max_value AS answer FROM pg_sequences";
        assert_eq!(database.ask(sequence), ["bigint 9223372036854775807"]);
        let messages: Vec<_> = database
            .rows(LOBBY)
            .into_iter()
            .filter_map(|row| row.message)
            .collect();
        let numbers: Vec<_> = (1..=1000).map(|n: u32| n.to_string()).collect();
        assert_eq!(messages, numbers, "{id}");
    }
}

#[test]
fn servers_that_cannot_be_used_are_named_without_a_password() {
    let dir = tempdir().expect("a temporary folder");
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = nobody.local_addr().expect("bound").port();
    drop(nobody);
    let closed = format!("postgres://ada:s3cret@127.0.0.1:{port}/chat");
    let database = Database::postgres();
    let (server, name) = database.url.rsplit_once('/').expect("a database's URL");
    let missing = format!("{server}/nowhere");
    let latin = format!("{name}_latin");
    database.execute(&format!(
        "CREATE DATABASE {latin} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0"
    ));
    for (url, part) in [
        (
            &*closed,
            "cannot connect to the database: connection to server",
        ),
        (&missing, "database \"nowhere\" does not exist"),
        (
            "postgres://ada:s3cret@[::1/chat",
            "cannot connect to the database",
        ),
        ("postgres://ada:s3cr/s3cret@db/chat", "percent-encoded"),
        ("postgres://db/chat?passwort=s3cret", "passwort"),
        (
            "postgres://ada:s3cret@db/chat?sslmode=s3cret",
            "invalid sslmode value",
        ),
        (&format!("{server}/{latin}"), "the encoding LATIN1"),
    ] {
        fails(dir.path(), &["--port", "0", "--database-url", url], part);
        fails(dir.path(), &["migrate", "--database-url", url], part);
        // What is only read need not be made whole.
        if !url.contains("latin") {
            fails(dir.path(), &["export", "--database-url", url], part);
        }
    }
    database.execute(&format!("DROP DATABASE {latin} WITH (FORCE)"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_on_one_database_see_each_other() {
    const SHARED: &str = "ready; another server uses the database";
    let database = Database::postgres();
    let ann = database.serve(&[]);
    ready(&ann, 200, "ready\n").await;
    let bob = database.serve(&["--spool-dir", "bob.spool"]);
    ready(
        &bob,
        200,
        &format!(
            "{SHARED}, and neither sends the other's messages: {}",
            ann.addr
        ),
    )
    .await;
    ready(&ann, 200, SHARED).await;
    let import = ["import", "--database-url", &database.url, "/dev/null"];
    let refused = String::from_utf8(run(&import, database.dir.path()).stderr).expect("UTF-8");
    assert!(
        refused.contains("in use by another slackir (127.0.0.1:"),
        "{refused}"
    );
    bob.signal("-TERM");
    assert_eq!(bob.wait(), Some(0));
    ready(&ann, 200, "ready\n").await;
    // One that lives, and then one that was killed 11 seconds ago.
    database.execute("INSERT INTO servers VALUES (7, 'carl', now() + interval '1 hour')");
    ready(&ann, 200, "carl").await;
    database.execute("UPDATE servers SET seen_at = now() - interval '11 seconds' WHERE id = 7");
    ready(&ann, 200, "ready\n").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_the_time_without_a_database_are_stored_when_it_is_back() {
    let database = Database::postgres();
    let address = database
        .url
        .split(['@', '/'])
        .nth(3)
        .expect("a host and a port");
    let proxy = Proxy::start(address).await;
    let url = database.url.replace(address, &proxy.addr.to_string());
    let server = Process::start(&database.dir, &["--database-url", &url]);
    let mut client = Phoenix::connect(server.addr).await;
    let (join_ref, _) = client.join(LOBBY).await;
    client.next_event().await;
    for n in 0..30 {
        match n {
            10 => proxy.cut(),
            20 => proxy.mend(),
            _ => {}
        }
        client
            .push(&join_ref, LOBBY, "shout", json!({ "n": n }))
            .await;
        assert_eq!(client.next_event().await.1, json!({ "n": n }));
    }
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0));
    let expected: Vec<_> = (0..30).map(|n| json!({ "n": n })).collect();
    assert_eq!(database.payloads(LOBBY), expected);
}
