//! Ends connections that send nothing: one sweep a worker thread, no timer a connection.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use crate::metrics::metrics;
use crate::outbox::{Interrupt, Outbox};

/// The longest time between two looks at a connection.
const MAX_TICK: Duration = Duration::from_secs(1);
/// The shortest, for very short timeouts.
const MIN_TICK: Duration = Duration::from_millis(5);
/// A connection is looked at this many times in its timeout.
const LOOKS: u32 = 8;

thread_local! {
    /// The connections of this thread. `None` while no sweep runs.
    static WATCHED: RefCell<Option<Vec<Weak<Activity>>>> = const { RefCell::new(None) };
}

/// When a connection was last heard. The transport touches it for any byte that it receives.
pub(crate) struct Activity {
    last: Cell<Instant>,
    timeout: Duration,
    /// While a join is pending nothing is expected of the client.
    suspended: Cell<bool>,
    outbox: Rc<Outbox>,
}

impl Activity {
    /// Watches a connection until its activity is dropped. Needs an actix runtime.
    pub(crate) fn watch(timeout: Duration, outbox: Rc<Outbox>) -> Rc<Self> {
        let activity = Rc::new(Self {
            last: Cell::new(Instant::now()),
            timeout,
            suspended: Cell::new(false),
            outbox,
        });
        let start = WATCHED.with_borrow_mut(|watched| {
            let start = watched.is_none();
            watched
                .get_or_insert_default()
                .push(Rc::downgrade(&activity));
            start
        });
        if start {
            actix_rt::spawn(sweep());
        }
        activity
    }

    /// The client was heard.
    pub(crate) fn touch(&self) {
        self.last.set(Instant::now());
    }

    /// Stops or restarts the clock.
    pub(crate) fn suspend(&self, suspended: bool) {
        self.suspended.set(suspended);
        self.touch();
    }

    fn check(&self, now: Instant) {
        if !self.suspended.get() && now.duration_since(self.last.get()) >= self.timeout {
            metrics().idle_timeouts.increment(1);
            self.outbox.interrupt(Interrupt::Idle);
            self.suspended.set(true);
        }
    }
}

/// Looks at every connection of the thread until there is none.
async fn sweep() {
    let mut tick = MIN_TICK;
    loop {
        tokio::time::sleep(tick).await;
        let now = Instant::now();
        let shortest = WATCHED.with_borrow_mut(|slot| {
            let watched = slot.as_mut()?;
            let mut shortest = None;
            watched.retain(|activity| {
                let Some(activity) = activity.upgrade() else {
                    return false;
                };
                activity.check(now);
                shortest = shortest.into_iter().chain([activity.timeout]).min();
                true
            });
            if shortest.is_none() {
                *slot = None;
            }
            shortest
        });
        match shortest {
            Some(timeout) => tick = (timeout / LOOKS).clamp(MIN_TICK, MAX_TICK),
            None => return,
        }
    }
}
