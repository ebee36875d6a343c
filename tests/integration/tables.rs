//! The tables go away under a running server, and come back; names that no table takes.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::json;
use slackir::log::MessageStore;
use slackir::pubsub::PublishError;
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

/// What only PostgreSQL can take away.
#[cfg(feature = "postgres")]
mod on_postgres {
    use super::*;

    /// A message waits while `away` is done, and is stored once `back` is.
    async fn waits(database: &Database, away: impl FnOnce(), back: impl FnOnce()) {
        let rooms = Rooms::open(database);
        shout(&rooms, ROOM, 1..=1).await;
        rooms.committed().await;
        away();
        shout(&rooms, ROOM, 2..=3).await;
        notices(&rooms, StorageState::Waiting).await;
        back();
        rooms.committed().await;
        assert_eq!(numbers(database, ROOM), [1, 2, 3]);
        notices(&rooms, StorageState::Available).await;
    }

    #[actix_web::test]
    async fn a_database_that_is_read_only_for_a_while() {
        const END_SESSIONS: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid()";
        let database = Database::postgres();
        let read_only = |how: &str| {
            let mut person = database.connect();
            person.execute("SET default_transaction_read_only = off");
            person.execute(&format!(
                "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = \
                 {how}', current_database()); END $$"
            ));
            person.execute(END_SESSIONS);
        };
        waits(&database, || read_only("on"), || read_only("off")).await;
    }

    #[actix_web::test]
    async fn a_right_that_is_revoked_for_a_while() {
        let mut database = Database::postgres();
        let superuser = database.url.clone();
        let role = format!("slackir_revoked_{}", std::process::id());
        database.execute(&format!(
            "CREATE ROLE {role} LOGIN; GRANT ALL ON SCHEMA public TO {role}"
        ));
        let (_, server) = superuser.split_once('@').expect("a user");
        database.url = format!("postgres://{role}@{server}");
        let revoke = || database.execute("REVOKE INSERT ON messages FROM CURRENT_USER");
        let grant = || database.execute("GRANT INSERT ON messages TO CURRENT_USER");
        waits(&database, revoke, grant).await;
        database.url = superuser;
        database.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
    }
}
