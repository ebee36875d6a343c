//! Certificates from Pebble, Let's Encrypt's own ACME server for tests.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tempfile::{TempDir, tempdir};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::{sleep, timeout};
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;

use crate::support::process::{Process, run};
use crate::support::tls::{Tunnel, dial_as, trusting, trusting_pem, write_certificate};
use crate::support::wire::http;

const DEADLINE: Duration = Duration::from_secs(30);
const NAMES: [&str; 2] = ["chat.example.com", "www.example.com"];
/// Seconds that a certificate lives if nobody wants it to end.
const LONG: u64 = 90 * 24 * 3_600;

/// A running program. Dropping it kills it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Pebble, and a name server for which every name is this machine.
struct Pebble {
    dir: TempDir,
    addr: SocketAddr,
    management: SocketAddr,
    _programs: [Running; 2],
}

impl Pebble {
    /// One that looks for every name's server at a port, and whose certificates live for so many seconds.
    async fn start(tls_port: u16, life: u64) -> Self {
        let dir = tempdir().expect("a folder");
        write_certificate(dir.path());
        let [addr, management, dns] = [free(), free(), free()];
        let config = json!({ "pebble": {
            "listenAddress": addr.to_string(),
            "managementListenAddress": management.to_string(),
            "certificate": "cert.pem",
            "privateKey": "key.pem",
            "httpPort": 1,
            "tlsPort": tls_port,
            "certificateValidityPeriod": life,
        }});
        fs::write(dir.path().join("config.json"), config.to_string()).expect("writable");
        let dns_addr = dns.to_string();
        let mut names = Command::new("pebble-challtestsrv");
        names.args(["-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", "-dns01"]);
        names.args([&dns_addr, "-http01", "", "-https01", "", "-tlsalpn01", ""]);
        names.args(["-management", ""]);
        let mut pebble = Command::new("pebble");
        pebble.args(["-config", "config.json", "-dnsserver", &dns_addr]);
        pebble.env("PEBBLE_VA_NOSLEEP", "1");
        let programs = [names, pebble].map(|mut command| {
            let command = command.current_dir(dir.path());
            let started = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
            Running(started.expect("pebble is installed (Debian: pebble)"))
        });
        let listens = async {
            // It opens one after the other.
            for addr in [addr, management] {
                while TcpStream::connect(addr).await.is_err() {
                    sleep(Duration::from_millis(10)).await;
                }
            }
            names_are_answered(dns).await;
        };
        timeout(DEADLINE, listens).await.expect("they listen");
        Self {
            dir,
            addr,
            management,
            _programs: programs,
        }
    }

    /// A client that trusts its certificates.
    async fn client(&self) -> Arc<ClientConfig> {
        let management = Tunnel::start(self.management, trusting(&self.dir, None)).await;
        let root = http(management.addr, "GET", "/roots/0", &[], b"").await;
        trusting_pem(&root.expect("an answer").body)
    }

    /// Writes the config file of a server that gets its certificates here.
    fn configure(&self, dir: &TempDir, more: &str) {
        let port = self.addr.port();
        // It outlives this Pebble.
        let root = dir.path().join(format!("{port}.pem"));
        fs::copy(self.dir.path().join("cert.pem"), &root).expect("writable");
        let config = format!(
            "persist = \"off\"\n\
            acme = {NAMES:?}\n\
            acme_contact = \"ada@example.com\"\n\
            acme_dir = \"acme\"\n\
            acme_directory = \"https://localhost:{port}/dir\"\n\
            acme_root = {root:?}\n\
            {more}\n"
        );
        fs::write(dir.path().join("slackir.toml"), config).expect("writable");
    }
}

/// A server with the config file.
fn serve(dir: &TempDir, port: u16) -> Process {
    Process::start_on(dir, port, &["--config", "slackir.toml"])
}

/// An address on which nothing listens.
fn free() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound")
}

