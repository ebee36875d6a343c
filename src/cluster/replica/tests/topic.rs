//! A model of a topic on a node: carries out what the replica says, stores rows, and lets members join.

use std::mem;
use std::time::Duration;

use super::super::{Action, Position, Replica, Resume, Ticket};
use super::Broken;
use super::model::{Command, Join, Msg, Reader};
use super::world::{Outcome, World};
use crate::cluster::NodeId;
use crate::log::{MessageId, Seq};

/// How far a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Joins; by the number of the attempt.
    Joining(u32),
    Live,
}

/// Work of a node that ends at any time later.
pub(super) struct Task {
    pub(super) node: NodeId,
    pub(super) work: Work,
}

/// See [`Task`].
pub(super) enum Work {
    /// The commit of a row, from this process of Redis. The row leaves the journal then, if `clear`.
    Insert {
        process: u32,
        seq: Seq,
        text: u32,
        clear: bool,
    },
    /// A read of the database for the replica.
    Rows(Ticket, Seq, Seq),
    /// The answer, and whether it is complete.
    RowsRead(Ticket, Vec<(MessageId, Msg)>, bool),
    /// The pause of the replica.
    Retry(Ticket),
    /// A member asks whether it can join.
    Join(Join),
    /// A read of the database for a member.
    Page(Join, Resume<Msg>),
    /// The answer, and whether it is complete.
    PageRead(Join, Resume<Msg>, Vec<(MessageId, Msg)>, bool),
}

/// The topic, and the writer.
impl World {
    /// Tells the replica of an event, if the topic is attached, and carries out what it says.
    pub(super) fn tell(
        &mut self,
        at: usize,
        event: impl FnOnce(&mut Replica<Msg>, Duration, &mut Vec<Action<Msg>>),
    ) {
        let mut actions = Vec::new();
        if let Some(replica) = &mut self.nodes[at].replica {
            event(replica, self.now, &mut actions);
        }
        for action in &actions {
            self.act(at, action);
        }
    }

    fn act(&mut self, at: usize, action: &Action<Msg>) {
        match *action {
            Action::Show(_, Msg::ERASURE) => {}
            Action::Show(id, msg) => self.show(at, id, msg),
            Action::Settle(..) if self.breaks(Broken::NotSettled) => {}
            Action::Settle(id, msg) => self.settle(at, id, msg),
            Action::Watch(author) => {
                self.nodes[at].watched.insert(author);
            }
            Action::Read(ticket) => {
                if self.breaks(Broken::DatabaseFirst) {
                    let all = self.database.page(Seq::ZERO, Seq::MAX, usize::MAX - 1);
                    self.nodes[at].early = all.0;
                }
                self.command(at, Command::Read(Reader::Fill(ticket)));
            }
            Action::Open(ticket) => {
                self.command(at, Command::Lock(Reader::Fill(ticket)));
            }
            Action::Rows {
                ticket,
                after,
                through,
            } => self.later(at, Work::Rows(ticket, after, through)),
            Action::Retry(ticket) => self.later(at, Work::Retry(ticket)),
            Action::Begin { at: head, .. } => self.nodes[at].floor = head.seq,
            Action::Reset { at: head, .. } => self.reset(at, head.seq),
            Action::Live(_) => {}
        }
    }

    /// All channels end.
    fn reset(&mut self, at: usize, floor: Seq) {
        self.stats.resets += 1;
        let node = &mut self.nodes[at];
        node.floor = floor;
        node.tail.clear();
        let members = mem::take(&mut node.members);
        self.move_members(members.into_keys());
    }

    fn show(&mut self, at: usize, id: MessageId, msg: Msg) {
        let node = &mut self.nodes[at];
        node.tail.insert(id.seq, (id, msg));
        node.heard.extend(msg.author);
        let own = msg.author == Some(node.id);
        let members = node.members.iter();
        let live = members.filter(|(_, place)| **place == Place::Live);
        let live: Vec<_> = live.map(|(member, _)| *member).collect();
        self.seen.push((node.id, id, msg.text));
        for member in live {
            self.hear(member, id, msg.text);
        }
        if own {
            self.settle(at, id, msg);
        }
    }

