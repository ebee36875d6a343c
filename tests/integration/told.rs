//! `tell`: what the application's backend is told about rooms, in batches that are sent until it has taken them.

use std::collections::HashSet;
use std::io::Read;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::backend::{Answer, HookBackend, SECRET, serve_with_hook};
use crate::support::database::{Database, on_each_database};
use crate::support::phoenix::Phoenix;
use crate::support::process::{Process, run_with};
use crate::support::rooms::eventually;
use crate::support::wire::http;

on_each_database! {
    #[actix_web::test]
    messages_are_told_at_least_once_over_restarts_and_kills,
    the_first_start_that_tells_begins_at_the_newest_message,
    deleted_messages_are_skipped,
}

const ROOMS: &str = r#"
[identity]
fields = { id = "{connect.id:int}" }
[[rooms]]
topics = "room:quiet"
history = "none"
[[rooms]]
topics = "room:*"
history = "none"
changes = true
tell = ["message", "joined", "left", "occupied", "vacated"]
on.say = { stamp = { id = "{id}" } }
on.type = { store = false }
"#;

const MESSAGES: &str = r#"
[[rooms]]
topics = "room:*"
history = "none"
tell = ["message"]
on.say = {}
"#;

async fn dial(addr: SocketAddr, params: &str) -> Phoenix {
    Phoenix::dial_with(addr, params).await
}

/// Ends a server in order. The backend answers meanwhile.
async fn end(server: Process) {
    server.signal("-TERM");
    let ended = tokio::task::spawn_blocking(|| server.wait()).await;
    assert_eq!(ended.expect("no panic"), Some(0));
}

fn taken() -> Answer {
    Answer::Raw("204 No Content", Vec::new())
}

fn refused() -> Answer {
    Answer::Raw("500 Oops", b"no".to_vec())
}

/// The batches, each once, in the order of their first arrival.
fn batches(backend: &HookBackend) -> Vec<Vec<Value>> {
    let mut seen = HashSet::new();
    let bodies = backend.bodies("told").into_iter();
    let new = bodies.filter(|body| seen.insert(body["id"].clone()));
    new.map(|mut body| {
        assert_eq!(body["v"], 1);
        assert!(body["at"].is_u64());
        let notices = body["notices"].take();
        notices.as_array().expect("a list").clone()
    })
    .collect()
}

fn notices(backend: &HookBackend) -> Vec<Value> {
    batches(backend).concat()
}

fn of_kind(backend: &HookBackend, kind: &str) -> Vec<Value> {
    let all = notices(backend).into_iter();
    all.filter(|notice| notice["kind"] == kind).collect()
}

/// The numbers of the messages that were told, in order, each once.
fn numbers(backend: &HookBackend) -> Vec<u64> {
    let mut seen = HashSet::new();
    let told = of_kind(backend, "message").into_iter();
    let numbers = told.filter_map(|notice| notice["payload"]["n"].as_u64());
    numbers.filter(|n| seen.insert(*n)).collect()
}

async fn wait_for(backend: &HookBackend, kind: &str, count: usize) -> Vec<Value> {
    eventually(kind, || of_kind(backend, kind).len() >= count).await;
    of_kind(backend, kind)
}

/// Sends these numbers to a topic, and waits until they are saved.
async fn say(server: &Process, topic: &str, numbers: impl IntoIterator<Item = u64>) {
    let mut client = Phoenix::connect(server.addr).await;
    let join_ref = client.send_join(topic, json!({"ack": true})).await;
    assert_eq!(client.reply_to(&join_ref).await["status"], "ok");
    let mut replies = 0;
    for n in numbers {
        client
            .push(&join_ref, topic, "say", json!({ "n": n }))
            .await;
        replies += 1;
    }
    while replies > 0 {
        let (event, reply) = client.next_event().await;
        if event == "phx_reply" {
            assert_eq!(reply["status"], "ok");
            replies -= 1;
        }
    }
}

/// A server on this database that tells this backend.
fn serve(database: &Database, backend: &HookBackend, hook: &str, rooms: &str) -> Process {
    let write = |name: &str, text: &str| {
        std::fs::write(database.dir.path().join(name), text).expect("writable");
    };
    write("hook.secret", SECRET);
    let config = format!(
        "[hook]\nurl = \"http://{}/slackir?app=1\"\nsecret_file = \"hook.secret\"\n{hook}\n{rooms}",
        backend.addr
    );
    write("slackir.toml", &config);
    database.serve(&["--config", "slackir.toml"])
}

