//! That the metrics count what happens: deliveries, joins, resumes, refusals, by their labels.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::future::{join, join_all};
use serde_json::{Value, json};

use crate::metrics::{scrape, sum};
use crate::support::api::TOKEN;
use crate::support::phoenix::Phoenix;
use crate::support::process::Process;
use crate::support::wire::{WireClient, http};

/// Topics, presences and broadcasts count for the pattern of their room.
#[actix_web::test]
async fn each_room_has_series_of_its_own() {
    let dir = tempfile::tempdir().expect("a folder");
    let rooms = "[[rooms]]\ntopics = \"room:*\"\n[rooms.presence]\nkey = \"me\"\n\n[[rooms]]\ntopics = \"lobby\"\n";
    std::fs::write(dir.path().join("slackir.toml"), rooms).expect("writable");
    let server = Process::start(&dir, &["--config", "slackir.toml"]);
    let mut ann: Phoenix = Phoenix::dial(server.addr).await;
    let room = ann.send_join("room:1", json!({})).await;
    let lobby = ann.send_join("lobby", json!({})).await;
    for (join_ref, topic, count) in [(&room, "room:1", 3), (&lobby, "lobby", 2)] {
        for n in 0..count {
            let message = json!({"message": n.to_string()});
            ann.push(join_ref, topic, "shout", message).await;
        }
    }
    // Presence adds a broadcast for the member that has joined.
    let expected = [
        ("slackir_topics", "room:*", 1.0),
        ("slackir_topics", "lobby", 1.0),
        ("slackir_presences", "room:*", 1.0),
        ("slackir_presences", "lobby", 0.0),
        ("slackir_broadcasts_total", "room:*", 4.0),
        ("slackir_broadcasts_total", "lobby", 2.0),
    ];
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let metrics = scrape(server.addr, &[]).await;
        let of =
            |name: &str, pattern: &str| sum(&metrics, &format!("{name}{{pattern=\"{pattern}\"}}"));
        let found = expected.map(|(name, pattern, _)| (name, pattern, of(name, pattern)));
        if found == expected {
            break;
        }
        assert!(Instant::now() < deadline, "{found:?}");
        tokio::task::yield_now().await;
    }
}

/// Broadcasts times members are deliveries.
#[actix_web::test]
async fn messages_times_members_are_deliveries() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Process::start(&dir, &[]);
    let mut members = Vec::new();
    for _ in 0..5 {
        let mut member: Phoenix = Phoenix::dial(server.addr).await;
        let (join_ref, _) = member.join("random:lobby").await;
        members.push((member, join_ref));
    }
    let (ann, ann_ref) = &mut members[0];
    for n in 0..200 {
        let message = json!({"name": "ann", "message": n.to_string()});
        ann.push(ann_ref, "random:lobby", "shout", message).await;
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let metrics = scrape(server.addr, &[]).await;
        let got = sum(&metrics, "slackir_deliveries_total")
            + sum(&metrics, "slackir_deliveries_dropped_total");
        let sent = sum(&metrics, "slackir_broadcasts_total");
        let received = sum(&metrics, "slackir_messages_received_total");
        if (sent, received, got) == (200.0, 205.0, 1_000.0) {
            assert_eq!(sum(&metrics, "slackir_joins_total"), 5.0);
            assert_eq!(sum(&metrics, "slackir_connections"), 5.0);
            assert_eq!(sum(&metrics, "slackir_channels"), 5.0);
            break;
        }
        assert!(Instant::now() < deadline, "{got} deliveries: {metrics}");
        tokio::task::yield_now().await;
    }
    drop(members);
    let closed = loop {
        let metrics = scrape(server.addr, &[]).await;
        if sum(&metrics, "slackir_connections") == 0.0 {
            break sum(&metrics, "slackir_connections_closed_total");
        }
        assert!(Instant::now() < deadline, "{metrics}");
    };
    assert_eq!(closed, 5.0);
}

const LOBBY: &str = "random:lobby";

/// The response to a request. Frames before it are passed over.
async fn response(member: &mut Phoenix, reference: &str) -> Value {
    loop {
        let mut frame = member.next().await;
        if frame[1] == reference && frame[3] == "phx_reply" {
            return frame[4]["response"].take();
        }
    }
}

/// The number of messages that a member was sent: it leaves after the first `heard`.
async fn leave_after(member: &mut Phoenix, join_ref: &str, heard: usize) -> usize {
    let mut got = 0;
    while got < heard {
        got += usize::from(member.next_event().await.0 == "shout");
    }
    let leave = member.push(join_ref, LOBBY, "phx_leave", json!({})).await;
    loop {
        let frame = member.next().await;
        if frame[1] == leave {
            return got;
        }
        got += usize::from(frame[3] == "shout");
    }
}

