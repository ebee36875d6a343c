//! [`SocketServer`]: the actor of one client connection. Phoenix: `Phoenix.Socket`'s transport
//! process.
//!
//! It reads its own stream of frames, answers heartbeats, starts channels, and routes messages by
//! topic. While a join is pending, the client's messages wait here, and its goodbye behind them;
//! the loss of the connection, a disconnect and a drain do not.

use std::borrow::Borrow;
use std::collections::{HashSet, VecDeque};
use std::hash::{Hash, Hasher};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{
    Actor, ActorContext, AsyncContext, Context, Handler, Message as ActixMessage, Recipient,
    StreamHandler,
};
use bytestring::ByteString;
use foldhash::fast::RandomState;
use futures_core::Stream;

use super::Served;
use super::idle::Activity;
use super::limiter::{Limited, Limiter};
use super::registry::Registration;
use crate::admission::Admitted;
use crate::assigns::Assigns;
use crate::channel::{ChannelSignal, JoinState, Link, Start, Started, StopReason, ToChannel};
use crate::client::{Client, log_client};
use crate::flow::{Flow, Ticket};
use crate::frame::Frame;
use crate::message::{
    HEARTBEAT, MAX_NAME_LEN, Message, PHOENIX_TOPIC, PHX_JOIN, PHX_LEAVE, Payload, Ref, Reply,
    reason,
};
use crate::metrics::metrics;
use crate::outbox::{CloseReason, Interrupt, Outbox};
use crate::pubsub::{Broadcast, PubSub, SubscriberId, Subscription, Tap};
use crate::serializer::Serializer;

/// How often a connection with held messages looks whether its client has read the answers.
const ROOM_POLL: Duration = Duration::from_millis(10);

/// How long a goodbye waits for what the client said before it, and for the join before that.
const GOODBYE_GRACE: Duration = Duration::from_secs(5);

/// Event that closes a connection when it is broadcast on the socket's id.
const DISCONNECT: &str = "disconnect";

/// What a transport reads.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// A message of the client, and its size on the wire in bytes.
    Message(Message, usize),
    /// The last item of a stream.
    End(Ending),
}

/// Why a transport's stream has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    /// What the client is told.
    reason: CloseReason,
    /// What the channels are told.
    stop: &'static StopReason,
}

impl Ending {
    pub(crate) const GOODBYE: Self = Self::new(CloseReason::Goodbye, &StopReason::LocalClosed);
    pub(crate) const LOST: Self = Self::new(CloseReason::Lost, &StopReason::PeerClosed);
    pub(crate) const IDLE: Self = Self::new(CloseReason::Idle, &StopReason::ReadTimeout);
    pub(crate) const INACTIVE: Self = Self::new(CloseReason::Idle, &StopReason::Inactive);
    pub(crate) const SLOW: Self = Self::new(
        CloseReason::SlowConsumer,
        &StopReason::Aborted("slow consumer"),
    );
    pub(crate) const NOT_UTF8: Self = Self::new(
        CloseReason::NotUtf8,
        &StopReason::Aborted("text is not UTF-8"),
    );
    pub(crate) const TOO_BIG: Self =
        Self::new(CloseReason::TooBig, &StopReason::Aborted("frame too big"));
    pub(crate) const NO_ROOM: Self = Self::new(
        CloseReason::NoRoom,
        &StopReason::Aborted("no room for the message"),
    );
    pub(crate) const UNFINISHED: Self = Self::new(
        CloseReason::Idle,
        &StopReason::Aborted("message not ended in time"),
    );
    pub(crate) const VIOLATION: Self = Self::new(
        CloseReason::ProtocolViolation,
        &StopReason::Aborted("protocol violation"),
    );
    pub(crate) const UNDECODABLE: Self = Self::new(
        CloseReason::Undecodable,
        &StopReason::Aborted("undecodable message"),
    );
    pub(crate) const EMPTY_FRAGMENT: Self = Self::new(
        CloseReason::EmptyFragment,
        &StopReason::Aborted("empty fragment"),
    );

