//! The database goes away while people chat, and comes back: nothing is lost, whatever becomes of
//! the server meanwhile.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::database::{Database, Person, on_each_database};
use crate::support::phoenix::Phoenix;
use crate::support::process::Process;
use crate::support::proxy::Proxy;
use crate::support::wire::http;

const LOBBY: &str = "random:lobby";
/// How long a server may take to see that its database is away, or back.
const DEADLINE: Duration = Duration::from_secs(30);

on_each_database! {
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    chat_goes_on_and_everything_is_stored_in_order,
    what_waits_is_stored_by_the_next_run_of_the_server,
    a_full_spool_refuses_shouts_until_there_is_room,
    a_full_disk_refuses_shouts_and_spoils_nothing,
    a_strict_server_refuses_what_nobody_may_see,
}

/// A database that can be taken away: SQLite is locked, so that transactions take for ever;
/// PostgreSQL is cut off, so that they fail.
struct Outage {
    database: Database,
    proxy: Option<Proxy>,
    locked: Option<Person>,
}

impl Outage {
    async fn of(database: Database) -> Self {
        let proxy = match database.folder() {
            "sqlite" => None,
            _ => Some(Proxy::start(database.host()).await),
        };
        Self {
            database,
            proxy,
            locked: None,
        }
    }

    fn begin(&mut self) {
        match &self.proxy {
            Some(proxy) => proxy.cut(),
            None => self.locked = Some(self.database.block_writes()),
        }
    }

    fn end(&mut self) {
        self.locked = None;
        if let Some(proxy) = &self.proxy {
            proxy.mend();
        }
    }

    fn serve(&self, args: &[&str]) -> Process {
        self.database.serve_at(&self.url(), args)
    }

    fn url(&self) -> String {
        match &self.proxy {
            Some(proxy) => self.database.url_over(proxy.addr),
            None => self.database.url.clone(),
        }
    }

    fn numbers(&self, topic: &str) -> Vec<u64> {
        let payloads = self.database.payloads(topic);
        let numbers = payloads.iter().map(|payload| payload["n"].as_u64());
        numbers.collect::<Option<_>>().expect("numbered payloads")
    }
}

/// Someone in a room.
struct Member {
    client: Phoenix,
    join_ref: String,
}

impl Member {
    /// Joins, and passes over the history.
    async fn join(server: &Process, topic: &str) -> (Self, Value) {
        let mut client = Phoenix::connect(server.addr).await;
        let (join_ref, _) = client.join(topic).await;
        let (event, history) = client.next_event().await;
        assert_eq!(event, "messages_history");
        (Self { client, join_ref }, history)
    }

    async fn push(&mut self, topic: &str, n: u64) -> String {
        self.push_filled(topic, n, "x").await
    }

    async fn push_filled(&mut self, topic: &str, n: u64, filler: &str) -> String {
        let payload = json!({"n": n, "x": filler});
        self.client
            .push(&self.join_ref, topic, "shout", payload)
            .await
    }

    async fn hears(&mut self, n: u64) {
        let (event, payload) = self.client.next_event().await;
        assert_eq!((&*event, &payload["n"]), ("shout", &json!(n)));
    }

    /// Shouts and hears each.
    async fn shout(&mut self, topic: &str, numbers: std::ops::RangeInclusive<u64>) {
        for n in numbers {
            self.push(topic, n).await;
            self.hears(n).await;
        }
    }
}

impl Member {
    /// Shouts 1, 2, 3.. until one is refused; those that were not.
    async fn shout_until_refused(&mut self, topic: &str, filler: &str) -> Vec<u64> {
        let mut taken = Vec::new();
        loop {
            let n = taken.len() as u64 + 1;
            let reference = self.push_filled(topic, n, filler).await;
            let heard = self.client.next().await;
            if heard[3] == "shout" {
                assert_eq!(heard[4]["n"], n);
                taken.push(n);
                continue;
            }
            let refused = json!({"reason": "storage unavailable", "retry_after_ms": 1000});
            let refused = json!({"status": "error", "response": refused});
            assert_eq!((&heard[1], &heard[4]), (&json!(reference), &refused));
            return taken;
        }
    }
}

