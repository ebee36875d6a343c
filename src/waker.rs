//! [`WakerSlot`]: one side that waits for another on the same thread.

use std::cell::RefCell;
use std::task::{Context, Waker};

/// The waker of a side that waits, if it does.
#[derive(Default)]
pub(crate) struct WakerSlot(RefCell<Option<Waker>>);

impl WakerSlot {
    /// Wakes the waiting side, once.
    pub(crate) fn wake(&self) {
        let waker = self.0.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Keeps the waker of the side that is about to wait; the later of two counts.
    pub(crate) fn remember(&self, cx: &Context<'_>) {
        let mut slot = self.0.borrow_mut();
        match &mut *slot {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *slot = Some(cx.waker().clone()),
        }
    }
}