    /// The end of a connection whose reader was interrupted.
    pub(crate) fn of(interrupt: Interrupt) -> Self {
        match interrupt {
            Interrupt::SlowConsumer => Self::SLOW,
            Interrupt::Idle => Self::IDLE,
            Interrupt::Unfinished => Self::UNFINISHED,
            Interrupt::WriterGone => Self::LOST,
        }
    }

    /// Whether it is something that the client said, which has its place behind what it said before.
    fn is_said(self) -> bool {
        !matches!(
            self.reason,
            CloseReason::Lost | CloseReason::Idle | CloseReason::SlowConsumer
        )
    }

    const fn new(reason: CloseReason, stop: &'static StopReason) -> Self {
        Self { reason, stop }
    }
}

/// The server is going down.
#[derive(ActixMessage)]
#[rtype(result = "()")]
pub(super) struct Drain;

/// The server is full, and the connection has joined nothing.
#[derive(ActixMessage)]
#[rtype(result = "()")]
pub(super) struct Displace;

/// A `disconnect` broadcast on the socket's id.
#[derive(ActixMessage)]
#[rtype(result = "()")]
struct Disconnect;

/// What a transport hands over when a client has connected.
pub(crate) struct Connection {
    pub(crate) mount: Arc<Served>,
    pub(crate) pubsub: PubSub,
    pub(crate) registration: Registration,
    /// Counts it among the connections of the server and of the client's address.
    pub(crate) _admitted: Admitted,
    pub(crate) serializer: Serializer,
    pub(crate) assigns: Assigns,
    pub(crate) outbox: Rc<Outbox>,
    pub(crate) flow: Rc<Flow>,
    pub(crate) activity: Rc<Activity>,
}

/// What waits for a join, and what waits behind that.
#[derive(Default)]
struct Waiting {
    /// The join that is pending: nothing else of the client is handled until it is answered.
    joining: Option<SubscriberId>,
    /// What the client has sent meanwhile.
    held: VecDeque<(Message, Ticket)>,
    /// How the client's stream has ended, as long as messages of it are held.
    goodbye: Option<Ending>,
}

/// A channel of the connection, found by its topic.
struct Entry(Rc<Link>);

impl Borrow<str> for Entry {
    fn borrow(&self) -> &str {
        self.0.topic()
    }
}

impl Hash for Entry {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.topic().hash(state);
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.0.topic() == other.0.topic()
    }
}

impl Eq for Entry {}

/// The actor. See the module.
pub(crate) struct SocketServer {
    connection: Connection,
    /// The joined topics, and the one whose join is pending.
    entries: HashSet<Entry, RandomState>,
    /// What waits because the client is ahead of its channels: mostly nothing, so it is boxed.
    waiting: Option<Box<Waiting>>,
    limiter: Limiter,
    /// Channel actors that have not ended, entries or not.
    alive: u32,
    ending: bool,
    /// The socket's id.
    _id: Option<Box<Subscription>>,
    signals: Rc<Recipient<ChannelSignal>>,
}

impl SocketServer {
    /// Starts the actor on this thread. It reads `incoming` to its end and writes to the
    /// connection's outbox.
    pub(crate) fn start(
        mut connection: Connection,
        incoming: impl Stream<Item = Incoming> + 'static,
    ) {
        Self::create(|ctx| {
            let addr = ctx.address();
            let disconnect = addr.clone().recipient();
            ctx.add_stream(incoming);
            connection.registration.enter(&addr);
            let id = connection.outbox.client().id();
            Self {
                _id: id.map(|id| Box::new(subscribe_id(&connection.pubsub, id, disconnect))),
                connection,
                entries: HashSet::default(),
                waiting: None,
                limiter: Limiter::default(),
                alive: 0,
                ending: false,
                signals: Rc::new(addr.recipient()),
            }
        });
    }

