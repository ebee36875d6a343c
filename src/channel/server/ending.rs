//! How a channel ends: in order, by a crash, or by a leave that has waited too long.

use std::time::Duration;

use actix::{ActorContext, AsyncContext};

use super::{Actix, ChannelServer, Phase};
use crate::channel::start::{ChannelSignal, signal};
use crate::channel::work::ChannelWork;
use crate::channel::{Channel, StopReason};
use crate::client::log_client;

/// How long a leave waits for the callback that is running before it is dropped.
const LEAVE_GRACE: Duration = Duration::from_secs(5);

impl<C: Channel> ChannelServer<C> {
    /// The channel ends. In order: `phx_close`, then `terminate`. After a crash: `terminate`, then
    /// `phx_error`.
    pub(super) fn stop(&mut self, reason: StopReason, actix: &mut Actix<C>) {
        let crashed = reason.is_crash();
        if crashed {
            self.log_crash(&reason);
        }
        self.terminate(reason, crashed, actix);
    }

    /// The channel crashes by an event that it does not know, which is the client's mistake.
    pub(super) fn stop_unhandled(&mut self, reason: StopReason, actix: &mut Actix<C>) {
        if let StopReason::Error(reason) = &reason {
            let (client, topic, reason) = (self.client(), self.topic(), &**reason);
            log_client!(info, client, topic, reason, "channel.event.unknown");
        }
        self.terminate(reason, true, actix);
    }

    fn terminate(&mut self, reason: StopReason, crashed: bool, actix: &mut Actix<C>) {
        if crashed {
            self.route.metrics().crashes.increment(1);
        } else {
            self.link.end(false);
        }
        self.route.metrics().channels.decrement(1);
        self.phase = Phase::Terminating { crashed };
        self.running = None;
        self.queue.clear();
        self.queue.push(ChannelWork::Terminate(reason));
        self.advance(actix);
    }

    fn log_crash(&self, reason: &StopReason) {
        let (error, panic) = match reason {
            StopReason::Error(error) => (Some(error.to_string()), None),
            StopReason::Panicked(panic) => (None, Some(panic.to_string())),
            other => (Some(format!("{other:?}")), None),
        };
        log_client!(
            error,
            self.client(),
            topic = self.topic(),
            error,
            panic,
            "channel.crashed: the channel has ended and its client may join again; mend the channel"
        );
    }

    /// `terminate` has run.
    pub(super) fn ended(&mut self, crashed: bool, actix: &mut Actix<C>) {
        if crashed {
            self.link.end(true);
        }
        self.finish(actix);
    }

    /// Ends the actor and reports it to the socket.
    pub(super) fn finish(&mut self, actix: &mut Actix<C>) {
        if self.phase == Phase::Joined {
            self.route.metrics().channels.decrement(1);
        }
        self.phase = Phase::Ended;
        self.running = None;
        self.queue.clear();
        self.link.detach();
        self.report(false);
        actix.stop();
    }

    fn report(&mut self, crashed: bool) {
        if !std::mem::replace(&mut self.reported, true) {
            let (topic, id) = (self.link.name().clone(), self.link.id);
            signal(
                &self.live.signals,
                ChannelSignal::Down { topic, id, crashed },
            );
        }
    }

    /// Gives a leave behind a running callback its grace. The callback that is still running then is dropped,
    /// and the next one before the leave gets the same grace.
    pub(super) fn arm_leave(&self, actix: &mut Actix<C>) {
        if self.running.is_none() {
            return;
        }
        actix.run_later(LEAVE_GRACE, |server, actix| {
            if server.queue.has_leave() && server.phase == Phase::Joined {
                let (client, topic) = (server.client(), server.topic());
                log_client!(
                    warn,
                    client,
                    topic,
                    "channel.leave.forced: a callback was still running and was dropped; make it \
                     shorter"
                );
                server.running = None;
                server.advance(actix);
                server.arm_leave(actix);
            }
        });
    }
}

/// An actor that panics outside its callbacks still reports its end. It sends one message and borrows nothing.
impl<C: Channel> Drop for ChannelServer<C> {
    fn drop(&mut self) {
        if self.phase != Phase::Ended {
            self.report(true);
        }
    }
}
