//! Carries out the rule of an event.

use serde_json::{Value, json};

use super::channel::{RoomChannel, log_refusal, refuse};
use super::client_ref::InvalidClientRef;
use super::member::{Member, Occasion, too_long};
use super::outgoing::Outgoing;
use super::presence;
use super::room::{Room, Rooms};
use super::selection::selector;
use crate::channel::{Context, Failure, HandleIn, HandleInResult, Refused, SendError};
use crate::message::{MAX_NAME_LEN, Payload, RawJson, Reply, reason};
use crate::metrics::metrics;
use crate::pubsub::{Draft, Published};
use crate::rate::Limit;
use crate::server::language::template::{Template, Values, Variable};
use crate::server::language::{Audience, EventRule};

/// Carries out a rule that sends to no other topic, in this order: rate, shapes, refusal, memory, presence, message,
/// reply. A refusal ends it: the later steps are not taken.
pub(super) async fn carry_out(
    channel: &mut RoomChannel,
    (room, rule): (&Room, &EventRule),
    event: &str,
    payload: &Payload,
    ctx: &mut Context<RoomChannel>,
) -> HandleInResult {
    if rule.ignore {
        count(channel, rule, event, ctx)?;
        return Ok(HandleIn::NoReply);
    }
    let (json, value) = check(channel, (room, rule), event, payload, ctx)?;
    let value = value.as_ref();
    apply_here(channel, (room, rule), (event, json, value), None, ctx).await
}

/// As [`carry_out`], for a rule that may send to another topic, and waits for it.
pub(super) async fn carry_out_elsewhere(
    channel: &mut RoomChannel,
    (room, rule): (&Room, &EventRule),
    event: &str,
    payload: &Payload,
    ctx: &mut Context<RoomChannel>,
) -> HandleInResult {
    let (json, value) = check(channel, (room, rule), event, payload, ctx)?;
    let value = value.as_ref();
    apply(channel, (room, rule), (event, json, value), None, ctx).await
}

/// Checks an event by its rule: rate, length, shapes. Returns the payload, and its value if something looks into it.
pub(super) fn check<'a>(
    channel: &mut RoomChannel,
    (room, rule): (&Room, &EventRule),
    event: &str,
    payload: &'a Payload,
    ctx: &Context<RoomChannel>,
) -> Result<(&'a RawJson, Option<Value>), Refused> {
    count(channel, rule, event, ctx)?;
    let Payload::Json(json) = payload else {
        return Err(refuse(reason::INVALID_PAYLOAD, event, ctx));
    };
    if json.get().len() > room.max_message_bytes {
        return Err(too_long(room.max_message_bytes));
    }
    let value = value_of(channel, (room, rule), event, json);
    let value = value.map_err(|_| refuse(reason::INVALID_PAYLOAD, event, ctx))?;
    if let Some(value) = &value
        && let Err(field) = rule.require.check(value)
    {
        let Some(refuse) = &rule.refuse else {
            return Err(wrong_field(field, event, ctx));
        };
        log_refusal(reason::INVALID_PAYLOAD, event, ctx);
        let occasion = Occasion::at(ctx.topic(), room).event(event, Some(value));
        let answer = channel.member.payload(room, occasion, refuse)?;
        return Err(Refused::new(answer));
    }
    Ok((json, value))
}

/// Counts an event by the rate of its rule.
fn count(
    channel: &mut RoomChannel,
    rule: &EventRule,
    event: &str,
    ctx: &Context<RoomChannel>,
) -> Result<(), Refused> {
    let Some(rate) = rule.rate else {
        return Ok(());
    };
    let counted = channel.member.count(event, rate);
    counted.map_err(|wait| {
        metrics().limited(Limit::Event).increment(1);
        ctx.event_rate_limited(wait)
    })
}

/// The value of a payload, if something looks into it.
pub(super) fn value_of(
    channel: &RoomChannel,
    (room, rule): (&Room, &EventRule),
    event: &str,
    json: &RawJson,
) -> Result<Option<Value>, serde_json::Error> {
    let looks = looks(room, rule, event, &channel.member);
    looks.then(|| serde_json::from_str(json.get())).transpose()
}

