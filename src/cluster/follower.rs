//! [`Follower`]: follows a strict topic's log, whose order the database gives, so that members get every message once
//! and in order.
//!
//! Pure: no I/O, no clock. The caller keeps it under the topic's lock, tells it of each event, and carries out the
//! returned [`Action`]s in order before it releases the lock.
//!
//! **Sources.** Nodes tell each other what they have committed ([`Piece`]s); what they tell may be late, doubled, out
//! of order or lost. The database has everything, and has no holes: a transaction that gives a seq holds the topic's
//! lock until its end. So a node that lacks messages *fills*: it reads the topic's head, then the rows up to it.
//!
//! A topic whose order the bus gave before begins [`after`](Follower::after) what members have got of that run. Its rows
//! are in the database by then. Between the two runs many seqs belong to no message.
//!
//! **Rules.** Each is needed; the tests break them one by one.
//! 1. Read the head only after the bus has confirmed the subscription, and fill after each reconnection.
//! 2. A piece is shown only if its predecessor was. Otherwise it waits for 10 ms, then the node fills.
//! 3. What was shown is never shown again.
//! 4. A call to look that comes during a fill needs another one: the head of the first may be older.
//! 5. A fill reads the head before the rows.
//! 6. What follows another run fills from there, and counts rows instead of seqs.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::mem;

use crate::log::Seq;

/// Messages of one topic, one after the other, that a node has committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece<M> {
    /// The seq before the first.
    pub(crate) prev: Seq,
    /// The last seq.
    pub(crate) head: Seq,
    /// In order of seq. Empty for an erasure, whose seq is `head`.
    pub(crate) messages: Vec<(Seq, M)>,
}

/// The bounds of a [`Follower`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// The most missed messages that are shown late. If more were missed, the topic's channels end.
    pub(crate) resume: usize,
    /// The most pieces that wait for others. If there are more, they are dropped and filled.
    pub(crate) buffer: usize,
}

/// Identifies a question of a [`Follower`] to the caller. Late answers to old questions are ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ticket {
    /// The number of the follower.
    follower: u64,
    question: u64,
}

/// What the caller of a [`Follower`] must do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action<M> {
    /// Deliver the message to the topic's members.
    Show(Seq, M),
    /// An erasure has taken this seq: no client resumes from before it.
    Erase(Seq),
    /// Members have everything up to this seq, which belongs to no message.
    Reach(Seq),
    /// Read the topic's run, or make it. Answer with [`Follower::opened`] or [`Follower::failed`].
    Open(Ticket),
    /// Read the topic's head, then its rows after this seq. Answer with [`Follower::rows`] or [`Follower::failed`].
    Fill(Ticket, Seq),
    /// Call [`Follower::waited`] in 10 ms.
    Wait(Ticket),
    /// Call [`Follower::retry`] after a short pause.
    Retry(Ticket),
    /// Too much was missed: end the topic's channels. The history begins anew after this message.
    Reset(Seq),
    /// Members have everything that this node knows of.
    Live,
}

/// One strict topic's log on one node.
#[derive(Debug)]
pub(crate) struct Follower<M> {
    bounds: Bounds,
    state: State,
    /// Members have everything up to this message, and nothing after it.
    shown: Seq,
    ticket: Ticket,
    /// Pieces that cannot be shown yet, by their bounds.
    buffer: BTreeMap<(Seq, Seq), Piece<M>>,
    /// The present fill may have read an old head.
    again: bool,
    /// Members have messages of the run before, and have got so many since.
    crossed: Option<usize>,
    #[cfg(test)]
    broken: Option<tests::Rule>,
}

/// Where a [`Follower`] gets its next message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nowhere: the subscription is not confirmed.
    New,
    /// The topic's run is being read.
    Opening,
    /// From a piece.
    Live,
    /// From a piece, or after a short wait from the database.
    Waiting,
    /// From the database.
    Filling,
    /// From the database, after a pause.
    Pausing {
        /// The run is not read yet.
        opening: bool,
    },
}

