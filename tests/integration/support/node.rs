//! Nodes of one cluster as a user starts them: real processes, one PostgreSQL, one Redis or NATS; and members of a topic.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::bus::{Bus, Engine};
use super::database::Database;
use super::phoenix::Phoenix;
use super::process::Process;
use super::wire::http;

pub(crate) const TOPIC: &str = "random:lobby";
/// How long what happens in the background may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Nodes on one database and one Redis or NATS.
pub(crate) struct Cluster {
    pub(crate) database: Database,
    pub(crate) bus: Bus,
}

/// One server of a cluster, with a folder of its own for its spool.
pub(crate) struct Node {
    pub(crate) server: Process,
    _dir: TempDir,
}

/// A member of the topic.
pub(crate) struct Member {
    pub(crate) client: Phoenix,
    pub(crate) join_ref: String,
    /// The id of the last message that it has.
    pub(crate) last: Value,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        Self::over(Engine::Redis)
    }

    pub(crate) fn over(engine: Engine) -> Self {
        Self {
            database: Database::postgres(),
            bus: Bus::start(engine),
        }
    }

    pub(crate) fn node(&self) -> Node {
        self.node_with(&[])
    }

    pub(crate) fn node_with(&self, args: &[&str]) -> Node {
        self.node_on(&self.bus.url(), args)
    }

    /// A node that reaches the bus at this URL.
    pub(crate) fn node_on(&self, bus: &str, args: &[&str]) -> Node {
        Self::node_of(self.bus.engine, [&self.database.url, bus], args)
    }

    /// A node that reaches the database and the bus by these URLs.
    pub(crate) fn node_of(engine: Engine, [database, bus]: [&str; 2], args: &[&str]) -> Node {
        let dir = TempDir::new().expect("a folder");
        let bus = engine.args(bus);
        let mut all = vec!["--database-url", database];
        all.extend(bus.iter().map(String::as_str));
        all.extend(args);
        let server = Process::start(&dir, &all);
        Node { server, _dir: dir }
    }

    /// A node that saves nothing, and has no database.
    pub(crate) fn node_without_database(&self) -> Node {
        let dir = TempDir::new().expect("a folder");
        let bus = self.bus.url();
        let flag = match self.bus.engine {
            Engine::Redis => "--redis-url",
            Engine::Nats => "--nats-url",
        };
        let server = Process::start(&dir, &["--persist", "off", flag, &bus]);
        Node { server, _dir: dir }
    }

    /// Waits until the database has so many messages.
    pub(crate) async fn stored(&self, messages: usize) {
        until("the messages are stored", || {
            self.database.payloads(TOPIC).len() == messages
        })
        .await;
    }
}

impl Node {
    pub(crate) fn addr(&self) -> SocketAddr {
        self.server.addr
    }

    pub(crate) fn end(self) {
        self.server.signal("-TERM");
        assert_eq!(self.server.wait(), Some(0));
    }
}

impl Member {
    pub(crate) async fn join(node: &Node) -> Self {
        Self::resume(node, Value::Null).await
    }

    /// Joins, and has seen everything up to this message.
    pub(crate) async fn resume(node: &Node, last: Value) -> Self {
        let mut client = Phoenix::connect(node.addr()).await;
        let params = json!({"meta": true, "history": "none", "last_seen_id": last});
        let join_ref = client.send_join(TOPIC, params).await;
        let reply = client.reply_to(&join_ref).await;
        assert_eq!(reply["status"], "ok", "{reply}");
        if !last.is_null() {
            assert_eq!(reply["response"]["recovered"], true, "{reply}");
        }
        let last = if last.is_null() {
            reply["response"]["last_id"].clone()
        } else {
            last
        };
        Self {
            client,
            join_ref,
            last,
        }
    }

    pub(crate) async fn say(&mut self, n: u64) {
        let said = json!({"name": "ada", "message": n.to_string()});
        self.client.push(&self.join_ref, TOPIC, "shout", said).await;
    }

    /// The number of the next message.
    pub(crate) async fn hear(&mut self) -> u64 {
        let (event, payload) = self.client.next_event().await;
        assert_eq!(event, "shout", "{payload}");
        self.last = payload["_meta"]["id"].clone();
        let n = payload["message"].as_str().and_then(|n| n.parse().ok());
        n.unwrap_or_else(|| panic!("a number, not {payload}"))
    }
}

pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "it should be that {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What `/readyz` says.
pub(crate) async fn readiness(node: &Node) -> String {
    let answer = http(node.addr(), "GET", "/readyz", &[], &[]).await;
    let answer = answer.expect("the node answers");
    String::from_utf8(answer.body).expect("text")
}
