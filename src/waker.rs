//! [`WakerSlot`] and [`WakerList`]: wake one or several tasks of the same thread.

use std::cell::Cell;
use std::task::{Context, Waker};

/// The waker of at most one waiting task.
#[derive(Default)]
pub(crate) struct WakerSlot(Cell<Option<Waker>>);

impl WakerSlot {
    /// Wakes the waiting task, once.
    pub(crate) fn wake(&self) {
        if let Some(waker) = self.0.take() {
            waker.wake();
        }
    }

    /// Stores the waker of a task that is about to wait, in place of an earlier one.
    pub(crate) fn remember(&self, cx: &Context<'_>) {
        let mut waker = self.0.take().unwrap_or_else(|| cx.waker().clone());
        waker.clone_from(cx.waker());
        self.0.set(Some(waker));
    }
}

/// The wakers of all tasks that wait for the same condition.
#[derive(Default)]
pub(crate) struct WakerList(Cell<Vec<Waker>>);

impl WakerList {
    /// Wakes all waiting tasks, once.
    pub(crate) fn wake(&self) {
        let waiting = self.0.take();
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Stores the waker of a task that is about to wait.
    pub(crate) fn remember(&self, cx: &Context<'_>) {
        let mut list = self.0.take();
        if !list.iter().any(|waker| waker.will_wake(cx.waker())) {
            list.push(cx.waker().clone());
        }
        self.0.set(list);
    }
}
