//! Who may connect, and how clients are known: `[identity]`.

use std::time::Duration;

use super::page::Page;
use super::warnings;
use crate::server::language::template::Template;
use crate::server::language::{IdentityConfig, JwtConfig, PhoenixTokenConfig, Source};

pub(super) fn explain(page: &mut Page, identity: Option<&IdentityConfig>) {
    page.heading("Clients");
    let Some(config) = identity else {
        page.say("Everybody may connect. Clients are anonymous.");
        return;
    };
    let IdentityConfig {
        from: _, // sources() says it, with its default
        phoenix_token,
        jwt,
        fields,
        require,
        max_connections,
        socket_id,
    } = config;
    for (place, source) in config.sources().iter().enumerate() {
        let otherwise = place > 0;
        match source {
            Source::Params => page.say(if otherwise {
                "A client without a token says who it is, by its connect params."
            } else {
                "Clients say who they are, by their connect params."
            }),
            Source::PhoenixToken => token(page, phoenix_token.as_ref(), otherwise),
            Source::Hook => page.say(
                "The backend of [hook] is asked about each of them: it refuses a client (403), or adds to its \
                 identity.",
            ),
            Source::Jwt => json_web_token(page, jwt.as_ref(), otherwise),
        }
    }
    let known = warnings::sources(config);
    if known.last().is_some_and(|last| *last != Source::Params) {
        page.say("A client without a token is refused (403).");
    }
    match fields.as_ref().and_then(Template::members_in_words) {
        Some(members) if !members.is_empty() => {
            page.say("The identity of a client is:");
            page.list(4, &members);
        }
        _ => page.say("The identity of a client is empty."),
    }
    if !require.is_empty() {
        page.say(&format!(
            "A client without {} in its identity is refused (403).",
            require.join(" or without ")
        ));
    }
    if let Some(max) = max_connections {
        page.say(&format!(
            "A user (user.id) may have {max} connections; another one is refused (429)."
        ));
    }
    if let Some(id) = socket_id {
        page.say(&format!(
            "A broadcast of \"disconnect\" on this id closes the client's connections: {}.",
            id.in_words()
        ));
    }
    for warning in warnings::of_clients(config) {
        page.warn(&warning);
    }
}

fn token(page: &mut Page, config: Option<&PhoenixTokenConfig>, otherwise: bool) {
    // A file with one and not the other is refused.
    let Some(PhoenixTokenConfig {
        param,
        salt,
        max_age,
    }) = config
    else {
        return;
    };
    let who = who(otherwise);
    let age = max_age.map_or_else(
        || "It counts as long as it says itself.".to_owned(),
        |age| format!("It counts for {}.", duration(age)),
    );
    page.say(&format!(
        "{who} by a signed Phoenix.Token in the connect param \"{param}\", salt \"{salt}\". {age} A wrong or \
         expired one is refused (403)."
    ));
}

fn json_web_token(page: &mut Page, config: Option<&JwtConfig>, otherwise: bool) {
    // A file with one and not the other is refused.
    let Some(config) = config else { return };
    let (who, policy) = (who(otherwise), &config.policy);
    let algorithms = policy.algorithms.iter().map(ToString::to_string);
    let algorithms = algorithms.collect::<Vec<_>>().join(" or ");
    let mut text = format!(
        "{who} by a JSON Web Token in the connect param \"{}\", signed by {algorithms}.",
        config.param
    );
    for (claim, values) in [("issuer", &policy.issuers), ("audience", &policy.audiences)] {
        if !values.is_empty() {
            text += &format!(" Its {claim} must be {}.", values.join(" or "));
        }
    }
    if !policy.require_exp {
        text += " It may count for ever.";
    }
    text += &format!(
        " A wrong or expired one is refused (403), and the connection is closed {} after the token's end.",
        duration(config.close_after())
    );
    page.say(&text);
}

fn who(otherwise: bool) -> &'static str {
    if otherwise {
        "A client without these is known"
    } else {
        "Clients are known"
    }
}

/// `14 days`, `90 minutes`
pub(super) fn duration(time: Duration) -> String {
    let millis = time.as_millis();
    let units = [
        (86_400_000, "day"),
        (3_600_000, "hour"),
        (60_000, "minute"),
        (1_000, "second"),
        (1, "millisecond"),
    ];
    let fits = |(size, _): &&(u128, &str)| millis >= *size && millis.is_multiple_of(*size);
    let (size, unit) = units.iter().find(fits).unwrap_or(&(1, "millisecond"));
    let number = millis / size;
    format!("{number} {unit}{}", if number == 1 { "" } else { "s" })
}
