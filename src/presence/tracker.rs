//! [`Tracker`]: the protocol by which nodes keep their presences equal. Pure: no I/O, no actor; the time is an
//! argument.
//!
//! A node tells all others of its own changes: within 50 ms, as [`Message::Changes`]. Every 1.5 s it sends a
//! heartbeat with the clock of its last change in each set. A node that has missed changes sees that by a clock, or
//! by a gap in the changes that arrived, and asks their author for all that it has. Phoenix: `Phoenix.Tracker`.
//!
//! **A node is down** after 10 s of silence. Only time during which this node hears its own heartbeats counts:
//! messages to all nodes come back to their author. So nobody is lost while the bus is away from everybody, or from
//! this node. A node that is down is hidden; after 20 minutes it is forgotten.
//!
//! **A restart** under the same name replaces the old run at once, if that has not stopped in order.
//!
//! **A node that stops in order** says so, then sends its clients away. It goes on telling of changes, but the
//! presences of ended channels stay ([`Message::Ended`]). Each goes in the diff in which its key joins on another
//! node, or after 10 s.

mod peer;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

pub(super) use self::peer::replica;
use self::peer::{Peer, Status};
use super::shared::{Diff, SHARDS, State};
use super::state::{Clock, Replica};
use super::wire::{self, Heartbeat, Malformed, Message, Record, SETS};
use crate::cluster::NodeId;

/// How often changes are sent at most; the step of all that is done bit by bit.
pub(super) const STEP: Duration = Duration::from_millis(50);
/// How often numbers of keys are sent at most.
const NUMBERS: Duration = Duration::from_millis(500);
const HEARTBEAT: Duration = Duration::from_millis(1_500);
const SILENCE: Duration = Duration::from_secs(10);
const FORGOTTEN: Duration = Duration::from_secs(20 * 60);
/// After that many entries of answers, the next answer waits for the next step.
const ENTRIES_A_STEP: usize = 4_000;

/// The sets of one node, each behind its lock.
pub(super) trait Sets {
    /// Runs a change of a set, and tells the members of its diff, in one critical section.
    fn with<T>(&self, set: usize, change: impl FnOnce(&mut State) -> (Diff, T)) -> T;
    /// The name of a topic, shared with its presences if the set has some.
    fn topic(&self, set: usize, topic: &str) -> Arc<str>;
    /// Writes the numbers of keys that have changed into a set of numbers.
    fn renumber(&self, set: usize);
    /// Removes the presences that were kept for too long.
    fn end_overdue(&self, now: Duration);
}

/// A message to all nodes, or to one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outgoing {
    pub(super) to: Option<NodeId>,
    pub(super) message: Bytes,
}

/// What an operator may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// A node was heard, for the first time or again.
    Up(Arc<str>),
    /// A node was silent for too long, or is forgotten.
    Down(Arc<str>),
    /// Another node that runs has this node's name.
    NameTaken(Arc<str>),
}

/// Rules that tests break, to see what they are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    Echo,
    Grace,
    Incarnation,
    Transfer,
}

pub(super) struct Tracker {
    me: NodeId,
    replica: Replica,
    name: Arc<str>,
    peers: Vec<Peer>,
    /// For each set, the clock of the last change that was sent.
    sent: [Clock; SETS],
    /// `None` while the bus is down.
    bus: Option<Bus>,
    /// The time during which this node heard itself.
    alive: Duration,
    leaving: bool,
    met_namesake: bool,
    /// Peers whose presences are to be shown, hidden or removed, by shard.
    work: VecDeque<(NodeId, usize)>,
    /// Nodes that have asked for all of a set.
    answers: VecDeque<(NodeId, usize)>,
    out: Vec<Outgoing>,
    notices: Vec<Notice>,
    #[cfg(test)]
    pub(super) broken: Option<Rule>,
}

/// The times of a connection with the bus.
struct Bus {
    /// When this node heard its own heartbeat last.
    echoed: Option<Duration>,
    heartbeat_due: Duration,
    changes_due: Duration,
    numbers_due: Duration,
}