#[actix_web::test]
async fn each_kind_is_told() {
    let backend = HookBackend::start(|_| taken()).await;
    let (_dir, server) = backend.serve("", ROOMS);
    let mut ann = dial(server.addr, "&id=7").await;
    let (join_ref, _) = ann.join("room:1").await;
    let payload = json!({"body": "hi", "client_ref": "c1"});
    ann.push(&join_ref, "room:1", "say", payload).await;
    let said = ann.next_event().await.1;
    wait_for(&backend, "message", 1).await;
    ann.push(&join_ref, "room:1", "type", json!({})).await;
    assert_eq!(ann.next_event().await.0, "type");
    let delete = json!({"id": said["id"]});
    ann.push(&join_ref, "room:1", "delete_message", delete)
        .await;
    wait_for(&backend, "message", 2).await;
    ann.push(&join_ref, "room:1", "phx_leave", json!({})).await;
    wait_for(&backend, "vacated", 1).await;
    let mut ann = dial(server.addr, "&id=7").await;
    // Nothing of a room that tells nothing, though a later pattern matches.
    let (quiet_ref, _) = ann.join("room:quiet").await;
    ann.push(&quiet_ref, "room:quiet", "shout", json!({})).await;
    let mut ann = dial(server.addr, "&id=7").await;
    let (next_ref, _) = ann.join("room:2").await;
    ann.push(&next_ref, "room:2", "say", json!({})).await;
    wait_for(&backend, "message", 3).await;

    let mut told = notices(&backend);
    assert!(told.iter().all(|notice| notice["topic"] != "room:quiet"));
    told.retain(|notice| notice["topic"] == "room:1");
    let socket = told[1]["socket"].clone();
    assert_eq!(socket.as_str().map(str::len), Some(32));
    let mut times = Vec::new();
    for notice in &mut told {
        if notice["kind"] == "message" {
            let at = notice["inserted_at"].take();
            assert!(at.as_str().is_some_and(|at| at.ends_with('Z')), "{at}");
        } else {
            times.push(notice["at"].take().as_u64().expect("milliseconds"));
        }
    }
    assert!(times.is_sorted(), "{times:?}");
    let grace = times[3] - times[2];
    assert_eq!(grace, 3_000, "from the leave on");
    let id = &said["id"];
    let deleted = told[3]["id"].clone();
    let expected = json!([
        {"kind": "occupied", "topic": "room:1", "at": null},
        {"kind": "joined", "topic": "room:1", "socket": socket, "user": {"id": 7}, "at": null},
        {"kind": "message", "topic": "room:1", "event": "say", "id": id,
         "payload": {"body": "hi", "client_ref": "c1", "id": id}, "client_ref": "c1", "inserted_at": null},
        {"kind": "message", "topic": "room:1", "event": "message_deleted", "id": deleted,
         "payload": {"id": id}, "client_ref": null, "inserted_at": null},
        {"kind": "left", "topic": "room:1", "socket": socket, "user": {"id": 7}, "reason": "left", "at": null},
        {"kind": "vacated", "topic": "room:1", "at": null},
    ]);
    assert_eq!(Value::from(told), expected);
}

#[actix_web::test]
async fn messages_come_in_order_in_batches_of_a_hundred_one_at_a_time() {
    let backend = HookBackend::start(|_| taken().after(20)).await;
    let (_dir, server) = backend.serve("", MESSAGES);
    tokio::join!(
        say(&server, "room:1", 0..350),
        say(&server, "room:2", 1_000..1_350),
    );
    eventually("all are told", || numbers(&backend).len() == 700).await;
    for first in [0, 1_000] {
        let told = numbers(&backend).into_iter();
        let of_topic: Vec<_> = told.filter(|n| (first..first + 350).contains(n)).collect();
        assert_eq!(of_topic, (first..first + 350).collect::<Vec<_>>());
    }
    let sizes: Vec<_> = batches(&backend).iter().map(Vec::len).collect();
    assert!(
        sizes.iter().all(|size| (1..=100).contains(size)),
        "{sizes:?}"
    );
    assert!(sizes.len() < 60, "they are batches: {sizes:?}");
    assert_eq!(backend.most_at_once(), 1);
    assert_eq!(numbers(&backend).len(), of_kind(&backend, "message").len());

    // A batch is bounded in bytes, too.
    let mut ann = Phoenix::connect(server.addr).await;
    let (join_ref, _) = ann.join("room:3").await;
    for n in 2_000..2_004 {
        let payload = json!({"n": n, "long": "x".repeat(600_000)});
        ann.push(&join_ref, "room:3", "say", payload).await;
    }
    eventually("long ones are told", || numbers(&backend).len() == 704).await;
    let long = batches(&backend).split_off(sizes.len());
    assert!(long.iter().all(|batch| batch.len() == 1), "{}", long.len());
}

