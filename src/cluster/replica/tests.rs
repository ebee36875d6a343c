//! Random schedules over models of Redis, the database and three nodes; and the rules, broken one by one.

mod checks;
mod model;
mod node;
mod steps;
mod topic;
mod world;

use self::world::{Stats, World};

/// A rule that is broken in a world. Each rule is needed: a schedule shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    /// Reads before the subscription is confirmed.
    ReadFirst,
    /// Reads the database before the journal.
    DatabaseFirst,
    /// Takes a resume for complete up to what is shown at its end.
    LateHead,
    /// A client that is ahead of its new node goes live there at once.
    LiveAhead,
    /// Sends a message in doubt again without a look into the journal.
    BlindResend,
    /// Lets the commands of a closed connection run.
    NoKill,
    /// Leaves a message that was found in the journal to a topic that is not attached.
    NotMine,
    /// Sends a message again that another node may have stored and removed from the journal.
    LapseIgnored,
    /// Leaves the messages of dead authors.
    NoAdoption,
    /// Watches only authors whose messages were shown.
    WatchHeardOnly,
    /// Redis comes back from a dump, with the same keys.
    OneKeyForever,
    /// Begins a run where there is one.
    BlindBegin,
    /// Stores nothing of others when Redis is another process.
    NoRescue,
    /// Uses the new process before all nodes have stored what they have of the old run.
    NoPause,
    /// Removes messages from the journal before they are stored.
    EarlyDelete,
    /// Leaves own messages that were published before the topic was attached.
    NotSettled,
    /// Gives each replica of a topic the same number.
    SameNumber,
}

impl Broken {
    const ALL: [Self; 17] = [
        Self::ReadFirst,
        Self::DatabaseFirst,
        Self::LateHead,
        Self::LiveAhead,
        Self::BlindResend,
        Self::NoKill,
        Self::NotMine,
        Self::LapseIgnored,
        Self::NoAdoption,
        Self::WatchHeardOnly,
        Self::OneKeyForever,
        Self::BlindBegin,
        Self::NoRescue,
        Self::NoPause,
        Self::EarlyDelete,
        Self::NotSettled,
        Self::SameNumber,
    ];
}

/// The number of schedules, unless `SLACKIR_SEEDS` says another.
const SEEDS: u64 = 20_000;

#[test]
fn every_schedule_is_exact() {
    let seeds = std::env::var("SLACKIR_SEEDS").ok();
    let seeds = seeds.map_or(SEEDS, |seeds| seeds.parse().expect("a number"));
    let mut stats = Stats::default();
    for seed in 0..seeds {
        match World::run_seed(seed, None) {
            Ok(more) => stats.add(more),
            Err(fault) => panic!("seed {seed}: {fault}"),
        }
    }
    println!("{seeds} schedules: {stats:?}");
}

#[test]
fn every_broken_rule_is_found() {
    for broken in Broken::ALL {
        let found = (0..SEEDS).find_map(|seed| {
            let fault = World::run_seed(seed, Some(broken)).err()?;
            Some((seed, fault))
        });
        match found {
            Some((seed, fault)) => println!("{broken:?}: seed {seed}: {fault}"),
            None => panic!("{broken:?} is not found"),
        }
    }
}
