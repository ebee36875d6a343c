//! SQLite's file is deleted, replaced or overwritten under a running server.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::database::Database;
use crate::support::phoenix::Phoenix;
use crate::support::process::Process;
use crate::support::wire::http;

const LOBBY: &str = "random:lobby";
/// How long the server may take to notice.
const DEADLINE: Duration = Duration::from_secs(10);

/// What `/readyz` says.
async fn readiness(server: &Process) -> (u16, String) {
    let answer = http(server.addr, "GET", "/readyz", &[], &[]).await;
    let answer = answer.expect("the server answers");
    let body = String::from_utf8(answer.body).expect("text");
    (answer.status, body)
}

/// Waits until `/readyz` has this status, and says this.
async fn until_ready_says(server: &Process, status: u16, part: &str) {
    let begun = Instant::now();
    loop {
        let said = readiness(server).await;
        if said.0 == status && said.1.contains(part) {
            return;
        }
        assert!(begun.elapsed() < DEADLINE, "{said:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn shout(client: &mut Phoenix, join_ref: &str) -> serde_json::Value {
    let shout = client.push(join_ref, LOBBY, "shout", json!({"message": "hi"}));
    let shout = shout.await;
    loop {
        let frame = client.next().await;
        if frame[1] == shout {
            return frame[4].clone();
        }
    }
}

/// A server with a member and a stored message is done this to, and notices while nobody writes.
async fn is_noticed(damage: impl FnOnce(&Path), part: &str) {
    let database = Database::sqlite();
    let server = database.serve(&[]);
    let mut client = Phoenix::connect(server.addr).await;
    let join_ref = client.send_join(LOBBY, json!({"ack": true})).await;
    client.reply_to(&join_ref).await;
    assert_eq!(shout(&mut client, &join_ref).await["status"], "ok");
    damage(&database.dir.path().join("slackir.db"));
    until_ready_says(&server, 503, part).await;
    let refused = shout(&mut client, &join_ref).await;
    assert_eq!(refused["response"]["reason"], "storage unavailable");
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(1), "its end is no success");
}

#[actix_web::test]
async fn a_deleted_file_is_noticed() {
    let delete = |path: &Path| fs::remove_file(path).expect("it was there");
    is_noticed(delete, "the database file has been deleted").await;
}

#[actix_web::test]
async fn a_replaced_file_is_noticed() {
    let replace = |path: &Path| {
        let other = path.with_extension("other");
        fs::copy(path, &other).expect("there is room");
        fs::rename(&other, path).expect("it was there");
    };
    is_noticed(replace, "the database file has been replaced").await;
}

#[actix_web::test]
async fn a_truncated_file_is_noticed() {
    let truncate = |path: &Path| {
        let file = File::options().write(true).open(path).expect("it opens");
        file.set_len(0).expect("a shorter file");
    };
    is_noticed(truncate, "the database file has been truncated").await;
}

#[actix_web::test]
async fn an_overwritten_file_is_noticed() {
    let overwrite = |path: &Path| {
        let file = File::options().write(true).open(path).expect("it opens");
        file.write_all_at(&[7; 4096], 0).expect("there is room");
    };
    is_noticed(overwrite, "the database file has been overwritten").await;
}

#[actix_web::test]
async fn a_file_that_is_put_back_is_taken_again() {
    let database = Database::sqlite();
    let server = database.serve(&[]);
    let path = database.dir.path().join("slackir.db");
    let elsewhere = path.with_extension("elsewhere");
    fs::rename(&path, &elsewhere).expect("it was there");
    until_ready_says(&server, 503, "deleted").await;
    fs::rename(&elsewhere, &path).expect("it was there");
    until_ready_says(&server, 200, "ready").await;
    let mut client = Phoenix::connect(server.addr).await;
    let join_ref = client.send_join(LOBBY, json!({"ack": true})).await;
    client.reply_to(&join_ref).await;
    assert_eq!(shout(&mut client, &join_ref).await["status"], "ok");
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0));
}

#[actix_web::test]
async fn a_server_at_rest_notices_that_its_table_is_gone() {
    let database = Database::sqlite();
    let server = database.serve(&[]);
    database.execute("ALTER TABLE messages RENAME TO elsewhere");
    until_ready_says(&server, 200, "wait for the database").await;
    database.execute("ALTER TABLE elsewhere RENAME TO messages");
    until_ready_says(&server, 200, "ready\n").await;
}
