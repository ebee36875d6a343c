//! [`Guard`]: what another room of the library keeps for a channel until its end.

use super::StopReason;

/// What a part of the library keeps for a channel. It is dropped with the channel.
pub(crate) trait Guard {
    /// The channel ends for this reason, and its `terminate` runs next. Not called for a channel without it.
    fn ends(&mut self, reason: &StopReason);
}

/// The guards of one channel, by owner.
#[derive(Default)]
pub(super) struct Guards(Vec<(u64, Box<dyn Guard>)>);

impl Guards {
    /// Adds a guard, unless its owner has one here.
    pub(super) fn add(&mut self, owner: u64, guard: impl FnOnce() -> Box<dyn Guard>) {
        if !self.0.iter().any(|(known, _)| *known == owner) {
            self.0.push((owner, guard()));
        }
    }

    pub(super) fn ends(&mut self, reason: &StopReason) {
        for (_, guard) in &mut self.0 {
            guard.ends(reason);
        }
    }
}
