//! [`Held`]: the messages of a client that is ahead of its channels, and the goodbye behind them.

use std::collections::VecDeque;

use super::ending::ConnectionEnd;
use crate::flow::Ticket;
use crate::message::Message;
use crate::pubsub::SubscriberId;

/// Boxed, because it is mostly empty.
#[derive(Default)]
pub(super) struct Held(Option<Box<Holding>>);

#[derive(Default)]
struct Holding {
    /// The pending join: nothing else of the client is handled until it is answered.
    joining: Option<SubscriberId>,
    messages: VecDeque<(Message, Ticket)>,
    /// How the client's stream has ended, while messages of it are held.
    goodbye: Option<ConnectionEnd>,
}

impl Held {
    /// Whether a new message has to wait behind others.
    pub(super) fn is_behind(&self) -> bool {
        let held = self.0.as_ref();
        held.is_some_and(|held| held.joining.is_some() || !held.messages.is_empty())
    }

    /// The channel whose join is pending.
    pub(super) fn joining(&self) -> Option<SubscriberId> {
        self.0.as_ref()?.joining
    }

    /// A join is pending, or answered.
    pub(super) fn set_joining(&mut self, joining: Option<SubscriberId>) {
        self.0.get_or_insert_default().joining = joining;
    }

    pub(super) fn goodbye(&self) -> Option<ConnectionEnd> {
        self.0.as_ref()?.goodbye
    }

    pub(super) fn set_goodbye(&mut self, why: ConnectionEnd) {
        self.0.get_or_insert_default().goodbye = Some(why);
    }

    pub(super) fn push(&mut self, message: Message, ticket: Ticket) {
        let held = self.0.get_or_insert_default();
        held.messages.push_back((message, ticket));
    }

    /// The next message, unless a join is pending.
    pub(super) fn pop(&mut self) -> Option<(Message, Ticket)> {
        let held = self.0.as_mut().filter(|held| held.joining.is_none())?;
        held.messages.pop_front()
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) {
        self.0 = None;
    }
}
