//! What goes wrong with a cluster, chosen by a seed.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::nodes::Nodes;
use super::way::Cut;
use crate::support::database::Person;
use crate::support::process::Process;
use crate::support::random::Random;

/// How long after one fault another may come that would lose messages together with it.
const QUIET: Duration = Duration::from_millis(2_500);
/// By then the database gives the order if no node reaches the bus.
const MOVED: Duration = Duration::from_secs(8);

/// The kinds of faults of a test.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Kinds {
    /// Ways to Redis or NATS are cut.
    pub(crate) cuts: bool,
    /// Nodes are killed, and stand still for 3 s.
    pub(crate) nodes: bool,
    /// Redis or NATS is killed and starts with nothing.
    pub(crate) bus: bool,
    /// It is away for so long that the database gives the order: killed, or no node reaches it.
    pub(crate) outages: bool,
    /// Redis forgets everything, or its scripts.
    pub(crate) flushes: bool,
    /// The database takes no rows, or a node does not reach it.
    pub(crate) database: bool,
}

/// How often something went wrong.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) cuts: usize,
    pub(crate) kills: usize,
    pub(crate) stops: usize,
    pub(crate) bus_kills: usize,
    pub(crate) outages: usize,
    pub(crate) flushes: usize,
    pub(crate) script_flushes: usize,
    pub(crate) database: usize,
}

/// What is to be mended, and when.
enum Mend {
    WayToBus(usize),
    AllWays,
    WayToDatabase(usize),
    Node(usize),
    Continue(usize),
    Bus,
    Table(Person),
}

/// Breaks and mends.
pub(crate) struct Faults {
    nodes: Nodes,
    random: Random,
    kinds: Kinds,
    mends: Vec<(Instant, Mend)>,
    /// Nodes that start.
    starting: Vec<(usize, JoinHandle<Process>)>,
    /// The bus or the database was broken last at this time. One at a time: together they may lose messages.
    quiet_since: Instant,
    /// Redis lost its data last at this time. No node is killed then, as none is while Redis is away: what the nodes save of
    /// the messages that were only there would be lost with them.
    emptied: Option<Instant>,
    /// Redis is away for long since this time.
    outage: Option<Instant>,
    begun: Instant,
    pub(crate) counts: Counts,
}

impl Faults {
    pub(crate) fn new(nodes: Nodes, seed: u64, kinds: Kinds) -> Self {
        Self {
            nodes,
            random: Random::new(seed),
            kinds,
            mends: Vec::new(),
            starting: Vec::new(),
            quiet_since: Instant::now(),
            emptied: None,
            outage: None,
            begun: Instant::now(),
            counts: Counts::default(),
        }
    }

    /// Breaks things until the end, then mends everything.
    pub(crate) async fn until(mut self, end: Instant) -> Self {
        while Instant::now() < end {
            self.mend(Instant::now()).await;
            self.fault();
            let pause = Duration::from_millis(50 + self.random.below(550) as u64);
            let pause_end = Instant::now() + pause;
            while Instant::now() < pause_end {
                sleep(Duration::from_millis(20)).await;
                self.mend(Instant::now()).await;
            }
        }
        self.mend(end + Duration::from_secs(3_600)).await;
        while !self.starting.is_empty() {
            sleep(Duration::from_millis(20)).await;
            self.mend(Instant::now()).await;
        }
        self
    }

    /// The cluster, which is whole again.
    pub(crate) fn into_nodes(self) -> (Nodes, Counts) {
        (self.nodes, self.counts)
    }

    fn note(&self, text: &str) {
        let at = Instant::now();
        if std::env::var_os("SLACKIR_CLUSTER_STORY").is_some() {
            eprintln!("{:7.3} {text}", (at - self.begun).as_secs_f64());
        }
    }

