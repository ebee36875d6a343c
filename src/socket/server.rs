//! [`SocketServer`]: the actor of one client connection. Phoenix: `Phoenix.Socket`'s transport
//! process.
//!
//! It reads its own stream of messages, answers heartbeats, starts channels, and routes messages by topic. While a
//! join is pending, the client's messages wait in [`Held`], and its goodbye behind them; the loss of the connection, a
//! disconnect and a drain do not wait.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::fut::wrap_future;
use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Handler, Message as ActixMessage, Recipient,
    StreamHandler,
};
use bytestring::ByteString;
use futures_core::Stream;

use super::Routed;
use super::channels::Channels;
use super::connection::{Connection, Incoming};
use super::ending::ConnectionEnd;
use super::expiry::Expiry;
use super::held::Held;
use super::inspect::{ConnectionFilter, ConnectionInfo, Traffic};
use super::limits::Gate;
use super::permit::Permit;
use crate::actor::Context;
use crate::channel::{ChannelSignal, ChannelWork, JoinState, Signals, Start, Started};
use crate::client::log_client;
use crate::flow::Ticket;
use crate::frame::Frame;
use crate::message::{
    DISCONNECT, HEARTBEAT, Message, PHOENIX_TOPIC, PHX_JOIN, PHX_LEAVE, Payload, Ref, Reply, reason,
};
use crate::metrics::{Hot, connection_metrics, count, keep_adding, metrics};
use crate::pubsub::{Broadcast, PubSub, SubscriberId, Subscription, Tap};
use crate::serializer::Serializer;

/// A connection with held messages checks this often whether its client has read the answers.
const ROOM_POLL: Duration = Duration::from_millis(10);

/// A goodbye waits at most this long for the messages before it and the join before them.
const GOODBYE_GRACE: Duration = Duration::from_secs(5);

/// The server is going down.
#[derive(ActixMessage)]
#[rtype(result = "()")]
pub(super) struct Drain;

/// The server is full, and the connection has joined nothing.
#[derive(ActixMessage)]
#[rtype(result = "()")]
pub(super) struct Displace;

/// The connection's permit may not hold any more, or it may be banned.
#[derive(ActixMessage)]
#[rtype(result = "()")]
pub(super) struct CheckPermit;

/// Asks the connection what it is, if the filter selects it.
#[derive(ActixMessage)]
#[rtype(result = "Option<ConnectionInfo>")]
pub(super) struct Describe(pub(super) Arc<ConnectionFilter>);

/// Ends the connection, if the filter selects it. The answer: whether it does.
#[derive(ActixMessage)]
#[rtype(result = "bool")]
pub(super) struct DisconnectSelected(pub(super) Arc<ConnectionFilter>);

/// A `disconnect` broadcast on the socket's id.
#[derive(ActixMessage)]
#[rtype(result = "()")]
struct Disconnect;

/// The actor. See the module.
pub(crate) struct SocketServer {
    connection: Connection,
    channels: Channels,
    held: Held,
    gate: Gate,
    /// Channel actors that have not ended, entries or not.
    alive: u32,
    ending: bool,
    /// The bytes of the client's messages.
    received: u64,
    /// Listens on the socket's id until the actor ends.
    _id: Option<Box<Subscription>>,
    signals: Signals,
}

impl SocketServer {
    /// Starts the actor on this thread. It reads `incoming` to its end and writes to the
    /// connection's outbox.
    pub(crate) fn start(
        mut connection: Connection,
        incoming: impl Stream<Item = Incoming> + 'static,
    ) {
        keep_adding();
        Context::start(|ctx: &mut Context<Self>| {
            let addr = ctx.address();
            let disconnect = addr.clone().recipient();
            ctx.add_stream(incoming);
            if let Some(expiry) = connection.assigns.get::<Expiry>() {
                let end = wrap_future::<_, Self>(expiry.passed());
                ctx.spawn(end.map(|(), socket, ctx| socket.end(ConnectionEnd::TokenExpired, ctx)));
            }
            let number = connection.client().number();
            connection.registration.enter(number, &addr);
            count_open(&connection, 1.0);
            connection_metrics().opened(connection.polls()).increment(1);
            if due_end(&connection).is_some() {
                addr.do_send(CheckPermit);
            }
            let id = connection.outbox.client().id();
            Self {
                _id: id.map(|id| Box::new(subscribe_id(&connection.pubsub, id, disconnect))),
                connection,
                channels: Channels::default(),
                held: Held::default(),
                gate: Gate::default(),
                alive: 0,
                ending: false,
                received: 0,
                signals: Rc::new(addr.downgrade().recipient()),
            }
        });
    }

