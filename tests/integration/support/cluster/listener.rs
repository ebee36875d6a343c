//! A client that listens to one topic, comes back when its connection ends, and resumes.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use super::nodes::Addresses;
use crate::support::peer::{Heard, Peer};
use crate::support::random::Random;

/// How long a step may take before the client connects to another node.
const PATIENCE: Duration = Duration::from_secs(6);

/// A message as a client has it.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) seq: i64,
    /// What it is known by in the test.
    pub(crate) mark: String,
    /// On which visit it came.
    pub(crate) visit: usize,
    pub(crate) at: Instant,
}

/// Messages without a break: all that the topic has after `after`, up to the last. It begins with a history, or after the
/// newest message.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) after: i64,
    pub(crate) told: Vec<Told>,
}

/// A connection, for what went wrong.
#[derive(Clone, Debug)]
pub(crate) struct Visit {
    pub(crate) node: usize,
    pub(crate) at: Instant,
    pub(crate) note: String,
}

/// What all listeners share.
pub(crate) struct Shared {
    pub(crate) addresses: Addresses,
    /// The faults are over: clients stay.
    pub(crate) calm: AtomicBool,
    /// The test is over.
    pub(crate) over: AtomicBool,
    pub(crate) deliveries: AtomicU64,
    pub(crate) reconnects: AtomicU64,
    pub(crate) resumed: AtomicU64,
    pub(crate) histories: AtomicU64,
    /// The marks of all messages that anybody has got.
    pub(crate) heard: Mutex<HashSet<String>>,
    /// When the test began.
    pub(crate) begun: Instant,
}

impl Shared {
    /// A living node.
    pub(crate) fn choose(&self, random: &mut Random) -> Option<(usize, SocketAddr)> {
        let addresses = self.addresses.lock().expect("no panic");
        let living = addresses.iter().enumerate();
        let living: Vec<_> = living.filter_map(|(n, addr)| Some((n, (*addr)?))).collect();
        (!living.is_empty()).then(|| living[random.below(living.len())])
    }
}

/// A client.
pub(crate) struct Listener {
    pub(crate) name: String,
    pub(crate) topic: String,
    pub(crate) shared: Arc<Shared>,
    pub(crate) random: Random,
    /// The form of a history: `none` or `per_event`.
    pub(crate) history: &'static str,
    /// Never resumes.
    pub(crate) is_new: bool,
    pub(crate) last_seen: Value,
    pub(crate) segments: Vec<Segment>,
    pub(crate) visits: Vec<Visit>,
}

impl Listener {
    /// Comes and goes until the test is over.
    pub(crate) async fn live(mut self) -> Self {
        while !self.shared.over.load(Ordering::SeqCst) {
            let note = self.visit().await;
            if let Some(visit) = self.visits.last_mut() {
                visit.note.push_str(note);
            }
            let away = self.random.below(150) as u64;
            sleep(Duration::from_millis(away)).await;
        }
        self
    }

    /// One connection. Returns why it ended.
    async fn visit(&mut self) -> &'static str {
        let Some((node, addr)) = self.shared.choose(&mut self.random) else {
            return "";
        };
        self.visits.push(Visit {
            node,
            at: Instant::now(),
            note: String::new(),
        });
        self.shared.reconnects.fetch_add(1, Ordering::Relaxed);
        let Ok(Some(mut peer)) = timeout(PATIENCE, Peer::connect(addr)).await else {
            return "no connection";
        };
        if self.is_new {
            self.last_seen = Value::Null;
        }
        let params = json!({
            "meta": true,
            "history": self.history,
            "last_seen_id": self.last_seen,
        });
        let Ok(Some(join)) = timeout(PATIENCE, peer.join(&self.topic, params)).await else {
            return "no join";
        };
        let stay = Duration::from_millis(50 + self.random.below(2_500) as u64);
        let leave = Instant::now() + stay;
        let mut joined = None;
        let deadline = Instant::now() + PATIENCE + Duration::from_secs(2);
        loop {
            if self.shared.over.load(Ordering::SeqCst) {
                return "over";
            }
            let calm = self.shared.calm.load(Ordering::SeqCst);
            if !calm && Instant::now() > leave {
                return "left";
            }
            if joined.is_none() && Instant::now() > deadline {
                return "no answer to the join";
            }
            let wait = Duration::from_millis(200);
            let heard = match timeout(wait, peer.next()).await {
                Err(_) => continue,
                Ok(None) => return "ended by the server",
                Ok(Some(heard)) => heard,
            };
            if let Some(end) = self.hear(&heard, &join, &mut joined) {
                return end;
            }
        }
    }

    /// Notes what came. `Some`: the connection is of no use any more.
    fn hear(&mut self, heard: &Heard, join: &str, joined: &mut Option<()>) -> Option<&'static str> {
        match heard.event.as_str() {
            "shout" => self.note(&heard.payload),
            "phx_reply" if heard.reference == *join => {
                let response = &heard.payload["response"];
                if heard.payload["status"] != "ok" {
                    return Some("join refused");
                }
                *joined = Some(());
                self.joined(response);
            }
            "phx_error" => return Some("phx_error"),
            "phx_close" => return Some("phx_close"),
            other => panic!("nothing else should come: {other} {:?}", heard.payload),
        }
        None
    }

    fn joined(&mut self, response: &Value) {
        if !self.last_seen.is_null() && response["recovered"] == true {
            self.shared.resumed.fetch_add(1, Ordering::Relaxed);
            self.visits.last_mut().expect("a visit").note += "resumed, ";
            return;
        }
        if !self.last_seen.is_null() {
            self.shared.histories.fetch_add(1, Ordering::Relaxed);
            let visit = self.visits.last_mut().expect("a visit");
            visit.note += "history, ";
            if std::env::var_os("SLACKIR_CLUSTER_STORY").is_some() {
                let at = self.shared.begun.elapsed().as_secs_f64();
                let (name, node) = (&self.name, visit.node);
                let last_seen = &self.last_seen;
                eprintln!(
                    "{at:7.3} {name} gets a history from {node}, not what is after {last_seen}: {response}"
                );
            }
        }
        self.last_seen = response["last_id"].clone();
        let after = self.last_seen.as_str().map_or(0, seq_of);
        self.segments.push(Segment {
            after,
            told: Vec::new(),
        });
    }

    fn note(&mut self, payload: &Value) {
        self.shared.deliveries.fetch_add(1, Ordering::Relaxed);
        self.last_seen = payload["_meta"]["id"].clone();
        let told = Told {
            seq: seq_of(self.last_seen.as_str().expect("an id")),
            mark: payload["mark"].as_str().expect("a mark").to_owned(),
            visit: self.visits.len() - 1,
            at: Instant::now(),
        };
        let mut heard = self.shared.heard.lock().expect("no panic");
        if !heard.contains(&told.mark) {
            heard.insert(told.mark.clone());
        }
        drop(heard);
        let segment = self.segments.last_mut().expect("a join comes first");
        if segment.told.is_empty() {
            // It may be the first one of the history.
            segment.after = segment.after.min(told.seq - 1);
        }
        segment.told.push(told);
    }
}

/// The seq of an id.
pub(crate) fn seq_of(id: &str) -> i64 {
    let (_, seq) = id.split_once('-').expect("an epoch and a seq");
    seq.parse().expect("a number")
}