#[actix_web::test]
async fn a_batch_is_sent_until_it_is_taken_and_the_log_says_it_once() {
    let tries = Arc::new(AtomicUsize::new(0));
    let backend = HookBackend::start({
        let tries = Arc::clone(&tries);
        move |_| match tries.fetch_add(1, Ordering::SeqCst) {
            0 => refused(),
            1 => Answer::Never,
            2 => Answer::HangUp,
            // An answer that is no JSON, and one without a length.
            3 => Answer::Raw("201 Created", b"<html>".to_vec()),
            _ => Answer::Unframed(b"ok".to_vec()),
        }
    })
    .await;
    let dir = tempfile::tempdir().expect("a folder");
    let write = |name, text: &str| std::fs::write(dir.path().join(name), text).expect("writable");
    write("hook.secret", SECRET);
    let config = format!(
        "[hook]\nurl = \"http://127.0.0.1:1\"\ntell_url = \"http://{}/slackir?app=1\"\n\
         secret_file = \"hook.secret\"\ntimeout = \"300ms\"\n{ROOMS}",
        backend.addr
    );
    write("slackir.toml", &config);
    let args = ["--config", "slackir.toml", "--log-format", "json"];
    let mut server = Process::start_logging_to(Stdio::piped(), &dir, &args);
    let mut stderr = server.take_stderr();
    let began = Instant::now();
    let mut ann = dial(server.addr, "&id=7").await;
    let (join_ref, _) = ann.join("room:1").await;
    eventually("the backend hangs", || tries.load(Ordering::SeqCst) >= 2).await;
    for n in 0..20 {
        ann.push(&join_ref, "room:1", "say", json!({ "n": n }))
            .await;
        assert_eq!(ann.next_event().await.1["n"], n);
    }
    eventually("all is told", || numbers(&backend).len() == 20).await;
    // Pauses of half a second, of one and of two at least.
    assert!(began.elapsed() >= Duration::from_millis(3_500));
    let told = backend.bodies("told");
    assert!(told[..4].iter().all(|body| body["id"] == told[0]["id"]));
    assert_ne!(told[4]["id"], told[0]["id"]);
    eventually("it is counted", || tries.load(Ordering::SeqCst) >= 5).await;

    let answer = http(server.addr, "GET", "/metrics", &[], b"").await;
    let metrics = answer.expect("an answer").body;
    let metrics = String::from_utf8_lossy(&metrics).into_owned();
    for line in [
        "slackir_told_notices_total{kind=\"joined\",outcome=\"taken\"} 1",
        "slackir_told_notices_total{kind=\"left\",outcome=\"dropped\"} 0",
        "slackir_told_batches_total{outcome=\"status\"} 1",
        "slackir_told_batches_total{outcome=\"timeout\"} 1",
        "slackir_told_batches_total{outcome=\"broken\"} 1",
        "# HELP slackir_told_lag_seconds ",
        "slackir_told_lag_seconds ",
    ] {
        assert!(metrics.contains(line), "{line} is in {metrics}");
    }
    end(server).await;
    let mut log = String::new();
    stderr.read_to_string(&mut log).expect("readable");
    for event in ["\"hook.told.failing: ", "\"hook.told.answering\""] {
        assert_eq!(log.matches(event).count(), 1, "{event}: {log}");
    }
}

