//! The schedule of one seed: three nodes, their members, and faults.

use std::collections::BTreeMap;
use std::mem;
use std::time::Duration;

use super::super::Limits;
use super::Broken;
use super::model::{Command, Database, Random, Redis};
use super::node::Node;
use super::topic::{Task, Work};
use crate::cluster::NodeId;
use crate::log::MessageId;

/// The nodes. A new one takes the place of one that dies.
pub(super) const NODES: usize = 3;
const MEMBERS: usize = 5;

/// What a publisher was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Stored(MessageId),
    Unconfirmed,
}

/// A client. It comes back to any node with its last id.
#[derive(Default)]
pub(super) struct Member {
    pub(super) segments: Vec<Segment>,
}

/// What a member got without a gap.
pub(super) struct Segment {
    /// The last message before.
    pub(super) start: MessageId,
    pub(super) heard: Vec<(MessageId, u32)>,
}

impl Segment {
    pub(super) fn last(&self) -> MessageId {
        self.heard.last().map_or(self.start, |(id, _)| *id)
    }
}

impl Member {
    /// The last message that the client has.
    pub(super) fn last(&self) -> Option<MessageId> {
        self.segments.last().map(Segment::last)
    }

    /// The client gets no messages before this one's successor, but a history.
    pub(super) fn begin(&mut self, start: MessageId) {
        let heard = Vec::new();
        self.segments.push(Segment { start, heard });
    }
}

/// Counts over all schedules.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stats {
    pub(super) published: usize,
    pub(super) stored: usize,
    pub(super) unconfirmed: usize,
    pub(super) resumes: usize,
    pub(super) resets: usize,
    pub(super) cuts: usize,
    pub(super) deaths: usize,
    pub(super) restarts: usize,
    pub(super) lapses: usize,
}

impl Stats {
    pub(super) fn add(&mut self, other: Self) {
        self.published += other.published;
        self.stored += other.stored;
        self.unconfirmed += other.unconfirmed;
        self.resumes += other.resumes;
        self.resets += other.resets;
        self.cuts += other.cuts;
        self.deaths += other.deaths;
        self.restarts += other.restarts;
        self.lapses += other.lapses;
    }
}

/// The kinds of faults in one schedule.
struct Plan {
    steps: usize,
    cuts: bool,
    deaths: bool,
    restarts: bool,
    /// How slow commits are.
    commit_in: usize,
}

/// Everything. Work of a node that is under way is either in a connection of Redis or a task.
pub(super) struct World {
    pub(super) random: Random,
    broken: Option<Broken>,
    plan: Plan,
    pub(super) limits: Limits,
    pub(super) page_len: usize,
    pub(super) now: Duration,
    pub(super) redis: Redis,
    pub(super) database: Database,
    pub(super) nodes: Vec<Node>,
    names: u64,
    /// Dead nodes, with the connections on which commands may be under way.
    dead: BTreeMap<NodeId, Vec<u32>>,
    pub(super) members: Vec<Member>,
    pub(super) tasks: Vec<Task>,
    /// The number of attempts to join.
    pub(super) joins: u32,
    texts: u32,
    /// By text: the author, and what it was told.
    pub(super) outcomes: BTreeMap<u32, (NodeId, Outcome)>,
    /// Messages that members may have got, by node.
    pub(super) seen: Vec<(NodeId, MessageId, u32)>,
    /// What went wrong.
    pub(super) faults: Vec<String>,
    pub(super) stats: Stats,
}

impl World {
    fn new(seed: u64, broken: Option<Broken>) -> Self {
        let mut random = Random(seed);
        let plan = Plan {
            steps: 100 + random.below(1_000),
            cuts: !random.one_in(5),
            deaths: random.one_in(2),
            restarts: random.one_in(2),
            commit_in: [1, 3, 10][random.below(3)],
        };
        let limits = Limits {
            resume: [4, 30, 1_000][random.below(3)],
            buffer: [2, 1_000][random.below(2)],
        };
        let page_len = 1 + random.below(6);
        let mut redis = Redis::default();
        redis.dumps_return = broken == Some(Broken::OneKeyForever);
        redis.begins_blindly = broken == Some(Broken::BlindBegin);
        let mut world = Self {
            random,
            broken,
            plan,
            limits,
            page_len,
            now: Duration::ZERO,
            redis,
            database: Database::default(),
            nodes: Vec::new(),
            names: 0,
            dead: BTreeMap::new(),
            members: Vec::new(),
            tasks: Vec::new(),
            joins: 0,
            texts: 0,
            outcomes: BTreeMap::new(),
            seen: Vec::new(),
            faults: Vec::new(),
            stats: Stats::default(),
        };
        for _ in 0..NODES {
            let node = world.new_node();
            world.nodes.push(node);
        }
        world.members.resize_with(MEMBERS, Member::default);
        // One node, or all, have members from the start.
        let spread = if world.random.one_in(2) { 1 } else { NODES };
        for member in 0..MEMBERS {
            world.join_later(member % spread, member);
        }
        world
    }

    /// Runs one schedule. The error says what went wrong.
    pub(super) fn run_seed(seed: u64, broken: Option<Broken>) -> Result<Stats, String> {
        let mut world = Self::new(seed, broken);
        for _ in 0..world.plan.steps {
            world.step();
            if let Some(fault) = world.faults.pop() {
                return Err(fault);
            }
        }
        world.rest()?;
        world.check()?;
        world.stats.stored = world.database.rows.len();
        Ok(world.stats)
    }

    pub(super) fn breaks(&self, rule: Broken) -> bool {
        self.broken == Some(rule)
    }

    fn new_node(&mut self) -> Node {
        self.names += 1;
        Node::new(NodeId::new(self.names), self.redis.process)
    }

