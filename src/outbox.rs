//! [`Outbox`]: the bounded queue of frames from everybody to one connection.
//!
//! Channels, the fan-out and the SocketServer put frames in; the transport's writer takes them out.
//! All of them live on the connection's worker thread, so nothing here is locked.
//!
//! **The slow-consumer rule.** A frame always enters an empty outbox. When a frame would take a
//! filled one over its bound, everything queued is dropped and the connection ends, so that the
//! client comes back and fetches what it missed; dropping single messages would leave it with a
//! hole that it cannot see.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use crate::frame::Frame;
use crate::metrics::metrics;

/// What an outbox may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboxLimits {
    /// Bytes on the wire, headers included. Default 1 MB. One frame may be larger.
    pub bytes: usize,
    /// Frames. Default 1,000.
    pub frames: usize,
}

impl Default for OutboxLimits {
    fn default() -> Self {
        Self {
            bytes: 1_000_000,
            frames: 1_000,
        }
    }
}

/// Why a connection ends from this side; the transport turns it into a close code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CloseReason {
    /// The client said goodbye.
    Goodbye,
    /// A client message could not be decoded.
    Undecodable,
    /// Text that is not UTF-8.
    NotUtf8,
    /// The client broke the rules of its transport.
    ProtocolViolation,
    /// An empty continuation frame: endless fragments without content.
    EmptyFragment,
    /// A frame or a fragmented message over its limit.
    TooBig,
    /// The client sent nothing for too long.
    Idle,
    /// A `disconnect` broadcast on the socket's id.
    Disconnected,
    /// The server is going down; come back.
    Draining,
    /// The client does not read what it is sent.
    SlowConsumer,
    /// The server made a mistake: the connection's actor panicked.
    Crashed,
}

/// What made the reading side stop from outside its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interrupt {
    /// The outbox was over its bound.
    SlowConsumer,
    /// The sweep found the connection idle.
    Idle,
    /// The writing side is gone: the TCP connection is lost.
    WriterGone,
}

/// The queue of one connection.
pub(crate) struct Outbox {
    limits: OutboxLimits,
    queue: RefCell<VecDeque<Frame>>,
    bytes: Cell<usize>,
    /// Set once; nothing enters afterwards, and the writer ends when the queue is empty.
    closed: Cell<Option<CloseReason>>,
    /// Set once; the reader sees it at its next poll.
    interrupted: Cell<Option<Interrupt>>,
    /// The transport's writer, waiting for a frame.
    writer: RefCell<Option<Waker>>,
    /// The transport's reader, waiting for the client; woken by an interrupt.
    reader: RefCell<Option<Waker>>,
}

impl Outbox {
    /// An empty outbox.
    pub(crate) fn new(limits: OutboxLimits) -> Self {
        Self {
            limits,
            queue: RefCell::default(),
            bytes: Cell::new(0),
            closed: Cell::new(None),
            interrupted: Cell::new(None),
            writer: RefCell::default(),
            reader: RefCell::default(),
        }
    }

    /// Queues a frame, or ends the connection by the slow-consumer rule. After a close it does
    /// nothing.
    pub(crate) fn push(&self, frame: Frame) {
        if self.closed.get().is_some() {
            return;
        }
        let mut queue = self.queue.borrow_mut();
        let bytes = self.bytes.get() + frame.len();
        let full = bytes > self.limits.bytes || queue.len() >= self.limits.frames;
        if full && !queue.is_empty() {
            *queue = VecDeque::new();
            drop(queue);
            self.bytes.set(0);
            metrics().slow_consumers.increment(1);
            self.close(CloseReason::SlowConsumer);
            self.interrupt(Interrupt::SlowConsumer);
            return;
        }
        self.bytes.set(bytes);
        queue.push_back(frame);
        drop(queue);
        wake(&self.writer);
    }

    /// Lets nothing more in. What is queued is still written, then the transport says goodbye.
    pub(crate) fn close(&self, reason: CloseReason) {
        if self.closed.get().is_none() {
            self.closed.set(Some(reason));
            wake(&self.writer);
        }
    }

