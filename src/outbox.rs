//! [`Outbox`]: the bounded queue of frames from everybody to one connection.
//!
//! Channels, the fan-out and the SocketServer put frames in; the transport's writer takes them out.
//! All of them live on the connection's worker thread, so nothing here is locked.
//!
//! **The slow-consumer rule.** An outbox may be over its bound for a moment: a burst that the
//! client is about to read. Over it for 2 seconds, or over eight times the bound at once, everything
//! queued is dropped and the connection ends, so that the client comes back and fetches what it
//! missed; dropping single messages would leave it with a hole that it cannot see. A frame always
//! enters an empty outbox. What a client asks for itself never gets it there: its messages are not
//! read while its outbox is more than half full. While the outboxes of all clients are over their total,
//! one with more than 64 kB is too slow at once.

mod queue;

use std::cell::{Cell, RefCell};
use std::io::IoSlice;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use self::queue::Queue;
use crate::budget::{Slack, Total};
use crate::client::Client;
use crate::frame::Frame;
use crate::metrics::metrics;
use crate::waker::{WakerList, WakerSlot};

/// How long an outbox may be over its bound.
const GRACE: Duration = Duration::from_secs(2);
/// How many frames are handed to a stream at once.
const SLICES: usize = 32;
/// How many times over its bound an outbox may be for a moment.
const BURST: usize = 8;

/// What all outboxes may hold together beyond [`CROWDED_BYTES`] each, counting a frame once for each
/// outbox it is in.
const TOTAL_BYTES: isize = 1_000_000_000;
/// What is not counted of one, and what it may still hold while all hold more.
const CROWDED_BYTES: usize = 64_000;

static TOTAL: Total = Total::new(TOTAL_BYTES, |metrics| &metrics.outbox_bytes);

thread_local! {
    static SLACK: Slack = const { Slack::new() };
}

/// What an outbox may hold for longer than a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboxLimits {
    /// Bytes on the wire, headers included. Default 1 MB. One frame may be larger.
    pub bytes: usize,
    /// Frames. Default 10,000.
    pub frames: usize,
}

impl Default for OutboxLimits {
    fn default() -> Self {
        Self {
            bytes: 1_000_000,
            frames: 10_000,
        }
    }
}

/// Why a connection ends from this side; the transport turns it into a close code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CloseReason {
    /// The client said goodbye.
    Goodbye,
    /// The client's side of the connection has ended without a word.
    Lost,
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
    /// The unfinished messages of all clients are over their bound with this one's.
    NoRoom,
    /// The client sent nothing for too long, or did not end a message in time.
    Idle,
    /// A `disconnect` broadcast on the socket's id.
    Disconnected,
    /// The server is going down; come back.
    Draining,
    /// The client does not read what it is sent.
    SlowConsumer,
    /// The client has joined nothing, and the server needs its place.
    Displaced,
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
    /// The sweep found a message that has begun too long ago.
    Unfinished,
    /// The writing side is gone: the TCP connection is lost.
    WriterGone,
}

/// The queue of one connection.
pub(crate) struct Outbox {
    client: Client,
    limits: OutboxLimits,
    queue: RefCell<Queue>,
    bytes: Cell<usize>,
    /// Bytes of the first frame that its stream has already taken.
    written: Cell<usize>,
    /// Since when it is over its bound.
    over: Cell<Option<Instant>>,
    /// Set once; nothing enters afterwards, and the writer ends when the queue is empty.
    closed: Cell<Option<CloseReason>>,
    /// Set once; the reader sees it at its next poll.
    interrupted: Cell<Option<Interrupt>>,
    /// The transport's writer, waiting for a frame.
    writer: WakerSlot,
    /// The transport's reader, waiting for the client; woken by an interrupt, and by room.
    reader: WakerSlot,
    /// Replays that wait for room.
    replays: WakerList,
}

impl Outbox {
    /// An empty outbox of nobody's.
    #[cfg(any(test, feature = "_bench"))]
    pub(crate) fn new(limits: OutboxLimits) -> Self {
        Self::of(Client::default(), limits)
    }

    /// An empty outbox.
    pub(crate) fn of(client: Client, limits: OutboxLimits) -> Self {
        Self {
            client,
            limits,
            queue: RefCell::default(),
            bytes: Cell::new(0),
            written: Cell::new(0),
            over: Cell::new(None),
            closed: Cell::new(None),
            interrupted: Cell::new(None),
            writer: WakerSlot::default(),
            reader: WakerSlot::default(),
            replays: WakerList::default(),
        }
    }

