//! What [`DbWriter`] does once a second: it looks after itself, the committer and the database, also
//! while nobody writes.

use std::time::{Duration, Instant};

use actix::{AsyncContext, Context, Handler, Message};

use super::{DbWriter, Work};
use crate::store::health::LOOK;

/// How long a transaction may take before the committer counts as stuck.
const COMMITTER_PATIENCE: Duration = Duration::from_secs(30);
/// How long a database that nobody writes to is not asked whether it is there.
const PROBE: Duration = Duration::from_secs(3);

#[derive(Message)]
#[rtype(result = "()")]
struct LookAround;

impl Handler<LookAround> for DbWriter {
    type Result = ();

    fn handle(&mut self, _: LookAround, ctx: &mut Self::Context) {
        let idle = matches!(self.work, Work::Idle);
        if idle && (self.guard.check().is_err() || self.asked.elapsed() >= PROBE) {
            self.probe = true;
            self.wake(ctx);
        }
        self.note_health();
    }
}

impl DbWriter {
    /// Begins to look, as long as there is a writer.
    pub(super) fn watch_health(ctx: &Context<Self>) {
        // An interval of the context would keep a writer that nobody needs any more.
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

    /// Tells those who ask whether the server is ready.
    pub(super) fn note_health(&self) {
        let fault = if self.committer.connected() {
            let trouble = self
                .trouble
                .as_ref()
                .and_then(|trouble| trouble.fault.clone());
            self.damage.clone().or(trouble).or_else(|| self.stuck())
        } else {
            Some("the thread that commits messages has ended: restart the server".to_owned())
        };
        self.health.note(fault);
    }

    fn stuck(&self) -> Option<String> {
        let Work::Round { since, .. } = self.work else {
            return None;
        };
        let age = since.elapsed();
        (age >= COMMITTER_PATIENCE).then(|| {
            let seconds = age.as_secs();
            format!("a transaction has been stuck for {seconds} seconds")
        })
    }
}
