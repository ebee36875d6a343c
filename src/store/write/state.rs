//! [`WriterState`]: whether the writer reaches its database, what it is doing, and how new messages are treated.
//! Pure: the writer passes the time in, and carries out the answers.

use crate::store::backend::Fault;
use std::time::{Duration, Instant};

use super::capacity::StorageState;

/// The first wait after a failed round; it doubles up to the last.
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(5);
/// After a round of fewer rows the writer may pause.
const FEW: usize = 100;
/// A round that takes longer makes the database count as unreachable. A strict writer can only wait, and refuses
/// rows when waiting makes no sense.
const PATIENCE: Duration = Duration::from_millis(500);
const STRICT_PATIENCE: Duration = Duration::from_secs(5);
/// A round that takes longer makes the server not ready.
const COMMITTER_PATIENCE: Duration = Duration::from_secs(30);
/// A database that nobody writes to is asked after this time.
const PROBE: Duration = Duration::from_secs(3);

/// The state of the writer.
#[derive(Debug)]
pub(in crate::store) struct WriterState {
    database: DatabaseState,
    /// Members see only committed messages.
    strict: bool,
    /// The fault that a reader has found: the database is damaged. It stays until the server is restarted.
    damage: Option<String>,
    /// When the last round began.
    asked: Instant,
    /// The next round takes place even if there is nothing to do.
    probe: bool,
    /// Whether the WAL was truncated and nothing was written since.
    is_tidy: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum DatabaseState {
    /// The database takes rows, and there is nothing to do.
    Idle,
    /// The database takes rows. A round begins after the pause, or as soon as a caller waits for it.
    Pausing,
    /// The database takes rows.
    Here(RoundStep),
    /// A round has failed, or takes too long.
    Away {
        round: RoundStep,
        /// The wait before the next round.
        retry: Duration,
        trouble: Option<Trouble>,
    },
    /// The database takes rows again, but does not have all rows of an earlier process yet. Until then logs are not
    /// read.
    CatchingUp(RoundStep),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RoundStep {
    /// The round begins after the messages in the mailbox, or at the next retry.
    Due,
    /// The committer works on it. It was given so many turns.
    InFlight { since: Instant, turns: usize },
}

/// The cause of the last failure.
#[derive(Debug, PartialEq, Eq)]
struct Trouble {
    /// The error's text in the log.
    error: String,
    /// The reason why the server is not ready, if there is one.
    fault: Option<String>,
    /// The database could lose new rows.
    damage: bool,
}

/// The tasks of a round beside its rows and turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct RoundPlan {
    /// The database may be checkpointed.
    pub(in crate::store) tidy: bool,
    /// The database is asked even if there is nothing to do.
    pub(in crate::store) probe: bool,
    leaves_tidy: bool,
}

/// The consequences of a failed round.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::store) struct Failed {
    /// The wait before the next round.
    pub(in crate::store) retry: Duration,
    /// Whether the round before failed with another error, or not at all.
    pub(in crate::store) is_news: bool,
}

/// The spool, while it is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum SpoolState {
    Empty,
    HasRows,
    /// It has refused the next row.
    Full,
}

impl WriterState {
    /// `reached`: the database was opened and migrated.
    pub(in crate::store) fn new(reached: bool, strict: bool, now: Instant) -> Self {
        let database = if reached {
            DatabaseState::Idle
        } else {
            DatabaseState::Away {
                round: RoundStep::Due,
                retry: FIRST_RETRY,
                trouble: None,
            }
        };
        Self {
            database,
            strict,
            damage: None,
            asked: now,
            probe: false,
            is_tidy: true,
        }
    }

    /// Whether the database is unreachable: topics are opened without it, and rows are spooled.
    pub(in crate::store) fn is_away(&self) -> bool {
        match self.database {
            DatabaseState::Away { .. } | DatabaseState::CatchingUp(_) => true,
            DatabaseState::Idle | DatabaseState::Pausing | DatabaseState::Here(_) => false,
        }
    }