    async fn mend(&mut self, now: Instant) {
        let starting = std::mem::take(&mut self.starting);
        for (node, start) in starting {
            if start.is_finished() {
                let server = start.await.expect("the node starts");
                self.nodes.started(node, server);
                self.note(&format!("node {node} has started"));
            } else {
                self.starting.push((node, start));
            }
        }
        let (due, later): (Vec<_>, Vec<_>) = std::mem::take(&mut self.mends)
            .into_iter()
            .partition(|(at, _)| *at <= now);
        self.mends = later;
        for (_, mend) in due {
            match mend {
                Mend::WayToBus(node) => {
                    self.note(&format!("way of {node} to the bus mended"));
                    self.nodes.nodes[node].to_bus.cut(Cut::Whole);
                }
                Mend::AllWays => {
                    self.note("all nodes reach the bus");
                    for node in &self.nodes.nodes {
                        node.to_bus.cut(Cut::Whole);
                    }
                    self.quiet_since = Instant::now();
                    // The new runs are not in what it has kept.
                    self.emptied = Some(self.quiet_since);
                    self.outage = None;
                }
                Mend::WayToDatabase(node) => {
                    self.note(&format!("way of {node} to the database mended"));
                    self.nodes.nodes[node].to_database.cut(Cut::Whole);
                    self.quiet_since = Instant::now();
                }
                Mend::Node(node) => {
                    self.note(&format!("node {node} starts"));
                    let start = self.nodes.nodes[node].start();
                    self.starting.push((node, start));
                }
                Mend::Continue(node) => {
                    self.note(&format!("node {node} goes on"));
                    self.nodes.signal(node, "-CONT");
                }
                Mend::Bus => {
                    self.nodes.restart_bus();
                    self.note("the bus is back");
                    self.quiet_since = Instant::now();
                    self.emptied = Some(self.quiet_since);
                    self.outage = None;
                }
                Mend::Table(person) => {
                    drop(person);
                    self.note("the table is unlocked");
                    self.quiet_since = Instant::now();
                }
            }
        }
    }

    fn later(&mut self, millis: usize, mend: Mend) {
        let at = Instant::now() + Duration::from_millis(millis as u64);
        self.mends.push((at, mend));
    }

    fn is_pending(&self, which: impl Fn(&Mend) -> bool) -> bool {
        self.mends.iter().any(|(_, mend)| which(mend))
    }

    /// Whether the bus and the database have been whole for a while.
    fn is_quiet(&self) -> bool {
        let broken = |mend: &Mend| {
            matches!(
                mend,
                Mend::Bus | Mend::AllWays | Mend::Table(_) | Mend::WayToDatabase(_)
            )
        };
        !self.is_pending(broken) && self.quiet_since.elapsed() > QUIET
    }

    /// Does one of the faults that the test has. Some are rarer than others.
    fn fault(&mut self) {
        let node = self.random.below(self.nodes.nodes.len());
        let kinds = self.kinds;
        let ranges = [
            (kinds.cuts, 0..45),
            (kinds.nodes, 45..66),
            (kinds.bus, 66..78),
            (kinds.flushes, 78..88),
            (kinds.database, 88..100),
            (kinds.outages, 100..106),
        ];
        let choices = ranges.into_iter().filter(|(is_wanted, _)| *is_wanted);
        let choices: Vec<usize> = choices.flat_map(|(_, range)| range).collect();
        let choice = choices[self.random.below(choices.len())];
        let length = self.random.below(1_000);
        match choice {
            0..45 => self.cut(node, length),
            45..60 => self.kill(node, length),
            60..66 => self.stop(node),
            66..78 if self.is_quiet() && !self.is_node_down() => self.kill_bus(length),
            78..82 if self.is_quiet() && !self.is_node_down() => {
                self.counts.flushes += 1;
                let answer = self.nodes.tell_redis("FLUSHALL");
                self.note(&format!("FLUSHALL: {}", answer.trim()));
                self.quiet_since = Instant::now();
                self.emptied = Some(self.quiet_since);
            }
            82..88 => {
                self.counts.script_flushes += 1;
                let answer = self.nodes.tell_redis("SCRIPT FLUSH");
                self.note(&format!("SCRIPT FLUSH: {}", answer.trim()));
            }
            // A node that stands still may hold locks, and the lock of the table would wait for it.
            88..94 if self.is_quiet() && !self.is_node_down() => {
                self.counts.database += 1;
                self.note(&format!("the table is locked for {} ms", 2 * length));
                let blocks = || self.nodes.database.block_writes();
                let person = tokio::task::block_in_place(blocks);
                self.later(2 * length, Mend::Table(person));
            }
            94..100 if self.is_quiet() => {
                self.counts.database += 1;
                let cut = if length.is_multiple_of(2) {
                    Cut::Hang
                } else {
                    Cut::Reset
                };
                self.note(&format!(
                    "way of {node} to the database: {cut:?} for {} ms",
                    2 * length
                ));
                self.nodes.nodes[node].to_database.cut(cut);
                self.later(2 * length, Mend::WayToDatabase(node));
            }
            100..106 if self.is_quiet() && !self.is_node_down() => self.begin_outage(length),
            _ => {}
        }
    }

