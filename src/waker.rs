//! [`WakerSlot`] and [`WakerList`]: sides that wait for another on the same thread.

use std::cell::Cell;
use std::task::{Context, Waker};

/// The waker of a side that waits, if it does. It is kept for the next time, which comes soon.
#[derive(Default)]
pub(crate) struct WakerSlot {
    waker: Cell<Option<Waker>>,
    waits: Cell<bool>,
}

impl WakerSlot {
    /// Wakes the waiting side, once.
    pub(crate) fn wake(&self) {
        if self.waits.take()
            && let Some(waker) = self.waker.take()
        {
            waker.wake_by_ref();
            self.waker.set(Some(waker));
        }
    }

    /// Keeps the waker of the side that is about to wait; the later of two counts.
    pub(crate) fn remember(&self, cx: &Context<'_>) {
        let mut waker = self.waker.take().unwrap_or_else(|| cx.waker().clone());
        waker.clone_from(cx.waker());
        self.waker.set(Some(waker));
        self.waits.set(true);
    }
}

/// The wakers of all who wait for the same.
#[derive(Default)]
pub(crate) struct WakerList(Cell<Vec<Waker>>);

impl WakerList {
    /// Wakes everybody, once.
    pub(crate) fn wake(&self) {
        let waiting = self.0.take();
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Keeps the waker of a side that is about to wait.
    pub(crate) fn remember(&self, cx: &Context<'_>) {
        let mut list = self.0.take();
        if !list.iter().any(|waker| waker.will_wake(cx.waker())) {
            list.push(cx.waker().clone());
        }
        self.0.set(list);
    }
}
