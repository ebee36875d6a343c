//! Parses the headers of a client's frames (RFC 6455 section 5.2) as they arrive, and refuses a bad frame
//! before buffering its payload. Pure; both WebSocket drivers use it.

use crate::socket::ConnectionEnd;

/// Why a frame is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RefusedFrame {
    /// The frame is over the size limit, or the message has too many fragments.
    TooBig,
    /// An empty fragment that is not the last: a message of these could go on for ever.
    EmptyFragment,
    /// The budget for incomplete messages has no room for the message.
    NoRoom,
    /// The header breaks the protocol, by itself or at this place.
    Violation,
}

impl From<RefusedFrame> for ConnectionEnd {
    fn from(refused: RefusedFrame) -> Self {
        match refused {
            RefusedFrame::TooBig => Self::TooBig,
            RefusedFrame::EmptyFragment => Self::EmptyFragment,
            RefusedFrame::NoRoom => Self::NoRoom,
            RefusedFrame::Violation => Self::Violation,
        }
    }
}

/// Opcodes of a client's frames.
pub(super) mod opcode {
    pub(crate) const CONTINUATION: u8 = 0x0;
    pub(crate) const TEXT: u8 = 0x1;
    pub(crate) const BINARY: u8 = 0x2;
    pub(crate) const CLOSE: u8 = 0x8;
    pub(crate) const PING: u8 = 0x9;
    pub(crate) const PONG: u8 = 0xA;
}

/// The longest payload of a control frame.
const MAX_CONTROL: u64 = 125;

/// The header of an accepted frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    /// Whether the frame is the last of its message.
    pub(super) fin: bool,
    pub(super) opcode: u8,
    /// Whether the frame is the first of a compressed message.
    pub(super) is_compressed: bool,
    pub(super) mask: [u8; 4],
    /// Bytes of the payload.
    pub(super) payload: u64,
}

impl Header {
    pub(super) fn is_control(&self) -> bool {
        self.opcode >= opcode::CLOSE
    }
}

/// The next part of the stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// The complete header of an accepted frame.
    Header(Header),
    /// A part of the frame's payload, still masked.
    Payload(&'a [u8]),
}

/// The most fragments of one message.
const MAX_FRAGMENTS: u32 = 65_536;

/// The longest header of a client frame.
const MAX_HEADER: usize = 14;

/// The state of the scan, which chunks may interrupt anywhere.
pub(super) struct Scanner {
    /// The limit for one frame, header included.
    max_frame_size: usize,
    /// Whether messages may be compressed.
    inflates: bool,
    /// Payload bytes of the current frame that are still to come.
    payload_left: u64,
    /// Fragments of the incomplete message so far; 0 between messages.
    fragments: u32,
    /// Whether the current frame is a control frame.
    is_control: bool,
    /// The number of complete messages, modulo 2^32.
    ended: u32,
    /// The first `header_len` bytes of an incomplete header.
    header: [u8; MAX_HEADER],
    header_len: u8,
}

impl Scanner {
    /// The limit for one frame, header included.
    pub(super) fn max_frame_size(&self) -> usize {
        self.max_frame_size
    }

    /// `inflates`: messages may be compressed.
    pub(super) fn new(max_frame_size: usize, inflates: bool) -> Self {
        Self {
            max_frame_size,
            inflates,
            payload_left: 0,
            fragments: 0,
            is_control: false,
            ended: 0,
            header: [0; MAX_HEADER],
            header_len: 0,
        }
    }

