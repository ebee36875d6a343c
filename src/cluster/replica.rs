//! [`Replica`]: follows a topic's log whose order comes from outside, so that members get every message
//! once and in order.
//!
//! Pure: no I/O, no clock. The caller keeps it under the topic's lock, tells it of each event, and carries
//! out the returned [`Action`]s in order before it releases the lock. Times are durations since any fixed
//! start.
//!
//! **Sources.** A message has up to three. The topic's *channel* carries each message once; messages are
//! lost only with the connection. The *journal* has the messages that are not in the database yet. The
//! *database* has all others. So a node that has missed messages *fills*: it reads the position, which is
//! the head together with the journal, then the database.
//!
//! **Rules.** Each is needed; the tests break them one by one.
//! - Read the position only after the server has confirmed the subscription.
//! - Read the journal first, then the database: a message may move from one to the other meanwhile.
//! - A fill is complete up to the head that came with the journal, and no further. So is a client's resume.
//! - Watch every author of a journal entry, also of one that is not shown: its messages must be stored if it
//!   dies.
//! - Seqs grow over all epochs. What was shown is never shown again.

mod recent;
mod resume;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::mem;
use std::time::Duration;

use self::recent::Recent;
pub(crate) use self::resume::{Position, Resume};
use super::bus::NodeId;
use crate::log::{MessageId, Seq};

/// A fill that needs the database and cannot read it for this long ends the topic's channels.
const PATIENCE: Duration = Duration::from_secs(5);

/// An ordered message. Clones are cheap.
pub(crate) trait Carried: Clone {
    /// The node that has to store the message. `None` if it is stored already (a row of the database), and
    /// if it is never stored (an erasure).
    fn author(&self) -> Option<NodeId>;
}

/// The bounds of a [`Replica`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The most missed messages that are shown late. If more were missed, the topic's channels end.
    pub(crate) resume: usize,
    /// The most messages that wait for the end of a fill. If there are more, they are dropped and filled.
    pub(crate) buffer: usize,
}

/// Identifies a question of a [`Replica`] to the caller. Late answers to old questions are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    /// The number of the replica.
    replica: u64,
    question: u64,
}

/// What the caller of a [`Replica`] must do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action<M> {
    /// Deliver the message to the topic's members. If this node is its author, hand the row to the writer
    /// and answer the publisher.
    Show(MessageId, M),
    /// Hand this own message to the writer, and answer its publisher if one waits. Members do not get it:
    /// it was published before the topic was attached, or the members have ended.
    Settle(MessageId, M),
    /// Make sure that this node's messages reach the database, should it die.
    Watch(NodeId),
    /// Read the position. Answer with [`Replica::position`] or [`Replica::failed`].
    Read(Ticket),
    /// The topic has no run: open one, and read the position. Answer as for `Read`.
    Open(Ticket),
    /// Read rows from the database, in order of seq. Answer with [`Replica::rows`] or [`Replica::failed`].
    Rows {
        /// Identifies the question.
        ticket: Ticket,
        /// The rows after this seq,
        after: Seq,
        /// up to this one.
        through: Seq,
    },
    /// Call [`Replica::retry`] after a short pause.
    Retry(Ticket),
    /// The topic is attached. Its history is the journal together with the database's rows; read them after
    /// this.
    Begin {
        /// The last message before the attachment. Later ones are shown.
        at: MessageId,
        /// Messages up to `at`, some of which are in the database, too.
        journal: Vec<(Seq, M)>,
    },
    /// Too much was missed, or the database is away: end the topic's channels, and replace the history as
    /// after `Begin`.
    Reset {
        /// The last message that is not shown.
        at: MessageId,
        /// See `Begin`.
        journal: Vec<(Seq, M)>,
    },
    /// Members have everything up to this message. The next ones are shown as they arrive.
    Live(MessageId),
}

