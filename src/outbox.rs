//! [`Outbox`]: the bounded queue of frames to one connection.
//!
//! Channels, broadcasts and the SocketServer push frames; the transport's writer takes them. All of these
//! run on the connection's worker thread, so nothing here is locked.
//!
//! **The slow-consumer rule.** An outbox may exceed its bound for 2 seconds, because the client may be
//! about to read a burst. After that time, or at once beyond eight times the bound, the whole queue is
//! dropped and the connection ends. The client reconnects and fetches the messages that it missed; if
//! single messages were dropped, it could not see the gap. An empty outbox accepts a frame of any size.
//! Replies to the client's own requests cannot exceed the bound, because its messages are not read while
//! its outbox is more than half full. While the outboxes of all clients exceed their total, an outbox with
//! more than 64 kB counts as too slow at once.
//!
//! A frame counts with its bytes on the wire, compressed ones with their compressed length: that is the memory that
//! waits, and what the client still has to read.

mod queue;

use std::cell::{Cell, RefCell};
use std::io::IoSlice;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use self::queue::Queue;
use crate::budget::{Slack, Total};
use crate::client::Client;
use crate::deflate::{self, Window};
use crate::frame::Frame;
use crate::metrics::{Hot, count, metrics};
use crate::waker::{WakerList, WakerSlot};

/// How long an outbox may exceed its bound.
const GRACE: Duration = Duration::from_secs(2);
/// The most frames of one write to a stream.
const SLICES: usize = 32;
/// The multiple of its bound that an outbox may reach within [`GRACE`].
const BURST: usize = 8;

/// The most bytes of all outboxes together. Each counts only its bytes beyond [`CROWDED_BYTES`]; a frame
/// counts once for each outbox that holds it.
const TOTAL_BYTES: isize = 1_000_000_000;
/// Bytes of each outbox that do not count in the total. While the total is exceeded, an outbox may not hold
/// more.
const CROWDED_BYTES: usize = 64_000;

static TOTAL: Total = Total::new(TOTAL_BYTES, |metrics| &metrics.outbox_bytes);

/// The bytes in all outboxes beyond the first 64 kB of each.
#[cfg(feature = "server")]
pub(crate) fn total_bytes() -> usize {
    TOTAL.used()
}

thread_local! {
    static SLACK: Slack = const { Slack::new() };
}

/// The bound of one outbox. It may be exceeded for 2 seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutboxLimits {
    /// Bytes on the wire, headers included. A single frame may be larger. Default: 1 MB.
    pub bytes: usize,
    /// Frames. Default: 10,000.
    pub frames: usize,
}

setters!(OutboxLimits {
    bytes: usize,
    frames: usize,
});

impl Default for OutboxLimits {
    fn default() -> Self {
        Self {
            bytes: 1_000_000,
            frames: 10_000,
        }
    }
}

/// [`OutboxLimits`] as each outbox keeps them. One of more than 4 GB is one of 4 GB.
#[derive(Clone, Copy)]
struct Limits {
    bytes: u32,
    frames: u32,
}

impl From<OutboxLimits> for Limits {
    fn from(limits: OutboxLimits) -> Self {
        Self {
            bytes: limits.bytes.try_into().unwrap_or(u32::MAX),
            frames: limits.frames.try_into().unwrap_or(u32::MAX),
        }
    }
}

impl Limits {
    fn permit(self, bytes: usize, frames: usize) -> bool {
        bytes <= self.bytes as usize && frames <= self.frames as usize
    }
}