    /// Takes the next piece off the front of `input`; `None` once `input` is empty.
    ///
    /// # Errors
    /// If a frame is refused, as soon as its header shows the reason.
    pub(super) fn next<'a>(
        &mut self,
        input: &mut &'a [u8],
    ) -> Result<Option<Piece<'a>>, RefusedFrame> {
        if self.payload_left > 0 && !input.is_empty() {
            let taken = self.payload_left.min(input.len() as u64);
            self.payload_left -= taken;
            self.count();
            let (payload, rest) = input.split_at(taken as usize);
            *input = rest;
            return Ok(Some(Piece::Payload(payload)));
        }
        while let Some((&byte, rest)) = input.split_first() {
            *input = rest;
            self.header[usize::from(self.header_len)] = byte;
            self.header_len += 1;
            let Some((header_len, payload)) = self.lengths() else {
                continue;
            };
            if header_len as u64 + payload > self.max_frame_size as u64 {
                return Err(RefusedFrame::TooBig);
            }
            if usize::from(self.header_len) == header_len {
                let header = self.checked(header_len, payload)?;
                self.header_len = 0;
                self.payload_left = payload;
                self.is_control = header.is_control();
                self.count();
                return Ok(Some(Piece::Header(header)));
            }
        }
        Ok(None)
    }

    /// Counts the current message if it is complete.
    fn count(&mut self) {
        if !self.is_control && self.fragments == 0 && self.payload_left == 0 {
            self.ended = self.ended.wrapping_add(1);
        }
    }

    /// The number of the incomplete message, if there is one.
    pub(super) fn begun(&self) -> Option<u32> {
        let has_begun = self.fragments > 0 || self.payload_left > 0 || self.header_len > 0;
        has_begun.then_some(self.ended)
    }

    /// # Errors
    /// If a frame is refused: the reason, and the number of bytes of `chunk` before that frame (0 if it
    /// began in an earlier chunk).
    #[cfg(test)]
    fn scan(&mut self, chunk: &[u8]) -> Result<(), (RefusedFrame, usize)> {
        let mut input = chunk;
        loop {
            match self.next(&mut input) {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(()),
                Err(refused) => {
                    let at = chunk.len() - input.len();
                    return Err((refused, at.saturating_sub(usize::from(self.header_len))));
                }
            }
        }
    }

    /// Checks a complete header.
    fn checked(&mut self, len: usize, payload: u64) -> Result<Header, RefusedFrame> {
        use opcode::{BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT};
        let [first, second, ..] = self.header;
        let (fin, opcode) = (first & 0x80 != 0, first & 0x0F);
        let reserved = first & 0x70;
        if reserved != 0 && !self.may_be_compressed(reserved, opcode) || second & 0x80 == 0 {
            return Err(RefusedFrame::Violation);
        }
        match (opcode, self.fragments) {
            (CLOSE, _) if payload == 1 => return Err(RefusedFrame::Violation),
            (CLOSE | PING | PONG, _) if fin && payload <= MAX_CONTROL => {}
            (CONTINUATION, 0) | (TEXT | BINARY, 1..) => return Err(RefusedFrame::Violation),
            (CONTINUATION, _) if !fin && payload == 0 => return Err(RefusedFrame::EmptyFragment),
            (CONTINUATION, MAX_FRAGMENTS..) => return Err(RefusedFrame::TooBig),
            (CONTINUATION | TEXT | BINARY, _) if fin => self.fragments = 0,
            (CONTINUATION | TEXT | BINARY, _) => self.fragments += 1,
            _ => return Err(RefusedFrame::Violation),
        }
        let mut mask = [0; 4];
        mask.copy_from_slice(&self.header[len - 4..len]);
        Ok(Header {
            fin,
            opcode,
            is_compressed: reserved != 0,
            mask,
            payload,
        })
    }

    /// Whether the reserved bits are those of a compressed message, at its first frame.
    fn may_be_compressed(&self, reserved: u8, opcode: u8) -> bool {
        const RSV1: u8 = 0x40;
        self.inflates && reserved == RSV1 && matches!(opcode, opcode::TEXT | opcode::BINARY)
    }

    /// Lengths of the current header and of the payload that it declares, once both are known.
    fn lengths(&self) -> Option<(usize, u64)> {
        let header = &self.header[..usize::from(self.header_len)];
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
        // As in Phoenix: with a limit of 1,000 a payload of 992 bytes passes and one of 993 does not.
        assert_eq!(Scanner::new(1_000, false).scan(&frame(992)), Ok(()));
        assert_eq!(
            Scanner::new(1_000, false).scan(&frame(993)),
            Err((RefusedFrame::TooBig, 0))
        );
    }

    #[test]
    fn a_lying_header_is_refused_before_any_payload() {
        let header = [0x82, 0xFF, 0, 0, 0, 0, 0x40, 0, 0, 0];
        assert_eq!(
            Scanner::new(10_000_000, false).scan(&header),
            Err((RefusedFrame::TooBig, 0))
        );
        let header = [0x82, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF];
        assert_eq!(
            Scanner::new(10_000_000, false).scan(&header),
            Err((RefusedFrame::TooBig, 0))
        );
    }

    #[test]
    fn frames_before_the_refused_one_pass_whatever_the_chunks() {
        let mut stream = [frame(5), frame(0), frame(300), frame(70_000)].concat();
        let good = stream.len();
        stream.extend(frame(80_000));
        for chunk_len in [1, 2, 3, 7, 1_000, stream.len()] {
            let mut scanner = Scanner::new(75_000, false);
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
        let mut scanner = Scanner::new(1_000, false);
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
            Scanner::new(1_000, false).scan(&more),
            Err((RefusedFrame::Violation, 0))
        );
        let mut scanner = Scanner::new(1_000, false);
        assert_eq!(scanner.scan(&[&first[..], &ping, &more].concat()), Ok(()));
        assert_eq!(scanner.scan(&whole), Err((RefusedFrame::Violation, 0)));
    }

    #[test]
    fn only_the_first_frame_of_a_message_may_be_compressed_and_only_where_that_was_agreed() {
        const FRAME: [u8; 5] = [0x80, 0, 0, 0, 0];
        let scan = |inflates, firsts: &[u8]| {
            let frames = firsts.iter().map(|first| [&[*first][..], &FRAME].concat());
            Scanner::new(1_000, inflates).scan(&frames.collect::<Vec<_>>().concat())
        };
        let refused = |at| Err((RefusedFrame::Violation, at));
        assert_eq!(scan(true, &[0xC1, 0xC2, 0x81, 0x41, 0x80]), Ok(()));
        assert_eq!(scan(false, &[0xC1]), refused(0));
        // A continuation, control frames, and the other reserved bits.
        assert_eq!(scan(true, &[0x41, 0xC0]), refused(6));
        assert_eq!(scan(true, &[0x01, 0xC0]), refused(6));
        for first in [0xC8, 0xC9, 0xCA, 0xA1, 0x91, 0xE1, 0xD1, 0xF1] {
            assert_eq!(scan(true, &[first]), refused(0), "{first:x}");
        }
    }

    #[test]
    fn a_message_has_a_bounded_number_of_fragments() {
        let first = [0x01, 0x81, 0, 0, 0, 0, b'['];
        let more = [0x00, 0x81, 0, 0, 0, 0, b'['];
        let mut scanner = Scanner::new(1_000, false);
        assert_eq!(scanner.scan(&first), Ok(()));
        assert_eq!(
            scanner.scan(&more.repeat(MAX_FRAGMENTS as usize - 1)),
            Ok(())
        );
        assert_eq!(scanner.scan(&more), Err((RefusedFrame::TooBig, 0)));
    }
}
