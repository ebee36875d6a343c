//! [`Unfinished`]: the incomplete message of a connection. Its bytes stay in memory until it is complete,
//! so all connections share a budget for them, and each message must end within a time limit.
//!
//! A message that arrives in one read needs neither.

use super::frame_scanner::RefusedFrame;
use crate::budget::{Budget, Share};
use crate::metrics::metrics;
use crate::socket::Activity;

/// Bytes that all connections together may hold of incomplete messages, and of incomplete heads and bodies
/// of HTTP requests.
const UNFINISHED_BYTES: usize = 64_000_000;
/// A connection with at most this many bytes takes nothing from the budget, so that small messages work
/// while the budget is used up.
const UNCOUNTED: usize = 4_096;

static BUDGET: Budget = Budget::new(UNFINISHED_BYTES, |metrics| &metrics.unfinished_bytes);

/// The budget has no room for the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoRoom;

impl From<NoRoom> for RefusedFrame {
    fn from(_: NoRoom) -> Self {
        Self::NoRoom
    }
}

/// One client's share of the budget.
pub(super) struct Room {
    share: Share,
    counted: usize,
}

impl Room {
    pub(super) const fn new() -> Self {
        Self {
            share: Share::of(&BUDGET),
            counted: 0,
        }
    }

    /// Changes the share to `bytes`.
    ///
    /// # Errors
    /// If the budget of all connections has too little left.
    pub(super) fn resize(&mut self, bytes: usize) -> Result<(), NoRoom> {
        let counted = if bytes > UNCOUNTED { bytes } else { 0 };
        if counted == self.counted {
            return Ok(());
        }
        if !self.share.resize(counted) {
            metrics().unfinished_refused.increment(1);
            return Err(NoRoom);
        }
        self.counted = counted;
        Ok(())
    }
}

/// The incomplete message of one connection.
pub(super) struct Unfinished {
    room: Room,
    /// The number of the incomplete message. Another number means another message.
    begun: Option<u32>,
}

impl Unfinished {
    pub(super) fn new() -> Self {
        Self {
            room: Room::new(),
            begun: None,
        }
    }

    /// Call after decoding. `begun` is the number of the incomplete message, if there is one, and `bytes`
    /// the memory that it takes.
    ///
    /// # Errors
    /// If the budget has no room for the bytes.
    pub(super) fn note(
        &mut self,
        begun: Option<u32>,
        bytes: usize,
        activity: &Activity,
    ) -> Result<(), NoRoom> {
        if begun != self.begun {
            self.begun = begun;
            activity.set_unfinished(begun.is_some());
        }
        self.room.resize(bytes)
    }
}
