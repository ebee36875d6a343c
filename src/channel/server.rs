//! [`ChannelServer`]: the actor of one joined topic of one connection.
//! Phoenix: `Phoenix.Channel.Server`.
//!
//! A thin shell round the application's channel: it keeps the order of work, runs one callback at a time, and
//! turns its result into frames. A callback is polled once in place. If it is pending it is parked in `running`
//! while work still arrives: the end of the connection, a duplicate join and a leave drop it.

mod ending;
mod joining;

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Instant;

use actix::{Actor, ActorFuture, AsyncContext, Handler, Message, SpawnHandle};

use super::callback::{self, Callback, CallbackDone, SharedLive};
use super::link::Link;
use super::start::JoinState;
use super::timer::Tick;
use super::work::{ChannelWork, WorkQueue};
use super::{Channel, Failure, HandleIn, HandleInResult, Refused, StopReason};
use crate::client::{Client, log_client};
use crate::flow::Ticket;
use crate::frame::Frame;
use crate::message::{Name, Payload, Ref, Reply};
use crate::metrics::{RouteId, metrics, time_some};
use crate::trace::{SpanKind, Traced};

/// An info for `handle_info`.
pub(super) struct InfoMessage<I>(pub(super) Box<I>, pub(super) Option<Tick>);

impl<I: Send + 'static> Message for InfoMessage<I> {
    type Result = ();
}

/// The stages of a channel, in their order.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Joining,
    Joined,
    /// `terminate` is to run or runs; `crashed` if a `phx_error` follows.
    Terminating {
        crashed: bool,
    },
    Ended,
}

/// What the answer to a join needs.
pub(super) struct JoinAnswer {
    pub(super) join_ref: Ref,
    pub(super) reference: Ref,
    /// The `phx_close` of the channel that the join replaces.
    pub(super) replaced: Option<Frame>,
    /// When the join began, if it is timed.
    pub(super) since: Option<Instant>,
}

/// The actor. See the module.
pub(crate) struct ChannelServer<C: Channel> {
    live: SharedLive<C>,
    link: Rc<Link>,
    phase: Phase,
    /// The pending callback, with the ticket of the message it handles.
    running: Option<(Callback<C>, Option<Ticket>)>,
    /// What waits for its turn.
    queue: WorkQueue,
    /// Until the join is answered.
    answer: Option<Box<JoinAnswer>>,
    /// The armed timeout; any work cancels it.
    timer: Option<SpawnHandle>,
    /// Whether the socket knows that this actor has ended.
    reported: bool,
    route: RouteId,
    /// Where the trace of its messages goes on.
    traced: Traced,
}

pub(super) type Actix<C> = crate::actor::Context<ChannelServer<C>>;

impl<C: Channel> ChannelServer<C> {
    /// A channel whose join is to be polled.
    pub(super) fn new(
        live: SharedLive<C>,
        link: Rc<Link>,
        join: Callback<C>,
        answer: JoinAnswer,
        (route, traced): (RouteId, Traced),
    ) -> Self {
        Self {
            live,
            link,
            phase: Phase::Joining,
            running: Some((join, None)),
            queue: WorkQueue::default(),
            answer: Some(Box::new(answer)),
            timer: None,
            reported: false,
            route,
            traced,
        }
    }