    /// Stores an own message, and answers its publisher.
    pub(super) fn settle(&mut self, at: usize, id: MessageId, msg: Msg) {
        if self.nodes[at].own.insert(id.seq) {
            if self.breaks(Broken::EarlyDelete) {
                self.clear(at, id.seq);
            }
            self.insert(at, id.seq, msg.text, true);
        }
        self.answer(at, msg.nonce, Outcome::Stored(id));
    }

    pub(super) fn answer(&mut self, at: usize, nonce: u64, outcome: Outcome) {
        if let Some(text) = self.nodes[at].answer(nonce) {
            self.outcomes.insert(text, (self.nodes[at].id, outcome));
        }
    }

    /// Hands a row to the writer.
    pub(super) fn insert(&mut self, at: usize, seq: Seq, text: u32, clear: bool) {
        let process = self.nodes[at].process;
        self.later(
            at,
            Work::Insert {
                process,
                seq,
                text,
                clear,
            },
        );
    }

    fn clear(&mut self, at: usize, seq: Seq) {
        self.nodes[at].clearing.insert(seq);
        self.command(at, Command::Delete([seq].into()));
    }

    /// Nobody has been here for long: the topic leaves the bus.
    pub(super) fn detach(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let mut seen = self.seen.iter().filter(|(by, ..)| *by == node.id);
        let is_stored = seen.all(|(.., text)| self.database.has(*text));
        if !node.members.is_empty() || !is_stored {
            return;
        }
        node.replica = None;
        node.tail.clear();
        if let Some(connection) = self.connection(at) {
            connection.unsubscribe();
        }
        if !self.breaks(Broken::NotMine) {
            for (id, msg) in self.nodes[at].taken() {
                self.settle(at, id, msg);
            }
        }
    }

    fn later(&mut self, at: usize, work: Work) {
        let node = self.nodes[at].id;
        self.tasks.push(Task { node, work });
    }

    pub(super) fn run(&mut self, Task { node, work }: Task) {
        let Some(at) = self.nodes.iter().position(|other| other.id == node) else {
            return;
        };
        match work {
            Work::Insert {
                process,
                seq,
                text,
                clear,
            } => {
                let inserted = self.database.insert(seq, text);
                self.faults.extend(inserted.err());
                if clear && process == self.nodes[at].process {
                    self.clear(at, seq);
                }
            }
            Work::Rows(ticket, ..) if self.random.one_in(20) => {
                self.tell(at, |replica, now, out| replica.failed(ticket, now, out));
            }
            Work::Rows(ticket, after, through) => {
                let (rows, complete) = self.read_rows(at, after, through);
                self.later(at, Work::RowsRead(ticket, rows, complete));
            }
            Work::RowsRead(ticket, rows, complete) => self.tell(at, |replica, now, out| {
                replica.rows(ticket, rows, complete, now, out);
            }),
            Work::Retry(ticket) => self.tell(at, |replica, _, out| replica.retry(ticket, out)),
            Work::Join(join) => self.join(at, join),
            Work::Page(join, resume) => {
                let (after, through) = (resume.after(), resume.through());
                let (rows, complete) = self.database.page(after, through, self.page_len);
                self.later(at, Work::PageRead(join, resume, rows, complete));
            }
            Work::PageRead(join, resume, rows, complete) => {
                self.send_page(at, join, resume, rows, complete);
            }
        }
    }

    fn read_rows(&mut self, at: usize, after: Seq, through: Seq) -> (Vec<(MessageId, Msg)>, bool) {
        if !self.breaks(Broken::DatabaseFirst) {
            return self.database.page(after, through, self.page_len);
        }
        let mut rows = mem::take(&mut self.nodes[at].early);
        rows.retain(|(id, _)| id.seq > after && id.seq <= through);
        (rows, true)
    }
}

