//! The configured rooms. [`RoomChannel`] carries out the rules of a [`Room`]; it is a channel like any other, on
//! the library's public API.

mod accepted_token;
mod access_token;
mod action;
mod authority;
mod backend;
mod changes;
mod channel;
mod client_ref;
mod event;
mod history;
mod identity;
mod limits;
mod live;
mod member;
mod outgoing;
mod presence;
mod random;
mod room;
mod selection;
mod standing;
mod told;

use self::accepted_token::JoinVerifier;
pub(crate) use self::authority::IdentityKeys;
pub use self::channel::RoomChannel;
pub use self::client_ref::{InvalidClientRef, is_client_ref};
pub use self::identity::{Identified, Identity, IdentityError, UserSocket};
pub(crate) use self::limits::UserConnections;
use self::live::LiveRoom;
pub(crate) use self::live::LiveRooms;
use self::room::Rooms;
pub use self::room::{Room, RoomRules, SHOUT};
#[cfg(feature = "_store")]
pub(crate) use self::selection::selector_of;
use crate::assigns::Assigns;
use crate::ban::Bans;
use crate::presence::Presence;
use crate::pubsub::PubSub;
use crate::revocation::Revocations;
use crate::server::language::IdentityConfig;
use crate::server::language::template::Variable;
use crate::slow_mode::SlowModes;
use crate::socket::SocketRouter;

/// Routes these rooms to [`RoomChannel`]. The first room whose pattern matches a topic serves it. A room whose joins
/// need a token refuses all of them: only [`Server`](crate::server::Server) reads keys.
pub fn router(rooms: &[Room]) -> SocketRouter {
    let router = with_topics(SocketRouter::new(), rooms);
    rooms.iter().fold(router, |router, room| {
        let mut room = room.clone();
        room.count_messages();
        let topics = room.topics.clone();
        router.channel_with::<RoomChannel>(topics, Assigns::of(room))
    })
}

/// Adds the rooms behind the routes of `router`, and returns what can change of them. `secret`: of Phoenix.Tokens. `revocations`: of the tokens that joins
/// need. `bans`: of the members that may not write; `slow_modes`: of the topics in which members may not write often.
///
/// # Errors
/// If a key of the tokens that joins need cannot be used.
pub(crate) fn with_rooms(
    router: SocketRouter,
    rooms: &[Room],
    secret: Option<&str>,
    revocations: &Revocations,
    (bans, slow_modes): (Option<&Bans>, Option<&SlowModes>),
) -> Result<(SocketRouter, LiveRooms), IdentityError> {
    let mut router = with_topics(router, rooms);
    let mut live = Vec::new();
    for room in rooms {
        let mut room = room.clone();
        room.rules.bans = bans.cloned();
        room.rules.slow_modes = slow_modes.cloned();
        room.count_messages();
        let topics = room.topics.clone();
        let token = room.rules.join.token.as_ref();
        let keys = token.map(|token| JoinVerifier::new(token, secret, revocations));
        let keys = keys.transpose().map_err(|error| error.of_join(&topics))?;
        let room = LiveRoom::new(room, keys);
        router = router.channel_with::<RoomChannel>(topics, Assigns::of(room.clone()));
        live.push(room);
    }
    Ok((router, LiveRooms::new(live)))
}

/// Adds the rooms as state, if a rule sends to other topics. Each join copies the state, so it has nothing that no
/// room uses.
fn with_topics(router: SocketRouter, rooms: &[Room]) -> SocketRouter {
    let mut rules = rooms.iter().map(|room| &room.rules);
    if rules.any(|rules| rules.sends_elsewhere() || rules.asks_hook) {
        router.state(Rooms::new(rooms))
    } else {
        router
    }
}

/// The presences of these rooms, if a room has `[rooms.presence]`.
pub(crate) fn presence(rooms: &[Room], pubsub: &PubSub) -> Option<Presence> {
    let shows = rooms.iter().any(|room| room.rules.presence.is_some());
    let all = Rooms::new(rooms);
    let mut rules = rooms.iter().filter_map(|room| room.rules.presence.as_ref());
    let has_entries = rules.any(|rule| rule.entry.is_some());
    shows.then(|| {
        let presence = Presence::builder(pubsub.clone());
        let same = all.clone();
        let presence = presence
            .changes(move |topic| all.presence_changes(topic))
            .grace(move |topic| same.presence_grace(topic));
        if has_entries {
            presence
                .fetch(|_, presences| presence::with_entries(presences))
                .build()
        } else {
            presence.build()
        }
    })
}

/// `[identity]`. Without that section an empty one, if a template of these rooms names `socket.id`, or a call or a
/// notice to the backend or a limit of users does: it is in the identity.
pub(crate) fn identity(config: Option<&IdentityConfig>, rooms: &[Room]) -> Option<IdentityConfig> {
    let mut rules = rooms.iter().map(|room| &room.rules);
    let names_socket = rules.any(|rules| {
        rules.asks_hook
            || rules.tell.has_members()
            || rules.limit.user.is_some()
            || rules.used.has(Variable::Socket)
    });
    config
        .cloned()
        .or_else(|| names_socket.then(IdentityConfig::default))
}
