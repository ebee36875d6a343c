//! [`RoomBackend`]: asks the application's backend about a membership, and carries out its answers.
//!
//! The calls of a membership follow one another, as its callbacks do. An answer is checked completely before anything
//! of it is done. An event whose call is out when its client goes is carried out in the channel's `terminate`.

use std::collections::VecDeque;
use std::sync::{Arc, LazyLock};

use futures_core::future::LocalBoxFuture;
use serde_json::{Map, Value, json};

use super::action::CheckedAction;
use super::channel::{RoomChannel, join_refusal, refuse};
use super::event;
use super::identity::Identity;
use super::member::{Member, Occasion};
use super::room::Room;
use super::told::MemberNotices;
use crate::channel::{Context, Failure, HandleIn, HandleInResult, Refused, StopReason};
use crate::client::log_client;
use crate::message::{Payload, RawJson, Reply, reason};
use crate::server::hook::{
    Call, CallFailure, CallKind, DenyKey, Hook, HookAnswer, PassedHeaders, Verdict, WrittenCall,
};
use crate::server::language::{EventRule, check_event};
use crate::socket::{ConnectRefused, Params};

static NO_MEMORY: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);
static NO_IDENTITY: LazyLock<Identity> = LazyLock::new(|| Identity::new(json!({})));

/// The backend of one membership.
pub(super) struct RoomBackend {
    hook: Arc<Hook>,
    /// `None` if the room tells nothing of its members.
    notices: Option<MemberNotices>,
    topic: String,
    /// The backend has admitted the member, or is being asked to: it gets a notice of the end.
    is_known: bool,
    /// The event whose call is out, or whose answer is being carried out.
    event: Option<AskedEvent>,
    /// The actions of the answer to the join, until the join is complete.
    after_join: VecDeque<CheckedAction>,
}

named_debug!(RoomBackend, topic, is_known);

struct AskedEvent {
    event: String,
    payload: RawJson,
    call: Arc<WrittenCall>,
    stage: Stage,
}