/// Joins.
impl World {
    pub(super) fn join_later(&mut self, at: usize, member: usize) {
        self.joins += 1;
        let number = self.joins;
        let joining = Place::Joining(number);
        self.nodes[at].members.insert(member, joining);
        self.later(at, Work::Join(Join { member, number }));
    }

    /// Whether the member still waits for this attempt.
    fn is_joining(&self, at: usize, join: Join) -> bool {
        self.nodes[at].members.get(&join.member) == Some(&Place::Joining(join.number))
    }

    fn join(&mut self, at: usize, join: Join) {
        if !self.is_joining(at, join) {
            return;
        }
        let member = join.member;
        self.attach(at);
        let node = &mut self.nodes[at];
        let live = node.replica.as_ref().filter(|replica| replica.is_live());
        match (live.and_then(Replica::shown), self.members[member].last()) {
            (Some(shown), Some(cursor)) if cursor.epoch == shown.epoch => {
                if !self.command(at, Command::Read(Reader::Join(join))) {
                    self.join_later(at, member);
                }
            }
            (Some(shown), _) => {
                node.members.insert(member, Place::Live);
                self.members[member].begin(shown);
            }
            (None, _) => self.join_later(at, member),
        }
    }

    fn attach(&mut self, at: usize) {
        let limits = self.limits;
        let recycles = self.breaks(Broken::SameNumber);
        let node = &mut self.nodes[at];
        if node.replica.is_some() {
            return;
        }
        node.replicas += if recycles { 0 } else { 1 };
        node.replica = Some(Replica::new(node.id, node.replicas, limits));
        self.subscribe(at);
    }

    /// The answer to a join's read of the position.
    pub(super) fn resume(&mut self, at: usize, join: Join, position: Position<Msg>) {
        if !self.is_joining(at, join) {
            return;
        }
        match (self.nodes[at].shown(), self.members[join.member].last()) {
            (Some(shown), Some(cursor)) if shown.epoch == position.epoch => {
                let resume = Resume::of_client(cursor, position, shown);
                self.resumed(at, join, resume);
            }
            _ => self.join_later(at, join.member),
        }
    }

    fn send_page(
        &mut self,
        at: usize,
        join: Join,
        mut resume: Resume<Msg>,
        rows: Vec<(MessageId, Msg)>,
        complete: bool,
    ) {
        if !self.is_joining(at, join) {
            return;
        }
        for (id, msg) in resume.page(rows, complete) {
            self.seen.push((self.nodes[at].id, id, msg.text));
            self.hear(join.member, id, msg.text);
        }
        self.resumed(at, join, resume);
    }

    /// The member has everything that was read so far.
    fn resumed(&mut self, at: usize, join: Join, resume: Resume<Msg>) {
        if !resume.is_done() {
            return self.later(at, Work::Page(join, resume));
        }
        let member = join.member;
        let (node, after) = (&self.nodes[at], resume.after());
        let epoch = self.members[member].last().map(|last| last.epoch);
        let shown = node.shown().filter(|shown| Some(shown.epoch) == epoch);
        let is_ahead = shown.is_some_and(|shown| shown.seq < after);
        let too_early = is_ahead && !self.breaks(Broken::LiveAhead);
        if shown.is_none() || after < node.floor || too_early {
            return self.join_later(at, member);
        }
        let tail = node.tail.range(after.next()..);
        let tail: Vec<_> = tail.map(|(_, shown)| *shown).collect();
        if !self.breaks(Broken::LateHead) {
            for (id, msg) in tail {
                self.hear(member, id, msg.text);
            }
        }
        self.nodes[at].members.insert(member, Place::Live);
        self.stats.resumes += 1;
    }
}
