//! [`LiveRooms`]: the rooms of a server, some of whose settings change while members are in them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::accepted_token::JoinVerifier;
use super::channel::RoomChannel;
use super::identity::IdentityError;
use super::room::Room;
use crate::channel::Context;
use crate::server::tokens::TokenVerifier;

/// Which settings of a room a [`Room`] has.
#[derive(Clone, Debug, Default)]
pub(super) struct Version {
    own: u64,
    newest: Arc<AtomicU64>,
}

/// Two versions of a room with the same rules are equal.
impl PartialEq for Version {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Version {
    /// Whether the room has newer settings.
    pub(super) fn is_old(&self) -> bool {
        self.own != self.newest.load(Ordering::Acquire)
    }
}

/// A room whose settings change. Clones share it; the room's route has one.
#[derive(Clone)]
pub(super) struct LiveRoom(Arc<Live>);

struct Live {
    present: RwLock<Arc<Room>>,
    /// `None`: joins need no token.
    keys: Option<JoinVerifier>,
}

impl LiveRoom {
    pub(super) fn new(room: Room, keys: Option<JoinVerifier>) -> Self {
        Self(Arc::new(Live {
            present: RwLock::new(Arc::new(room)),
            keys,
        }))
    }

    fn present(&self) -> Arc<Room> {
        // No code panics while it holds this lock.
        let present = self.0.present.read();
        Arc::clone(&present.unwrap_or_else(PoisonError::into_inner))
    }

    /// Verifies the tokens of joins.
    pub(super) fn keys(&self) -> Option<&JoinVerifier> {
        self.0.keys.as_ref()
    }

    /// Members and joins have these settings from now on.
    fn set(&self, settings: &Room) {
        let old = self.present();
        let mut room = old.with_settings_of(settings);
        if room == *old {
            return;
        }
        let newest = Arc::clone(&old.rules.version.newest);
        let own = old.rules.version.own + 1;
        room.rules.version = Version {
            own,
            newest: Arc::clone(&newest),
        };
        let present = self.0.present.write();
        *present.unwrap_or_else(PoisonError::into_inner) = Arc::new(room);
        newest.store(own, Ordering::Release);
    }
}

/// The room's present settings.
pub(super) fn present(ctx: &Context<RoomChannel>) -> Arc<Room> {
    match ctx.assigns().get::<LiveRoom>() {
        Some(live) => live.present(),
        None => ctx.state::<Room>(),
    }
}

/// All rooms of a server.
#[derive(Clone)]
pub(crate) struct LiveRooms(Arc<[LiveRoom]>);

named_debug!(LiveRooms);

/// Keys of joins that are not used yet.
pub(crate) struct NewJoinKeys(Vec<Option<Arc<TokenVerifier>>>);

impl LiveRooms {
    pub(super) fn new(rooms: Vec<LiveRoom>) -> Self {
        Self(rooms.into())
    }

    /// Applies the settings of the same rooms, in the same order, that can change: histories and limits.
    pub(crate) fn set(&self, rooms: &[Room]) {
        for (live, room) in self.0.iter().zip(rooms) {
            live.set(room);
        }
    }

    /// Reads the keys of `join.token` again.
    ///
    /// # Errors
    /// If a key cannot be used.
    pub(crate) fn read_keys(&self, secret: Option<&str>) -> Result<NewJoinKeys, IdentityError> {
        let read = |live: &LiveRoom| {
            let keys = live.keys().map(|keys| keys.read(secret));
            let of_room = |error: IdentityError| error.of_join(&live.present().topics);
            keys.transpose().map_err(of_room)
        };
        self.0
            .iter()
            .map(read)
            .collect::<Result<_, _>>()
            .map(NewJoinKeys)
    }

    /// Verifies the joins to come with these keys.
    pub(crate) fn set_keys(&self, NewJoinKeys(keys): NewJoinKeys) {
        for (live, keys) in self.0.iter().zip(keys) {
            if let Some((verifier, keys)) = live.keys().zip(keys) {
                verifier.set(keys);
            }
        }
    }
}
