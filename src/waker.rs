//! [`WakerSlot`] and [`WakerList`]: sides that wait for another on the same thread.

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

/// The wakers of all who wait for the same.
#[derive(Default)]
pub(crate) struct WakerList(RefCell<Vec<Waker>>);

impl WakerList {
    /// Wakes everybody, once.
    pub(crate) fn wake(&self) {
        let waiting = self.0.take();
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Keeps the waker of a side that is about to wait.
    pub(crate) fn remember(&self, cx: &Context<'_>) {
        let mut list = self.0.borrow_mut();
        if !list.iter().any(|waker| waker.will_wake(cx.waker())) {
            list.push(cx.waker().clone());
        }
    }
}
