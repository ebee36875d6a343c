//! A cluster under faults: every client has exactly what the database has, in one order. The numbers of the faults come
//! from a seed. `scripts/cluster_faults` runs the last test for minutes.

use std::time::Duration;

use crate::support::bus::Engine;
use crate::support::cluster::{Kinds, Plan, run};

const CUTS: Kinds = Kinds {
    cuts: true,
    nodes: false,
    bus: false,
    outages: false,
    flushes: false,
    database: false,
};

/// A number of the environment.
fn asked(name: &str) -> Option<u64> {
    let asked = std::env::var(name).ok()?;
    Some(asked.parse().expect("a number"))
}

/// A test that takes at most 25 s.
fn short(kinds: Kinds) -> Plan {
    Plan {
        nodes: 3,
        listeners: 30,
        publishers: 15,
        pace: Duration::from_millis(20),
        faults: Duration::from_secs(7),
        patience: Duration::from_secs(16),
        kinds,
        strict: false,
        engine: Engine::Redis,
        seed: asked("SLACKIR_CLUSTER_SEED").unwrap_or(7),
    }
}

async fn is_exact(plan: Plan) {
    let report = run(plan).await;
    assert!(report.messages > 100, "there should have been a load");
    assert!(report.is_exact(), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_cut_connections() {
    is_exact(short(CUTS)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_killed_nodes() {
    let kinds = Kinds {
        cuts: false,
        nodes: true,
        ..CUTS
    };
    is_exact(short(kinds)).await;
}

/// The first fault is a long outage, which is over before the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_redis_away_for_long() {
    let kinds = Kinds {
        cuts: false,
        outages: true,
        ..CUTS
    };
    let mut plan = short(kinds);
    plan.faults = Duration::from_secs(18);
    is_exact(plan).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_killed_redis() {
    let kinds = Kinds {
        cuts: false,
        bus: true,
        flushes: true,
        ..CUTS
    };
    is_exact(short(kinds)).await;
}

/// For minutes, if `SLACKIR_CLUSTER_SECONDS` asks for them; with some of the faults, if `SLACKIR_CLUSTER_FAULTS` names
/// them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_everything() {
    let named = std::env::var("SLACKIR_CLUSTER_FAULTS").ok();
    let is_wanted = |name: &str| {
        let named = named.as_ref();
        named.is_none_or(|named| named.split(',').any(|wanted| wanted == name))
    };
    let kinds = Kinds {
        cuts: is_wanted("cuts"),
        nodes: is_wanted("nodes"),
        bus: is_wanted("redis"),
        outages: is_wanted("outages"),
        flushes: is_wanted("flushes"),
        database: is_wanted("database"),
    };
    let mut plan = short(kinds);
    if let Some(seconds) = asked("SLACKIR_CLUSTER_SECONDS") {
        plan.faults = Duration::from_secs(seconds);
        plan.patience = Duration::from_secs(30);
    }
    is_exact(plan).await;
}

/// The database gives the order, so not even the death of Redis makes a difference.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strictly_with_cut_connections() {
    is_exact(Plan {
        strict: true,
        ..short(CUTS)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strictly_with_killed_nodes() {
    let kinds = Kinds {
        cuts: false,
        nodes: true,
        ..CUTS
    };
    is_exact(Plan {
        strict: true,
        ..short(kinds)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strictly_with_everything() {
    is_exact(everything(Engine::Redis)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strictly_with_cut_connections_over_nats() {
    is_exact(Plan {
        strict: true,
        engine: Engine::Nats,
        ..short(CUTS)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strictly_with_killed_nodes_and_killed_nats() {
    let kinds = Kinds {
        cuts: false,
        nodes: true,
        bus: true,
        ..CUTS
    };
    is_exact(Plan {
        strict: true,
        engine: Engine::Nats,
        ..short(kinds)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strictly_with_everything_over_nats() {
    is_exact(everything(Engine::Nats)).await;
}

/// Strict, for minutes if `SLACKIR_CLUSTER_SECONDS` asks for them.
fn everything(engine: Engine) -> Plan {
    let kinds = Kinds {
        cuts: true,
        nodes: true,
        bus: true,
        outages: true,
        // NATS has nothing to forget.
        flushes: engine == Engine::Redis,
        database: true,
    };
    let mut plan = Plan {
        strict: true,
        engine,
        ..short(kinds)
    };
    if let Some(seconds) = asked("SLACKIR_CLUSTER_SECONDS") {
        plan.faults = Duration::from_secs(seconds);
        plan.patience = Duration::from_secs(30);
    }
    plan
}
