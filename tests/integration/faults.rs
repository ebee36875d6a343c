//! The server is killed, or told to end, while people shout.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::interval;

use crate::support::database::{Database, on_each_database};
use crate::support::phoenix::Phoenix;
use crate::support::process::Process;
use crate::support::swarm::{Member, Received};

const TOPIC: &str = "random:fault";
const PUBLISHERS: u64 = 10;
/// Each publisher shouts this often: 1,000 shouts a second in all.
const PACE: Duration = Duration::from_millis(10);

on_each_database! {
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    kill_9_under_load_loses_nothing_that_is_old,
    sigterm_under_load_stores_everything_that_anybody_received,
    a_second_signal_ends_the_server_at_once,
}

/// Two members that listen and ten that shout until their connection ends.
struct Load {
    listeners: Vec<Member>,
    publishers: Vec<JoinHandle<()>>,
}

impl Load {
    async fn start(server: &Process) -> Self {
        let mut listeners = Vec::new();
        for _ in 0..2 {
            listeners.push(Member::join(server.addr, TOPIC).await);
        }
        let mut publishers = Vec::new();
        for publisher in 1..=PUBLISHERS {
            let mut member = Member::join(server.addr, TOPIC).await;
            publishers.push(tokio::spawn(async move {
                let mut pace = interval(PACE);
                for count in 0.. {
                    pace.tick().await;
                    member.shout(publisher * 1_000_000 + count).await;
                }
            }));
        }
        Self {
            listeners,
            publishers,
        }
    }

    /// Everything that each listener received before its connection ended.
    async fn ended(self) -> Vec<Vec<Received>> {
        self.publishers.iter().for_each(JoinHandle::abort);
        let mut diaries = Vec::new();
        for listener in self.listeners {
            diaries.push(listener.ended().await);
        }
        diaries
    }
}

fn table(database: &Database) -> Vec<u64> {
    let payloads = database.payloads(TOPIC);
    payloads
        .iter()
        .map(|payload| payload["n"].as_u64().expect("an id"))
        .collect()
}

fn ids(diary: &[Received]) -> Vec<u64> {
    diary.iter().map(|received| received.id).collect()
}

async fn kill_9_under_load_loses_nothing_that_is_old(database: Database) {
    // A quarter of a second if nothing else wants the disk.
    const OLD: Duration = Duration::from_secs(1);
    let server = database.serve(&[]);
    let mut load = Load::start(&server).await;
    load.listeners[0].wait_for(3_000).await;
    let killed = Instant::now();
    server.kill();
    let diaries = load.ended().await;

    let server = database.serve(&[]);
    if database.folder() == "sqlite" {
        let check = "SELECT integrity_check AS answer FROM pragma_integrity_check";
        assert_eq!(database.ask(check), ["ok"]);
    }
    let stored = table(&database);
    for diary in diaries {
        let before = diary.iter().filter(|shout| shout.at + OLD < killed);
        let expected: Vec<u64> = before.map(|shout| shout.id).collect();
        assert!(
            expected.len() > 1_000,
            "the load should have run for a while"
        );
        assert_eq!(
            stored[..expected.len()],
            expected,
            "what was seen is stored, in its order"
        );
    }
    // The restarted server goes on where the table ends.
    let mut client = Phoenix::connect(server.addr).await;
    let (join_ref, _) = client.join(TOPIC).await;
    let (_, history) = client.next_event().await;
    let last = history["messages"]
        .as_array()
        .and_then(|list| list.last())
        .cloned();
    assert_eq!(
        last.map(|payload| payload["n"].as_u64()),
        Some(stored.last().copied())
    );
    client
        .push(&join_ref, TOPIC, "shout", serde_json::json!({"n": 7}))
        .await;
    assert_eq!(client.next_event().await.0, "shout");
}

async fn sigterm_under_load_stores_everything_that_anybody_received(database: Database) {
    for signal in ["-TERM", "-INT"] {
        let server = database.serve(&[]);
        let mut load = Load::start(&server).await;
        load.listeners[0].wait_for(1_000).await;
        server.signal(signal);
        // As `timeout` and `tini -g` do: that is still one request.
        server.signal(signal);
        let diaries = load.ended().await;
        assert_eq!(server.wait(), Some(0), "{signal}");
        let stored = table(&database);
        for diary in diaries {
            let received = ids(&diary);
            assert!(received.len() >= 1_000);
            assert_eq!(
                stored[..received.len()],
                received,
                "{signal}: content and order"
            );
        }
        database.execute("DELETE FROM messages");
    }
}

async fn a_second_signal_ends_the_server_at_once(database: Database) {
    let server = database.serve(&["--shutdown-timeout", "60", "--durability", "strict"]);
    let mut client = Phoenix::connect(server.addr).await;
    let (join_ref, _) = client.join(TOPIC).await;
    // A locked database holds a shutdown up, where nothing may wait in the spool.
    let blocked = database.block_writes();
    client
        .push(&join_ref, TOPIC, "shout", json!({"n": 1}))
        .await;
    client.next_event().await;
    client.heartbeat().await;
    server.signal("-TERM");
    client.ended_with(1012).await;
    // Within a second it would be the same signal, sent twice.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    server.signal("-TERM");
    assert_eq!(
        server.wait(),
        Some(1),
        "a message was not saved, and the exit code says so"
    );
    drop(blocked);
}
