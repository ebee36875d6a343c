//! A model of a node: its state, and its adapter of Redis.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{Position, Replica};
use super::Broken;
use super::model::{Command, Connection, Msg, Push, Reader, Reply};
use super::topic::Place;
use super::world::{Outcome, World};
use crate::cluster::NodeId;
use crate::log::{MessageId, Seq};

/// A publish whose publisher waits.
#[derive(Clone, Copy)]
pub(super) struct Pending {
    msg: Msg,
    /// It was sent, and the answer is not known to be "no run".
    sent: bool,
    /// The node's liveness key ran out since it was sent: others may have stored the message.
    lapsed: bool,
    /// Redis has answered.
    taken: Option<MessageId>,
}

/// One process of a node.
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) replica: Option<Replica<Msg>>,
    /// The number of replicas so far.
    pub(super) replicas: u64,
    pub(super) connection: Option<u32>,
    former_connection: Option<u32>,
    /// The process of Redis to which it was connected last.
    pub(super) process: u32,
    /// It has rescued the messages of all processes before this one.
    pub(super) rescued: u32,
    nonce: u64,
    pub(super) pending: BTreeMap<u64, Pending>,
    /// Own messages that were handed to the writer.
    pub(super) own: BTreeSet<Seq>,
    /// Stored messages whose deletion from the journal is not confirmed.
    pub(super) clearing: BTreeSet<Seq>,
    pub(super) watched: BTreeSet<NodeId>,
    pub(super) heard: BTreeSet<NodeId>,
    /// The messages that were shown after the floor.
    pub(super) tail: BTreeMap<Seq, (MessageId, Msg)>,
    pub(super) floor: Seq,
    /// The members, live or joining.
    pub(super) members: BTreeMap<usize, Place>,
    /// Rows that were read before the position: the rule is broken.
    pub(super) early: Vec<(MessageId, Msg)>,
}

impl Node {
    pub(super) fn new(id: NodeId, process: u32) -> Self {
        Self {
            id,
            replica: None,
            replicas: 0,
            connection: None,
            former_connection: None,
            process,
            rescued: process,
            nonce: 0,
            pending: BTreeMap::new(),
            own: BTreeSet::new(),
            clearing: BTreeSet::new(),
            watched: BTreeSet::new(),
            heard: BTreeSet::new(),
            tail: BTreeMap::new(),
            floor: Seq::ZERO,
            members: BTreeMap::new(),
            early: Vec::new(),
        }
    }

    /// Own messages that Redis has taken, and whose publishers wait.
    pub(super) fn taken(&self) -> Vec<(MessageId, Msg)> {
        let pending = self.pending.values();
        pending
            .filter_map(|pending| Some((pending.taken?, pending.msg)))
            .collect()
    }

    /// The publisher waits no longer. Returns the message's text.
    pub(super) fn answer(&mut self, nonce: u64) -> Option<u32> {
        Some(self.pending.remove(&nonce)?.msg.text)
    }

    pub(super) fn shown(&self) -> Option<MessageId> {
        self.replica.as_ref()?.shown()
    }

    /// The connections on which commands may be under way.
    pub(super) fn connections(&self) -> Vec<u32> {
        self.connection
            .into_iter()
            .chain(self.former_connection)
            .collect()
    }
}

/// The adapter of Redis.
impl World {
    pub(super) fn publish(&mut self, at: usize) {
        let text = self.new_text();
        let node = &mut self.nodes[at];
        node.nonce += 1;
        let nonce = node.nonce;
        let msg = Msg {
            author: Some(node.id),
            nonce,
            text,
        };
        let pending = Pending {
            msg,
            sent: false,
            lapsed: false,
            taken: None,
        };
        node.pending.insert(nonce, pending);
        self.send_publish(at, nonce);
    }

    fn send_publish(&mut self, at: usize, nonce: u64) {
        let node = &mut self.nodes[at];
        let connected = node.connection.is_some();
        if let Some(pending) = node.pending.get_mut(&nonce)
            && connected
        {
            pending.sent = true;
            let msg = pending.msg;
            self.command(at, Command::Publish(msg));
        }
    }

