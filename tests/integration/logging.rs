//! The log: whoever reads it, or does not, the server goes on; and what is written is one line.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{ChildStderr, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::{TempDir, tempdir};

use crate::support::process::{Process, program, run};

const NO_DATABASE: [&str; 2] = ["--persist", "off"];

/// The answer to a request, head and body.
fn get(addr: SocketAddr, path: &str, header: &str) -> String {
    ask(addr, "GET", path, header, "")
}

fn ask(addr: SocketAddr, method: &str, path: &str, header: &str, body: &str) -> String {
    let mut client = TcpStream::connect(addr).expect("it listens");
    let length = match body.len() {
        0 => String::new(),
        length => format!("Content-Length: {length}\r\n"),
    };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n{length}{header}\r\n"
    );
    let request = head + body;
    client.write_all(request.as_bytes()).expect("open");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("UTF-8");
    answer
}

fn lost_lines(addr: SocketAddr) -> u64 {
    let metrics = get(addr, "/metrics", "");
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix("slackir_log_lines_lost_total "));
    line.and_then(|count| count.parse().ok()).expect("counted")
}

/// Asks until a log line was lost.
fn lose_a_line(addr: SocketAddr) {
    let end = Instant::now() + Duration::from_secs(20);
    while lost_lines(addr) == 0 {
        assert!(Instant::now() < end, "no line is lost");
        // Logged, and refused.
        let answer = get(
            addr,
            "/socket/longpoll?vsn=9",
            "Origin: http://evil.example\r\n",
        );
        assert!(answer.contains("403"), "{answer}");
    }
}

fn start(dir: &TempDir, args: &[&str]) -> (Process, ChildStderr) {
    let mut server = Process::start_logging_to(Stdio::piped(), dir, &[&NO_DATABASE, args].concat());
    let log = server.take_stderr();
    (server, log)
}

#[test]
fn a_log_whose_reader_stalls_stops_nobody() {
    let dir = tempdir().expect("a temporary folder");
    let (server, _unread) = start(&dir, &["--log", "trace"]);
    lose_a_line(server.addr);
    assert!(get(server.addr, "/healthz", "").contains("200 OK"));
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0));
}

#[test]
fn a_log_whose_reader_has_gone_stops_nobody() {
    let dir = tempdir().expect("a temporary folder");
    let (server, log) = start(&dir, &[]);
    drop(log);
    lose_a_line(server.addr);
    assert!(get(server.addr, "/healthz", "").contains("200 OK"));
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0));
}

#[test]
fn a_full_log_and_a_full_standard_output_stop_nobody() {
    let dir = tempdir().expect("a temporary folder");
    let full = File::options().write(true).open("/dev/full");
    let full = Stdio::from(full.expect("the system has one"));
    let server = Process::start_logging_to(full, &dir, &NO_DATABASE);
    lose_a_line(server.addr);
    server.signal("-QUIT");
    assert_eq!(server.wait(), Some(0), "SIGQUIT ends it in order, too");
}

#[test]
fn a_json_log_is_json_to_its_end() {
    let dir = tempdir().expect("a temporary folder");
    let (server, log) = start(&dir, &["--log-format", "json", "--log", "debug"]);
    get(
        server.addr,
        "/socket/longpoll?vsn=2.0.0",
        "Origin: http://e\u{9b}il\r\n",
    );
    get(server.addr, "/healthz", "Content-Length: no\r\n");
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0));
    let lines: Vec<Value> = BufReader::new(log)
        .lines()
        .map(|line| serde_json::from_str(&line.expect("UTF-8")).expect("JSON"))
        .collect();
    let names: Vec<_> = lines
        .iter()
        .filter_map(|line| line["fields"]["message"].as_str())
        .collect();
    for name in [
        "serve.started",
        "transport.origin.refused",
        "shutdown.signal",
    ] {
        assert!(
            names.iter().any(|line| line.starts_with(name)),
            "{name}: {names:?}"
        );
    }
    for args in [
        ["--log-format", "json", "--static-dir", "nowhere"],
        ["--log-format", "json", "--port", "x"],
    ] {
        let output = run(&args, dir.path());
        let said: Value = serde_json::from_slice(&output.stderr).expect("one line of JSON");
        assert_eq!(said["fields"]["message"], "process.failed");
        assert_ne!(output.status.code(), Some(0));
    }
}