/// One topic's log on one node.
#[derive(Debug)]
pub(crate) struct Replica<M> {
    me: NodeId,
    limits: Limits,
    /// Members have everything up to this message, and nothing after it. `None` until attached.
    shown: Option<MessageId>,
    state: State<M>,
    /// The last question.
    ticket: Ticket,
    /// Messages that arrived while not live, in order of arrival.
    buffer: VecDeque<(MessageId, M)>,
    /// Messages that came while not live were lost.
    overflowed: bool,
    /// The number of messages shown by fills since the replica was live.
    filled: usize,
    /// Since when the database cannot be read.
    failing_since: Option<Duration>,
    recent: Recent<M>,
}

/// Where a [`Replica`] gets its next message.
#[derive(Debug)]
enum State<M> {
    /// Nowhere: the subscription is not confirmed.
    Down,
    /// From the position, which is being read.
    Reading,
    /// From the database.
    Filling(Resume<M>),
    /// From the position, after a pause.
    Pausing,
    /// From the channel.
    Live,
}

/// How an arrived message relates to what was shown.
enum Order {
    Known,
    Next,
    AfterGap,
}

impl<M: Carried> Replica<M> {
    /// A replica that waits for its subscription. Every replica of a topic needs another `number`: an answer
    /// to a question of an earlier one may still be under way.
    pub(crate) fn new(me: NodeId, number: u64, limits: Limits) -> Self {
        Self {
            me,
            limits,
            shown: None,
            state: State::Down,
            ticket: Ticket {
                replica: number,
                question: 0,
            },
            buffer: VecDeque::new(),
            overflowed: false,
            filled: 0,
            failing_since: None,
            recent: Recent::default(),
        }
    }

    /// A replica of a topic whose order the database gave before, or the bus in another run: members have everything up
    /// to `shown`.
    pub(crate) fn after(
        shown: Option<MessageId>,
        (me, number): (NodeId, u64),
        limits: Limits,
    ) -> Self {
        Self {
            shown,
            ..Self::new(me, number, limits)
        }
    }

    /// The position that the replica waits for, if it does.
    pub(crate) fn question(&self) -> Option<Ticket> {
        matches!(self.state, State::Reading).then_some(self.ticket)
    }

    /// Whether the question is of this replica, and not of an earlier one of the topic.
    pub(crate) fn has_asked(&self, ticket: Ticket) -> bool {
        ticket.replica == self.ticket.replica
    }

    /// Whether members get messages as they arrive. Joins wait for it.
    pub(crate) fn is_live(&self) -> bool {
        matches!(self.state, State::Live)
    }

    #[cfg(test)]
    /// The last message that members have; `None` before [`Action::Begin`].
    pub(crate) fn shown(&self) -> Option<MessageId> {
        self.shown
    }

    /// The server has confirmed the subscription: for the first time, or after a reconnect.
    ///
    /// If the server is another process than before, its journal is empty. Call this only once all nodes have
    /// noticed that, and have committed their rows of the old run: rows that come later are never shown.
    pub(crate) fn attached(&mut self, out: &mut Vec<Action<M>>) {
        self.read(out);
    }

    /// Messages may have been lost on their way here, and the connection was not: reads what they were.
    pub(crate) fn look(&mut self, out: &mut Vec<Action<M>>) {
        match self.state {
            // The position is read at the next confirmation.
            State::Down => {}
            State::Live => self.read(out),
            // What is being read may be older.
            State::Reading | State::Filling(_) | State::Pausing => self.overflowed = true,
        }
    }

    /// The connection is lost, and with it an unknown number of messages.
    pub(crate) fn down(&mut self, now: Duration) {
        self.expire(now);
        self.state = State::Down;
        self.buffer.clear();
        self.overflowed = false;
        self.failing_since = None;
    }

