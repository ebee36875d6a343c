//! What an issuer's server may do, and what becomes of it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use super::*;
use crate::server::jwt::JwtAlgorithm;

const KEYS: &str = include_str!("../../../tests/fixtures/jwt/jwks.json");
const CERTIFICATE: &[u8] = include_bytes!("../../../tests/fixtures/tls/certificate.pem");
const KEY: &[u8] = include_bytes!("../../../tests/fixtures/tls/key.pem");

/// A server that answers each connection so, and the number of its connections.
fn issuer(answer: impl Fn(TcpStream, usize) + Send + 'static) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let addr = listener.local_addr().expect("it is bound");
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let before = counted.fetch_add(1, Ordering::SeqCst);
            answer(stream.expect("a connection"), before);
        }
    });
    (addr, count)
}

/// Reads a request, and answers it with this body.
fn respond(mut stream: impl Read + Write, body: &str) {
    let mut head = [0; 4_096];
    // A client that does not trust the certificate sends no request.
    if stream.read(&mut head).is_ok_and(|read| read > 0) {
        let length = body.len();
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}");
        // The client may have had enough.
        let _ = stream.write_all(answer.as_bytes());
    }
}

fn remote(scheme: &str, addr: SocketAddr, tls: Option<Arc<ClientConfig>>) -> Arc<RemoteKeys> {
    let url = format!("{scheme}://localhost:{}/jwks", addr.port());
    Arc::new(RemoteKeys {
        url: Url::parse(&url).expect("a URL"),
        tls,
        cache: Mutex::default(),
        fetching: tokio::sync::Mutex::default(),
    })
}

/// Gives the cache keys that were fetched long enough ago to be fetched anew.
fn age(keys: &RemoteKeys) -> Arc<JwkSet> {
    let old = Instant::now().checked_sub(Duration::from_secs(11 * 60));
    let old = old.expect("the machine has been up for a while");
    let set = JwkSet::parse(KEYS.as_bytes()).expect("a fixture");
    let mut cache = lock(&keys.cache);
    cache.begin(old);
    cache.store(set, old)
}

#[actix_rt::test]
async fn a_body_of_256_kb_is_the_longest() {
    let padded = |length: usize| format!("{KEYS}{}", " ".repeat(length - KEYS.len()));
    for (length, is_read) in [(MAX_BYTES, true), (MAX_BYTES + 1, false)] {
        let body = padded(length);
        let (addr, _) = issuer(move |stream, _| respond(stream, &body));
        let keys = remote("http", addr, None).current().await;
        assert_eq!(keys.is_some(), is_read, "{length}");
    }
}

#[actix_rt::test]
async fn keys_that_are_there_count_while_the_issuer_is_slow() {
    let (addr, count) = issuer(|stream, _| {
        std::thread::sleep(TIMEOUT + Duration::from_secs(1));
        respond(stream, KEYS);
    });
    let keys = remote("http", addr, None);
    let old = age(&keys);
    let start = Instant::now();
    let current = keys.current().await.expect("the old keys");
    assert!(Arc::ptr_eq(&current, &old) && start.elapsed() < TIMEOUT);
    // A token with an unknown key waits for the fetch in flight.
    assert!(keys.newer(Some(Arc::clone(&old))).await.is_none());
    assert!(start.elapsed() >= TIMEOUT);
    let current = keys.current().await.expect("the old keys");
    assert!(Arc::ptr_eq(&current, &old));
    assert_eq!(count.load(Ordering::SeqCst), 1, "no fetch within 30 s");
}

#[actix_rt::test]
async fn old_keys_are_replaced_beside_the_tokens() {
    let (addr, _) = issuer(|stream, _| respond(stream, KEYS));
    let keys = remote("http", addr, None);
    let old = age(&keys);
    let current = keys.current().await.expect("the old keys");
    assert!(Arc::ptr_eq(&current, &old));
    let newer = keys.newer(Some(old)).await.expect("the new keys");
    assert!(newer.has_key_for(JwtAlgorithm::Es256));
}

/// Answers over TLS, with a certificate that it has signed itself.
fn issuer_over_tls() -> SocketAddr {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions();
    let certificate = CertificateDer::from_pem_slice(CERTIFICATE).expect("a fixture");
    let key = PrivateKeyDer::from_pem_slice(KEY).expect("a fixture");
    let config = builder
        .expect("ring has versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key);
    let config = Arc::new(config.expect("they belong together"));
    let (addr, _) = issuer(move |stream, _| {
        let connection = ServerConnection::new(Arc::clone(&config)).expect("a configuration");
        respond(StreamOwned::new(connection, stream), KEYS);
    });
    addr
}

#[actix_rt::test]
async fn an_issuer_whose_certificate_nobody_vouches_for_is_refused() {
    let addr = issuer_over_tls();
    let strangers = tls(RootCertStore::empty()).expect("a configuration");
    let error = remote("https", addr, Some(strangers)).fetch().await;
    let error = error.expect_err("no root has signed it");
    assert_eq!(error.outcome(), "unreachable");

    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_slice(CERTIFICATE).expect("a fixture");
    roots.add(certificate).expect("a certificate");
    let friends = tls(roots).expect("a configuration");
    let keys = remote("https", addr, Some(friends)).fetch().await;
    assert!(
        keys.expect("the root is known")
            .has_key_for(JwtAlgorithm::Es256)
    );
}
