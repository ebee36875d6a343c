//! TLS of the server's port, with both WebSocket drivers.

use std::fs;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::rustls::ProtocolVersion;
use tokio_rustls::rustls::version::{TLS12, TLS13};

use crate::support::phoenix::Phoenix;
use crate::support::poller::Poller;
use crate::support::process::{Process, run};
use crate::support::tls::{
    TLS, Tunnel, dial, trusting, write_certificate, write_certificate_until,
};
use crate::support::transport::Wire;
use crate::support::wire::{WireClient, http};

const DEADLINE: Duration = Duration::from_secs(10);
const DRIVERS: [&str; 2] = ["direct", "actix-ws"];
const LARGE: usize = 900_000;

/// A server with TLS and these settings.
fn serve(more: &[&str]) -> (TempDir, Process) {
    let dir = tempdir().expect("a folder");
    write_certificate(dir.path());
    let args = [&TLS[..], more].concat();
    let server = Process::start(&dir, &args);
    (dir, server)
}

#[actix_web::test]
async fn requests_polls_and_sockets_go_by_both_versions_and_drivers() {
    for driver in DRIVERS {
        let (dir, server) = serve(&["--persist", "off", "--websocket-driver", driver]);
        for version in [&TLS12, &TLS13] {
            let tunnel = Tunnel::start(server.addr, trusting(&dir, Some(version))).await;
            let answer = http(tunnel.addr, "GET", "/healthz", &[], b"").await;
            assert_eq!(answer.expect("an answer").status, 200);
            let [mut ada, mut ben] = [
                Phoenix::connect(tunnel.addr).await,
                Phoenix::connect(tunnel.addr).await,
            ];
            let poller = Poller::open(tunnel.addr).await;
            poller.join("random:lobby").await;
            let (joined, _) = ada.join("random:lobby").await;
            ben.join("random:lobby").await;
            // Longer than a record, than a read, and than the kernel's buffers.
            for len in [10, 16_384, 70_000, LARGE] {
                let text = "x".repeat(len);
                let payload = json!({ "name": "ada", "message": text });
                ada.push(&joined, "random:lobby", "shout", payload).await;
                for member in [&mut ada, &mut ben] {
                    let heard = heard(member, "shout").await;
                    assert_eq!(
                        heard["message"].as_str().map(str::len),
                        Some(len),
                        "{driver}"
                    );
                }
                let polled = poller.messages().await;
                let polled = polled.iter().find(|message| message[3] == "shout");
                let polled = polled.expect("the shout");
                assert_eq!(polled[4]["message"].as_str().map(str::len), Some(len));
            }
        }
        server.signal("-TERM");
        assert_eq!(server.wait(), Some(0));
    }
}

/// The payload of the next message with this event.
async fn heard(member: &mut Phoenix, event: &str) -> Value {
    loop {
        let (heard, payload) = member.next_event().await;
        if heard == event {
            return payload;
        }
    }
}

#[actix_web::test]
async fn the_scheme_of_requests_is_https() {
    for driver in DRIVERS {
        let settings = [
            "--persist",
            "off",
            "--check-origin",
            "conn",
            "--websocket-driver",
            driver,
        ];
        let (dir, server) = serve(&settings);
        let tunnel = Tunnel::start(server.addr, trusting(&dir, None)).await;
        for (scheme, status) in [("https", 101), ("http", 403)] {
            let origin = format!("{scheme}://localhost");
            let headers = [("Origin", Some(&*origin)), ("Host", Some("localhost"))];
            let target = "/socket/websocket?vsn=2.0.0";
            let dialled = WireClient::dial(tunnel.addr, target, &headers).await;
            assert_eq!(
                dialled.expect("an answer").1.status,
                status,
                "{driver}: {scheme}"
            );
        }
    }
}

