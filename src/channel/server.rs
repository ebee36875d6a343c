//! [`ChannelServer`]: the actor of one joined topic of one connection.
//! Phoenix: `Phoenix.Channel.Server`.
//!
//! A thin shell round the application's channel: it keeps the order of messages, runs one callback
//! at a time, and turns what a callback returns into frames. A callback is polled once in place. If
//! it is pending it is parked in `running` while the mailbox stays open, so that the end of the
//! connection, a duplicate join and a leave still arrive; they drop what is running.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker, ready};
use std::time::Duration;

use actix::{
    Actor, ActorContext, ActorFuture, AsyncContext, Handler, Message, Recipient, SpawnHandle,
};
use bytestring::ByteString;

use super::callback::{self, Callback, Done, Live, Shared, guarded};
use super::catch_up::CatchUp;
use super::context::Context;
use super::join::{Accepted, JoinFailed, Place, Start, join};
use super::link::{Link, ToChannel};
use super::log::Form;
use super::{Channel, Failure, HandleIn, HandleInResult, NO_HANDLER, Refused, StopReason};
use crate::client::{Client, log_client};
use crate::flow::Ticket;
use crate::frame::Frame;
use crate::message::{Name, Payload, Ref, Reply, reason};
use crate::metrics::metrics;
use crate::pubsub::{Backlog, Broadcast, SubscriberId};

/// How long a leave waits for the callback that is running before it is dropped.
const LEAVE_GRACE: Duration = Duration::from_secs(5);

/// From a channel to its socket.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) enum ChannelSignal {
    /// A frame for the client from another thread.
    Deliver(Frame),
    /// The join that was pending has been answered.
    JoinDone {
        topic: ByteString,
        id: SubscriberId,
        joined: bool,
    },
    /// The actor has ended; `crashed` when it could not say so to the client itself.
    Down {
        topic: ByteString,
        id: SubscriberId,
        crashed: bool,
    },
}

/// An info for `handle_info`.
pub(super) struct Info<I>(pub(super) Box<I>);

impl<I: Send + 'static> Message for Info<I> {
    type Result = ();
}

/// Where a join stands when `start` returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JoinState {
    Pending,
    Joined,
    Failed,
}

/// A started channel.
pub(crate) struct Started {
    pub(crate) link: Rc<Link>,
    pub(crate) state: JoinState,
    /// Whether the actor runs, and a `Down` will follow.
    pub(crate) alive: bool,
}

/// What waits for its turn.
enum Work<I> {
    In {
        event: Name,
        payload: Payload,
        reference: Ref,
        ticket: Ticket,
    },
    Leave {
        reference: Ref,
        ticket: Ticket,
    },
    Out(Arc<Broadcast>),
    Elsewhere(Arc<Broadcast>),
    Info(Box<I>),
    Timeout,
    Terminate(StopReason),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Joining,
    Joined,
    /// `terminate` is to run or runs; `crashed` says whether a `phx_error` follows.
    Terminating {
        crashed: bool,
    },
    Ended,
}

/// What a join is answered with.
struct Request {
    join_ref: Ref,
    reference: Ref,
    /// The `phx_close` of the channel that the join replaces.
    replaced: Option<Frame>,
}

/// The actor. See the module.
pub(crate) struct ChannelServer<C: Channel> {
    live: Shared<C>,
    link: Rc<Link>,
    signals: Rc<Recipient<ChannelSignal>>,
    phase: Phase,
    /// The pending callback, with the ticket of the message it handles.
    running: Option<(Callback<C>, Option<Ticket>)>,
    queue: VecDeque<Work<C::Info>>,
    /// The join, until it is answered.
    request: Option<Box<Request>>,
    /// The timeout that is armed; whatever the channel is given to do calls it off.
    timer: Option<SpawnHandle>,
    /// Whether the socket was told that this actor has ended.
    reported: bool,
}

