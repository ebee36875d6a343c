//! [`explain`]: a configuration in plain sentences, for readers who did not write it.
//!
//! Pure: it makes text of settings. Each struct of the language is taken apart without `..`, so that the compiler
//! asks for the sentence of a new key.

mod clients;
mod event;
mod page;
mod room;
#[cfg(test)]
mod tests;
mod warnings;

use self::page::Page;
use crate::pattern::{TopicPattern, shadowed};
use crate::server::config::{Durability, ServeConfig, Switch};

/// What nobody can have meant, with the topics of its room; a server starts all the same, and its log has these.
pub(crate) fn mistakes(config: &ServeConfig) -> Vec<(Option<&TopicPattern>, String)> {
    let identity = config.identity.as_ref();
    let of_clients = identity.map_or_else(Vec::new, warnings::mistakes_of_clients);
    let of_clients = of_clients.into_iter().map(|mistake| (None, mistake));
    let of_rooms = config.rooms.iter().flat_map(|room| {
        let mistakes = warnings::mistakes_of_room(identity, room).into_iter();
        mistakes.map(|mistake| (Some(&room.topics), mistake))
    });
    of_clients.chain(of_rooms).collect()
}

/// Who may connect, and what a client may do in the topics of each room. Warnings begin with `!`.
pub(crate) fn explain(config: &ServeConfig) -> String {
    let mut page = Page::default();
    clients::explain(&mut page, config.identity.as_ref());
    for (place, room) in config.rooms.iter().enumerate() {
        room::explain(&mut page, config, (place, room));
    }
    let everything = TopicPattern::new("*");
    if !config
        .rooms
        .iter()
        .any(|room| room.topics.covers(&everything))
    {
        page.heading("All other topics");
        page.say("Nobody may join them.");
    }
    let saving = match (config.persist, config.durability) {
        (Switch::Off, _) => Some("No message is saved (persist is off)."),
        (Switch::On, Durability::Strict) => {
            Some("Members get a saved message only once it is on disk (durability is strict).")
        }
        (Switch::On, Durability::Relaxed) => None,
    };
    if let Some(saving) = saving {
        page.heading("The whole server");
        page.say(saving);
    }
    if let Some((first, later)) = shadowed(&config.rooms) {
        let (topics, other) = (&config.rooms[later].topics, &config.rooms[first].topics);
        page.warn(&format!(
            "The topics {topics} are never reached: {other} comes first and matches them all."
        ));
    }
    page.into_text()
}