impl Tracker {
    /// `replica` is this run of the node as the sets know it. `name` is that of all of its runs.
    pub(super) fn new(me: NodeId, replica: Replica, name: &str) -> Self {
        Self {
            me,
            replica,
            name: name.into(),
            peers: Vec::new(),
            sent: [0; SETS],
            bus: None,
            alive: Duration::ZERO,
            leaving: false,
            met_namesake: false,
            work: VecDeque::new(),
            answers: VecDeque::new(),
            out: Vec::new(),
            notices: Vec::new(),
            #[cfg(test)]
            broken: None,
        }
    }

    /// The messages to send since the last call, in order.
    pub(super) fn take_outgoing(&mut self) -> Vec<Outgoing> {
        std::mem::take(&mut self.out)
    }

    pub(super) fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// The bus is there, for the first time or again. Each peer has the whole time to be heard.
    pub(super) fn up(&mut self, now: Duration, sets: &impl Sets) {
        self.bus = Some(Bus {
            echoed: None,
            heartbeat_due: now + HEARTBEAT,
            changes_due: now,
            numbers_due: now,
        });
        for peer in &mut self.peers {
            peer.heard = self.alive;
        }
        self.heartbeat(None, true);
        self.flush(now, sets);
    }

    /// The bus is gone. Changes are kept until it is up again.
    pub(super) fn down(&mut self) {
        self.bus = None;
        self.answers.clear();
    }

    /// This node stops in order; its channels end after this.
    pub(super) fn leave(&mut self, now: Duration, sets: &impl Sets) {
        self.leaving = true;
        self.flush(now, sets);
        if self.bus.is_some() {
            self.heartbeat(None, false);
        }
    }

    /// Does what is due. Call it every [`STEP`].
    pub(super) fn tick(&mut self, now: Duration, sets: &impl Sets) {
        if self.leaving {
            sets.end_overdue(now);
        }
        self.watch(now);
        self.work(sets);
        let Some(bus) = &mut self.bus else {
            return;
        };
        let numbers = now >= bus.numbers_due;
        let changes = now >= bus.changes_due;
        let heartbeat = now >= bus.heartbeat_due;
        if changes {
            bus.changes_due = now + STEP;
        }
        if numbers {
            bus.numbers_due = now + NUMBERS;
        }
        if heartbeat {
            bus.heartbeat_due = now + HEARTBEAT;
        }
        if changes {
            self.send_changes(0..SHARDS, sets);
        }
        if numbers {
            self.send_changes(SHARDS..SETS, sets);
        }
        if heartbeat {
            self.heartbeat(None, false);
        }
        self.request_gaps(now);
        self.answer(sets);
    }

    /// Sends all changes now.
    pub(super) fn flush(&mut self, now: Duration, sets: &impl Sets) {
        if let Some(bus) = &mut self.bus {
            bus.changes_due = now + STEP;
            bus.numbers_due = now + NUMBERS;
            self.send_changes(0..SETS, sets);
        }
    }

    /// A message of a node, of this one, too.
    pub(super) fn heard(
        &mut self,
        now: Duration,
        from: NodeId,
        bytes: &[u8],
        sets: &impl Sets,
    ) -> Result<(), Malformed> {
        if from == self.me {
            let message = wire::decode(bytes, |_, topic| topic.into())?;
            if let Some(Message::Heartbeat(_)) = message {
                self.echoed(now);
            }
            return Ok(());
        }
        let Some(message) = wire::decode(bytes, |set, topic| sets.topic(set, topic))? else {
            return Ok(());
        };
        if let Message::Heartbeat(heartbeat) = &message {
            self.heard_heartbeat(now, from, heartbeat, sets);
            return Ok(());
        }
        let alive = self.alive;
        let peer = self.peers.iter_mut().find(|peer| peer.node == from);
        // Without a heartbeat nothing is known of a node; it has sent one before, or will.
        let Some(peer) = peer.filter(|peer| peer.status != Status::Gone) else {
            return Ok(());
        };
        peer.heard = alive;
        match message {
            Message::Changes { set, record } => {
                let delta = [(peer.replica.clone(), record)].into();
                let known = sets.with(set, |state| {
                    let diff = state.merge(&delta);
                    (diff, state.known_of(&peer.replica))
                });
                peer.sets[set].learn(known, now);
            }
            Message::Ended { set, clocks } => sets.with(set, |state| {
                state.ended(&peer.replica, &clocks);
                (Diff::new(), ())
            }),
            Message::Request { sets } => {
                for set in sets {
                    if !self.answers.contains(&(from, set)) {
                        self.answers.push_back((from, set));
                    }
                }
            }
            Message::Heartbeat(_) => {}
        }
        Ok(())
    }

