//! `slackir backup`: a copy of the database beside a server that goes on writing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::support::api::{self, Program};
use crate::support::database::Database;
use crate::support::phoenix::Phoenix;
use crate::support::process::{Process, run};

const TOPIC: &str = "random:lobby";
const MESSAGES: &str = "/api/topics/random:lobby/messages";

#[actix_web::test]
async fn a_backup_beside_a_writing_server_has_all_that_was_acknowledged() {
    let database = Database::sqlite();
    let server = api::serve(&database, &[]);
    let program = Program::of(&server).await;
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let stops = Arc::new(AtomicBool::new(false));
    let publishers = (0..8).map(|_| {
        let (acknowledged, stops) = (Arc::clone(&acknowledged), Arc::clone(&stops));
        let addr = server.addr;
        actix_web::rt::spawn(async move { publish(addr, &acknowledged, &stops).await })
    });
    let publishers: Vec<_> = publishers.collect();
    let copies: Vec<_> = (0..3).map(|_| Database::sqlite()).collect();
    let mut before = Vec::new();
    for copy in &copies {
        let asked = acknowledged.load(Ordering::SeqCst);
        while acknowledged.load(Ordering::SeqCst) < asked + 50 {
            actix_web::rt::task::yield_now().await;
        }
        before.push(acknowledged.load(Ordering::SeqCst));
        backed_up(&database, copy).await;
    }
    let during = acknowledged.load(Ordering::SeqCst);
    assert!(during > before[2], "the server wrote during a backup");
    stops.store(true, Ordering::SeqCst);
    for publisher in publishers {
        publisher.await.expect("no publisher failed");
    }
    for (copy, before) in copies.iter().zip(before) {
        assert_eq!(
            copy.ask(
                "SELECT * FROM (SELECT integrity_check AS answer FROM pragma_integrity_check)"
            ),
            ["ok"]
        );
        let rows = copy.rows(TOPIC).len();
        assert!(rows >= before, "{rows} of {before}");
    }
    let newest = program.get(&format!("{MESSAGES}?limit=1")).await;
    let lost = newest["messages"][0]["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0));
    a_server_on_the_copy_resumes(&copies[0], &lost).await;
}

/// Shouts with acknowledgements until it is stopped.
async fn publish(addr: std::net::SocketAddr, acknowledged: &AtomicUsize, stops: &AtomicBool) {
    let mut client: Phoenix = Phoenix::dial(addr).await;
    let join_ref = client
        .send_join(TOPIC, json!({"ack": true, "history": false}))
        .await;
    let mut shouted = String::new();
    while !stops.load(Ordering::SeqCst) {
        let frame = client.next().await;
        if frame[3] != "phx_reply" {
            continue;
        }
        assert_eq!(frame[4]["status"], "ok", "{frame}");
        if frame[1] == shouted.as_str() {
            acknowledged.fetch_add(1, Ordering::SeqCst);
        }
        let payload = json!({"message": "a message of a backup"});
        shouted = client.push(&join_ref, TOPIC, "shout", payload).await;
    }
}

/// Copies the database to the place of another one.
async fn backed_up(database: &Database, copy: &Database) {
    let url = database.url.clone();
    let dir = copy.dir.path().to_owned();
    let output = actix_web::rt::task::spawn_blocking(move || {
        run(&["backup", "slackir.db", "--database-url", &url], &dir)
    });
    let output = output.await.expect("it runs");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let files = std::fs::read_dir(copy.dir.path()).expect("readable");
    let names: Vec<_> = files
        .map(|file| file.expect("readable").file_name())
        .collect();
    assert_eq!(names, ["slackir.db"], "nothing else is left");
}

/// The copy is a database like any other. `lost`: an id that it does not have.
async fn a_server_on_the_copy_resumes(copy: &Database, lost: &str) {
    let server = api::serve(copy, &[]);
    let program = Program::of(&server).await;
    let page = program.get(&format!("{MESSAGES}?limit=3")).await;
    let ids: Vec<_> = page["messages"]
        .as_array()
        .expect("a page")
        .iter()
        .map(|message| message["id"].clone())
        .collect();
    let joined = resumed(&server, &ids[0]).await;
    assert_eq!(
        (&joined["recovered"], &joined["count"]),
        (&json!(true), &json!(2)),
        "{joined}"
    );
    let joined = resumed(&server, &json!(lost)).await;
    assert_eq!(joined["recovered"], false, "{joined}");
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0));
}

/// Joins with the last message that a client has seen. The reply, and the number of messages behind it.
async fn resumed(server: &Process, seen: &Value) -> Value {
    let mut client: Phoenix = Phoenix::dial(server.addr).await;
    let join = json!({"last_seen_id": seen, "meta": true});
    let join_ref = client.send_join(TOPIC, join).await;
    let mut reply = client.reply_to(&join_ref).await["response"].clone();
    let mut shouts = 0;
    let heartbeat = json!([null, "last", "phoenix", "heartbeat", {}]);
    client.send(heartbeat).await;
    loop {
        let frame = client.next().await;
        if frame[1] == "last" {
            break;
        }
        shouts += usize::from(frame[3] == "shout");
    }
    reply["count"] = json!(shouts);
    reply
}

#[test]
fn a_backup_overwrites_nothing_and_needs_a_database() {
    let database = Database::sqlite();
    let dir = database.dir.path();
    let fails = |args: &[&str], part: &str| {
        let output = run(&[&["backup"], args].concat(), dir);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(part), "{part}: {stderr}");
    };
    fails(&["copy.db"], "there is no database file slackir.db");
    assert!(!dir.join("copy.db").exists());
    assert_eq!(run(&["migrate"], dir).status.code(), Some(0));
    std::fs::write(dir.join("copy.db"), "something").expect("writable");
    fails(&["copy.db"], "copy.db exists already: nothing was written");
    assert_eq!(
        std::fs::read(dir.join("copy.db")).expect("readable"),
        b"something"
    );
    fails(&["none/copy.db"], "cannot write none/copy.db");
    fails(
        &["copy.dump", "--database-url", "ecto://me:s3cret@db/chat"],
        "pg_dump --format=custom --file=copy.dump postgres://me@db/chat",
    );
    assert!(!dir.join("copy.dump").exists());
}
