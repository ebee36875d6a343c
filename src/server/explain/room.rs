//! The topics of one `[[rooms]]`: joins, history, events, presence, announcements, bounds.

use super::clients::duration;
use super::event::{self, members, remembers, shapes};
use super::page::Page;
use super::warnings;
use crate::server::config::{
    Fields, History, HistoryOrder, RESUME_PARAM, RetentionConfig, RoomConfig, ServeConfig, Switch,
};
use crate::server::language::{
    Announcement, Audience, EventRule, JoinRule, JoinToken, MemberRate, Moment, NoticeKind,
    OtherEvents, PresenceRule, RoomLimit, Tell,
};

/// Explains the room at this place of the file.
pub(super) fn explain(page: &mut Page, config: &ServeConfig, (place, room): (usize, &RoomConfig)) {
    let RoomConfig {
        topics,
        events: _, // events() says it, with its default
        on,
        other_events,
        join,
        presence,
        accepts,
        server_events,
        announce,
        history: _, // history() says them, with the defaults of the server
        history_limit: _,
        history_event: _,
        history_member: _,
        history_events: _,
        history_item: _,
        history_order: _,
        resume_param,
        resume_limit,
        max_message_bytes,
        changes,
        fields,
        limit,
        retention,
        tell,
    } = room;
    page.heading(&format!("Topics {topics}"));
    exceptions(page, &config.rooms[..place], room);
    let with_history = stores(room)
        && config.persist == Switch::On
        && room.history.unwrap_or(config.history) == History::Reply;
    self::join(page, join, with_history);
    if !join.closed {
        history(page, config, room);
        for event in room.events() {
            event::explain(page, &event, &EventRule::default());
        }
        for (event, rule) in on {
            event::explain(page, event, rule);
        }
        others(page, room, *other_events, *changes);
        if let Some(presence) = presence {
            self::presence(page, presence);
        }
        for announcement in announce {
            self::announce(page, announcement);
        }
        from_elsewhere(page, accepts, server_events);
        self::limit(page, *limit);
        resume(page, resume_param);
        bounds(page, *resume_limit, *max_message_bytes);
        columns(page, fields);
    }
    self::retention(page, retention);
    self::tell(page, *tell);
    for warning in warnings::of_room(config.identity.as_ref(), room) {
        page.warn(&warning);
    }
}

/// The narrower rooms before this one, which its pattern matches as well.
fn exceptions(page: &mut Page, earlier: &[RoomConfig], room: &RoomConfig) {
    let narrower = earlier
        .iter()
        .filter(|other| room.topics.covers(&other.topics));
    let narrower: Vec<_> = narrower.map(|other| other.topics.to_string()).collect();
    if !narrower.is_empty() {
        page.say(&format!("All but {}: see above.", narrower.join(", ")));
    }
}

/// `with_history`: a sentence of its own says what the reply holds.
fn join(page: &mut Page, rule: &JoinRule, with_history: bool) {
    let JoinRule {
        require,
        conditions,
        token,
        set,
        reply,
        refuse,
        closed,
        hook,
    } = rule;
    let refusal = match refuse {
        Some(answer) => answer.in_words(),
        None => "{reason: \"unauthorized\"}".to_owned(),
    };
    if *closed {
        page.say(&format!(
            "Nobody may join. The answer is the error {refusal}."
        ));
        return;
    }
    if let Some(token) = token {
        let kind = match token {
            JoinToken::Phoenix(_) => "Phoenix.Token",
            JoinToken::Jwt(_) => "JSON Web Token",
        };
        page.say(&format!(
            "A join needs a valid {kind} in the join param \"{}\".",
            token.param()
        ));
    }
    match &conditions.in_words()[..] {
        [] if token.is_some() => {}
        [] => page.say("Every client may join."),
        [one] => page.say(&format!("A client may join if {one}.")),
        all => {
            page.say("A client may join if all of this holds:");
            page.items(4, all);
        }
    }
    shapes(page, 2, "the join params", require, "refused");
    if *hook {
        page.say("The backend of [hook] is asked about each of these joins: it admits or refuses the client.");
    }
    if !conditions.is_empty() || !require.is_empty() || token.is_some() {
        page.say(&format!(
            "A refused join is answered with the error {refusal}."
        ));
    }
    remembers(page, 2, set.as_ref());
    if let Some(reply) = reply {
        page.say(&format!("The join is answered with {}.", reply.in_words()));
    } else if !with_history {
        page.say("The join is answered with {}.");
    }
}

