//! Ends silent connections: one sweep for each worker thread, no timer for each connection.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use crate::metrics::metrics;
use crate::outbox::{Interrupt, Outbox};

/// The longest time between two checks of a connection.
const MAX_TICK: Duration = Duration::from_secs(1);
/// The shortest, for very short timeouts.
const MIN_TICK: Duration = Duration::from_millis(5);
/// The number of checks in one timeout.
const LOOKS: u32 = 8;
/// An unread connection is closed after this many timeouts: its client may be gone, which only a read would show.
const UNREAD_TIMEOUTS: u32 = 10;

thread_local! {
    /// The connections of this thread. `None` while no sweep runs.
    static WATCHED: RefCell<Option<Vec<Weak<Activity>>>> = const { RefCell::new(None) };
}

/// The client's sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    /// Any byte. None is expected while a join is pending, as in Phoenix, nor while the server does not read.
    Bytes,
    /// Its polls, which are always read.
    Polls,
}

impl Sign {
    /// The transport of such clients, for the log.
    pub(crate) fn transport(self) -> &'static str {
        match self {
            Self::Bytes => "websocket",
            Self::Polls => "longpoll",
        }
    }
}

/// A timeout of at most 49 days, in milliseconds: every connection has two, and a [`Duration`] takes four times the memory.
#[derive(Clone, Copy)]
struct Timeout(u32);

impl From<Duration> for Timeout {
    fn from(timeout: Duration) -> Self {
        Self(u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX))
    }
}

impl From<Timeout> for Duration {
    fn from(Timeout(millis): Timeout) -> Self {
        Self::from_millis(millis.into())
    }
}

/// The last sign of life of a connection. The transport touches it at each one.
pub(crate) struct Activity {
    sign: Sign,
    last: Cell<Instant>,
    timeout: Cell<Timeout>,
    /// A join is pending.
    joining: Cell<bool>,
    /// The transport does not read, because the client or its channels cannot keep up.
    unread: Cell<bool>,
    /// The beginning of the unfinished message.
    unfinished: Cell<Option<Instant>>,
    message_timeout: Timeout,
    interrupted: Cell<bool>,
    outbox: Rc<Outbox>,
}

impl Activity {
    /// Watches a connection until its activity is dropped: it may be silent for `timeout`, and take
    /// `message_timeout` for one message. Needs an actix runtime.
    pub(crate) fn watch(
        sign: Sign,
        timeout: Duration,
        message_timeout: Duration,
        outbox: Rc<Outbox>,
    ) -> Rc<Self> {
        let activity = Rc::new(Self {
            sign,
            last: Cell::new(Instant::now()),
            timeout: Cell::new(timeout.into()),
            joining: Cell::new(false),
            unread: Cell::new(false),
            unfinished: Cell::new(None),
            message_timeout: message_timeout.into(),
            interrupted: Cell::new(false),
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

    /// The kind of the client's transport.
    pub(crate) fn sign(&self) -> Sign {
        self.sign
    }

    /// The client was heard.
    pub(crate) fn touch(&self) {
        self.last.set(Instant::now());
    }

    /// The present, as exact as the last read: the server has seen nothing newer.
    pub(crate) fn now(&self) -> Instant {
        match self.sign {
            Sign::Bytes => self.last.get(),
            Sign::Polls => Instant::now(),
        }
    }

    /// Changes the timeout.
    pub(crate) fn set_timeout(&self, timeout: Duration) {
        self.timeout.set(timeout.into());
    }

    /// A join has become pending, or is answered.
    pub(crate) fn set_joining(&self, joining: bool) {
        if self.sign == Sign::Bytes {
            self.joining.set(joining);
            self.touch();
        }
    }

    /// The transport stops to read, or reads again.
    pub(crate) fn set_unread(&self, unread: bool) {
        if self.unread.replace(unread) != unread {
            self.touch();
            if self.unfinished.get().is_some() {
                // While the server does not read, the client cannot end its message.
                self.set_unfinished(true);
            }
        }
    }

    /// Whether the transport does not read.
    pub(crate) fn is_unread(&self) -> bool {
        self.unread.get()
    }

    /// The last read has left a message unfinished, or has finished it.
    pub(crate) fn set_unfinished(&self, unfinished: bool) {
        self.unfinished.set(unfinished.then(Instant::now));
    }

    fn check(&self, now: Instant) {
        if let Some(begun) = self.unfinished.get()
            && !self.unread.get()
            && now.duration_since(begun) >= Duration::from(self.message_timeout)
        {
            if !self.interrupted.replace(true) {
                metrics().message_timeouts.increment(1);
                self.outbox.interrupt(Interrupt::Unfinished);
            }
            return;
        }
        let silence = now.duration_since(self.last.get());
        if !self.interrupted.get() && self.limit().is_some_and(|limit| silence >= limit) {
            metrics().idle_timeouts.increment(1);
            self.outbox.interrupt(Interrupt::Idle);
            self.interrupted.set(true);
        }
    }

    /// The timeout that counts now; `None` while the clock stands still.
    fn limit(&self) -> Option<Duration> {
        let timeout = Duration::from(self.timeout.get());
        match (self.unread.get(), self.joining.get()) {
            (true, _) => Some(timeout.saturating_mul(UNREAD_TIMEOUTS)),
            (false, true) => None,
            (false, false) => Some(timeout),
        }
    }
}

/// Checks every connection of the thread until there is none.
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
                let timeouts = [activity.timeout.get(), activity.message_timeout];
                let timeouts = timeouts.map(Duration::from).into_iter();
                shortest = shortest.into_iter().chain(timeouts).min();
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