    /// Who is sent what is queued.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Queues a frame, or ends the connection by the slow-consumer rule. After a close it does
    /// nothing.
    pub(crate) fn push(&self, frame: Frame) {
        self.push_with(|| Some(frame));
    }

    /// As [`push`](Self::push), of a frame that is made only if the outbox is open.
    pub(crate) fn push_with(&self, frame: impl FnOnce() -> Option<Frame>) {
        if self.closed.get().is_some() {
            return;
        }
        let Some(frame) = frame() else {
            return;
        };
        let mut queue = self.queue.borrow_mut();
        let bytes = self.bytes.get() + frame.len();
        if !queue.is_empty() && self.is_slow(bytes, queue.len() + 1) {
            queue.clear();
            drop(queue);
            self.set_bytes(0);
            self.written.set(0);
            metrics().slow_consumers.increment(1);
            self.close(CloseReason::SlowConsumer);
            self.interrupt(Interrupt::SlowConsumer);
            return;
        }
        self.set_bytes(bytes);
        let was_empty = queue.is_empty();
        queue.push(frame);
        drop(queue);
        // A writer that has left something in the queue waits for its stream.
        if was_empty {
            self.writer.wake();
        }
    }

    fn set_bytes(&self, bytes: usize) {
        let before = self.bytes.replace(bytes);
        // An outbox as they are mostly costs a comparison.
        if before.max(bytes) > CROWDED_BYTES {
            count_crowded(before, bytes);
        }
    }

    /// Whether the slow-consumer rule ends an outbox that would have this size.
    fn is_slow(&self, bytes: usize, frames: usize) -> bool {
        if bytes > CROWDED_BYTES && TOTAL.is_over() {
            return true;
        }
        let limits = self.limits;
        if bytes <= limits.bytes && frames <= limits.frames {
            return false;
        }
        let since = self.over.get().unwrap_or_else(Instant::now);
        self.over.set(Some(since));
        bytes / BURST > limits.bytes || frames / BURST > limits.frames || since.elapsed() > GRACE
    }

    fn is_within(&self, limits: OutboxLimits) -> bool {
        self.bytes.get() <= limits.bytes && self.queue.borrow().len() <= limits.frames
    }

    /// Whether the client may ask for more.
    pub(crate) fn has_room(&self) -> bool {
        self.is_within(OutboxLimits {
            bytes: self.limits.bytes / 2,
            frames: self.limits.frames / 2,
        })
    }

    /// Lets nothing more in. What is queued is still written, then the transport says goodbye.
    pub(crate) fn close(&self, reason: CloseReason) {
        if self.closed.get().is_none() {
            self.closed.set(Some(reason));
            self.writer.wake();
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
            self.reader.wake();
        }
    }

    /// The writer's side: the next frame; `None` when closed and empty.
    pub(crate) fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Option<Frame>> {
        let queued = ready!(self.poll_queued(cx));
        Poll::Ready(queued.then(|| self.take()).flatten())
    }

    /// The writer's side: whether something is queued; not, once closed and empty.
    pub(crate) fn poll_queued(&self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut queue = self.queue.borrow_mut();
        if !queue.is_empty() {
            return Poll::Ready(true);
        }
        if self.closed.get().is_some() {
            return Poll::Ready(false);
        }
        // A burst has passed: its room goes back.
        queue.clear();
        self.writer.remember(cx);
        Poll::Pending
    }