/// Why the server ends a connection. The transport maps the reason to a close code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CloseReason {
    /// The client has closed the connection in order.
    Goodbye,
    /// The client's side of the connection has ended without a close frame.
    Lost,
    /// A client message could not be decoded.
    Undecodable,
    /// A text of the client is not UTF-8.
    NotUtf8,
    /// A compressed message of the client cannot be inflated.
    Corrupt,
    /// The client broke the rules of its transport.
    ProtocolViolation,
    /// The client sent an empty continuation frame: a message of these could go on for ever.
    EmptyFragment,
    /// A frame or a fragmented message exceeds its limit.
    TooBig,
    /// The budget for incomplete messages has no room for the client's.
    NoRoom,
    /// The client was silent for too long, or did not complete a message in time.
    Idle,
    /// A broadcast of `disconnect` on the socket's id.
    Disconnected,
    /// The client's permission has ended.
    TokenExpired,
    /// The client's permission was taken back.
    TokenRevoked,
    /// The client's user or address is banned.
    Banned,
    /// The server is shutting down. The client should reconnect.
    Draining,
    /// The client reads too slowly.
    SlowConsumer,
    /// The client has joined no channel, and the server needs the place of its connection.
    Displaced,
    /// The connection's actor panicked.
    Crashed,
}

/// Why the reader must stop although its stream continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interrupt {
    /// The slow-consumer rule ended the connection.
    SlowConsumer,
    /// The idle sweep found that the client was silent for too long.
    Idle,
    /// The idle sweep found a message that was not completed in time.
    Unfinished,
    /// The writer is gone: the TCP connection is lost.
    WriterGone,
}

/// What became of a frame for an outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    Queued,
    /// The outbox was closed.
    Closed,
    /// The frame was one too many for a client that does not read.
    Slow,
    /// There is no such frame on the client's wire.
    Unmade,
}

/// The frames to one connection.
pub(crate) struct Outbox {
    client: Client,
    limits: Limits,
    /// The client's window, if it takes compressed frames.
    window: Option<Window>,
    queue: RefCell<Queue>,
    bytes: Cell<usize>,
    /// Bytes of the frames that the transport has taken.
    sent: Cell<u64>,
    /// Bytes of the first frame that the stream has already taken.
    written: Cell<usize>,
    /// When the outbox began to exceed its bound; `None` while it does not.
    over: Cell<Option<Instant>>,
    /// Set once. Then the outbox accepts no frame, and the writer ends when the queue is empty.
    closed: Cell<Option<CloseReason>>,
    /// Set once. The reader sees it at its next poll.
    interrupted: Cell<Option<Interrupt>>,
    /// Wakes the transport's writer for a frame or a close.
    writer: WakerSlot,
    /// Wakes the transport's reader for an interrupt, or when there is room again.
    reader: WakerSlot,
    /// Wakes replays when there is room again.
    replays: WakerList,
}

impl Outbox {
    /// An empty outbox without a client.
    #[cfg(any(test, feature = "_bench"))]
    pub(crate) fn new(limits: OutboxLimits) -> Self {
        Self::of(Client::new(None, None), limits)
    }

    /// An empty outbox.
    pub(crate) fn of(client: Client, limits: OutboxLimits) -> Self {
        Self {
            client,
            limits: limits.into(),
            window: None,
            queue: RefCell::default(),
            bytes: Cell::new(0),
            sent: Cell::new(0),
            written: Cell::new(0),
            over: Cell::new(None),
            closed: Cell::new(None),
            interrupted: Cell::new(None),
            writer: WakerSlot::default(),
            reader: WakerSlot::default(),
            replays: WakerList::default(),
        }
    }

    /// The same, for a client that takes compressed frames if it has a window.
    pub(crate) fn with_window(mut self, window: Option<Window>) -> Self {
        self.window = window;
        self
    }

    /// The client's window, if it takes compressed frames.
    pub(crate) fn window(&self) -> Option<Window> {
        self.window
    }

    /// The client of the connection.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Queues a frame for this client alone, compressed if the client supports it, or ends the connection by the
    /// slow-consumer rule. Does nothing after a close.
    pub(crate) fn push(&self, frame: Frame) {
        let _ = self.push_with(|| match self.window {
            Some(window) => Some(compressed(frame, window)),
            None => Some(frame),
        });
    }

