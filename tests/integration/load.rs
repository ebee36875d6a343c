//! `slackir load` against a running server.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::process::{Process, program, run};
use crate::support::tls::{TLS, write_certificate};
use crate::support::wire::http;

/// A server of the default room.
fn server(args: &[&str]) -> (TempDir, Process, String) {
    let (dir, server) = Process::configured("", args);
    let url = format!("ws://{}/socket/websocket", server.addr);
    (dir, server, url)
}

/// The exit code of a load, its result, and what it says.
pub(crate) fn load(url: &str, args: &[&str]) -> (i32, Value, String) {
    let dir = tempfile::tempdir().expect("a folder");
    let output = run(
        &[&["load", "--url", url, "--json"], args].concat(),
        dir.path(),
    );
    let result = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    (output.status.code().expect("no signal"), result, said)
}

/// The server's line of metrics that counts the messages of the room.
async fn broadcasts(server: &Process) -> Option<String> {
    let answer = http(server.addr, "GET", "/metrics", &[], b"").await;
    let metrics = String::from_utf8(answer.expect("an answer").body).expect("text");
    let of_room = |line: &&str| line.starts_with("slackir_broadcasts_total{pattern=\"random:*\"}");
    metrics.lines().find(of_room).map(str::to_owned)
}

/// A load that runs until it is told to end.
struct Running {
    child: Child,
    stderr: BufReader<std::process::ChildStderr>,
}

impl Running {
    /// Starts a load, and waits until its clients have joined.
    fn start(url: &str, args: &[&str]) -> Self {
        let mut command = Command::new(program());
        command.args(["load", "--url", url, "--json"]).args(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary runs");
        let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
        let mut line = String::new();
        stderr.read_line(&mut line).expect("UTF-8");
        assert!(line.contains("have joined"), "{line}");
        Self { child, stderr }
    }

    fn interrupt(&self) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-INT", &pid]).status();
        assert!(sent.expect("kill runs").success());
    }

    /// Its exit code, its result, and what it says at its end.
    fn end(mut self) -> (i32, Value, String) {
        let mut said = String::new();
        self.stderr.read_to_string(&mut said).expect("UTF-8");
        let output = self.child.wait_with_output().expect("it ends");
        let result = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (output.status.code().expect("no signal"), result, said)
    }
}

#[test]
fn every_message_comes_to_every_member() {
    let (_dir, _server, url) = server(&[]);
    let args = [
        "--clients",
        "40",
        "--topics",
        "4",
        "--rate",
        "200",
        "--seconds",
        "1",
    ];
    let (code, result, said) = load(&url, &args);
    assert_eq!(code, 0, "{said}");
    for (name, number) in [
        ("joined", 40),
        ("messages", 200),
        ("deliveries", 2_000),
        ("lost", 0),
        ("doubled", 0),
        ("reordered", 0),
    ] {
        assert_eq!(result[name], number, "{name} of {result}");
    }
    assert_eq!(result["closed"], json!({}));
    let [half, most] = ["p50", "max"].map(|name| {
        let time = result["delivery_ms"][name].as_f64();
        time.expect("a number")
    });
    assert!(0.0 < half && half <= most, "{result}");
    // A second load does not count the history of the first.
    let (code, result, said) = load(&url, &args);
    assert_eq!((code, &result["deliveries"]), (0, &json!(2_000)), "{said}");
}