    /// The writer's side, while it waits for its stream: ready when the outbox was closed.
    pub(crate) fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        match self.closed.get() {
            Some(reason) => Poll::Ready(reason),
            None => {
                self.writer.remember(cx);
                Poll::Pending
            }
        }
    }

    /// The side of a writer that may lose what it writes: all frames that are queued. They stay until they
    /// are confirmed.
    pub(crate) fn peek(&self) -> Vec<Frame> {
        self.queue.borrow().iter().cloned().collect()
    }

    /// Takes out the frames that have reached the client. After a slow consumer's end there are none.
    pub(crate) fn confirm(&self, frames: usize) {
        (0..frames).map_while(|_| self.take()).for_each(drop);
    }

    /// The writer's side, where it owns the stream: takes out the one whole frame that is queued, and
    /// waits for the next. `None` when there is anything else to do.
    pub(crate) fn take_lone(&self, cx: &mut Context<'_>) -> Option<Frame> {
        let is_lone = self.queue.borrow().len() == 1 && self.written.get() == 0;
        if !is_lone || self.closed.get().is_some() {
            return None;
        }
        self.writer.remember(cx);
        self.take()
    }

    /// Puts back a lone frame of which the stream has taken less than all, before anything else has
    /// entered.
    pub(crate) fn put_back(&self, frame: Frame, taken: usize) {
        self.set_bytes(self.bytes.get() + frame.len());
        self.written.set(taken);
        self.queue.borrow_mut().push(frame);
    }

    /// The writer's side, where it owns the stream: hands it what is queued, many frames at once.
    /// What it says that it has taken leaves the queue; a frame may go in parts.
    ///
    /// # Errors
    /// The stream's own.
    pub(crate) fn write_to<E>(
        &self,
        stream: impl FnOnce(&[IoSlice<'_>]) -> Result<usize, E>,
    ) -> Result<(), E> {
        let queue = self.queue.borrow();
        let mut slices = [IoSlice::new(&[]); SLICES];
        let mut count = 0;
        for (slice, frame) in slices.iter_mut().zip(queue.iter()) {
            *slice = IoSlice::new(frame.wire());
            count += 1;
        }
        slices[0].advance(self.written.get());
        let taken = self.written.get() + stream(&slices[..count])?;
        drop(queue);
        self.remove(taken);
        Ok(())
    }

    /// Removes bytes from the front; of the first frame that is left some may be gone.
    fn remove(&self, bytes: usize) {
        let had_room = self.has_room();
        let mut queue = self.queue.borrow_mut();
        let mut left = bytes;
        while let Some(first) = queue.first().map(Frame::len)
            && left >= first
        {
            left -= first;
            queue.take_first();
        }
        drop(queue);
        self.written.set(left);
        self.removed(bytes - left, had_room);
    }

    /// Takes the first frame out.
    fn take(&self) -> Option<Frame> {
        let had_room = self.has_room();
        let frame = self.queue.borrow_mut().take_first()?;
        self.removed(frame.len(), had_room);
        Some(frame)
    }

    /// Counts whole frames that have left, and wakes who waits for their room.
    fn removed(&self, bytes: usize, had_room: bool) {
        self.set_bytes(self.bytes.get() - bytes);
        if self.over.get().is_some() && self.is_within(self.limits) {
            self.over.set(None);
        }
        if !had_room && self.has_room() {
            self.reader.wake();
            self.replays.wake();
        }
    }

    /// The reader's side: ready when the client may ask for more.
    pub(crate) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.has_room() {
            return Poll::Ready(());
        }
        self.reader.remember(cx);
        Poll::Pending
    }

    /// A replay's side: ready when the client may be sent one more old message. Many channels of a
    /// connection may wait at once.
    pub(crate) fn poll_room_for_replay(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.has_room() {
            return Poll::Ready(());
        }
        self.replays.remember(cx);
        Poll::Pending
    }

    /// The reader's side: whether it was told to stop.
    pub(crate) fn poll_interrupted(&self, cx: &mut Context<'_>) -> Poll<Interrupt> {
        match self.interrupted.get() {
            Some(interrupt) => Poll::Ready(interrupt),
            None => {
                self.reader.remember(cx);
                Poll::Pending
            }
        }
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.set_bytes(0);
    }
}

