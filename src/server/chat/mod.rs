//! The application: what a user of the library would have written. Phoenix: the seed's
//! `UserSocket`, its routes and its page.

mod client_ref;
mod page;
mod random_channel;
mod room;
mod static_folder;

pub use self::client_ref::{InvalidClientRef, is_client_ref};
pub use self::page::{PageError, page};
pub use self::random_channel::RandomChannel;
pub use self::room::{Room, SHOUT};
use crate::assigns::Assigns;
use crate::socket::{Socket, SocketRouter};

/// Everybody may connect, anonymously.
#[derive(Debug)]
pub struct UserSocket;

impl Socket for UserSocket {}

/// The channels of these rooms; the first that matches a topic is its room.
pub fn router(rooms: &[Room]) -> SocketRouter {
    with_rooms(SocketRouter::new(), rooms)
}

/// The rooms' channels behind those of `router`.
pub(crate) fn with_rooms(router: SocketRouter, rooms: &[Room]) -> SocketRouter {
    rooms.iter().fold(router, |router, room| {
        router.channel_with::<RandomChannel>(&room.topics, Assigns::of(room.clone()))
    })
}
