//! The chat application: the configured rooms, their channel, and the page. It uses the library as any other
//! program would. Phoenix: an application's `UserSocket`, routes and page.

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

/// Lets everybody connect, anonymously.
#[derive(Debug)]
pub struct UserSocket;

impl Socket for UserSocket {}

/// Routes these rooms to [`RandomChannel`]. The first room whose pattern matches a topic serves it.
pub fn router(rooms: &[Room]) -> SocketRouter {
    with_rooms(SocketRouter::new(), rooms)
}

/// Adds the rooms behind the routes of `router`.
pub(crate) fn with_rooms(router: SocketRouter, rooms: &[Room]) -> SocketRouter {
    rooms.iter().fold(router, |router, room| {
        router.channel_with::<RandomChannel>(&room.topics, Assigns::of(room.clone()))
    })
}