/// An outbox that may be beyond what is not counted had `before` bytes and has `after`.
#[cold]
fn count_crowded(before: usize, after: usize) {
    let beyond = |bytes: usize| bytes.saturating_sub(CROWDED_BYTES);
    SLACK.with(|slack| slack.count(&TOTAL, beyond(before), beyond(after)));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::{Wake, Waker};

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
    fn where_all_outboxes_hold_too_much_one_that_is_not_small_ends() {
        let others = |before, after| SLACK.with(|slack| slack.count(&TOTAL, before, after));
        let crowd = 2 * TOTAL_BYTES.unsigned_abs();
        others(0, crowd);
        let (small, large) = (limits(1_000_000, 10), limits(1_000_000, 10));
        (0..2).for_each(|_| small.push(frame(CROWDED_BYTES / 3)));
        (0..2).for_each(|_| large.push(frame(CROWDED_BYTES)));
        others(crowd, 0);
        assert_eq!(small.closed(), None);
        assert_eq!(large.closed(), Some(CloseReason::SlowConsumer));
        large.push(frame(1));
        assert_eq!(poll(&large), Poll::Ready(None));
    }

    #[test]
    fn a_stream_takes_many_frames_at_once_and_any_part_of_them() {
        let outbox = limits(100_000, 1_000);
        let sent: Vec<u8> = (0..100).collect();
        for byte in &sent {
            outbox.push(Frame::new(Opcode::Text, &[*byte; 3]));
        }
        let mut cx = Context::from_waker(Waker::noop());
        let mut stream = Vec::new();
        let mut calls = 0;
        while outbox.poll_queued(&mut cx) == Poll::Ready(true) {
            calls += 1;
            let took = outbox.write_to(|slices| {
                let offered: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
                let taken = offered.len().min(97);
                stream.extend_from_slice(&offered[..taken]);
                Ok::<_, std::io::Error>(taken)
            });
            took.expect("it takes some");
        }
        let frames = sent.iter().flat_map(|byte| [0x81, 3, *byte, *byte, *byte]);
        assert_eq!(stream, frames.collect::<Vec<u8>>());
        assert_eq!(calls, 500usize.div_ceil(97));
        assert_eq!(outbox.bytes.get(), 0);
    }

    #[test]
    fn a_lone_frame_is_taken_whole_and_what_the_stream_leaves_of_it_goes_back() {
        let outbox = limits(1_000, 10);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(outbox.take_lone(&mut cx).is_none(), "nothing is queued");
        outbox.push(frame(5));
        outbox.push(frame(6));
        assert!(outbox.take_lone(&mut cx).is_none(), "there are two");
        assert_eq!(poll(&outbox), Poll::Ready(Some(5)));
        let lone = outbox.take_lone(&mut cx).expect("there is one");
        assert_eq!((outbox.bytes.get(), poll(&outbox)), (0, Poll::Pending));
        outbox.put_back(lone, 3);
        assert!(outbox.take_lone(&mut cx).is_none(), "it is not whole");
        let rest = |slices: &[IoSlice<'_>]| Ok::<_, std::io::Error>(slices[0].len());
        outbox.write_to(rest).expect("it takes all");
        assert_eq!((outbox.bytes.get(), outbox.written.get()), (0, 0));
        outbox.push(frame(7));
        outbox.close(CloseReason::Draining);
        assert!(outbox.take_lone(&mut cx).is_none(), "the end is to be said");
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
        for outbox in [limits(10, 100), limits(10_000, 2)] {
            let mut cx = Context::from_waker(Waker::noop());
            // Over the bound for a moment.
            (0..8).for_each(|_| outbox.push(frame(3)));
            assert!(outbox.poll_interrupted(&mut cx).is_pending());
            assert!(outbox.poll_room(&mut cx).is_pending());
            // Eight times over it.
            (0..16).for_each(|_| outbox.push(frame(3)));
            assert_eq!(outbox.closed(), Some(CloseReason::SlowConsumer));
            let stopped = outbox.poll_interrupted(&mut cx);
            assert_eq!(stopped, Poll::Ready(Interrupt::SlowConsumer));
            assert_eq!(poll(&outbox), Poll::Ready(None));
        }
    }

    #[test]
    fn an_outbox_that_stays_over_its_bound_ends_after_the_grace() {
        let outbox = limits(10, 100);
        outbox.push(frame(8));
        outbox.push(frame(8));
        assert_eq!(outbox.closed(), None);
        outbox.over.set(Instant::now().checked_sub(GRACE * 2));
        outbox.push(frame(1));
        assert_eq!(outbox.closed(), Some(CloseReason::SlowConsumer));
    }

    #[test]
    fn an_outbox_that_was_read_may_be_over_its_bound_again() {
        let outbox = limits(10, 100);
        outbox.push(frame(8));
        outbox.push(frame(8));
        outbox.over.set(Instant::now().checked_sub(GRACE * 2));
        assert_eq!(poll(&outbox), Poll::Ready(Some(8)));
        assert_eq!(poll(&outbox), Poll::Ready(Some(8)));
        outbox.push(frame(8));
        outbox.push(frame(8));
        assert_eq!(outbox.closed(), None, "it was below its bound in between");
    }

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[test]
    fn the_reader_is_woken_when_there_is_room_again_in_bytes_or_in_frames() {
        for outbox in [limits(40, 100), limits(10_000, 4)] {
            let woken = Arc::new(Woken::default());
            let waker = Waker::from(Arc::clone(&woken));
            (0..3).for_each(|_| outbox.push(frame(10)));
            let mut cx = Context::from_waker(&waker);
            assert!(outbox.poll_room(&mut cx).is_pending());
            while !outbox.has_room() {
                assert!(!woken.0.load(Ordering::Relaxed));
                assert_eq!(poll(&outbox), Poll::Ready(Some(10)));
            }
            assert!(woken.0.load(Ordering::Relaxed));
        }
    }
}
