//! What [`DbWriter`] does while the database is away: rows into the spool, topics without it.

use std::sync::Arc;
use std::time::Duration;

use actix::{AsyncContext, Context};
use tokio::sync::oneshot;

use super::{DbWriter, Work};
use crate::pubsub::OpenedRun;
use crate::store::StoreError;
use crate::store::capacity::StorageState;
use crate::store::run;
use crate::store::turn::{Answer, SharedError};

/// How often rows are spooled, and the spool made to outlive a power cut.
const SYNC: Duration = Duration::from_millis(50);

impl DbWriter {
    /// The database is away: rows go into the spool, and topics are opened without it.
    pub(super) fn turn_away(&mut self, wait: Duration, ctx: &mut Context<Self>) {
        self.away = Some(wait);
        self.resigned.append(&mut self.waiting);
        let begun = match self.work {
            Work::Round { turns, .. } => turns,
            Work::Idle | Work::Due | Work::Paused => 0,
        };
        for (at, mut turn) in std::mem::take(&mut self.turns).into_iter().enumerate() {
            let asked = turn.answer.is_some();
            match turn.answer.take() {
                Some(Answer::Opening(answer)) => self.open_adrift(answer),
                Some(answer) => answer.refuse(Arc::new(StoreError::Away)),
                None => {}
            }
            // The committer may still come to it; nobody waits for that any more.
            if !asked || at < begun {
                self.turns.push_back(turn);
            }
        }
        self.write_down(ctx);
    }

    /// A run begins without the database, unless nobody may see what is not committed.
    pub(super) fn open_adrift(&mut self, answer: oneshot::Sender<Result<OpenedRun, SharedError>>) {
        let run = if self.strict {
            Err(Arc::new(StoreError::Away))
        } else {
            let run = run::adrift(self.ceiling.seq());
            self.ceiling.raise(run.head);
            Ok(run)
        };
        // Who has gone needs no answer.
        let _ = answer.send(run);
    }

    /// Writes the queue into the spool, while the database is away and as long as it is behind what
    /// was written then; tells those who publish what becomes of their messages.
    pub(super) fn write_down(&mut self, ctx: &mut Context<Self>) {
        let away = self.away.is_some();
        let mut state = match (away, self.strict) {
            (false, _) => StorageState::Available,
            (true, false) => StorageState::Waiting,
            (true, true) => StorageState::Refusing,
        };
        let journal = self.journal.as_ref().filter(|_| !self.strict);
        let spools = journal.is_some_and(|journal| away || !journal.is_empty());
        if spools {
            self.take_in();
        }
        if let Some(journal) = self.journal.as_mut().filter(|_| spools) {
            journal.take(&self.queue);
            if journal.is_refusing() {
                state = StorageState::Refusing;
            } else if !journal.is_empty() {
                state = StorageState::Waiting;
            }
        }
        if self.is_damaged() {
            state = StorageState::Refusing;
        }
        self.capacity.set_state(state);
        self.capacity.set_away(away);
        self.go_on_spooling(ctx);
    }

    /// Whether what is taken now would not be there later.
    fn is_damaged(&self) -> bool {
        let trouble = self.trouble.as_ref();
        self.damage.is_some() || trouble.is_some_and(|trouble| trouble.damage)
    }

    /// Looks again and again for rows to spool, and makes them outlive a power cut, until the journal
    /// is not needed any more.
    fn go_on_spooling(&mut self, ctx: &mut Context<Self>) {
        let Some(journal) = &mut self.journal else {
            return;
        };
        self.capacity.set_safe(journal.safe());
        let needed = self.away.is_some() || !journal.is_empty();
        if needed && !std::mem::replace(&mut self.spooling, true) {
            ctx.run_later(SYNC, |writer, ctx| {
                writer.spooling = false;
                if let Some(journal) = &mut writer.journal {
                    journal.sync();
                }
                writer.rest_if_safe();
                writer.write_down(ctx);
            });
        }
    }

    /// While the database is away, those who have seen it fail need not wait any longer than until
    /// every row outlives the server.
    fn rest_if_safe(&mut self) {
        if self.away.is_some()
            && let Some(journal) = &self.journal
            && journal.is_synced()
            && journal.holds(&self.queue)
        {
            for resigned in self.resigned.drain(..) {
                // Who has given up waiting needs no answer.
                let _ = resigned.send(());
            }
        }
    }
}
