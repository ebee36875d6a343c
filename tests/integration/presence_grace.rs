//! `grace` of a presence: clients that lose their connection and are back in time were never gone.

use std::time::Duration;

use serde_json::{Value, json};
use slackir::server::MemoryRooms;
use slackir::testing::TestSocket;
use tokio::time::timeout;

use crate::support::wire::DEADLINE;

const ROOM: &str = "room:1";

fn rooms() -> MemoryRooms {
    let config = r#"
        [identity]
        fields = { name = "{connect.name}" }

        [[rooms]]
        topics = "room:*"
        history = "none"
        presence = { key = "{user.name}", grace = "1s" }
    "#;
    MemoryRooms::from_toml(config).expect("a valid configuration")
}

async fn join(rooms: &MemoryRooms, name: &str) -> TestSocket {
    let socket = TestSocket::connect(rooms.endpoint(), "/socket", json!({ "name": name })).await;
    let mut socket = socket.expect("everybody may connect");
    socket.subscribe_and_join(ROOM, json!({})).await;
    socket
}

/// The keys of the joins and of the leaves of the next diff.
async fn diff(watcher: &mut TestSocket) -> (Vec<String>, Vec<String>) {
    let diff = watcher.next_broadcast("presence_diff").await;
    let keys = |of: &Value| of.as_object().expect("keys").keys().cloned().collect();
    (keys(&diff["joins"]), keys(&diff["leaves"]))
}

/// Closes the connection, and waits until the server knows.
async fn lose(rooms: &MemoryRooms, client: TestSocket) {
    let others = rooms.endpoint().connections() - 1;
    client.close();
    let gone = async {
        while rooms.endpoint().connections() > others {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(DEADLINE, gone).await.expect("the connection ends");
}

fn keys(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[actix_web::test]
async fn who_is_back_in_time_was_never_gone() {
    let rooms = rooms();
    let mut ada = join(&rooms, "ada").await;
    assert_eq!(diff(&mut ada).await, (keys(&["ada"]), keys(&[])));
    let bob = join(&rooms, "bob").await;
    assert_eq!(diff(&mut ada).await, (keys(&["bob"]), keys(&[])));
    lose(&rooms, bob).await;
    let _bob = join(&rooms, "bob").await;
    assert_eq!(diff(&mut ada).await, (keys(&["bob"]), keys(&["bob"])));
    // The end of the first connection's grace changes nothing.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    ada.refute_broadcast("presence_diff").await;
}

#[actix_web::test]
async fn who_does_not_come_back_is_gone_after_the_grace() {
    let rooms = rooms();
    let mut ada = join(&rooms, "ada").await;
    diff(&mut ada).await;
    let bob = join(&rooms, "bob").await;
    diff(&mut ada).await;
    lose(&rooms, bob).await;
    ada.refute_broadcast("presence_diff").await;
    assert_eq!(diff(&mut ada).await, (keys(&[]), keys(&["bob"])));
}

#[actix_web::test]
async fn who_leaves_is_gone_at_once() {
    let rooms = rooms();
    let mut ada = join(&rooms, "ada").await;
    diff(&mut ada).await;
    let mut bob = join(&rooms, "bob").await;
    diff(&mut ada).await;
    let left = bob.leave(ROOM);
    assert_eq!(bob.reply(&left).await.0, "ok");
    let gone = timeout(Duration::from_millis(500), diff(&mut ada)).await;
    assert_eq!(gone.ok(), Some((keys(&[]), keys(&["bob"]))));
}

#[test]
fn a_grace_has_a_bound() {
    for (grace, problem) in [("11m", "at most 10m"), ("soon", "whole number")] {
        let config = format!(
            "[[rooms]]\ntopics = \"room:*\"\npresence = {{ key = \"{{socket.id}}\", grace = \"{grace}\" }}"
        );
        let error = MemoryRooms::from_toml(&config).expect_err("it is refused");
        assert!(error.to_string().contains(problem), "{error}");
    }
}