#[actix_web::test]
async fn a_topic_is_vacated_when_it_has_had_no_member_for_three_seconds() {
    let backend = HookBackend::start(|_| taken()).await;
    let rooms =
        "[[rooms]]\ntopics = \"room:*\"\nhistory = \"none\"\ntell = [\"occupied\", \"vacated\"]";
    let (_dir, server) = backend.serve("", rooms);
    let mut ann = Phoenix::connect(server.addr).await;
    let (mut ann_ref, _) = ann.join("room:1").await;
    // A connection that comes and goes, and a duplicate join.
    for _ in 0..3 {
        ann.push(&ann_ref, "room:1", "phx_leave", json!({})).await;
        ann.next_event().await;
        ann.next_event().await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        (ann_ref, _) = ann.join("room:1").await;
    }
    ann.send_join("room:1", json!({})).await;
    let mut bob = Phoenix::connect(server.addr).await;
    bob.join("room:1").await;
    bob.join("room:2").await;
    drop(ann);
    wait_for(&backend, "occupied", 2).await;
    tokio::time::sleep(Duration::from_millis(3_500)).await;
    let kinds = |backend: &HookBackend| -> Vec<String> {
        let told = notices(backend).into_iter();
        let named = told.map(|it| format!("{} {}", it["kind"], it["topic"]));
        named.map(|it| it.replace('"', "")).collect()
    };
    let mut expected = vec!["occupied room:1", "occupied room:2"];
    assert_eq!(kinds(&backend), expected, "bob is still there");
    let gone = Instant::now();
    drop(bob);
    wait_for(&backend, "vacated", 2).await;
    let waited = gone.elapsed();
    assert!(waited > Duration::from_millis(2_900), "{waited:?}");
    assert!(waited < Duration::from_secs(6), "{waited:?}");
    let mut dora = Phoenix::connect(server.addr).await;
    dora.join("room:2").await;
    wait_for(&backend, "occupied", 3).await;
    let mut told = kinds(&backend);
    told[2..4].sort();
    expected.extend(["vacated room:1", "vacated room:2", "occupied room:2"]);
    assert_eq!(told, expected);
}

#[actix_web::test]
async fn a_shutdown_tells_what_is_queued() {
    let backend = HookBackend::start(|_| taken()).await;
    let (_dir, server) = backend.serve("", ROOMS);
    let mut clients = Vec::new();
    for n in 0..120 {
        let mut client = dial(server.addr, &format!("&id={n}")).await;
        client.join(&format!("room:{n}")).await;
        clients.push(client);
    }
    end(server).await;
    let left = of_kind(&backend, "left");
    let sizes: Vec<_> = batches(&backend).iter().map(Vec::len).collect();
    assert_eq!(left.len(), 120, "{sizes:?}");
    assert!(left.iter().all(|notice| notice["reason"] == "shutdown"));
    assert_eq!(of_kind(&backend, "vacated").len(), 120);

    // A backend that hangs delays it by its timeout.
    let backend = HookBackend::start(|_| Answer::Never).await;
    let (_dir, server) = backend.serve("timeout = \"500ms\"", ROOMS);
    let mut ann = dial(server.addr, "&id=7").await;
    ann.join("room:1").await;
    let asked = Instant::now();
    end(server).await;
    assert!(
        asked.elapsed() < Duration::from_secs(4),
        "{:?}",
        asked.elapsed()
    );
}

#[actix_web::test]
async fn nobody_waits_for_a_backend_that_is_down() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let nobody = listener.local_addr().expect("an address");
    drop(listener);
    let (_dir, server) = serve_with_hook(nobody, "", ROOMS);
    for n in 0..10 {
        let began = Instant::now();
        let mut client = dial(server.addr, &format!("&id={n}")).await;
        let (join_ref, _) = client.join("room:1").await;
        client.push(&join_ref, "room:1", "say", json!({})).await;
        assert_eq!(client.next_event().await.0, "say");
        let took = began.elapsed();
        assert!(took < Duration::from_millis(500), "{took:?}");
    }
}

async fn messages_are_told_at_least_once_over_restarts_and_kills(database: Database) {
    let takes = Arc::new(AtomicBool::new(true));
    let backend = HookBackend::start({
        let takes = Arc::clone(&takes);
        move |_| {
            if takes.load(Ordering::SeqCst) {
                taken()
            } else {
                refused()
            }
        }
    })
    .await;
    let serve = || serve(&database, &backend, "", MESSAGES);
    let mut next = 0;
    for round in 0..6 {
        let server = serve();
        say(&server, "room:1", next..next + 40).await;
        say(&server, "room:2", next + 40..next + 60).await;
        next += 60;
        // Killed before, while and after the messages are told.
        tokio::time::sleep(Duration::from_millis(150 * round)).await;
        takes.store(round % 2 == 0, Ordering::SeqCst);
        server.kill();
    }
    takes.store(true, Ordering::SeqCst);
    let server = serve();
    eventually("all are told", || numbers(&backend).len() as u64 == next).await;
    let mut told = numbers(&backend);
    for topic in ["room:1", "room:2"] {
        let of_topic = of_kind(&backend, "message").into_iter();
        let of_topic = of_topic.filter(|notice| notice["topic"] == topic);
        let mut seen = HashSet::new();
        let mut first = of_topic.filter_map(|notice| notice["payload"]["n"].as_u64());
        let first: Vec<_> = first.by_ref().filter(|n| seen.insert(*n)).collect();
        assert!(first.is_sorted(), "{topic}: {first:?}");
    }
    told.sort_unstable();
    assert!(told.into_iter().eq(0..next));

    // After an end in order nothing is told again.
    end(server).await;
    let before = of_kind(&backend, "message").len();
    let server = serve();
    say(&server, "room:1", [next]).await;
    eventually("the new one is told", || numbers(&backend).contains(&next)).await;
    assert_eq!(of_kind(&backend, "message").len(), before + 1);
}