    /// This node's heartbeat has come back: it hears what others say.
    fn echoed(&mut self, now: Duration) {
        if let Some(bus) = &mut self.bus {
            if let Some(last) = bus.echoed {
                self.alive += now.saturating_sub(last).min(2 * HEARTBEAT);
            }
            bus.echoed = Some(now);
        }
    }

    fn heard_heartbeat(
        &mut self,
        now: Duration,
        from: NodeId,
        heartbeat: &Heartbeat,
        sets: &impl Sets,
    ) {
        let Some(at) = self.meet(from, heartbeat, sets) else {
            return;
        };
        let peer = &mut self.peers[at];
        peer.heard = self.alive;
        let was_down = matches!(peer.status, Status::Down { .. });
        peer.status = match heartbeat.leaving {
            true => Status::Leaving,
            false => Status::Up,
        };
        let behind = peer.compare(&heartbeat.clocks, now);
        if was_down {
            self.notices.push(Notice::Up(peer.name.clone()));
            self.see_to(from);
        }
        if heartbeat.hello {
            self.heartbeat(Some(from), false);
        }
        self.request(from, &behind);
    }

    /// The peer that sent a heartbeat. `None`: an old run of a node whose new run is here.
    fn meet(&mut self, from: NodeId, heartbeat: &Heartbeat, sets: &impl Sets) -> Option<usize> {
        if let Some(at) = self.peers.iter().position(|peer| peer.node == from) {
            return (self.peers[at].status != Status::Gone).then_some(at);
        }
        if heartbeat.name == self.name && !heartbeat.leaving {
            self.meet_namesake();
            if heartbeat.incarnation < self.replica.incarnation {
                return None;
            }
        }
        let mut replaced = Vec::new();
        for peer in &mut self.peers {
            if peer.name != heartbeat.name {
                continue;
            }
            match peer.status {
                Status::Up if peer.replica.incarnation > heartbeat.incarnation => return None,
                Status::Up | Status::Down { .. } => replaced.push(peer.node),
                // Its presences wait for their successors, on this new run for example.
                Status::Leaving | Status::Gone => {}
            }
        }
        if !self.breaks(Rule::Incarnation) {
            replaced.into_iter().for_each(|node| self.forget(node));
        }
        let peer = Peer::new(from, heartbeat, self.alive);
        self.notices.push(Notice::Up(peer.name.clone()));
        for set in 0..SETS {
            sets.with(set, |state| (state.replica_up(&peer.replica), ()));
        }
        self.peers.push(peer);
        if !heartbeat.hello {
            self.heartbeat(Some(from), false);
        }
        Some(self.peers.len() - 1)
    }

    /// A node that runs has this node's name. It may be the next run of a node that stops; else it is told once.
    fn meet_namesake(&mut self) {
        if !self.leaving && !std::mem::replace(&mut self.met_namesake, true) {
            self.notices.push(Notice::NameTaken(self.name.clone()));
        }
    }

    /// Finds the peers that have been silent for too long.
    fn watch(&mut self, now: Duration) {
        if self.breaks(Rule::Echo) {
            self.alive = now;
        }
        let mut changed = Vec::new();
        for peer in &mut self.peers {
            let is_silent = self.alive.saturating_sub(peer.heard) > SILENCE;
            peer.status = match peer.status {
                Status::Up if is_silent => Status::Down { since: now },
                Status::Leaving if is_silent => Status::Gone,
                Status::Down { since } if now.saturating_sub(since) > FORGOTTEN => Status::Gone,
                _ => continue,
            };
            changed.push((peer.node, Notice::Down(Arc::clone(&peer.name))));
        }
        for (node, notice) in changed {
            self.notices.push(notice);
            self.see_to(node);
        }
    }

