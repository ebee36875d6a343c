//! The server as a service: it tells systemd its state, and it leaves in order, after a delay if one is set.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::signals::ServerSignals;
use crate::endpoint::Endpoint;
use crate::server::admin::Readiness;
use crate::server::systemd;

/// The time between two lines for `systemctl status`.
const STATUS_PERIOD: Duration = Duration::from_secs(30);

/// Whether the server has been asked to end.
#[derive(Clone, Default)]
pub(super) struct Leaving(Arc<AtomicBool>);

impl Leaving {
    pub(super) fn has_begun(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Waits for a signal that ends the server. After the first one the server goes on for the `delay`, while
    /// `/readyz` says 503; a second signal ends the delay.
    pub(super) async fn asked(&self, signals: &mut ServerSignals<'_>, delay: Duration) {
        signals.end().await;
        if self.0.swap(true, Ordering::Relaxed) {
            return;
        }
        systemd::stopping();
        if delay.is_zero() {
            return;
        }
        tracing::info!(seconds = delay.as_secs_f64(), "serve.shutdown.delayed");
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = signals.end() => tracing::info!("serve.shutdown.delay_ended"),
        }
    }
}

/// Tells systemd the number of connections and the readiness, when they have changed. Never returns.
pub(super) async fn tell_status(endpoint: Endpoint, readiness: impl Fn() -> Readiness) {
    let mut told = String::new();
    loop {
        let status = status(&endpoint, &readiness());
        if status != told {
            systemd::status(&status);
            told = status;
        }
        tokio::time::sleep(STATUS_PERIOD).await;
    }
}

fn status(endpoint: &Endpoint, readiness: &Readiness) -> String {
    let connections = endpoint.connections();
    match readiness {
        Readiness::Ready => format!("{connections} connections, ready"),
        Readiness::Impaired(how) => format!("{connections} connections, ready; {how}"),
        Readiness::NotReady(why) => format!("{connections} connections, not ready: {why}"),
    }
}
