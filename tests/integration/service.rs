//! The server as a service: systemd's notices and socket, the delay of a shutdown, `slackir health`, completions and
//! manual pages.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::tempdir;

use crate::support::phoenix::Phoenix;
use crate::support::process::{Process, run};

const DEADLINE: Duration = Duration::from_secs(20);

/// Reads notices until one has all these lines.
fn notice(socket: &UnixDatagram, lines: &[&str]) -> String {
    let mut seen = Vec::new();
    let mut buffer = [0; 4_096];
    let begun = Instant::now();
    while begun.elapsed() < DEADLINE {
        let Ok(length) = socket.recv(&mut buffer) else {
            break;
        };
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if lines
            .iter()
            .all(|line| text.lines().any(|found| found.starts_with(line)))
        {
            return text;
        }
        seen.push(text);
    }
    panic!("no notice with {lines:?}: {seen:?}");
}

#[test]
fn systemd_learns_the_state_of_the_server() {
    let dir = tempdir().expect("a temporary folder");
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(DEADLINE)).expect("set");
    let environment = [
        ("NOTIFY_SOCKET", path.to_str().expect("UTF-8")),
        ("WATCHDOG_USEC", "400000"),
    ];
    let server = Process::start_in(&dir, &environment, &["--persist", "off"]);
    notice(
        &socket,
        &["READY=1", "STATUS=Slackir listens on http://127.0.0.1:"],
    );
    notice(&socket, &["STATUS=0 connections, ready"]);
    // Of more than one period, so of workers that run.
    for _ in 0..8 {
        notice(&socket, &["WATCHDOG=1"]);
    }
    server.signal("-HUP");
    notice(&socket, &["RELOADING=1", "MONOTONIC_USEC="]);
    notice(&socket, &["READY=1"]);
    server.signal("-TERM");
    notice(&socket, &["STOPPING=1"]);
    assert_eq!(server.wait(), Some(0));
}

/// A handshake of a WebSocket: whether it is accepted.
fn is_accepted(address: SocketAddr) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(
            b"GET /socket/websocket?vsn=2.0.0 HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
            Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )?;
        let mut status = [0; 12];
        stream.read_exact(&mut status)?;
        std::io::Result::Ok(status)
    };
    ask().is_ok_and(|status| status == *b"HTTP/1.1 101")
}

#[test]
fn a_restart_behind_the_socket_of_systemd_refuses_no_client() {
    let dir = tempdir().expect("a temporary folder");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let stops = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicUsize::new(0));
    let clients = (0..4).map(|_| {
        let (stops, answered) = (Arc::clone(&stops), Arc::clone(&answered));
        thread::spawn(move || {
            let mut refused = 0;
            while !stops.load(Ordering::Relaxed) {
                if is_accepted(address) {
                    answered.fetch_add(1, Ordering::Relaxed);
                } else {
                    refused += 1;
                }
            }
            refused
        })
    });
    let clients: Vec<_> = clients.collect();
    for _ in 0..3 {
        // The port of the settings has no effect.
        let server = Process::start_on_socket(&dir, &listener, &["--port", "1"]);
        assert_eq!(server.addr, address);
        let before = answered.load(Ordering::Relaxed);
        let begun = Instant::now();
        while answered.load(Ordering::Relaxed) < before + 50 {
            assert!(begun.elapsed() < DEADLINE, "the clients are answered");
            thread::yield_now();
        }
        server.signal("-TERM");
        assert_eq!(server.wait(), Some(0));
    }
    stops.store(true, Ordering::Relaxed);
    // Those whose request nobody answers any more.
    let last = Process::start_on_socket(&dir, &listener, &[]);
    for client in clients {
        assert_eq!(client.join().expect("no panic"), 0, "no client is refused");
    }
    last.signal("-TERM");
    assert_eq!(last.wait(), Some(0));
}

#[actix_web::test]
async fn a_shutdown_with_a_delay_goes_on_until_the_delay_or_a_second_signal_ends_it() {
    let dir = tempdir().expect("a temporary folder");
    let server = Process::start(&dir, &["--shutdown-delay", "600"]);
    let (address, port) = (server.addr, server.addr.port().to_string());
    let health = |args: &[&str]| run(&[&["health", "--port", &port], args].concat(), dir.path());
    assert_eq!(health(&["--ready"]).status.code(), Some(0));
    let mut old: Phoenix = Phoenix::dial(address).await;
    old.join("random:lobby").await;
    server.signal("-TERM");
    let begun = Instant::now();
    while health(&["--ready"]).status.code() == Some(0) {
        assert!(begun.elapsed() < DEADLINE, "it is not ready any more");
    }
    let unwell = health(&["--ready"]);
    let stderr = String::from_utf8_lossy(&unwell.stderr);
    assert_eq!(unwell.status.code(), Some(1));
    assert!(
        stderr.contains("answers 503 to /readyz: shutting down"),
        "{stderr}"
    );
    assert_eq!(health(&[]).stdout, b"ok\n");

    // Everything else is as before.
    let mut new: Phoenix = Phoenix::dial(address).await;
    let (join_ref, _) = new.join("random:lobby").await;
    let pushed = new
        .push(
            &join_ref,
            "random:lobby",
            "shout",
            json!({"message": "here"}),
        )
        .await;
    drop(pushed);
    loop {
        let (event, payload) = old.next_event().await;
        if event == "shout" {
            assert_eq!(payload["message"], "here");
            break;
        }
    }

    // Signals of the first second are the same request.
    let begun = Instant::now();
    while health(&[]).status.code() == Some(0) {
        assert!(
            begun.elapsed() < DEADLINE,
            "the second signal ends the delay"
        );
        if begun.elapsed() > Duration::from_secs(1) {
            server.signal("-TERM");
            assert_eq!(old.closed().await, 1_012);
            break;
        }
    }
    drop((old, new));
    assert_eq!(server.wait(), Some(0));
}

#[test]
fn health_without_a_server_fails_with_a_sentence() {
    let dir = tempdir().expect("a temporary folder");
    let closed = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = closed.local_addr().expect("bound").port().to_string();
    drop(closed);
    let output = run(&["health", "--port", &port], dir.path());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr.contains(&format!("no server answers at 127.0.0.1:{port}")),
        "{stderr}"
    );
}

#[test]
fn completions_and_manual_pages_have_all_commands() {
    let dir = tempdir().expect("a temporary folder");
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&["completions", shell], dir.path());
        let script = String::from_utf8_lossy(&script.stdout).into_owned();
        assert!(
            script.contains("history-limit") && script.contains("migrate"),
            "{shell}"
        );
    }
    let output = run(&["man", "pages/man1"], dir.path());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    for page in ["slackir.1", "slackir-serve.1", "slackir-config-check.1"] {
        let page = std::fs::read_to_string(dir.path().join("pages/man1").join(page));
        assert!(page.expect("it is written").contains("history\\-limit"));
    }
}
