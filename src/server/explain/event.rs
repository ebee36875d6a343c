//! The events that members push: `events` and `[rooms.on.EVENT]`.

use super::clients::duration;
use super::page::Page;
use crate::server::language::template::Template;
use crate::server::language::{
    Audience, EventRule, LabelTemplate, MemberRate, OlderRule, PresenceChange, Shapes,
    ShapesInWords,
};

pub(super) fn explain(page: &mut Page, event: &str, rule: &EventRule) {
    let EventRule {
        require,
        refuse,
        payload,
        stamp,
        name,
        to,
        topic,
        store: _, // stores() says it, with its default
        reply,
        error,
        presence,
        set,
        rate,
        older,
        ignore,
        hook,
    } = rule;
    page.section(&format!("Event {event}"));
    if let Some(MemberRate { count, period }) = rate {
        page.detail(&format!(
            "A member may send it {count} times in {}; more is refused (\"rate limited\").",
            duration(*period)
        ));
    }
    if *ignore {
        page.detail("Nothing becomes of it, and it is not answered.");
        return;
    }
    let refused = match refuse {
        Some(answer) => format!("refused with the error {}", answer.in_words()),
        None => "refused (\"invalid payload\")".to_owned(),
    };
    shapes(page, 4, "the payload", require, &refused);
    if let Some(error) = error {
        page.detail(&format!(
            "It is refused with the error {}.",
            error.in_words()
        ));
        return;
    }
    if *hook {
        page.detail(if rule.outlasts_hook() {
            "The backend of [hook] is asked first: it can refuse the event, replace its payload, or end it there."
        } else {
            "The backend of [hook] decides what it does. Only if that relays it:"
        });
    }
    remembers(page, 4, set.as_ref());
    match presence {
        None => {}
        Some(PresenceChange::Track) => page.detail("The sender becomes present."),
        Some(PresenceChange::Update(change)) => {
            page.detail("It changes what others see of the sender's presence:");
            page.list(6, &members(change));
        }
    }
    if let Some(OlderRule { before, limit }) = older {
        page.detail(&match before {
            None => "The reply holds the newest saved messages, as a history does.".to_owned(),
            Some(before) => format!(
                "The reply holds the saved messages before this id, as a history does; without one the newest: {}.",
                before.in_words()
            ),
        });
        if let Some(limit) = limit {
            page.detail(&format!("It holds at most so many: {}.", limit.in_words()));
        }
        return;
    }
    if rule.relays() {
        if let Some(topic) = topic {
            page.detail(&format!(
                "It goes to another topic: {}. If that does not accept it, it is refused (\"unauthorized\").",
                topic.in_words()
            ));
        }
        let renamed = name.as_ref().map(|name| format!(" as {name}"));
        page.detail(&receivers(
            to,
            topic.is_some(),
            &renamed.unwrap_or_default(),
        ));
        content(page, payload.as_ref(), stamp.as_ref());
        page.detail(match (rule.stores(), topic) {
            (false, _) => "It is not saved.",
            (true, None) => "It is saved.",
            (true, Some(_)) => "It is saved in that topic.",
        });
    } else {
        page.detail("Members get no message of it.");
    }
    match reply {
        Some(reply) => page.detail(&format!("The sender is answered with {}.", reply.in_words())),
        None if rule.stores() => page.detail(
            "The sender gets no reply, unless it has joined with \"ack\": true; then once it is saved.",
        ),
        None => page.detail("The sender gets no reply."),
    }
}

/// The sentence about the members that get a message.
fn receivers(to: &Audience, is_elsewhere: bool, renamed: &str) -> String {
    let topic = if is_elsewhere {
        "that topic"
    } else {
        "the topic"
    };
    match to {
        Audience::All if is_elsewhere => format!("Everybody in {topic} gets it{renamed}."),
        Audience::All => format!("Everybody in {topic} gets it{renamed}, the sender too."),
        Audience::Others => format!("Everybody in {topic} but the sender gets it{renamed}."),
        Audience::Sender => format!("The sender alone gets it{renamed}."),
        Audience::Selected(labels) => format!(
            "Only those in {topic} get it{renamed} of whom this holds: {}.",
            all_of(labels)
        ),
    }
}

/// Labels of members, joined.
pub(super) fn all_of(labels: &[LabelTemplate]) -> String {
    let labels: Vec<_> = labels.iter().map(LabelTemplate::in_words).collect();
    labels.join(", and ")
}

fn content(page: &mut Page, payload: Option<&Template>, stamp: Option<&Template>) {
    match payload.map(|payload| (payload.members_in_words(), payload)) {
        None if stamp.is_none() => page.detail("The payload stays as it came."),
        None => {}
        Some((Some(members), _)) => {
            page.detail("Its payload is made of:");
            page.list(6, &members);
        }
        Some((None, payload)) => {
            page.detail(&format!("Its payload is {}.", payload.in_words()));
        }
    }
    if let Some(stamp) = stamp {
        page.detail("The server writes into the payload, whatever the client has sent:");
        page.list(6, &members(stamp));
    }
}

/// The members of a template that is a table.
pub(super) fn members(table: &Template) -> Vec<(String, String)> {
    table.members_in_words().unwrap_or_default()
}

/// What `set` keeps in `me.*`.
pub(super) fn remembers(page: &mut Page, indent: usize, set: Option<&Template>) {
    if let Some(set) = set {
        let sentence = "The server remembers of the member:";
        if indent == 2 {
            page.say(sentence);
        } else {
            page.detail(sentence);
        }
        page.list(indent + 2, &members(set));
    }
}

/// The shapes of `what`; anything else is `refused`.
pub(super) fn shapes(page: &mut Page, indent: usize, what: &str, shapes: &Shapes, refused: &str) {
    let say = |page: &mut Page, sentence: &str| {
        if indent == 2 {
            page.say(sentence);
        } else {
            page.detail(sentence);
        }
    };
    match shapes.in_words() {
        ShapesInWords::Whole(shape) => {
            let sentence = format!("{} must be {shape}; else it is {refused}.", capital(what));
            say(page, &sentence);
        }
        ShapesInWords::Members(members) if !members.is_empty() => {
            let sentence = format!(
                "{} must have these members; else it is {refused}:",
                capital(what)
            );
            say(page, &sentence);
            page.list(indent + 2, &members);
        }
        ShapesInWords::Members(_) => {}
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(chars).collect()
}
