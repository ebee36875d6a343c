//! [`DbWriter`] while the database is unreachable: rows go into the spool, and topics are opened without the
//! database.

use std::sync::Arc;
use std::time::Duration;

use actix::{AsyncContext, Context};
use tokio::sync::oneshot;

use super::DbWriter;
use crate::log::OpenedRun;

use crate::store::backend::Fault;
use crate::store::tables::run;
use crate::store::write::state::SpoolState;
use crate::store::write::turn::{SharedError, TurnAnswer};

/// The time between two syncs of the spool. New rows are spooled before each.
const SYNC: Duration = Duration::from_millis(50);

impl DbWriter {
    /// The database has become unreachable: rows go into the spool, and openings are answered without the database.
    pub(super) fn turn_away(&mut self, ctx: &mut Context<Self>) {
        self.flushes.accept_spool();
        self.drafts.refuse_old();
        for answer in self.turns.take_callers(self.state.turns_in_flight()) {
            match answer {
                TurnAnswer::Opening(answer) => self.open_without_database(answer),
                changed @ TurnAnswer::Changed(_) => changed.refuse(Arc::new(Fault::Away)),
            }
        }
        self.write_down(ctx);
    }

    /// Opens a topic without the database. A strict writer refuses, because members see only committed messages.
    pub(super) fn open_without_database(
        &mut self,
        answer: oneshot::Sender<Result<OpenedRun, SharedError>>,
    ) {
        let run = if self.state.is_strict() {
            Err(Arc::new(Fault::Away))
        } else {
            let run = run::without_database(self.ceiling.seq());
            self.ceiling.raise(run.head);
            Ok(run)
        };
        // A caller that has gone needs no answer.
        let _ = answer.send(run);
    }

    /// Appends the queue to the spool, while the database is unreachable or the spool has rows. Publishes the state
    /// to the publishers.
    pub(super) fn write_down(&mut self, ctx: &mut Context<Self>) {
        let away = self.state.is_away();
        let journal = self.journal.as_ref().filter(|_| !self.state.is_strict());
        let spools = journal.is_some_and(|journal| away || !journal.is_empty());
        if spools {
            self.take_in();
        }
        let journal = self.journal.as_mut().filter(|_| spools);
        let spool = journal.map(|journal| {
            journal.take(&self.queue);
            match (journal.is_refusing(), journal.is_empty()) {
                (true, _) => SpoolState::Full,
                (false, true) => SpoolState::Empty,
                (false, false) => SpoolState::HasRows,
            }
        });
        self.capacity.set_state(self.state.storage(spool), away);
        self.schedule_sync(ctx);
    }

    /// Schedules the next sync of the spool, while the database is unreachable or the spool has rows.
    fn schedule_sync(&mut self, ctx: &mut Context<Self>) {
        let Some(journal) = &mut self.journal else {
            return;
        };
        self.capacity.set_safe(journal.safe(), journal.bytes());
        let needed = self.state.is_away() || !journal.is_empty();
        if needed && !std::mem::replace(&mut self.spooling, true) {
            ctx.run_later(SYNC, |writer, ctx| {
                writer.spooling = false;
                if let Some(journal) = &mut writer.journal {
                    journal.sync();
                }
                writer.answer_if_safe();
                writer.write_down(ctx);
            });
        }
    }

    /// Answers the flush callers, if the database is unreachable and all rows are safe in the spool.
    fn answer_if_safe(&mut self) {
        if self.state.is_away()
            && let Some(journal) = &self.journal
            && journal.is_synced()
            && journal.holds(&self.queue)
        {
            self.flushes.answer_spooled();
        }
    }
}
