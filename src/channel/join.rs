//! A join: the application's `join`, the topic's log, and the subscription.
//!
//! `server::joining` does the rest in the same turn, so that nothing live comes between: the reply, `phx_close` of
//! the replaced channel, the history.

use std::rc::Rc;
use std::sync::Arc;

use super::callback::{Callback, CallbackDone, Live, SharedLive, guarded};
use super::catch_up::{Behind, Missed};
use super::history::{HistoryForm, LogRequest};
use super::link::Link;
use super::replay::{self, intercepts};
use super::{Channel, Failure, Join, Refused, StopReason, Then};
use crate::client::log_client;
use crate::log::{Backlog, Lost, MessageId};
use crate::message::{Payload, reason};
use crate::metrics::{Resume, metrics};
use crate::pubsub::{PubSub, Subscribed, Subscriber, Subscription, Tap, Topic, Want, Wire};

/// A join that the application accepted.
pub(super) struct AcceptedJoin<C: Channel> {
    pub(super) reply: Payload,
    pub(super) log: LogRequest,
    pub(super) then: Vec<Then<C>>,
    pub(super) standing: Standing,
}

/// How far an accepted join is from live messages.
pub(super) enum Standing {
    /// A member of its topic, with the messages of its log; `None` if the topic has no log.
    Live(Subscription, Option<Backlog>),
    /// Messages have to be sent before.
    Behind(Behind),
}

impl Standing {
    /// The join reply, with what the log adds to it.
    pub(super) fn reply(&self, log: &LogRequest, reply: Payload) -> Payload {
        match self {
            Self::Live(_, backlog) => {
                let listed = |backlog: &&Backlog| log.form(backlog) == HistoryForm::Reply;
                let in_reply = backlog.as_ref().filter(listed);
                let list = in_reply.map(|backlog| log.list(&backlog.entries));
                log.reply(reply, backlog.as_ref(), list.as_deref())
            }
            Self::Behind(behind) => behind.reply(log, reply),
        }
    }

    /// Counts a join that resumes, or would have. One from the database is counted at its end.
    pub(super) fn count_resume(&self, log: &LogRequest) {
        let backlog = match self {
            Self::Live(_, backlog) => backlog.as_ref(),
            Self::Behind(behind) => match &behind.next {
                Missed::Backlog(backlog, _) => Some(backlog),
                Missed::Pages(_) => return,
            },
        };
        match backlog {
            Some(backlog) if backlog.resumed => {
                metrics().resumes(Resume::Memory).increment(1);
                let sent_again = backlog.entries.len();
                metrics().resumed_messages.record(sent_again as f64);
            }
            Some(backlog) if backlog.lost == Some(Lost::Gap) => {
                metrics().resumes(Resume::Gap).increment(1);
            }
            // Also an id that cannot be one, and a topic that keeps no messages.
            _ if log.asks_to_resume() => metrics().resumes(Resume::Epoch).increment(1),
            _ => {}
        }
    }

    pub(super) fn topic(&self) -> &Arc<Topic> {
        match self {
            Self::Live(subscription, _) => subscription.topic(),
            Self::Behind(behind) => &behind.topic,
        }
    }
}

/// A join that failed.
pub(super) enum JoinFailed {
    Refused(Refused),
    /// `join` crashed, or the channel stopped at a message of its history.
    Stopped(StopReason),
    StorageUnavailable,
}

/// `join`, then the topic's log, then the subscription. The reply follows in the same poll, so no
/// broadcast can come between.
#[expect(clippy::await_holding_refcell_ref, reason = "as in callback::callback")]
pub(super) fn join<C: Channel>(
    live: SharedLive<C>,
    link: Rc<Link>,
    pubsub: PubSub,
    params: Payload,
) -> Callback<C> {
    guarded(async move {
        if pubsub.is_unstorable(link.topic()) {
            let refused = Refused::because(reason::NUL_IN_TOPIC);
            return CallbackDone::Joined(Err(JoinFailed::Refused(refused)));
        }
        let live = &mut *live.borrow_mut();
        let Join {
            channel,
            reply,
            log,
            then,
        } = match C::join(params, &mut live.ctx).await {
            Ok(join) => join,
            Err(failure) => return CallbackDone::Joined(Err(failure.into())),
        };
        live.channel = Some(channel);
        link.meta.set(log.meta);
        let standing = enter(live, &link, &pubsub, &log).await;
        CallbackDone::Joined(standing.map(|standing| AcceptedJoin {
            reply,
            log,
            then,
            standing,
        }))
    })
}

