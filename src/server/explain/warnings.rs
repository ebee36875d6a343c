//! What a careful colleague would point out about a configuration.

use std::collections::BTreeSet;

use crate::server::config::RoomConfig;
use crate::server::language::template::{Template, Variable};
use crate::server::language::{
    Announcement, Audience, EventRule, IdentityConfig, JoinRule, LabelTemplate, PresenceChange,
    PresenceRule, Source,
};

/// Warnings about `[identity]`.
pub(super) fn of_clients(config: &IdentityConfig) -> Vec<String> {
    let mut warnings = Vec::new();
    let claims = claims(Some(config));
    if !claims.is_empty() {
        warnings.push(format!(
            "A client can claim any {}: nobody verifies its connect params.",
            claims.join(", any ")
        ));
    }
    if let [Source::Params, _, ..] = sources(config)[..] {
        warnings.push(
            "The connect params come first and always count, so no token is ever looked at."
                .to_owned(),
        );
    }
    warnings.extend(mistakes_of_clients(config));
    warnings
}

/// Contradictions in `[identity]`: nobody can have meant them.
pub(super) fn mistakes_of_clients(config: &IdentityConfig) -> Vec<String> {
    let known = fields(Some(config));
    let lacks = |name: &&String| !config.asks_hook() && !known.contains(name);
    let required = config.require.iter().filter(lacks);
    let refused = required.map(|name| {
        format!("Every client is refused: the identity has no {name}, and it is required.")
    });
    refused.collect()
}

/// The sources of an identity beside the backend, which is asked after them.
pub(super) fn sources(config: &IdentityConfig) -> Vec<Source> {
    let sources = config.sources().into_iter();
    sources.filter(|source| *source != Source::Hook).collect()
}

/// Warnings about a room.
pub(super) fn of_room(identity: Option<&IdentityConfig>, room: &RoomConfig) -> Vec<String> {
    if room.join.closed {
        return Vec::new();
    }
    let mut warnings = of_join(identity, room);
    let (claims, addressed) = (claims(identity), addressed(room));
    let claimed: Vec<_> = addressed
        .iter()
        .filter(|name| claims.contains(name))
        .collect();
    if !claimed.is_empty() {
        warnings.push(format!(
            "Messages to some members go by what a client can claim, so others can get them: {}.",
            list(claimed)
        ));
    }
    let unchecked = unchecked(room);
    if !unchecked.is_empty() {
        warnings.push(format!(
            "Saved whatever the payload holds, because no shape is required: {}.",
            list(&unchecked)
        ));
    }
    if room.changes {
        warnings.push("Each member may change and delete the messages of all others.".to_owned());
    }
    warnings.extend(mistakes_of_room(identity, room));
    warnings
}

/// Contradictions between a room and `[identity]`: nobody can have meant them.
pub(super) fn mistakes_of_room(
    identity: Option<&IdentityConfig>,
    room: &RoomConfig,
) -> Vec<String> {
    // A backend may add fields.
    let adds = room.asks_hook() || identity.is_some_and(IdentityConfig::asks_hook);
    if room.join.closed || adds {
        return Vec::new();
    }
    let known = fields(identity);
    let mut named = named(templates(room).into_iter(), Variable::User);
    named.extend(addressed(room));
    let unknown: BTreeSet<_> = named.iter().filter(|name| !known.contains(name)).collect();
    if unknown.is_empty() {
        return Vec::new();
    }
    vec![format!(
        "The identity has no field of this name, so it is always null: {}.",
        list(unknown)
    )]
}

fn of_join(identity: Option<&IdentityConfig>, room: &RoomConfig) -> Vec<String> {
    let mut warnings = Vec::new();
    let (conditions, claims) = (&room.join.conditions, claims(identity));
    let compared = named(conditions.templates(), Variable::User);
    let claimed: Vec<_> = compared
        .iter()
        .filter(|name| claims.contains(name))
        .collect();
    if !claimed.is_empty() {
        warnings.push(format!(
            "The join depends on what a client can claim, so it keeps nobody out: {}.",
            list(claimed)
        ));
    }
    if conditions.used().has(Variable::Params) {
        warnings.push(
            "The join depends on its params, in which a client can write anything.".to_owned(),
        );
    }
    let needs_more = room.join.token.is_some() || room.join.hook;
    if conditions.is_empty() && !needs_more && lets_anybody_in(identity) {
        warnings.push("Anybody may connect, join, read and write here.".to_owned());
    }
    warnings
}