fn history(page: &mut Page, config: &ServeConfig, room: &RoomConfig) {
    if !stores(room) || config.persist == Switch::Off {
        page.say("Nothing is saved, so there is no history.");
        return;
    }
    let limit = room.history_limit.unwrap_or(config.history_limit);
    let newest = format!("the newest {limit} saved messages");
    let list = format!("{{{}: [..]}}", room.history_member);
    let order = match room.history_order {
        HistoryOrder::Oldest => "oldest first",
        HistoryOrder::Newest => "newest first",
    };
    page.say(&match room.history.unwrap_or(config.history) {
        History::None => {
            "After a join a client gets no history, unless it asks for one in its join params."
                .to_owned()
        }
        History::MessagesHistory => format!(
            "After a join a client gets {newest}, {order}, in one push: {} {list}.",
            room.history_event
        ),
        History::PerEvent => {
            format!("After a join a client gets {newest}, oldest first, one push each.")
        }
        History::Reply => {
            format!("The reply to the join holds {newest}, {order}: {list}.")
        }
    });
    if let Some(events) = &room.history_events {
        page.say(&format!(
            "Of them a history has {} alone.",
            events.join(", ")
        ));
    }
    if let Some(item) = &room.history_item {
        page.say("A history has of each message:");
        match item.members_in_words() {
            Some(members) => page.list(4, &members),
            None => page.items(4, &[item.in_words()]),
        }
    }
}

fn resume(page: &mut Page, param: &str) {
    if param.is_empty() {
        page.say("A client that was away gets the history: the room has no resume.");
    } else if param != RESUME_PARAM {
        page.say(&format!(
            "A client that was away gets what it has missed if it joins with the id of its last message in \
             \"{param}\"."
        ));
    }
}

fn limit(page: &mut Page, limit: RoomLimit) {
    let RoomLimit { user, topic } = limit;
    for (who, rate) in [
        ("A user may send", user),
        ("All members of a topic together may send", topic),
    ] {
        if let Some(MemberRate { count, period }) = rate {
            page.say(&format!(
                "{who} {count} messages in {}; more are refused (\"rate limited\").",
                duration(period)
            ));
        }
    }
}

/// What comes from other rooms and from programs.
fn from_elsewhere(page: &mut Page, accepts: &[String], server_events: &[String]) {
    if !accepts.is_empty() {
        page.say(&format!(
            "Members of other topics may send here: {}.",
            accepts.join(", ")
        ));
    }
    if !server_events.is_empty() {
        page.say(&format!(
            "Programs may send here by the HTTP API, unsaved: {}.",
            server_events.join(", ")
        ));
    }
}

/// Whether a message of the room can be saved.
fn stores(room: &RoomConfig) -> bool {
    !room.events().is_empty() || !room.stored_by_rules().is_empty()
}

fn others(page: &mut Page, room: &RoomConfig, other_events: OtherEvents, changes: bool) {
    let is_free = |event: &str| {
        let mut plain = room.events().into_iter();
        !plain.any(|plain| plain == event) && !room.on.contains_key(event)
    };
    if changes && is_free("update_message") {
        page.say("Members may change saved messages (update_message).");
    }
    if changes && is_free("delete_message") {
        page.say("Members may delete saved messages (delete_message).");
    }
    if stores(room) && is_free("messages_before") {
        page.say("Members may ask for older saved messages (messages_before).");
    }
    if is_free("ping") {
        page.say("The event ping is answered with its payload.");
    }
    page.say(match other_events {
        OtherEvents::Refuse => "Any other event is refused (\"unknown event\").",
        OtherEvents::Ignore => "Any other event is ignored: no answer, no effect.",
        OtherEvents::Hook => {
            "Any other event goes to the backend of [hook], which decides what it does."
        }
    });
}