/// Carries out a rule behind its checks. `reply` takes the place of the rule's own.
pub(super) async fn apply(
    channel: &mut RoomChannel,
    (room, rule): (&Room, &EventRule),
    (event, json, value): (&str, &RawJson, Option<&Value>),
    reply: Option<Payload>,
    ctx: &mut Context<RoomChannel>,
) -> HandleInResult {
    let Some(target) = rule.topic.as_ref().filter(|_| rule.relays()) else {
        return apply_here(channel, (room, rule), (event, json, value), reply, ctx).await;
    };
    let topic = ctx.topic().to_owned();
    let occasion = Occasion::at(&topic, room).event(event, value);
    change(channel, (room, rule), occasion, ctx)?;
    let sent = relay_elsewhere(channel, (room, rule), target, occasion, json, ctx).await?;
    answer(channel, (room, rule), occasion, (sent, reply), ctx)
}

/// As [`apply`], for a rule that sends to no other topic.
async fn apply_here(
    channel: &mut RoomChannel,
    (room, rule): (&Room, &EventRule),
    (event, json, value): (&str, &RawJson, Option<&Value>),
    reply: Option<Payload>,
    ctx: &mut Context<RoomChannel>,
) -> HandleInResult {
    let topic = if room.rules.used.has(Variable::Topic) {
        ctx.topic().to_owned()
    } else {
        String::new()
    };
    let occasion = Occasion::at(&topic, room).event(event, value);
    change(channel, (room, rule), occasion, ctx)?;
    let sent = if rule.relays() {
        relay(channel, (room, rule), occasion, json, ctx).await?
    } else {
        Sent::default()
    };
    answer(channel, (room, rule), occasion, (sent, reply), ctx)
}

/// Carries out the part of a rule before its message: the refusal, or the changes of memory and presence.
fn change(
    channel: &mut RoomChannel,
    (room, rule): (&Room, &EventRule),
    occasion: Occasion<'_>,
    ctx: &mut Context<RoomChannel>,
) -> Result<(), Refused> {
    if let Some(error) = &rule.error {
        let answer = channel.member.payload(room, occasion, error)?;
        return Err(Refused::new(answer));
    }
    if let Some(set) = &rule.set {
        channel.member.set(room, occasion, set)?;
        if let Some(labels) = channel.member.labels() {
            ctx.label(labels);
        }
    }
    presence::at_event(channel, (room, rule), occasion, ctx)
}

/// Whether something looks into the payload, so that it must be parsed.
fn looks(room: &Room, rule: &EventRule, event: &str, member: &Member) -> bool {
    let tracks = presence::due(room, (event, rule), member);
    let tracks = tracks.is_some_and(|rule| rule.used().has(Variable::Payload));
    tracks || !rule.require.is_empty() || rule.used().has(Variable::Payload)
}

fn wrong_field(field: &str, event: &str, ctx: &Context<RoomChannel>) -> Refused {
    log_refusal(reason::INVALID_PAYLOAD, event, ctx);
    Refused::new(json!({ "reason": reason::INVALID_PAYLOAD, "field": field }))
}

/// A message that was sent, and its id; empty if no template names the id.
#[derive(Default)]
struct Sent {
    /// `None` for a push to the sender.
    published: Option<Published>,
    id: String,
}

/// The given reply, or that of the rule; without one, for a client that joined with `ack`, the receipt of a stored message.
fn answer(
    channel: &RoomChannel,
    (room, rule): (&Room, &EventRule),
    occasion: Occasion<'_>,
    (sent, given): (Sent, Option<Payload>),
    ctx: &Context<RoomChannel>,
) -> HandleInResult {
    let id = sent.published.as_ref().and_then(|published| published.id);
    let id = id.map_or(sent.id, |id| id.to_string());
    let waits = sent.published.filter(|_| channel.ack && rule.stores());
    let reply = match (given, &rule.reply) {
        (Some(given), _) => Some(given),
        (None, None) => None,
        (None, Some(reply)) => {
            let rendered = channel.member.render(room, occasion, reply)?;
            Some(Outgoing::Made(rendered).with_id(&id))
        }
    };
    Ok(match (waits, reply) {
        (Some(published), None) => ctx.reply_when_stored(published),
        (Some(published), Some(reply)) if published.receipt.is_some() => {
            reply_when_stored(published, reply, ctx)
        }
        (_, Some(reply)) => HandleIn::ok(reply),
        (None, None) => HandleIn::NoReply,
    })
}

