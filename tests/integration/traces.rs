//! Traces: the spans that a collector gets of what clients do.

use std::collections::BTreeSet;
use std::io::Read;
use std::net::TcpListener;
use std::process::Stdio;

use serde_json::json;
use tempfile::TempDir;

use crate::support::backend::{HookBackend, SECRET};
use crate::support::collector::Collector;
use crate::support::phoenix::Phoenix;
use crate::support::process::Process;
use crate::support::transport::Wire;
use crate::support::wire::{WireClient, http};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

fn sampled(trace: &str) -> String {
    format!("00-{trace}-{SPAN}-01")
}

/// A server whose room asks a backend about joins, and which traces nothing of its own accord.
fn server(collector: &Collector, backend: &HookBackend) -> (TempDir, Process) {
    let dir = tempfile::tempdir().expect("a folder");
    let write = |name, text: &str| std::fs::write(dir.path().join(name), text).expect("writable");
    write("hook.secret", SECRET);
    let config = format!(
        r#"
        otel_endpoint = "{}"
        otel_sample = 0
        otel_service_name = "chat"
        [hook]
        url = "http://{}/slackir?app=1"
        secret_file = "hook.secret"
        [[rooms]]
        topics = "room:*"
        events = ["shout"]
        history = "none"
        join = {{ hook = true }}
        [[rooms]]
        topics = "random:*"
        "#,
        collector.url(),
        backend.addr,
    );
    write("slackir.toml", &config);
    let process = Process::start(&dir, &["--config", "slackir.toml"]);
    (dir, process)
}

async fn backend() -> HookBackend {
    HookBackend::start(|_| json!({"ok": true}).into()).await
}

async fn dial(server: &Process, params: &str) -> Phoenix {
    Phoenix::dial_with(server.addr, params).await
}

/// Ends the server, which sends its last spans before.
fn end(server: Process) {
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0));
}

#[actix_web::test]
async fn a_clients_trace_goes_from_its_connect_to_the_commit() {
    let (collector, backend) = (Collector::start(), backend().await);
    let (_dir, server) = server(&collector, &backend);
    let params = format!("&traceparent={}", sampled(TRACE));
    let mut ada = dial(&server, &params).await;
    // Another member, whose connection is not traced: it has no span.
    let mut bob = Phoenix::connect(server.addr).await;
    bob.join("room:1").await;
    let (join_ref, _) = ada.join("room:1").await;
    ada.push(&join_ref, "room:1", "shout", json!({"n": 1}))
        .await;
    for client in [&mut ada, &mut bob] {
        assert_eq!(client.next_event().await.1, json!({"n": 1}));
    }
    end(server);

    let spans = collector.spans();
    assert_eq!(spans.len(), 6, "{spans:#?}");
    for found in &spans {
        assert_eq!(found.trace(), TRACE, "{found:?}");
        assert_eq!(found.service, "chat");
        let span = &found.span;
        assert!(
            span.start_time_unix_nano <= span.end_time_unix_nano,
            "{span:?}"
        );
    }
    assert_eq!(collector.span("connect").parent(), SPAN);
    for (name, parent) in [
        ("join", "connect"),
        ("hook", "join"),
        ("handle_in", "join"),
        ("broadcast", "handle_in"),
        ("persist", "broadcast"),
    ] {
        assert_eq!(
            collector.span(name).parent(),
            collector.span(parent).id(),
            "{name}"
        );
    }
    let broadcast = collector.span("broadcast");
    let topic = broadcast.attribute("slackir.topic");
    assert_eq!(topic.as_deref(), Some("room:1"));
    let id = collector.span("persist").attribute("slackir.id");
    assert_eq!(broadcast.attribute("slackir.id"), id);
    assert!(id.is_some());
    let calls = backend.calls();
    let headers: Vec<_> = calls
        .iter()
        .filter_map(|call| call.header("traceparent"))
        .collect();
    let hook = format!("00-{TRACE}-{}-01", collector.span("hook").id());
    assert_eq!(headers, [hook], "of Ada's join alone");
}

