//! The rooms of a server in the test's own process, over a database that the test looks into.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use slackir::log::{Flushed, LogRule, MessageId};
use slackir::pattern::TopicPattern;
use slackir::pubsub::{Draft, PubSub};
use slackir::server::rooms::{Room, SHOUT, UserSocket, router};
use slackir::store::{DbWriter, DbWriterHandle, Store, StoreOptions, WriterOptions};
use slackir::testing::TestSocket;
use slackir::{Endpoint, Mount};

use super::database::Database;

/// How long a test waits for something to become true.
const PATIENCE: Duration = Duration::from_secs(20);

/// The topics `room:*`, and a server's parts behind them.
pub(crate) struct Rooms {
    pub(crate) writer: DbWriterHandle,
    pub(crate) pubsub: PubSub,
    endpoint: Endpoint,
}

impl Rooms {
    pub(crate) fn open(database: &Database) -> Self {
        Self::open_as(database, false)
    }

    /// As [`Rooms::open`], with either durability.
    pub(crate) fn open_as(database: &Database, strict: bool) -> Self {
        let (store, _) =
            Store::open(&database.url, StoreOptions::default()).expect("a sound database");
        let options = WriterOptions::default().strict(strict);
        let writer = DbWriter::start_on_own_thread(store, options).expect("a free connection");
        Self::over(writer, strict)
    }

    /// The same rooms as after a restart of the server; the writer is still the same.
    pub(crate) fn over(writer: DbWriterHandle, strict: bool) -> Self {
        let room = Room::default().topics(TopicPattern::new("room:*"));
        let store = Arc::new(writer.clone());
        let rule = LogRule::new(&room.topics, &[SHOUT], room.history_limit, store);
        let pubsub = PubSub::with_logs(vec![rule.strict(strict)]);
        let endpoint = Endpoint::builder(pubsub.clone())
            .mount(Mount::new("/socket", UserSocket, router(&[room])))
            .build();
        Self {
            writer,
            pubsub,
            endpoint,
        }
    }

    /// Publishes; returns the message's id, under which it is committed sooner or later.
    pub(crate) async fn shout(&self, topic: &str, payload: Value) -> MessageId {
        let draft = Draft::new(SHOUT, payload);
        let published = self.pubsub.publish(topic, &draft).await;
        published.expect("room for it").id.expect("a log")
    }

    /// Shouts `{"n": ..}` for each number, and waits until all are committed. Their ids.
    pub(crate) async fn shout_numbers(
        &self,
        topic: &str,
        numbers: impl IntoIterator<Item = u32>,
    ) -> Vec<MessageId> {
        let mut ids = Vec::new();
        for n in numbers {
            ids.push(self.shout(topic, json!({ "n": n })).await);
        }
        self.committed().await;
        ids
    }

    /// Waits until everything that was published is committed.
    pub(crate) async fn committed(&self) {
        assert_eq!(self.writer.flush(PATIENCE).await, 0);
    }

    /// Ends the runs of all topics in order, as when nobody was there for a while.
    pub(crate) async fn save(&self) {
        assert_eq!(self.pubsub.save(PATIENCE).await, Flushed::default());
    }

    /// Ends in order, as at a shutdown, and waits until the database is free.
    pub(crate) async fn end(self, database: &Database) {
        self.save().await;
        drop(self);
        eventually("the writer ends", || {
            Store::open(&database.url, StoreOptions::default()).is_ok()
        })
        .await;
    }

    /// A client in no topic.
    pub(crate) async fn connect(&self) -> TestSocket {
        let socket = TestSocket::connect(&self.endpoint, "/socket", json!({})).await;
        socket.expect("everybody may connect")
    }

    /// A client in the topic, and the answer to its join.
    pub(crate) async fn join(&self, topic: &str, params: Value) -> (TestSocket, Value) {
        let mut socket = self.connect().await;
        let reply = socket.subscribe_and_join(topic, params).await;
        (socket, reply)
    }

    /// A client that has seen this message gets exactly what it has missed: these numbers.
    pub(crate) async fn assert_resumes(
        &self,
        topic: &str,
        last_seen: MessageId,
        missed: impl IntoIterator<Item = u32>,
    ) {
        let params = json!({ "last_seen_id": last_seen.to_string() });
        let (mut socket, reply) = self.join(topic, params).await;
        assert_eq!(reply["recovered"], true, "{last_seen}");
        for n in missed {
            let payload = socket.next_push(SHOUT).await;
            assert_eq!(number(&payload), Some(n), "{last_seen}");
        }
        socket.refute_push(SHOUT).await;
    }

    /// A client that has seen this message is told that the gap cannot be filled, and gets a history
    /// with these numbers.
    pub(crate) async fn assert_lost(
        &self,
        topic: &str,
        last_seen: MessageId,
        history: impl IntoIterator<Item = u32>,
    ) {
        let params = json!({ "last_seen_id": last_seen.to_string() });
        let (mut socket, reply) = self.join(topic, params).await;
        assert_eq!(reply["recovered"], false, "{last_seen}");
        let numbers = next_history(&mut socket).await;
        assert!(
            numbers.iter().copied().eq(history),
            "{last_seen}: {numbers:?}"
        );
    }

    /// The numbers of the newest messages, as a client gets them that joins.
    pub(crate) async fn history(&self, topic: &str) -> Vec<u32> {
        let (mut socket, _) = self.join(topic, json!({})).await;
        next_history(&mut socket).await
    }
}

async fn next_history(socket: &mut TestSocket) -> Vec<u32> {
    let history = socket.next_push("messages_history").await;
    let messages = history["messages"].as_array().expect("a list");
    messages.iter().filter_map(number).collect()
}

fn number(payload: &Value) -> Option<u32> {
    payload["n"].as_u64().map(|n| n as u32)
}

/// Waits until `holds` does.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let held = tokio::time::timeout(PATIENCE, waiting).await;
    assert!(held.is_ok(), "{what}");
}
