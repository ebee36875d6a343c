//! Nodes that talk over NATS: real processes, one PostgreSQL, one NATS. PostgreSQL gives the order.

use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

use super::cluster;
use crate::support::bus::{Bus, Engine};
use crate::support::database::Database;
use crate::support::node::{Cluster, Member, Node, PATIENCE, TOPIC, readiness, until};
use crate::support::process::run;
use crate::support::proxy::Proxy;

fn over_nats() -> Cluster {
    Cluster::over(Engine::Nats)
}

#[actix_web::test]
async fn clients_of_two_nodes_hear_each_other_in_one_order() {
    cluster::hears_one_order(over_nats()).await;
}

#[actix_web::test]
async fn a_client_resumes_on_the_other_node_after_a_kill() {
    cluster::resumes_after_a_kill(over_nats()).await;
}

#[actix_web::test]
async fn programs_and_operators_reach_the_clients_of_all_nodes() {
    cluster::programs_reach_all(over_nats()).await;
}

#[actix_web::test]
async fn a_ban_holds_on_all_nodes_until_it_is_lifted() {
    cluster::ban_holds(over_nats()).await;
}

#[actix_web::test]
async fn a_long_polling_client_may_ask_any_node() {
    cluster::polls_any_node(over_nats()).await;
}

#[actix_web::test]
async fn presences_are_those_of_all_nodes() {
    cluster::presences_of_all(over_nats()).await;
}