enum Stage {
    Asking(LocalBoxFuture<'static, Result<Verdict, CallFailure>>),
    /// The actions that are left, and the rest of the answer.
    Doing(VecDeque<CheckedAction>, HookAnswer),
}

impl RoomBackend {
    /// # Errors
    /// If the room asks a backend, and the server has none.
    pub(super) fn of(
        room: &Room,
        ctx: &Context<RoomChannel>,
    ) -> Result<Option<Box<Self>>, Refused> {
        let tells = room.rules.tell.has_members();
        if !room.rules.asks_hook && !tells {
            return Ok(None);
        }
        let Some(hook) = ctx.assigns().get::<Arc<Hook>>() else {
            // Rooms in the process have no backend: what they tell is lost, what they ask is refused.
            return if room.rules.asks_hook {
                Err(Refused::because(reason::UNAVAILABLE))
            } else {
                Ok(None)
            };
        };
        Ok(Some(Box::new(Self {
            hook: Arc::clone(hook),
            notices: MemberNotices::of(room, ctx),
            topic: ctx.topic().to_owned(),
            is_known: false,
            event: None,
            after_join: VecDeque::new(),
        })))
    }
}

/// Asks about a connection. Returns the identity, with the fields that the backend adds.
///
/// # Errors
/// If the backend refuses it, or does not answer.
pub(super) async fn connect(
    hook: &Hook,
    identity: Identity,
    params: &Params,
) -> Result<Identity, ConnectRefused> {
    let unavailable = || ConnectRefused::unavailable("the hook has no answer");
    let payload = RawJson::encode(params.as_map()).map_err(|_| unavailable())?;
    let call = Call {
        kind: CallKind::Connect,
        socket: &identity.socket_id,
        user: &identity.user(),
        me: &NO_MEMORY,
        topic: None,
        matched: None,
        event: None,
        payload: &payload,
        wants_reply: true,
    };
    let call = call.write(identity.headers.clone());
    match hook.ask(&call).await {
        Ok(Verdict::Allowed(answer)) => identity.with(&answer.user).map_err(|too_long| {
            hook.refuse_answer(&call, &format!("\"user\": over {} bytes", too_long.max));
            unavailable()
        }),
        Ok(Verdict::Refused { .. }) => Err(ConnectRefused::because("refused by the hook")),
        Err(_) => Err(unavailable()),
    }
}

/// Asks about a join, if the room says so. Returns the reply, if the backend has one.
///
/// # Errors
/// If the backend refuses the join, or does not answer.
pub(super) async fn join(
    channel: &mut RoomChannel,
    params: &Payload,
    occasion: Occasion<'_>,
    ctx: &Context<RoomChannel>,
) -> Result<Option<Payload>, Refused> {
    let room = channel.room();
    let Some(backend) = channel.backend.as_mut().filter(|_| room.rules.join.hook) else {
        return Ok(None);
    };
    let Payload::Json(params) = params else {
        return Err(Refused::because(reason::INVALID_PAYLOAD));
    };
    let (hook, member) = (Arc::clone(&backend.hook), &channel.member);
    let call = write(
        CallKind::Join,
        (&room, member, &backend.topic),
        None,
        params,
        true,
    );
    let key = || {
        let identity = member.identity().unwrap_or(&NO_IDENTITY);
        let (user, me) = (
            identity.user().to_string(),
            member.me().unwrap_or(&NO_MEMORY),
        );
        let me = serde_json::to_string(me).unwrap_or_default();
        DenyKey::new(&[&user, &me, &backend.topic, params.get()], &call)
    };
    let key = hook
        .denied(key)
        .map_err(|error| Refused::new(Payload::Json(error)))?;
    // Set before the call: if the client goes meanwhile, the backend may have admitted it.
    backend.is_known = true;
    let verdict = hook.ask(&call).await;
    let answer = match verdict {
        Ok(Verdict::Allowed(answer)) => answer,
        refused => {
            backend.is_known = false;
            let Ok(Verdict::Refused { error, .. }) = refused else {
                return Err(Refused::because(reason::UNAVAILABLE));
            };
            let refused = match error {
                Some(error) => Refused::new(Payload::Json(error)),
                None => join_refusal(&room, occasion, &channel.member)?,
            };
            if let Some(key) = key {
                hook.deny(key, refused.response());
            }
            return Err(refused);
        }
    };
    let (actions, answer) = take_in(answer, channel, ctx).map_err(|problem| {
        hook.refuse_answer(&call, &problem);
        Refused::because(reason::UNAVAILABLE)
    })?;
    if let Some(backend) = &mut channel.backend {
        backend.after_join = actions;
    }
    Ok(answer.reply.map(Payload::Json))
}

/// The join is complete: has its actions carried out.
pub(super) fn entered(channel: &RoomChannel, ctx: &Context<RoomChannel>) {
    if let Some(backend) = &channel.backend
        && !backend.after_join.is_empty()
    {
        // The actions may wait, and this step cannot. An info reaches the channel unless it has ended.
        let _ = ctx.handle().send(());
    }
}

/// Carries out the actions of the answer to the join.
pub(super) async fn after_join(channel: &mut RoomChannel, ctx: &Context<RoomChannel>) {
    while let Some(action) = channel
        .backend
        .as_mut()
        .and_then(|backend| backend.after_join.pop_front())
    {
        if let Err(error) = action.perform(channel, ctx).await {
            log_not_done(&error, ctx);
            channel
                .backend
                .iter_mut()
                .for_each(|it| it.after_join.clear());
        }
    }
}

/// Asks about an event; `rule` is `None` for an event that the room does not name.
pub(super) async fn event(
    channel: &mut RoomChannel,
    rule: Option<&EventRule>,
    event: &str,
    payload: &Payload,
    ctx: &mut Context<RoomChannel>,
) -> HandleInResult {
    let room = channel.room();
    if rule.is_none() && check_event(event).is_err() {
        // An event of the server's own: nobody may send it by way of the backend.
        return Err(refuse(reason::UNKNOWN_EVENT, event, ctx).into());
    }
    let rule = rule.unwrap_or(&UNNAMED);
    let (payload, _) = event::check(channel, (&room, rule), event, payload, ctx)?;
    let Some(backend) = &mut channel.backend else {
        return Err(refuse(reason::UNAVAILABLE, event, ctx).into());
    };
    let wants_reply = ctx.socket_ref().is_some();
    let facts = (&*room, &channel.member, &*backend.topic);
    let call = Arc::new(write(
        CallKind::Event,
        facts,
        Some(event),
        payload,
        wants_reply,
    ));
    let (hook, asked) = (Arc::clone(&backend.hook), Arc::clone(&call));
    backend.event = Some(AskedEvent {
        event: event.to_owned(),
        payload: payload.clone(),
        call,
        stage: Stage::Asking(Box::pin(async move { hook.ask(&asked).await })),
    });
    resume(channel, ctx).await
}

/// The rule of events that the room does not name, if the backend has them relayed.
static UNNAMED: LazyLock<EventRule> = LazyLock::new(|| EventRule {
    store: Some(false),
    ..EventRule::default()
});

/// Waits for the answer to the asked event, and carries it out. Dropped at any wait, it goes on where it was when it
/// is called again.
async fn resume(channel: &mut RoomChannel, ctx: &mut Context<RoomChannel>) -> HandleInResult {
    let Some(asked) = channel.backend.as_mut().and_then(|it| it.event.as_mut()) else {
        return Ok(HandleIn::NoReply);
    };
    if let Stage::Asking(call) = &mut asked.stage {
        let verdict = call.await;
        let answer = match verdict {
            Ok(Verdict::Allowed(answer)) => answer,
            refused => {
                let event = take(channel).map_or_else(String::new, |asked| asked.event);
                return refusal(refused, &event, ctx);
            }
        };
        let call = Arc::clone(&asked.call);
        let doing = match take_in(answer, channel, ctx) {
            Ok((actions, answer)) => Stage::Doing(actions, answer),
            Err(problem) => {
                let event = take(channel).map_or_else(String::new, |asked| asked.event);
                if let Some(backend) = &channel.backend {
                    backend.hook.refuse_answer(&call, &problem);
                }
                return Err(refuse(reason::UNAVAILABLE, &event, ctx).into());
            }
        };
        if let Some(asked) = channel.backend.as_mut().and_then(|it| it.event.as_mut()) {
            asked.stage = doing;
        }
    }
    while let Some(action) = next_action(channel) {
        if let Err(failure) = action.perform(channel, ctx).await {
            // What stands before it is done. The client gets the reason.
            take(channel);
            return Err(failure);
        }
    }
    let Some(AskedEvent {
        event,
        payload,
        stage: Stage::Doing(_, answer),
        ..
    }) = take(channel)
    else {
        return Ok(HandleIn::NoReply);
    };
    conclude(channel, (&event, payload), answer, ctx).await
}

fn take(channel: &mut RoomChannel) -> Option<AskedEvent> {
    channel.backend.as_mut()?.event.take()
}

/// The next action. It is taken before it is carried out, so that it is done at most once.
fn next_action(channel: &mut RoomChannel) -> Option<CheckedAction> {
    match &mut channel.backend.as_mut()?.event.as_mut()?.stage {
        Stage::Doing(actions, _) => actions.pop_front(),
        Stage::Asking(_) => None,
    }
}

/// The answer to an event that the backend has not allowed.
fn refusal(
    verdict: Result<Verdict, CallFailure>,
    event: &str,
    ctx: &Context<RoomChannel>,
) -> HandleInResult {
    let Ok(Verdict::Refused { error, close }) = verdict else {
        return Err(refuse(reason::UNAVAILABLE, event, ctx).into());
    };
    let refused = match error {
        Some(error) => Refused::new(Payload::Json(error)),
        None => Refused::because(reason::UNAUTHORIZED),
    };
    closing(Err(refused.into()), close)
}

/// The last part of an answer: the rule, the reply, the end of the channel.
async fn conclude(
    channel: &mut RoomChannel,
    (event, payload): (&str, RawJson),
    answer: HookAnswer,
    ctx: &mut Context<RoomChannel>,
) -> HandleInResult {
    let room = channel.room();
    let rule = room.rule(event);
    let reply = answer.reply.map(Payload::Json);
    let relays = answer
        .relay
        .unwrap_or_else(|| rule.is_some_and(EventRule::outlasts_hook));
    let done = if relays {
        let rule = (&*room, rule.unwrap_or(&UNNAMED));
        let json = answer.payload.unwrap_or(payload);
        match event::value_of(channel, rule, event, &json) {
            Ok(value) => {
                let event = (event, &json, value.as_ref());
                event::apply(channel, rule, event, reply, ctx).await
            }
            Err(_) => Err(refuse(reason::INVALID_PAYLOAD, event, ctx).into()),
        }
    } else {
        Ok(reply.map_or(HandleIn::NoReply, HandleIn::ok))
    };
    closing(done, answer.close)
}

/// The same outcome, and the end of the channel if the backend wants it.
fn closing(done: HandleInResult, close: bool) -> HandleInResult {
    const END: StopReason = StopReason::Normal;
    if !close {
        return done;
    }
    Ok(match done {
        Ok(HandleIn::Reply(reply)) => HandleIn::StopReply(END, reply),
        Err(Failure::Refused(refused)) => {
            HandleIn::StopReply(END, Reply::error(refused.response().clone()))
        }
        Ok(HandleIn::NoReply) => HandleIn::Stop(END),
        other => return other,
    })
}

/// The membership ends: carries out the event whose call is out, and sends the notice of the end.
pub(super) async fn end(
    channel: &mut RoomChannel,
    reason: &StopReason,
    ctx: &mut Context<RoomChannel>,
) {
    // A reply reaches nobody.
    if let Err(failure) = resume(channel, ctx).await {
        log_not_done(&failure, ctx);
    }
    tell_leave(
        channel,
        match reason {
            StopReason::Left => "left",
            StopReason::Draining => "shutdown",
            _ => "closed",
        },
    );
}

/// The member has joined.
pub(super) fn tell_joined(channel: &mut RoomChannel) {
    if let Some(backend) = &mut channel.backend
        && let Some(notices) = &mut backend.notices
    {
        notices.joined(&channel.member, &backend.topic);
    }
}

/// Sends the notices of the end, once, and waits for nothing.
fn tell_leave(channel: &mut RoomChannel, reason: &str) {
    let room = channel.room();
    let Some(backend) = &mut channel.backend else {
        return;
    };
    if let Some(notices) = &mut backend.notices {
        notices.left(&channel.member, &backend.topic, reason);
    }
    if !std::mem::take(&mut backend.is_known) {
        return;
    }
    let payload = RawJson::from(json!({ "reason": reason }));
    let facts = (&*room, &channel.member, &*backend.topic);
    let call = write(CallKind::Leave, facts, None, &payload, false);
    backend.hook.tell(call);
}

/// A membership without a `terminate`: a join that was dropped, or a channel that a duplicate join replaces.
impl Drop for RoomChannel {
    fn drop(&mut self) {
        if self.backend.is_some() && tokio::runtime::Handle::try_current().is_ok() {
            tell_leave(self, "closed");
        }
    }
}

/// Writes a call about this member.
fn write(
    kind: CallKind,
    (room, member, topic): (&Room, &Member, &str),
    event: Option<&str>,
    payload: &RawJson,
    wants_reply: bool,
) -> WrittenCall {
    let identity = member.identity().unwrap_or(&NO_IDENTITY);
    let call = Call {
        kind,
        socket: &identity.socket_id,
        user: &identity.user(),
        me: member.me().unwrap_or(&NO_MEMORY),
        topic: Some(topic),
        matched: room.topics.rest(topic),
        event,
        payload,
        wants_reply,
    };
    call.write(PassedHeaders::clone(&identity.headers))
}

/// Checks an answer against the room, and takes in its `user` and `me`. Returns its actions, and the rest.
///
/// # Errors
/// The problem, in words: nothing has changed.
fn take_in(
    mut answer: HookAnswer,
    channel: &mut RoomChannel,
    ctx: &Context<RoomChannel>,
) -> Result<(VecDeque<CheckedAction>, HookAnswer), String> {
    let room = channel.room();
    let actions = std::mem::take(&mut answer.actions).into_iter();
    let actions = actions.map(|action| CheckedAction::check(action, &room, ctx));
    let actions = actions.collect::<Result<_, _>>()?;
    let merged = channel.member.merge(&answer.user, &answer.me);
    merged.map_err(|too_long| format!("\"user\" or \"me\": over {} bytes", too_long.max))?;
    if let Some(labels) = channel.member.labels() {
        ctx.label(labels);
    }
    Ok((actions, answer))
}

fn log_not_done(error: &Failure, ctx: &Context<RoomChannel>) {
    log_client!(
        info,
        ctx.client(),
        topic = ctx.topic(),
        ?error,
        "chat.hook.not_done"
    );
}
