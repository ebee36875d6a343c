//! Tests the edge over real streams, with an app of one function and short time limits.

use std::future::pending;
use std::rc::Rc;
use std::time::Duration;

use actix_http::body::{BodySize, BoxBody, MessageBody};
use actix_http::{Request, Response, ServiceConfig, StatusCode};
use actix_rt::net::{TcpListener, TcpStream};
use actix_rt::task::JoinHandle;
use actix_service::fn_service;
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::{Edge, Patience, Stopping, Tls};
use crate::admission::Admission;

const DEADLINE: Duration = Duration::from_secs(8);
/// A limit that no test should reach.
const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(100);

const PATIENT: Patience = Patience {
    head: LONG,
    keep_alive: LONG,
    body: LONG,
    answer: LONG,
    linger: SHORT,
};

/// A client, and its connection at the edge.
struct Client {
    stream: TcpStream,
    connection: JoinHandle<()>,
    stopping: Rc<Stopping>,
}

impl Client {
    async fn connect(patience: Patience) -> Self {
        Self::connect_to(patience, None).await
    }

    async fn connect_to(patience: Patience, tls: Option<Tls>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let stream = TcpStream::connect(address).await.expect("it listens");
        let (accepted, _) = listener.accept().await.expect("a client");
        let stopping = Rc::new(Stopping::default());
        let edge = Edge {
            app: fn_service(app),
            sockets: Rc::new([]),
            config: ServiceConfig::default(),
            patience,
            hands_over: true,
            max_handed_over: 1,
            admission: Admission::default(),
            tls,
            stopping: Rc::clone(&stopping),
        };
        let connection = actix_rt::spawn(async move { edge.serve(accepted).await });
        Self {
            stream,
            connection,
            stopping,
        }
    }

    async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.expect("open");
    }

    /// Reads until the text arrives.
    async fn hears(&mut self, text: &str) -> String {
        let mut heard = Vec::new();
        let read = async {
            while !String::from_utf8_lossy(&heard).contains(text) {
                let mut buffer = [0; 4096];
                match self.stream.read(&mut buffer).await.expect("open") {
                    0 => break,
                    len => heard.extend_from_slice(&buffer[..len]),
                }
            }
        };
        let in_time = timeout(DEADLINE, read).await;
        let heard = String::from_utf8_lossy(&heard).into_owned();
        assert!(
            in_time.is_ok() && heard.contains(text),
            "{text:?} in {heard:?}"
        );
        heard
    }

    /// Reads until the server closes or resets the stream.
    async fn rest(&mut self) -> String {
        let mut heard = Vec::new();
        let read = self.stream.read_to_end(&mut heard);
        // A reset counts as the end.
        let _ = timeout(DEADLINE, read).await.expect("the server hangs up");
        String::from_utf8_lossy(&heard).into_owned()
    }

    /// Waits until the connection holds no stream any more.
    async fn ended(self) {
        let ended = timeout(DEADLINE, self.connection).await;
        ended.expect("the connection ends").expect("no panic");
    }
}

/// `/body` reads the body and returns its length, `/wait` never answers, `/large` returns a long body,
/// `/chunks` a body in chunks; all others return their target.
async fn app(mut request: Request) -> Result<Response<BoxBody>, Response<BoxBody>> {
    let text = match request.path() {
        "/body" => {
            let mut len = 0;
            let mut payload = request.take_payload();
            while let Some(chunk) = payload.next().await {
                let failed = |_| Response::new(StatusCode::BAD_REQUEST);
                len += chunk.map_err(failed)?.len();
            }
            format!("{len} bytes")
        }
        "/wait" => pending().await,
        "/large" => "x".repeat(20_000_000),
        "/chunks" => return Ok(Response::with_body(StatusCode::OK, BoxBody::new(Chunks(3)))),
        _ => request.uri().to_string(),
    };
    Ok(Response::with_body(StatusCode::OK, BoxBody::new(text)))
}

/// A body of this many chunks of one byte.
struct Chunks(usize);

impl MessageBody for Chunks {
    type Error = std::convert::Infallible;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Bytes, Self::Error>>> {
        let left = self.0.checked_sub(1);
        self.0 = left.unwrap_or(0);
        std::task::Poll::Ready(left.map(|_| Ok(Bytes::from_static(b"x"))))
    }
}

