//! [`RoomChannel`]: one client in one room. The reply to `ping` is its payload; the room's rules say what its other
//! events do.
//!
//! A broadcast never waits for the database: inside it the topic's log passes the message to the `DbWriter`, and
//! refuses it if the writer is full. A client that joined with `ack: true` gets a reply once its message is
//! committed.

use std::sync::Arc;

use serde_json::{Value, json};

use super::access_token::ACCESS_TOKEN;
use super::backend::{self, RoomBackend};
use super::identity::Identity;
use super::live::LiveRoom;
use super::member::{Member, Occasion};
use super::outgoing::Outgoing;
use super::presence;
use super::room::Room;
use super::{event, history, limits, live};
use crate::channel::{
    Channel, Context, HandleIn, HandleInResult, Handled, Join, JoinResult, Refused, StopReason,
};
use crate::client::log_client;
use crate::message::{Payload, RawJson, reason};
use crate::server::language::template::Variable;
use crate::server::language::{Announcement, EventRule, Moment, OtherEvents};
use crate::server::tokens::TokenRefused;

const PING: &str = "ping";
pub(super) const UPDATE_MESSAGE: &str = "update_message";
pub(super) const DELETE_MESSAGE: &str = "delete_message";
pub(super) const MESSAGES_BEFORE: &str = "messages_before";

/// One client in one room. The route assigns the [`Room`].
#[derive(Debug)]
pub struct RoomChannel {
    room: Arc<Room>,
    pub(super) member: Member,
    /// Whether the client gets a reply once its message is committed.
    pub(super) ack: bool,
    /// `None` if the room asks none.
    pub(super) backend: Option<Box<RoomBackend>>,
}

impl RoomChannel {
    pub(super) fn room(&self) -> Arc<Room> {
        Arc::clone(&self.room)
    }

    /// The room's reply to an accepted join.
    fn join_reply(&self, occasion: Occasion<'_>) -> Result<Payload, Refused> {
        match &self.room.rules.join.reply {
            Some(reply) => self.member.payload(&self.room, occasion, reply),
            None => Ok(Payload::EMPTY),
        }
    }

    /// Sends the room's announcements of this moment.
    async fn announce(&self, at: &Moment, ctx: &Context<Self>) -> Handled {
        let due = self.room.rules.announce.iter();
        for announcement in due.filter(|announcement| announcement.at == *at) {
            self.send(announcement, ctx).await?;
        }
        Ok(())
    }

    async fn send(&self, announcement: &Announcement, ctx: &Context<Self>) -> Handled {
        let event = &*announcement.event;
        let outgoing = match &announcement.payload {
            None => Outgoing::Raw(RawJson::EMPTY_OBJECT),
            Some(template) => {
                let occasion = Occasion::at(ctx.topic(), &self.room);
                Outgoing::Made(self.member.render(&self.room, occasion, template)?)
            }
        };
        let draft = if announcement.store {
            outgoing.stored(event)
        } else {
            outgoing.live(event).0
        };
        let occasion = Occasion::at(ctx.topic(), &self.room);
        let audience = &announcement.to;
        event::send(self, draft, audience, (&self.room, occasion), ctx).await?;
        Ok(())
    }
}

impl Channel for RoomChannel {
    type Info = ();

