//! [`Guard`]: what another room of the library keeps for a channel until its end.

use super::StopReason;

/// What a part of the library keeps for a channel. It is dropped with the channel.
pub(crate) trait Guard {
    /// The channel ends for this reason, and its `terminate` runs next. Not called for a channel without it.
    fn ends(&mut self, reason: &StopReason);
}

/// The guards of one channel, by owner. Few channels have more than one, so each names the next.
#[derive(Default)]
pub(super) struct Guards(Option<Box<Kept>>);

struct Kept {
    owner: u64,
    guard: Box<dyn Guard>,
    next: Guards,
}

impl Guards {
    /// Adds a guard, unless its owner has one here.
    pub(super) fn add(&mut self, owner: u64, guard: impl FnOnce() -> Box<dyn Guard>) {
        match &mut self.0 {
            Some(kept) if kept.owner == owner => {}
            Some(kept) => kept.next.add(owner, guard),
            None => {
                self.0 = Some(Box::new(Kept {
                    owner,
                    guard: guard(),
                    next: Self::default(),
                }));
            }
        }
    }

    pub(super) fn ends(&mut self, reason: &StopReason) {
        if let Some(kept) = &mut self.0 {
            kept.guard.ends(reason);
            kept.next.ends(reason);
        }
    }
}
