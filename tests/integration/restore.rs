//! An old copy of the database is put back: what came after the copy is not known to it, and nobody is
//! told otherwise.

use serde_json::json;
use slackir::log::{Epoch, MessageId, Seq};

use crate::support::database::{Database, on_each_database};
use crate::support::rooms::Rooms;

const TOPIC: &str = "room:a";

on_each_database! {
    #[actix_web::test]
    a_copy_knows_nothing_of_what_came_after_it,
    ids_hold_over_many_restarts,
    a_join_alone_writes_nothing,
    a_client_that_was_there_before_the_first_message_resumes,
}

async fn a_copy_knows_nothing_of_what_came_after_it(database: Database) {
    let rooms = Rooms::open(&database);
    let past = rooms.shout_numbers(TOPIC, 1..=3).await;
    rooms.end(&database).await;
    database.copy();

    let rooms = Rooms::open(&database);
    let future = rooms.shout_numbers(TOPIC, 4..=6).await;
    rooms.assert_resumes(TOPIC, past[0], 2..=6).await;
    rooms.end(&database).await;
    database.put_back();

    let rooms = Rooms::open(&database);
    for &id in &future {
        rooms.assert_lost(TOPIC, id, 1..=3).await;
    }
    rooms.assert_resumes(TOPIC, past[1], [3]).await;
    let present = rooms.shout_numbers(TOPIC, 7..=10).await;
    assert_lost(&rooms, &future).await;
    rooms.assert_resumes(TOPIC, past[1], [3, 7, 8, 9, 10]).await;
    rooms.end(&database).await;

    let rooms = Rooms::open(&database);
    assert_lost(&rooms, &future).await;
    rooms.assert_resumes(TOPIC, past[2], 7..=10).await;
    rooms.assert_resumes(TOPIC, present[1], 9..=10).await;
}

/// These ids are strange, although other messages have their seqs.
async fn assert_lost(rooms: &Rooms, future: &[MessageId]) {
    for &id in future {
        let history = [1, 2, 3, 7, 8, 9, 10];
        rooms.assert_lost(TOPIC, id, history).await;
        let found = rooms.pubsub.find(TOPIC, id).await.expect("a database");
        assert!(found.is_none(), "nobody changes another message");
        let read = rooms.writer.reader().get(TOPIC, id).await;
        assert!(read.expect("a database").is_none());
    }
}

/// SQLite's alone: PostgreSQL copies no database that is in use.
#[actix_web::test]
async fn a_copy_of_a_running_server_knows_nothing_of_what_came_after_it() {
    let database = Database::sqlite();
    let rooms = Rooms::open(&database);
    let past = rooms.shout_numbers(TOPIC, 1..=3).await;
    rooms.save().await;
    let copy = database.dir.path().join("copy.db");
    database.execute(&format!("VACUUM INTO '{}'", copy.display()));
    let future = rooms.shout_numbers(TOPIC, 4..=6).await;
    assert_eq!(future[0].epoch, past[0].epoch, "one process, one run");
    rooms.end(&database).await;
    database.put_back();

    let rooms = Rooms::open(&database);
    rooms.assert_lost(TOPIC, future[0], 1..=3).await;
    rooms.shout_numbers(TOPIC, 7..=10).await;
    assert_lost(&rooms, &future).await;
    rooms
        .assert_resumes(TOPIC, past[0], [2, 3, 7, 8, 9, 10])
        .await;
}

async fn ids_hold_over_many_restarts(database: Database) {
    let mut ids = Vec::new();
    for n in 1..=4 {
        let rooms = Rooms::open(&database);
        ids.extend(rooms.shout_numbers(TOPIC, [n]).await);
        rooms.end(&database).await;
    }
    let rooms = Rooms::open(&database);
    let reader = rooms.writer.reader();
    let page = reader.list(TOPIC, Default::default(), 10);
    let page = page.await.expect("a page").messages;
    let listed: Vec<_> = page.iter().map(|message| message.id).collect();
    assert_eq!(listed, ids, "a message keeps its id");
    for (seen, &id) in (1..).zip(&ids) {
        rooms.assert_resumes(TOPIC, id, seen + 1..=4).await;
        let found = rooms.pubsub.find(TOPIC, id).await.expect("a database");
        assert_eq!(found.map(|entry| entry.id()), Some(id));
    }
}

async fn a_join_alone_writes_nothing(database: Database) {
    for _ in 0..2 {
        let rooms = Rooms::open(&database);
        for topic in ["room:a", "room:b"] {
            let (_socket, reply) = rooms.join(topic, json!({"meta": true})).await;
            assert_eq!(reply, json!({"recovered": false, "last_id": "0-0"}));
        }
        rooms.end(&database).await;
        let topics = "SELECT topic AS answer FROM topics";
        assert_eq!(database.ask(topics), [""; 0]);
    }
}

async fn a_client_that_was_there_before_the_first_message_resumes(database: Database) {
    let before = MessageId::new(Epoch::new(0), Seq::new(0));
    let rooms = Rooms::open(&database);
    rooms.assert_resumes(TOPIC, before, []).await;
    let first = rooms.shout_numbers(TOPIC, 1..=2).await;
    rooms.assert_resumes(TOPIC, before, 1..=2).await;
    rooms.end(&database).await;
    let rooms = Rooms::open(&database);
    rooms.assert_resumes(TOPIC, before, 1..=2).await;
    rooms.shout_numbers(TOPIC, [3]).await;
    rooms.assert_resumes(TOPIC, before, 1..=3).await;
    rooms.assert_resumes(TOPIC, first[1], [3]).await;
}
