//! Models of the outside: random numbers, messages, the database, and Redis with its connections.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound::{Excluded, Included};

use super::super::{Carried, Position, Ticket};
use crate::cluster::NodeId;
use crate::log::{Epoch, MessageId, Seq};

/// The distance between the runs of a topic.
pub(super) const JUMP: i64 = 1 << 32;

/// Random numbers (splitmix64).
pub(super) struct Random(pub(super) u64);

impl Random {
    /// A number below `end`.
    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }

    /// True once in `n` times.
    pub(super) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// A message. `text` is unique.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Msg {
    pub(super) author: Option<NodeId>,
    pub(super) nonce: u64,
    pub(super) text: u32,
}

impl Msg {
    pub(super) const ERASURE: Self = Self {
        author: None,
        nonce: 0,
        text: 0,
    };

    fn row(text: u32) -> Self {
        Self {
            text,
            ..Self::ERASURE
        }
    }
}

impl Carried for Msg {
    fn author(&self) -> Option<NodeId> {
        self.author
    }
}

/// PostgreSQL: the rows of the topic, and its runs.
#[derive(Default)]
pub(super) struct Database {
    pub(super) rows: BTreeMap<Seq, u32>,
    /// Each run with the seq after which it begins.
    runs: Vec<(Seq, Epoch)>,
    stored: BTreeMap<u32, Seq>,
}

impl Database {
    /// Inserts a row, on conflict nothing.
    pub(super) fn insert(&mut self, seq: Seq, text: u32) -> Result<(), String> {
        let row = *self.rows.entry(seq).or_insert(text);
        if row != text {
            return Err(format!("seq {seq} was given to {row} and to {text}"));
        }
        let first = *self.stored.entry(text).or_insert(seq);
        if first != seq {
            return Err(format!("{text} is stored twice, at {first} and {seq}"));
        }
        Ok(())
    }

    pub(super) fn has(&self, text: u32) -> bool {
        self.stored.contains_key(&text)
    }

    /// The first rows in this range, and whether there are no more.
    pub(super) fn page(
        &self,
        after: Seq,
        through: Seq,
        len: usize,
    ) -> (Vec<(MessageId, Msg)>, bool) {
        let rows = self.rows.range((Excluded(after), Included(through)));
        let mut rows: Vec<_> = rows
            .take(len + 1)
            .map(|(seq, text)| (self.id(*seq), Msg::row(*text)))
            .collect();
        let complete = rows.len() <= len;
        rows.truncate(len);
        (rows, complete)
    }

    /// The id of a row: the past runs are known.
    fn id(&self, seq: Seq) -> MessageId {
        let run = self.runs.iter().rev().find(|(start, _)| *start < seq);
        let epoch = run.map_or(Epoch::new(0), |(_, epoch)| *epoch);
        MessageId::new(epoch, seq)
    }

    /// Opens a run: the epoch, and the seq after which it begins.
    pub(super) fn open(&mut self) -> (Epoch, Seq) {
        let newest = self.rows.keys().next_back();
        let last = self.runs.last().map(|(start, _)| start.plus(JUMP));
        let start = last.map_or(Seq::ZERO, |start| {
            newest.map_or(start, |newest| start.max(newest.plus(JUMP)))
        });
        let epoch = Epoch::new(1 + self.runs.len() as i64);
        self.runs.push((start, epoch));
        (epoch, start)
    }
}

/// One attempt of a member to join.
#[derive(Clone, Copy, Debug)]
pub(super) struct Join {
    pub(super) member: usize,
    pub(super) number: u32,
}

/// For whom a position is read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reader {
    /// A question of the replica.
    Fill(Ticket),
    /// A member that resumes.
    Join(Join),
    /// A publish that found no run.
    Publish(u64),
    /// A publish whose answer was lost.
    Doubt(u64),
}

/// A command to Redis.
#[derive(Debug)]
pub(super) enum Command {
    Publish(Msg),
    /// An erasure: takes a seq.
    Take,
    Read(Reader),
    /// Takes the right to open the run.
    Lock(Reader),
    Begin(Reader, u64, Epoch, Seq),
    /// The nodes of these that are dead, then the journal.
    Look(BTreeSet<NodeId>),
    Delete(BTreeSet<Seq>),
}

/// The answer to a command.
#[derive(Debug)]
pub(super) enum Reply {
    Taken(u64, MessageId),
    NoRun(u64),
    /// Nobody waits for an erasure here.
    Erased,
    Position(Reader, Option<Position<Msg>>),
    Locked(Reader, Option<u64>),
    Begun(Reader),
    Looked(BTreeSet<NodeId>, Vec<(Seq, Msg)>),
    Deleted(BTreeSet<Seq>),
}

/// What arrives on a connection for subscriptions.
#[derive(Debug)]
pub(super) enum Push {
    Confirmed,
    Message(MessageId, Msg),
}

/// The two connections of a node, for commands and for subscriptions.
#[derive(Default)]
pub(super) struct Connection {
    /// Sent, not executed.
    pub(super) commands: VecDeque<Command>,
    pub(super) replies: VecDeque<Reply>,
    pub(super) pushes: VecDeque<Push>,
    /// SUBSCRIBE was sent and is not executed.
    pub(super) subscribing: bool,
    subscribed: bool,
    /// Commands still arrive at Redis, and nothing comes back.
    pub(super) commands_cut: bool,
    pub(super) pushes_cut: bool,
}

impl Connection {
    pub(super) fn is_cut(&self) -> bool {
        self.commands_cut || self.pushes_cut
    }