/// Starts a channel: runs `join`, and if that does not have to wait, answers it before returning.
pub(crate) fn start<C: Channel>(start: Start) -> Started {
    let Start {
        topic,
        join_ref,
        reference,
        params,
        assigns,
        serializer,
        outbox,
        flow,
        ..
    } = start;
    let mut actix = actix::Context::<ChannelServer<C>>::new();
    let addr = actix.address();
    let link = Link::new(topic, &join_ref, &reference, serializer, outbox, flow);
    let ctx = Context::new(
        Rc::clone(&link),
        start.pubsub.clone(),
        assigns,
        addr.downgrade(),
        Rc::clone(&start.signals),
    );
    let live = Rc::new(RefCell::new(Live { channel: None, ctx }));
    let join = join(Rc::clone(&live), Rc::clone(&link), start.pubsub, params);
    let mut server = ChannelServer {
        live,
        link: Rc::clone(&link),
        signals: start.signals,
        phase: Phase::Joining,
        running: Some((join, None)),
        queue: VecDeque::new(),
        request: Some(Box::new(Request {
            join_ref,
            reference,
            replaced: start.replaced,
        })),
        timer: None,
        reported: false,
    };
    server.resume(&mut actix);
    let state = match server.phase {
        Phase::Joining => JoinState::Pending,
        Phase::Joined => JoinState::Joined,
        Phase::Terminating { .. } | Phase::Ended => JoinState::Failed,
    };
    let runs = server.phase != Phase::Ended;
    // One that has ended in here may have said so already, which is what its socket counts.
    let alive = runs || server.reported;
    if runs {
        actix.run(server);
    }
    Started { link, state, alive }
}

type Actix<C> = actix::Context<ChannelServer<C>>;

impl<C: Channel> ChannelServer<C> {
    /// Polls what is running, once; parks it if it is pending, else goes on with the queue.
    fn resume(&mut self, actix: &mut Actix<C>) {
        let Some((callback, _)) = &mut self.running else {
            return;
        };
        let mut cx = TaskContext::from_waker(Waker::noop());
        match callback.as_mut().poll(&mut cx) {
            Poll::Ready(done) => self.complete(done, actix),
            // The context polls it again, with a waker that counts.
            Poll::Pending => {
                actix.spawn(Running);
            }
        }
    }

    /// Takes work from the queue until a callback is pending or nothing is left.
    fn advance(&mut self, actix: &mut Actix<C>) {
        while self.running.is_none()
            && let Some(work) = self.queue.pop_front()
        {
            self.begin(work, actix);
        }
    }

    fn begin(&mut self, work: Work<C::Info>, actix: &mut Actix<C>) {
        if let Some(timer) = self.timer.take() {
            actix.cancel_future(timer);
        }
        let live = || Rc::clone(&self.live);
        let (callback, ticket) = match work {
            Work::In {
                event: Name::Text(event),
                payload,
                reference,
                ticket,
            } => (
                callback::handle_in(live(), event, payload, reference),
                Some(ticket),
            ),
            Work::In {
                event: Name::Other(_),
                ..
            } => {
                let reason = format!("{NO_HANDLER} that is no text");
                return self.stop(StopReason::error(reason), actix);
            }
            Work::Leave { reference, ticket } => {
                drop(ticket);
                // Not the leave's own join_ref: it may be null.
                let join_ref = self.link.join_ref.clone();
                self.reply(&join_ref, &reference, &Reply::ok(Payload::EMPTY));
                return self.stop(StopReason::Left, actix);
            }
            Work::Out(broadcast) => {
                self.link.broadcast_taken(&broadcast);
                (callback::handle_out(live(), broadcast), None)
            }
            Work::Elsewhere(broadcast) => {
                self.link.broadcast_taken(&broadcast);
                (callback::handle_broadcast(live(), broadcast), None)
            }
            Work::Timeout => (callback::handle_timeout(live()), None),
            Work::Info(info) => (callback::handle_info(live(), *info), None),
            Work::Terminate(reason) => (callback::terminate(live(), reason), None),
        };
        self.running = Some((callback, ticket));
        self.resume(actix);
    }

    /// A callback has returned or panicked.
    fn complete(&mut self, done: Done<C>, actix: &mut Actix<C>) {
        self.running = None;
        self.arm_timeout(actix);
        match (self.phase, done) {
            (Phase::Joining, Done::Joined(Ok(accepted))) => self.joined(accepted, actix),
            (Phase::Joining, Done::Joined(Err(failed))) => self.refused(failed),
            (Phase::Joining, Done::Panicked(panic)) => self.join_crashed(&panic),
            (Phase::Terminating { crashed }, done) => {
                if let Done::Panicked(panic) = done {
                    log_client!(error, self.client(), topic = self.topic(), %panic, "channel.terminate.panicked");
                }
                self.ended(crashed, actix);
            }
            (_, Done::In(reference, outcome)) => self.handled_in(&reference, outcome, actix),
            (_, Done::Handled(Err(reason))) => self.stop(reason, actix),
            (_, Done::Panicked(panic)) => self.stop(StopReason::Panicked(panic), actix),
            (_, Done::Behind(error)) => self.stop(error.into_reason(), actix),
            (_, Done::Handled(Ok(())) | Done::Joined(_) | Done::Terminated) => {}
        }
    }

