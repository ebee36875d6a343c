//! The signs of life for systemd's watchdog: one is sent only if every worker thread has run lately. A worker that is
//! blocked serves nobody, and systemd restarts the server.

use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use crate::lock::lock;
use crate::server::systemd;

/// The signs of life of all workers.
#[derive(Clone)]
pub(super) struct Watchdog {
    /// The time within which systemd wants a sign of life.
    period: Duration,
    workers: Arc<Mutex<Vec<Weak<Mutex<Instant>>>>>,
}

impl Watchdog {
    /// `None` if systemd wants no signs of life.
    pub(super) fn wanted() -> Option<Self> {
        systemd::watchdog().map(Self::new)
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

    /// Whether all workers have run within half of the period.
    fn is_alive(&self, now: Instant) -> bool {
        let mut workers = lock(&self.workers);
        // A worker that has panicked is gone, and the HTTP server has started another.
        workers.retain(|worker| worker.strong_count() > 0);
        let oldest = self.period / 2;
        let mut running = workers.iter().filter_map(Weak::upgrade);
        running.all(|last| now.saturating_duration_since(*lock(&last)) <= oldest)
    }

    /// Sends the signs of life. Never returns.
    pub(super) async fn keep(self) {
        let mut is_blocked = false;
        loop {
            if self.is_alive(Instant::now()) {
                systemd::alive();
                is_blocked = false;
            } else if !is_blocked {
                is_blocked = true;
                tracing::error!("systemd.watchdog.blocked");
            }
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
        assert!(watchdog.is_alive(Instant::now()));
        // This thread is blocked: its sign of life is as old as the time says.
        assert!(!watchdog.is_alive(Instant::now() + Duration::from_secs(1)));
        // It runs again: a sign of life comes that is younger than this moment.
        let before = Instant::now();
        let later = before + watchdog.period / 2 + Duration::from_millis(1);
        while !watchdog.is_alive(later) {
            assert!(
                before.elapsed() < Duration::from_secs(10),
                "no sign of life"
            );
            tokio::task::yield_now().await;
        }
    }
}