#[actix_web::test]
async fn a_traceparent_comes_in_a_header_or_a_join_and_an_invalid_one_counts_for_nothing() {
    let (collector, backend) = (Collector::start(), backend().await);
    let (_dir, server) = server(&collector, &backend);
    let header = sampled(TRACE);
    let headers = [("traceparent", Some(&*header))];
    let target = "/socket/websocket?vsn=2.0.0";
    let dialled = WireClient::dial(server.addr, target, &headers).await;
    let by_header = dialled.expect("accepted").0.expect("a connection");
    let mut by_header = Phoenix::over(by_header);
    by_header.heartbeat().await;

    let of_join = "1".repeat(32);
    let mut by_join = dial(&server, "&traceparent=00-nonsense-01").await;
    let params = json!({"traceparent": sampled(&of_join)});
    let join_ref = by_join.send_join("random:1", params).await;
    assert_eq!(by_join.reply_to(&join_ref).await["status"], "ok");

    // The client has decided against it.
    let unsampled = format!("&traceparent=00-{TRACE}-{SPAN}-00");
    let mut unsampled = dial(&server, &unsampled).await;
    unsampled.join("random:1").await;
    end(server);
    let spans = collector.spans();
    let spans: BTreeSet<_> = spans
        .iter()
        .map(|found| (found.trace(), found.span.name.clone()))
        .collect();
    let expected = [(TRACE.to_owned(), "connect"), (of_join, "join")];
    let expected = expected.map(|(trace, name)| (trace, name.to_owned()));
    assert_eq!(spans, BTreeSet::from(expected));
}

/// The number of spans with this result.
async fn counted(server: &Process, result: &str) -> u64 {
    let metrics = http(server.addr, "GET", "/metrics", &[], b"")
        .await
        .expect("an answer");
    let body = String::from_utf8_lossy(&metrics.body).into_owned();
    let begin = format!("slackir_trace_spans_total{{result=\"{result}\"}} ");
    let mut lines = body.lines().filter_map(|line| line.strip_prefix(&*begin));
    let count = lines.next().expect("the metric is there");
    count.parse().expect("a number")
}

#[actix_web::test]
async fn a_collector_that_is_away_is_logged_once_and_stops_nothing() {
    let nobody = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let url = format!("http://{}", nobody.local_addr().expect("bound"));
    drop(nobody);
    let dir = tempfile::tempdir().expect("a folder");
    let args = [
        "--otel-endpoint",
        &url,
        "--otel-sample",
        "1",
        "--log",
        "warn",
    ];
    let mut server = Process::start_logging_to(Stdio::piped(), &dir, &args);
    let mut stderr = server.take_stderr();
    for round in 1..=2 {
        let mut client = Phoenix::connect(server.addr).await;
        client.join("random:1").await;
        // Each round is a batch of its own.
        while counted(&server, "failed").await < 2 * round {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(counted(&server, "sent").await, 0);
    end(server);
    let mut log = String::new();
    stderr.read_to_string(&mut log).expect("UTF-8");
    assert_eq!(log.matches("serve.traces.unreachable").count(), 1, "{log}");
}

#[actix_web::test]
async fn spans_that_find_the_queue_full_are_dropped_and_counted() {
    // It takes connections, and never answers.
    let silent = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let url = format!("http://{}", silent.local_addr().expect("bound"));
    let dir = tempfile::tempdir().expect("a folder");
    let args = ["--otel-endpoint", &url, "--otel-sample", "1"];
    let server = Process::start(&dir, &args);
    let mut client = Phoenix::connect(server.addr).await;
    let (join_ref, _) = client.join("random:1").await;
    // The history, which is empty.
    client.next_event().await;
    const MESSAGES: u32 = 3_000;
    for n in 1..=MESSAGES {
        client
            .push(&join_ref, "random:1", "shout", json!({ "n": n }))
            .await;
        assert_eq!(client.next_event().await.1, json!({ "n": n }));
    }
    assert!(counted(&server, "dropped").await > 0);
    end(server);
}