    fn handled_in(&mut self, reference: &Ref, outcome: HandleInResult, actix: &mut Actix<C>) {
        let (reply, stop) = match outcome {
            Ok(HandleIn::NoReply) => (None, None),
            Ok(HandleIn::Reply(reply)) => (Some(reply), None),
            Ok(HandleIn::Stop(reason)) | Err(Failure::Stop(reason)) => (None, Some(reason)),
            Ok(HandleIn::StopReply(reason, reply)) => (Some(reply), Some(reason)),
            Err(Failure::Refused(Refused(response))) => (Some(Reply::error(response)), None),
        };
        let join_ref = self.link.join_ref.clone();
        let encoded = reply.is_none_or(|reply| self.reply(&join_ref, reference, &reply));
        match stop {
            _ if !encoded => {
                let reason = StopReason::error("the reply has no form on the client's wire");
                self.stop(reason, actix);
            }
            Some(reason) => self.stop(reason, actix),
            None => {}
        }
    }

    /// Replies; whether the reply could be encoded.
    fn reply(&self, join_ref: &Ref, reference: &Ref, reply: &Reply) -> bool {
        self.link
            .reply(join_ref, reference, reply)
            .inspect_err(|error| {
                log_client!(error, self.client(), topic = self.topic(), %error, "channel.reply.unencodable");
            })
            .is_ok()
    }

    /// The join is complete: reply, close what it replaces, history; all before anything live.
    fn joined(&mut self, accepted: Accepted<C>, actix: &mut Actix<C>) {
        let Accepted {
            reply,
            log,
            then,
            place,
        } = accepted;
        let reply = match &place {
            Place::Live(_, backlog) => {
                let listed = |backlog: &Backlog| log.form(backlog) == Form::Reply;
                let in_reply = backlog.as_ref().filter(|backlog| listed(backlog));
                let list = in_reply.map(|backlog| log.list(&backlog.entries));
                log.reply(reply, backlog.as_ref(), list.as_deref())
            }
            Place::Behind(behind) => behind.reply(&log, reply),
        };
        if !self.answer(&Reply::ok(reply)) {
            drop(place);
            return self.join_crashed("the join reply has no form on the client's wire");
        }
        let topic = match &place {
            Place::Live(subscription, _) => subscription.topic(),
            Place::Behind(behind) => &behind.topic,
        };
        self.link.joined(topic);
        metrics().channels.increment(1);
        log_client!(info, self.client(), topic = self.topic(), "channel.joined");
        self.enter(Phase::Joined);
        match place {
            Place::Live(subscription, backlog) => {
                self.link.attach(subscription);
                let pushed = backlog.map_or(Ok(()), |backlog| log.push(&backlog, &self.link));
                // Stored payloads are objects: they were broadcast as such.
                if let Err(error) = pushed {
                    log_client!(error, self.client(), topic = self.topic(), %error, "channel.history.unencodable");
                }
                if !then.is_empty() {
                    self.running = Some((callback::then(Rc::clone(&self.live), then), None));
                    self.resume(actix);
                }
            }
            Place::Behind(behind) => {
                let catch_up = CatchUp {
                    live: Rc::clone(&self.live),
                    link: Rc::clone(&self.link),
                    pubsub: self.live.borrow().ctx.pubsub().clone(),
                    log,
                };
                let then = callback::then(Rc::clone(&self.live), then);
                let callback = guarded(async {
                    match catch_up.run(behind).await {
                        Ok(()) => then.await,
                        Err(error) => Done::Behind(error),
                    }
                });
                self.running = Some((callback, None));
                self.resume(actix);
            }
        }
    }

    fn refused(&mut self, failed: JoinFailed) {
        let response = match failed {
            JoinFailed::Refused(Refused(response)) => response,
            JoinFailed::Stopped(StopReason::Error(error)) => return self.join_crashed(&error),
            JoinFailed::Stopped(reason) => return self.join_crashed(&format!("{reason:?}")),
            JoinFailed::StorageUnavailable => Payload::from(serde_json::json!({
                "reason": reason::STORAGE_UNAVAILABLE,
                "retry_after_ms": 1_000,
            })),
        };
        log_client!(
            info,
            self.client(),
            topic = self.topic(),
            reason = response.reason(),
            "channel.join.refused"
        );
        if !self.answer(&Reply::error(response)) {
            return self.join_crashed("the refusal has no form on the client's wire");
        }
        self.link.detach();
        self.queue.clear();
        if self.live.borrow().channel.is_some() {
            self.enter(Phase::Terminating { crashed: false });
            self.queue.push_back(Work::Terminate(StopReason::Shutdown));
        } else {
            self.enter(Phase::Ended);
        }
    }

