//! The writer's look at itself, the committer and the database, once a second.

use std::time::{Duration, Instant};

use actix::{AsyncContext, Context, Handler, Message};

use super::{DbWriter, Step};
use crate::store::write::health::LOOK;

/// A transaction that takes longer makes the committer count as stuck.
const COMMITTER_PATIENCE: Duration = Duration::from_secs(30);
/// A database that nobody writes to is asked after this time.
const PROBE: Duration = Duration::from_secs(3);

#[derive(Message)]
#[rtype(result = "()")]
struct LookAround;

impl Handler<LookAround> for DbWriter {
    type Result = ();

    fn handle(&mut self, _: LookAround, ctx: &mut Self::Context) {
        let idle = matches!(self.step, Step::Idle);
        if idle && (self.guard.check().is_err() || self.asked.elapsed() >= PROBE) {
            self.probe = true;
            self.wake(ctx);
        }
        self.note_health();
    }
}

impl DbWriter {
    /// Looks once a second while there is a writer.
    pub(super) fn watch_health(ctx: &Context<Self>) {
        // An interval of the context would keep the writer alive.
        let writer = ctx.address().downgrade();
        actix_rt::spawn(async move {
            loop {
                tokio::time::sleep(LOOK).await;
                let Some(writer) = writer.upgrade() else {
                    return;
                };
                writer.do_send(LookAround);
            }
        });
    }

    /// The database was asked for something just now.
    pub(super) fn note_asked(&mut self) {
        self.asked = Instant::now();
    }

    /// Notes whether the server is ready.
    pub(super) fn note_health(&self) {
        let fault = if self.committer.connected() {
            self.reach.fault().or_else(|| self.stuck())
        } else {
            Some("the thread that commits messages has ended: restart the server".to_owned())
        };
        self.health.note(fault);
    }

    fn stuck(&self) -> Option<String> {
        let Step::Round { since, .. } = self.step else {
            return None;
        };
        let age = since.elapsed();
        (age >= COMMITTER_PATIENCE).then(|| {
            let seconds = age.as_secs();
            format!("a transaction has been stuck for {seconds} seconds")
        })
    }
}
