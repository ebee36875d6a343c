//! Servers that may be no nodes of a cluster, and nodes that are cut off from the others.

use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;
use tokio::task::spawn_blocking;

use crate::support::api::{Program, TOKEN};
use crate::support::bus::{Bus, Engine};
use crate::support::node::{Cluster, Member, PATIENCE, TOPIC, readiness, until};
use crate::support::phoenix::Phoenix;
use crate::support::process::run;
use crate::support::proxy::Proxy;

#[actix_web::test]
async fn servers_that_do_not_fit_are_refused() {
    let cluster = Cluster::new();
    let node = cluster.node();
    // A node that listens may not have shown itself to the others yet.
    let seen = || {
        !cluster
            .database
            .ask("SELECT name AS answer FROM servers")
            .is_empty()
    };
    until("the node is seen", seen).await;
    let (dir, redis) = (TempDir::new().expect("a folder"), cluster.bus.url());
    let (other, database) = (Bus::start(Engine::Redis), &cluster.database.url);
    let others = other.url();
    for (args, says) in [
        (
            vec!["--database-url", database],
            "another server uses the database",
        ),
        (
            vec![
                "--database-url",
                database,
                "--redis-url",
                &redis,
                "--cluster-prefix",
                "other",
            ],
            "another server uses the database",
        ),
        (
            vec!["--database-url", database, "--redis-url", &others],
            "connected to another Redis",
        ),
        (
            vec![
                "--database-url",
                database,
                "--redis-url",
                &redis,
                "--durability",
                "strict",
            ],
            "the same redis_url or nats_url, cluster_prefix and durability",
        ),
        (vec!["--redis-url", &redis], "share a PostgreSQL"),
        (
            vec![
                "--database-url",
                database,
                "--redis-url",
                "http://127.0.0.1",
            ],
            "the URL of Redis is not valid",
        ),
        (
            vec!["--redis-url", &redis, "--redis-prefix", "my chat"],
            "without spaces",
        ),
    ] {
        let args = [&["serve", "--port", "0"], &*args].concat();
        let refused = run(&args, dir.path());
        let error = String::from_utf8_lossy(&refused.stderr);
        let code = refused.status.code();
        // 2: a setting alone is wrong.
        assert!(
            matches!(code, Some(1 | 2)) && error.contains(says),
            "{code:?} {error}"
        );
    }
    // More than once: libpq crashes at the end of a process that still opens a connection.
    for _ in 0..10 {
        let args = ["serve", "--port", "0", "--database-url", database];
        assert_eq!(run(&args, dir.path()).status.code(), Some(1));
    }
    node.end();
}

#[actix_web::test]
async fn nodes_on_two_redis_servers_say_so() {
    let cluster = Cluster::new();
    let first = cluster.node();
    // Its Redis comes later: so it cannot know that the other node is not there.
    let (port, away) = {
        let redis = Bus::start(Engine::Redis);
        (redis.port(), redis.url())
    };
    let second = cluster.node_on(&away, &[]);
    let _redis = Bus::start_on(Engine::Redis, port).expect("the port is free");
    for node in [&first, &second] {
        let begun = Instant::now();
        while !readiness(node).await.contains("over another Redis") {
            assert!(begun.elapsed() < PATIENCE, "{}", readiness(node).await);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

#[actix_web::test]
async fn a_node_without_redis_sends_its_clients_to_the_others() {
    let cluster = Cluster::new();
    let proxy = Proxy::start(&format!("127.0.0.1:{}", cluster.bus.port())).await;
    let lonely = cluster.node_on(&format!("redis://{}", proxy.addr), &[]);
    let mut ada = Member::join(&lonely).await;
    let node = cluster.node();
    proxy.cut();
    let begun = Instant::now();
    while !readiness(&lonely).await.contains("other nodes reach it") {
        assert!(begun.elapsed() < PATIENCE, "{}", readiness(&lonely).await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(ada.client.closed_within(PATIENCE).await, 1012);
    // Who comes back all the same stays.
    let mut client = Phoenix::connect(lonely.addr()).await;
    let nobody = tokio::time::timeout(Duration::from_secs(3), client.closed()).await;
    assert!(nobody.is_err());
    let mut ada = Member::resume(&node, ada.last).await;
    ada.say(1).await;
    assert_eq!(ada.hear().await, 1);
    node.end();
}

/// A new Redis knows no client_ref, so the nodes look for it in the database. One of them could not save for a while.
#[actix_web::test]
async fn a_retry_on_a_new_redis_waits_for_a_node_that_cannot_save() {
    let mut cluster = Cluster::new();
    let (proxy, url) = cluster.database.behind_proxy().await;
    let redis = cluster.bus.url();
    // The proxy works meanwhile.
    let start = move || Cluster::node_of(Engine::Redis, [&url, &redis], &[]);
    let behind = spawn_blocking(start).await.expect("it starts");
    let node = cluster.node_with(&["--api-token", TOKEN]);
    let payload = json!({"name": "ada", "message": "1", "client_ref": "r1"});
    let mut ada = Member::join(&behind).await;
    proxy.cut();
    let client = &mut ada.client;
    client
        .push(&ada.join_ref, TOPIC, "shout", payload.clone())
        .await;
    assert_eq!(ada.hear().await, 1);

    let port = cluster.bus.port();
    drop(cluster.bus);
    cluster.bus = Bus::start_on(Engine::Redis, port).expect("its port is free again");
    let mended = async {
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        proxy.mend();
    };
    let retried = async {
        let other = Program::of(&node.server).await;
        let begun = Instant::now();
        loop {
            let shout = json!({"payload": payload, "client_ref": "r1"});
            let target = format!("/api/topics/{TOPIC}/messages");
            let (status, answer) = other.ask("POST", &target, &shout).await;
            // The node has no Redis yet.
            if status != 503 || begun.elapsed() > PATIENCE {
                return (status, answer);
            }
        }
    };
    let ((), (status, answer)) = tokio::join!(mended, retried);
    assert_eq!(status, 200, "it is the first message: {answer}");
    cluster.stored(1).await;
    let quiet = tokio::time::timeout(Duration::from_secs(1), ada.hear()).await;
    assert!(quiet.is_err(), "nobody gets it twice");
}
