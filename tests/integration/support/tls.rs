//! Certificates, and a way to a server that speaks TLS for clients that do not.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use tempfile::TempDir;
use tokio::io::{AsyncWriteExt, copy, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

/// The settings of a server with the certificate of [`write_certificate`].
pub(crate) const TLS: [&str; 4] = ["--tls-cert", "cert.pem", "--tls-key", "key.pem"];

/// Writes a certificate for localhost with its key.
pub(crate) fn write_certificate(dir: &Path) {
    write_certificate_until(dir, (2100, 1, 1));
}

/// Writes one that ends on this day.
pub(crate) fn write_certificate_until(dir: &Path, (year, month, day): (i32, u8, u8)) {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let mut params = CertificateParams::new(names).expect("names");
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(year, month, day);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("signed");
    std::fs::write(dir.join("cert.pem"), certificate.pem()).expect("writable");
    std::fs::write(dir.join("key.pem"), key.serialize_pem()).expect("writable");
}

/// A client that trusts the certificate in `dir`, with all versions or one.
pub(crate) fn trusting(
    dir: &TempDir,
    version: Option<&'static SupportedProtocolVersion>,
) -> Arc<ClientConfig> {
    let certificate = std::fs::read(dir.path().join("cert.pem")).expect("a file");
    client(&certificate, version)
}

/// A client that trusts this root, in PEM.
#[cfg(feature = "acme")]
pub(crate) fn trusting_pem(root: &[u8]) -> Arc<ClientConfig> {
    client(root, None)
}

fn client(root: &[u8], version: Option<&'static SupportedProtocolVersion>) -> Arc<ClientConfig> {
    let certificate = CertificateDer::from_pem_slice(root);
    let mut roots = RootCertStore::empty();
    roots
        .add(certificate.expect("a certificate"))
        .expect("a root");
    let versions = version.map_or_else(|| vec![&TLS13, &TLS12], |version| vec![version]);
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&versions)
        .expect("known versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

/// A TLS connection to a server.
pub(crate) async fn dial(
    addr: SocketAddr,
    config: Arc<ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    dial_as("localhost", addr, config).await
}

/// A TLS connection to a server under this name.
pub(crate) async fn dial_as(
    name: &str,
    addr: SocketAddr,
    config: Arc<ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(addr).await?;
    tcp.set_nodelay(true)?;
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    TlsConnector::from(config).connect(name, tcp).await
}

/// Takes plain connections, and passes them on by TLS. Dropping it ends them.
pub(crate) struct Tunnel {
    pub(crate) addr: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Tunnel {
    pub(crate) async fn start(server: SocketAddr, config: Arc<ClientConfig>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let accepting = tokio::task::spawn_local(async move {
            while let Ok((client, _)) = listener.accept().await {
                let config = Arc::clone(&config);
                tokio::task::spawn_local(async move {
                    if let Ok(server) = dial(server, config).await {
                        pass_on(client, server).await;
                    }
                });
            }
        });
        Self { addr, accepting }
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Until both sides have ended, or one fails.
async fn pass_on(client: TcpStream, server: TlsStream<TcpStream>) {
    let (mut from_client, mut to_client) = split(client);
    let (mut from_server, mut to_server) = split(server);
    let there = async {
        copy(&mut from_client, &mut to_server).await?;
        to_server.shutdown().await
    };
    let back = async {
        copy(&mut from_server, &mut to_client).await?;
        to_client.shutdown().await
    };
    // A failure is an end, too.
    let _ = tokio::try_join!(there, back);
}