    fn join_crashed(&mut self, panic: &str) {
        log_client!(
            error,
            self.client(),
            topic = self.topic(),
            panic,
            "channel.join.crashed"
        );
        metrics().channel_crashes.increment(1);
        self.answer(&Reply::error_reason(reason::JOIN_CRASHED));
        self.enter(Phase::Ended);
        self.link.detach();
        self.queue.clear();
    }

    /// Answers the join; whether the answer could be encoded.
    fn answer(&self, reply: &Reply) -> bool {
        let request = self.request.as_ref();
        request.is_none_or(|join| self.reply(&join.join_ref, &join.reference, reply))
    }

    /// Leaves the joining phase: the join is answered, and what it replaces is closed.
    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        let request = self.request.take();
        if let Some(close) = request.and_then(|join| join.replaced) {
            self.link.outbox.push(close);
        }
    }

    /// The channel ends. In order: `phx_close`, then `terminate`. After a crash: `terminate`, then
    /// `phx_error`.
    fn stop(&mut self, reason: StopReason, actix: &mut Actix<C>) {
        let crashed = reason.is_crash();
        if crashed {
            metrics().channel_crashes.increment(1);
            self.log_crash(&reason);
        } else {
            self.link.end(false);
        }
        metrics().channels.decrement(1);
        self.phase = Phase::Terminating { crashed };
        self.running = None;
        self.queue.clear();
        self.queue.push_back(Work::Terminate(reason));
        self.advance(actix);
    }

    fn log_crash(&self, reason: &StopReason) {
        let (client, topic) = (self.client(), self.topic());
        match reason {
            // The client's mistake.
            StopReason::Error(reason) if reason.starts_with(NO_HANDLER) => {
                log_client!(
                    info,
                    client,
                    topic,
                    reason = &**reason,
                    "channel.event.unknown"
                );
            }
            StopReason::Error(error) => {
                log_client!(error, client, topic, %error, "channel.crashed");
            }
            StopReason::Panicked(panic) => {
                log_client!(error, client, topic, %panic, "channel.crashed");
            }
            other => log_client!(error, client, topic, error = ?other, "channel.crashed"),
        }
    }

    fn client(&self) -> &Client {
        self.link.outbox.client()
    }

    fn topic(&self) -> &str {
        &self.link.topic
    }

    fn ended(&mut self, crashed: bool, actix: &mut Actix<C>) {
        if crashed {
            self.link.end(true);
        }
        self.finish(actix);
    }

    /// The actor ends; its socket learns that nothing is left of it.
    fn finish(&mut self, actix: &mut Actix<C>) {
        self.phase = Phase::Ended;
        self.running = None;
        self.queue.clear();
        self.link.detach();
        self.report(false);
        actix.stop();
    }

    fn report(&mut self, crashed: bool) {
        if !std::mem::replace(&mut self.reported, true) {
            let (topic, id) = (self.link.topic.clone(), self.link.id);
            self.signals
                .do_send(ChannelSignal::Down { topic, id, crashed });
        }
    }

    /// The callback that has returned may have asked for a timeout; the one before it is off.
    fn arm_timeout(&mut self, actix: &mut Actix<C>) {
        let asked = self.live.borrow_mut().ctx.timeout.take();
        if let Some(silence) = asked {
            self.timer = Some(actix.run_later(silence, |server, actix| {
                server.timer = None;
                if server.phase == Phase::Joined {
                    server.queue.push_back(Work::Timeout);
                    server.advance(actix);
                }
            }));
        }
    }

    /// A leave that still waits when its grace is over drops the callback that is running, and
    /// gives the next one before it the same grace.
    fn arm_leave(&self, actix: &mut Actix<C>) {
        if self.running.is_none() {
            return;
        }
        actix.run_later(LEAVE_GRACE, |server, actix| {
            let waits = server
                .queue
                .iter()
                .any(|work| matches!(work, Work::Leave { .. }));
            if waits && server.phase == Phase::Joined {
                log_client!(
                    warn,
                    server.client(),
                    topic = server.topic(),
                    "channel.leave.forced"
                );
                server.running = None;
                server.advance(actix);
                server.arm_leave(actix);
            }
        });
    }
}

impl<C: Channel> Actor for ChannelServer<C> {
    type Context = actix::Context<Self>;