/// As [`Context::reply_when_stored`], with another reply to a stored message.
fn reply_when_stored(published: Published, reply: Payload, ctx: &Context<RoomChannel>) -> HandleIn {
    if let (Some(receipt), Some(socket_ref)) = (published.receipt, ctx.socket_ref()) {
        actix_rt::spawn(async move {
            let receipt = receipt.reply().await;
            let answer = if receipt.status() == "ok" {
                Reply::ok(reply)
            } else {
                receipt
            };
            // JSON has a form on every wire.
            let _ = socket_ref.reply(&answer);
        });
    }
    HandleIn::NoReply
}

/// Sends the message to the members that the rule names.
async fn relay(
    channel: &RoomChannel,
    (room, rule): (&Room, &EventRule),
    occasion: Occasion<'_>,
    json: &RawJson,
    ctx: &Context<RoomChannel>,
) -> Result<Sent, Failure> {
    let (draft, id) = draft(channel, (room, rule), occasion, json, ctx)?;
    let published = send(channel, draft, &rule.to, (room, occasion), ctx).await?;
    Ok(Sent { published, id })
}

/// Sends the message to another topic, whose room must accept it.
async fn relay_elsewhere(
    channel: &RoomChannel,
    (room, rule): (&Room, &EventRule),
    topic: &Template,
    occasion: Occasion<'_>,
    json: &RawJson,
    ctx: &Context<RoomChannel>,
) -> Result<Sent, Failure> {
    let (draft, id) = draft(channel, (room, rule), occasion, json, ctx)?;
    let draft = directed(channel, draft, &rule.to, (room, occasion));
    let topic = channel
        .member
        .values(room, occasion, |values| topic.text(values));
    let topic = topic.filter(|topic| topic.len() <= MAX_NAME_LEN);
    let accepts = |topic: &String| ctx.state::<Rooms>().accept(topic, draft.event());
    let Some(topic) = topic.filter(accepts) else {
        return Err(refuse(reason::UNAUTHORIZED, occasion.event, ctx).into());
    };
    let published = ctx.pubsub().publish(&topic, &draft).await?;
    let published = Some(published);
    Ok(Sent { published, id })
}

/// The message that the rule makes of the event, and its id if no log gives it one.
fn draft(
    channel: &RoomChannel,
    (room, rule): (&Room, &EventRule),
    occasion: Occasion<'_>,
    json: &RawJson,
    ctx: &Context<RoomChannel>,
) -> Result<(Draft, String), Failure> {
    let event = occasion.event;
    let outgoing = Outgoing::of(rule, room, &channel.member, occasion, json)?;
    if !outgoing.is_object() {
        return Err(refuse(reason::INVALID_PAYLOAD, event, ctx).into());
    }
    Ok(if rule.stores() {
        let draft = outgoing.stored(rule.name(event));
        let draft = match room.client_ref(json) {
            Ok(None) => draft,
            Ok(Some(client_ref)) => draft.client_ref(client_ref),
            Err(InvalidClientRef) => {
                return Err(wrong_field(&room.fields.client_ref, event, ctx).into());
            }
        };
        let draft = if channel.ack {
            draft.with_receipt()
        } else {
            draft
        };
        (draft, String::new())
    } else {
        outgoing.live(rule.name(event))
    })
}

/// The draft, for the members that the audience selects.
fn directed(
    channel: &RoomChannel,
    draft: Draft,
    to: &Audience,
    (room, occasion): (&Room, Occasion<'_>),
) -> Draft {
    match to {
        Audience::Selected(labels) => {
            let select = |values: &Values<'_>| selector(labels, values);
            draft.to(channel.member.values(room, occasion, select))
        }
        Audience::All | Audience::Others | Audience::Sender => draft,
    }
}

/// Sends a draft to these members.
pub(super) async fn send(
    channel: &RoomChannel,
    draft: Draft,
    to: &Audience,
    (room, occasion): (&Room, Occasion<'_>),
    ctx: &Context<RoomChannel>,
) -> Result<Option<Published>, SendError> {
    let draft = directed(channel, draft, to, (room, occasion));
    match to {
        Audience::All | Audience::Selected(_) => ctx.publish(&draft).await.map(Some),
        Audience::Others => ctx.publish_from(&draft).await.map(Some),
        Audience::Sender => {
            ctx.push(draft.event(), draft.payload())?;
            Ok(None)
        }
    }
}
