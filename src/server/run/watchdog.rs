//! Watches the worker threads. A worker that is blocked serves nobody: a log line and a metric tell of it, and systemd's
//! watchdog, which gets a sign of life only while all workers run, restarts the server.

use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use crate::lock::lock;
use crate::metrics::metrics;
use crate::server::systemd;

/// The longest time between two signs of life.
const PERIOD: Duration = Duration::from_secs(10);

/// The signs of life of all workers.
#[derive(Clone)]
pub(super) struct Watchdog {
    /// A worker that has not run for half of this time is blocked.
    period: Duration,
    workers: Arc<Mutex<Vec<Weak<Mutex<Instant>>>>>,
}

impl Watchdog {
    /// As often as systemd wants signs of life, or more often.
    pub(super) fn start() -> Self {
        Self::new(systemd::watchdog().map_or(PERIOD, |wanted| wanted.min(PERIOD)))
    }

    fn new(period: Duration) -> Self {
        Self {
            period,
            workers: Arc::default(),
        }
    }

    /// Watches the worker of this thread, until its runtime ends.
    pub(super) fn watch_worker(&self) {
        let last = Arc::new(Mutex::new(Instant::now()));
        lock(&self.workers).push(Arc::downgrade(&last));
        let pause = self.period / 8;
        actix_rt::spawn(async move {
            loop {
                tokio::time::sleep(pause).await;
                *lock(&last) = Instant::now();
            }
        });
    }

    /// The workers that have not run within half of the period.
    fn blocked(&self, now: Instant) -> usize {
        let mut workers = lock(&self.workers);
        // A worker that has panicked is gone, and the HTTP server has started another.
        workers.retain(|worker| worker.strong_count() > 0);
        let oldest = self.period / 2;
        let running = workers.iter().filter_map(Weak::upgrade);
        running
            .filter(|last| now.saturating_duration_since(*lock(last)) > oldest)
            .count()
    }

    /// Sends the signs of life, and tells of blocked workers. Never returns.
    pub(super) async fn keep(self) {
        let mut known = 0;
        loop {
            let blocked = self.blocked(Instant::now());
            if blocked == 0 {
                systemd::alive();
            }
            if blocked > known {
                tracing::error!(
                    workers = blocked,
                    "serve.worker.blocked: a thread serves nobody; look for a callback that \
                     blocks, or for a machine without CPU"
                );
            }
            known = blocked;
            metrics().workers_blocked.set(blocked as f64);
            tokio::time::sleep(self.period / 4).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix_rt::test]
    async fn a_blocked_worker_stops_the_signs_of_life_and_a_worker_that_is_gone_does_not() {
        let watchdog = Watchdog::new(Duration::from_millis(800));
        watchdog.watch_worker();
        let other = watchdog.clone();
        // A worker whose runtime has ended.
        std::thread::spawn(move || {
            actix_rt::System::new().block_on(async move { other.watch_worker() });
        })
        .join()
        .expect("it ends");
        assert_eq!(watchdog.blocked(Instant::now()), 0);
        // This thread is blocked: its sign of life is as old as the time says.
        assert_eq!(watchdog.blocked(Instant::now() + Duration::from_secs(1)), 1);
        // It runs again: a sign of life comes that is younger than this moment.
        let before = Instant::now();
        let later = before + watchdog.period / 2 + Duration::from_millis(1);
        while watchdog.blocked(later) > 0 {
            assert!(
                before.elapsed() < Duration::from_secs(10),
                "no sign of life"
            );
            tokio::task::yield_now().await;
        }
    }
}
