//! [`start`]: a socket starts a channel, and learns from [`ChannelSignal`]s what becomes of it.

use std::rc::{Rc, Weak};

use actix::{Message, WeakRecipient};
use bytestring::ByteString;

use super::Channel;
use super::callback::{self, LiveCell};
use super::context::Context;
use super::join::join;
use super::link::Link;
use super::server::{Actix, ChannelServer, JoinAnswer};
use crate::assigns::Assigns;
use crate::flow::Flow;
use crate::frame::Frame;
use crate::message::{Name, Payload, Ref};
use crate::metrics::{RouteId, time_some};
use crate::outbox::Outbox;
use crate::pubsub::{PubSub, SubscriberId};
use crate::serializer::Serializer;
use crate::trace::{Traced, begin_join};

/// What a join needs.
pub(crate) struct Start {
    pub(crate) topic: ByteString,
    pub(crate) join_ref: Ref,
    pub(crate) reference: Ref,
    pub(crate) params: Payload,
    pub(crate) assigns: Assigns,
    pub(crate) serializer: Serializer,
    pub(crate) outbox: Rc<Outbox>,
    pub(crate) flow: Rc<Flow>,
    pub(crate) pubsub: PubSub,
    pub(crate) signals: Signals,
    /// Where the trace of the connection goes on.
    pub(crate) traced: Traced,
    /// Its route, for the metrics.
    pub(crate) route: RouteId,
    /// The `phx_close` of the channel that this join replaces; sent after the join's reply.
    pub(crate) replaced: Option<Frame>,
}

/// A started channel.
pub(crate) struct Started {
    pub(crate) link: Rc<Link>,
    pub(crate) state: JoinState,
    /// Whether the actor runs, and a [`ChannelSignal::Down`] will follow.
    pub(crate) alive: bool,
}

/// How far a join is when [`start`] returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JoinState {
    Pending,
    Joined,
    Failed,
}

/// From a channel to its socket.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) enum ChannelSignal {
    /// A frame for the client from another thread.
    Deliver(Frame),
    /// The join that was pending has been answered.
    JoinDone {
        topic: Name,
        id: SubscriberId,
        joined: bool,
    },
    /// The actor has ended; `crashed` if it could not tell the client itself.
    Down {
        topic: Name,
        id: SubscriberId,
        crashed: bool,
    },
}

/// The way to the socket, which all channels of a connection share. Weak, because an address costs a hundred bytes, and
/// signals are rare.
pub(crate) type Signals = Rc<WeakRecipient<ChannelSignal>>;

/// Sends a signal, unless the connection is gone.
pub(super) fn signal(signals: &WeakRecipient<ChannelSignal>, signal: ChannelSignal) {
    if let Some(socket) = signals.upgrade() {
        socket.do_send(signal);
    }
}

/// Starts a channel: runs `join`, and answers it before returning unless it is pending.
pub(crate) fn start<C: Channel>(start: Start) -> Started {
    let mut span = begin_join(&start.traced, &start.params);
    span.set("slackir.topic", &*start.topic);
    let traced = span.traced();
    let link = Link::new(
        start.topic,
        &start.join_ref,
        &start.reference,
        start.serializer,
        start.outbox,
        start.flow,
    );
    let live = LiveCell::<C>::new(start.signals, |cell| {
        Context::new(
            Rc::clone(&link),
            start.pubsub.clone(),
            start.assigns,
            Weak::clone(cell),
        )
    });
    let join = join(
        Rc::clone(&live),
        Rc::clone(&link),
        start.pubsub,
        start.params,
    );
    let join = callback::traced(join, span);
    let answer = JoinAnswer {
        join_ref: start.join_ref,
        reference: start.reference,
        replaced: start.replaced,
        since: time_some(),
    };
    let mut server =
        ChannelServer::new(live, Rc::clone(&link), join, answer, (start.route, traced));
    let mut actix = Actix::default();
    server.resume(&mut actix);
    let state = server.join_state();
    let runs = !server.has_ended();
    // One that has ended already may have reported its end, and its socket counts reports.
    let alive = runs || server.has_reported();
    if runs {
        actix.run(server);
    }
    Started { link, state, alive }
}