    pub(super) fn join_state(&self) -> JoinState {
        match self.phase {
            Phase::Joining => JoinState::Pending,
            Phase::Joined => JoinState::Joined,
            Phase::Terminating { .. } | Phase::Ended => JoinState::Failed,
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.phase == Phase::Ended
    }

    pub(super) fn has_reported(&self) -> bool {
        self.reported
    }

    /// Polls the running callback once; parks it if it is pending, else completes it.
    pub(super) fn resume(&mut self, actix: &mut Actix<C>) {
        let mut cx = TaskContext::from_waker(Waker::noop());
        match self.poll_callback(actix, &mut cx) {
            Some(Poll::Ready(done)) => self.complete(done, actix),
            // `Running` polls it again, with a waker that counts.
            Some(Poll::Pending) => {
                actix.spawn(Running);
            }
            None => {}
        }
    }

    /// Polls the running callback, if one runs.
    fn poll_callback(
        &mut self,
        actix: &mut Actix<C>,
        cx: &mut TaskContext<'_>,
    ) -> Option<Poll<CallbackDone<C>>> {
        let (callback, _) = self.running.as_mut()?;
        let polled = callback.as_mut().poll(cx);
        if let Some(mailbox) = self.live.mailbox.take() {
            actix.read(mailbox);
        }
        Some(polled)
    }

    /// Takes work from the queue until a callback is pending or nothing is left.
    fn advance(&mut self, actix: &mut Actix<C>) {
        while self.running.is_none()
            && let Some(work) = self.queue.pop()
        {
            self.begin(work, actix);
        }
    }

    /// Does a piece of work, or begins the callback that does.
    fn begin(&mut self, work: ChannelWork, actix: &mut Actix<C>) {
        if let Some(timer) = self.timer.take() {
            actix.cancel_future(timer);
        }
        let leaves = work.is_leave();
        let live = || Rc::clone(&self.live);
        let (callback, ticket) = match work {
            ChannelWork::Message(message, ticket) if leaves => {
                drop(ticket);
                return self.leave(&message.reference, actix);
            }
            ChannelWork::Message(message, ticket) => {
                let Name::Text(event) = message.event else {
                    let reason = StopReason::error("no handler for event that is no text");
                    return self.stop_unhandled(reason, actix);
                };
                let mut span = self.traced.begin("handle_in", SpanKind::Server);
                span.set("slackir.topic", self.topic());
                span.set("slackir.event", &*event);
                let handle_in =
                    callback::handle_in(live(), event, message.payload, message.reference);
                let handle_in = callback::traced(handle_in, span);
                let handle_in = match time_some() {
                    Some(begun) => callback::timed(handle_in, begun, self.route.metrics()),
                    None => handle_in,
                };
                (handle_in, Some(ticket))
            }
            ChannelWork::Out(broadcast) => {
                self.link.broadcast_taken(&broadcast);
                (callback::handle_out(live(), broadcast), None)
            }
            ChannelWork::Elsewhere(broadcast) => {
                self.link.broadcast_taken(&broadcast);
                (callback::handle_broadcast(live(), broadcast), None)
            }
            ChannelWork::Info(info, tick) => {
                // From now on the timer sends the next one.
                drop(tick);
                match info.downcast() {
                    Ok(info) => (callback::handle_info(live(), *info), None),
                    // Never: `InfoMessage` has the channel's own type.
                    Err(_) => return,
                }
            }
            ChannelWork::Timeout => (callback::handle_timeout(live()), None),
            ChannelWork::Terminate(reason) => (callback::terminate(live(), reason), None),
            ChannelWork::Overflow => {
                let reason = StopReason::error("too many broadcasts wait for the channel");
                return self.stop(reason, actix);
            }
            ChannelWork::Closed(reason) => return self.stop(reason, actix),
            ChannelWork::Kill => return self.finish(actix),
        };
        self.running = Some((callback, ticket));
        self.resume(actix);
    }

    /// A callback has returned or panicked.
    fn complete(&mut self, done: CallbackDone<C>, actix: &mut Actix<C>) {
        self.running = None;
        self.arm_timeout(actix);
        match (self.phase, done) {
            (Phase::Joining, CallbackDone::Joined(Ok(accepted))) => self.joined(accepted, actix),
            (Phase::Joining, CallbackDone::Joined(Err(failed))) => self.refused(failed),
            (Phase::Joining, CallbackDone::Panicked(panic)) => self.join_crashed(&panic),
            (Phase::Terminating { crashed }, done) => {
                if let CallbackDone::Panicked(panic) = done {
                    log_client!(
                        error, self.client(), topic = self.topic(), %panic,
                        "channel.terminate.panicked: a bug of this channel; process.panicked \
                         names the place"
                    );
                }
                self.ended(crashed, actix);
            }
            (_, CallbackDone::In(reference, outcome)) => {
                self.handled_in(&reference, outcome, actix);
            }
            (_, CallbackDone::Handled(Err(reason))) => self.stop(reason, actix),
            (_, CallbackDone::Panicked(panic)) => self.stop(StopReason::Panicked(panic), actix),
            (_, CallbackDone::Behind(error)) => self.stop(error.into_reason(), actix),
            (
                _,
                CallbackDone::Handled(Ok(())) | CallbackDone::Joined(_) | CallbackDone::Terminated,
            ) => {}
        }
    }

    fn handled_in(&mut self, reference: &Ref, outcome: HandleInResult, actix: &mut Actix<C>) {
        let (reply, stop) = match outcome {
            Ok(HandleIn::NoReply) => (None, None),
            Ok(HandleIn::Reply(reply)) => (Some(reply), None),
            Ok(HandleIn::Stop(reason)) | Err(Failure::Stop(reason)) => (None, Some(reason)),
            Ok(HandleIn::StopReply(reason, reply)) => (Some(reply), Some(reason)),
            Err(Failure::Refused(Refused(response))) => (Some(Reply::error(response)), None),
            Err(Failure::Unhandled(event)) => {
                return self.stop_unhandled(StopReason::unhandled(&event), actix);
            }
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

    /// Answers a leave and stops.
    fn leave(&mut self, reference: &Ref, actix: &mut Actix<C>) {
        // Not the leave's own join_ref: it may be null.
        let join_ref = self.link.join_ref.clone();
        self.reply(&join_ref, reference, &Reply::ok(Payload::EMPTY));
        self.stop(StopReason::Left, actix);
    }

    /// Replies; whether the reply could be encoded.
    fn reply(&self, join_ref: &Ref, reference: &Ref, reply: &Reply) -> bool {
        if let Some(reason) = reply.failure() {
            metrics().error_replies(reason.as_deref()).increment(1);
        }
        self.link
            .reply(join_ref, reference, reply)
            .inspect_err(|error| {
                log_client!(
                    error, self.client(), topic = self.topic(), %error,
                    "channel.reply.unencodable: the channel has ended; mend the payload that it \
                     sends"
                );
            })
            .is_ok()
    }

    /// Arms the timeout that the callback may have asked for. `begin` has cancelled the one before.
    fn arm_timeout(&mut self, actix: &mut Actix<C>) {
        let asked = self.live.borrow().ctx.seldom.take_timeout();
        if let Some(silence) = asked {
            self.timer = Some(actix.run_later(silence, |server, actix| {
                server.timer = None;
                if server.phase == Phase::Joined {
                    server.queue.push(ChannelWork::Timeout);
                    server.advance(actix);
                }
            }));
        }
    }

    fn client(&self) -> &Client {
        self.link.outbox.client()
    }

    fn topic(&self) -> &str {
        self.link.topic()
    }

    /// Takes what is in the link's inbox.
    fn take_in(&mut self, actix: &mut Actix<C>) {
        while let Some(work) = self.link.take() {
            self.receive(work, actix);
        }
    }

    /// Queues work, or does it at once if it ends the channel.
    fn receive(&mut self, work: ChannelWork, actix: &mut Actix<C>) {
        match self.phase {
            _ if matches!(work, ChannelWork::Kill) => self.finish(actix),
            Phase::Joining if matches!(work, ChannelWork::Closed(_)) => self.finish(actix),
            // An info sent in `join` waits for the join.
            Phase::Joining if matches!(work, ChannelWork::Info(..)) => self.queue.push(work),
            Phase::Joined if self.is_free() || work.is_urgent() => self.begin(work, actix),
            Phase::Joined => {
                let leaves = work.is_leave();
                self.queue.push(work);
                if leaves {
                    self.arm_leave(actix);
                }
                self.advance(actix);
            }
            // It came before the socket knew of the end, and is lost, as in Phoenix.
            Phase::Joining | Phase::Terminating { .. } | Phase::Ended => {}
        }
    }

    /// Whether nothing is before the next work.
    fn is_free(&self) -> bool {
        self.running.is_none() && self.queue.is_empty()
    }
}

impl<C: Channel> Actor for ChannelServer<C> {
    type Context = Actix<C>;

    /// A join that failed in `start`, after it had made the channel, has left its `terminate` in the queue.
    fn started(&mut self, actix: &mut Self::Context) {
        actix.spawn(Receiving);
        self.advance(actix);
    }
}

impl<C: Channel> Handler<InfoMessage<C::Info>> for ChannelServer<C> {
    type Result = ();

    fn handle(&mut self, InfoMessage(info, tick): InfoMessage<C::Info>, actix: &mut Self::Context) {
        // The actor polls its mailbox first, but the work in the inbox came before.
        self.take_in(actix);
        self.receive(ChannelWork::Info(info, tick), actix);
    }
}

/// Takes work out of the link's inbox, as long as the actor lives. Tickets and slices of the read buffer, which
/// wait there, never cross threads and need no mailbox.
struct Receiving;

impl<C: Channel> ActorFuture<ChannelServer<C>> for Receiving {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        server: &mut ChannelServer<C>,
        actix: &mut Actix<C>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<()> {
        server.take_in(actix);
        server.link.wait(cx);
        Poll::Pending
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
        let joining = server.phase == Phase::Joining;
        let done = match server.poll_callback(actix, cx) {
            Some(Poll::Ready(done)) => done,
            Some(Poll::Pending) => return Poll::Pending,
            None => return Poll::Ready(()),
        };
        server.complete(done, actix);
        if joining {
            server.join_done(actix);
        }
        server.advance(actix);
        Poll::Ready(())
    }
}
