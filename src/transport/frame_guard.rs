//! Refuses a frame by its declared length, before it is buffered.
//!
//! actix-http compares a frame with its limit only once the whole frame has arrived, so a client
//! could make the server keep whatever it declares. The guard stands in front of that parser and
//! walks the frame headers (RFC 6455 section 5.2); it ends the stream at the first header that is
//! over the limit. It sees every byte, so it also tells when the client was last heard.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use actix_web::error::PayloadError;
use actix_web::web::Bytes;
use futures_core::Stream;

use crate::socket::Activity;

/// What the guard found, for the reader behind the parser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RefusedFrame {
    /// A frame over the limit.
    TooBig,
    /// A fragment without content that is not the last: an endless message of nothing.
    EmptyFragment,
    /// A new message inside a fragmented one, or a continuation of none.
    OutOfPlace,
}

/// The body of an upgraded request, with its frames bounded.
pub(super) struct FrameGuard<S> {
    body: S,
    scanner: Scanner,
    activity: Rc<Activity>,
    refused: Rc<Cell<Option<RefusedFrame>>>,
}

impl<S> FrameGuard<S> {
    /// Frames of `body` may have `max_frame_size` bytes, header included. What is refused is
    /// written to `refused`.
    pub(super) fn new(
        body: S,
        max_frame_size: usize,
        activity: Rc<Activity>,
        refused: Rc<Cell<Option<RefusedFrame>>>,
    ) -> Self {
        Self {
            body,
            scanner: Scanner::new(max_frame_size),
            activity,
            refused,
        }
    }
}

impl<S: Stream<Item = Result<Bytes, PayloadError>> + Unpin> Stream for FrameGuard<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.refused.get().is_some() {
            return Poll::Ready(None);
        }
        let Some(mut chunk) = ready!(Pin::new(&mut self.body).poll_next(cx)).transpose()? else {
            return Poll::Ready(None);
        };
        self.activity.touch();
        match self.scanner.scan(&chunk) {
            Ok(()) => Poll::Ready(Some(Ok(chunk))),
            Err((refusal, at)) => {
                self.refused.set(Some(refusal));
                chunk.truncate(at);
                Poll::Ready(Some(Ok(chunk)))
            }
        }
    }
}

/// Fragments of one message: each is kept apart until the last has come.
const MAX_FRAGMENTS: usize = 65_536;

/// The longest header of a client frame.
const MAX_HEADER: usize = 14;

/// Walks frame headers across chunks.
struct Scanner {
    max_frame_size: usize,
    /// The header that has begun, as far as it has arrived.
    header: [u8; MAX_HEADER],
    header_len: usize,
    /// Payload bytes of the current frame that are still to come.
    payload_left: u64,
    /// Fragments of the message that has begun; 0 between messages.
    fragments: usize,
}

impl Scanner {
    fn new(max_frame_size: usize) -> Self {
        Self {
            max_frame_size,
            header: [0; MAX_HEADER],
            header_len: 0,
            payload_left: 0,
            fragments: 0,
        }
    }

    /// # Errors
    /// What is refused, and how many bytes of `chunk` stand before that frame (none, where it
    /// began in an earlier chunk).
    fn scan(&mut self, chunk: &[u8]) -> Result<(), (RefusedFrame, usize)> {
        let mut at = 0;
        while at < chunk.len() {
            if self.payload_left > 0 {
                let left = (chunk.len() - at) as u64;
                let skipped = left.min(self.payload_left);
                self.payload_left -= skipped;
                at += skipped as usize;
                continue;
            }
            self.header[self.header_len] = chunk[at];
            self.header_len += 1;
            at += 1;
            let Some((header, payload)) = self.lengths() else {
                continue;
            };
            let start = at.saturating_sub(self.header_len);
            if header as u64 + payload > self.max_frame_size as u64 {
                return Err((RefusedFrame::TooBig, start));
            }
            if self.header_len < header {
                continue;
            }
            self.place(payload).map_err(|refused| (refused, start))?;
            self.header_len = 0;
            self.payload_left = payload;
        }
        Ok(())
    }

    /// Checks the place of the frame whose header is complete in its message.
    fn place(&mut self, payload: u64) -> Result<(), RefusedFrame> {
        let (fin, opcode) = (self.header[0] & 0x80 != 0, self.header[0] & 0x0F);
        match (opcode, self.fragments) {
            (0, 0) | (1 | 2, 1..) => return Err(RefusedFrame::OutOfPlace),
            (0, _) if !fin && payload == 0 => return Err(RefusedFrame::EmptyFragment),
            (0, MAX_FRAGMENTS..) => return Err(RefusedFrame::TooBig),
            (0..=2, _) if fin => self.fragments = 0,
            (0..=2, _) => self.fragments += 1,
            // Control frames may stand anywhere, and others are the parser's to refuse.
            _ => {}
        }
        Ok(())
    }

