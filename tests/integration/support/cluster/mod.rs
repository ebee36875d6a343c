//! The exactness of a cluster: nodes, Redis or NATS, ways and the database break, clients resume, and at the end the database
//! says what each of them should have.

mod checker;
mod faults;
mod listener;
mod nodes;
mod publisher;
mod way;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::Value;
use tokio::time::{Instant, sleep};

pub(crate) use self::checker::Report;
use self::checker::Rows;
use self::faults::Faults;
pub(crate) use self::faults::Kinds;
use self::listener::{Listener, Shared};
pub(crate) use self::nodes::Nodes;
use self::publisher::Publisher;
pub(crate) use self::way::Cut;
use crate::support::bus::Engine;
use crate::support::database::Database;
use crate::support::random::Random;

const TOPICS: [&str; 3] = ["random:a", "random:b", "random:c"];

/// A test.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) nodes: usize,
    pub(crate) listeners: usize,
    pub(crate) publishers: usize,
    /// The wait of a publisher after each answer.
    pub(crate) pace: Duration,
    /// How long faults happen.
    pub(crate) faults: Duration,
    /// How long everything may take to become exact after the last fault.
    pub(crate) patience: Duration,
    pub(crate) kinds: Kinds,
    /// The nodes have `durability = "strict"`, as nodes on NATS must.
    pub(crate) strict: bool,
    /// What they talk over.
    pub(crate) engine: Engine,
    pub(crate) seed: u64,
}

/// Runs a test.
pub(crate) async fn run(plan: Plan) -> Report {
    println!("{plan:?}");
    let strict: &[&str] = match plan.engine {
        Engine::Redis if plan.strict => &["--durability", "strict"],
        Engine::Redis | Engine::Nats => &[],
    };
    let nodes = Nodes::start(plan.engine, plan.nodes, strict).await;
    let begun = Instant::now();
    let shared = Arc::new(Shared {
        addresses: Arc::clone(&nodes.addresses),
        calm: AtomicBool::new(false),
        over: AtomicBool::new(false),
        deliveries: AtomicU64::new(0),
        reconnects: AtomicU64::new(0),
        resumed: AtomicU64::new(0),
        histories: AtomicU64::new(0),
        heard: Mutex::default(),
        begun,
    });
    let listeners: Vec<_> = (0..plan.listeners)
        .map(|n| tokio::spawn(listener(n, plan.seed, &shared).live()))
        .collect();
    let publishers: Vec<_> = (0..plan.publishers)
        .map(|n| tokio::spawn(publisher(n, &plan, &shared).live()))
        .collect();
    let faults = Faults::new(nodes, plan.seed, plan.kinds);
    let faults = faults.until(Instant::now() + plan.faults).await;
    let (nodes, counts) = faults.into_nodes();

    shared.calm.store(true, Ordering::SeqCst);
    let end = Instant::now() + plan.patience;
    while publishers.iter().any(|task| !task.is_finished()) && Instant::now() < end {
        sleep(Duration::from_millis(50)).await;
    }
    let rows = settled(&nodes.database, &shared, end).await;
    shared.over.store(true, Ordering::SeqCst);
    let listeners = join_all(listeners).await;
    let publishers = join_all(publishers).await;

    let mut report = Report {
        seed: plan.seed,
        seconds: plan.faults.as_secs(),
        counts,
        deliveries: shared.deliveries.load(Ordering::SeqCst),
        reconnects: shared.reconnects.load(Ordering::SeqCst),
        resumed: shared.resumed.load(Ordering::SeqCst),
        histories: shared.histories.load(Ordering::SeqCst),
        ..Report::default()
    };
    for (topic, rows) in TOPICS.into_iter().zip(&rows) {
        report.stored(rows);
        for publisher in &publishers {
            let publisher = publisher.as_ref().expect("it goes on to the end");
            if publisher.topic == topic {
                report.published(publisher, rows);
            }
        }
        for listener in &listeners {
            let listener = listener.as_ref().expect("it goes on to the end");
            if listener.topic == topic {
                report.listened(listener, rows, begun);
            }
        }
    }
    println!("{report}");
    report
}

fn listener(number: usize, seed: u64, shared: &Arc<Shared>) -> Listener {
    Listener {
        name: format!("listener {number}"),
        topic: TOPICS[number % TOPICS.len()].to_owned(),
        shared: Arc::clone(shared),
        random: Random::new(seed ^ (1_000 + number as u64)),
        history: if number.is_multiple_of(2) {
            "none"
        } else {
            "per_event"
        },
        is_new: number.is_multiple_of(5),
        last_seen: Value::Null,
        segments: Vec::new(),
        visits: Vec::new(),
    }
}

fn publisher(number: usize, plan: &Plan, shared: &Arc<Shared>) -> Publisher {
    Publisher {
        name: format!("p{number}"),
        topic: TOPICS[number % TOPICS.len()].to_owned(),
        shared: Arc::clone(shared),
        random: Random::new(plan.seed ^ (2_000 + number as u64)),
        pace: plan.pace,
        acknowledged: HashMap::new(),
        refused: HashMap::new(),
        sent: 0,
        pending: None,
    }
}

/// The rows of each topic, once they have all that anybody has heard, and no more come; or at the end.
async fn settled(database: &Database, shared: &Shared, end: Instant) -> Vec<Rows> {
    let mut quiet = 0;
    let mut known = (0, 0);
    loop {
        let rows: Vec<Rows> = TOPICS.iter().map(|topic| rows(database, topic)).collect();
        let count = rows.iter().map(Rows::len).sum();
        let now = (count, shared.deliveries.load(Ordering::SeqCst));
        quiet = if now == known { quiet + 1 } else { 0 };
        known = now;
        let stored: HashSet<_> = rows.iter().flat_map(Rows::values).collect();
        let is_stored = {
            let heard = shared.heard.lock().expect("no panic");
            heard.iter().all(|mark| stored.contains(mark))
        };
        // A node that was cut connects again within 2 s.
        if quiet >= 15 && is_stored || Instant::now() > end {
            return rows;
        }
        sleep(Duration::from_millis(200)).await;
    }
}

fn rows(database: &Database, topic: &str) -> Rows {
    let rows = database.rows(topic).into_iter();
    rows.map(|row| {
        let payload: Value = serde_json::from_str(&row.payload).expect("payloads are JSON");
        let mark = payload["mark"].as_str().expect("a mark");
        (row.seq, mark.to_owned())
    })
    .collect()
}