    /// An ordered message arrived on the topic's channel. Pass messages, too, that this release cannot read:
    /// they have a seq.
    pub(crate) fn arrived(
        &mut self,
        id: MessageId,
        message: M,
        now: Duration,
        out: &mut Vec<Action<M>>,
    ) {
        if !self.is_live() {
            return self.hold(id, message);
        }
        match self.order(id) {
            Order::Known => {}
            Order::Next => self.show(id, message, now, out),
            Order::AfterGap => {
                self.hold(id, message);
                self.read(out);
            }
        }
    }

    /// The answer to [`Action::Read`] and [`Action::Open`]. `None`: the topic has no run.
    pub(crate) fn position(
        &mut self,
        ticket: Ticket,
        position: Option<Position<M>>,
        now: Duration,
        out: &mut Vec<Action<M>>,
    ) {
        if ticket != self.ticket || !matches!(self.state, State::Reading) {
            return;
        }
        let Some(position) = position else {
            out.push(Action::Open(ticket));
            return;
        };
        self.watch_authors(&position.journal, out);
        let Some(shown) = self.shown else {
            return self.start(position, now, out);
        };
        let head = position.id();
        let same_run = head.epoch == shown.epoch;
        if same_run && head.seq <= shown.seq {
            return self.drain(now, out);
        }
        // Between two runs many seqs belong to no message: there, rows are counted as they are read.
        let too_far = same_run && head.seq.distance_from(shown.seq) > self.limits.resume;
        // A run begins at a lower seq only if the database has lost the runs before.
        let goes_back = head.seq <= shown.seq;
        if too_far || goes_back {
            return self.start(position, now, out);
        }
        let missed = Resume::new(shown, position);
        if missed.needs_rows() {
            out.push(self.rows_of(&missed));
            self.state = State::Filling(missed);
        } else {
            self.page(missed, Vec::new(), true, now, out);
        }
    }

    /// The answer to [`Action::Rows`]: all rows asked for, or the first of them. `complete`: there are no
    /// more.
    pub(crate) fn rows(
        &mut self,
        ticket: Ticket,
        rows: Vec<(MessageId, M)>,
        complete: bool,
        now: Duration,
        out: &mut Vec<Action<M>>,
    ) {
        if ticket != self.ticket {
            return;
        }
        match mem::replace(&mut self.state, State::Reading) {
            State::Filling(missed) => {
                self.failing_since = None;
                self.page(missed, rows, complete, now, out);
            }
            other => self.state = other,
        }
    }

    /// The question could not be answered.
    pub(crate) fn failed(&mut self, ticket: Ticket, now: Duration, out: &mut Vec<Action<M>>) {
        if ticket != self.ticket {
            return;
        }
        match mem::replace(&mut self.state, State::Pausing) {
            State::Reading => out.push(Action::Retry(ticket)),
            State::Filling(missed) => {
                let since = *self.failing_since.get_or_insert(now);
                if now.saturating_sub(since) < PATIENCE {
                    out.push(Action::Retry(ticket));
                } else {
                    self.start(missed.into_position(), now, out);
                }
            }
            other => self.state = other,
        }
    }

    /// The pause of [`Action::Retry`] is over.
    pub(crate) fn retry(&mut self, ticket: Ticket, out: &mut Vec<Action<M>>) {
        if ticket == self.ticket && matches!(self.state, State::Pausing) {
            self.read(out);
        }
    }

    /// Removes and returns the messages of other nodes that clients may have got in the last seconds before
    /// the connection was lost. Call it when the server's process is another one, or seems to be gone. The
    /// journal is gone with it, and an author that saw neither its message nor an answer cannot store the
    /// message. Store what the database lacks. Leave the journal alone: an author that finds no entry there
    /// sends its message again.
    pub(crate) fn rescue(&mut self) -> Vec<(MessageId, M)> {
        self.recent.take()
    }

    /// Frees the memory of messages that [`rescue`](Self::rescue) need not return. Call it periodically.
    pub(crate) fn expire(&mut self, now: Duration) {
        if !matches!(self.state, State::Down) {
            self.recent.expire(now);
        }
    }

