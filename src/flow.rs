//! [`Flow`]: bounds the client messages that one connection has in flight to its channels.
//!
//! Each message that was read holds a [`Ticket`] until its callback has returned. At the bound the server
//! stops reading from the connection, so that TCP applies backpressure to the client. It reads again when
//! half of the bound is free. Nothing is dropped here. A client that exceeds its rate also has to wait for
//! a moment.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Sleep, sleep};

use crate::budget::{Slack, Total};
use crate::metrics::{Pause, metrics};
use crate::pubsub::Inbox;
use crate::rate::{self, Bucket, Rate};
use crate::waker::WakerSlot;

/// The most bytes that all connections together may have in flight.
const TOTAL_BYTES: isize = 256_000_000;
/// The most bytes that one connection may have in flight while that total is exceeded.
const CROWDED_BYTES: usize = 16_000;

/// How long a client that was over a rate is not read.
pub(crate) const REST: Duration = Duration::from_secs(1);
/// The most refusals of a client in 10 seconds before it is not read for a while.
const MAX_REFUSALS: u32 = 100;
const REFUSALS: Rate = Rate::in_period(MAX_REFUSALS, Duration::from_secs(10));

static TOTAL: Total = Total::new(TOTAL_BYTES, |metrics| &metrics.in_flight_bytes);

thread_local! {
    static SLACK: Slack = const { Slack::new() };
}

/// The bounds on messages in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FlowLimits {
    /// Messages. Default: 1,024.
    pub messages: usize,
    /// Bytes of their payloads. A single message may be larger. Default: 4 MB.
    pub bytes: usize,
}

setters!(FlowLimits {
    messages: usize,
    bytes: usize,
});

impl Default for FlowLimits {
    fn default() -> Self {
        Self {
            messages: 1_024,
            bytes: 4_000_000,
        }
    }
}

/// Counts the messages in flight of one connection, on its worker thread.
pub(crate) struct Flow {
    /// As [`FlowLimits`] has them; one of more than 4 GB is one of 4 GB.
    most_messages: u32,
    most_bytes: u32,
    messages: Cell<u32>,
    bytes: Cell<usize>,
    /// Whether the bound was reached and more than half of it is still in use.
    paused: Cell<bool>,
    /// The inbox over its bound that a broadcast of this connection found.
    congested: Cell<Option<Arc<Inbox>>>,
    /// Messages over a limit.
    limited: Cell<u32>,
    /// Refusals of messages over a rate, or of a muted member.
    refusals: Cell<Bucket>,
    /// The pause of a client that exceeded its rate.
    rest: Cell<Option<Pin<Box<Sleep>>>>,
    /// Wakes the transport's reader when half of the bound is free.
    reader: WakerSlot,
}

impl Flow {
    pub(crate) fn new(limits: FlowLimits) -> Rc<Self> {
        Rc::new(Self {
            most_messages: limits.messages.try_into().unwrap_or(u32::MAX),
            most_bytes: limits.bytes.try_into().unwrap_or(u32::MAX),
            messages: Cell::new(0),
            bytes: Cell::new(0),
            paused: Cell::new(false),
            congested: Cell::default(),
            limited: Cell::default(),
            refusals: Cell::default(),
            rest: Cell::default(),
            reader: WakerSlot::default(),
        })
    }

    /// Whether a message of `bytes` may enter. It may not if the total of all connections is exceeded and
    /// this connection would have more than a little in flight.
    pub(crate) fn admits(&self, bytes: usize) -> bool {
        self.bytes.get() + bytes <= CROWDED_BYTES || !TOTAL.is_over()
    }

    fn set_bytes(&self, bytes: usize) {
        let before = self.bytes.replace(bytes);
        SLACK.with(|slack| slack.count(&TOTAL, before, bytes));
    }

    /// Counts a message of `bytes` until the ticket is dropped.
    pub(crate) fn enter(self: &Rc<Self>, bytes: usize) -> Ticket {
        self.messages.set(self.messages.get() + 1);
        self.set_bytes(self.bytes.get() + bytes);
        if self.is_full() && !self.paused.replace(true) {
            metrics().reads_paused(Pause::Channels).increment(1);
        }
        Ticket {
            flow: Rc::clone(self),
            bytes,
        }
    }