    pub(super) fn connection(&mut self, at: usize) -> Option<&mut Connection> {
        let number = self.nodes[at].connection?;
        self.redis.connections.get_mut(&number)
    }

    pub(super) fn subscribe(&mut self, at: usize) {
        let Some(connection) = self.connection(at) else {
            return;
        };
        connection.subscribing = !connection.pushes_cut;
        if self.breaks(Broken::ReadFirst) {
            self.tell(at, |replica, _, out| replica.attached(out));
        }
    }

    /// Sends a command; false if there is no connection.
    pub(super) fn command(&mut self, at: usize, command: Command) -> bool {
        let connection = self.connection(at);
        let sent = connection.map(|connection| connection.commands.push_back(command));
        sent.is_some()
    }

    /// The node notices that a connection is lost, and closes both.
    pub(super) fn down(&mut self, at: usize) {
        let now = self.now;
        let node = &mut self.nodes[at];
        let Some(number) = node.connection.take() else {
            return;
        };
        node.former_connection = Some(number);
        if let Some(connection) = self.redis.connections.get_mut(&number) {
            connection.cut_replies(&mut self.random);
            connection.cut_pushes(&mut self.random);
        }
        if let Some(replica) = &mut node.replica {
            replica.down(now);
        }
        let joining = node
            .members
            .iter()
            .filter(|(_, place)| **place != Place::Live);
        for member in joining.map(|(member, _)| *member).collect::<Vec<_>>() {
            self.join_later(at, member);
        }
    }

    /// The node learns that Redis is another process.
    pub(super) fn rescue(&mut self, at: usize) {
        let process = self.redis.process;
        let node = &mut self.nodes[at];
        if node.rescued == process || node.connection.is_some() {
            return;
        }
        node.rescued = process;
        let seen = node
            .replica
            .as_mut()
            .map(Replica::rescue)
            .unwrap_or_default();
        if !self.breaks(Broken::NoRescue) {
            for (id, msg) in seen {
                self.insert(at, id.seq, msg.text, false);
            }
        }
        for (nonce, pending) in self.nodes[at].pending.clone() {
            match pending.taken {
                Some(id) => self.settle(at, id, pending.msg),
                None if pending.sent => self.answer(at, nonce, Outcome::Unconfirmed),
                None => {}
            }
        }
        self.nodes[at].clearing.clear();
    }

    /// Both connections stand.
    pub(super) fn up(&mut self, at: usize) {
        let number = self.redis.connect();
        let kills = !self.breaks(Broken::NoKill);
        let node = &mut self.nodes[at];
        if let Some(former) = node.former_connection.take_if(|_| kills) {
            self.redis.connections.remove(&former);
        }
        let same = node.process == self.redis.process;
        let is_new = self.redis.alive.insert(node.id);
        let lapsed = same && is_new;
        node.connection = Some(number);
        node.process = self.redis.process;
        if node.replica.is_some() {
            self.subscribe(at);
        }
        let clearing = self.nodes[at].clearing.clone();
        self.command(at, Command::Delete(clearing));
        for (nonce, pending) in self.nodes[at].pending.clone() {
            match (pending.sent, pending.taken) {
                // The echo is lost, and another node may have stored the message.
                (true, Some(id)) if lapsed => self.settle(at, id, pending.msg),
                (true, Some(_)) => {}
                (true, None) if !self.breaks(Broken::BlindResend) => {
                    self.ask_journal(at, nonce, lapsed);
                }
                _ => self.send_publish(at, nonce),
            }
        }
    }

    fn ask_journal(&mut self, at: usize, nonce: u64, lapsed: bool) {
        if let Some(pending) = self.nodes[at].pending.get_mut(&nonce) {
            pending.lapsed |= lapsed;
        }
        self.command(at, Command::Read(Reader::Doubt(nonce)));
    }