    async fn join(params: Payload, ctx: &mut Context<Self>) -> JoinResult<Self> {
        let room = live::present(ctx);
        let request = history::request(&room, &params);
        let ack = wants_ack(&params);
        let identity = ctx.assigns().get_shared::<Identity>();
        let mut member = Member::new(identity, read(&room, &params));
        let token = token(&room, &params, ctx).await;
        let refused = |_: &Refused| {
            log_client!(info, ctx.client(), topic = ctx.topic(), "chat.join.refused");
        };
        // The token counts in the room's own rule of joins alone.
        let occasion = Occasion::at(ctx.topic(), &room).token(token.as_ref().ok());
        admit(&room, occasion, &mut member, token.is_ok()).inspect_err(refused)?;
        let backend = RoomBackend::of(&room, ctx).inspect_err(refused)?;
        let mut channel = Self {
            room,
            member,
            ack,
            backend,
        };
        let answered = match &channel.backend {
            // Boxed, as in an event.
            Some(_) => Box::pin(backend::join(&mut channel, &params, occasion, ctx)).await,
            None => Ok(None),
        };
        let reply = match answered.inspect_err(refused)? {
            Some(reply) => reply,
            None => channel.join_reply(occasion).inspect_err(refused)?,
        };
        if let Some(labels) = channel.member.labels() {
            ctx.label(labels);
        }
        let join = Join::reply(channel, reply).with_log(request);
        Ok(join.then(async |channel, ctx| {
            backend::tell_joined(channel);
            presence::enter(channel, ctx)?;
            channel.announce(&Moment::Join, ctx).await?;
            backend::entered(channel, ctx);
            Ok(())
        }))
    }

    async fn handle_in(
        &mut self,
        event: &str,
        payload: Payload,
        ctx: &mut Context<Self>,
    ) -> HandleInResult {
        if self.room.rules.version.is_old() {
            self.room = live::present(ctx);
        }
        let room = self.room();
        let rule = room.rule(event);
        if !reads_only(event, rule) {
            limits::refuse_muted(&room, event, ctx)?;
        }
        limits::count_message(&room, &self.member, ctx)?;
        let is_message = || is_message(&room, event, rule);
        match limits::take_turn(&room, &self.member, is_message, ctx)? {
            None => self.take_in((&room, rule), event, payload, ctx).await,
            // Boxed, so that the events of topics without a slow mode stay small.
            Some(turn) => {
                let taken = Box::pin(self.take_in((&room, rule), event, payload, ctx)).await;
                if is_refused(&taken) {
                    turn.give_back();
                }
                taken
            }
        }
    }

    async fn handle_info(&mut self, (): (), ctx: &mut Context<Self>) -> Handled {
        Box::pin(backend::after_join(self, ctx)).await;
        Ok(())
    }

    async fn terminate(&mut self, reason: &StopReason, ctx: &mut Context<Self>) {
        if self.backend.is_some() {
            Box::pin(backend::end(self, reason, ctx)).await;
        }
        if *reason == StopReason::Draining {
            return;
        }
        if let Err(error) = self.announce(&Moment::Leave, ctx).await {
            log_client!(
                info,
                ctx.client(),
                topic = ctx.topic(),
                ?error,
                "chat.leave.not_announced"
            );
        }
    }
}

impl RoomChannel {
    /// Carries out an event that is within its limits.
    async fn take_in(
        &mut self,
        (room, rule): (&Room, Option<&EventRule>),
        event: &str,
        payload: Payload,
        ctx: &mut Context<Self>,
    ) -> HandleInResult {
        if let Some(rule) = rule {
            if rule.hook {
                let asked = backend::event(self, Some(rule), event, &payload, ctx);
                return Box::pin(asked).await;
            }
            if let Some(older) = &rule.older {
                return Box::pin(self.reply_older((rule, older), event, &payload, ctx)).await;
            }
            // Boxed, so that the events that wait for nothing stay small.
            if rule.topic.is_some() {
                let sent = event::carry_out_elsewhere(self, (room, rule), event, &payload, ctx);
                return Box::pin(sent).await;
            }
            return event::carry_out(self, (room, rule), event, &payload, ctx).await;
        }
        match event {
            PING => Ok(HandleIn::ok(payload)),
            // Boxed, too: each event is as large as the largest.
            ACCESS_TOKEN if self.member.renewal().is_some() => {
                Box::pin(self.renew(&payload, ctx)).await
            }
            MESSAGES_BEFORE => Box::pin(self.before(&payload, ctx)).await,
            UPDATE_MESSAGE | DELETE_MESSAGE if self.room.changes => {
                Box::pin(self.change(event, &payload, ctx)).await
            }
            _ => match self.room.rules.other_events {
                OtherEvents::Ignore => Ok(HandleIn::NoReply),
                OtherEvents::Hook => {
                    Box::pin(backend::event(self, None, event, &payload, ctx)).await
                }
                OtherEvents::Refuse => Err(refuse(reason::UNKNOWN_EVENT, event, ctx).into()),
            },
        }
    }
}