#[test]
fn clients_only_connect_or_stay() {
    let (dir, _server, url) = server(&[]);
    for mode in ["connect", "idle"] {
        let args = ["--mode", mode, "--clients", "300", "--seconds", "0.2"];
        let (code, result, said) = load(&url, &args);
        assert_eq!(code, 0, "{said}");
        assert_eq!(
            (&result["joined"], &result["messages"]),
            (&json!(300), &json!(0))
        );
    }
    let args = [
        "load",
        "--url",
        &url,
        "--clients",
        "3",
        "--rate",
        "10",
        "--seconds",
        "0.5",
    ];
    let output = run(&args, dir.path());
    let text = String::from_utf8_lossy(&output.stdout);
    for part in [
        "3 of 3 joined",
        "messages    5 in ",
        "lost        0, doubled 0",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn in_a_storm_all_but_a_few_come_back_and_resume() {
    let (_dir, _server, url) = server(&[]);
    let args = [
        "--mode",
        "storm",
        "--clients",
        "120",
        "--channels",
        "3",
        "--stay",
        "20",
        "--seconds",
        "0.5",
        "--rate",
        "200",
    ];
    let (code, result, said) = load(&url, &args);
    assert_eq!(code, 0, "{said}");
    for (name, number) in [("away", 100), ("back", 100), ("resumed_channels", 300)] {
        assert_eq!(result["storm"][name], number, "{name} of {result}");
    }
    assert_eq!(
        (&result["joined"], &result["lost"]),
        (&json!(120), &json!(0))
    );
    assert!(result["replies"].as_u64() >= Some(100), "{result}");
    let seconds = result["storm"]["seconds"].as_f64();
    assert!(seconds > Some(0.0), "{result}");
}

#[test]
fn a_server_that_drops_its_clients_is_reported() {
    let (_dir, server, url) = server(&[]);
    let running = Running::start(&url, &["--clients", "20", "--seconds", "60"]);
    server.signal("-TERM");
    let (code, result, said) = running.end();
    assert_eq!(code, 1, "{result}");
    let closed = result["closed"].as_object().expect("reasons");
    let closed: u64 = closed.values().filter_map(Value::as_u64).sum();
    assert_eq!(closed, 20, "{result}");
    assert!(said.contains("20 clients were closed ("), "{said}");
    assert_eq!(server.wait(), Some(0));
}

#[actix_web::test]
async fn what_a_member_does_not_receive_is_lost() {
    let rooms = r#"
        [[rooms]]
        topics = "random:*"
        on.shout = { to = "others" }
    "#;
    let (_dir, server) = Process::configured(rooms, &[]);
    let url = format!("ws://{}/socket/websocket", server.addr);
    let few = ["--clients", "5", "--topics", "1", "--rate", "50"];
    let (code, result, said) = load(&url, &[&few[..], &["--others", "--seconds", "1"]].concat());
    assert_eq!((code, &result["deliveries"]), (0, &json!(50 * 4)), "{said}");
    // Each publisher waits for its own messages. Ctrl-C prints the result so far.
    let before = broadcasts(&server).await;
    let running = Running::start(&url, &[&few[..], &["--seconds", "60"]].concat());
    while broadcasts(&server).await == before {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    running.interrupt();
    let (code, result, said) = running.end();
    assert_eq!(code, 1, "{result}");
    assert_eq!(result["lost"], result["messages"], "{result}");
    let messages = result["messages"].as_u64().expect("a number");
    let lost = format!("{messages} deliveries were lost");
    assert!(said.contains(&lost), "{said}");
}

#[test]
fn a_load_that_cannot_run_says_why() {
    let (_dir, server, url) = server(&["--max-connections", "2"]);
    let closed = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let nobody = format!(
        "ws://{}/socket/websocket",
        closed.local_addr().expect("bound")
    );
    drop(closed);
    let wrong_path = format!("ws://{}/other/websocket", server.addr);
    for (url, args, part) in [
        (&*nobody, &[][..], "nothing listens there"),
        (&wrong_path, &[], "status 404: a wrong path"),
        (
            &url,
            &["--topic", "other", "--topics", "1"],
            "the join is refused: {\"reason\":\"unmatched topic\"}",
        ),
        (
            &url,
            &["--payload", "{}"],
            "--payload must be a JSON object",
        ),
        (&url, &["--join", "[]"], "--join must be a JSON object"),
        (
            "ws://192.0.2.1:4000/socket/websocket",
            &[],
            "192.0.2.1:4000 is another machine, which the load may slow down or stop; say --yes",
        ),
    ] {
        let (code, _, said) = load(url, &[&["--clients", "2"], args].concat());
        assert_eq!(code, 1, "{said}");
        assert!(said.contains(part), "{part}: {said}");
    }
    // A full server has room for some.
    let args = [
        "--clients",
        "5",
        "--topics",
        "1",
        "--rate",
        "10",
        "--seconds",
        "0.5",
    ];
    let (code, result, said) = load(&url, &args);
    assert_eq!((code, &result["joined"]), (1, &json!(2)), "{said}");
    assert_eq!(result["deliveries"], 5 * 2, "{result}");
    assert!(
        said.contains("3 clients could not join (status 503: "),
        "{said}"
    );
    let (code, _, said) = load("http://127.0.0.1/socket/websocket", &[]);
    assert_eq!(code, 2);
    assert!(said.contains("must begin with ws:// or wss://"), "{said}");
}

#[test]
fn a_server_with_tls_is_verified_unless_it_is_on_this_machine() {
    let [dir, other] = [(), ()].map(|()| {
        let dir = tempfile::tempdir().expect("a folder");
        write_certificate(dir.path());
        dir
    });
    let server = Process::start(&dir, &[&["--persist", "off"][..], &TLS].concat());
    let url = format!("wss://{}/socket/websocket", server.addr);
    let [ca, wrong_ca] = [&dir, &other].map(|dir| {
        let path = dir.path().join("cert.pem");
        path.display().to_string()
    });
    // Longer than a record, and than what the kernel takes at once.
    for size in ["100", "200000"] {
        for how in [&["--ca", &*ca][..], &["--insecure"]] {
            let args = [
                "--clients",
                "10",
                "--topics",
                "2",
                "--rate",
                "40",
                "--size",
                size,
            ];
            let (code, result, said) =
                load(&url, &[&args[..], &["--seconds", "0.5"], how].concat());
            assert_eq!(code, 0, "{said}");
            assert_eq!(result["deliveries"], 20 * 5, "{result}");
        }
    }
    for (url, args, part) in [
        (
            &*url,
            &["--ca", &*wrong_ca][..],
            "; name the issuer of the certificate with --ca",
        ),
        (&url, &["--ca", "none.pem"], "--ca none.pem: "),
        (
            "wss://192.0.2.1/socket/websocket",
            &["--yes", "--insecure"],
            "--insecure is for a server on this machine",
        ),
        (&url.replace("wss", "ws"), &[], "status 400"),
    ] {
        let (code, _, said) = load(url, &[&["--clients", "2"], args].concat());
        assert_eq!(code, 1, "{said}");
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn an_echo_load_waits_for_each_reply() {
    let (dir, server, url) = server(&["--persist", "off"]);
    let pid = server.id().to_string();
    let few = [
        "--mode",
        "echo",
        "--clients",
        "5",
        "--topics",
        "1",
        "--inflight",
        "3",
    ];
    let args = [&few[..], &["--seconds", "0.3", "--pid", &pid]].concat();
    let (code, result, said) = load(&url, &args);
    assert_eq!(code, 0, "{said}");
    let replies = result["replies"].as_u64().expect("a number");
    // Each client has sent more than its first requests.
    assert!(replies > 5 * 3, "{result}");
    assert_eq!(
        (&result["messages"], &result["lost"]),
        (&json!(replies), &json!(0))
    );
    for name in ["server_cpu_us_each", "server_bytes_each"] {
        assert!(result[name].is_number(), "{name} of {result}");
    }
    let output = run(&[&["load", "--url", &url], &args[..]].concat(), dir.path());
    let text = String::from_utf8_lossy(&output.stdout);
    for part in ["replies     ", "the server  "] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // Nobody replies to a shout to all.
    let (code, result, said) = load(
        &url,
        &[&few[..], &["--event", "none", "--seconds", "0.1"]].concat(),
    );
    assert_eq!(code, 1, "{result}");
    assert!(
        said.contains("messages were refused") || said.contains("were lost"),
        "{said}"
    );
    let (code, _, said) = load(&url, &["--pid", "0"]);
    assert_eq!(code, 1);
    assert!(said.contains("--pid 0: "), "{said}");
}

#[test]
fn a_message_follows_when_all_members_have_received_one() {
    let rooms = r#"
        [[rooms]]
        topics = "random:others-*"
        on.shout = { to = "others" }

        [[rooms]]
        topics = "random:*"
        on.shout = {}
    "#;
    let (_dir, server) = Process::configured(rooms, &["--persist", "off"]);
    let url = format!("ws://{}/socket/websocket", server.addr);
    let few = "--clients 12 --topics 3 --inflight 2 --seconds 0.3";
    let few: Vec<_> = few.split(' ').collect();
    for (args, receivers) in [(&[][..], 4), (&["--topic", "random:others", "--others"], 3)] {
        let (code, result, said) = load(&url, &[&few[..], args].concat());
        assert_eq!(code, 0, "{said}");
        let messages = result["messages"].as_u64().expect("a number");
        assert!(messages > 3 * 2, "{result}");
        assert_eq!(
            result["deliveries"],
            json!(messages * receivers),
            "{result}"
        );
    }
    // A refused message is not waited for.
    let (code, result, said) = load(&url, &[&few[..], &["--event", "none"]].concat());
    assert_eq!((code, &result["lost"]), (1, &json!(0)), "{said}");
    assert!(result["messages"].as_u64() > Some(3 * 2), "{result}");
    let (code, _, said) = load(&url, &[&few[..], &["--rate", "5"]].concat());
    assert_eq!(code, 2, "{said}");
}

#[actix_web::test]
async fn a_client_joins_several_topics() {
    let (_dir, server, url) = server(&["--persist", "off"]);
    let args = "--mode idle --clients 4 --topics 2 --channels 3 --seconds 60";
    let running = Running::start(&url, &args.split(' ').collect::<Vec<_>>());
    let answer = http(server.addr, "GET", "/metrics", &[], b"").await;
    let metrics = String::from_utf8(answer.expect("an answer").body).expect("text");
    running.interrupt();
    let (code, result, said) = running.end();
    assert_eq!((code, &result["joined"]), (0, &json!(4)), "{said}");
    for (name, number) in [("slackir_channels", 12), ("slackir_topics", 6)] {
        let line = format!("{name}{{pattern=\"random:*\"}} {number}");
        assert!(metrics.lines().any(|it| it == line), "{line}: {metrics}");
    }
}

#[test]
fn a_low_limit_of_open_files_is_named() {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 100; exec \"$@\"", "sh"]);
    command.arg(program()).args(["load", "--clients", "100"]);
    let output = command.output().expect("the binary runs");
    let said = String::from_utf8_lossy(&output.stderr);
    let part = "100 clients need 132 open files, and this process may open 100: raise `ulimit -n`";
    assert!(said.contains(part), "{said}");
    assert_eq!(output.status.code(), Some(1));
}