/// Publishes messages over the HTTP API, all in one turn of the worker.
async fn publish_batch(addr: SocketAddr, count: usize) {
    let message = json!({"topic": LOBBY, "payload": {"name": "api", "message": "x".repeat(1_000)}});
    let batch = json!({"messages": vec![message; count]}).to_string();
    let authorization = format!("Bearer {TOKEN}");
    let headers = [
        ("Authorization", Some(&*authorization)),
        ("Content-Type", Some("application/json")),
    ];
    let path = "/api/messages/batch";
    let answer = http(addr, "POST", path, &headers, batch.as_bytes()).await;
    let results = answer.expect("an answer").json();
    let results = results["results"].as_array().expect("results");
    assert!(
        results.iter().all(|result| result["status"] == 201),
        "{results:?}"
    );
}

/// Waits until so many deliveries, dropped ones included, are counted; never more. Returns the metrics.
async fn counted(addr: SocketAddr, deliveries: usize) -> String {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let metrics = scrape(addr, &[]).await;
        let got = sum(&metrics, "slackir_deliveries_total")
            + sum(&metrics, "slackir_deliveries_dropped_total");
        if got == deliveries as f64 {
            return metrics;
        }
        assert!(got < deliveries as f64, "{got} of {deliveries}: {metrics}");
        assert!(
            Instant::now() < deadline,
            "{got} of {deliveries}: {metrics}"
        );
        tokio::task::yield_now().await;
    }
}

/// Broadcasts times members are deliveries and dropped deliveries, also if a member leaves meanwhile, and another does
/// not read until the server ends it.
#[actix_web::test]
async fn messages_times_members_are_deliveries_and_those_that_were_dropped() {
    const SHOUTS: usize = 200;
    const BATCH: usize = 100;
    let dir = tempfile::tempdir().expect("a folder");
    // One worker handles a batch in one turn, in which no member joins, leaves or is ended.
    let args = ["--api-token", TOKEN, "--outbox-bytes", "20000"];
    let server = Process::start_with_one_worker(&dir, &args);
    let addr = server.addr;
    let [mut ann, bob, mut leaver, stalled] = {
        let dialed = (0..4).map(|_| Phoenix::<WireClient>::dial(addr));
        let dialed = join_all(dialed).await;
        <[Phoenix; 4]>::try_from(dialed).ok().expect("four")
    };
    let (ann_ref, _) = ann.join(LOBBY).await;
    let (leaver_ref, _) = leaver.join(LOBBY).await;
    let mut others = [bob, stalled];
    for member in &mut others {
        member.join(LOBBY).await;
    }
    others[1].wire.stop_reading();
    let flood = async {
        for n in 0..SHOUTS {
            let message = json!({"name": "ann", "message": n.to_string()});
            ann.push(&ann_ref, LOBBY, "shout", message).await;
        }
    };
    let leaving = leave_after(&mut leaver, &leaver_ref, SHOUTS / 4);
    let ((), got) = join(flood, leaving).await;
    let mut expected = 3 * SHOUTS + got;
    let mut metrics = counted(addr, expected).await;
    let mut batches = 0;
    while sum(&metrics, "slackir_slow_consumers_total") == 0.0 {
        assert!(
            batches < 100,
            "10 MB were sent, and the stalled member is still there"
        );
        publish_batch(addr, BATCH).await;
        batches += 1;
        expected += 3 * BATCH;
        metrics = counted(addr, expected).await;
    }
    let dropped = sum(&metrics, "slackir_deliveries_dropped_total");
    assert!(dropped >= 1.0, "{metrics}");
    // Without it.
    publish_batch(addr, BATCH).await;
    expected += 2 * BATCH;
    metrics = counted(addr, expected).await;
    let broadcasts = SHOUTS + (batches + 1) * BATCH;
    assert_eq!(sum(&metrics, "slackir_broadcasts_total"), broadcasts as f64);
    assert_eq!(sum(&metrics, "slackir_deliveries_dropped_total"), dropped);
    let slow = "slackir_deliveries_dropped_total{reason=\"slow_consumer\"}";
    assert_eq!(sum(&metrics, slow), 1.0, "{metrics}");
}

