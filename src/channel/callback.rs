//! One callback of a channel as a future whose result is a value, also after a panic. `server` polls it, parks it
//! and drops it.

use std::any::Any;
use std::borrow::Cow;
use std::cell::{self, RefCell, RefMut};
use std::panic::AssertUnwindSafe;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_core::future::LocalBoxFuture;
use futures_util::FutureExt;

use super::catch_up::CatchUpError;
use super::context::Context;
use super::join::{AcceptedJoin, JoinFailed};
use super::server::ChannelServer;
use super::start::Signals;
use super::{Channel, HandleInResult, Handled, StopReason, Then};
use crate::actor::LazyMailbox;
use crate::message::{Payload, Ref};
use crate::metrics::RouteMetrics;
use crate::pubsub::Broadcast;
use crate::trace::Span;

/// How long `terminate` may take. Phoenix: `shutdown: 5_000`.
const TERMINATE_TIMEOUT: Duration = Duration::from_secs(5);

/// A channel value and its context. The running callback borrows both; dropping the callback ends the borrow, so
/// that `terminate` can run after a callback was cancelled or has panicked.
pub(super) struct Live<C: Channel> {
    /// `None` until `join` has made it.
    pub(super) channel: Option<C>,
    pub(super) ctx: Context<C>,
}

/// What the actor of a channel and the callback that it runs share.
pub(super) struct LiveCell<C: Channel> {
    live: RefCell<Live<C>>,
    /// The actor's. Made when a callback asks for the channel's handle.
    pub(super) mailbox: LazyMailbox<ChannelServer<C>>,
    /// To the socket; shared by all channels of the connection.
    pub(super) signals: Signals,
}

pub(super) type SharedLive<C> = Rc<LiveCell<C>>;

impl<C: Channel> LiveCell<C> {
    /// A channel that `join` makes.
    pub(super) fn new(signals: Signals, ctx: impl FnOnce(&Weak<Self>) -> Context<C>) -> Rc<Self> {
        Rc::new_cyclic(|cell| Self {
            live: RefCell::new(Live {
                channel: None,
                ctx: ctx(cell),
            }),
            mailbox: LazyMailbox::default(),
            signals,
        })
    }

    pub(super) fn borrow(&self) -> cell::Ref<'_, Live<C>> {
        self.live.borrow()
    }

    pub(super) fn borrow_mut(&self) -> RefMut<'_, Live<C>> {
        self.live.borrow_mut()
    }
}

/// The result of a callback.
pub(super) enum CallbackDone<C: Channel> {
    Joined(Result<AcceptedJoin<C>, JoinFailed>),
    /// The catch-up has failed.
    Behind(CatchUpError),
    In(Ref, HandleInResult),
    Handled(Handled),
    Terminated,
    Panicked(Cow<'static, str>),
}

pub(super) type Callback<C> = LocalBoxFuture<'static, CallbackDone<C>>;

/// Turns a panic of the callback into its result.
pub(super) fn guarded<C: Channel>(
    callback: impl Future<Output = CallbackDone<C>> + 'static,
) -> Callback<C> {
    AssertUnwindSafe(callback)
        .catch_unwind()
        .map(|result| result.unwrap_or_else(|panic| CallbackDone::Panicked(message_of(&*panic))))
        .boxed_local()
}

/// A callback of a channel that has joined.
#[expect(
    clippy::await_holding_refcell_ref,
    reason = "a channel runs one callback at a time; cancelling drops the borrow with the future"
)]
fn callback<C: Channel>(
    live: SharedLive<C>,
    run: impl AsyncFnOnce(&mut C, &mut Context<C>) -> CallbackDone<C> + 'static,
) -> Callback<C> {
    guarded(async move {
        let Live { channel, ctx } = &mut *live.borrow_mut();
        let Some(channel) = channel else {
            // No callback runs before the join.
            return CallbackDone::Handled(Ok(()));
        };
        ctx.begin();
        run(channel, ctx).await
    })
}

