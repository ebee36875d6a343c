//! The end of a schedule: everything comes to rest, and the checks.

use std::collections::{BTreeMap, BTreeSet};

use super::super::Replica;
use super::topic::Place;
use super::world::{Member, NODES, Outcome, Segment, World};
use crate::cluster::NodeId;
use crate::log::Seq;

/// Rounds after which a world without faults must be at rest.
const MAX_ROUNDS: usize = 400;

impl World {
    /// Without further faults, everything that is under way comes to its end.
    pub(super) fn rest(&mut self) -> Result<(), String> {
        for at in 0..NODES {
            self.members.push(Member::default());
            self.join_later(at, self.members.len() - 1);
        }
        for round in 0..MAX_ROUNDS {
            if round % 20 == 0 {
                self.redis.expire_lock();
            }
            self.expire_dead();
            for at in 0..NODES {
                self.down_if_cut(at);
                self.rescue(at);
                self.connect(at);
                self.look(at);
            }
            for _ in 0..20 {
                self.execute();
                let at = self.random.below(NODES);
                self.reply(at);
                self.push(at);
                self.run_any();
            }
            if let Some(fault) = self.faults.pop() {
                return Err(fault);
            }
            if self.unrest().is_empty() {
                return Ok(());
            }
        }
        Err(format!("no rest: {}", self.unrest()))
    }

    /// What is not at its end.
    fn unrest(&self) -> String {
        let mut unrest = Vec::new();
        if !self.tasks.is_empty() {
            unrest.push(format!("{} tasks", self.tasks.len()));
        }
        let journal: Vec<_> = self.redis.journal().keys().map(|seq| seq.get()).collect();
        if !journal.is_empty() {
            unrest.push(format!("the journal has {journal:?}"));
        }
        for node in &self.nodes {
            let replica = node.replica.as_ref();
            if !node.pending.is_empty() {
                let pending: Vec<_> = node.pending.keys().collect();
                unrest.push(format!("node {} waits for {pending:?}", node.id));
            }
            if !replica
                .is_some_and(|replica| replica.is_live() && replica.shown() == self.redis.head())
            {
                let shown = replica.and_then(Replica::shown);
                let head = self.redis.head();
                unrest.push(format!("node {} has {shown:?} of {head:?}", node.id));
            }
            if node.members.values().any(|place| *place != Place::Live) {
                unrest.push(format!("node {} lets members wait", node.id));
            }
        }
        unrest.join("; ")
    }

    pub(super) fn check(&mut self) -> Result<(), String> {
        self.check_runs()?;
        self.check_stored()?;
        let alive: Vec<_> = self
            .nodes
            .iter()
            .flat_map(|node| node.members.keys())
            .collect();
        if alive.len() != self.members.len() {
            return Err("a member is lost".to_owned());
        }
        for (at, member) in self.members.iter().enumerate() {
            for (number, segment) in member.segments.iter().enumerate() {
                let is_last = number + 1 == member.segments.len();
                let head = self.redis.head().filter(|_| is_last);
                let end = head.unwrap_or(segment.last());
                self.check_segment(segment, end.seq)
                    .map_err(|fault| format!("member {at}: {fault}"))?;
            }
        }
        Ok(())
    }

    /// A process of Redis has one run, unless it comes back from a dump.
    fn check_runs(&self) -> Result<(), String> {
        if self.redis.dumps_return {
            return Ok(());
        }
        let mut runs = BTreeMap::new();
        for (run, process) in &self.redis.begun {
            if let Some(other) = runs.insert(process, run) {
                return Err(format!("process {process} has the runs {other} and {run}"));
            }
        }
        Ok(())
    }

    /// What was seen or answered is stored, unless all who knew it died together with Redis.
    fn check_stored(&mut self) -> Result<(), String> {
        let alive: BTreeSet<_> = self.nodes.iter().map(|node| node.id).collect();
        let excused = |node: &NodeId| self.stats.restarts > 0 && !alive.contains(node);
        for (node, id, text) in &self.seen {
            if !self.database.has(*text) && !excused(node) {
                return Err(format!(
                    "{text} was seen as {id} on node {node} and is not stored"
                ));
            }
        }
        for (text, (node, outcome)) in &self.outcomes {
            match outcome {
                Outcome::Unconfirmed if self.stats.restarts + self.stats.lapses == 0 => {
                    return Err(format!("{text} was answered as unconfirmed"));
                }
                Outcome::Unconfirmed => self.stats.unconfirmed += 1,
                Outcome::Stored(id) if !self.database.has(*text) && !excused(node) => {
                    return Err(format!("{text} was answered as {id} and is not stored"));
                }
                Outcome::Stored(_) => {}
            }
        }
        Ok(())
    }

    /// The member has all rows of the segment and nothing else.
    fn check_segment(&self, segment: &Segment, end: Seq) -> Result<(), String> {
        let mut texts = BTreeSet::new();
        let heard: BTreeMap<_, _> = segment
            .heard
            .iter()
            .map(|(id, text)| (id.seq, *text))
            .collect();
        if let Some((_, text)) = segment.heard.iter().find(|(_, text)| !texts.insert(*text)) {
            return Err(format!("{text} came twice"));
        }
        for (seq, text) in &self.database.rows {
            let inside = segment.start.seq < *seq && *seq <= end;
            match heard.get(seq) {
                None if inside => return Err(format!("a gap at {seq} ({text})")),
                Some(other) if other != text => {
                    return Err(format!("{other} instead of {text} at {seq}"));
                }
                _ => {}
            }
        }
        Ok(())
    }
}