    fn receive(&mut self, message: Message, size: usize) {
        count_received(self.connection.polls(), &message, size);
        self.received += size as u64;
        match self.gate.admit(&self.connection, &message, size) {
            Ok(ticket) if self.held.is_behind() => self.held.push(message, ticket),
            Ok(ticket) => self.dispatch(message, ticket),
            Err(refusal) => {
                if let Some(reason) = refusal.failure() {
                    metrics().error_replies(reason.as_deref()).increment(1);
                }
                if message.event.as_str() == Some(PHX_JOIN) {
                    self.count_limited_join(&message);
                }
                self.connection.reply(&message.join_ref, &message, &refusal);
            }
        }
    }

    /// Handles one message of the client, in the order of Phoenix's rules.
    fn dispatch(&mut self, message: Message, ticket: Ticket) {
        if !Gate::admits_refs(&message) {
            return self.refuse(&message, reason::REF_TOO_LONG);
        }
        let Some(topic) = message.topic.as_str() else {
            return self.unmatched(&message);
        };
        let event = message.event.as_str();
        if topic == PHOENIX_TOPIC && event == Some(HEARTBEAT) {
            let ok = Reply::ok(Payload::EMPTY);
            return self.connection.reply(&Ref::NULL, &message, &ok);
        }
        if !Gate::admits_names(topic, event) {
            log_client!(
                info,
                self.connection.client(),
                topic,
                event,
                "socket.name.too_long"
            );
            return self.refuse(&message, reason::NAME_TOO_LONG);
        }
        match (self.channels.find(topic), event) {
            (_, Some(PHX_JOIN)) => self.join(message),
            (None, Some(PHX_LEAVE)) => {
                let ok = Reply::ok(Payload::EMPTY);
                self.connection.reply(&message.join_ref, &message, &ok);
            }
            (None, _) => self.unmatched(&message),
            (Some(link), _) if !link.accepts(&message.join_ref) => {}
            (Some(link), _) => link.deliver(ChannelWork::Message(message, ticket)),
        }
    }

    /// Starts a channel. A duplicate join replaces the topic's channel, whether or not it is refused.
    fn join(&mut self, message: Message) {
        let mount = Arc::clone(&self.connection.mount);
        let topic = message.topic.as_str().unwrap_or_default();
        let replaced = self.channels.replace(topic);
        match mount.router.find(topic) {
            Some(routed) if Gate::admits_join(&self.connection, &mut self.channels) => {
                let start = self.start_of(routed, message, replaced);
                return self.started((routed.start)(start));
            }
            Some(routed) => {
                let reason = reason::TOO_MANY_CHANNELS;
                routed.id.metrics().join_limited.increment(1);
                log_client!(
                    info,
                    self.connection.client(),
                    topic,
                    reason,
                    "socket.join.refused"
                );
                self.refuse(&message, reason);
            }
            None => self.unmatched(&message),
        }
        if let Some(close) = replaced {
            self.connection.outbox.push(close);
        }
    }

    /// What a channel of this route needs for the join.
    fn start_of(&self, routed: &Routed, message: Message, replaced: Option<Frame>) -> Start {
        let connection = &self.connection;
        Start {
            topic: ByteString::from(message.topic.as_str().unwrap_or_default()),
            join_ref: message.join_ref,
            reference: message.reference,
            params: message.payload,
            assigns: connection.mount.router.assigns(routed, &connection.assigns),
            route: routed.id,
            serializer: connection.serializer,
            outbox: Rc::clone(&connection.outbox),
            flow: Rc::clone(&connection.flow),
            pubsub: connection.pubsub.clone(),
            signals: Rc::clone(&self.signals),
            traced: connection.traced.clone(),
            replaced,
        }
    }

    fn started(&mut self, started: Started) {
        self.alive += u32::from(started.alive);
        if started.state == JoinState::Pending {
            self.held.set_joining(Some(started.link.id()));
            self.connection.activity.set_joining(true);
        }
        if started.state == JoinState::Joined {
            self.connection.registration.set_joined(true);
        }
        if started.state != JoinState::Failed {
            self.channels.enter(started.link);
        }
    }

    /// Counts a join that the gate has refused.
    fn count_limited_join(&self, message: &Message) {
        let topic = message.topic.as_str();
        let routed = topic.and_then(|topic| self.connection.mount.router.find(topic));
        if let Some(routed) = routed {
            routed.id.metrics().join_limited.increment(1);
        }
    }

    fn unmatched(&self, message: &Message) {
        let (topic, event) = (message.topic.as_str(), message.event.as_str());
        log_client!(
            info,
            self.connection.client(),
            topic,
            event,
            "socket.topic.unmatched: the client must join it first, and a room or a route must have \
             it"
        );
        let unmatched = Reply::error_because(reason::UNMATCHED_TOPIC);
        metrics()
            .error_replies(Some(reason::UNMATCHED_TOPIC))
            .increment(1);
        self.connection.reply(&Ref::NULL, message, &unmatched);
    }