#[actix_rt::test]
async fn a_head_that_does_not_end_is_given_up_also_a_later_one() {
    for before in ["", "GET /first HTTP/1.1\r\nhost: a\r\n\r\n"] {
        let patience = Patience {
            head: SHORT,
            ..PATIENT
        };
        let mut client = Client::connect(patience).await;
        client.send(before).await;
        if !before.is_empty() {
            client.hears("/first").await;
        }
        client.send("GET / HTTP/1.1\r\nhost:").await;
        assert!(
            client.rest().await.starts_with("HTTP/1.1 408 "),
            "{before:?}"
        );
        client.ended().await;
    }
}

#[cfg(feature = "tls")]
#[actix_rt::test]
async fn a_handshake_of_tls_that_does_not_end_is_given_up() {
    let (tls, _) = crate::transport::tls::tests::both(&rustls::version::TLS13);
    // The header of a record, and the begin of a handshake.
    for begin in ["", "\x16\x03\x01\x00\x40\x01\x00"] {
        let patience = Patience {
            head: SHORT,
            ..PATIENT
        };
        let mut client = Client::connect_to(patience, Some(tls.clone())).await;
        client.send(begin).await;
        assert_eq!(client.rest().await, "", "{begin:?}");
        client.ended().await;
    }
}

#[actix_rt::test]
async fn a_connection_rests_between_requests_as_long_as_it_may() {
    let patience = Patience {
        keep_alive: SHORT,
        ..PATIENT
    };
    let mut client = Client::connect(patience).await;
    for _ in 0..2 {
        client.send("GET /again HTTP/1.1\r\nhost: a\r\n\r\n").await;
        client.hears("/again").await;
    }
    assert_eq!(client.rest().await, "", "no answer to no request");
    client.ended().await;
}

#[actix_rt::test]
async fn a_body_that_drips_is_given_up() {
    let patience = Patience {
        body: Duration::from_millis(300),
        ..PATIENT
    };
    let mut client = Client::connect(patience).await;
    client
        .send("POST /body HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n")
        .await;
    for _ in 0..10 {
        actix_rt::time::sleep(Duration::from_millis(50)).await;
        // The server may have closed the stream already.
        let _ = client.stream.write_all(b"x").await;
    }
    assert!(client.rest().await.starts_with("HTTP/1.1 408 "));
    client.ended().await;
}

#[actix_rt::test]
async fn an_answer_that_nobody_reads_is_given_up() {
    let patience = Patience {
        answer: SHORT,
        ..PATIENT
    };
    let mut client = Client::connect(patience).await;
    client.send("GET /large HTTP/1.1\r\nhost: a\r\n\r\n").await;
    client.ended().await;
}

#[actix_rt::test]
async fn a_body_that_nobody_reads_costs_no_connection() {
    let mut client = Client::connect(PATIENT).await;
    client
        .send("POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nxyz")
        .await;
    client.hears("/a").await;
    client
        .send("POST /b HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\n")
        .await;
    let answer = client.rest().await;
    assert!(
        answer.contains("connection: close") && answer.ends_with("/b"),
        "{answer}"
    );
    client.ended().await;
}

#[actix_rt::test]
async fn a_client_that_is_gone_leaves_nothing() {
    for request in [
        "",
        "GET /",
        "POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nxyz",
        "POST /body HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nxyz",
    ] {
        let mut client = Client::connect(PATIENT).await;
        client.send(request).await;
        client.stream.shutdown().await.expect("open");
        client.rest().await;
        client.ended().await;
    }
}

#[actix_rt::test]
async fn the_next_request_waits_for_the_answer_to_the_last() {
    let mut client = Client::connect(PATIENT).await;
    client
        .send("GET /1 HTTP/1.1\r\nhost: a\r\n\r\nGET /2 HTTP/1.1\r\nhost: a\r\n\r\n")
        .await;
    client.hears("/2").await;
    client.send("GET /wait HTTP/1.1\r\nhost: a\r\n\r\n").await;
    // More than the kernel buffers while the server does not read.
    let flood = "GET /3 HTTP/1.1\r\nhost: a\r\n\r\n".repeat(1_000_000);
    let sent = timeout(Duration::from_millis(500), client.send(&flood)).await;
    assert!(sent.is_err(), "the server reads no further");
    client.connection.abort();
}

