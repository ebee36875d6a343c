//! [`ChannelWork`]: what a channel is given to do, from its socket, the fan-out and the application. [`WorkQueue`]: what
//! of it waits.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::Arc;

use super::StopReason;
use super::timer::Tick;
use crate::flow::Ticket;
use crate::message::{Message, PHX_LEAVE};
use crate::pubsub::Broadcast;

/// One piece of a channel's work. All but [`Info`](Self::Info) comes from the channel's own thread.
pub(crate) enum ChannelWork {
    /// A message of the client; the ticket counts it as in flight.
    Message(Message, Ticket),
    /// An intercepted broadcast.
    Out(Arc<Broadcast>),
    /// A broadcast on another topic that the channel has subscribed to.
    Elsewhere(Arc<Broadcast>),
    /// An info for `handle_info`, of the channel's own type, which its link does not know.
    Info(Box<dyn Any>, Option<Tick>),
    /// Nothing has come for as long as the channel asked for.
    Timeout,
    /// `terminate`, the last callback.
    Terminate(StopReason),
    /// More broadcasts wait for the channel than may.
    Overflow,
    /// The connection has ended, or the server closes the channel.
    Closed(StopReason),
    /// A duplicate join has taken the topic over: the channel ends and tells its client nothing.
    Kill,
}

impl ChannelWork {
    /// Whether it ends the channel before the work that waits.
    pub(super) fn is_urgent(&self) -> bool {
        matches!(self, Self::Closed(_) | Self::Overflow)
    }

    /// Whether the client leaves.
    pub(super) fn is_leave(&self) -> bool {
        matches!(self, Self::Message(message, _) if message.event.as_str() == Some(PHX_LEAVE))
    }
}

/// The work that waits for its turn. Most channels never have any, and then it takes 8 bytes.
#[expect(
    clippy::box_collection,
    reason = "all channels have room for it, and few use it"
)]
#[derive(Default)]
pub(super) struct WorkQueue(Option<Box<VecDeque<ChannelWork>>>);

impl WorkQueue {
    pub(super) fn push(&mut self, work: ChannelWork) {
        self.0.get_or_insert_default().push_back(work);
    }

    /// The work that is next.
    pub(super) fn pop(&mut self) -> Option<ChannelWork> {
        self.0.as_mut()?.pop_front()
    }

    pub(super) fn clear(&mut self) {
        self.0 = None;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|queue| queue.is_empty())
    }

    /// Whether the client's leave is among it.
    pub(super) fn has_leave(&self) -> bool {
        let mut queue = self.0.iter().flat_map(|queue| queue.iter());
        queue.any(ChannelWork::is_leave)
    }
}