/// A page of another origin, a wrong token and a proxy that is not trusted are counted by name.
#[actix_web::test]
async fn refused_origins_and_tokens_and_ignored_proxies_are_told_apart() {
    let config = format!(
        "secret_key_base = \"{}\"\n[identity]\nphoenix_token = {{}}\n",
        "s".repeat(64)
    );
    let (_dir, server) = Process::configured(&config, &["--trusted-proxies", "none"]);
    let refused = async |target: &str, header: (&str, &str)| {
        let headers = [(header.0, Some(header.1))];
        let answer = WireClient::open(server.addr, target, &headers).await;
        let answer = answer.expect("an answer").expect_err("a refusal");
        assert_eq!(answer.status, 403, "{target}");
    };
    let socket = "/socket/websocket?vsn=2.0.0";
    refused(socket, ("Origin", "https://evil.example")).await;
    let forwarded = ("X-Forwarded-For", "203.0.113.9");
    refused(&format!("{socket}&token=wrong"), forwarded).await;
    let metrics = scrape(server.addr, &[]).await;
    for series in [
        "slackir_connections_refused_total{reason=\"origin\"}",
        "slackir_connections_refused_total{reason=\"token\"}",
        "slackir_token_refusals_total{reason=\"invalid\"}",
        "slackir_forwarded_ignored_total",
    ] {
        assert_eq!(sum(&metrics, series), 1.0, "{series}: {metrics}");
    }
    assert_eq!(sum(&metrics, "slackir_connections_refused_total"), 2.0);
}

/// A join has its result, also if a limit refuses it before its channel starts.
#[actix_web::test]
async fn joins_that_a_limit_refuses_are_counted() {
    let dir = tempfile::tempdir().expect("a folder");
    let args = [
        "--max-channels",
        "1",
        "--joins-per-second",
        "1",
        "--joins-burst",
        "2",
    ];
    let server = Process::start(&dir, &args);
    let mut ann: Phoenix = Phoenix::dial(server.addr).await;
    ann.join("random:a").await;
    for reason in ["too many channels joined", "rate limited"] {
        let join = ann.send_join("random:b", json!({})).await;
        assert_eq!(response(&mut ann, &join).await["reason"], reason);
    }
    let metrics = scrape(server.addr, &[]).await;
    let joins = |result: &str| {
        let series = format!("slackir_joins_total{{pattern=\"random:*\",result=\"{result}\"}}");
        sum(&metrics, &series)
    };
    assert_eq!(
        ["ok", "refused", "limited"].map(joins),
        [1.0, 0.0, 2.0],
        "{metrics}"
    );
}

/// A resume that gets the history instead says why.
#[actix_web::test]
async fn each_resume_has_a_result() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Process::start(&dir, &[]);
    let mut ann: Phoenix = Phoenix::dial(server.addr).await;
    let (join_ref, _) = ann.join(LOBBY).await;
    let message = json!({"name": "ann", "message": "hi"});
    ann.push(&join_ref, LOBBY, "shout", message).await;
    while ann.next_event().await.0 != "shout" {}
    let join = ann.send_join(LOBBY, json!({"meta": true})).await;
    let last = response(&mut ann, &join).await["last_id"].clone();
    let last = last.as_str().expect("an id");
    let (epoch, _) = last.split_once('-').expect("an epoch and a seq");
    for seen in [last, &format!("{epoch}-999"), "1-1", "nothing"] {
        let mut bob: Phoenix = Phoenix::dial(server.addr).await;
        let join = bob.send_join(LOBBY, json!({"last_seen_id": seen})).await;
        let recovered = &response(&mut bob, &join).await["recovered"];
        assert_eq!(recovered, seen == last, "{seen}");
    }
    let metrics = scrape(server.addr, &[]).await;
    let resumes = |result: &str| {
        sum(
            &metrics,
            &format!("slackir_resumes_total{{result=\"{result}\"}}"),
        )
    };
    let results = ["memory", "database", "gap", "epoch", "failed"].map(resumes);
    assert_eq!(results, [1.0, 0.0, 1.0, 2.0, 0.0], "{metrics}");
}

/// A client over its rate is not read for a while, which is counted by its reason.
#[actix_web::test]
async fn a_pause_of_reading_has_its_reason() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Process::start(&dir, &["--pushes-per-second", "1", "--pushes-burst", "3"]);
    let mut ann: Phoenix = Phoenix::dial(server.addr).await;
    let (join_ref, _) = ann.join(LOBBY).await;
    let mut refused = json!(null);
    for _ in 0..20 {
        let ping = ann.push(&join_ref, LOBBY, "ping", json!({})).await;
        refused = response(&mut ann, &ping).await["reason"].take();
        if !refused.is_null() {
            break;
        }
    }
    assert_eq!(refused, "rate limited");
    let metrics = scrape(server.addr, &[]).await;
    let pauses = ["outbox", "channels", "limit"].map(|reason| {
        sum(
            &metrics,
            &format!("slackir_reads_paused_total{{reason=\"{reason}\"}}"),
        )
    });
    assert_eq!(pauses, [0.0, 0.0, 1.0], "{metrics}");
}