#[actix_rt::test]
async fn who_expects_to_be_told_is_told_when_the_body_is_wanted() {
    let mut client = Client::connect(PATIENT).await;
    let expects = "host: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n";
    client
        .send(&format!("POST /body HTTP/1.1\r\n{expects}"))
        .await;
    client.hears("HTTP/1.1 100 Continue\r\n\r\n").await;
    client.send("xyz").await;
    client.hears("3 bytes").await;
    client.send(&format!("POST /a HTTP/1.1\r\n{expects}")).await;
    assert!(client.rest().await.starts_with("HTTP/1.1 200 "));
    client.ended().await;
}

#[actix_rt::test]
async fn answers_have_the_form_that_the_request_can_take() {
    for (request, want) in [
        (
            "GET /a HTTP/1.1\r\nhost: a\r\nconnection: close",
            "connection: close\r\n",
        ),
        ("GET /a HTTP/1.0", "connection: close\r\n"),
        (
            "GET /chunks HTTP/1.1\r\nhost: a\r\nconnection: close",
            "\r\n1\r\nx\r\n1\r\nx\r\n1\r\nx\r\n0\r\n\r\n",
        ),
        ("GET /chunks HTTP/1.0", "\r\n\r\nxxx"),
        (
            "HEAD /abc HTTP/1.1\r\nhost: a\r\nconnection: close",
            "content-length: 4\r\n",
        ),
    ] {
        let mut client = Client::connect(PATIENT).await;
        client.send(&format!("{request}\r\n\r\n")).await;
        let answer = client.rest().await;
        assert!(answer.contains(want), "{request:?}: {answer:?}");
        assert!(
            !request.starts_with("HEAD") || answer.ends_with("\r\n\r\n"),
            "{answer:?}"
        );
        client.ended().await;
    }
}

#[actix_rt::test]
async fn an_upgrade_that_nobody_takes_is_ignored() {
    for upgrade in ["connection: upgrade", "connection: upgrade\r\nupgrade: h2c"] {
        let mut client = Client::connect(PATIENT).await;
        for path in ["/1", "/2"] {
            client
                .send(&format!(
                    "GET {path} HTTP/1.1\r\nhost: a\r\n{upgrade}\r\n\r\n"
                ))
                .await;
            let answer = client.hears(path).await;
            assert!(!answer.contains("connection:"), "{answer}");
        }
    }
}

#[actix_rt::test]
async fn what_stands_behind_a_handshake_is_no_request() {
    for upgrade in ["websocket", "x, WebSocket"] {
        let mut client = Client::connect(PATIENT).await;
        let handshake = format!(
            "GET /1 HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: {upgrade}\r\n\r\n"
        );
        client
            .send(&format!("{handshake}GET /2 HTTP/1.1\r\nhost: a\r\n\r\n"))
            .await;
        let answer = client.rest().await;
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
    }
}

#[actix_rt::test]
async fn what_is_no_request_is_refused() {
    let endless = format!("GET / HTTP/1.1\r\nx: {}", "x".repeat(40_000));
    for (sent, status) in [
        ("\u{16}\u{3}\u{1}hello", "400"),
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        (
            "GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
            "400",
        ),
        (&endless, "431"),
    ] {
        let mut client = Client::connect(PATIENT).await;
        client.send(sent).await;
        let answer = client.rest().await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{sent:.40?}: {answer}"
        );
        client.ended().await;
    }
}

#[actix_rt::test]
async fn raw_bytes_of_a_target_are_taken() {
    let mut client = Client::connect(PATIENT).await;
    client
        .send("GET /?name=Zoë&x=\"<1>\" HTTP/1.1\r\nhost: a\r\n\r\n")
        .await;
    client.hears("/?name=Zo%C3%AB&x=%22%3C1%3E%22").await;
}

#[actix_rt::test]
async fn a_server_that_ends_does_not_wait_for_who_rests() {
    for first in [
        "",
        "GET /a HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET /a HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
    ] {
        let mut client = Client::connect(Patience {
            linger: LONG,
            ..PATIENT
        })
        .await;
        client.send(first).await;
        if !first.is_empty() {
            client.hears("/a").await;
        }
        client.stopping.begin();
        let ended = timeout(DEADLINE, client.connection).await;
        assert!(matches!(ended, Ok(Ok(()))), "{first:?}");
        drop(client.stream);
    }
}
