//! The tables go away under a running server, and come back; names that no table takes.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::json;
use slackir::pubsub::{MessageStore, PublishError};
use slackir::store::StorageState;

use crate::support::database::{Database, on_each_database};
use crate::support::rooms::{Rooms, eventually};

const ROOM: &str = "room:a";
const OTHER: &str = "room:b";

on_each_database! {
    #[actix_web::test]
    messages_wait_while_their_table_is_renamed,
    topics_are_opened_while_their_table_is_renamed,
    a_strict_writer_refuses_while_a_table_is_gone,
    a_dropped_table_ends_nothing,
    a_topic_with_nul_is_refused_at_the_join,
}

/// Waits until the writer has noticed.
async fn notices(rooms: &Rooms, state: StorageState) {
    eventually("the writer notices", || rooms.writer.state() == state).await;
}

async fn shout(rooms: &Rooms, topic: &str, numbers: RangeInclusive<u64>) {
    for n in numbers {
        rooms.shout(topic, json!({ "n": n })).await;
    }
}

fn numbers(database: &Database, topic: &str) -> Vec<u64> {
    let payloads = database.payloads(topic);
    let numbers = payloads.iter().map(|payload| payload["n"].as_u64());
    numbers.collect::<Option<_>>().expect("numbered payloads")
}

async fn messages_wait_while_their_table_is_renamed(database: Database) {
    let rooms = Rooms::open(&database);
    shout(&rooms, ROOM, 1..=1).await;
    rooms.committed().await;
    database.execute("ALTER TABLE messages RENAME TO elsewhere");
    // A batch that can be halved again and again.
    shout(&rooms, ROOM, 2..=9).await;
    notices(&rooms, StorageState::Waiting).await;
    shout(&rooms, OTHER, 1..=2).await;
    database.execute("ALTER TABLE elsewhere RENAME TO messages");
    rooms.committed().await;
    assert_eq!(numbers(&database, ROOM), (1..=9).collect::<Vec<_>>());
    assert_eq!(numbers(&database, OTHER), [1, 2]);
    notices(&rooms, StorageState::Available).await;
}

/// Not a topic's name is to blame, but the table.
async fn topics_are_opened_while_their_table_is_renamed(database: Database) {
    let rooms = Rooms::open(&database);
    shout(&rooms, ROOM, 1..=1).await;
    rooms.committed().await;
    database.execute("ALTER TABLE topics RENAME TO elsewhere");
    shout(&rooms, OTHER, 1..=2).await;
    shout(&rooms, ROOM, 2..=3).await;
    notices(&rooms, StorageState::Waiting).await;
    database.execute("ALTER TABLE elsewhere RENAME TO topics");
    rooms.committed().await;
    assert_eq!(numbers(&database, ROOM), [1, 2, 3]);
    assert_eq!(numbers(&database, OTHER), [1, 2]);
    notices(&rooms, StorageState::Available).await;
}

async fn a_strict_writer_refuses_while_a_table_is_gone(database: Database) {
    let rooms = Rooms::open_as(&database, true);
    shout(&rooms, ROOM, 1..=1).await;
    rooms.committed().await;
    database.execute("ALTER TABLE messages RENAME TO elsewhere");
    shout(&rooms, ROOM, 2..=2).await;
    notices(&rooms, StorageState::Refusing).await;
    let refused = rooms
        .pubsub
        .broadcast(ROOM, "shout", json!({ "n": 3 }))
        .await;
    assert!(matches!(refused, Err(PublishError::StoreFull(_))));
    assert!(rooms.writer.open(OTHER, true).await.is_err());
    database.execute("ALTER TABLE elsewhere RENAME TO messages");
    rooms.committed().await;
    notices(&rooms, StorageState::Available).await;
    shout(&rooms, ROOM, 4..=4).await;
    rooms.committed().await;
    assert_eq!(numbers(&database, ROOM), [1, 2, 4]);
}

async fn a_dropped_table_ends_nothing(database: Database) {
    let rooms = Rooms::open(&database);
    shout(&rooms, ROOM, 1..=1).await;
    rooms.committed().await;
    database.execute("DROP TABLE messages");
    shout(&rooms, ROOM, 2..=3).await;
    notices(&rooms, StorageState::Waiting).await;
    assert_eq!(rooms.writer.flush(Duration::from_millis(300)).await, 2);
    assert_eq!(rooms.writer.state(), StorageState::Waiting);
}

async fn a_topic_with_nul_is_refused_at_the_join(database: Database) {
    let rooms = Rooms::open(&database);
    let mut socket = rooms.connect().await;
    let join = socket.join("room:\0", json!({}));
    let refusal = json!({"reason": "topic must not hold NUL"});
    socket.assert_reply(&join, "error", refusal).await;
    let refused = rooms.pubsub.broadcast("room:\0", "shout", json!({}));
    assert_eq!(refused.await, Err(PublishError::NulInTopic));
    rooms.committed().await;
    let topics = database.ask("SELECT topic AS answer FROM topics");
    assert!(topics.is_empty(), "{topics:?}");
}