fn list(names: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let mut list = String::new();
    for name in names {
        if !list.is_empty() {
            list.push_str(", ");
        }
        list.push_str(name.as_ref());
    }
    list
}

/// The fields of the identity that come from the connect params: nobody verifies them.
fn claims(identity: Option<&IdentityConfig>) -> Vec<String> {
    identity.map_or_else(Vec::new, IdentityConfig::claims)
}

/// The fields of the identity.
fn fields(identity: Option<&IdentityConfig>) -> Vec<String> {
    let fields = identity.and_then(|config| config.fields.as_ref());
    fields.map_or_else(Vec::new, |fields| fields.keys().to_vec())
}

/// Whether a client needs nothing that somebody has given it.
fn lets_anybody_in(identity: Option<&IdentityConfig>) -> bool {
    identity.is_none_or(|config| !config.asks_hook() && config.sources().contains(&Source::Params))
}

/// The labels of the members that a message is for, if it is for some.
fn labels(to: &Audience) -> &[LabelTemplate] {
    match to {
        Audience::Selected(labels) => labels,
        Audience::All | Audience::Others | Audience::Sender => &[],
    }
}

/// The fields of the identity by which messages go to some members.
fn addressed(room: &RoomConfig) -> BTreeSet<String> {
    let rules = room.on.values().map(|rule| &rule.to);
    let announced = room.announce.iter().map(|announcement| &announcement.to);
    let labels = rules.chain(announced).flat_map(labels);
    let fields = labels.filter_map(|label| label.identity_field().map(str::to_owned));
    fields.collect()
}

/// The saved events that take something of a payload without a shape.
fn unchecked(room: &RoomConfig) -> Vec<String> {
    let rules = room.on.iter();
    let rules = rules.filter(|(_, rule)| {
        let payload = rule.payload.as_ref();
        let takes = payload.is_none_or(|payload| payload.used().has(Variable::Payload));
        takes && rule.stores() && rule.require.is_empty()
    });
    let rules = rules.map(|(event, _)| event.clone());
    room.events().into_iter().chain(rules).collect()
}

/// The names behind a variable in these templates.
fn named<'a>(
    templates: impl Iterator<Item = &'a Template>,
    variable: Variable,
) -> BTreeSet<String> {
    templates
        .flat_map(|template| template.names_of(variable))
        .collect()
}

/// All templates of a room.
fn templates(room: &RoomConfig) -> Vec<&Template> {
    let JoinRule {
        require: _,
        conditions,
        token: _,
        set,
        reply,
        refuse,
        closed: _,
        hook: _,
    } = &room.join;
    let mut all: Vec<_> = conditions.templates().collect();
    all.extend([set, reply, refuse].into_iter().flatten());
    for rule in room.on.values() {
        let EventRule {
            require: _,
            refuse,
            payload,
            stamp,
            name: _,
            to,
            topic,
            store: _,
            reply,
            error,
            presence,
            set,
            rate: _,
            older,
            ignore: _,
            hook: _,
        } = rule;
        let older = older.iter();
        all.extend(older.flat_map(|older| older.before.iter().chain(&older.limit)));
        all.extend(
            [refuse, payload, stamp, topic, reply, error, set]
                .into_iter()
                .flatten(),
        );
        all.extend(labels(to).iter().flat_map(|label| &label.one_of));
        match presence {
            Some(PresenceChange::Update(change)) => all.push(change),
            Some(PresenceChange::Track) | None => {}
        }
    }
    if let Some(PresenceRule {
        key,
        meta,
        entry,
        at: _,
        state_event: _,
        diff: _,
        count: _,
        grace: _,
        list_only: _,
    }) = &room.presence
    {
        all.push(key);
        all.extend(meta);
        all.extend(entry);
    }
    for Announcement {
        at: _,
        event: _,
        payload,
        to,
        store: _,
    } in &room.announce
    {
        all.extend(payload);
        all.extend(labels(to).iter().flat_map(|label| &label.one_of));
    }
    all
}
