//! [`Arrived`]: from the bytes of a client to whole messages. Both WebSocket drivers give it the bytes that
//! they read, so both accept and refuse the same. Nothing that follows a protocol violation is handled.

use std::rc::Rc;

use bytes::{Buf, Bytes};

use super::decoder::Decoder;
use super::frame_scanner::RefusedFrame;
use super::reader::Received;
use super::unfinished::Unfinished;
use crate::socket::{Activity, ConnectionEnd};

/// The bytes of one client that are not decoded yet.
pub(super) struct Arrived {
    decoder: Decoder,
    /// The bytes after the last decoded message: usually none.
    rest: Bytes,
    unfinished: Unfinished,
    activity: Rc<Activity>,
}

impl Arrived {
    /// `rest` holds the bytes that arrived with the handshake. A frame may have `max_frame_size` bytes,
    /// header included. `inflates`: messages may be compressed.
    pub(super) fn new(
        rest: Bytes,
        max_frame_size: usize,
        inflates: bool,
        activity: Rc<Activity>,
    ) -> Self {
        Self {
            decoder: Decoder::new(max_frame_size, inflates),
            rest,
            unfinished: Unfinished::new(),
            activity,
        }
    }

    /// Whether [`next`](Self::next) has bytes to decode without a read.
    pub(super) fn has_rest(&self) -> bool {
        !self.rest.is_empty()
    }

    /// Stores the bytes of a read, and counts them as a sign of life from the client.
    pub(super) fn keep(&mut self, read: Bytes) {
        self.activity.touch();
        self.rest = read;
    }

    /// Decodes the next message from the stored bytes; `None` if it is not complete.
    ///
    /// # Errors
    /// If [`Decoder::decode`] fails, or if the budget has no room for the incomplete message.
    pub(super) fn next(&mut self) -> Result<Option<Received>, ConnectionEnd> {
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

    /// Does the work of [`keep`](Self::keep) and [`next`](Self::next) on a borrowed buffer: copies only the
    /// bytes after the first message.
    pub(super) fn next_of(&mut self, mut read: &[u8]) -> Result<Option<Received>, ConnectionEnd> {
        self.activity.touch();
        let decoded = self.decoder.decode(&mut read);
        if !read.is_empty() {
            self.rest = Bytes::copy_from_slice(read);
        }
        self.note(decoded)
    }

    fn note(
        &mut self,
        decoded: Result<Option<Received>, ConnectionEnd>,
    ) -> Result<Option<Received>, ConnectionEnd> {
        let (begun, kept) = (self.decoder.begun(), self.decoder.kept());
        match self.unfinished.note(begun, kept, &self.activity) {
            Ok(()) => decoded,
            Err(no_room) => Err(RefusedFrame::from(no_room).into()),
        }
    }
}
