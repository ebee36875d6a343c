//! The server is killed again and again while people shout and want their answers: nothing that was
//! acknowledged is ever lost, no client_ref is ever stored twice, and in strict rooms nobody has
//! seen what is not in the database.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::database::{Database, on_each_database};
use crate::support::peer::Peer;
use crate::support::random::Random;
use futures_util::future::join_all;
use serde_json::json;

const TOPIC: &str = "random:kills";
const SHOUTERS: usize = 8;

/// How often the server is killed. `scripts/faults` asks for more.
fn kills() -> usize {
    let asked = std::env::var("SLACKIR_KILLS").ok();
    asked.map_or(20, |asked| asked.parse().expect("a number"))
}

/// What clients know when their server dies.
#[derive(Default)]
struct Known {
    /// client_refs that were answered with ok, and the id of the answer.
    acknowledged: HashMap<String, String>,
    /// client_refs that anybody has received.
    seen: HashSet<String>,
}

type Shared = Arc<Mutex<Known>>;

/// Shouts until the line is dead, and begins with what was not acknowledged last time. Returns what
/// is not acknowledged now.
async fn shout(
    addr: SocketAddr,
    known: Shared,
    who: String,
    retry: Option<String>,
) -> Option<String> {
    let mut pending = retry;
    let mut count = 0;
    let Some(mut peer) = Peer::connect(addr).await else {
        return pending;
    };
    let join = peer
        .join(TOPIC, json!({"ack": true, "history": "none"}))
        .await;
    let Some(join) = join else { return pending };
    if peer.reply(&join).await.is_none() {
        return pending;
    }
    loop {
        let client_ref = pending.take().unwrap_or_else(|| {
            count += 1;
            format!("{who}-{count}")
        });
        pending = Some(client_ref.clone());
        let payload = json!({"name": "kill", "client_ref": client_ref});
        let Some(reference) = peer.push(TOPIC, "shout", payload).await else {
            return pending;
        };
        loop {
            let Some(heard) = peer.next().await else {
                return pending;
            };
            if heard.event == "shout" {
                let seen = heard.payload["client_ref"].as_str().expect("a ref");
                known.lock().expect("no panic").seen.insert(seen.to_owned());
            } else if heard.reference == reference {
                assert_eq!(heard.payload["status"], "ok", "{:?}", heard.payload);
                let id = heard.payload["response"]["id"].as_str().expect("an id");
                let mut known = known.lock().expect("no panic");
                known.acknowledged.insert(client_ref, id.to_owned());
                break;
            }
        }
        pending = None;
    }
}

async fn killed_again_and_again(database: &Database, args: &[&str], strict: bool) {
    let known = Shared::default();
    let mut random = Random::new(7);
    let mut pending: Vec<Option<String>> = vec![None; SHOUTERS];
    for round in 0..kills() {
        let server = database.serve(args);
        let shouters: Vec<_> = std::mem::take(&mut pending)
            .into_iter()
            .enumerate()
            .map(|(shouter, retry)| {
                let who = format!("{round}-{shouter}");
                tokio::spawn(shout(server.addr, Arc::clone(&known), who, retry))
            })
            .collect();
        let moment = 20 + random.below(180) as u64;
        tokio::time::sleep(Duration::from_millis(moment)).await;
        server.kill();
        for shouter in join_all(shouters).await {
            pending.push(shouter.expect("a shouter goes on to the end"));
        }
    }
    let stored: Vec<String> = database
        .payloads(TOPIC)
        .iter()
        .map(|payload| payload["client_ref"].as_str().expect("a ref").to_owned())
        .collect();
    let once: HashSet<&String> = stored.iter().collect();
    assert_eq!(once.len(), stored.len(), "a client_ref is stored twice");
    let known = known.lock().expect("no panic");
    assert!(
        known.acknowledged.len() > kills(),
        "there should have been a load"
    );
    let lost: Vec<_> = known
        .acknowledged
        .keys()
        .filter(|r| !once.contains(r))
        .collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    let seen: Vec<_> = known.seen.iter().filter(|r| !once.contains(r)).collect();
    if strict {
        assert!(seen.is_empty(), "seen and lost: {seen:?}");
    }
    // For docs/HISTORY.md.
    println!(
        "{} kills: {} of {} messages that somebody has seen are lost",
        kills(),
        seen.len(),
        known.seen.len()
    );
}

async fn what_was_acknowledged_survives_and_is_stored_once(database: Database) {
    killed_again_and_again(&database, &[], false).await;
}

async fn what_anybody_has_seen_in_a_strict_room_survives(database: Database) {
    killed_again_and_again(&database, &["--durability", "strict"], true).await;
}

on_each_database! {
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    what_was_acknowledged_survives_and_is_stored_once,
    what_anybody_has_seen_in_a_strict_room_survives,
}
