//! The presence of members: the list or the count at the join, tracking, changes of a meta by events.

use serde_json::{Map, Value, json};

use super::channel::RoomChannel;
use super::limits;
use super::member::{Member, Occasion};
use super::room::Room;
use crate::channel::{Context, Handled, Refused};
use crate::client::log_client;
use crate::presence::{PRESENCE_COUNT, Presence, PresenceError, Presences};
use crate::server::language::template::Template;
use crate::server::language::{EventRule, Moment, PresenceChange, PresenceRule};

/// The member of a meta that holds the `entry` of a rule. Clients never get it.
const ENTRY: &str = "phx_entry";

/// The join is complete: tracks the client if the room says so, and pushes it `presence_state`.
pub(super) fn enter(channel: &mut RoomChannel, ctx: &mut Context<RoomChannel>) -> Handled {
    let room = channel.room();
    let Some(rule) = &room.rules.presence else {
        return Ok(());
    };
    let topic = ctx.topic().to_owned();
    if rule.at == Moment::Join
        && let Err(refused) = track(channel, (&*room, rule), Occasion::at(&topic, &room), ctx)
    {
        // The member stays, without presence: its name cannot be a key.
        log_client!(info, ctx.client(), topic, %refused, "chat.presence.refused");
    }
    let presence = ctx.state::<Presence>();
    if rule.count {
        ctx.push(PRESENCE_COUNT, json!({ "count": presence.count(&topic) }))?;
    } else {
        ctx.push(&rule.state_event, presence.list_payload(&topic))?;
    }
    Ok(())
}

/// The rule by which an event makes the sender present; `None` if the event does not, or the sender is.
pub(super) fn due<'a>(
    room: &'a Room,
    (event, event_rule): (&str, &EventRule),
    member: &Member,
) -> Option<&'a PresenceRule> {
    let rule = room.rules.presence.as_ref()?;
    let is_moment = matches!(&rule.at, Moment::Event(moment) if moment == event);
    let tracks = is_moment || event_rule.presence == Some(PresenceChange::Track);
    (tracks && member.presence_key().is_none()).then_some(rule)
}

/// Applies an event to the sender's presence.
pub(super) fn at_event(
    channel: &mut RoomChannel,
    (room, event): (&Room, &EventRule),
    occasion: Occasion<'_>,
    ctx: &mut Context<RoomChannel>,
) -> Result<(), Refused> {
    let due = due(room, (occasion.event, event), &channel.member);
    let updates = matches!(event.presence, Some(PresenceChange::Update(_)));
    if due.is_some() || updates {
        limits::count_presence(ctx)?;
    }
    if let Some(rule) = due {
        track(channel, (room, rule), occasion, ctx)?;
    }
    match (&event.presence, channel.member.presence_key()) {
        (Some(PresenceChange::Update(template)), Some(key)) => {
            let new = table(&channel.member, room, occasion, template)?;
            update(key, new, ctx)
        }
        _ => Ok(()),
    }
}

/// Lays members over the meta of this key of the client.
pub(super) fn update(
    key: &str,
    new: Map<String, Value>,
    ctx: &Context<RoomChannel>,
) -> Result<(), Refused> {
    let updated = ctx.state::<Presence>().update_with(ctx, key, |old| {
        let mut meta = old.clone();
        meta.extend(new);
        meta
    });
    updated.map(drop).map_err(|error| refused(&error))
}

/// Tracks the member, unless its key is null or the room tracks nobody.
fn track(
    channel: &mut RoomChannel,
    (room, rule): (&Room, &PresenceRule),
    occasion: Occasion<'_>,
    ctx: &mut Context<RoomChannel>,
) -> Result<(), Refused> {
    let member = &channel.member;
    let key = member.values(room, occasion, |values| rule.key.text(values));
    let Some(key) = key.filter(|_| !rule.list_only) else {
        return Ok(());
    };
    let mut meta = match &rule.meta {
        None => Map::new(),
        Some(template) => table(member, room, occasion, template)?,
    };
    if let Some(template) = &rule.entry {
        let entry = table(member, room, occasion, template)?;
        meta.insert(ENTRY.to_owned(), Value::Object(entry));
    }
    let tracked = ctx.state::<Presence>().track(ctx, &key, &meta);
    tracked.map_err(|error| refused(&error))?;
    channel.member.set_presence_key(key);
    Ok(())
}

/// The presences as clients get them: the `entry` of a member's newest meta stands beside the `metas` of its key.
pub(super) fn with_entries(mut presences: Presences) -> Presences {
    for presence in presences.values_mut() {
        let metas = presence.get_mut("metas").and_then(Value::as_array_mut);
        let Some(metas) = metas else { continue };
        let metas = metas.iter_mut().filter_map(Value::as_object_mut);
        let entries: Vec<_> = metas.filter_map(|meta| meta.remove(ENTRY)).collect();
        let newest = entries.into_iter().next_back();
        if let (Some(Value::Object(entry)), Some(presence)) = (newest, presence.as_object_mut()) {
            let beside = entry.into_iter().filter(|(name, _)| name != "metas");
            presence.extend(beside);
        }
    }
    presences
}

fn refused(error: &PresenceError) -> Refused {
    Refused::because(&error.to_string())
}

/// Renders a template that is a table.
fn table(
    member: &Member,
    room: &Room,
    occasion: Occasion<'_>,
    template: &Template,
) -> Result<Map<String, Value>, Refused> {
    let rendered = member.render(room, occasion, template)?;
    // A template writes JSON.
    Ok(serde_json::from_str(&rendered.with_id("")).unwrap_or_default())
}
