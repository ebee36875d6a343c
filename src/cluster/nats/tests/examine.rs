//! The check of a server before a node uses it.

use tempfile::TempDir;

use super::{Server, node};
use crate::cluster::bus::{Bus, To};
use crate::cluster::finding::Finding;
use crate::cluster::nats::error::ConnectError;
use crate::cluster::nats::examine;
use crate::cluster::tests::support::{free_port, message, until, wait};

/// A folder of the test's own.
fn dir() -> TempDir {
    TempDir::new().expect("a folder")
}

#[test]
fn a_server_as_it_comes_is_fine() {
    let server = Server::start(&[]);
    let findings = wait(examine(&server.url(), "slackir")).expect("reached");
    assert_eq!(findings.len(), 2);
    for finding in findings {
        assert!(matches!(finding, Finding::Fine(_)), "{finding:?}");
    }
}

#[test]
fn a_server_of_a_nats_cluster_and_one_that_takes_little_are_warned_of() {
    let dir = dir();
    let config = format!(
        "max_payload: 1000\ncluster {{ name: many, listen: \"127.0.0.1:{}\" }}\n",
        free_port()
    );
    let server = Server::configured(&dir, &config);
    let findings = wait(examine(&server.url(), "slackir")).expect("reached");
    for word in ["max_payload", "many"] {
        let is_warned =
            |finding: &Finding| matches!(finding, Finding::Warning(text) if text.contains(word));
        assert!(findings.iter().any(is_warned), "{findings:?}");
    }
}

#[test]
fn the_rights_of_the_page_are_enough() {
    let page = include_str!("../../../../docs/CLUSTER.md");
    let config = page
        .split("```")
        .find_map(|block| block.strip_prefix("text\nauthorization "));
    let config = format!("authorization {}", config.expect("a block with the rights"));
    let dir = dir();
    let server = Server::configured(&dir, &config);
    let url = format!("nats://slackir:secret@127.0.0.1:{}", server.port);
    for finding in wait(examine(&url, "slackir")).expect("reached") {
        assert!(matches!(finding, Finding::Fine(_)), "{finding:?}");
    }
    let (hears, sends) = (node(url.clone()), node(url.clone()));
    hears.attach("room:1.*");
    sends
        .bus
        .send(To::Topic("room:1.*"), message(sends.id, 1, ""));
    until("it arrives", || hears.arrived("room:1.*").len() == 1);
    assert_eq!(wait(sends.bus.leave()), Ok(()));
    // They are of no use for another cluster.
    let refused = wait(examine(&url, "other")).expect_err("no right");
    assert!(matches!(refused, ConnectError::Refused(_)), "{refused}");
    assert!(refused.to_string().contains("Permissions"), "{refused}");
    let wrong = format!("nats://slackir:wrong@127.0.0.1:{}", server.port);
    let refused = wait(examine(&wrong, "slackir")).expect_err("another password");
    assert!(matches!(refused, ConnectError::Refused(_)), "{refused}");
    assert!(refused.to_string().contains("password"), "{refused}");
}

#[test]
fn a_token_is_a_user_without_a_password() {
    let server = Server::start(&["--auth", "geheim"]);
    let url = |user: &str| format!("nats://{user}127.0.0.1:{}", server.port);
    assert!(wait(examine(&url("geheim@"), "slackir")).is_ok());
    for user in ["", "other@"] {
        let refused = wait(examine(&url(user), "slackir"));
        assert!(matches!(refused, Err(ConnectError::Refused(_))));
    }
}

#[test]
fn a_wrong_url_or_port_is_told_apart() {
    let examined = |url: &str| wait(examine(url, "slackir"));
    assert!(matches!(examined("http://x"), Err(ConnectError::Url(_))));
    let mut server = Server::start(&[]);
    server.kill();
    let unreachable = examined(&server.url());
    assert!(matches!(unreachable, Err(ConnectError::Unreachable(_))));
    // It says nothing, and waits for what the client says.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("nats://{}", silent.local_addr().expect("bound"));
    assert!(matches!(examined(&url), Err(ConnectError::Silent)));
}
