//! The check of a server before a node uses it.

use super::support::{Server, wait};
use crate::cluster::redis::error::ConnectError;
use crate::cluster::redis::{Finding, examine};

#[test]
fn a_server_as_it_comes_is_fine() {
    let server = Server::start();
    let findings = wait(examine(&server.url())).expect("reached");
    assert_eq!(findings.len(), 3);
    for finding in findings {
        assert!(matches!(finding, Finding::Fine(_)), "{finding:?}");
    }
}

#[test]
fn a_user_without_client_kill_is_refused_and_without_config_warned() {
    let server = Server::start();
    let rights = ["+@all", "-config", "-client|kill"];
    let user = ["ACL", "SETUSER", "node", "on", ">secret", "~*", "&*"];
    server.run::<String>(&[&user[..], &rights].concat());
    let url = format!("redis://node:secret@127.0.0.1:{}", server.port);
    let findings = wait(examine(&url)).expect("reached");
    let refused = |finding: &&Finding| matches!(finding, Finding::Refused(text) if text.contains("CLIENT KILL"));
    let warned =
        |finding: &&Finding| matches!(finding, Finding::Warning(text) if text.contains("CONFIG"));
    assert_eq!(findings.iter().filter(refused).count(), 1, "{findings:?}");
    assert_eq!(findings.iter().filter(warned).count(), 1, "{findings:?}");
}

#[test]
fn a_server_that_evicts_is_refused() {
    let server = Server::start();
    server.run::<String>(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    let findings = wait(examine(&server.url())).expect("reached");
    let refused = |finding: &Finding| matches!(finding, Finding::Refused(text) if text.contains("allkeys-lru"));
    assert!(findings.iter().any(refused), "{findings:?}");
}

#[test]
fn a_wrong_url_password_or_port_is_told_apart() {
    assert!(matches!(
        wait(examine("http://x")),
        Err(ConnectError::Url(_))
    ));
    let mut server = Server::start();
    let url = format!("redis://node:wrong@127.0.0.1:{}", server.port);
    let error = wait(examine(&url)).expect_err("no such user");
    assert!(error.to_string().contains("password"), "{error}");
    server.kill();
    let unreachable = wait(examine(&server.url()));
    assert!(matches!(unreachable, Err(ConnectError::Unreachable(_))));
}
