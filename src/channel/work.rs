//! [`ChannelWork`]: what a channel is given to do, from its socket, the fan-out and the application.

use std::any::Any;
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