    fn receive(&mut self, message: Message, size: usize) {
        let rates = &self.connection.mount.options.rates;
        let now = self.connection.activity.now();
        if let Err(limited) = self.limiter.take(rates, &message, size, now)
            && self.limit(&message, limited)
        {
            return;
        }
        if !self.connection.flow.admits(size) {
            metrics().overloaded.increment(1);
            return self.reply(&message.join_ref, &message, &overloaded());
        }
        let ticket = self.connection.flow.enter(size);
        if self.is_behind() {
            self.waiting().held.push_back((message, ticket));
        } else {
            self.dispatch(message, ticket);
        }
    }

    /// A message that is over a rate; whether it is refused.
    fn limit(&self, message: &Message, limited: Limited) -> bool {
        metrics().limited.increment(1);
        if let Some(rest) = limited.rest() {
            self.connection.flow.rest(rest);
        }
        let refusal = limited.refusal(message);
        if let Some(refusal) = &refusal {
            self.reply(&message.join_ref, message, refusal);
        }
        refusal.is_some()
    }

    /// Whether the client has said what is still to be handled.
    fn is_behind(&self) -> bool {
        let waiting = self.waiting.as_ref();
        waiting.is_some_and(|waiting| waiting.joining.is_some() || !waiting.held.is_empty())
    }

    fn waiting(&mut self) -> &mut Waiting {
        self.waiting.get_or_insert_default()
    }

    fn joining(&self) -> Option<SubscriberId> {
        self.waiting.as_ref()?.joining
    }

    fn goodbye(&self) -> Option<Ending> {
        self.waiting.as_ref()?.goodbye
    }

    /// The next message that was held, if it may be handled.
    fn next_held(&mut self) -> Option<(Message, Ticket)> {
        let waiting = self.waiting.as_mut()?;
        let may_read = waiting.joining.is_none() && self.connection.outbox.has_room();
        may_read.then(|| waiting.held.pop_front()).flatten()
    }

    /// Handles one message of the client, in the order of Phoenix's rules.
    fn dispatch(&mut self, message: Message, ticket: Ticket) {
        if message.join_ref.is_too_long() || message.reference.is_too_long() {
            let refusal = Reply::error_reason(reason::REF_TOO_LONG);
            return self.reply(&message.join_ref, &message, &refusal);
        }
        let Some(topic) = message.topic.as_str() else {
            return self.unmatched(&message);
        };
        let event = message.event.as_str();
        if topic == PHOENIX_TOPIC && event == Some(HEARTBEAT) {
            return self.reply(&Ref::NULL, &message, &Reply::ok(Payload::EMPTY));
        }
        if topic.len() > MAX_NAME_LEN || event.is_some_and(|event| event.len() > MAX_NAME_LEN) {
            log_client!(info, self.client(), topic, event, "socket.name.too_long");
            let refusal = Reply::error_reason(reason::NAME_TOO_LONG);
            return self.reply(&message.join_ref, &message, &refusal);
        }
        let link = self.entries.get(topic).map(|Entry(link)| link);
        let link = link.filter(|link| link.is_routed());
        match (link, event) {
            (_, Some(PHX_JOIN)) => self.join(message),
            (None, Some(PHX_LEAVE)) => {
                self.reply(&message.join_ref, &message, &Reply::ok(Payload::EMPTY));
            }
            (None, _) => self.unmatched(&message),
            (Some(link), _) if !link.accepts(&message.join_ref) => {}
            (Some(link), Some(PHX_LEAVE)) => {
                let reference = message.reference;
                link.deliver(ToChannel::Leave { reference, ticket });
            }
            (Some(link), _) => {
                let Message {
                    event,
                    payload,
                    reference,
                    ..
                } = message;
                link.deliver(ToChannel::Event {
                    event,
                    payload,
                    reference,
                    ticket,
                });
            }
        }
    }