    /// Stops reading until this inbox has drained.
    pub(crate) fn wait_for(&self, inbox: Arc<Inbox>) {
        self.congested.set(Some(inbox));
    }

    /// Stops reading for a while. Messages that were already read are still handled.
    pub(crate) fn rest(&self) {
        let resting = self.rest.replace(Some(Box::pin(sleep(REST))));
        if resting.is_none() {
            metrics().reads_paused(Pause::Limit).increment(1);
        }
    }

    /// Counts a message over a limit.
    pub(crate) fn count_limited(&self) {
        self.limited.set(self.limited.get().saturating_add(1));
    }

    /// The number of messages over a limit.
    pub(crate) fn limited(&self) -> u32 {
        self.limited.get()
    }

    /// Counts the refusal of a message. After too many, reading stops for a while.
    pub(crate) fn count_refusal(&self) {
        let mut refusals = self.refusals.get();
        if refusals.take(REFUSALS, 1, rate::now()).is_err() {
            self.rest();
        }
        self.refusals.set(refusals);
    }

    /// Ready when the transport may read from the connection.
    pub(crate) fn poll_open(&self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(mut sleep) = self.rest.take()
            && sleep.as_mut().poll(cx).is_pending()
        {
            self.rest.set(Some(sleep));
            return Poll::Pending;
        }
        if let Some(inbox) = self.congested.take()
            && inbox.poll_drained(cx).is_pending()
        {
            self.congested.set(Some(inbox));
            return Poll::Pending;
        }
        if self.paused.get() {
            self.reader.remember(cx);
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    fn is_full(&self) -> bool {
        self.messages.get() >= self.most_messages || self.bytes.get() >= self.most_bytes as usize
    }

    fn is_half_free(&self) -> bool {
        self.messages.get() <= self.most_messages / 2
            && self.bytes.get() <= self.most_bytes as usize / 2
    }
}

/// One message in flight. Dropping the ticket frees its room.
pub(crate) struct Ticket {
    flow: Rc<Flow>,
    bytes: usize,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let flow = &self.flow;
        flow.messages.set(flow.messages.get() - 1);
        flow.set_bytes(flow.bytes.get() - self.bytes);
        if flow.paused.get() && flow.is_half_free() {
            flow.paused.set(false);
            flow.reader.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn reading_stops_at_the_bound_and_goes_on_at_half_of_it() {
        let flow = Flow::new(FlowLimits {
            messages: 4,
            bytes: 1_000,
        });
        let open = || {
            flow.poll_open(&mut Context::from_waker(Waker::noop()))
                .is_ready()
        };
        let mut tickets: Vec<Ticket> = (0..3).map(|_| flow.enter(1)).collect();
        assert!(open());
        tickets.push(flow.enter(1));
        assert!(!open(), "four of four are in flight");
        tickets.truncate(3);
        assert!(!open(), "more than half is still taken");
        tickets.truncate(2);
        assert!(open());
        let large = flow.enter(5_000);
        assert!(!open(), "bytes count too");
        drop(large);
        assert!(open());
    }

    #[test]
    fn where_all_have_too_much_in_flight_each_may_have_little() {
        let others = |before, after| SLACK.with(|slack| slack.count(&TOTAL, before, after));
        let crowd = 2 * TOTAL_BYTES.unsigned_abs();
        let flow = Flow::new(FlowLimits::default());
        let ticket = flow.enter(CROWDED_BYTES / 2);
        assert!(flow.admits(1_000_000));
        others(0, crowd);
        assert!(flow.admits(CROWDED_BYTES / 2));
        assert!(!flow.admits(CROWDED_BYTES / 2 + 1));
        drop(ticket);
        assert!(flow.admits(CROWDED_BYTES));
        others(crowd, 0);
    }

    #[test]
    fn the_smallest_limits_do_not_pause_for_ever() {
        let flow = Flow::new(FlowLimits {
            messages: 1,
            bytes: 1,
        });
        drop(flow.enter(10));
        assert!(
            flow.poll_open(&mut Context::from_waker(Waker::noop()))
                .is_ready()
        );
    }
}
