use super::*;

fn error(text: &str) -> Fault {
    Fault::Unreachable(text.to_owned())
}

/// An idle writer with a reachable database.
fn here() -> WriterState {
    WriterState::new(true, false, Instant::now())
}

/// Begins a round with work.
fn begin(state: &mut WriterState, turns: usize) -> Instant {
    let now = Instant::now();
    let plan = state.plan(false, false).expect("there is work");
    state.begin(plan, turns, now);
    now
}

#[test]
fn retries_come_at_growing_distances_and_a_new_error_is_news() {
    let mut state = here();
    let mut retries = Vec::new();
    for _ in 0..9 {
        retries.push(state.fail(&error("gone")).retry.as_millis());
    }
    assert_eq!(
        retries,
        [50, 100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]
    );
    assert!(!state.fail(&error("gone")).is_news);
    assert!(state.fail(&error("full")).is_news);
    assert!(state.succeed(0));
    let again = state.fail(&error("full"));
    assert_eq!((again.retry, again.is_news), (FIRST_RETRY, true));
}

#[test]
fn the_database_is_back_once_it_has_all_rows_of_an_earlier_process() {
    let mut state = WriterState::new(false, false, Instant::now());
    assert!(state.is_away());
    assert!(!state.succeed(7), "rows are left");
    assert!(state.is_away() && !state.may_pause(0));
    assert!(state.succeed(0));
    assert!(!state.is_away() && !state.succeed(0), "it was there");
}

#[test]
fn a_round_that_takes_too_long_is_away_until_it_succeeds() {
    let mut state = here();
    let began = begin(&mut state, 3);
    assert_eq!(state.patience(began + PATIENCE / 5), Some(PATIENCE / 5 * 4));
    assert_eq!(state.patience(began + PATIENCE * 2), Some(Duration::ZERO));
    state.time_out();
    assert!(state.is_away());
    assert_eq!(state.patience(began), None, "nobody waits for it any more");
    assert_eq!(state.fault(began), None, "nothing has failed");
    assert_eq!(state.turns_in_flight(), 3, "the committer still has them");
    assert_eq!(state.end(), Some(3));
    let failed = state.fail(&error("gone"));
    begin(&mut state, 0);
    state.time_out();
    assert!(
        !state.fail(&error("gone")).is_news,
        "{failed:?}: it knows why"
    );
    assert!(state.succeed(0));
}

#[test]
fn publishers_wait_behind_the_spool_and_are_refused_where_nothing_can_be_kept() {
    use StorageState::{Available, Refusing, Waiting};
    let (empty, rows, full) = (SpoolState::Empty, SpoolState::HasRows, SpoolState::Full);
    let mut relaxed = here();
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
    let mut strict = WriterState::new(true, true, Instant::now());
    assert_eq!(strict.storage(None), Available);
    strict.fail(&error("gone"));
    assert_eq!(strict.storage(None), Refusing);
}

#[test]
fn damage_stays_until_the_server_is_started_anew() {
    let mut state = here();
    assert!(state.damaged("damaged") && !state.damaged("again"));
    assert!(!state.succeed(0));
    assert_eq!(state.fault(Instant::now()).as_deref(), Some("damaged"));
    assert_eq!(state.storage(None), StorageState::Refusing);
}

#[test]
fn a_panic_is_a_fault_until_a_round_succeeds() {
    let mut state = here();
    state.fail(&Fault::Panicked("oh".to_owned()));
    assert!(state.fault(Instant::now()).is_some());
    assert_eq!(state.storage(None), StorageState::Waiting);
    assert!(state.succeed(0));
    assert_eq!(state.fault(Instant::now()), None);
}

#[test]
fn a_writer_that_rests_is_woken_once() {
    let mut state = here();
    assert!(state.is_idle());
    assert!(state.wake());
    assert!(!state.wake(), "a round is due");
    assert!(state.hurry(), "it begins at once");
    begin(&mut state, 0);
    assert!(!state.wake() && !state.hurry(), "a round is in flight");
    assert_eq!(state.end(), Some(0));
    assert_eq!(state.end(), None);
    state.rest();
    assert!(state.is_idle() && state.wake());
}

#[test]
fn a_retry_is_not_woken_but_hurried() {
    let mut state = here();
    state.fail(&error("gone"));
    assert!(!state.wake(), "it waits for its time");
    assert!(state.hurry());
    assert!(state.plan(true, false).is_some(), "it needs no work");
}

#[test]
fn the_writer_pauses_after_small_rounds() {
    let mut state = here();
    begin(&mut state, 0);
    assert_eq!(state.end(), Some(0));
    assert!(!state.succeed(0));
    assert!(state.may_pause(FEW - 1) && !state.may_pause(FEW));
    state.pause();
    assert!(!state.is_idle() && !state.is_away());
    assert!(state.wake(), "a caller waits for its row");
    state.fail(&error("gone"));
    assert!(!state.may_pause(0), "rows are spooled");
}

#[test]
fn a_flush_of_an_idle_writer_leaves_the_database_in_order_once() {
    let mut state = here();
    assert_eq!(state.plan(true, true), None, "nothing was written");
    begin(&mut state, 0);
    assert_eq!(state.end(), Some(0));
    assert_eq!(state.plan(true, false), None);
    let plan = state.plan(true, true).expect("rows were written");
    assert!(plan.tidy && !plan.probe);
    state.begin(plan, 0, Instant::now());
    assert_eq!(state.end(), Some(0));
    assert_eq!(state.plan(true, true), None);
}

#[test]
fn an_idle_database_is_probed_and_a_stuck_round_is_a_fault() {
    let mut state = here();
    let now = Instant::now();
    assert!(!state.is_probe_due(now) && state.is_probe_due(now + PROBE));
    state.probe();
    let plan = state.plan(true, false).expect("a probe");
    assert!(plan.probe);
    state.begin(plan, 0, now + PROBE);
    assert!(!state.is_probe_due(now + PROBE * 9), "it is asked already");
    assert_eq!(state.fault(now + PROBE), None);
    let fault = state.fault(now + PROBE + COMMITTER_PATIENCE);
    assert!(fault.is_some_and(|fault| fault.contains("for 30 seconds")));
    assert_eq!(state.plan(true, false), None, "one probe");
}
