//! Checks of the writer: of the committer and the database once a second, and of the time of each round.

use std::time::{Duration, Instant};

use actix::{AsyncContext, Context, Handler, Message};

use super::DbWriter;
use crate::store::write::health::CHECK_PERIOD;

#[derive(Message)]
#[rtype(result = "()")]
struct CheckHealth;

impl Handler<CheckHealth> for DbWriter {
    type Result = ();

    fn handle(&mut self, _: CheckHealth, ctx: &mut Self::Context) {
        let now = Instant::now();
        let is_idle = self.state.is_idle();
        if is_idle && (self.guard.check().is_err() || self.state.is_probe_due(now)) {
            self.state.probe();
            self.wake(ctx);
        }
        self.note_health();
    }
}

impl DbWriter {
    /// Checks once a second, while the writer lives.
    pub(super) fn watch_health(ctx: &Context<Self>) {
        // An interval of the context would keep the writer alive.
        let writer = ctx.address().downgrade();
        actix_rt::spawn(async move {
            loop {
                tokio::time::sleep(CHECK_PERIOD).await;
                let Some(writer) = writer.upgrade() else {
                    return;
                };
                writer.do_send(CheckHealth);
            }
        });
    }

    /// Schedules a check whether the round takes too long. At most one is scheduled.
    pub(super) fn watch(&mut self, ctx: &mut Context<Self>) {
        let Some(patience) = self.state.patience(Instant::now()) else {
            return;
        };
        if std::mem::replace(&mut self.watching, true) {
            return;
        }
        ctx.run_later(patience, |writer, ctx| {
            writer.watching = false;
            if writer.state.patience(Instant::now()) == Some(Duration::ZERO) {
                tracing::error!(
                    rows = writer.queue.len(),
                    "store.writer.stuck: the database does not answer; look for locks and for a \
                     full disk"
                );
                writer.state.time_out();
                writer.turn_away(ctx);
            } else {
                writer.watch(ctx);
            }
        });
    }

    /// Publishes whether the server is ready.
    pub(super) fn note_health(&self) {
        let fault = if self.committer.connected() {
            self.state.fault(Instant::now())
        } else {
            Some("the thread that commits messages has ended: restart the server".to_owned())
        };
        self.health.note(fault);
    }
}