    fn forget(&mut self, node: NodeId) {
        if let Some(peer) = self.peers.iter_mut().find(|peer| peer.node == node) {
            peer.status = Status::Gone;
            self.see_to(node);
        }
    }

    /// The status of a peer has changed: its presences are shown or hidden, a shard in each step.
    fn see_to(&mut self, node: NodeId) {
        self.work.extend((0..SHARDS).map(|shard| (node, shard)));
    }

    fn work(&mut self, sets: &impl Sets) {
        while let Some((node, shard)) = self.work.pop_front() {
            let Some(at) = self.peers.iter().position(|peer| peer.node == node) else {
                continue;
            };
            let peer = &mut self.peers[at];
            for set in [shard, shard + SHARDS] {
                sets.with(set, |state| {
                    let diff = match peer.status {
                        Status::Up | Status::Leaving => state.replica_up(&peer.replica),
                        Status::Down { .. } => state.replica_down(&peer.replica),
                        Status::Gone => state.remove_replica(&peer.replica),
                    };
                    (diff, ())
                });
            }
            if peer.status == Status::Gone && peer.remove(shard) {
                self.peers.remove(at);
            }
            return;
        }
    }

    fn send_changes(&mut self, which: Range<usize>, sets: &impl Sets) {
        for set in which {
            if set >= SHARDS {
                sets.renumber(set);
            }
            let (delta, ended) = sets.with(set, |state| {
                let taken = (state.take_delta(), state.take_ended());
                (Diff::new(), taken)
            });
            for record in delta.iter().flat_map(|delta| delta.values()) {
                self.sent[set] = record.seen.last();
                self.send_record(None, set, record);
            }
            let ended = wire::ended(set, &ended);
            self.out
                .extend(ended.map(|message| Outgoing { to: None, message }));
        }
    }

    fn send_record(&mut self, to: Option<NodeId>, set: usize, record: &Record) {
        let messages = wire::changes(set, record).into_iter();
        self.out
            .extend(messages.map(|message| Outgoing { to, message }));
    }

    fn heartbeat(&mut self, to: Option<NodeId>, hello: bool) {
        let heartbeat = Heartbeat {
            name: self.name.clone(),
            incarnation: self.replica.incarnation,
            leaving: self.leaving,
            hello,
            clocks: self.sent,
        };
        let message = heartbeat.encode();
        self.out.push(Outgoing { to, message });
    }

    /// Asks for what did not arrive in time.
    fn request_gaps(&mut self, now: Duration) {
        let peers = self.peers.iter_mut();
        let requests: Vec<_> = peers.map(|peer| (peer.node, peer.gaps(now))).collect();
        for (node, gaps) in requests {
            self.request(node, &gaps);
        }
    }

    fn request(&mut self, node: NodeId, sets: &[usize]) {
        if !sets.is_empty() && self.bus.is_some() && !self.breaks(Rule::Transfer) {
            let message = wire::request(sets);
            let to = Some(node);
            self.out.push(Outgoing { to, message });
        }
    }

    /// Answers requests, some in each step.
    fn answer(&mut self, sets: &impl Sets) {
        let mut entries = 0;
        while entries < ENTRIES_A_STEP
            && let Some((node, set)) = self.answers.pop_front()
        {
            let me = &self.replica;
            let all = sets.with(set, |state| {
                (Diff::new(), state.extract(|replica| replica == me))
            });
            for record in all.values() {
                entries += record.present.len();
                self.send_record(Some(node), set, record);
            }
        }
    }

    /// Whether a test breaks the rule.
    #[cfg(test)]
    pub(super) fn breaks(&self, rule: Rule) -> bool {
        self.broken == Some(rule)
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "tests look into the tracker")]
    pub(super) fn breaks(&self, _: Rule) -> bool {
        false
    }
}