async fn the_first_start_that_tells_begins_at_the_newest_message(database: Database) {
    let backend = HookBackend::start(|_| taken()).await;
    let mute = MESSAGES.replace("tell = [\"message\"]", "");
    let server = serve(&database, &backend, "", &mute);
    say(&server, "room:1", 0..30).await;
    end(server).await;
    let server = serve(&database, &backend, "", MESSAGES);
    say(&server, "room:1", 30..35).await;
    eventually("the new ones are told", || numbers(&backend).len() >= 5).await;
    assert_eq!(numbers(&backend), [30, 31, 32, 33, 34]);
}

async fn deleted_messages_are_skipped(database: Database) {
    let tries = Arc::new(AtomicUsize::new(0));
    let backend = HookBackend::start({
        let tries = Arc::clone(&tries);
        move |_| match tries.fetch_add(1, Ordering::SeqCst) {
            0 | 1 => refused(),
            _ => taken(),
        }
    })
    .await;
    let server = serve(&database, &backend, "", MESSAGES);
    say(&server, "room:1", [0]).await;
    eventually("the first is refused", || tries.load(Ordering::SeqCst) > 0).await;
    say(&server, "room:1", 1..5).await;
    database.execute("DELETE FROM messages WHERE payload LIKE '%2%'");
    eventually("the last is told", || numbers(&backend).contains(&4)).await;
    assert_eq!(numbers(&backend), [0, 1, 3, 4]);
}

#[cfg(feature = "postgres")]
mod shared_postgres {
    use super::*;

    /// Another server has a row with a lower id, which becomes visible later.
    #[actix_web::test]
    async fn a_row_of_another_server_is_waited_for() {
        let database = Database::postgres();
        let backend = HookBackend::start(|_| taken()).await;
        end(serve(&database, &backend, "", MESSAGES)).await;
        database.execute(
            "INSERT INTO servers (id, name, seen_at) VALUES (1, 'other', now() + interval '1 hour')",
        );
        let server = serve(&database, &backend, "", MESSAGES);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut other = database.connect();
        other.execute(
            "BEGIN; INSERT INTO messages (topic, event, payload, seq, inserted_at, updated_at) \
             VALUES ('room:2', 'say', '{\"n\": 1}', 1, now(), now())",
        );
        say(&server, "room:1", [2]).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(numbers(&backend).is_empty());
        other.execute("COMMIT");
        eventually("both are told", || numbers(&backend) == [1, 2]).await;
        // A gap that stays, as of a transaction that was rolled back, is passed after a while.
        other.execute("SELECT nextval(pg_get_serial_sequence('messages', 'id'))");
        say(&server, "room:1", [3]).await;
        eventually("the next is told", || numbers(&backend) == [1, 2, 3]).await;
    }
}

#[test]
fn messages_cannot_be_told_if_none_is_saved() {
    let dir = tempfile::tempdir().expect("a folder");
    let write = |name, text: &str| std::fs::write(dir.path().join(name), text).expect("writable");
    write("hook.secret", SECRET);
    let config =
        format!("[hook]\nurl = \"http://127.0.0.1:1\"\nsecret_file = \"hook.secret\"\n{MESSAGES}");
    write("slackir.toml", &config);
    let args = [
        "--config",
        "slackir.toml",
        "--port",
        "0",
        "--persist",
        "off",
    ];
    let output = run_with(&args, dir.path(), &[]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let wanted =
        "slackir: [[rooms]] tell: \"message\" is about saved messages, it needs --persist on";
    assert!(stderr.starts_with(wanted), "{stderr}");
}