#[test]
fn a_hangup_reads_the_filter_again_and_ends_nothing() {
    let dir = tempdir().expect("a temporary folder");
    let file = dir.path().join("slackir.toml");
    std::fs::write(&file, "log = \"info\"\n").expect("writable");
    let (server, log) = start(&dir, &["--config", "slackir.toml"]);
    let mut lines = BufReader::new(log).lines();
    let mut until = |name: &str| {
        let line = lines
            .by_ref()
            .map_while(Result::ok)
            .find(|line| line.contains(name));
        line.unwrap_or_else(|| panic!("the log says {name}"))
    };
    assert!(until("serve.started").contains(env!("CARGO_PKG_VERSION")));
    server.signal("-USR1");
    until("serve.signal.ignored");
    server.signal("-USR2");
    until("serve.signal.ignored");
    std::fs::write(&file, "log = \"loud\"\n").expect("writable");
    server.signal("-HUP");
    assert!(until("serve.reload.failed").contains("loud"));
    std::fs::write(&file, "log = \"debug\"\n").expect("writable");
    server.signal("-HUP");
    assert!(until("serve.reloaded").contains("debug"));
    // At `info` nobody hears of it.
    get(server.addr, "/healthz", "Content-Length: no\r\n");
    until("actix_http::h1");
    // `timeout` and `tini -g` send two.
    server.signal("-TERM");
    until("shutdown.signal");
    assert_eq!(server.wait(), Some(0));
}

#[test]
fn what_a_command_cannot_print_is_an_error() {
    let dir = tempdir().expect("a temporary folder");
    let url = format!("sqlite://{}", dir.path().join("a.db").display());
    let script = "\"$@\" >/dev/full; echo \"code $?\" >&2; \"$@\" | true";
    for args in [
        &["migrate", "--database-url", &url][..],
        &["token", "sign", "--secret-key-base", &"x".repeat(64), "7"],
        &["--help"],
    ] {
        let output = std::process::Command::new("sh")
            .args(["-c", script, "sh"])
            .arg(program())
            .args(args)
            .output()
            .expect("a shell runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            said.starts_with("slackir: cannot write to standard output: "),
            "{said}"
        );
        assert!(
            said.ends_with("code 1\n"),
            "a reader that has gone hears nothing: {said}"
        );
    }
}

#[test]
fn a_line_about_a_client_says_who_it_is_and_nothing_in_its_own_words() {
    let dir = tempdir().expect("a temporary folder");
    let (server, log) = start(&dir, &[]);
    let path = "/socket/longpoll?vsn=2.0.0";
    get(server.addr, path, "Origin: https://evil.example:8443\r\n");
    get(server.addr, "/socket/longpoll?vsn=9", "");
    let who = "User-Agent: a test\r\nX-Forwarded-For: 203.0.113.9\r\n";
    let session = get(server.addr, path, who);
    let token = session
        .split("\"token\":\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next());
    let path = format!("{path}&token={}", token.expect("a session"));
    let say = |message: &str| drop(ask(server.addr, "POST", &path, "", message));
    let forged = "random:a\\n2026-01-01 ERROR forged";
    say(&format!(r#"["1","1","{forged}","phx_join",{{}}]"#));
    say(&format!(
        r#"["1","2","{forged}","nosuch",{{"message":"s3cret"}}]"#
    ));
    say(&format!(r#"["1","3","{forged}","shout",["s3cret"]]"#));
    say(r#"["1","4","nowhere","shout",{}]"#);
    say(&format!("\"{}\"", "s3cret".repeat(100_000)));
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0));
    let lines: Vec<String> = BufReader::new(log).lines().map_while(Result::ok).collect();
    let whole = lines.join("\n");
    assert!(!whole.contains("s3cret") && whole.len() < 10_000, "{whole}");
    assert!(
        lines
            .iter()
            .all(|line| line.starts_with("20") && !line.contains(" ERROR slackir")),
        "{whole}"
    );
    for (event, part) in [
        (
            "transport.origin.refused",
            r#"origin="https://evil.example:8443" setting="check_origin: a list with //evil.example""#,
        ),
        ("transport.vsn.refused", r#"vsn="9""#),
        (
            "socket.connected",
            r#"transport="longpoll" serializer=V2Text user_agent="a test""#,
        ),
        (
            "channel.joined",
            r#"topic="random:a\n2026-01-01 ERROR forged""#,
        ),
        (
            "chat.event.refused",
            r#"event="nosuch" reason="unknown event""#,
        ),
        (
            "chat.event.refused",
            r#"event="shout" reason="invalid payload""#,
        ),
        ("socket.topic.unmatched", r#"topic="nowhere" event="shout""#),
        (
            "transport.message.undecodable",
            "error=\"not a message: JSON of another shape",
        ),
        ("socket.closed", "reason=Undecodable"),
    ] {
        let line = lines
            .iter()
            .find(|line| line.contains(event) && line.contains(part));
        let line = line.unwrap_or_else(|| panic!("{event} {part}: {whole}"));
        assert!(line.contains(" peer=127.0.0.1:"), "{line}");
        let is_of_client = !["transport.origin.refused", "transport.vsn.refused"].contains(&event);
        assert_eq!(line.contains(" connection="), is_of_client, "{line}");
        assert_eq!(
            line.contains(" forwarded=203.0.113.9"),
            is_of_client,
            "{line}"
        );
    }
}