    /// Whether members see only committed messages.
    pub(in crate::store) fn is_strict(&self) -> bool {
        self.strict
    }

    /// There is work. Returns whether the writer must schedule a round.
    #[must_use]
    pub(in crate::store) fn wake(&mut self) -> bool {
        let rests = matches!(self.database, DatabaseState::Idle | DatabaseState::Pausing);
        if rests {
            self.database = DatabaseState::Here(RoundStep::Due);
        }
        rests
    }

    /// A caller waits for a round, so a retry is due at once. Returns whether the writer must schedule a round.
    #[must_use]
    pub(in crate::store) fn hurry(&mut self) -> bool {
        self.wake() || !self.is_in_flight()
    }

    pub(in crate::store) fn is_in_flight(&self) -> bool {
        self.in_flight().is_some()
    }

    /// How many turns the committer is working on, from the first.
    pub(in crate::store) fn turns_in_flight(&self) -> usize {
        self.in_flight().map_or(0, |(_, turns)| turns)
    }

    /// The next round, or `None` if there is nothing to do. `idle`: there is neither a row nor a turn. `flush`: a
    /// caller waits until everything is committed. An unreachable database is asked in any case.
    pub(in crate::store) fn plan(&mut self, idle: bool, flush: bool) -> Option<RoundPlan> {
        let probe = std::mem::take(&mut self.probe);
        let tidy = idle && !self.is_away();
        let needs_tidying = flush && !self.is_tidy;
        if tidy && !needs_tidying && !probe {
            return None;
        }
        Some(RoundPlan {
            tidy,
            probe,
            leaves_tidy: tidy || (idle && self.is_tidy),
        })
    }

    /// There is nothing to do.
    pub(in crate::store) fn rest(&mut self) {
        self.database = DatabaseState::Idle;
    }

    /// The committer has got a round with so many turns.
    pub(in crate::store) fn begin(&mut self, plan: RoundPlan, turns: usize, now: Instant) {
        self.is_tidy = plan.leaves_tidy;
        self.asked = now;
        self.set_round(RoundStep::InFlight { since: now, turns });
    }

    /// The round in flight is over. Returns the number of its turns; `None` if there was no round.
    pub(in crate::store) fn end(&mut self) -> Option<usize> {
        let (_, turns) = self.in_flight()?;
        self.set_round(RoundStep::Due);
        Some(turns)
    }

    /// A round has succeeded. `earlier`: rows of an earlier process that are not committed yet. Returns whether the
    /// database is back with that.
    #[must_use]
    pub(in crate::store) fn succeed(&mut self, earlier: usize) -> bool {
        let was_away = self.is_away();
        self.database = if earlier > 0 {
            DatabaseState::CatchingUp(RoundStep::Due)
        } else {
            DatabaseState::Here(RoundStep::Due)
        };
        was_away && !self.is_away()
    }

    /// Whether the writer may pause after a round of so many rows.
    pub(in crate::store) fn may_pause(&self, rows: usize) -> bool {
        rows < FEW && !self.is_away()
    }

    /// The writer pauses.
    pub(in crate::store) fn pause(&mut self) {
        self.database = DatabaseState::Pausing;
    }

    /// A round has failed, or could not begin.
    pub(in crate::store) fn fail(&mut self, error: &Fault) -> Failed {
        let text = error.to_string();
        let (retry, is_news) = match &self.database {
            DatabaseState::Away { retry, trouble, .. } => {
                let is_same = |trouble: &Trouble| trouble.error == text;
                let retry = (*retry * 2).min(LAST_RETRY);
                (retry, !trouble.as_ref().is_some_and(is_same))
            }
            _ => (FIRST_RETRY, true),
        };
        let trouble = Some(Trouble {
            error: text,
            fault: error.fault(),
            damage: error.is_damage(),
        });
        self.database = DatabaseState::Away {
            round: RoundStep::Due,
            retry,
            trouble,
        };
        Failed { retry, is_news }
    }

