//! The end of a join: its answer, its history, or its failure. One synchronous step, so that nothing live comes
//! between.

use std::rc::Rc;

use super::{Actix, ChannelServer, Phase};
use crate::channel::callback::{self, Callback, CallbackDone, guarded};
use crate::channel::catch_up::{Behind, CatchUp, Missed};
use crate::channel::join::{AcceptedJoin, JoinFailed, Standing};
use crate::channel::start::{ChannelSignal, signal};
use crate::channel::work::ChannelWork;
use crate::channel::{Channel, LogRequest, Refused, StopReason, Then};
use crate::client::log_client;
use crate::message::{Payload, Reply, reason};
use crate::metrics::{Resume, metrics};

impl<C: Channel> ChannelServer<C> {
    /// The join is complete: reply, close what it replaces, history; all before anything live.
    pub(super) fn joined(&mut self, accepted: AcceptedJoin<C>, actix: &mut Actix<C>) {
        let AcceptedJoin {
            reply,
            log,
            then,
            standing,
        } = accepted;
        if !self.answer(&Reply::ok(standing.reply(&log, reply))) {
            drop(standing);
            return self.join_crashed("the join reply has no form on the client's wire");
        }
        self.link.joined(standing.topic());
        standing.count_resume(&log);
        self.route.metrics().channels.increment(1);
        self.route.metrics().joined.increment(1);
        log_client!(info, self.client(), topic = self.topic(), "channel.joined");
        self.enter(Phase::Joined);
        match standing {
            Standing::Live(subscription, backlog) => {
                self.link.attach(subscription);
                let pushed = backlog.map_or(Ok(()), |backlog| log.push(&backlog, &self.link));
                // Stored payloads are objects: they were broadcast as such.
                if let Err(error) = pushed {
                    log_client!(
                        error, self.client(), topic = self.topic(), %error,
                        "channel.history.unencodable: the channel has ended; mend the stored \
                         payload"
                    );
                }
                if !then.is_empty() {
                    self.running = Some((callback::then(Rc::clone(&self.live), then), None));
                    self.resume(actix);
                }
            }
            Standing::Behind(behind) => {
                self.running = Some((self.catch_up(log, behind, then), None));
                self.resume(actix);
            }
        }
    }

    /// Sends the missed messages, then runs the steps of `Join::then`. Counts a resume from the database.
    fn catch_up(&self, log: LogRequest, behind: Behind, then: Vec<Then<C>>) -> Callback<C> {
        let catch_up = CatchUp {
            live: Rc::clone(&self.live),
            link: Rc::clone(&self.link),
            pubsub: self.live.borrow().ctx.pubsub().clone(),
            log,
        };
        let then = callback::then(Rc::clone(&self.live), then);
        let from_database = matches!(behind.next, Missed::Pages(_));
        guarded(async move {
            let done = catch_up.run(behind).await;
            if from_database {
                let result = match done {
                    Ok(()) => Resume::Database,
                    Err(_) => Resume::Failed,
                };
                metrics().resumes(result).increment(1);
            }
            match done {
                Ok(()) => then.await,
                Err(error) => CallbackDone::Behind(error),
            }
        })
    }

    pub(super) fn refused(&mut self, failed: JoinFailed) {
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
        self.route.metrics().refused.increment(1);
        if !self.answer(&Reply::error(response)) {
            return self.join_crashed("the refusal has no form on the client's wire");
        }
        self.link.detach();
        self.queue.clear();
        if self.live.borrow().channel.is_some() {
            self.enter(Phase::Terminating { crashed: false });
            self.queue
                .push(ChannelWork::Terminate(StopReason::Shutdown));
        } else {
            self.enter(Phase::Ended);
        }
    }

    pub(super) fn join_crashed(&mut self, panic: &str) {
        log_client!(
            error,
            self.client(),
            topic = self.topic(),
            panic,
            "channel.join.crashed: the client got an error reply; mend the channel's join"
        );
        self.route.metrics().join_crashed.increment(1);
        self.route.metrics().crashes.increment(1);
        self.answer(&Reply::error_because(reason::JOIN_CRASHED));
        self.enter(Phase::Ended);
        self.link.detach();
        self.queue.clear();
    }

    /// Answers the join; whether the answer could be encoded.
    fn answer(&self, reply: &Reply) -> bool {
        let answer = self.answer.as_ref();
        answer.is_none_or(|join| self.reply(&join.join_ref, &join.reference, reply))
    }

    /// Leaves the joining phase: the join is answered, so the replaced channel's `phx_close` follows.
    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        let answer = self.answer.take();
        if let Some(since) = answer.as_ref().and_then(|join| join.since) {
            self.route.metrics().join_seconds.record(since.elapsed());
        }
        if let Some(close) = answer.and_then(|join| join.replaced) {
            self.link.outbox.push(close);
        }
    }

    /// A join that had to wait is answered: the socket reads on.
    pub(super) fn join_done(&mut self, actix: &mut Actix<C>) {
        let joined = self.phase == Phase::Joined;
        let (topic, id) = (self.link.name().clone(), self.link.id);
        signal(
            &self.live.signals,
            ChannelSignal::JoinDone { topic, id, joined },
        );
        if self.phase == Phase::Ended {
            self.finish(actix);
        }
    }
}
