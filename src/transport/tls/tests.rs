//! Tests streams with TLS against a client of rustls' buffered API.

use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use actix_rt::net::{TcpListener, TcpStream};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::PrivateKeyDer;
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, ProtocolVersion, RootCertStore, ServerConfig,
    SupportedProtocolVersion,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::Tls;
use crate::transport::stream::Stream;

const DEADLINE: Duration = Duration::from_secs(10);
/// Lengths at the borders of records, and a long one.
const LENGTHS: [usize; 7] = [1, 16_383, 16_384, 16_385, 32_768, 100_000, 1_000_000];

/// The server's side, and a client that trusts its certificate.
pub(in crate::transport) fn both(
    version: &'static SupportedProtocolVersion,
) -> (Tls, Arc<ClientConfig>) {
    let names = vec!["localhost".to_owned()];
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).expect("signed");
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).expect("a key");
    let server = ServerConfig::builder_with_protocol_versions(&[version])
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .expect("the key fits");
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).expect("a certificate");
    let client = ClientConfig::builder_with_protocol_versions(&[version])
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Tls::new(Arc::new(server)), Arc::new(client))
}

/// A client and the server's end of its TCP connection.
async fn connect(config: Arc<ClientConfig>) -> (Client, TcpStream) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let address = listener.local_addr().expect("it is bound");
    let tcp = TcpStream::connect(address).await.expect("it listens");
    let (accepted, _) = listener.accept().await.expect("a client");
    let name = "localhost".try_into().expect("a name");
    let tls = ClientConnection::new(config, name).expect("a client");
    (
        Client {
            tls,
            tcp,
            text: Vec::new(),
            bytewise: false,
        },
        accepted,
    )
}

/// Both ends after the handshake.
async fn connected(version: &'static SupportedProtocolVersion) -> (Client, Stream) {
    let (tls, config) = both(version);
    let (mut client, tcp) = connect(config).await;
    let (stream, ()) = tokio::join!(tls.accept(tcp), client.shake_hands());
    (client, stream.expect("the handshake succeeds"))
}

struct Client {
    tls: ClientConnection,
    tcp: TcpStream,
    /// Text that has arrived.
    text: Vec<u8>,
    /// Whether each byte is sent alone.
    bytewise: bool,
}

impl Client {
    async fn shake_hands(&mut self) {
        while self.tls.is_handshaking() {
            self.flush().await;
            if self.tls.is_handshaking() {
                assert!(self.receive().await.expect("the handshake goes on"));
            }
        }
        self.flush().await;
    }

    /// Sends what there is to send.
    async fn flush(&mut self) {
        let mut bytes = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut bytes).expect("into memory");
        }
        let size = if self.bytewise { 1 } else { bytes.len().max(1) };
        for part in bytes.chunks(size) {
            self.tcp.write_all(part).await.expect("open");
            if self.bytewise {
                self.tcp.flush().await.expect("open");
                actix_rt::task::yield_now().await;
            }
        }
    }

    async fn send(&mut self, text: &[u8]) {
        for part in text.chunks(16_384) {
            self.tls.writer().write_all(part).expect("into memory");
            self.flush().await;
        }
    }

    /// Reads from the server once. `false` at the end of the TCP connection.
    async fn receive(&mut self) -> Result<bool, rustls::Error> {
        let mut buffer = vec![0; 65_536];
        let len = timeout(DEADLINE, self.tcp.read(&mut buffer)).await;
        let len = len.expect("in time").unwrap_or(0);
        let mut bytes = &buffer[..len];
        while !bytes.is_empty() {
            self.tls.read_tls(&mut bytes).expect("from memory");
            let left = self.tls.process_new_packets()?.plaintext_bytes_to_read();
            let begin = self.text.len();
            self.text.resize(begin + left, 0);
            let text = &mut self.text[begin..];
            self.tls.reader().read_exact(text).expect("it is there");
        }
        Ok(len > 0)
    }

    /// The next `len` bytes of text; fewer at the end of the connection.
    async fn read(&mut self, len: usize) -> Vec<u8> {
        while self.text.len() < len && self.receive().await.expect("records") {}
        let len = len.min(self.text.len());
        self.text.drain(..len).collect()
    }
}

async fn read(stream: &Stream, buffer: &mut [u8]) -> io::Result<usize> {
    let read = poll_fn(|cx| {
        loop {
            std::task::ready!(stream.poll_read_ready(cx))?;
            match stream.try_read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read),
            }
        }
    });
    timeout(DEADLINE, read).await.expect("in time")
}

