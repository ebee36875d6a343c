//! [`Arrived`]: what a client has sent, as whole messages. Both WebSocket drivers give it what they
//! read, so both take and refuse the same, and nothing behind a violation is handled.

use std::rc::Rc;

use bytes::{Buf, Bytes};

use super::decoder::Decoder;
use super::frame_scanner::RefusedFrame;
use super::reader::Received;
use super::unfinished::Unfinished;
use crate::socket::{Activity, Ending};

/// The bytes of one client that are not handled yet.
pub(super) struct Arrived {
    decoder: Decoder,
    /// What stands behind the message that was taken last: mostly nothing.
    rest: Bytes,
    unfinished: Unfinished,
    activity: Rc<Activity>,
}

impl Arrived {
    /// `rest` has arrived before. A frame may have `max_frame_size` bytes, header included.
    pub(super) fn new(rest: Bytes, max_frame_size: usize, activity: Rc<Activity>) -> Self {
        Self {
            decoder: Decoder::new(max_frame_size),
            rest,
            unfinished: Unfinished::new(Rc::clone(&activity)),
            activity,
        }
    }

    /// Whether there is something to [`next`](Self::next) without a read.
    pub(super) fn has_rest(&self) -> bool {
        !self.rest.is_empty()
    }

    /// Notes that the client was heard, and keeps what was read.
    pub(super) fn keep(&mut self, read: Bytes) {
        self.activity.touch();
        self.rest = read;
    }

    /// The next message of what is kept; `None` when it takes more.
    ///
    /// # Errors
    /// As [`Decoder::decode`]; also when there is no room for the message that has begun.
    pub(super) fn next(&mut self) -> Result<Option<Received>, Ending> {
        let mut input = &self.rest[..];
        let decoded = self.decoder.decode(&mut input);
        let taken = self.rest.len() - input.len();
        if input.is_empty() {
            self.rest = Bytes::new();
        } else {
            self.rest.advance(taken);
        }
        self.note(decoded)
    }

    /// As [`keep`](Self::keep) and [`next`](Self::next), of a buffer that is somebody else's: only
    /// what stands behind the first message is copied.
    pub(super) fn next_of(&mut self, mut read: &[u8]) -> Result<Option<Received>, Ending> {
        self.activity.touch();
        let decoded = self.decoder.decode(&mut read);
        if !read.is_empty() {
            self.rest = Bytes::copy_from_slice(read);
        }
        self.note(decoded)
    }

    fn note(
        &mut self,
        decoded: Result<Option<Received>, Ending>,
    ) -> Result<Option<Received>, Ending> {
        let (begun, kept) = (self.decoder.begun(), self.decoder.kept());
        match self.unfinished.note(begun, kept) {
            Ok(()) => decoded,
            Err(no_room) => Err(RefusedFrame::from(no_room).into()),
        }
    }
}