    fn cut(&mut self, node: usize, length: usize) {
        let is_cut = |mend: &Mend| match mend {
            Mend::WayToBus(cut) => *cut == node,
            mend => matches!(mend, Mend::AllWays),
        };
        if self.is_pending(is_cut) {
            return;
        }
        let cut = match self.random.below(6) {
            0 => Cut::Hang,
            1 => Cut::Reset,
            2 => Cut::HangOld,
            3 => Cut::Delay(Duration::from_millis(5 + length as u64 / 20)),
            4 => Cut::HangUp,
            _ => Cut::HangDown,
        };
        // Few are long.
        let millis = length * if self.random.below(8) == 0 { 8 } else { 3 };
        self.counts.cuts += 1;
        self.note(&format!(
            "way of {node} to the bus: {cut:?} for {millis} ms"
        ));
        self.nodes.nodes[node].to_bus.cut(cut);
        self.later(millis, Mend::WayToBus(node));
    }

    /// One node at least lives and is not stopped.
    fn is_node_down(&self) -> bool {
        let down = |mend: &Mend| matches!(mend, Mend::Node(_) | Mend::Continue(_));
        self.is_pending(down) || !self.starting.is_empty()
    }

    fn kill(&mut self, node: usize, length: usize) {
        // Once the database gives the order, nothing is in Redis alone.
        let is_away = match self.outage {
            Some(since) => since.elapsed() < MOVED,
            None => self.is_pending(|mend| matches!(mend, Mend::Bus)),
        };
        let bus_is_empty = is_away || self.emptied.is_some_and(|at| at.elapsed() <= QUIET);
        if self.is_node_down() || bus_is_empty || !self.nodes.runs(node) {
            return;
        }
        self.counts.kills += 1;
        self.note(&format!("node {node} is killed"));
        self.nodes.kill(node);
        self.later(2 * length, Mend::Node(node));
    }

    fn stop(&mut self, node: usize) {
        if self.is_node_down() || !self.nodes.runs(node) {
            return;
        }
        self.counts.stops += 1;
        self.note(&format!("node {node} stands still"));
        self.nodes.signal(node, "-STOP");
        self.later(3_000, Mend::Continue(node));
    }

    fn begin_outage(&mut self, length: usize) {
        self.counts.outages += 1;
        let millis = 9_000 + 6 * length;
        self.outage = Some(Instant::now());
        if length.is_multiple_of(2) {
            self.note(&format!("the bus is killed for {millis} ms"));
            self.nodes.kill_bus();
            return self.later(millis, Mend::Bus);
        }
        self.note(&format!("no node reaches the bus for {millis} ms"));
        self.mends
            .retain(|(_, mend)| !matches!(mend, Mend::WayToBus(_)));
        for node in &self.nodes.nodes {
            node.to_bus.cut(Cut::Reset);
        }
        self.later(millis, Mend::AllWays);
    }

    fn kill_bus(&mut self, length: usize) {
        self.counts.bus_kills += 1;
        self.note("the bus is killed");
        self.nodes.kill_bus();
        self.later(2 * length, Mend::Bus);
    }
}