#[actix_web::test]
async fn a_new_certificate_is_for_new_connections_and_the_old_ones_live() {
    let (dir, server) = serve(&["--persist", "off"]);
    let before = trusting(&dir, None);
    let old_way = Tunnel::start(server.addr, before.clone()).await;
    let mut old = Phoenix::connect(old_way.addr).await;
    old.join("random:lobby").await;

    // One that cannot be used changes nothing.
    fs::write(dir.path().join("key.pem"), "no key").expect("writable");
    server.signal("-HUP");
    old.heartbeat().await;
    dial(server.addr, before).await.expect("the old one");

    // Not the first client, which can resume its session without a certificate.
    let other = trusting(&dir, None);
    write_certificate(dir.path());
    server.signal("-HUP");
    let after = trusting(&dir, None);
    let reloaded = async {
        while dial(server.addr, after.clone()).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, reloaded)
        .await
        .expect("the new one is used");
    dial(server.addr, other)
        .await
        .expect_err("the old one is gone");
    old.heartbeat().await;
    let new_way = Tunnel::start(server.addr, after).await;
    let mut new = Phoenix::connect(new_way.addr).await;
    let (joined, _) = new.join("random:lobby").await;
    new.push(&joined, "random:lobby", "shout", json!({ "message": "hi" }))
        .await;
    assert_eq!(heard(&mut old, "shout").await["message"], "hi");
}

#[actix_web::test]
async fn the_metrics_have_the_end_of_the_certificate_and_the_handshakes() {
    let (dir, server) = serve(&["--persist", "off"]);
    let config = trusting(&dir, None);
    let tunnel = Tunnel::start(server.addr, config.clone()).await;
    let mut plain = TcpStream::connect(server.addr).await.expect("it listens");
    plain
        .write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .expect("open");
    let mut answer = String::new();
    plain.read_to_string(&mut answer).await.expect("in order");
    assert!(
        answer.ends_with("This port speaks https and not http.\n"),
        "{answer}"
    );
    let mut wrong = TcpStream::connect(server.addr).await.expect("it listens");
    wrong
        .write_all(&[0x16, 3, 1, 0, 4, 9, 9, 9, 9])
        .await
        .expect("open");
    wrong.read_to_end(&mut Vec::new()).await.expect("in order");

    let metrics = http(tunnel.addr, "GET", "/metrics", &[], b"").await;
    let metrics = String::from_utf8(metrics.expect("an answer").body).expect("text");
    for line in [
        // 2100-01-01.
        "slackir_tls_certificate_expiry_timestamp_seconds 4102444800",
        "slackir_tls_handshakes_total{result=\"ok\"} 1",
        "slackir_tls_handshakes_total{result=\"plain_http\"} 1",
        "slackir_tls_handshakes_total{result=\"failed\"} 1",
        "slackir_tls_handshakes_total{result=\"timeout\"} 0",
    ] {
        assert!(
            metrics.lines().any(|found| found == line),
            "{line} is not in\n{metrics}"
        );
    }
}

#[actix_web::test]
async fn handshakes_that_clients_do_not_finish_count_for_their_address() {
    const ALLOWED: usize = 5;
    let limits = ["--max-connections-per-ip", "5", "--trusted-proxies", "none"];
    let (dir, server) = serve(&[&["--persist", "off"][..], &limits].concat());
    let mut begun = FuturesUnordered::new();
    for _ in 0..10 * ALLOWED {
        let mut stream = TcpStream::connect(server.addr).await.expect("it listens");
        begun.push(async move {
            // The head of a record, and nothing behind it. A stream that is refused may have ended already.
            let _ = stream.write_all(&[0x16, 3, 1, 2, 0]).await;
            let _ = stream.read(&mut [0]).await;
        });
    }
    // The refused ones end long before the time of a handshake is over.
    while begun.len() > ALLOWED {
        let ended = timeout(DEADLINE / 2, begun.next()).await;
        assert!(ended.is_ok(), "{} streams are open", begun.len());
    }
    let config = trusting(&dir, None);
    assert!(dial(server.addr, config.clone()).await.is_err());
    drop(begun);
    let room = async { while dial(server.addr, config.clone()).await.is_err() {} };
    timeout(DEADLINE, room).await.expect("there is room again");
}