    /// Length of the current header and of the payload that it declares, once they are known.
    fn lengths(&self) -> Option<(usize, u64)> {
        let header = &self.header[..self.header_len];
        let [_, second, extended @ ..] = header else {
            return None;
        };
        let mask = if second & 0x80 == 0 { 0 } else { 4 };
        match second & 0x7F {
            126 => {
                let (len, _) = extended.split_first_chunk::<2>()?;
                Some((4 + mask, u64::from(u16::from_be_bytes(*len))))
            }
            127 => {
                let (len, _) = extended.split_first_chunk::<8>()?;
                Some((10 + mask, u64::from_be_bytes(*len).min(u64::MAX / 2)))
            }
            len => Some((2 + mask, u64::from(len))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A masked text frame with `len` bytes of payload.
    fn frame(len: usize) -> Vec<u8> {
        let mut bytes = vec![0x81];
        match len {
            0..=125 => bytes.push(0x80 | len as u8),
            126..=0xFFFF => {
                bytes.push(0x80 | 126);
                bytes.extend_from_slice(&(len as u16).to_be_bytes());
            }
            _ => {
                bytes.push(0x80 | 127);
                bytes.extend_from_slice(&(len as u64).to_be_bytes());
            }
        }
        bytes.extend_from_slice(&[1, 2, 3, 4]);
        bytes.resize(bytes.len() + len, b'x');
        bytes
    }

    /// Requirement 48.
    #[test]
    fn the_limit_counts_the_header() {
        // As Phoenix: with a limit of 1,000 a payload of 992 bytes passes and 993 does not.
        assert_eq!(Scanner::new(1_000).scan(&frame(992)), Ok(()));
        assert_eq!(
            Scanner::new(1_000).scan(&frame(993)),
            Err((RefusedFrame::TooBig, 0))
        );
    }

    #[test]
    fn a_lying_header_is_refused_before_any_payload() {
        let header = [0x82, 0xFF, 0, 0, 0, 0, 0x40, 0, 0, 0];
        assert_eq!(
            Scanner::new(10_000_000).scan(&header),
            Err((RefusedFrame::TooBig, 0))
        );
        let header = [0x82, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF];
        assert_eq!(
            Scanner::new(10_000_000).scan(&header),
            Err((RefusedFrame::TooBig, 0))
        );
    }

    #[test]
    fn frames_before_the_refused_one_pass_whatever_the_chunks() {
        let mut stream = [frame(5), frame(0), frame(300), frame(70_000)].concat();
        let good = stream.len();
        stream.extend(frame(80_000));
        for chunk_len in [1, 2, 3, 7, 1_000, stream.len()] {
            let mut scanner = Scanner::new(75_000);
            let mut passed = 0;
            let refused = stream
                .chunks(chunk_len)
                .find_map(|chunk| match scanner.scan(chunk) {
                    Ok(()) => {
                        passed += chunk.len();
                        None
                    }
                    Err((refusal, at)) => Some((refusal, passed + at)),
                });
            let (refusal, at) = refused.expect("the last frame is over the limit");
            assert_eq!(refusal, RefusedFrame::TooBig);
            assert!(
                (good..good + 14).contains(&at),
                "chunks of {chunk_len}: {at}"
            );
        }
    }

    #[test]
    fn an_empty_fragment_is_refused_and_an_empty_message_is_not() {
        let first = [0x01, 0x81, 0, 0, 0, 0, b'['];
        let empty = [0x00, 0x80, 0, 0, 0, 0];
        let last = [0x80, 0x80, 0, 0, 0, 0];
        let mut scanner = Scanner::new(1_000);
        assert_eq!(scanner.scan(&first), Ok(()));
        assert_eq!(scanner.scan(&last), Ok(()));
        assert_eq!(scanner.scan(&first), Ok(()));
        assert_eq!(scanner.scan(&empty), Err((RefusedFrame::EmptyFragment, 0)));
    }

    /// Requirement 46.
    #[test]
    fn frames_out_of_their_place_are_refused() {
        let first = [0x01, 0x81, 0, 0, 0, 0, b'['];
        let ping = [0x89, 0x80, 0, 0, 0, 0];
        let more = [0x00, 0x81, 0, 0, 0, 0, b'['];
        let whole = [0x81, 0x80, 0, 0, 0, 0];
        assert_eq!(
            Scanner::new(1_000).scan(&more),
            Err((RefusedFrame::OutOfPlace, 0))
        );
        let mut scanner = Scanner::new(1_000);
        assert_eq!(scanner.scan(&[&first[..], &ping, &more].concat()), Ok(()));
        assert_eq!(scanner.scan(&whole), Err((RefusedFrame::OutOfPlace, 0)));
    }

    #[test]
    fn a_message_has_a_bounded_number_of_fragments() {
        let first = [0x01, 0x81, 0, 0, 0, 0, b'['];
        let more = [0x00, 0x81, 0, 0, 0, 0, b'['];
        let mut scanner = Scanner::new(1_000);
        assert_eq!(scanner.scan(&first), Ok(()));
        assert_eq!(scanner.scan(&more.repeat(MAX_FRAGMENTS - 1)), Ok(()));
        assert_eq!(scanner.scan(&more), Err((RefusedFrame::TooBig, 0)));
    }
}