    /// Nothing more arrives, but for some of what is under way.
    pub(super) fn cut_replies(&mut self, random: &mut Random) {
        self.commands_cut = true;
        self.replies.truncate(random.below(self.replies.len() + 1));
    }

    /// Nothing more arrives, but for some of what is under way.
    pub(super) fn cut_pushes(&mut self, random: &mut Random) {
        self.pushes_cut = true;
        (self.subscribing, self.subscribed) = (false, false);
        self.pushes.truncate(random.below(self.pushes.len() + 1));
    }

    pub(super) fn unsubscribe(&mut self) {
        (self.subscribing, self.subscribed) = (false, false);
        self.pushes.clear();
    }
}

/// The keys of one topic, and the liveness keys.
#[derive(Clone, Default)]
struct Keys {
    run: Option<(Epoch, Seq)>,
    journal: BTreeMap<Seq, Msg>,
    lock: Option<u64>,
}

/// Redis.
#[derive(Default)]
pub(super) struct Redis {
    pub(super) process: u32,
    pub(super) alive: BTreeSet<NodeId>,
    /// By number. Closed connections stay while they have commands.
    pub(super) connections: BTreeMap<u32, Connection>,
    keys: Keys,
    tokens: u64,
    /// A dump of the keys.
    dump: Keys,
    /// The epochs of all runs, with the process.
    pub(super) begun: Vec<(i64, u32)>,
    /// The rules that are broken here.
    pub(super) dumps_return: bool,
    pub(super) begins_blindly: bool,
}

impl Redis {
    pub(super) fn head(&self) -> Option<MessageId> {
        self.keys
            .run
            .map(|(epoch, head)| MessageId::new(epoch, head))
    }

    pub(super) fn journal(&self) -> &BTreeMap<Seq, Msg> {
        &self.keys.journal
    }

    pub(super) fn connect(&mut self) -> u32 {
        let number = self
            .connections
            .keys()
            .next_back()
            .map_or(0, |last| last + 1);
        self.connections.insert(number, Connection::default());
        number
    }

    pub(super) fn expire_lock(&mut self) {
        self.keys.lock = None;
    }

    pub(super) fn dump(&mut self) {
        self.dump = self.keys.clone();
    }

    /// All connections end, and another process starts, which knows nothing.
    pub(super) fn restart(&mut self, random: &mut Random) {
        if self.dumps_return {
            self.keys = self.dump.clone();
        } else {
            self.keys = Keys::default();
            self.process += 1;
        }
        self.alive.clear();
        for connection in self.connections.values_mut() {
            connection.commands.clear();
            connection.cut_replies(random);
            connection.cut_pushes(random);
        }
    }

    /// Executes the next command, or the SUBSCRIBE, of a connection.
    pub(super) fn execute(&mut self, number: u32, random: &mut Random) {
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        if connection.subscribing && random.one_in(2) {
            (connection.subscribing, connection.subscribed) = (false, true);
            connection.pushes.push_back(Push::Confirmed);
            return;
        }
        let Some(command) = connection.commands.pop_front() else {
            return;
        };
        let reply = self.reply(command);
        if let Some(connection) = self.connections.get_mut(&number)
            && !connection.commands_cut
        {
            connection.replies.push_back(reply);
        }
    }

    fn reply(&mut self, command: Command) -> Reply {
        let keys = &mut self.keys;
        match command {
            Command::Publish(msg) => match self.publish(msg) {
                Some(id) => {
                    self.keys.journal.insert(id.seq, msg);
                    Reply::Taken(msg.nonce, id)
                }
                None => Reply::NoRun(msg.nonce),
            },
            Command::Take => {
                self.publish(Msg::ERASURE);
                Reply::Erased
            }
            Command::Read(reader) => {
                let journal = keys.journal.iter().map(|(seq, msg)| (*seq, *msg)).collect();
                let position = keys.run.map(|(epoch, head)| Position {
                    epoch,
                    head,
                    journal,
                    unused: None,
                });
                Reply::Position(reader, position)
            }
            Command::Lock(reader) => {
                let free = keys.lock.is_none() && (keys.run.is_none() || self.begins_blindly);
                if free {
                    self.tokens += 1;
                    keys.lock = Some(self.tokens);
                }
                Reply::Locked(reader, keys.lock.filter(|_| free))
            }
            Command::Begin(reader, token, epoch, start) => {
                if keys.lock == Some(token) {
                    self.begun.push((epoch.get(), self.process));
                    (keys.run, keys.lock) = (Some((epoch, start)), None);
                }
                Reply::Begun(reader)
            }
            Command::Look(mut nodes) => {
                nodes.retain(|node| !self.alive.contains(node));
                Reply::Looked(
                    nodes,
                    keys.journal.iter().map(|(seq, msg)| (*seq, *msg)).collect(),
                )
            }
            Command::Delete(seqs) => {
                keys.journal.retain(|seq, _| !seqs.contains(seq));
                Reply::Deleted(seqs)
            }
        }
    }

    /// Gives the message a seq and sends it to all who have subscribed.
    fn publish(&mut self, msg: Msg) -> Option<MessageId> {
        let (epoch, head) = self.keys.run.as_mut()?;
        *head = head.next();
        let id = MessageId::new(*epoch, *head);
        for connection in self.connections.values_mut() {
            if connection.subscribed {
                connection.pushes.push_back(Push::Message(id, msg));
            }
        }
        Some(id)
    }
}