/// The next `len` bytes of the client, in reads of `size`.
async fn read_all(stream: &Stream, len: usize, size: usize) -> Vec<u8> {
    let mut text = Vec::new();
    let mut buffer = vec![0; size];
    while text.len() < len {
        match read(stream, &mut buffer).await.expect("open") {
            0 => break,
            read => text.extend_from_slice(&buffer[..read]),
        }
    }
    text
}

async fn write_all(stream: &Stream, mut text: &[u8]) {
    while !text.is_empty() {
        match stream.try_write(text) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                stream.writable().await.expect("open");
            }
            taken => text = &text[taken.expect("open")..],
        }
    }
    stream.flush().await.expect("open");
}

fn text(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

#[actix_rt::test]
async fn text_of_any_length_goes_both_ways_by_both_versions() {
    for (version, number) in [
        (&TLS12, ProtocolVersion::TLSv1_2),
        (&TLS13, ProtocolVersion::TLSv1_3),
    ] {
        let (mut client, stream) = connected(version).await;
        assert_eq!(client.tls.protocol_version(), Some(number));
        for len in LENGTHS {
            let sent = text(len);
            for size in [16 * 1024, 64 * 1024] {
                let ((), received) = tokio::join!(client.send(&sent), read_all(&stream, len, size));
                assert!(
                    received == sent,
                    "{number:?}: {len} bytes in reads of {size}"
                );
            }
            let ((), received) = tokio::join!(write_all(&stream, &sent), client.read(len));
            assert!(received == sent, "{number:?}: {len} bytes to the client");
        }
    }
}

#[actix_rt::test]
async fn frames_of_one_turn_arrive_in_order() {
    let (mut client, stream) = connected(&TLS13).await;
    let frames: Vec<_> = (1..=20u8).map(|n| vec![n; usize::from(n) * 300]).collect();
    let all = frames.concat();
    let mut taken = 0;
    while taken < all.len() {
        // As the outbox does it: the rest of the first frame, and the others.
        let mut skip = taken;
        let slices = frames.iter().filter_map(|frame| {
            let from = skip.min(frame.len());
            skip -= from;
            (from < frame.len()).then(|| io::IoSlice::new(&frame[from..]))
        });
        let slices: Vec<_> = slices.collect();
        taken += stream.try_write_vectored(&slices).expect("room");
        stream.flush().await.expect("open");
    }
    assert_eq!(client.read(all.len()).await, all);
}

#[actix_rt::test]
async fn a_client_may_send_byte_by_byte() {
    for version in [&TLS12, &TLS13] {
        let (tls, config) = both(version);
        let (mut client, tcp) = connect(config).await;
        client.bytewise = true;
        let (stream, ()) = tokio::join!(tls.accept(tcp), client.shake_hands());
        let stream = stream.expect("the handshake succeeds");
        let sent = text(2_000);
        let ((), received) = tokio::join!(client.send(&sent), read_all(&stream, 2_000, 16_384));
        assert_eq!(received, sent);
    }
}

#[actix_rt::test]
async fn the_end_of_the_client_is_read_and_it_may_still_be_written_to() {
    for notifies in [true, false] {
        let (mut client, stream) = connected(&TLS13).await;
        client.send(b"last words").await;
        if notifies {
            client.tls.send_close_notify();
            client.flush().await;
        }
        client.tcp.shutdown().await.expect("open");
        assert_eq!(read_all(&stream, 100, 16_384).await, b"last words");
        assert!(stream.has_ended());
        write_all(&stream, b"answer").await;
        assert_eq!(client.read(6).await, b"answer");
    }
}

#[actix_rt::test]
async fn the_server_says_its_end_before_the_fin() {
    let (mut client, stream) = connected(&TLS13).await;
    write_all(&stream, b"last words").await;
    let hang_up = stream.hang_up(DEADLINE);
    let client = async {
        // More than there is: without close_notify reading fails.
        let text = client.read(100).await;
        let ended = client.tls.reader().read(&mut [0; 1]);
        drop(client);
        (text, ended.expect("close_notify came"))
    };
    let (in_order, (text, read)) = tokio::join!(hang_up, client);
    assert!(in_order);
    assert_eq!((&*text, read), (&b"last words"[..], 0));
}

#[actix_rt::test]
async fn records_that_are_none_end_the_connection_with_an_alert() {
    let (mut client, stream) = connected(&TLS13).await;
    let garbage = [23, 3, 3, 0, 30, 1, 2, 3].into_iter().chain([7; 27]);
    let garbage: Vec<u8> = garbage.collect();
    client.tcp.write_all(&garbage).await.expect("open");
    let failed = read(&stream, &mut [0; 16_384]).await;
    assert_eq!(
        failed.expect_err("no record").kind(),
        io::ErrorKind::InvalidData
    );
    let alert = client.receive().await.expect_err("an alert");
    assert!(matches!(alert, rustls::Error::AlertReceived(_)), "{alert}");
    // The writer may not know it yet.
    stream.try_write(b"too late").expect_err("it is over");
    assert!(stream.hang_up(Duration::from_millis(50)).await);

    // In place of a handshake.
    let (tls, config) = both(&TLS13);
    let (mut client, tcp) = connect(config).await;
    client
        .tcp
        .write_all(&[22, 3, 1, 0, 4, 1, 0, 0, 0])
        .await
        .expect("open");
    let (stream, received) = tokio::join!(tls.accept(tcp), client.receive());
    assert!(stream.is_none());
    // Some errors of a handshake have no alert.
    assert!(
        matches!(received, Err(rustls::Error::AlertReceived(_)) | Ok(false)),
        "{received:?}"
    );
}

#[actix_rt::test]
async fn a_handshake_that_does_not_end_is_not_collected() {
    let (tls, config) = both(&TLS13);
    let (mut client, tcp) = connect(config).await;
    let flood = async {
        // A client hello of 60 kB in small records.
        let mut records = vec![22, 3, 1, 0, 4, 1, 0, 0xEA, 0x60];
        for _ in 0..240 {
            records.extend([22, 3, 3, 0, 250]);
            records.extend([0; 250]);
        }
        // The server may have ended the connection.
        let _ = client.tcp.write_all(&records).await;
        let _ = client.receive().await;
    };
    let (stream, ()) = tokio::join!(timeout(DEADLINE, tls.accept(tcp)), flood);
    assert!(stream.expect("it is refused").is_none());
}

#[actix_rt::test]
async fn new_keys_of_either_side_are_taken() {
    let (mut client, stream) = connected(&TLS13).await;
    for turn in 0..3 {
        client.tls.refresh_traffic_keys().expect("TLS 1.3");
        client.send(b"with new keys").await;
        assert_eq!(
            read_all(&stream, 13, 16_384).await,
            b"with new keys",
            "{turn}"
        );
        // It carries the server's answer to the update.
        write_all(&stream, b"and back").await;
        assert_eq!(client.read(8).await, b"and back", "{turn}");
    }
}

#[actix_rt::test]
async fn little_is_kept_for_a_client_that_does_not_read() {
    let (mut client, stream) = connected(&TLS13).await;
    let frame = text(1_000_000);
    let mut taken = 0;
    let blocked = loop {
        match stream.try_write(&frame) {
            Ok(len) => taken += len,
            Err(error) => break error,
        }
        assert!(taken < 100_000_000, "the kernel takes all");
    };
    assert_eq!(blocked.kind(), io::ErrorKind::WouldBlock);
    assert!(stream.keeps_bytes());
    let kept = stream.kept_bytes();
    assert!(kept <= 33 * 1024, "{kept} bytes");
    let cx = &mut Context::from_waker(Waker::noop());
    assert!(stream.poll_flush(cx).is_pending());
    let received = async { client.read(taken).await.len() };
    let (flushed, received) = tokio::join!(stream.flush(), received);
    flushed.expect("open");
    assert_eq!((received, stream.kept_bytes()), (taken, 0));
}

#[actix_rt::test]
async fn a_look_finds_the_end_and_keeps_a_request_for_its_reader() {
    let (mut client, stream) = connected(&TLS13).await;
    assert!(!stream.has_ended());
    client.send(b"GET / HTTP/1.1\r\n").await;
    client.tls.send_close_notify();
    client.flush().await;
    // Nobody knows whether there are more.
    let ended = timeout(Duration::from_millis(50), stream.ended()).await;
    assert!(ended.is_err());
    assert_eq!(read_all(&stream, 16, 16_384).await, b"GET / HTTP/1.1\r\n");
    timeout(DEADLINE, stream.ended())
        .await
        .expect("it has ended");

    let (client, stream) = connected(&TLS13).await;
    let gone = async { drop(client) };
    let (ended, ()) = tokio::join!(timeout(DEADLINE, stream.ended()), gone);
    ended.expect("it has ended");
}

#[actix_rt::test]
async fn a_request_without_tls_is_told_of_it() {
    let (tls, config) = both(&TLS13);
    let (mut client, tcp) = connect(config).await;
    let asked = async {
        let request = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";
        client.tcp.write_all(request).await.expect("open");
        let mut answer = String::new();
        client
            .tcp
            .read_to_string(&mut answer)
            .await
            .expect("in order");
        answer
    };
    let (stream, answer) = tokio::join!(tls.accept(tcp), asked);
    assert!(stream.is_none());
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(answer.contains(&format!("content-length: {}\r\n", body.len())));
    assert_eq!(body, "This port speaks https and not http.\n");
}