    fn refuse(&self, message: &Message, reason: &'static str) {
        metrics().error_replies(Some(reason)).increment(1);
        let refusal = Reply::error_because(reason);
        self.connection.reply(&message.join_ref, message, &refusal);
    }

    /// The pending join is answered: handles the held messages, up to the next pending join and while the client
    /// has room for the answers; then the goodbye, if there is one.
    fn read_on(&mut self, ctx: &mut Context<Self>) {
        self.held.set_joining(None);
        self.connection.activity.set_joining(false);
        while self.connection.outbox.has_room()
            && let Some((message, ticket)) = self.held.pop()
        {
            self.dispatch(message, ticket);
        }
        if !self.held.is_behind() {
            self.part(ctx);
            self.held.clear();
        } else if self.held.joining().is_none() {
            ctx.run_later(ROOM_POLL, |socket, ctx| {
                if socket.held.joining().is_none() {
                    socket.read_on(ctx);
                }
            });
        }
    }

    /// Ends the connection behind the held messages.
    fn part_later(&mut self, why: ConnectionEnd, ctx: &mut Context<Self>) {
        self.held.set_goodbye(why);
        ctx.run_later(GOODBYE_GRACE, Self::part);
    }

    fn part(&mut self, ctx: &mut Context<Self>) {
        if let Some(why) = self.held.goodbye() {
            self.end(why, ctx);
        }
    }

    /// Ends the connection: takes nothing more in, closes the channels, and stops when the last of them has ended.
    fn end(&mut self, why: ConnectionEnd, ctx: &mut Context<Self>) {
        if self.ending {
            return;
        }
        self.ending = true;
        self.close_channels(why);
        self.stop_if_alone(ctx);
    }

    fn close_channels(&mut self, why: ConnectionEnd) {
        let reason = why.close();
        log_client!(info, self.connection.client(), ?reason, "socket.closed");
        connection_metrics().closed(why.label()).increment(1);
        self.connection.outbox.close(reason);
        self.held.clear();
        self.channels.close(&why.stop());
    }

    /// Whether the filter selects the connection.
    fn is_selected(&self, filter: &ConnectionFilter) -> bool {
        let ConnectionFilter {
            id,
            user,
            address,
            topic,
        } = filter;
        let connection = &self.connection;
        let client = connection.client();
        !self.ending
            && id.is_none_or(|id| id.number() == client.number())
            && address.is_none_or(|ip| client.ip() == Some(ip.to_canonical()))
            && (topic.as_ref()).is_none_or(|topic| self.channels.has_joined(topic))
            && (user.as_ref()).is_none_or(|user| connection.user().as_ref() == Some(user))
    }

    fn describe(&self) -> ConnectionInfo {
        let connection = &self.connection;
        let client = connection.client();
        ConnectionInfo {
            id: client.number().into(),
            socket_id: client.id().map(str::to_owned),
            user: connection.user(),
            address: client.ip(),
            transport: connection.activity.sign().transport(),
            since: connection.since(),
            topics: self.channels.joined().map(str::to_owned).collect(),
            outbox_bytes: connection.outbox.bytes(),
            traffic: Traffic {
                received_bytes: self.received,
                sent_bytes: connection.outbox.sent(),
                limited: connection.flow.limited().into(),
            },
        }
    }

    fn stop_if_alone(&self, ctx: &mut Context<Self>) {
        if self.ending && self.alive == 0 {
            ctx.stop();
        }
    }
}

impl Actor for SocketServer {
    type Context = Context<Self>;
}

impl StreamHandler<Incoming> for SocketServer {
    fn handle(&mut self, incoming: Incoming, ctx: &mut Self::Context) {
        match incoming {
            _ if self.ending => {}
            Incoming::End(why) if why.waits() && self.held.is_behind() => self.part_later(why, ctx),
            Incoming::End(why) => self.end(why, ctx),
            // Requests of a client that polls may still come after its end.
            Incoming::Message(..) if self.held.goodbye().is_some() => {}
            Incoming::Message(message, size) => self.receive(message, size),
        }
    }

    /// The stream is over; the actor lives on until its channels have ended.
    fn finished(&mut self, ctx: &mut Self::Context) {
        if self.held.goodbye().is_none() {
            self.end(ConnectionEnd::Lost, ctx);
        }
    }
}

impl Handler<ChannelSignal> for SocketServer {
    type Result = ();