    /// A join that failed at once, behind the channel's making, has left its `terminate` in the queue.
    fn started(&mut self, actix: &mut Self::Context) {
        actix.spawn(Receiving);
        self.advance(actix);
    }
}

/// Takes what comes into the link's inbox, as long as the actor lives. What waits there (tickets,
/// slices of the read buffer) never crosses threads, so that it needs no mailbox.
struct Receiving;

impl<C: Channel> ActorFuture<ChannelServer<C>> for Receiving {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        server: &mut ChannelServer<C>,
        actix: &mut Actix<C>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<()> {
        loop {
            let message = ready!(server.link.poll_take(cx));
            server.receive(message, actix);
        }
    }
}

impl<C: Channel> ChannelServer<C> {
    /// Takes what is in the link's inbox.
    fn take_in(&mut self, actix: &mut Actix<C>) {
        while let Some(message) = self.link.take() {
            self.receive(message, actix);
        }
    }

    fn receive(&mut self, message: ToChannel, actix: &mut Actix<C>) {
        match (self.phase, message) {
            (Phase::Joined, ToChannel::Kill) => {
                metrics().channels.decrement(1);
                self.finish(actix);
            }
            (_, ToChannel::Kill) | (Phase::Joining, ToChannel::Closed(_)) => self.finish(actix),
            // What arrives between the end of a channel and the word of it is lost, as in Phoenix.
            (Phase::Joining | Phase::Terminating { .. } | Phase::Ended, _) => {}
            (Phase::Joined, ToChannel::Closed(reason)) => self.stop(reason, actix),
            (Phase::Joined, ToChannel::BacklogOverflow) => {
                self.stop(
                    StopReason::error("too many broadcasts wait for the channel"),
                    actix,
                );
            }
            (
                Phase::Joined,
                ToChannel::Event {
                    event,
                    payload,
                    reference,
                    ticket,
                },
            ) => {
                self.queue.push_back(Work::In {
                    event,
                    payload,
                    reference,
                    ticket,
                });
                self.advance(actix);
            }
            (Phase::Joined, ToChannel::Leave { reference, ticket }) => {
                self.queue.push_back(Work::Leave { reference, ticket });
                self.arm_leave(actix);
                self.advance(actix);
            }
            (Phase::Joined, ToChannel::Out(broadcast)) => {
                self.queue.push_back(Work::Out(broadcast));
                self.advance(actix);
            }
            (Phase::Joined, ToChannel::Elsewhere(broadcast)) => {
                self.queue.push_back(Work::Elsewhere(broadcast));
                self.advance(actix);
            }
        }
    }
}

impl<C: Channel> Handler<Info<C::Info>> for ChannelServer<C> {
    type Result = ();

    fn handle(&mut self, Info(info): Info<C::Info>, actix: &mut Self::Context) {
        // The mailbox is looked at first, but what is in the inbox came before.
        self.take_in(actix);
        // An info sent in `join` waits for the join.
        if matches!(self.phase, Phase::Joining | Phase::Joined) {
            self.queue.push_back(Work::Info(info));
            self.advance(actix);
        }
    }
}

/// The backstop: an actor that dies without a word, by a panic outside its callbacks, still tells
/// its socket. It sends one message and borrows nothing.
impl<C: Channel> Drop for ChannelServer<C> {
    fn drop(&mut self) {
        if self.phase != Phase::Ended {
            self.report(true);
        }
    }
}

/// Polls the pending callback of its actor. Cancelling is dropping the callback: this future then
/// finds nothing and ends.
struct Running;

impl<C: Channel> ActorFuture<ChannelServer<C>> for Running {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        server: &mut ChannelServer<C>,
        actix: &mut Actix<C>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<()> {
        let Some((callback, _)) = &mut server.running else {
            return Poll::Ready(());
        };
        let joining = server.phase == Phase::Joining;
        let Poll::Ready(done) = callback.as_mut().poll(cx) else {
            return Poll::Pending;
        };
        server.complete(done, actix);
        if joining {
            server.join_done(actix);
        }
        server.advance(actix);
        Poll::Ready(())
    }
}

impl<C: Channel> ChannelServer<C> {
    /// A join that had to wait is answered: the socket reads on.
    fn join_done(&mut self, actix: &mut Actix<C>) {
        let joined = self.phase == Phase::Joined;
        let (topic, id) = (self.link.topic.clone(), self.link.id);
        self.signals
            .do_send(ChannelSignal::JoinDone { topic, id, joined });
        if self.phase == Phase::Ended {
            self.finish(actix);
        }
    }
}