impl From<Failure> for JoinFailed {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(refused) => Self::Refused(refused),
            Failure::Stop(reason) => Self::Stopped(reason),
            Failure::Unhandled(event) => Self::Stopped(StopReason::unhandled(&event)),
        }
    }
}

/// Enters the topic, as a member or behind it.
async fn enter<C: Channel>(
    live: &mut Live<C>,
    link: &Rc<Link>,
    pubsub: &PubSub,
    log: &LogRequest,
) -> Result<Standing, JoinFailed> {
    loop {
        let topic = pubsub.topic(link.topic());
        let want = log.want();
        let ready = async {
            if !topic.is_loaded() {
                topic.load().await?;
            }
            topic.reach(want).await
        };
        if let Err(error) = ready.await {
            let client = live.ctx.client();
            let (topic, source) = (link.topic(), &error.source);
            log_client!(
                error, client, topic, %error, ?source,
                "channel.join.log_unreadable: the client got an error reply; see that the \
                 database answers, and in a cluster its Redis or NATS"
            );
            if log.asks_to_resume() {
                metrics().resumes(Resume::Failed).increment(1);
            }
            return Err(JoinFailed::StorageUnavailable);
        }
        let (cursor, next) = match (
            pubsub.subscribe(&topic, subscriber::<C>(link, log.meta), want),
            want,
        ) {
            (Some(Subscribed::Live(subscription, backlog)), _) => {
                let (cursor, backlog) = match intercepted::<C>(backlog) {
                    Ok(intercepted) => intercepted,
                    Err(backlog) => return Ok(Standing::Live(subscription, backlog)),
                };
                // Nothing live may overtake what the channel handles first.
                drop(subscription);
                let mut list = None;
                if log.form(&backlog) == HistoryForm::Reply {
                    let listed = replay::list(live, log, &topic, &backlog.entries).await;
                    list = Some(listed.map_err(JoinFailed::Stopped)?);
                }
                (cursor, Missed::Backlog(backlog, list))
            }
            (Some(Subscribed::Behind(pager)), Want::Resume(cursor, _)) => {
                (cursor, Missed::Pages(pager))
            }
            // Evicted since it was looked up.
            (Some(Subscribed::Behind(_)) | None, _) => continue,
        };
        return Ok(Standing::Behind(Behind {
            topic,
            cursor,
            next,
        }));
    }
}

/// A backlog with an intercepted message, and its last id.
///
/// # Errors
/// If nothing in it is intercepted: the backlog.
fn intercepted<C: Channel>(
    backlog: Option<Backlog>,
) -> Result<(MessageId, Backlog), Option<Backlog>> {
    match backlog {
        Some(backlog) if backlog.entries.iter().any(|entry| intercepts::<C>(entry)) => {
            match backlog.head {
                Some(head) => Ok((head, backlog)),
                None => Err(Some(backlog)),
            }
        }
        backlog => Err(backlog),
    }
}

pub(super) fn subscriber<C: Channel>(link: &Rc<Link>, meta: bool) -> Subscriber {
    let intercept = C::intercept();
    let wire = Wire {
        serializer: link.serializer,
        meta,
    };
    let tap: Rc<dyn Tap> = Rc::clone(link) as Rc<dyn Tap>;
    Subscriber {
        id: link.id,
        fastlane: Some((Rc::clone(&link.outbox), wire)),
        intercept,
        tap: Some(tap),
    }
}