/// Waits until the name server answers.
async fn names_are_answered(server: SocketAddr) {
    // Its header: number 1, one question; then the question: the address of "a".
    const QUERY: [u8; 19] = [0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, b'a', 0, 0, 1, 0, 1];
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
    let mut answer = [0; 512];
    loop {
        // Nobody may listen yet.
        let _ = socket.send_to(&QUERY, server).await;
        let received = timeout(Duration::from_millis(50), socket.recv(&mut answer)).await;
        if matches!(received, Ok(Ok(1..))) {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
}

/// Connects under a name, once the server has a certificate that the client accepts.
async fn dial(server: SocketAddr, name: &str, client: &Arc<ClientConfig>) -> TlsStream<TcpStream> {
    let given = async {
        loop {
            // A client of its own for each, so that no session is resumed.
            let client = Arc::new((**client).clone());
            if let Ok(stream) = dial_as(name, server, client).await {
                return stream;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(DEADLINE, given).await.expect("a certificate")
}

/// The certificate of a connection.
fn certificate(stream: &TlsStream<TcpStream>) -> Vec<u8> {
    let chain = stream.get_ref().1.peer_certificates();
    chain.expect("a certificate")[0].to_vec()
}

#[actix_web::test]
async fn a_server_gets_a_certificate_and_keeps_it() {
    for driver in ["direct", "actix-ws"] {
        let port = free().port();
        let pebble = Pebble::start(port, LONG).await;
        let client = pebble.client().await;
        let dir = tempdir().expect("a folder");
        pebble.configure(&dir, &format!("websocket_driver = \"{driver}\""));
        let server = serve(&dir, port);
        let mut stream = dial(server.addr, NAMES[0], &client).await;
        let first = certificate(&stream);
        let handshake = "GET /socket/websocket?vsn=2.0.0 HTTP/1.1\r\nhost: chat.example.com\r\n\
            connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
            sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
        stream.write_all(handshake.as_bytes()).await.expect("open");
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 101", "{driver}");
        // It has all names.
        let second = dial(server.addr, NAMES[1], &client).await;
        assert_eq!(certificate(&second), first);
        for (file, mode) in [
            ("account.json", 0o600),
            ("certificate.pem", 0o600),
            ("", 0o700),
        ] {
            let found = fs::metadata(dir.path().join("acme").join(file));
            let found = found.expect("it is there").permissions().mode();
            assert_eq!(found & 0o777, mode, "{file}");
        }
        server.signal("-TERM");
        assert_eq!(server.wait(), Some(0));

        // Without the ACME server.
        drop(pebble);
        let server = serve(&dir, port);
        let stream = dial(server.addr, NAMES[0], &client).await;
        assert_eq!(certificate(&stream), first, "{driver}");
        drop(server);

        // With another ACME server.
        let pebble = Pebble::start(port, LONG).await;
        pebble.configure(&dir, "");
        let server = serve(&dir, port);
        dial(server.addr, NAMES[0], &pebble.client().await).await;
    }
}

#[actix_web::test]
async fn a_certificate_is_renewed_before_its_end() {
    let port = free().port();
    let pebble = Pebble::start(port, 15).await;
    let client = pebble.client().await;
    let dir = tempdir().expect("a folder");
    pebble.configure(&dir, "");
    let server = serve(&dir, port);
    let stream = dial(server.addr, NAMES[0], &client).await;
    let first = certificate(&stream);
    let mut now = first.clone();
    let renewed = async {
        while now == first {
            sleep(Duration::from_millis(50)).await;
            let client = Arc::new((*client).clone());
            let stream = dial_as(NAMES[0], server.addr, client).await;
            now = certificate(&stream.expect("the old one lives until there is a new one"));
        }
    };
    timeout(DEADLINE, renewed).await.expect("a new one");
}

#[actix_web::test]
async fn a_name_that_leads_elsewhere_is_one_line_that_says_what_to_do() {
    // Nobody listens there, and nobody else gets the port.
    let held = TcpSocket::new_v4().expect("a socket");
    held.bind(([127, 0, 0, 1], 0).into()).expect("a free port");
    let port = held.local_addr().expect("an address").port();
    let pebble = Pebble::start(port, LONG).await;
    let dir = tempdir().expect("a folder");
    pebble.configure(&dir, "");
    let args = ["--config", "slackir.toml", "--log", "error"];
    let mut server = Process::start_logging_to(Stdio::piped(), &dir, &args);
    let mut line = String::new();
    let read = BufReader::new(server.take_stderr()).read_line(&mut line);
    read.expect("a line");
    for part in [
        "serve.acme.failed: there is no new certificate; ",
        "the ACME server has not found this server at ",
        "port 443 of that name must lead to this server",
        "retry_s=120",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
}

#[actix_web::test]
async fn the_check_knows_what_a_server_needs_for_its_certificate() {
    let dir = tempdir().expect("a folder");
    write_certificate(dir.path());
    let check = |args: &[&str]| {
        let args = [
            &["config", "check", "--persist", "off", "--port", "0"],
            args,
        ]
        .concat();
        let output = run(&args, dir.path());
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = text.lines().find(|line| line.contains("  certificate: "));
        (output.status.code(), line.unwrap_or(&text).to_owned())
    };
    for (code, args, part) in [
        (
            0,
            &["--acme", "chat.example.com"][..],
            "warn  certificate: there is none yet",
        ),
        (
            1,
            &["--acme", "*.example.com"],
            "\"*.example.com\" in acme is no host name",
        ),
        (
            1,
            &["--acme", "a.example", "--acme-directory", "http://a/dir"],
            "\"http://a/dir\" in acme_directory is no URL of an ACME server",
        ),
        (
            1,
            &["--acme", "a.example", "--acme-root", "none.pem"],
            "cannot read none.pem",
        ),
        (
            1,
            &[
                "--acme",
                "a.example",
                "--tls-cert",
                "cert.pem",
                "--tls-key",
                "key.pem",
            ],
            "acme and tls_cert exclude each other",
        ),
    ] {
        let (found, line) = check(args);
        assert_eq!(found, Some(code), "{line}");
        assert!(line.contains(part), "{part}: {line}");
    }
}