async fn get(server: &Process, path: &str) -> (u16, String) {
    let answer = http(server.addr, "GET", path, &[], &[]).await;
    let answer = answer.expect("the server answers");
    let body = String::from_utf8(answer.body).expect("text");
    (answer.status, body)
}

/// Waits until the answer is as it should be.
async fn until(server: &Process, path: &str, wanted: &str, holds: impl Fn(u16, &str) -> bool) {
    let end = Instant::now() + DEADLINE;
    loop {
        let (status, body) = get(server, path).await;
        if holds(status, &body) {
            return;
        }
        assert!(Instant::now() < end, "no {wanted:?} in {status} {body}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until `/readyz` says this.
pub(crate) async fn ready(server: &Process, status: u16, part: &str) {
    let holds = |found, body: &str| found == status && body.contains(part);
    until(server, "/readyz", part, holds).await;
}

/// Waits until the gauge has this value.
async fn gauge(server: &Process, name: &str, value: u64) {
    let line = format!("{name} {value}\n");
    let holds = |_, body: &str| body.contains(&line);
    until(server, "/metrics", &line, holds).await;
}

/// Waits until so many rows are on disk in the spool.
async fn spooled(server: &Process, rows: u64) {
    gauge(server, "slackir_spool_rows", rows).await;
}

async fn chat_goes_on_and_everything_is_stored_in_order(database: Database) {
    const NEW: &str = "random:new";
    let mut outage = Outage::of(database).await;
    let server = outage.serve(&[]);
    let (mut carl, _) = Member::join(&server, NEW).await;
    carl.shout(NEW, 1..=2).await;
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0));

    let server = outage.serve(&[]);
    let (mut ann, _) = Member::join(&server, LOBBY).await;
    let (mut bob, _) = Member::join(&server, LOBBY).await;
    ann.shout(LOBBY, 1..=5).await;
    gauge(&server, "slackir_writer_queue_rows", 0).await;
    outage.begin();
    ann.shout(LOBBY, 6..=105).await;
    for n in 1..=105 {
        bob.hears(n).await;
    }
    // A topic that is not in memory: what is stored cannot be read, and people chat all the same.
    let (mut carl, _) = Member::join(&server, NEW).await;
    carl.shout(NEW, 3..=4).await;
    spooled(&server, 102).await;
    ready(&server, 200, "102 messages wait for the database").await;
    outage.end();
    ready(&server, 200, "ready\n").await;
    spooled(&server, 0).await;
    assert_eq!(outage.numbers(LOBBY), (1..=105).collect::<Vec<_>>());
    assert_eq!(outage.numbers(NEW), [1, 2, 3, 4]);
    let (_, history) = Member::join(&server, NEW).await;
    let history = history["messages"].as_array().expect("a list").clone();
    let history: Vec<_> = history.iter().filter_map(|row| row["n"].as_u64()).collect();
    assert_eq!(
        history,
        [1, 2, 3, 4],
        "what was stored before is there again"
    );
}

async fn what_waits_is_stored_by_the_next_run_of_the_server(database: Database) {
    let mut outage = Outage::of(database).await;
    let mut said = 0;
    for signal in ["-KILL", "-TERM"] {
        let server = outage.serve(&[]);
        let (mut ann, history) = Member::join(&server, LOBBY).await;
        let history = history["messages"].as_array().expect("a list").len();
        assert_eq!(history as u64, said, "what waited is in the history");
        outage.begin();
        ann.shout(LOBBY, said + 1..=said + 20).await;
        said += 20;
        spooled(&server, 20).await;
        server.signal(signal);
        let code = server.wait();
        assert_eq!(code, (signal == "-TERM").then_some(0), "{signal}");
        outage.end();
    }
    let server = outage.serve(&[]);
    ready(&server, 200, "ready\n").await;
    assert_eq!(outage.numbers(LOBBY), (1..=said).collect::<Vec<_>>());
}

/// PostgreSQL's alone: SQLite's file is never away when a server starts.
#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_knows_its_database_starts_without_it() {
    let mut outage = Outage::of(Database::postgres()).await;
    let server = outage.serve(&[]);
    let (mut ann, _) = Member::join(&server, LOBBY).await;
    outage.begin();
    ann.shout(LOBBY, 1..=20).await;
    spooled(&server, 20).await;
    server.kill();

    let server = outage.serve(&[]);
    ready(&server, 200, "20 messages wait for the database").await;
    let (mut ann, history) = Member::join(&server, LOBBY).await;
    assert_eq!(
        history,
        json!({"messages": []}),
        "nothing of it is in memory"
    );
    ann.shout(LOBBY, 21..=40).await;
    spooled(&server, 40).await;
    server.kill();

    let server = outage.serve(&[]);
    let (mut ann, _) = Member::join(&server, LOBBY).await;
    ann.shout(LOBBY, 41..=45).await;
    outage.end();
    ready(&server, 200, "ready\n").await;
    assert_eq!(outage.numbers(LOBBY), (1..=45).collect::<Vec<_>>());
    let (_, history) = Member::join(&server, LOBBY).await;
    let history = history["messages"].as_array().expect("a list").len();
    assert_eq!(history, 45, "all of it is read when the database is there");
}

