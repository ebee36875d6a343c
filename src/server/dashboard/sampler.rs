//! The numbers of each second: a point of the history, and the snapshot for the dashboards that are open.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use actix_rt::task::spawn_blocking;
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval};

use super::Dashboard;
use super::channel::{SNAPSHOT, TOPIC};
use super::history::Point;
use super::process::{ProcessUse, max_files};
use super::session::unix_seconds;
use super::system::Metrics;
use crate::endpoint::Endpoint;
use crate::metrics::{Totals, commit_lag, name, totals};
use crate::outbox;
use crate::server::admin::Readiness;
use crate::store::{DbWriterHandle, StorageState};

/// The time between two points.
const PERIOD: Duration = Duration::from_secs(1);

/// The joins, messages and deliveries of the dashboards, which the numbers leave out: an idle server shows 0.
#[derive(Default)]
pub(super) struct OwnTraffic {
    pub(super) joins: AtomicU64,
    pub(super) messages: AtomicU64,
    deliveries: AtomicU64,
}

impl OwnTraffic {
    /// The sums of the process without the dashboards.
    fn left_out(&self) -> Totals {
        let Totals {
            joins,
            messages,
            deliveries,
            dropped,
        } = totals();
        let without = |all: u64, own: &AtomicU64| all.saturating_sub(own.load(Ordering::Relaxed));
        Totals {
            joins: without(joins, &self.joins),
            messages: without(messages, &self.messages),
            deliveries: without(deliveries, &self.deliveries),
            dropped,
        }
    }
}

/// What is a second, of the counters of two readings.
struct Rates {
    joins: f64,
    messages: f64,
    deliveries: f64,
}

impl Rates {
    fn between(before: (Instant, Totals), now: (Instant, Totals)) -> Self {
        let seconds = (now.0 - before.0).as_secs_f64().max(0.001);
        let rate = |of: fn(&Totals) -> u64| {
            let more = of(&now.1).saturating_sub(of(&before.1)) as f64;
            // Whole numbers and tenths are all that anybody reads.
            (more / seconds * 10.0).round() / 10.0
        };
        Self {
            joins: rate(|totals| totals.joins),
            messages: rate(|totals| totals.messages),
            deliveries: rate(|totals| totals.deliveries),
        }
    }
}

impl Dashboard {
    /// The reply to a page that joins.
    pub(super) fn hello(&self) -> Value {
        let started = SystemTime::now() - self.0.started.elapsed();
        let started = started.duration_since(UNIX_EPOCH).unwrap_or_default();
        json!({
            "started_at": u64::try_from(started.as_millis()).unwrap_or(u64::MAX),
            "version": env!("CARGO_PKG_VERSION"),
            "node": self.0.services.address.to_string(),
            "history": self.0.history.to_json(),
        })
    }

    /// Reads the counters once a second, and sends the open dashboards of this endpoint a snapshot. Never returns.
    pub(crate) async fn keep(self, dashboards: Endpoint) {
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut before = (Instant::now(), self.0.own.left_out());
        let mut used = None;
        loop {
            ticks.tick().await;
            let now = (Instant::now(), self.0.own.left_out());
            let rates = Rates::between(before, now);
            before = now;
            let point = Point {
                at: unix_seconds(),
                deliveries: rates.deliveries,
                messages: rates.messages,
                commit_lag_ms: commit_lag()
                    .map(|lag| (lag.as_secs_f64() * 10_000.0).round() / 10.0),
                outbox_bytes: outbox::total_bytes(),
            };
            self.0.history.add(point);
            if dashboards.connections() == 0 {
                used = None;
                continue;
            }
            let reading = spawn_blocking(move || ProcessUse::read(used)).await;
            // An error: the process ends.
            let Ok(reading) = reading else { return };
            used = Some(reading);
            let own = &self.0.own.deliveries;
            own.fetch_add(dashboards.connections() as u64, Ordering::Relaxed);
            let snapshot = self.snapshot(&point, &rates, &reading);
            // Only the size of a topic's name and a log can refuse a broadcast.
            let sent = dashboards.broadcast(TOPIC, SNAPSHOT, snapshot).await;
            debug_assert!(sent.is_ok(), "{sent:?}");
        }
    }

    fn snapshot(&self, point: &Point, rates: &Rates, used: &ProcessUse) -> Value {
        let services = &self.0.services;
        let writer = services.writer.as_ref();
        let (state, state_text) = self.state();
        json!({
            "at": point.at,
            "state": state,
            "state_text": state_text,
            "connections": services.endpoint.connections(),
            "connections_max": services.config.max_connections,
            "joins": rates.joins,
            "messages": rates.messages,
            "deliveries": rates.deliveries,
            "commit_lag_ms": point.commit_lag_ms,
            "spool_rows": writer.map_or(0, DbWriterHandle::spooled),
            "queue_rows": writer.map_or(0, DbWriterHandle::unsaved),
            "memory_bytes": used.memory_bytes,
            "cpu": used.cpu,
            "outbox_bytes": point.outbox_bytes,
            "uptime": self.0.started.elapsed().as_secs(),
            "topics": services.endpoint.pubsub().topic_count(),
            "channels": self.channels(),
            "open_files": used.open_files,
            "max_files": max_files(),
            "warnings": services.trouble.seen(),
        })
    }

    /// The joined channels, without those of the dashboards.
    fn channels(&self) -> u64 {
        let metrics = Metrics(self.0.services.metrics.render());
        let by_pattern = metrics.by_label(name::CHANNELS).into_iter();
        let of_clients = by_pattern.filter(|(pattern, _)| pattern != TOPIC);
        of_clients.filter_map(|(_, count)| count.as_u64()).sum()
    }

    fn state(&self) -> (&'static str, String) {
        let services = &self.0.services;
        let (is_ready, text) = match (services.readiness)() {
            Readiness::Ready => (true, String::new()),
            Readiness::Impaired(how) => (true, how),
            Readiness::NotReady(why) => (false, why),
        };
        let storage = services.writer.as_ref().map(DbWriterHandle::state);
        let has_fault = services
            .writer
            .as_ref()
            .is_some_and(|it| it.fault().is_some());
        let state = match storage {
            _ if services.endpoint.is_draining() => "draining",
            _ if has_fault => "refusing",
            Some(StorageState::Refusing) => "refusing",
            Some(StorageState::Waiting) => "database away",
            // The server is not ready although messages are stored: it is about to end.
            _ if !is_ready => "draining",
            _ => "ready",
        };
        (state, text)
    }
}