    /// The next reply arrives.
    pub(super) fn reply(&mut self, at: usize) {
        let connection = self.connection(at);
        match connection.and_then(|connection| connection.replies.pop_front()) {
            None | Some(Reply::Erased) => {}
            Some(Reply::Taken(nonce, id)) => self.taken(at, nonce, id),
            Some(Reply::NoRun(nonce)) => {
                if let Some(pending) = self.nodes[at].pending.get_mut(&nonce) {
                    pending.sent = false;
                }
                self.command(at, Command::Lock(Reader::Publish(nonce)));
            }
            Some(Reply::Position(reader, position)) => self.position(at, reader, position),
            Some(Reply::Locked(reader, Some(token))) => {
                let (epoch, start) = self.database.open();
                self.command(at, Command::Begin(reader, token, epoch, start));
            }
            Some(Reply::Locked(reader, None) | Reply::Begun(reader)) => {
                self.command(at, Command::Read(reader));
            }
            Some(Reply::Looked(dead, journal)) => self.adopt(at, &dead, &journal),
            Some(Reply::Deleted(seqs)) => {
                self.nodes[at].clearing.retain(|seq| !seqs.contains(seq));
            }
        }
    }

    /// An attached topic waits for the message itself, unless another node may have stored it: then it may
    /// come as a row, which names no author.
    fn taken(&mut self, at: usize, nonce: u64, id: MessageId) {
        let node = &mut self.nodes[at];
        let Some(pending) = node.pending.get_mut(&nonce) else {
            return;
        };
        let msg = pending.msg;
        if node.replica.is_some() && !pending.lapsed {
            pending.taken = Some(id);
        } else {
            self.settle(at, id, msg);
        }
    }

    fn position(&mut self, at: usize, reader: Reader, position: Option<Position<Msg>>) {
        match (reader, position) {
            (Reader::Fill(ticket), position) => self.tell(at, |replica, now, out| {
                replica.position(ticket, position, now, out);
            }),
            (Reader::Doubt(nonce), position) => self.doubt(at, nonce, position.as_ref()),
            (Reader::Join(_) | Reader::Publish(_), None) => {
                self.command(at, Command::Lock(reader));
            }
            (Reader::Join(join), Some(position)) => self.resume(at, join, position),
            (Reader::Publish(nonce), Some(_)) => self.send_publish(at, nonce),
        }
    }

    /// Whether a message was taken whose answer was lost.
    fn doubt(&mut self, at: usize, nonce: u64, position: Option<&Position<Msg>>) {
        let node = &mut self.nodes[at];
        let Some(pending) = node.pending.get(&nonce).copied() else {
            return;
        };
        let journal = position.into_iter().flat_map(|position| &position.journal);
        let found = journal.copied().find(|(_, msg)| *msg == pending.msg);
        let epoch = position.map(|position| position.epoch);
        match (found, epoch) {
            (Some((seq, _)), Some(epoch)) => {
                if node.replica.is_some() || !self.breaks(Broken::NotMine) {
                    self.taken(at, nonce, MessageId::new(epoch, seq));
                }
            }
            _ if pending.lapsed && !self.breaks(Broken::LapseIgnored) => {
                self.answer(at, nonce, Outcome::Unconfirmed);
            }
            _ => self.send_publish(at, nonce),
        }
    }

    /// Looks which authors are dead.
    pub(super) fn look(&mut self, at: usize) {
        let node = &self.nodes[at];
        let mut watched = node.watched.clone();
        if self.breaks(Broken::WatchHeardOnly) {
            watched.retain(|author| node.heard.contains(author));
        }
        if !self.breaks(Broken::NoAdoption) && !watched.is_empty() {
            self.command(at, Command::Look(watched));
        }
    }

    fn adopt(&mut self, at: usize, dead: &BTreeSet<NodeId>, journal: &[(Seq, Msg)]) {
        for (seq, msg) in journal {
            if msg.author.is_some_and(|author| dead.contains(&author)) {
                self.insert(at, *seq, msg.text, true);
            }
        }
        self.nodes[at]
            .watched
            .retain(|author| !dead.contains(author));
    }

    /// The next message of the subscriptions arrives.
    pub(super) fn push(&mut self, at: usize) {
        let connection = self.connection(at);
        match connection.and_then(|connection| connection.pushes.pop_front()) {
            None => {}
            Some(Push::Confirmed) if self.breaks(Broken::ReadFirst) => {}
            Some(Push::Confirmed) => self.tell(at, |replica, _, out| replica.attached(out)),
            Some(Push::Message(id, msg)) => {
                self.tell(at, |replica, now, out| replica.arrived(id, msg, now, out));
            }
        }
    }
}
