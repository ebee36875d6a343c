//! The check of a server before a node uses it.

use std::sync::atomic::Ordering::SeqCst;

use super::support::node::options;
use super::support::{Node, Server, until, wait};
use crate::cluster::bus::{Answer, Bus, Sequencer};
use crate::cluster::finding::Finding;
use crate::cluster::redis::error::ConnectError;
use crate::cluster::redis::{RedisOptions, examine};

#[test]
fn a_server_as_it_comes_is_fine() {
    let server = Server::start();
    let findings = wait(examine(&server.url(), None)).expect("reached");
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
    let findings = wait(examine(&url, None)).expect("reached");
    let refused = |finding: &&Finding| matches!(finding, Finding::Refused(text) if text.contains("CLIENT KILL"));
    let warned =
        |finding: &&Finding| matches!(finding, Finding::Warning(text) if text.contains("CONFIG"));
    assert_eq!(findings.iter().filter(refused).count(), 1, "{findings:?}");
    assert_eq!(findings.iter().filter(warned).count(), 1, "{findings:?}");
}

#[test]
fn the_rights_of_the_page_are_enough() {
    let page = include_str!("../../../../docs/CLUSTER.md");
    let rights = page
        .split("```")
        .find_map(|block| block.strip_prefix("text\non >"));
    let rights = format!("on >{}", rights.expect("a block with the rights"));
    let server = Server::start();
    let user: Vec<&str> = ["ACL", "SETUSER", "node"]
        .into_iter()
        .chain(rights.split_whitespace())
        .collect();
    server.run::<String>(&user);
    let url = format!("redis://node:password@127.0.0.1:{}/1", server.port);
    for finding in wait(examine(&url, None)).expect("reached") {
        assert!(matches!(finding, Finding::Fine(_)), "{finding:?}");
    }
    let (node, other) = (Node::start(url.clone()), Node::start(url));
    node.begin("room");
    node.attach("room");
    let Answer::Taken(place) = node.answer(node.publish("room")) else {
        panic!("not taken");
    };
    until("it arrives", || node.arrived("room").len() == 1);
    node.bus.stored("room", &[place.seq]);
    until("it has left the journal", || {
        wait(node.bus.journals()) == Ok(Vec::new())
    });
    assert_eq!(wait(node.bus.journaled("room")), Ok(Vec::new()));
    assert_eq!(wait(node.bus.claim("task", 1)), Ok(true));
    let key_renewed = || {
        server
            .run::<String>(&["INFO", "commandstats"])
            .contains("cmdstat_pexpire")
    };
    until("its key is renewed", key_renewed);
    until("both live", || {
        wait(node.bus.is_alive(other.id)) == Ok(true)
    });
    assert_eq!(wait(other.bus.leave()), Ok(()));
    assert_eq!(node.heard.downs.load(SeqCst), 0);
}

#[test]
fn a_server_that_evicts_is_refused() {
    let server = Server::start();
    server.run::<String>(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    let findings = wait(examine(&server.url(), None)).expect("reached");
    let refused = |finding: &Finding| matches!(finding, Finding::Refused(text) if text.contains("allkeys-lru"));
    assert!(findings.iter().any(refused), "{findings:?}");
}

#[test]
fn a_wrong_url_password_or_port_is_told_apart() {
    assert!(matches!(
        wait(examine("http://x", None)),
        Err(ConnectError::Url(_))
    ));
    let mut server = Server::start();
    let url = format!("redis://node:wrong@127.0.0.1:{}", server.port);
    let error = wait(examine(&url, None)).expect_err("no such user");
    assert!(error.to_string().contains("password"), "{error}");
    server.kill();
    let unreachable = wait(examine(&server.url(), None));
    assert!(matches!(unreachable, Err(ConnectError::Unreachable(_))));
}

#[test]
fn the_channel_of_a_bridge_needs_a_right_and_a_listener() {
    const CHANNEL: &str = "phx:Elixir.MyApp.PubSub.Adapter";
    let server = Server::start();
    let user = ["ACL", "SETUSER", "node", "on", ">secret", "~*", "+@all"];
    server.run::<String>(&[&user[..], &["&slackir:*"]].concat());
    let url = format!("redis://node:secret@127.0.0.1:{}", server.port);
    let found = || {
        let findings = wait(examine(&url, Some(CHANNEL))).expect("reached");
        findings.into_iter().next_back().expect("four findings")
    };
    let is_refused = |finding: &Finding| matches!(finding, Finding::Refused(text) if text.contains("&phx:Elixir"));
    let forbidden = found();
    assert!(is_refused(&forbidden), "{forbidden:?}");
    server.run::<String>(&[&user[..], &["&slackir:*", &format!("&{CHANNEL}")]].concat());
    let lonely = found();
    assert!(matches!(&lonely, Finding::Warning(text) if text.contains("Nobody listens")));
    let _node = Node::with(RedisOptions {
        foreign: Some(CHANNEL.to_owned()),
        ..options(url.clone())
    });
    until("it is heard", || matches!(found(), Finding::Fine(_)));
}