    fn join(&mut self, message: Message) {
        let mount = Arc::clone(&self.connection.mount);
        let topic = message.topic.as_str().unwrap_or_default();
        let replaced = self.replace(topic);
        let refusal = match mount.router.find(topic) {
            None => reason::UNMATCHED_TOPIC,
            Some(_) if self.is_full() => reason::TOO_MANY_CHANNELS,
            Some(routed) => {
                let connection = &self.connection;
                let start = Start {
                    topic: ByteString::from(topic),
                    join_ref: message.join_ref,
                    reference: message.reference,
                    params: message.payload,
                    assigns: mount.router.assigns(routed, &connection.assigns),
                    serializer: connection.serializer,
                    outbox: Rc::clone(&connection.outbox),
                    flow: Rc::clone(&connection.flow),
                    pubsub: connection.pubsub.clone(),
                    signals: Rc::clone(&self.signals),
                    replaced,
                };
                return self.started((routed.start)(start));
            }
        };
        match refusal {
            reason::UNMATCHED_TOPIC => self.unmatched(&message),
            refusal => {
                log_client!(
                    info,
                    self.client(),
                    topic,
                    reason = refusal,
                    "socket.join.refused"
                );
                self.reply(&message.join_ref, &message, &Reply::error_reason(refusal));
            }
        }
        if let Some(close) = replaced {
            self.connection.outbox.push(close);
        }
    }

    fn started(&mut self, started: Started) {
        self.alive += u32::from(started.alive);
        if started.state == JoinState::Pending {
            self.waiting().joining = Some(started.link.id());
            self.connection.activity.set_joining(true);
        }
        if started.state == JoinState::Joined {
            self.connection.registration.set_joined(true);
        }
        if started.state != JoinState::Failed {
            self.entries.replace(Entry(started.link));
        }
    }

    /// Kills the channel that a duplicate join replaces; returns its `phx_close`.
    fn replace(&mut self, topic: &str) -> Option<Frame> {
        let Entry(link) = self.entries.take(topic)?;
        link.is_routed().then(|| link.replace())
    }

    /// Whether no more channels may be joined. Entries of channels that have ended do not count.
    fn is_full(&mut self) -> bool {
        let max = self.connection.mount.options.max_channels;
        if self.entries.len() >= max {
            self.entries.retain(|Entry(link)| link.is_routed());
        }
        self.entries.len() >= max
    }

    fn client(&self) -> &Client {
        self.connection.outbox.client()
    }

    fn unmatched(&self, message: &Message) {
        let (topic, event) = (message.topic.as_str(), message.event.as_str());
        log_client!(info, self.client(), topic, event, "socket.topic.unmatched");
        self.reply(
            &Ref::NULL,
            message,
            &Reply::error_reason(reason::UNMATCHED_TOPIC),
        );
    }

    fn reply(&self, join_ref: &Ref, message: &Message, reply: &Reply) {
        if self.connection.outbox.closed().is_some() {
            return;
        }
        let Message {
            reference, topic, ..
        } = message;
        match self
            .connection
            .serializer
            .reply(join_ref, reference, topic, reply)
        {
            Ok(frame) => self.connection.outbox.push(frame),
            // Only binary responses can fail, and the socket itself makes none.
            Err(error) => log_client!(error, self.client(), %error, "socket.reply.unencodable"),
        }
    }

    /// The pending join is answered: what was held is handled, up to the next pending join, and as
    /// long as the client has room for the answers; then the goodbye, if there was one.
    fn read_on(&mut self, ctx: &mut Context<Self>) {
        self.waiting().joining = None;
        self.connection.activity.set_joining(false);
        while let Some((message, ticket)) = self.next_held() {
            self.dispatch(message, ticket);
        }
        if !self.is_behind() {
            self.part(ctx);
            self.waiting = None;
        } else if self.joining().is_none() {
            ctx.run_later(ROOM_POLL, |socket, ctx| {
                if socket.joining().is_none() {
                    socket.read_on(ctx);
                }
            });
        }
    }