#[actix_web::test]
async fn clients_of_three_nodes_hear_everything_over_a_restart_of_nats() {
    let mut cluster = over_nats();
    let nodes = [(); 3].map(|()| cluster.node());
    let mut members = Vec::new();
    for node in &nodes {
        members.push(Member::join(node).await);
    }
    let mut said = 0;
    for round in 0..3 {
        for _ in 0..9 {
            members[said as usize % 3].say(said).await;
            for member in &mut members {
                assert_eq!(member.hear().await, said, "round {round}");
            }
            said += 1;
        }
        let last = members[0].last.clone();
        assert!(members.iter().all(|member| member.last == last));
        let port = cluster.bus.port();
        drop(cluster.bus);
        // Meanwhile it takes a second.
        members[0].say(said).await;
        for member in &mut members {
            assert_eq!(member.hear().await, said, "without NATS");
        }
        said += 1;
        cluster.bus = Bus::start_on(Engine::Nats, port).expect("its port is free again");
        for node in &nodes {
            let begun = Instant::now();
            while readiness(node).await.contains("NATS is away") {
                assert!(begun.elapsed() < PATIENCE, "{}", readiness(node).await);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    cluster.stored(said as usize).await;
    nodes.into_iter().for_each(Node::end);
}

#[actix_web::test]
async fn a_node_without_nats_keeps_its_clients_and_says_so() {
    let cluster = over_nats();
    let proxy = Proxy::start(&format!("127.0.0.1:{}", cluster.bus.port())).await;
    let apart = cluster.node_on(&format!("nats://{}", proxy.addr), &[]);
    let node = cluster.node();
    let mut ada = Member::join(&apart).await;
    let mut bob = Member::join(&node).await;
    proxy.cut();
    let begun = Instant::now();
    while !readiness(&apart).await.contains("NATS is away: members") {
        assert!(begun.elapsed() < PATIENCE, "{}", readiness(&apart).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // PostgreSQL tells each what the other says.
    for n in 0..4 {
        let (speaker, other) = if n % 2 == 0 {
            (&mut ada, &mut bob)
        } else {
            (&mut bob, &mut ada)
        };
        speaker.say(n).await;
        assert_eq!((speaker.hear().await, other.hear().await), (n, n));
    }
    apart.end();
    node.end();
}

#[actix_web::test]
async fn a_saved_message_that_nats_does_not_take_comes_from_the_database_in_its_order() {
    let dir = TempDir::new().expect("a temporary folder");
    let config = dir.path().join("nats.conf");
    std::fs::write(&config, "max_payload: 4000\n").expect("it can be written");
    let config = config.display().to_string();
    let cluster = Cluster {
        database: Database::postgres(),
        bus: Bus::start_with(Engine::Nats, &["-c", &config]),
    };
    let nodes = [(); 2].map(|()| cluster.node());
    let mut ada = Member::join(&nodes[0]).await;
    let mut bob = Member::join(&nodes[1]).await;
    for n in 0..6 {
        let name = "a".repeat(if n % 3 == 1 { 6_000 } else { 10 });
        let said = json!({"name": name, "message": n.to_string()});
        ada.client.push(&ada.join_ref, TOPIC, "shout", said).await;
    }
    for n in 0..6 {
        assert_eq!((ada.hear().await, bob.hear().await), (n, n));
        assert_eq!(ada.last, bob.last, "one id");
    }
    cluster.stored(6).await;
    nodes.into_iter().for_each(Node::end);
}

#[actix_web::test]
async fn nodes_that_save_nothing_need_no_database() {
    let cluster = over_nats();
    let nodes = [(); 2].map(|()| cluster.node_without_database());
    let mut ada = Member::join(&nodes[0]).await;
    let mut bob = Member::join(&nodes[1]).await;
    for n in 0..20 {
        let (speaker, other) = if n % 2 == 0 {
            (&mut ada, &mut bob)
        } else {
            (&mut bob, &mut ada)
        };
        speaker.say(n).await;
        assert_eq!((speaker.hear().await, other.hear().await), (n, n));
    }
    nodes.into_iter().for_each(Node::end);
}

#[actix_web::test]
async fn servers_that_do_not_fit_are_refused() {
    let cluster = over_nats();
    let node = cluster.node();
    // A node that listens may not have shown itself to the others yet.
    let seen = "SELECT name AS answer FROM servers";
    until("the node is seen", || {
        !cluster.database.ask(seen).is_empty()
    })
    .await;
    let dir = TempDir::new().expect("a folder");
    let (nats, database) = (cluster.bus.url(), &*cluster.database.url);
    let others = Bus::start(Engine::Nats);
    let (others, redis) = (others.url(), "redis://127.0.0.1:1");
    let strict = ["--durability", "strict"];
    let on = |url| ["--database-url", database, "--nats-url", url];
    for (args, says) in [
        (on(&nats).to_vec(), "nats_url: NATS gives messages no order"),
        (
            [&on(&nats)[..], &strict, &["--redis-url", redis]].concat(),
            "redis_url and nats_url are both set",
        ),
        (
            [&["--nats-url", &nats], &strict[..]].concat(),
            "nats_url: the servers of a cluster share a PostgreSQL",
        ),
        (
            [&on(redis)[..], &strict].concat(),
            "nats_url: the scheme of the URL must be nats or tls",
        ),
        (
            vec!["--database-url", database, "--redis-url", &nats],
            "the URL of a NATS is nats_url",
        ),
        (
            [&on("nats://host/1")[..], &strict].concat(),
            "nats_url: the URL of NATS is not valid",
        ),
        (
            [&on(&others)[..], &strict].concat(),
            "connected to another NATS",
        ),
        (
            [
                &["--database-url", database, "--redis-url", redis],
                &strict[..],
            ]
            .concat(),
            "another server uses the database",
        ),
        (
            [&on(&nats)[..], &strict, &["--redis-prefix", "other"]].concat(),
            "another server uses the database",
        ),
    ] {
        let args = [&["serve", "--port", "0"], &*args].concat();
        let refused = run(&args, dir.path());
        let error = String::from_utf8_lossy(&refused.stderr);
        let is_refused = refused.status.code() == Some(1) && error.contains(says);
        assert!(is_refused, "{says}: {error}");
    }
    node.end();
}

#[actix_web::test]
async fn the_check_of_a_configuration_looks_at_nats() {
    let mut cluster = over_nats();
    let dir = TempDir::new().expect("a folder");
    std::fs::write(dir.path().join("nats.url"), cluster.bus.url()).expect("writable");
    let own = ["config", "check", "--port", "0", "--durability", "strict"];
    let database = ["--database-url", &cluster.database.url];
    let args = [&own[..], &database, &["--nats-url-file", "nats.url"]].concat();
    let checked = || {
        let output = run(&args, dir.path());
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let found = checked();
    assert!(
        found.contains("NATS 2") && found.contains("slackir.>"),
        "{found}"
    );
    let port = cluster.bus.port();
    drop(cluster.bus);
    let found = checked();
    assert!(found.contains("NATS is not reached"), "{found}");
    cluster.bus = Bus::start_on(Engine::Nats, port).expect("its port is free again");
}
