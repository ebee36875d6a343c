//! The configured rooms. [`RoomChannel`] carries out the rules of a [`Room`]; it is a channel like any other, on
//! the library's public API.

mod backend;
mod changes;
mod channel;
mod client_ref;
mod event;
mod history;
mod identity;
mod member;
mod outgoing;
mod presence;
mod random;
mod room;
mod selection;

pub use self::channel::RoomChannel;
pub use self::client_ref::{InvalidClientRef, is_client_ref};
pub use self::identity::{Identified, Identity, IdentityError, UserSocket};
use self::room::Rooms;
pub use self::room::{Room, RoomRules, SHOUT};
#[cfg(feature = "_store")]
pub(crate) use self::selection::selector_of;
use crate::assigns::Assigns;
use crate::presence::Presence;
use crate::pubsub::PubSub;
use crate::server::language::IdentityConfig;
use crate::server::language::template::Variable;
use crate::socket::SocketRouter;

/// Routes these rooms to [`RoomChannel`]. The first room whose pattern matches a topic serves it.
pub fn router(rooms: &[Room]) -> SocketRouter {
    with_rooms(SocketRouter::new(), rooms)
}

/// Adds the rooms behind the routes of `router`.
pub(crate) fn with_rooms(router: SocketRouter, rooms: &[Room]) -> SocketRouter {
    // Each join copies the state, so it has nothing that no room uses.
    let mut rules = rooms.iter().map(|room| &room.rules);
    let router = if rules.any(|rules| rules.sends_elsewhere() || rules.asks_hook) {
        router.state(Rooms::new(rooms))
    } else {
        router
    };
    rooms.iter().fold(router, |router, room| {
        router.channel_with::<RoomChannel>(&room.topics, Assigns::of(room.clone()))
    })
}

/// The presences of these rooms, if a room has `[rooms.presence]`.
pub(crate) fn presence(rooms: &[Room], pubsub: &PubSub) -> Option<Presence> {
    let shows = rooms.iter().any(|room| room.rules.presence.is_some());
    let all = Rooms::new(rooms);
    shows.then(|| {
        Presence::builder(pubsub.clone())
            .sends_diffs(move |topic| all.sends_diffs(topic))
            .build()
    })
}

/// `[identity]`. Without that section an empty one, if a template of these rooms names `socket.id`, or a call to the
/// backend does: it is in the identity.
pub(crate) fn identity(config: Option<&IdentityConfig>, rooms: &[Room]) -> Option<IdentityConfig> {
    let mut rules = rooms.iter().map(|room| &room.rules);
    let names_socket = rules.any(|rules| rules.asks_hook || rules.used.has(Variable::Socket));
    config
        .cloned()
        .or_else(|| names_socket.then(IdentityConfig::default))
}