    /// The client's stream has ended by something that it said while it was not heard out.
    fn part_later(&mut self, ending: Ending, ctx: &mut Context<Self>) {
        self.waiting().goodbye = Some(ending);
        ctx.run_later(GOODBYE_GRACE, Self::part);
    }

    fn part(&mut self, ctx: &mut Context<Self>) {
        if let Some(Ending { reason, stop }) = self.goodbye() {
            self.end(reason, stop, ctx);
        }
    }

    /// Ends the connection: nothing more is taken in, the channels are told, and the actor stops
    /// when the last of them has ended.
    fn end(&mut self, reason: CloseReason, stop: &StopReason, ctx: &mut Context<Self>) {
        if self.ending {
            return;
        }
        self.ending = true;
        self.close_channels(reason, stop);
        self.stop_if_alone(ctx);
    }

    fn close_channels(&mut self, reason: CloseReason, stop: &StopReason) {
        log_client!(info, self.client(), ?reason, "socket.closed");
        self.connection.outbox.close(reason);
        self.waiting = None;
        for Entry(link) in self.entries.drain() {
            link.close(stop.clone());
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
            Incoming::End(ending) if ending.is_said() && self.is_behind() => {
                self.part_later(ending, ctx);
            }
            Incoming::End(Ending { reason, stop }) => self.end(reason, stop, ctx),
            // Requests of a long-polling client may still come after its end.
            Incoming::Message(..) if self.goodbye().is_some() => {}
            Incoming::Message(message, size) => self.receive(message, size),
        }
    }

    /// The stream is over; the actor lives on until its channels have ended.
    fn finished(&mut self, ctx: &mut Self::Context) {
        if self.goodbye().is_none() {
            self.end(CloseReason::Lost, &StopReason::PeerClosed, ctx);
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
                    self.forget(&topic, id);
                }
                if self.joining() == Some(id) {
                    self.read_on(ctx);
                }
            }
            ChannelSignal::Down { topic, id, crashed } => {
                self.alive -= 1;
                if self.alive == 0 {
                    self.connection.registration.set_joined(false);
                }
                if let Some(link) = self.forget(&topic, id)
                    && crashed
                {
                    link.end(true);
                }
                if self.joining() == Some(id) {
                    self.read_on(ctx);
                }
                self.stop_if_alone(ctx);
            }
        }
    }
}

impl SocketServer {
    /// Removes the entry of a channel that has ended, unless another has taken its place.
    fn forget(&mut self, topic: &str, id: SubscriberId) -> Option<Rc<Link>> {
        let Entry(link) = self.entries.get(topic)?;
        if link.id() != id {
            return None;
        }
        self.entries.take(topic).map(|Entry(link)| link)
    }
}

impl Handler<Drain> for SocketServer {
    type Result = ();

    fn handle(&mut self, _: Drain, ctx: &mut Self::Context) {
        self.end(CloseReason::Draining, &StopReason::Draining, ctx);
    }
}

impl Handler<Displace> for SocketServer {
    type Result = ();

    fn handle(&mut self, _: Displace, ctx: &mut Self::Context) {
        // It may have joined since.
        if self.alive == 0 {
            self.end(CloseReason::Displaced, &StopReason::Disconnected, ctx);
        }
    }
}

impl Handler<Disconnect> for SocketServer {
    type Result = ();

    fn handle(&mut self, _: Disconnect, ctx: &mut Self::Context) {
        self.end(CloseReason::Disconnected, &StopReason::Disconnected, ctx);
    }
}

/// An actor that dies by a panic of its own still says goodbye and ends its channels.
impl Drop for SocketServer {
    fn drop(&mut self) {
        if !self.ending {
            self.close_channels(CloseReason::Crashed, &StopReason::Aborted("socket crashed"));
        }
    }
}

/// The answer to a message for which those of all clients in flight leave no room.
fn overloaded() -> Reply {
    Reply::error(serde_json::json!({
        "reason": reason::OVERLOADED,
        "retry_after_ms": 1_000,
    }))
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
    pubsub.subscribe_tap(id, SubscriberId::next(), &tap)
}