    /// Like [`push`](Self::push), with a frame that is made only if the outbox is open.
    /// Returns what became of it.
    pub(crate) fn push_with(&self, frame: impl FnOnce() -> Option<Frame>) -> Pushed {
        if self.closed.get().is_some() {
            return Pushed::Closed;
        }
        let Some(frame) = frame() else {
            return Pushed::Unmade;
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
            return Pushed::Slow;
        }
        self.set_bytes(bytes);
        let was_empty = queue.is_empty();
        queue.push(frame);
        drop(queue);
        // If the queue was not empty, the writer already waits for its stream.
        if was_empty {
            self.writer.wake();
        }
        Pushed::Queued
    }

    fn set_bytes(&self, bytes: usize) {
        let before = self.bytes.replace(bytes);
        // Most outboxes are small and cost only this comparison.
        if before.max(bytes) > CROWDED_BYTES {
            count_crowded(before, bytes);
        }
    }

    /// Whether the slow-consumer rule ends an outbox that would have this size.
    fn is_slow(&self, bytes: usize, frames: usize) -> bool {
        if bytes > CROWDED_BYTES && TOTAL.is_over() {
            return true;
        }
        if self.limits.permit(bytes, frames) {
            return false;
        }
        let since = self.over.get().unwrap_or_else(Instant::now);
        self.over.set(Some(since));
        !self.limits.permit(bytes / BURST, frames / BURST) || since.elapsed() > GRACE
    }

    fn is_within(&self, limits: Limits) -> bool {
        limits.permit(self.bytes.get(), self.queue.borrow().len())
    }