fn presence(page: &mut Page, rule: &PresenceRule) {
    let PresenceRule {
        key,
        meta,
        entry,
        at,
        state_event,
        diff,
        count,
        grace,
        list_only,
    } = rule;
    page.section("Presence");
    page.detail(&if *count {
        "After a join a client gets the number of those who are present (presence_count), and then the new number \
         at most once a second."
            .to_owned()
    } else if *diff {
        format!(
            "After a join a client gets everybody who is present ({state_event}), and then each change \
             (presence_diff)."
        )
    } else {
        format!("After a join a client gets everybody who is present ({state_event}), and no changes.")
    });
    if *list_only {
        page.detail("Members see who is present, and are not present themselves.");
        return;
    }
    let when = match at {
        Moment::Join => "from its join on".to_owned(),
        Moment::Leave => "from its end on".to_owned(),
        Moment::Event(event) => format!("from its first {event} on"),
    };
    page.detail(&format!(
        "A member is present {when}, under this key: {}.",
        key.in_words()
    ));
    page.detail("A member whose key is null is not present.");
    if !grace.is_zero() {
        page.detail(&format!(
            "A member whose connection is lost stays present for {} s, and is never shown as gone if it is back before.",
            grace.as_secs()
        ));
    }
    if let Some(meta) = meta {
        page.detail("Others see of it:");
        page.list(6, &members(meta));
    }
    if let Some(entry) = entry {
        page.detail("Beside the metas of its key they see:");
        page.list(6, &members(entry));
    }
}

fn announce(page: &mut Page, announcement: &Announcement) {
    let Announcement {
        at,
        event,
        payload,
        to,
        store,
    } = announcement;
    let at = match at {
        Moment::Join => "When a member joins",
        Moment::Leave => "When a member leaves, whatever the cause",
        // The file is refused.
        Moment::Event(event) => event,
    };
    let receivers = match to {
        Audience::All => "everybody in the topic gets".to_owned(),
        Audience::Others => "everybody else gets".to_owned(),
        Audience::Sender => "the member itself gets".to_owned(),
        Audience::Selected(labels) => {
            format!("those of whom {} get", event::all_of(labels))
        }
    };
    let payload = match payload {
        Some(payload) => payload.in_words(),
        None => "{}".to_owned(),
    };
    let saved = if *store { " It is saved." } else { "" };
    page.section(&format!("{at}, {receivers} {event}: {payload}.{saved}"));
}

/// The bounds that differ from the defaults.
fn bounds(page: &mut Page, resume_limit: usize, max_message_bytes: usize) {
    let usual = RoomConfig::default();
    if resume_limit != usual.resume_limit {
        page.say(&format!(
            "A client that comes back gets what it has missed, up to {resume_limit} messages."
        ));
    }
    if max_message_bytes != usual.max_message_bytes {
        page.say(&format!("A message has at most {max_message_bytes} bytes."));
    }
}

fn columns(page: &mut Page, fields: &Fields) {
    let usual = Fields::default();
    let Fields {
        name,
        message,
        client_ref,
    } = fields;
    if (name, message) != (&usual.name, &usual.message) {
        page.say(&format!(
            "In the database, {name} of a payload is the author and {message} is the text."
        ));
    }
    if *client_ref != usual.client_ref {
        page.say(&format!(
            "A client that sends the same {client_ref} again repeats a message, which is not saved twice."
        ));
    }
}

fn tell(page: &mut Page, tell: Tell) {
    let about = |kind| match kind {
        NoticeKind::Message => "each saved message",
        NoticeKind::Joined => "each member that joins",
        NoticeKind::Left => "each member that leaves",
        NoticeKind::Occupied => "the first member of a topic",
        NoticeKind::Vacated => "a topic that has had no member for 3 seconds",
    };
    let about: Vec<_> = tell.kinds().map(about).collect();
    if !about.is_empty() {
        page.say(&format!(
            "The backend of [hook] is told, and not asked, about {}.",
            about.join(", ")
        ));
    }
}

fn retention(page: &mut Page, retention: &RetentionConfig) {
    let RetentionConfig {
        max_age,
        max_messages,
    } = retention;
    if let Some(age) = max_age {
        page.say(&format!(
            "Messages older than {} are deleted.",
            duration(*age)
        ));
    }
    if let Some(number) = max_messages {
        page.say(&format!("Each topic keeps its newest {number} messages."));
    }
}