    fn read(&mut self, out: &mut Vec<Action<M>>) {
        self.ticket.question += 1;
        self.state = State::Reading;
        out.push(Action::Read(self.ticket));
    }

    fn rows_of(&self, missed: &Resume<M>) -> Action<M> {
        Action::Rows {
            ticket: self.ticket,
            after: missed.after(),
            through: missed.through(),
        }
    }

    fn watch_authors(&self, journal: &[(Seq, M)], out: &mut Vec<Action<M>>) {
        let authors = journal.iter().filter_map(|(_, message)| message.author());
        let authors: BTreeSet<_> = authors.filter(|author| *author != self.me).collect();
        out.extend(authors.into_iter().map(Action::Watch));
    }

    /// Continues after the head, without what is before it. The journal's entries belong to the history:
    /// nobody else stores the own ones, and members may get the others from there.
    fn start(&mut self, position: Position<M>, now: Duration, out: &mut Vec<Action<M>>) {
        let at = position.id();
        let shown = self.shown.replace(at);
        for (seq, message) in &position.journal {
            let id = MessageId::new(at.epoch, *seq);
            let is_shown = shown.is_some_and(|shown| shown.epoch == id.epoch && *seq <= shown.seq);
            match message.author().filter(|_| !is_shown) {
                None => {}
                Some(author) if author == self.me => {
                    out.push(Action::Settle(id, message.clone()));
                }
                Some(_) => self.recent.push(id, message.clone(), now),
            }
        }
        let journal = position.journal;
        out.push(match shown {
            None => Action::Begin { at, journal },
            Some(_) => Action::Reset { at, journal },
        });
        self.filled = 0;
        self.drain(now, out);
    }

    /// Shows the next missed messages.
    fn page(
        &mut self,
        mut missed: Resume<M>,
        rows: Vec<(MessageId, M)>,
        complete: bool,
        now: Duration,
        out: &mut Vec<Action<M>>,
    ) {
        let messages = missed.page(rows, complete);
        self.filled += messages.len();
        if self.filled > self.limits.resume {
            return self.start(missed.into_position(), now, out);
        }
        for (id, message) in messages {
            self.show(id, message, now, out);
        }
        if missed.is_done() {
            // The last seqs may belong to no message.
            self.shown = Some(missed.head());
            self.drain(now, out);
        } else {
            out.push(self.rows_of(&missed));
            self.state = State::Filling(missed);
        }
    }

    /// Shows what arrived during a fill. Reads again if messages are missing in between.
    fn drain(&mut self, now: Duration, out: &mut Vec<Action<M>>) {
        while let Some((id, message)) = self.buffer.pop_front() {
            match self.order(id) {
                Order::Known => {}
                Order::Next => self.show(id, message, now, out),
                Order::AfterGap => {
                    self.buffer.push_front((id, message));
                    return self.read(out);
                }
            }
        }
        if mem::take(&mut self.overflowed) {
            return self.read(out);
        }
        self.state = State::Live;
        self.filled = 0;
        self.failing_since = None;
        out.extend(self.shown.map(Action::Live));
    }

    fn show(&mut self, id: MessageId, message: M, now: Duration, out: &mut Vec<Action<M>>) {
        self.shown = Some(id);
        if let Some(author) = message.author()
            && author != self.me
        {
            out.push(Action::Watch(author));
            self.recent.push(id, message.clone(), now);
        }
        out.push(Action::Show(id, message));
    }

    fn hold(&mut self, id: MessageId, message: M) {
        if self.buffer.len() >= self.limits.buffer {
            self.buffer.clear();
            self.overflowed = true;
        }
        self.buffer.push_back((id, message));
    }

    fn order(&self, id: MessageId) -> Order {
        match self.shown {
            Some(shown) if id.seq <= shown.seq => Order::Known,
            Some(shown) if id == MessageId::new(shown.epoch, shown.seq.next()) => Order::Next,
            _ => Order::AfterGap,
        }
    }
}
