//! The application: what a user of the library would have written. Phoenix: the seed's
//! `UserSocket`, its routes and its page.

mod page;
mod random_channel;

pub use self::page::{PageError, page};
pub use self::random_channel::{RandomChannel, SHOUT};
use crate::channel::HistoryMode;
use crate::socket::{Socket, SocketRouter};

/// The topics of the chat.
pub const TOPICS: &str = "random:*";

/// Everybody may connect, anonymously.
pub struct UserSocket;

impl Socket for UserSocket {}

/// The chat's channels.
pub fn router(history: HistoryMode) -> SocketRouter {
    SocketRouter::new().channel(TOPICS, move || RandomChannel::new(history))
}