    /// The time after which the round in flight takes too long. `None` without such a round, and while the database
    /// is unreachable.
    pub(in crate::store) fn patience(&self, now: Instant) -> Option<Duration> {
        let (since, _) = self.in_flight()?;
        let patience = if self.strict {
            STRICT_PATIENCE
        } else {
            PATIENCE
        };
        (!self.is_away()).then(|| patience.saturating_sub(now - since))
    }

    /// The round in flight takes too long. It may still succeed.
    pub(in crate::store) fn time_out(&mut self) {
        if let DatabaseState::Here(round) | DatabaseState::CatchingUp(round) = self.database {
            self.database = DatabaseState::Away {
                round,
                retry: FIRST_RETRY,
                trouble: None,
            };
        }
    }

    /// Whether the writer is idle and should ask the database again.
    pub(in crate::store) fn is_probe_due(&self, now: Instant) -> bool {
        self.is_idle() && now - self.asked >= PROBE
    }

    pub(in crate::store) fn is_idle(&self) -> bool {
        self.database == DatabaseState::Idle
    }

    /// The next round asks the database in any case.
    pub(in crate::store) fn probe(&mut self) {
        self.probe = true;
    }

    /// A reader has found that the database is damaged. Returns whether that is new.
    pub(in crate::store) fn damaged(&mut self, fault: &str) -> bool {
        let is_news = self.damage.is_none();
        self.damage.get_or_insert_with(|| fault.to_owned());
        is_news
    }

    /// The reason why the server is not ready, for the operator.
    pub(in crate::store) fn fault(&self, now: Instant) -> Option<String> {
        let trouble = self.trouble().and_then(|trouble| trouble.fault.clone());
        self.damage.clone().or(trouble).or_else(|| self.stuck(now))
    }

    fn stuck(&self, now: Instant) -> Option<String> {
        let (since, _) = self.in_flight()?;
        let age = now - since;
        (age >= COMMITTER_PATIENCE).then(|| {
            let seconds = age.as_secs();
            format!("a transaction has been stuck for {seconds} seconds")
        })
    }

    /// How new messages are treated. `spool`: `None` without one, or while it is not in use.
    pub(in crate::store) fn storage(&self, spool: Option<SpoolState>) -> StorageState {
        let loses = self.damage.is_some() || self.trouble().is_some_and(|trouble| trouble.damage);
        match spool {
            _ if loses => StorageState::Refusing,
            Some(SpoolState::Full) => StorageState::Refusing,
            Some(SpoolState::HasRows) => StorageState::Waiting,
            _ if !self.is_away() => StorageState::Available,
            _ if self.strict => StorageState::Refusing,
            _ => StorageState::Waiting,
        }
    }

    fn trouble(&self) -> Option<&Trouble> {
        match &self.database {
            DatabaseState::Away { trouble, .. } => trouble.as_ref(),
            _ => None,
        }
    }

    /// The start of the round in flight, and its turns.
    fn in_flight(&self) -> Option<(Instant, usize)> {
        let (DatabaseState::Here(round)
        | DatabaseState::Away { round, .. }
        | DatabaseState::CatchingUp(round)) = &self.database
        else {
            return None;
        };
        match *round {
            RoundStep::InFlight { since, turns } => Some((since, turns)),
            RoundStep::Due => None,
        }
    }

    fn set_round(&mut self, next: RoundStep) {
        match &mut self.database {
            DatabaseState::Here(round)
            | DatabaseState::Away { round, .. }
            | DatabaseState::CatchingUp(round) => *round = next,
            DatabaseState::Idle | DatabaseState::Pausing => {
                self.database = DatabaseState::Here(next);
            }
        }
    }
}

#[cfg(test)]
mod tests;