#[actix_web::test]
async fn a_client_that_does_not_read_is_ended() {
    for driver in DRIVERS {
        let settings = [
            "--persist",
            "off",
            "--outbox-bytes",
            "100000",
            "--websocket-driver",
            driver,
        ];
        let (dir, server) = serve(&settings);
        let config = trusting(&dir, None);
        let tunnel = Tunnel::start(server.addr, config.clone()).await;
        let mut deaf = dial(server.addr, config).await.expect("TLS");
        let handshake = "GET /socket/websocket?vsn=2.0.0 HTTP/1.1\r\nhost: localhost\r\n\
            connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
            sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
        deaf.write_all(handshake.as_bytes()).await.expect("open");
        // Masked with zeros.
        let join = r#"["1","1","random:lobby","phx_join",{}]"#;
        let mut frame = vec![0x81, 0x80 | join.len() as u8, 0, 0, 0, 0];
        frame.extend_from_slice(join.as_bytes());
        deaf.write_all(&frame).await.expect("open");
        deaf.flush().await.expect("open");
        let mut answer = [0; 12];
        deaf.read_exact(&mut answer).await.expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 101");

        let mut other = Phoenix::connect(tunnel.addr).await;
        let (joined, _) = other.join("random:lobby").await;
        let flood = async {
            loop {
                let payload = json!({ "message": "x".repeat(50_000) });
                other.push(&joined, "random:lobby", "shout", payload).await;
                heard(&mut other, "shout").await;
                let metrics = http(tunnel.addr, "GET", "/metrics", &[], b"").await;
                let metrics = String::from_utf8(metrics.expect("an answer").body).expect("text");
                if metrics.contains("slackir_slow_consumers_total 1") {
                    return;
                }
            }
        };
        timeout(DEADLINE, flood).await.expect("it is ended");
        // What the kernel had is not followed by an end in order.
        let rest = timeout(DEADLINE, deaf.read_to_end(&mut Vec::new())).await;
        if driver == "direct" {
            rest.expect("in time").expect_err("it is reset");
        }
    }
}

#[actix_web::test]
async fn a_client_may_ask_for_either_version_and_gets_http_1_1() {
    let (dir, server) = serve(&["--persist", "off"]);
    for (version, number) in [
        (&TLS12, ProtocolVersion::TLSv1_2),
        (&TLS13, ProtocolVersion::TLSv1_3),
    ] {
        let mut config = (*trusting(&dir, Some(version))).clone();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let stream = dial(server.addr, config.into()).await.expect("TLS");
        let (_, tls) = stream.get_ref();
        assert_eq!(tls.protocol_version(), Some(number));
        assert_eq!(tls.alpn_protocol(), Some(&b"http/1.1"[..]));
    }
}

#[test]
fn the_check_and_the_start_name_what_is_wrong_with_a_certificate() {
    let dir = tempdir().expect("a folder");
    let check = |args: &[&str]| {
        let args = [
            &["config", "check", "--persist", "off", "--port", "0"],
            args,
        ]
        .concat();
        let output = run(&args, dir.path());
        let output = String::from_utf8(output.stdout).expect("text");
        let line = output.lines().find(|line| line.contains("certificate:"));
        line.map(str::to_owned).unwrap_or_default()
    };
    assert_eq!(check(&[]), "");
    assert!(check(&TLS).starts_with("fail  certificate: cannot read cert.pem"));
    assert!(
        check(&TLS[..2]).starts_with("fail  certificate: tls_cert and tls_key belong together")
    );
    write_certificate(dir.path());
    let fits = "ok    certificate: the key fits, it ends at 2100-01-01 00:00 UTC";
    assert_eq!(check(&TLS), fits);
    let named = [&TLS[..], &["--public-host", "localhost"]].concat();
    assert_eq!(check(&named), fits);
    let named = [&TLS[..], &["--public-host", "chat.example.com"]].concat();
    assert!(check(&named).starts_with("warn  certificate: it is not for the public_host"));
    write_certificate_until(dir.path(), (2021, 1, 1));
    assert!(check(&TLS).starts_with("fail  certificate: it has ended, at 2021-01-01"));

    let other = tempdir().expect("a folder");
    write_certificate(other.path());
    fs::copy(other.path().join("key.pem"), dir.path().join("key.pem")).expect("writable");
    assert!(check(&TLS).starts_with("fail  certificate: key.pem is not the key of"));
    let started = run(
        &[&["--persist", "off", "--port", "0"], &TLS[..]].concat(),
        dir.path(),
    );
    let error = String::from_utf8(started.stderr).expect("text");
    assert_eq!(started.status.code(), Some(1), "{error}");
    assert!(
        error.contains("is not the key of the certificate"),
        "{error}"
    );
}

#[actix_web::test]
async fn health_is_asked_by_tls_or_at_the_operators_port() {
    let (dir, server) = serve(&["--persist", "off"]);
    let port = server.addr.port().to_string();
    let args = [&["health", "--port", &port], &TLS[..]].concat();
    let output = run(&args, dir.path());
    assert_eq!(output.stdout, b"ok\n", "{output:?}");
    let plain = run(&["health", "--port", &port], dir.path());
    assert_eq!(plain.status.code(), Some(1), "{plain:?}");
}