/// Whether an event counts in slow mode: one that goes to all members or to all others and is not marked `store = false`,
/// and one that the room leaves to the backend. Changes of a message do not count.
fn is_message(room: &Room, event: &str, rule: Option<&EventRule>) -> bool {
    let is_change = matches!(event, UPDATE_MESSAGE | DELETE_MESSAGE);
    match rule {
        Some(rule) => rule.stores(),
        None => {
            let asks = room.rules.other_events == OtherEvents::Hook;
            asks && !is_change && !reads_only(event, None)
        }
    }
}

/// Whether nothing was sent.
fn is_refused(taken: &HandleInResult) -> bool {
    match taken {
        Ok(HandleIn::Reply(reply)) => reply.failure().is_some(),
        Ok(_) => false,
        Err(_) => true,
    }
}

/// Whether an event sends nothing to anybody else: a muted member may still send it.
fn reads_only(event: &str, rule: Option<&EventRule>) -> bool {
    match rule {
        Some(rule) => rule.older.is_some() && !rule.hook,
        None => matches!(event, ACCESS_TOKEN | PING | MESSAGES_BEFORE),
    }
}

/// The join params, if the room's rules or templates use them; else null.
fn read(room: &Room, params: &Payload) -> Value {
    let looks = !room.rules.join.require.is_empty() || room.rules.used.has(Variable::Params);
    match params {
        Payload::Json(json) if looks => serde_json::from_str(json.get()).unwrap_or_default(),
        _ => Value::Null,
    }
}

/// The content of the token that the room's joins need; null if they need none.
///
/// # Errors
/// If it is missing, wrong or expired, or if nobody has read the room's keys.
async fn token(
    room: &Room,
    params: &Payload,
    ctx: &Context<RoomChannel>,
) -> Result<Value, TokenRefused> {
    if room.rules.join.token.is_none() {
        return Ok(Value::Null);
    }
    let live = ctx.assigns().get::<LiveRoom>();
    let keys = live.and_then(LiveRoom::keys);
    let keys = keys.ok_or(TokenRefused::Missing)?;
    keys.verify(params, ctx.assigns().get::<Identity>()).await
}

/// Applies the rules of the join.
///
/// # Errors
/// If a rule refuses the join.
fn admit(
    room: &Room,
    occasion: Occasion<'_>,
    member: &mut Member,
    has_token: bool,
) -> Result<(), Refused> {
    let rule = &room.rules.join;
    let is_right = !rule.closed
        && has_token
        && rule.require.check(member.params()).is_ok()
        && member.values(room, occasion, |values| rule.conditions.hold(values));
    if !is_right {
        return Err(join_refusal(room, occasion, member)?);
    }
    if let Some(set) = &rule.set {
        member.set(room, occasion, set)?;
    }
    Ok(())
}

/// The room's answer to a join that is refused.
pub(super) fn join_refusal(
    room: &Room,
    occasion: Occasion<'_>,
    member: &Member,
) -> Result<Refused, Refused> {
    Ok(match &room.rules.join.refuse {
        Some(answer) => Refused::new(member.payload(room, occasion, answer)?),
        None => Refused::new(json!({ "reason": reason::UNAUTHORIZED })),
    })
}

/// `ack: true` in the join params.
fn wants_ack(params: &Payload) -> bool {
    let Payload::Json(json) = params else {
        return false;
    };
    let ack = json.members(["ack"]).and_then(|[ack]| ack);
    ack.is_some_and(|ack| ack.get() == "true")
}

pub(super) fn log_refusal(reason: &str, event: &str, ctx: &Context<RoomChannel>) {
    log_client!(
        info,
        ctx.client(),
        topic = ctx.topic(),
        event,
        reason,
        "chat.event.refused"
    );
}

pub(super) fn refuse(reason: &str, event: &str, ctx: &Context<RoomChannel>) -> Refused {
    log_refusal(reason, event, ctx);
    Refused::because(reason)
}