impl<M> Follower<M> {
    /// A follower that waits for its subscription.
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            state: State::New,
            shown: Seq::ZERO,
            ticket: Ticket::default(),
            buffer: BTreeMap::new(),
            again: false,
            crossed: None,
            #[cfg(test)]
            broken: None,
        }
    }

    /// A follower that waits for its subscription, of a topic that was in another run: members have everything of that
    /// up to `shown`. Every follower of a topic needs another `number`: an answer to a question of an earlier one may
    /// still be under way.
    pub(crate) fn after(shown: Option<Seq>, number: u64, bounds: Bounds) -> Self {
        let mut follower = Self::new(bounds);
        follower.ticket.follower = number;
        if let Some(shown) = shown {
            (follower.shown, follower.crossed) = (shown, Some(0));
        }
        follower
    }

    /// Whether the question is of this follower, and not of an earlier one of the topic.
    pub(crate) fn has_asked(&self, ticket: Ticket) -> bool {
        ticket.follower == self.ticket.follower
    }

    /// Whether the head of the topic was read: from then on members get messages.
    pub(crate) fn is_open(&self) -> bool {
        let is_opening = matches!(
            self.state,
            State::Opening | State::Pausing { opening: true }
        );
        self.state != State::New && !is_opening
    }

    /// The bus has confirmed the subscription: for the first time, or after a reconnection.
    pub(crate) fn attached(&mut self, out: &mut Vec<Action<M>>) {
        match self.state {
            State::New => self.open(out),
            _ => self.look(out),
        }
    }

    /// The bus is away: begins without it. The caller looks regularly until the bus is back.
    pub(crate) fn begin_alone(&mut self, out: &mut Vec<Action<M>>) {
        if self.state == State::New {
            self.open(out);
        }
    }

    /// The answer to [`Action::Open`]: the last seq that was given.
    pub(crate) fn opened(&mut self, ticket: Ticket, head: Seq, out: &mut Vec<Action<M>>) {
        if ticket != self.ticket || self.state != State::Opening {
            return;
        }
        if self.crossed.is_some() && head > self.shown && !self.is_broken_crossing() {
            return self.fill(out);
        }
        self.shown = self.shown.max(head);
        self.go_on(out);
    }

    /// A node has committed messages.
    pub(crate) fn arrived(&mut self, piece: Piece<M>, out: &mut Vec<Action<M>>) {
        if !matches!(self.state, State::Live | State::Waiting) {
            return self.hold(piece);
        }
        if piece.prev > self.shown && !self.is_broken_gap() {
            self.hold(piece);
            if self.state == State::Live {
                self.state = State::Waiting;
                self.ticket.question += 1;
                out.push(Action::Wait(self.ticket));
            }
            return;
        }
        self.show(piece, out);
        self.drain(out);
        if self.buffer.is_empty() {
            self.state = State::Live;
        }
    }

    /// The wait of [`Action::Wait`] is over.
    pub(crate) fn waited(&mut self, ticket: Ticket, out: &mut Vec<Action<M>>) {
        if ticket == self.ticket && self.state == State::Waiting {
            self.fill(out);
        }
    }

    /// The topic's head, as the database has it now or had it lately.
    pub(crate) fn head(&mut self, head: Seq, out: &mut Vec<Action<M>>) {
        if head > self.shown {
            self.look(out);
        }
    }

    /// The database may have messages that nobody has told.
    pub(crate) fn look(&mut self, out: &mut Vec<Action<M>>) {
        match self.state {
            // What is read later has them.
            State::New | State::Pausing { .. } => {}
            State::Opening | State::Filling => self.again = !self.is_broken_again(),
            State::Live | State::Waiting => self.fill(out),
        }
    }

    /// The answer to [`Action::Fill`]: rows in order of seq, none after `head`. `complete`: there are no more up to it.
    pub(crate) fn rows(
        &mut self,
        ticket: Ticket,
        rows: Vec<(Seq, M)>,
        (head, complete): (Seq, bool),
        out: &mut Vec<Action<M>>,
    ) {
        if ticket != self.ticket || self.state != State::Filling {
            return;
        }
        let missed = match &mut self.crossed {
            Some(crossed) => {
                *crossed += rows.len();
                *crossed
            }
            None => head.distance_from(self.shown),
        };
        if missed > self.bounds.resume {
            self.shown = head;
            out.push(Action::Reset(head));
            return self.go_on(out);
        }
        for (seq, message) in rows {
            self.show_one(seq, message, out);
        }
        if !complete {
            return out.push(Action::Fill(self.ticket, self.shown));
        }
        if head > self.shown {
            self.shown = head;
            out.push(Action::Reach(head));
        }
        self.go_on(out);
    }

    /// The question could not be answered.
    pub(crate) fn failed(&mut self, ticket: Ticket, out: &mut Vec<Action<M>>) {
        if ticket == self.ticket && matches!(self.state, State::Opening | State::Filling) {
            let opening = self.state == State::Opening;
            self.state = State::Pausing { opening };
            out.push(Action::Retry(ticket));
        }
    }

    /// The pause of [`Action::Retry`] is over.
    pub(crate) fn retry(&mut self, ticket: Ticket, out: &mut Vec<Action<M>>) {
        match self.state {
            State::Pausing { opening } if ticket == self.ticket => {
                if opening {
                    self.open(out);
                } else {
                    self.fill(out);
                }
            }
            _ => {}
        }
    }

    fn open(&mut self, out: &mut Vec<Action<M>>) {
        self.ticket.question += 1;
        self.state = State::Opening;
        out.push(Action::Open(self.ticket));
    }

    fn fill(&mut self, out: &mut Vec<Action<M>>) {
        self.ticket.question += 1;
        self.again = false;
        self.state = State::Filling;
        out.push(Action::Fill(self.ticket, self.shown));
    }

    fn hold(&mut self, piece: Piece<M>) {
        if self.buffer.len() >= self.bounds.buffer {
            self.buffer.clear();
            self.again = true;
        }
        self.buffer.insert((piece.prev, piece.head), piece);
    }

    /// The database was read.
    fn go_on(&mut self, out: &mut Vec<Action<M>>) {
        self.drain(out);
        if mem::take(&mut self.again) || !self.buffer.is_empty() {
            return self.fill(out);
        }
        self.crossed = None;
        self.state = State::Live;
        out.push(Action::Live);
    }

    /// Shows the pieces that waited for what is shown now.
    fn drain(&mut self, out: &mut Vec<Action<M>>) {
        while let Some(first) = self.buffer.first_entry() {
            if first.key().0 > self.shown {
                return;
            }
            let piece = first.remove();
            self.show(piece, out);
        }
    }

    fn show(&mut self, piece: Piece<M>, out: &mut Vec<Action<M>>) {
        if piece.head <= self.shown && !self.is_broken_twice() {
            return;
        }
        if piece.messages.is_empty() {
            self.shown = piece.head;
            return out.push(Action::Erase(piece.head));
        }
        for (seq, message) in piece.messages {
            self.show_one(seq, message, out);
        }
    }

    fn show_one(&mut self, seq: Seq, message: M, out: &mut Vec<Action<M>>) {
        if seq > self.shown || self.is_broken_twice() {
            self.shown = seq;
            out.push(Action::Show(seq, message));
        }
    }
}

#[cfg(not(test))]
impl<M> Follower<M> {
    const fn is_broken_gap(&self) -> bool {
        false
    }

    const fn is_broken_again(&self) -> bool {
        false
    }

    const fn is_broken_twice(&self) -> bool {
        false
    }

    const fn is_broken_crossing(&self) -> bool {
        false
    }
}
