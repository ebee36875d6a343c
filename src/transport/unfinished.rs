//! [`Unfinished`]: the message that a client has begun. Bytes of it are kept until it is whole, so all
//! connections together have a budget for them, and each message a time in which to end.
//!
//! A message that arrives in one read costs nothing here.

use std::rc::Rc;

use super::frame_scanner::RefusedFrame;
use crate::budget::{Budget, Share};
use crate::metrics::metrics;
use crate::socket::Activity;

/// What the unfinished messages of all connections, and the heads and bodies of HTTP requests that have
/// not arrived whole, may hold together.
const UNFINISHED_BYTES: usize = 64_000_000;
/// What each may hold that is not counted: small messages go on when the budget is used up.
const UNCOUNTED: usize = 4_096;

static BUDGET: Budget = Budget::new(UNFINISHED_BYTES, |metrics| &metrics.unfinished_bytes);

/// There is no room for the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoRoom;

impl From<NoRoom> for RefusedFrame {
    fn from(_: NoRoom) -> Self {
        Self::NoRoom
    }
}

/// Room for bytes of one client that are not handled yet.
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

    /// Makes it room for `bytes`.
    ///
    /// # Errors
    /// When the budget of all connections has not that much left.
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

/// The message of one connection that has begun.
pub(super) struct Unfinished {
    room: Room,
    /// Its number.
    begun: Option<u32>,
    activity: Rc<Activity>,
}

impl Unfinished {
    pub(super) fn new(activity: Rc<Activity>) -> Self {
        Self {
            room: Room::new(),
            begun: None,
            activity,
        }
    }

    /// What was read is decoded: the number of the message that has begun and has not ended, and what
    /// is kept of it in bytes.
    ///
    /// # Errors
    /// When there is no room for it.
    pub(super) fn note(&mut self, begun: Option<u32>, bytes: usize) -> Result<(), NoRoom> {
        if begun != self.begun {
            self.begun = begun;
            self.activity.set_unfinished(begun.is_some());
        }
        self.room.resize(bytes)
    }
}