    /// The bytes of the queued frames.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.get()
    }

    /// The bytes of the frames that the client was sent, on the wire.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.get()
    }

    /// Whether the outbox is at most half full. Only then are more messages of the client read.
    pub(crate) fn has_room(&self) -> bool {
        self.is_within(Limits {
            bytes: self.limits.bytes / 2,
            frames: self.limits.frames / 2,
        })
    }

    /// Accepts no more frames. The transport still writes those in the queue, then its close frame.
    pub(crate) fn close(&self, reason: CloseReason) {
        if self.closed.get().is_none() {
            self.closed.set(Some(reason));
            self.writer.wake();
        }
    }

    /// The reason, if the outbox is closed.
    pub(crate) fn closed(&self) -> Option<CloseReason> {
        self.closed.get()
    }

    /// Makes the reader stop. The first interrupt counts.
    pub(crate) fn interrupt(&self, interrupt: Interrupt) {
        if self.interrupted.get().is_none() {
            self.interrupted.set(Some(interrupt));
            self.reader.wake();
        }
    }

    /// For the writer: the next frame; `None` once closed and drained.
    pub(crate) fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Option<Frame>> {
        let queued = ready!(self.poll_queued(cx));
        let frame = queued.then(|| self.take()).flatten();
        if let Some(frame) = &frame {
            count(Hot::WebSocketFramesSent, 1);
            count(Hot::WebSocketBytesSent, frame.len() as u64);
        }
        Poll::Ready(frame)
    }

    /// For the writer: `Ready(true)` if a frame is queued, `Ready(false)` once closed and drained.
    pub(crate) fn poll_queued(&self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut queue = self.queue.borrow_mut();
        if !queue.is_empty() {
            return Poll::Ready(true);
        }
        if self.closed.get().is_some() {
            return Poll::Ready(false);
        }
        // Frees the memory of an earlier burst.
        queue.clear();
        self.writer.remember(cx);
        Poll::Pending
    }

    /// For a writer that waits for its stream: ready once the outbox is closed.
    pub(crate) fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        match self.closed.get() {
            Some(reason) => Poll::Ready(reason),
            None => {
                self.writer.remember(cx);
                Poll::Pending
            }
        }
    }

    /// For a writer whose output can be lost: a copy of all queued frames. They stay queued until
    /// [`confirm`](Self::confirm).
    pub(crate) fn peek(&self) -> Vec<Frame> {
        self.queue.borrow().iter().cloned().collect()
    }

    /// Removes frames that have reached the client. After the slow-consumer rule there are none left.
    pub(crate) fn confirm(&self, frames: usize) {
        let mut bytes = 0;
        for frame in (0..frames).map_while(|_| self.take()) {
            count(Hot::LongPollFramesSent, 1);
            bytes += frame.len();
        }
        count(Hot::LongPollBytesSent, bytes as u64);
    }

    /// For a writer that owns its stream: takes the frame if it is whole and the only one in the queue, and
    /// registers for the next. `None` in any other case.
    pub(crate) fn take_lone(&self, cx: &mut Context<'_>) -> Option<Frame> {
        let is_lone = self.queue.borrow().len() == 1 && self.written.get() == 0;
        if !is_lone || self.closed.get().is_some() {
            return None;
        }
        self.writer.remember(cx);
        self.take()
    }

    /// Puts a frame of [`take_lone`](Self::take_lone) back after the stream took `taken` bytes of it. No
    /// other frame may have been queued in between.
    pub(crate) fn put_back(&self, frame: Frame, taken: usize) {
        self.set_bytes(self.bytes.get() + frame.len());
        self.sent.set(self.sent.get() - frame.len() as u64);
        self.written.set(taken);
        self.queue.borrow_mut().push(frame);
    }

    /// For a writer that owns its stream: offers many queued frames at once to `stream`, and removes as
    /// many bytes as it reports. A frame may be written in parts.
    ///
    /// # Errors
    /// If `stream` fails.
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

    /// Removes bytes from the front of the queue. The stream may have taken a part of the first remaining
    /// frame.
    fn remove(&self, bytes: usize) {
        let had_room = self.has_room();
        let mut queue = self.queue.borrow_mut();
        let mut left = bytes;
        while let Some(first) = queue.first().map(Frame::len)
            && left >= first
        {
            left -= first;
            count(Hot::WebSocketFramesSent, 1);
            count(Hot::WebSocketBytesSent, first as u64);
            queue.take_first();
        }
        drop(queue);
        self.written.set(left);
        self.removed(bytes - left, had_room);
    }

    /// Removes the first frame.
    fn take(&self) -> Option<Frame> {
        let had_room = self.has_room();
        let frame = self.queue.borrow_mut().take_first()?;
        self.removed(frame.len(), had_room);
        Some(frame)
    }

    /// Subtracts removed frames, and wakes the reader and replays if there is room again.
    fn removed(&self, bytes: usize, had_room: bool) {
        self.set_bytes(self.bytes.get() - bytes);
        self.sent.set(self.sent.get() + bytes as u64);
        if self.over.get().is_some() && self.is_within(self.limits) {
            self.over.set(None);
        }
        if !had_room && self.has_room() {
            self.reader.wake();
            self.replays.wake();
        }
    }

    /// For the reader: ready when [`has_room`](Self::has_room).
    pub(crate) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.has_room() {
            return Poll::Ready(());
        }
        self.reader.remember(cx);
        Poll::Pending
    }

    /// For a replay: ready when [`has_room`](Self::has_room). Many channels of a connection may wait at
    /// once.
    pub(crate) fn poll_room_for_replay(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.has_room() {
            return Poll::Ready(());
        }
        self.replays.remember(cx);
        Poll::Pending
    }

    /// For the reader: ready with the reason once it must stop.
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

/// The frame for a client of this window.
fn compressed(frame: Frame, window: Window) -> Frame {
    if deflate::is_worthwhile(&frame, window) {
        deflate::deflated(&frame).unwrap_or(frame)
    } else {
        frame
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.set_bytes(0);
    }
}

/// Counts a large outbox, which had `before` bytes and has `after`, in the total.
#[cold]
fn count_crowded(before: usize, after: usize) {
    let beyond = |bytes: usize| bytes.saturating_sub(CROWDED_BYTES);
    SLACK.with(|slack| slack.count(&TOTAL, beyond(before), beyond(after)));
}

#[cfg(test)]
mod tests;
