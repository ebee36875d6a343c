//! Three nodes over a bus in memory, by schedules from seeds: whole nodes, but for the network and the clock.

mod scenarios;
mod world;

use self::scenarios::{chaos, graceful_stop, restart, silence_of_all};
use super::Rule;

/// Runs a scenario with many seeds. Names the first seed that fails.
fn run(
    scenario: fn(u64, Option<Rule>) -> Result<(), String>,
    seeds: u64,
    rule: Option<Rule>,
) -> Result<(), String> {
    for seed in 0..seeds {
        scenario(seed, rule).map_err(|error| format!("seed {seed}: {error}"))?;
    }
    Ok(())
}

#[test]
fn whatever_happens_all_nodes_end_with_the_same_lists_and_nobody_who_left() {
    assert_eq!(run(chaos, 1_500, None), Ok(()));
}

#[test]
fn nobody_is_lost_while_the_bus_is_away_from_all() {
    assert_eq!(run(silence_of_all, 700, None), Ok(()));
}

#[test]
fn a_deploy_is_no_moment_without_a_meta() {
    assert_eq!(run(graceful_stop, 1_500, None), Ok(()));
}

#[test]
fn a_restart_replaces_the_old_run_at_once() {
    assert_eq!(run(restart, 700, None), Ok(()));
}

#[test]
fn each_rule_is_needed() {
    for (rule, scenario) in [
        (Rule::Echo, silence_of_all as fn(u64, Option<Rule>) -> _),
        (Rule::Grace, graceful_stop),
        (Rule::Incarnation, restart),
        (Rule::Transfer, chaos),
    ] {
        assert!(run(scenario, 100, Some(rule)).is_err(), "{rule:?}");
    }
}
