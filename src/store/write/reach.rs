//! [`Reach`]: whether the writer reaches its database, and what publishers may do. Pure.

use std::time::Duration;

use super::capacity::StorageState;
use crate::store::StoreError;

/// The first wait after a failed round; it doubles up to the last.
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(5);

/// What the writer knows of its database.
#[derive(Debug)]
pub(in crate::store) struct Reach {
    state: State,
    /// Members see nothing that is not committed.
    strict: bool,
    /// A reader has found the database damaged. Only a restart of the server clears this.
    damage: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// The database takes rows.
    Here,
    /// A round has failed, or takes too long. `retry`: the wait before the next round.
    Away {
        retry: Duration,
        trouble: Option<Trouble>,
    },
    /// The database takes rows again, but lacks rows of an earlier process. Logs must not be read yet.
    CatchingUp,
}

/// The cause of the last failure.
#[derive(Debug, PartialEq, Eq)]
struct Trouble {
    /// The error's text in the log.
    error: String,
    /// What makes the server not ready.
    fault: Option<String>,
    /// The database would lose what it takes.
    damage: bool,
}

/// The consequences of a failed round.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::store) struct Failed {
    /// The wait before the next round.
    pub(in crate::store) retry: Duration,
    /// Whether the round before failed in another way, or not at all.
    pub(in crate::store) is_news: bool,
}

/// The state of the spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum SpoolState {
    Empty,
    HasRows,
    /// It has refused a row.
    Full,
}

impl Reach {
    /// `reached`: the database was opened and migrated.
    pub(in crate::store) fn new(reached: bool, strict: bool) -> Self {
        let state = if reached {
            State::Here
        } else {
            State::Away {
                retry: FIRST_RETRY,
                trouble: None,
            }
        };
        Self {
            state,
            strict,
            damage: None,
        }
    }

    /// Whether topics are opened without the database, and rows are spooled.
    pub(in crate::store) fn is_away(&self) -> bool {
        self.state != State::Here
    }

    /// A round has failed.
    pub(in crate::store) fn fail(&mut self, error: &StoreError) -> Failed {
        let text = error.to_string();
        let (retry, is_news) = match &self.state {
            State::Here | State::CatchingUp => (FIRST_RETRY, true),
            State::Away { retry, trouble } => {
                let is_same = |trouble: &Trouble| trouble.error == text;
                let retry = (*retry * 2).min(LAST_RETRY);
                (retry, !trouble.as_ref().is_some_and(is_same))
            }
        };
        let trouble = Some(Trouble {
            error: text,
            fault: error.fault(),
            damage: error.is_damage(),
        });
        self.state = State::Away { retry, trouble };
        Failed { retry, is_news }
    }

    /// A round takes too long. It may still succeed.
    pub(in crate::store) fn time_out(&mut self) {
        if !matches!(self.state, State::Away { .. }) {
            self.state = State::Away {
                retry: FIRST_RETRY,
                trouble: None,
            };
        }
    }

    /// A round has succeeded; `left`: rows of an earlier process that are not committed yet. Returns whether the
    /// database is back with that.
    pub(in crate::store) fn succeed(&mut self, left: usize) -> bool {
        let next = if left > 0 {
            State::CatchingUp
        } else {
            State::Here
        };
        let before = std::mem::replace(&mut self.state, next);
        self.state == State::Here && before != State::Here
    }

    /// A reader has found the database damaged. Returns whether that is new.
    pub(in crate::store) fn damaged(&mut self, fault: &str) -> bool {
        let is_news = self.damage.is_none();
        self.damage.get_or_insert_with(|| fault.to_owned());
        is_news
    }

    /// What makes the server not ready, in words for the operator.
    pub(in crate::store) fn fault(&self) -> Option<String> {
        let trouble = self.trouble().and_then(|trouble| trouble.fault.clone());
        self.damage.clone().or(trouble)
    }

    /// What becomes of messages that are published now. `spool`: `None` without one, or while it is not used.
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
        match &self.state {
            State::Away { trouble, .. } => trouble.as_ref(),
            State::Here | State::CatchingUp => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> StoreError {
        StoreError::Unreachable(text.to_owned())
    }

    #[test]
    fn retries_come_at_growing_distances_and_a_new_error_is_news() {
        let mut reach = Reach::new(true, false);
        let mut retries = Vec::new();
        for _ in 0..9 {
            retries.push(reach.fail(&error("gone")).retry.as_millis());
        }
        assert_eq!(
            retries,
            [50, 100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]
        );
        assert!(!reach.fail(&error("gone")).is_news);
        assert!(reach.fail(&error("full")).is_news);
        assert!(reach.succeed(0));
        let again = reach.fail(&error("full"));
        assert_eq!((again.retry, again.is_news), (FIRST_RETRY, true));
    }

    #[test]
    fn the_database_is_back_once_it_has_all_rows_of_an_earlier_run() {
        let mut reach = Reach::new(false, false);
        assert!(reach.is_away());
        assert!(!reach.succeed(7), "rows are left");
        assert!(reach.is_away());
        assert!(reach.succeed(0));
        assert!(!reach.is_away() && !reach.succeed(0), "it was there");
    }

    #[test]
    fn a_round_that_takes_too_long_is_away_until_it_succeeds() {
        let mut reach = Reach::new(true, false);
        reach.time_out();
        assert!(reach.is_away());
        assert_eq!(reach.fault(), None, "nothing has failed");
        let failed = reach.fail(&error("gone"));
        reach.time_out();
        assert!(
            !reach.fail(&error("gone")).is_news,
            "{failed:?}: it knows why"
        );
        assert!(reach.succeed(0));
    }

    #[test]
    fn publishers_wait_behind_the_spool_and_are_refused_where_nothing_can_be_kept() {
        use StorageState::{Available, Refusing, Waiting};
        let (empty, rows, full) = (SpoolState::Empty, SpoolState::HasRows, SpoolState::Full);
        let mut relaxed = Reach::new(true, false);
        assert_eq!(relaxed.storage(None), Available);
        assert_eq!(
            relaxed.storage(Some(rows)),
            Waiting,
            "behind those of before"
        );
        relaxed.fail(&error("gone"));
        for (spool, state) in [
            (None, Waiting),
            (Some(empty), Waiting),
            (Some(rows), Waiting),
            (Some(full), Refusing),
        ] {
            assert_eq!(relaxed.storage(spool), state, "{spool:?}");
        }
        let mut strict = Reach::new(true, true);
        assert_eq!(strict.storage(None), Available);
        strict.fail(&error("gone"));
        assert_eq!(strict.storage(None), Refusing);
    }

    #[test]
    fn damage_stays_until_the_server_is_started_anew() {
        let mut reach = Reach::new(true, false);
        assert!(reach.damaged("damaged") && !reach.damaged("again"));
        assert!(!reach.succeed(0));
        assert_eq!(reach.fault().as_deref(), Some("damaged"));
        assert_eq!(reach.storage(None), StorageState::Refusing);
    }

    #[test]
    fn a_panic_is_a_fault_until_a_round_succeeds() {
        let mut reach = Reach::new(true, false);
        reach.fail(&StoreError::Panicked("oh".to_owned()));
        assert!(reach.fault().is_some());
        assert_eq!(reach.storage(None), StorageState::Waiting);
        reach.succeed(0);
        assert_eq!(reach.fault(), None);
    }
}