/// The database is back: shouts are taken again, and what was taken before is stored, nothing else.
async fn goes_on(mut outage: Outage, server: Process, mut ann: Member, mut taken: Vec<u64>) {
    outage.end();
    ready(&server, 200, "ready\n").await;
    let next = taken.len() as u64 + 2;
    ann.shout(LOBBY, next..=next).await;
    taken.push(next);
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0));
    assert_eq!(outage.numbers(LOBBY), taken);
}

async fn a_full_spool_refuses_shouts_until_there_is_room(database: Database) {
    let mut outage = Outage::of(database).await;
    let server = outage.serve(&["--spool-bytes", "20000"]);
    let (mut ann, _) = Member::join(&server, LOBBY).await;
    outage.begin();
    let taken = ann.shout_until_refused(LOBBY, "x").await;
    ready(&server, 503, "storage unavailable").await;
    goes_on(outage, server, ann, taken).await;
}

/// No file of the server may grow beyond a megabyte, which for it is a full disk.
async fn a_full_disk_refuses_shouts_and_spoils_nothing(database: Database) {
    let mut outage = Outage::of(database).await;
    let filler = "x".repeat(20_000);
    let url = outage.url();
    let server = Process::start_with_files_of(1_000_000, &outage.database.dir, &url);
    let (mut ann, _) = Member::join(&server, LOBBY).await;
    if outage.proxy.is_some() {
        outage.begin();
    }
    let taken = ann.shout_until_refused(LOBBY, &filler).await;
    ready(&server, 503, "storage unavailable").await;
    server.allow_files_of_any_size();
    goes_on(outage, server, ann, taken).await;
}

async fn a_strict_server_refuses_what_nobody_may_see(database: Database) {
    let mut outage = Outage::of(database).await;
    let server = outage.serve(&["--durability", "strict"]);
    let (mut ann, _) = Member::join(&server, LOBBY).await;
    ann.shout(LOBBY, 1..=1).await;
    outage.begin();
    ann.push(LOBBY, 2).await;
    ready(&server, 503, "storage unavailable").await;
    let refused = ann.push(LOBBY, 3).await;
    let reply = ann.client.next().await;
    assert_eq!(
        (&reply[1], &reply[4]["status"]),
        (&json!(refused), &json!("error"))
    );
    outage.end();
    ann.hears(2).await;
    ready(&server, 200, "ready\n").await;
    ann.shout(LOBBY, 4..=4).await;
    assert_eq!(outage.numbers(LOBBY), [1, 2, 4]);
}

/// Its clients wait for the restart, not for a database that is known to be away.
#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_starts_at_once_without_its_database() {
    let mut outage = Outage::of(Database::postgres()).await;
    let server = outage.serve(&[]);
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0));
    outage.begin();
    let begun = Instant::now();
    let server = outage.serve(&[]);
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(4), "{took:?}");
    ready(&server, 200, "the database cannot be used").await;
}