/// The text of a panic.
fn message_of(panic: &(dyn Any + Send)) -> Cow<'static, str> {
    if let Some(text) = panic.downcast_ref::<&'static str>() {
        Cow::Borrowed(text)
    } else if let Some(text) = panic.downcast_ref::<String>() {
        Cow::Owned(text.clone())
    } else {
        Cow::Borrowed("a panic without a message")
    }
}

pub(super) fn handle_in<C: Channel>(
    live: SharedLive<C>,
    event: bytestring::ByteString,
    payload: Payload,
    reference: Ref,
) -> Callback<C> {
    callback(live, async move |channel, ctx| {
        ctx.reference = reference.clone();
        let outcome = channel.handle_in(&event, payload, ctx).await;
        ctx.reference = Ref::NULL;
        CallbackDone::In(reference, outcome)
    })
}

/// The same `handle_in`, which began now and is timed. Few are, so those that are not carry no clock.
pub(super) fn timed<C: Channel>(
    handle_in: Callback<C>,
    begun: Instant,
    metrics: &'static RouteMetrics,
) -> Callback<C> {
    async move {
        let done = handle_in.await;
        metrics.handle_in_seconds.record(begun.elapsed());
        done
    }
    .boxed_local()
}

/// The same callback, which the span lasts for. If none is recorded, it stays as it is.
pub(super) fn traced<C: Channel>(callback: Callback<C>, mut span: Span) -> Callback<C> {
    if !span.is_recorded() {
        return callback;
    }
    async move {
        let done = span.within(callback).await;
        match &done {
            CallbackDone::Panicked(panic) => span.fail(panic),
            CallbackDone::Joined(Err(_)) => span.set("slackir.refused", "true"),
            _ => {}
        }
        done
    }
    .boxed_local()
}

pub(super) fn handle_out<C: Channel>(
    live: SharedLive<C>,
    broadcast: Arc<Broadcast>,
) -> Callback<C> {
    callback(live, async move |channel, ctx| {
        ctx.passing = Some(Arc::clone(&broadcast));
        CallbackDone::Handled(channel.handle_out(broadcast, ctx).await)
    })
}

pub(super) fn handle_broadcast<C: Channel>(
    live: SharedLive<C>,
    broadcast: Arc<Broadcast>,
) -> Callback<C> {
    callback(live, async move |channel, ctx| {
        CallbackDone::Handled(channel.handle_broadcast(broadcast, ctx).await)
    })
}

pub(super) fn handle_timeout<C: Channel>(live: SharedLive<C>) -> Callback<C> {
    callback(live, async move |channel, ctx| {
        CallbackDone::Handled(channel.handle_timeout(ctx).await)
    })
}

pub(super) fn handle_info<C: Channel>(live: SharedLive<C>, info: C::Info) -> Callback<C> {
    callback(live, async move |channel, ctx| {
        CallbackDone::Handled(channel.handle_info(info, ctx).await)
    })
}

/// The steps of [`Join::then`](super::Join::then).
pub(super) fn then<C: Channel>(live: SharedLive<C>, all: Vec<Then<C>>) -> Callback<C> {
    callback(live, async move |channel, ctx| {
        for then in all {
            if let Err(reason) = then(channel, ctx).await {
                return CallbackDone::Handled(Err(reason));
            }
        }
        CallbackDone::Handled(Ok(()))
    })
}

pub(super) fn terminate<C: Channel>(live: SharedLive<C>, reason: StopReason) -> Callback<C> {
    callback(live, async move |channel, ctx| {
        ctx.guards.ends(&reason);
        let terminated = channel.terminate(&reason, ctx);
        if tokio::time::timeout(TERMINATE_TIMEOUT, terminated)
            .await
            .is_err()
        {
            tracing::warn!(
                ?reason,
                "channel.terminate.timeout: the callback was dropped; make it shorter or raise \
                 the socket's timeout"
            );
        }
        CallbackDone::Terminated
    })
}