    pub(super) fn new_text(&mut self) -> u32 {
        self.texts += 1;
        self.stats.published += 1;
        self.texts
    }

    fn step(&mut self) {
        self.now += Duration::from_millis(1);
        let at = self.random.below(NODES);
        match self.random.below(200) {
            0..149 => self.progress(at),
            149 => drop(self.command(at, Command::Take)),
            150..166 => self.publish(at),
            166..178 => self.move_any(at),
            178..180 => self.detach(at),
            180..183 => self.look(at),
            183..187 => self.down_if_cut(at),
            187..190 => self.rescue(at),
            190..195 => self.connect(at),
            195..197 if self.plan.cuts => self.cut(at),
            197 if self.plan.deaths && self.random.one_in(2) => self.die(at),
            198 if self.plan.restarts && self.random.one_in(2) => self.restart(),
            199 => self.expire(at),
            _ => {}
        }
    }

    /// Something that is under way comes a little further.
    fn progress(&mut self, at: usize) {
        let kind = self.random.below(4);
        for _ in 0..=self.random.below(4) {
            match kind {
                0 => self.execute(),
                1 => self.reply(at),
                2 => self.push(at),
                _ => self.run_any(),
            }
        }
    }

    pub(super) fn execute(&mut self) {
        let count = self.redis.connections.len();
        if count > 0 {
            let any = self.random.below(count);
            let number = *self.redis.connections.keys().nth(any).unwrap();
            self.redis.execute(number, &mut self.random);
        }
    }

    /// Some task is done; a commit perhaps not yet.
    pub(super) fn run_any(&mut self) {
        if !self.tasks.is_empty() {
            let any = self.random.below(self.tasks.len());
            let commits = matches!(self.tasks[any].work, Work::Insert { .. });
            if !commits || self.random.one_in(self.plan.commit_in) {
                let task = self.tasks.swap_remove(any);
                self.run(task);
            }
        }
    }

    fn is_cut(&self, at: usize) -> bool {
        let number = self.nodes[at].connection;
        number.is_some_and(|number| self.redis.connections[&number].is_cut())
    }

    pub(super) fn down_if_cut(&mut self, at: usize) {
        if self.is_cut(at) {
            self.down(at);
        }
    }

    /// After a change of process, nobody uses the topic before every node has noticed it, and has stored
    /// what it has of the old run: this is what nodes pause for.
    pub(super) fn connect(&mut self, at: usize) {
        let process = self.redis.process;
        let is_old =
            |task: &Task| matches!(task.work, Work::Insert { process: of, .. } if of != process);
        let all_know = self.nodes.iter().all(|node| node.rescued == process);
        let settled = all_know && !self.tasks.iter().any(is_old);
        let ready = settled || self.breaks(Broken::NoPause);
        let node = &self.nodes[at];
        if node.connection.is_none() && node.rescued == process && ready {
            self.up(at);
        }
    }

    fn cut(&mut self, at: usize) {
        let Some(number) = self.nodes[at].connection else {
            return;
        };
        self.stats.cuts += 1;
        let which = self.random.below(3);
        if let Some(connection) = self.redis.connections.get_mut(&number) {
            if which != 0 {
                connection.cut_replies(&mut self.random);
            }
            if which != 1 {
                connection.cut_pushes(&mut self.random);
            }
        }
    }

    fn die(&mut self, at: usize) {
        self.stats.deaths += 1;
        self.down(at);
        let new = self.new_node();
        let dead = mem::replace(&mut self.nodes[at], new);
        self.tasks.retain(|task| task.node != dead.id);
        self.dead.insert(dead.id, dead.connections());
        self.move_members(dead.members.into_keys());
    }

    fn restart(&mut self) {
        let process = self.redis.process;
        if self.nodes.iter().all(|node| node.rescued == process) {
            self.stats.restarts += 1;
            self.redis.restart(&mut self.random);
        }
    }

    /// Something runs out: a liveness key, or the right to open a run. Or Redis is dumped.
    fn expire(&mut self, at: usize) {
        match self.random.below(4) {
            0 => self.redis.expire_lock(),
            1 => self.redis.dump(),
            2 => self.expire_dead(),
            _ => {
                let node = &self.nodes[at];
                if node.connection.is_none() || self.is_cut(at) {
                    self.stats.lapses += 1;
                    self.redis.alive.remove(&node.id);
                }
            }
        }
    }

    /// Liveness keys outlive what a dead node has sent.
    pub(super) fn expire_dead(&mut self) {
        for (node, connections) in &self.dead {
            let connections = connections.iter();
            let mut open = connections.filter_map(|number| self.redis.connections.get(number));
            if open.all(|connection| connection.commands.is_empty()) {
                self.redis.alive.remove(node);
            }
        }
    }

    /// Some members come back, to any nodes.
    pub(super) fn move_members(&mut self, members: impl IntoIterator<Item = usize>) {
        for member in members {
            let to = self.random.below(NODES);
            self.join_later(to, member);
        }
    }

    fn move_any(&mut self, at: usize) {
        let members = &self.nodes[at].members;
        if !members.is_empty() {
            let any = self.random.below(members.len());
            let member = members.keys().nth(any).copied();
            self.nodes[at].members.remove(&member.unwrap());
            self.move_members(member);
        }
    }

    pub(super) fn hear(&mut self, member: usize, id: MessageId, text: u32) {
        let Some(segment) = self.members[member].segments.last_mut() else {
            return;
        };
        if segment.last().seq >= id.seq {
            let last = segment.last();
            self.faults
                .push(format!("member {member} gets {id} after {last}"));
        }
        segment.heard.push((id, text));
    }
}
