//! A join: what it needs, the application's `join`, the topic's log, and the subscription.
//!
//! What follows it (the reply, `phx_close` of what it replaces, the history) is `server`'s, in the
//! same turn, so that nothing live can come between.

use std::rc::Rc;
use std::sync::Arc;

use actix::Recipient;
use bytestring::ByteString;

use super::callback::{Callback, Done, Live, Shared, guarded};
use super::catch_up::{Behind, Next};
use super::link::{Link, ToChannel};
use super::log::{Form, LogRequest};
use super::replay::{self, intercepts};
use super::server::ChannelSignal;
use super::{Channel, Failure, Join, Refused, StopReason, Then};
use crate::assigns::Assigns;
use crate::client::log_client;
use crate::flow::Flow;
use crate::frame::Frame;
use crate::message::{Payload, Ref, reason};
use crate::outbox::Outbox;
use crate::pubsub::{
    Backlog, Broadcast, MessageId, PubSub, Subscribed, Subscriber, Subscription, Tap, Want, Wire,
};
use crate::serializer::Serializer;

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
    pub(crate) signals: Rc<Recipient<ChannelSignal>>,
    /// The `phx_close` of the channel that this join replaces; sent after the join's reply.
    pub(crate) replaced: Option<Frame>,
}

/// A join that the application accepted.
pub(super) struct Accepted<C: Channel> {
    pub(super) reply: Payload,
    pub(super) log: LogRequest,
    pub(super) then: Vec<Then<C>>,
    pub(super) place: Place,
}

/// Where a channel that has joined stands.
pub(super) enum Place {
    /// A member of its topic, with what its log gives; `None` where it keeps none.
    Live(Subscription, Option<Backlog>),
    /// On its way there.
    Behind(Behind),
}

/// A join that came to nothing.
pub(super) enum JoinFailed {
    Refused(Refused),
    /// `join` has failed, or the channel stopped at a message of its history.
    Stopped(StopReason),
    StorageUnavailable,
}

/// `join`, then the topic's log, then the subscription. The reply follows in the same poll, so no
/// broadcast can come between.
#[expect(clippy::await_holding_refcell_ref, reason = "as in callback::callback")]
pub(super) fn join<C: Channel>(
    live: Shared<C>,
    link: Rc<Link>,
    pubsub: PubSub,
    params: Payload,
) -> Callback<C> {
    guarded(async move {
        if pubsub.is_unstorable(&link.topic) {
            let refused = Refused::reason(reason::NUL_IN_TOPIC);
            return Done::Joined(Err(JoinFailed::Refused(refused)));
        }
        let live = &mut *live.borrow_mut();
        let Join {
            channel,
            reply,
            log,
            then,
        } = match C::join(params, &mut live.ctx).await {
            Ok(join) => join,
            Err(failure) => return Done::Joined(Err(failure.into())),
        };
        live.channel = Some(channel);
        live.ctx.meta = log.meta;
        let place = enter(live, &link, &pubsub, &log).await;
        Done::Joined(place.map(|place| Accepted {
            reply,
            log,
            then,
            place,
        }))
    })
}

impl From<Failure> for JoinFailed {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(refused) => Self::Refused(refused),
            Failure::Stop(reason) => Self::Stopped(reason),
        }
    }
}

/// Finds the channel its place in the topic.
async fn enter<C: Channel>(
    live: &mut Live<C>,
    link: &Rc<Link>,
    pubsub: &PubSub,
    log: &LogRequest,
) -> Result<Place, JoinFailed> {
    loop {
        let topic = pubsub.topic(&link.topic);
        if !topic.is_loaded()
            && let Err(error) = topic.load().await
        {
            let client = live.ctx.client();
            let (topic, source) = (&*link.topic, &error.source);
            log_client!(error, client, topic, %error, ?source, "channel.join.log_unreadable");
            return Err(JoinFailed::StorageUnavailable);
        }
        let want = log.want();
        let (cursor, next) = match (
            pubsub.subscribe(&topic, subscriber::<C>(link, log.meta), want),
            want,
        ) {
            (Some(Subscribed::Live(subscription, backlog)), _) => {
                let (cursor, backlog) = match intercepted::<C>(backlog) {
                    Ok(intercepted) => intercepted,
                    Err(backlog) => return Ok(Place::Live(subscription, backlog)),
                };
                // Nothing live may overtake what the channel takes its time with.
                drop(subscription);
                let mut list = None;
                if log.form(&backlog) == Form::Reply {
                    let listed = replay::list(live, log, &topic, &backlog.entries).await;
                    list = Some(listed.map_err(JoinFailed::Stopped)?);
                }
                (cursor, Next::Backlog(backlog, list))
            }
            (Some(Subscribed::Behind(pager)), Want::Resume(cursor, _)) => {
                (cursor, Next::Pages(pager))
            }
            // Given up since it was looked up.
            (Some(Subscribed::Behind(_)) | None, _) => continue,
        };
        return Ok(Place::Behind(Behind {
            topic,
            cursor,
            next,
        }));
    }
}

/// A backlog of which something goes through the channel, and the message that it ends with; else the
/// backlog as it came.
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
    let tap = || -> Rc<dyn Tap> { Rc::new(Intercept(Rc::clone(link))) };
    Subscriber {
        id: link.id,
        fastlane: Some((Rc::clone(&link.outbox), wire)),
        intercept,
        tap: (!intercept.is_empty()).then(tap),
    }
}

/// Hands intercepted broadcasts to the channel.
struct Intercept(Rc<Link>);

impl Tap for Intercept {
    fn receive(&self, broadcast: &Arc<Broadcast>) {
        self.0.deliver_broadcast(broadcast, ToChannel::Out);
    }
}