    fn handle(&mut self, signal: ChannelSignal, ctx: &mut Self::Context) {
        match signal {
            ChannelSignal::Deliver(frame) => self.connection.outbox.push(frame),
            ChannelSignal::JoinDone { topic, id, joined } => {
                if joined {
                    self.connection.registration.set_joined(true);
                } else {
                    self.channels.forget(&topic, id);
                }
                if self.held.joining() == Some(id) {
                    self.read_on(ctx);
                }
            }
            ChannelSignal::Down { topic, id, crashed } => {
                self.alive -= 1;
                if self.alive == 0 {
                    self.connection.registration.set_joined(false);
                }
                if let Some(link) = self.channels.forget(&topic, id)
                    && crashed
                {
                    link.end(true);
                }
                if self.held.joining() == Some(id) {
                    self.read_on(ctx);
                }
                self.stop_if_alone(ctx);
            }
        }
    }
}

impl Handler<Drain> for SocketServer {
    type Result = ();

    fn handle(&mut self, _: Drain, ctx: &mut Self::Context) {
        self.end(ConnectionEnd::Draining, ctx);
    }
}

impl Handler<Displace> for SocketServer {
    type Result = ();

    fn handle(&mut self, _: Displace, ctx: &mut Self::Context) {
        // It may have joined since.
        if self.alive == 0 {
            self.end(ConnectionEnd::Displaced, ctx);
        }
    }
}

impl Handler<CheckPermit> for SocketServer {
    type Result = ();

    fn handle(&mut self, _: CheckPermit, ctx: &mut Self::Context) {
        if let Some(why) = due_end(&self.connection) {
            self.end(why, ctx);
        }
    }
}

impl Handler<Describe> for SocketServer {
    type Result = Option<ConnectionInfo>;

    fn handle(&mut self, Describe(filter): Describe, _: &mut Self::Context) -> Self::Result {
        self.is_selected(&filter).then(|| self.describe())
    }
}

impl Handler<DisconnectSelected> for SocketServer {
    type Result = bool;

    fn handle(
        &mut self,
        DisconnectSelected(filter): DisconnectSelected,
        ctx: &mut Self::Context,
    ) -> bool {
        let is_selected = self.is_selected(&filter);
        if is_selected {
            self.end(ConnectionEnd::Disconnected, ctx);
        }
        is_selected
    }
}

impl Handler<Disconnect> for SocketServer {
    type Result = ();

    fn handle(&mut self, _: Disconnect, ctx: &mut Self::Context) {
        self.end(ConnectionEnd::Disconnected, ctx);
    }
}

/// An actor that panics still closes its outbox and its channels.
impl Drop for SocketServer {
    fn drop(&mut self) {
        if !self.ending {
            self.close_channels(ConnectionEnd::Crashed);
        }
        count_open(&self.connection, -1.0);
    }
}

/// Adds the connection to those that are open, or takes it out.
fn count_open(connection: &Connection, change: f64) {
    let is_v1 = connection.serializer == Serializer::V1;
    let open = connection_metrics().open(connection.polls(), is_v1);
    open.increment(change);
}

/// Counts a client's message by its transport and its kind.
fn count_received(polls: bool, message: &Message, size: usize) {
    let (frames, bytes) = if polls {
        (Hot::LongPollFramesReceived, Hot::LongPollBytesReceived)
    } else {
        (Hot::WebSocketFramesReceived, Hot::WebSocketBytesReceived)
    };
    count(frames, 1);
    count(bytes, size as u64);
    let kind = match (&message.payload, message.event.as_str()) {
        (Payload::Binary(_), _) => Hot::BinaryPushes,
        (_, Some(HEARTBEAT)) => Hot::Heartbeats,
        (_, Some(PHX_JOIN)) => Hot::Joins,
        (_, Some(PHX_LEAVE)) => Hot::Leaves,
        _ => Hot::Pushes,
    };
    count(kind, 1);
}

/// Why the connection may not go on; `None` if it may.
fn due_end(connection: &Connection) -> Option<ConnectionEnd> {
    let permit = connection.assigns.get::<Permit>();
    if !permit.is_none_or(Permit::holds) {
        return Some(ConnectionEnd::TokenRevoked);
    }
    let bans = connection.registration.sockets().bans();
    let is_banned = bans.refuse_any() && {
        let user = connection.user();
        bans.refuses(user.as_deref(), connection.client().ip())
    };
    is_banned.then_some(ConnectionEnd::Banned)
}

/// Listens on the socket's id.
fn subscribe_id(pubsub: &PubSub, id: &str, socket: Recipient<Disconnect>) -> Subscription {
    struct IdTap(Recipient<Disconnect>);
    impl Tap for IdTap {
        fn receive(&self, broadcast: &Arc<Broadcast>) {
            if broadcast.event() == DISCONNECT {
                self.0.do_send(Disconnect);
            }
        }
    }
    let tap: Rc<dyn Tap> = Rc::new(IdTap(socket));
    pubsub.subscribe_tap_here(id, SubscriberId::next(), &tap)
}
