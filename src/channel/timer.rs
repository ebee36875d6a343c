//! Timers of a channel: infos that are sent later. They end with the channel.

use std::cell::{OnceCell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

/// The running timers of one channel, allocated with the first. Dropping this ends them.
#[derive(Default)]
pub(super) struct Timers(OnceCell<Rc<RefCell<Slab<AbortHandle>>>>);

/// A timer of a channel, made by [`Context::send_after`](super::Context::send_after) or
/// [`Context::send_every`](super::Context::send_every). Dropping it does not end the timer. Phoenix: the reference
/// that `Process.send_after/3` returns.
#[derive(Clone, Debug)]
pub struct Timer {
    timers: Weak<RefCell<Slab<AbortHandle>>>,
    key: usize,
    task: AbortHandle,
}

/// Held by the info of a tick until the channel handles it. Until then the timer sends no other.
#[derive(Clone, Default)]
pub(crate) struct Tick(Arc<()>);

impl Tick {
    /// Whether an info of this timer waits for the channel.
    fn waits(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

impl Timers {
    /// Runs `then` after a delay, unless the channel ends or the timer is cancelled before.
    pub(super) fn once(&self, delay: Duration, then: impl FnOnce() + 'static) -> Timer {
        self.start(async move || {
            tokio::time::sleep(delay).await;
            then
        })
    }

    /// Runs `each` after every period, until the channel ends or the timer is cancelled. Periods missed by a busy
    /// thread or a busy channel are skipped.
    pub(super) fn every(&self, period: Duration, each: impl Fn(Tick) + 'static) -> Timer {
        self.start::<fn()>(async move || {
            let mut ticks = interval_at(Instant::now() + period, period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            let sent = Tick::default();
            loop {
                ticks.tick().await;
                if !sent.waits() {
                    each(sent.clone());
                }
            }
        })
    }

    /// Runs a timer, and then the function that it returns.
    fn start<F: FnOnce() + 'static>(&self, run: impl AsyncFnOnce() -> F + 'static) -> Timer {
        let timers = self.0.get_or_init(Rc::default);
        let mut running = timers.borrow_mut();
        let timers = Rc::downgrade(timers);
        let entry = running.vacant_entry();
        let key = entry.key();
        let done = Weak::clone(&timers);
        let task = actix_rt::spawn(async move {
            let then = run().await;
            if let Some(timers) = done.upgrade() {
                timers.borrow_mut().try_remove(key);
            }
            then();
        })
        .abort_handle();
        entry.insert(task.clone());
        Timer { timers, key, task }
    }
}

impl Drop for Timers {
    fn drop(&mut self) {
        if let Some(timers) = self.0.get() {
            timers.borrow().iter().for_each(|(_, timer)| timer.abort());
        }
    }
}

impl Timer {
    /// Ends the timer. Returns true if its info was not sent and never will be. Phoenix: `Process.cancel_timer/1`.
    ///
    /// ```
    /// # use slackir::channel::Timer;
    /// # fn example(deadline: &Timer) {
    /// if !deadline.cancel() {
    ///     println!("too late");
    /// }
    /// # }
    /// ```
    pub fn cancel(&self) -> bool {
        let Some(timers) = self.timers.upgrade() else {
            return false;
        };
        let mut timers = timers.borrow_mut();
        let waits = timers
            .get(self.key)
            .is_some_and(|timer| timer.id() == self.task.id());
        if waits {
            timers.remove(self.key).abort();
        }
        waits
    }
}
