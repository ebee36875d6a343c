//! Redis is away for long: the database gives the order until it is back. Real processes, one PostgreSQL, one Redis.

use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use futures_util::future::join;
use serde_json::{Value, json};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::support::api::{Program, TOKEN};
use crate::support::bus::{Bus, Engine};
use crate::support::node::{Cluster, Member, Node, PATIENCE, TOPIC, readiness, until};
use crate::support::phoenix::Phoenix;
use crate::support::proxy::Proxy;

/// A node that reaches Redis at this address. The proxy in front of it works meanwhile.
async fn node_on(cluster: &Cluster, redis: String) -> Node {
    let database = cluster.database.url.clone();
    let start = move || {
        let args = ["--api-token", TOKEN];
        Cluster::node_of(Engine::Redis, [&database, &redis], &args)
    };
    spawn_blocking(start).await.expect("it starts")
}

/// Publishes a message at a node, again until it is taken: it is refused while nothing gives the order.
async fn publish(node: &Node, n: u64) {
    let program = Program::of(&node.server).await;
    let payload = json!({"name": "bot", "message": n.to_string()});
    let shout = json!({"event": "shout", "payload": payload, "client_ref": format!("r{n}")});
    let target = format!("/api/topics/{TOPIC}/messages");
    let begun = Instant::now();
    loop {
        let (status, answer) = program.ask("POST", &target, &shout).await;
        if status == 200 || status == 201 {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{status} {answer}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// Publishes messages at the nodes in turn. All listeners hear them in this order, under one id. Returns the ids.
async fn all_hear(
    numbers: std::ops::Range<u64>,
    nodes: &[Node],
    listeners: &mut [Member],
) -> Vec<Value> {
    let mut ids = Vec::new();
    for n in numbers {
        publish(&nodes[n as usize % nodes.len()], n).await;
        for listener in listeners.iter_mut() {
            assert_eq!(listener.hear().await, n);
        }
        let id = listeners[0].last.clone();
        assert!(listeners.iter().all(|listener| listener.last == id));
        ids.push(id);
    }
    ids
}

/// The eras that the database knows.
fn eras(cluster: &Cluster) -> Vec<String> {
    let eras = "SELECT era::text AS answer FROM cluster_eras";
    cluster.database.ask(eras)
}

/// Whether the bus gives the topic's order.
fn is_of_bus(cluster: &Cluster) -> bool {
    let clean = "SELECT clean::text AS answer FROM topics WHERE topic = 'random:lobby'";
    cluster.database.ask(clean) == ["false"]
}

/// A client that was away resumes, and gets exactly the messages from this one on.
async fn resumes(node: &Node, seen: &Value, numbers: std::ops::Range<u64>) {
    let mut member = Member::resume(node, seen.clone()).await;
    for n in numbers {
        assert_eq!(member.hear().await, n);
    }
}

/// How Redis is away.
#[derive(Clone, Copy, PartialEq)]
enum Away {
    /// It runs on, and no node reaches it.
    Unreachable,
    /// It ends, and another one begins with nothing.
    Ended,
}

async fn goes_on_without_redis(away: Away) {
    let mut cluster = Cluster::new();
    let proxy = Proxy::start(&format!("127.0.0.1:{}", cluster.bus.port())).await;
    let redis = format!("redis://{}", proxy.addr);
    let mut nodes = vec![
        node_on(&cluster, redis.clone()).await,
        node_on(&cluster, redis.clone()).await,
    ];
    let mut listeners = vec![Member::join(&nodes[0]).await, Member::join(&nodes[1]).await];
    let before = all_hear(0..5, &nodes, &mut listeners).await;
    assert!(is_of_bus(&cluster));

    proxy.cut();
    let port = cluster.bus.port();
    let mut held = None;
    if away == Away::Ended {
        // Another one takes its place, on a port that nobody asks.
        cluster.bus = Bus::start(Engine::Redis);
        held = Some(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("its port is free"));
    }
    let within = all_hear(5..10, &nodes, &mut listeners).await;
    assert_eq!(eras(&cluster), ["1"]);
    assert!(!is_of_bus(&cluster));
    resumes(&nodes[1], &within[1], 7..10).await;
    // A node that starts meanwhile takes part.
    nodes.push(node_on(&cluster, redis).await);
    listeners.push(Member::join(&nodes[2]).await);
    let later = all_hear(10..14, &nodes, &mut listeners).await;

    if held.take().is_some() {
        cluster.bus = Bus::start_on(Engine::Redis, port).expect("its port is free again");
    }
    proxy.mend();
    until("Redis gives the order again", || eras(&cluster) == ["2"]).await;
    all_hear(14..20, &nodes, &mut listeners).await;
    assert!(is_of_bus(&cluster));
    resumes(&nodes[0], &within[4], 10..20).await;
    resumes(&nodes[1], &later[3], 14..20).await;
    is_honest(&nodes[2], &before[2]).await;

    are_stored(&cluster, 20).await;
    nodes.into_iter().for_each(Node::end);
}

/// A client that was away when the first run ended does not resume: messages of it may be lost.
async fn is_honest(node: &Node, seen: &Value) {
    let mut client = Phoenix::connect(node.addr()).await;
    let params = json!({"meta": true, "history": "none", "last_seen_id": seen});
    let join_ref = client.send_join(TOPIC, params).await;
    let reply = client.reply_to(&join_ref).await;
    assert_eq!(reply["status"], "ok", "{reply}");
    assert_eq!(reply["response"]["recovered"], false, "{reply}");
}

#[actix_web::test]
async fn the_database_gives_the_order_while_redis_is_not_reached() {
    goes_on_without_redis(Away::Unreachable).await;
}

#[actix_web::test]
async fn the_database_gives_the_order_until_there_is_another_redis() {
    goes_on_without_redis(Away::Ended).await;
}

#[actix_web::test]
async fn a_node_that_has_lost_redis_alone_takes_the_order_from_nobody() {
    let cluster = Cluster::new();
    let proxy = Proxy::start(&format!("127.0.0.1:{}", cluster.bus.port())).await;
    let nodes = [
        node_on(&cluster, format!("redis://{}", proxy.addr)).await,
        node_on(&cluster, cluster.bus.url()).await,
    ];
    let mut listeners = [Member::join(&nodes[0]).await, Member::join(&nodes[1]).await];
    all_hear(0..3, &nodes, &mut listeners).await;
    proxy.cut();
    let begun = Instant::now();
    // It says so after 10 s, twice as late as it would ask for the end of Redis's era.
    let mut n = 3;
    while !readiness(&nodes[0]).await.contains("other nodes reach it") {
        assert!(begun.elapsed() < PATIENCE, "{}", readiness(&nodes[0]).await);
        publish(&nodes[1], n).await;
        assert_eq!(listeners[1].hear().await, n);
        n += 1;
        sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(eras(&cluster), ["0"]);
    assert!(is_of_bus(&cluster));
    proxy.mend();
    for n in 3..n {
        assert_eq!(listeners[0].hear().await, n);
    }
    all_hear(n..n + 4, &nodes, &mut listeners).await;
    assert_eq!(eras(&cluster), ["0"]);
    cluster.stored(n as usize + 4).await;
}

/// Else the messages of that run would be in an order that the other nodes have left.
#[actix_web::test]
async fn no_run_of_redis_begins_in_an_era_that_ends_meanwhile() {
    let cluster = Cluster::new();
    let node = node_on(&cluster, cluster.bus.url()).await;
    until("the node knows the era", || eras(&cluster) == ["0"]).await;
    let mut other = cluster.database.connect();
    other.execute("BEGIN; UPDATE cluster_eras SET era = 1");
    let ends = async {
        let waits = "SELECT query AS answer FROM pg_stat_activity \
            WHERE wait_event_type = 'Lock' AND datname = current_database()";
        until("the begin of the run waits for the era", || {
            let waiting = cluster.database.ask(waits);
            waiting.iter().any(|query| query.contains("FOR SHARE"))
        })
        .await;
        other.execute("COMMIT");
    };
    join(publish(&node, 0), ends).await;
    // The era of the database goes on for a second at least.
    assert_eq!(
        (eras(&cluster), is_of_bus(&cluster)),
        (vec!["1".to_owned()], false)
    );
    cluster.stored(1).await;
    node.end();
}

/// Two nodes behind a way to PostgreSQL and one to Redis, each of which can be cut.
async fn behind_proxies(cluster: &Cluster) -> ([Node; 2], [Proxy; 2]) {
    let (to_database, database) = cluster.database.behind_proxy().await;
    let to_redis = Proxy::start(&format!("127.0.0.1:{}", cluster.bus.port())).await;
    let redis = format!("redis://{}", to_redis.addr);
    let nodes = spawn_blocking(move || {
        let args = ["--api-token", TOKEN];
        let start = || Cluster::node_of(Engine::Redis, [&database, &redis], &args);
        [start(), start()]
    });
    (nodes.await.expect("they start"), [to_database, to_redis])
}

/// Ends the nodes, while the proxies work.
async fn end(nodes: [Node; 2]) {
    let ended = spawn_blocking(|| nodes.into_iter().for_each(Node::end));
    ended.await.expect("they end in order");
}

/// Waits until a publish is refused. What it was about may be in the database all the same.
async fn is_refused(node: &Node) {
    let program = Program::of(&node.server).await;
    let target = format!("/api/topics/{TOPIC}/messages");
    let shout =
        json!({"event": "shout", "payload": {"name": "bot", "message": "0"}, "client_ref": "r0"});
    let begun = Instant::now();
    while program.ask("POST", &target, &shout).await.0 < 500 {
        assert!(begun.elapsed() < PATIENCE);
        sleep(Duration::from_millis(50)).await;
    }
}

/// Members say messages in turn, and all hear them. They do not wait for the database, as a publish of the API does.
async fn all_say(numbers: std::ops::Range<u64>, members: &mut [Member; 2]) {
    for n in numbers {
        members[n as usize % 2].say(n).await;
        for member in members.iter_mut() {
            assert_eq!(member.hear().await, n);
        }
    }
}

/// All messages are stored, once each and in the order in which all heard them.
async fn are_stored(cluster: &Cluster, messages: u64) {
    cluster.stored(messages as usize).await;
    let stored = cluster.database.payloads(TOPIC);
    let stored: Vec<_> = stored.iter().map(|it| it["message"].clone()).collect();
    let wanted: Vec<_> = (0..messages).map(|n| json!(n.to_string())).collect();
    assert_eq!(stored, wanted);
}

#[actix_web::test]
async fn redis_comes_back_while_the_database_is_away() {
    let cluster = Cluster::new();
    let (nodes, [to_database, to_redis]) = behind_proxies(&cluster).await;
    let mut listeners = [Member::join(&nodes[0]).await, Member::join(&nodes[1]).await];
    all_hear(0..3, &nodes, &mut listeners).await;
    to_redis.cut();
    let within = all_hear(3..6, &nodes, &mut listeners).await;
    assert_eq!(eras(&cluster), ["1"]);
    to_database.cut();
    join(is_refused(&nodes[0]), is_refused(&nodes[1])).await;
    to_redis.mend();
    // Long enough for them to come back to Redis, if they did without the database.
    sleep(Duration::from_secs(2)).await;
    is_refused(&nodes[0]).await;
    to_database.mend();
    until("Redis gives the order again", || eras(&cluster) == ["2"]).await;
    let later = all_hear(6..10, &nodes, &mut listeners).await;
    resumes(&nodes[0], &within[1], 5..10).await;
    resumes(&nodes[1], &later[1], 8..10).await;
    are_stored(&cluster, 10).await;
    end(nodes).await;
}

#[actix_web::test]
async fn redis_is_lost_while_the_database_is_away() {
    let cluster = Cluster::new();
    let (nodes, [to_database, to_redis]) = behind_proxies(&cluster).await;
    let mut listeners = [Member::join(&nodes[0]).await, Member::join(&nodes[1]).await];
    all_hear(0..3, &nodes, &mut listeners).await;
    to_database.cut();
    // They wait in the nodes' spools.
    all_say(3..6, &mut listeners).await;
    to_redis.cut();
    join(is_refused(&nodes[0]), is_refused(&nodes[1])).await;
    // As long as Redis keeps its order without the database being asked.
    sleep(Duration::from_secs(5)).await;
    to_database.mend();
    let within = all_hear(6..9, &nodes, &mut listeners).await;
    assert_eq!(eras(&cluster), ["1"]);
    to_redis.mend();
    until("Redis gives the order again", || eras(&cluster) == ["2"]).await;
    all_hear(9..12, &nodes, &mut listeners).await;
    resumes(&nodes[1], &within[0], 7..12).await;
    are_stored(&cluster, 12).await;
    end(nodes).await;
}

/// Else its messages have ids that the API and resumes do not know.
#[actix_web::test]
async fn a_run_that_begins_without_the_database_is_known_to_it_later() {
    let mut cluster = Cluster::new();
    let (nodes, [to_database, _to_redis]) = behind_proxies(&cluster).await;
    let mut listeners = [Member::join(&nodes[0]).await, Member::join(&nodes[1]).await];
    all_hear(0..3, &nodes, &mut listeners).await;
    to_database.cut();
    // Both notice.
    sleep(Duration::from_secs(1)).await;
    let port = cluster.bus.port();
    drop(cluster.bus);
    cluster.bus = Bus::start_on(Engine::Redis, port).expect("its port is free again");
    // Until the nodes are there, and wait for the database no longer: then their clients join again.
    for listener in &mut listeners {
        assert_eq!(listener.client.next_event().await.0, "phx_error");
    }
    let mut listeners = [Member::join(&nodes[0]).await, Member::join(&nodes[1]).await];
    all_say(3..6, &mut listeners).await;
    let within = listeners[0].last.clone();
    to_database.mend();
    cluster.stored(6).await;
    let run = within.as_str().and_then(|id| id.split_once('-'));
    let (epoch, _) = run.expect("an epoch and a seq");
    let epoch = i64::from_str_radix(epoch, 16)
        .expect("a number")
        .to_string();
    let known = "SELECT epoch::text AS answer FROM topics WHERE topic = 'random:lobby'";
    until("the database knows the run", || {
        cluster.database.ask(known) == [epoch.as_str()]
    })
    .await;
    let later = all_hear(6..9, &nodes, &mut listeners).await;
    for node in &nodes {
        resumes(node, &within, 6..9).await;
        let program = Program::of(&node.server).await;
        for id in [&within, &later[2]] {
            let id = id.as_str().expect("a text");
            let target = format!("/api/topics/{TOPIC}/messages/{id}");
            assert_eq!(program.get(&target).await["id"], id, "{id}");
        }
    }
    are_stored(&cluster, 9).await;
    end(nodes).await;
}