    /// Why the outbox was closed, if it was.
    pub(crate) fn closed(&self) -> Option<CloseReason> {
        self.closed.get()
    }

    /// Stops the reader; the first interrupt counts.
    pub(crate) fn interrupt(&self, interrupt: Interrupt) {
        if self.interrupted.get().is_none() {
            self.interrupted.set(Some(interrupt));
            wake(&self.reader);
        }
    }

    /// The writer's side: the next frame; `None` when closed and empty.
    pub(crate) fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Option<Frame>> {
        let frame = self.queue.borrow_mut().pop_front();
        if let Some(frame) = frame {
            self.bytes.set(self.bytes.get() - frame.len());
            return Poll::Ready(Some(frame));
        }
        if self.closed.get().is_some() {
            return Poll::Ready(None);
        }
        // A burst has passed: its room goes back.
        *self.queue.borrow_mut() = VecDeque::new();
        remember(&self.writer, cx);
        Poll::Pending
    }

    /// The reader's side: whether it was told to stop.
    pub(crate) fn poll_interrupted(&self, cx: &mut Context<'_>) -> Poll<Interrupt> {
        match self.interrupted.get() {
            Some(interrupt) => Poll::Ready(interrupt),
            None => {
                remember(&self.reader, cx);
                Poll::Pending
            }
        }
    }
}

/// Wakes a waiting side, once.
fn wake(slot: &RefCell<Option<Waker>>) {
    let waker = slot.borrow_mut().take();
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// Keeps the waker of a side that is about to wait.
pub(crate) fn remember(slot: &RefCell<Option<Waker>>, cx: &Context<'_>) {
    let mut slot = slot.borrow_mut();
    match &mut *slot {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *slot = Some(cx.waker().clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Opcode;

    fn frame(len: usize) -> Frame {
        Frame::new(Opcode::Text, &vec![b'x'; len])
    }

    fn poll(outbox: &Outbox) -> Poll<Option<usize>> {
        let mut cx = Context::from_waker(Waker::noop());
        outbox
            .poll_frame(&mut cx)
            .map(|f| f.map(|f| f.payload().len()))
    }

    fn limits(bytes: usize, frames: usize) -> Outbox {
        Outbox::new(OutboxLimits { bytes, frames })
    }

    #[test]
    fn frames_leave_in_the_order_they_came_and_closing_lets_them_out() {
        let outbox = limits(1_000, 10);
        outbox.push(frame(1));
        outbox.push(frame(2));
        outbox.close(CloseReason::Draining);
        outbox.push(frame(3));
        assert_eq!(poll(&outbox), Poll::Ready(Some(1)));
        assert_eq!(poll(&outbox), Poll::Ready(Some(2)));
        assert_eq!(poll(&outbox), Poll::Ready(None));
    }

    #[test]
    fn a_frame_over_the_limit_enters_an_empty_outbox() {
        let outbox = limits(10, 10);
        outbox.push(frame(100));
        assert_eq!(outbox.closed(), None);
        assert_eq!(poll(&outbox), Poll::Ready(Some(100)));
        assert_eq!(poll(&outbox), Poll::Pending);
    }

    #[test]
    fn a_slow_consumer_loses_its_queue_and_its_connection() {
        for outbox in [limits(10, 100), limits(1_000, 2)] {
            let mut cx = Context::from_waker(Waker::noop());
            outbox.push(frame(3));
            assert!(outbox.poll_interrupted(&mut cx).is_pending());
            outbox.push(frame(3));
            outbox.push(frame(3));
            assert_eq!(outbox.closed(), Some(CloseReason::SlowConsumer));
            let stopped = outbox.poll_interrupted(&mut cx);
            assert_eq!(stopped, Poll::Ready(Interrupt::SlowConsumer));
            assert_eq!(poll(&outbox), Poll::Ready(None));
        }
    }
}
