//! A server that speaks TLS.

use std::process::Command;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;

use super::{Server, node};
use crate::cluster::bus::{Bus, To};
use crate::cluster::nats::error::ConnectError;
use crate::cluster::nats::examine;
use crate::cluster::tests::support::{message, until, wait};

/// Names the server to the process that trusts it.
const PORT: &str = "SLACKIR_TEST_BUS_PORT";

/// Runs in a process of its own, whose system trusts the server.
#[test]
#[ignore = "needs an environment of its own; the next test runs it in one"]
fn trusts() {
    let port = std::env::var(PORT).expect("the test that starts this process names a port");
    // The server demands TLS, even of a URL that does not.
    for scheme in ["tls", "nats"] {
        let node = node(format!("{scheme}://localhost:{port}"));
        node.attach("room");
        node.bus
            .send(To::Topic("room"), message(node.id, 1, &"x".repeat(300_000)));
        until("it arrives", || node.arrived("room").len() == 1);
        assert_eq!(wait(node.bus.leave()), Ok(()));
    }
}

#[test]
fn a_node_connects_over_tls_to_a_server_that_the_system_trusts() {
    let dir = TempDir::new().expect("a folder");
    let path = |name: &str| dir.path().join(name).to_str().expect("text").to_owned();
    let key = || KeyPair::generate().expect("a key");
    let mut root = CertificateParams::default();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = CertifiedIssuer::self_signed(root, key()).expect("a root");
    let own_key = key();
    let own = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let own = own.signed_by(&own_key, &root).expect("a certificate");
    for (name, text) in [
        ("root.pem", root.pem()),
        ("cert.pem", own.pem()),
        ("key.pem", own_key.serialize_pem()),
    ] {
        std::fs::write(path(name), text).expect("writable");
    }
    let server = Server::start(&[
        "--tls",
        "--tlscert",
        &path("cert.pem"),
        "--tlskey",
        &path("key.pem"),
    ]);
    // This process does not trust it.
    let refused = wait(examine(
        &format!("tls://localhost:{}", server.port),
        "slackir",
    ));
    assert!(matches!(refused, Err(ConnectError::Tls(_))), "{refused:?}");
    let output = Command::new(std::env::current_exe().expect("a test"))
        .args(["--exact", "--ignored", "cluster::nats::tests::tls::trusts"])
        .env(PORT, server.port.to_string())
        .env("SSL_CERT_FILE", path("root.pem"))
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{output:?}");
}
