//! From client frames to whole messages. Pure.

use bytes::Bytes;
use bytestring::ByteString;

use super::frame_scanner::{Header, Piece, RefusedFrame, Scanner, opcode};
use super::reader::{MAX_MESSAGE_SIZE, Received};
use crate::deflate::{InflateError, inflate};
use crate::socket::ConnectionEnd;

/// Bytes that are unmasked at once.
const BLOCK: usize = 16;

/// The most bytes to reserve for payload that has not arrived.
const MAX_AHEAD: usize = 4_096;

/// Assembles the frames of one client. Between two messages it holds no memory.
pub(super) struct Decoder {
    scanner: Scanner,
    /// The header of the current frame; `arrived` counts its payload bytes so far.
    frame: Header,
    arrived: u64,
    /// The payload of the incomplete data message.
    message: Vec<u8>,
    is_text: bool,
    is_compressed: bool,
    /// The payload of the incomplete control frame, which may stand between the fragments of a message.
    control: Vec<u8>,
}

impl Decoder {
    /// For frames of at most `max_frame_size` bytes, header included. `inflates`: messages may be compressed.
    pub(super) fn new(max_frame_size: usize, inflates: bool) -> Self {
        Self {
            scanner: Scanner::new(max_frame_size, inflates),
            frame: Header::default(),
            arrived: 0,
            message: Vec::new(),
            is_text: false,
            is_compressed: false,
            control: Vec::new(),
        }
    }

    /// Takes bytes off the front of `input`, up to the end of the next message. `None` if `input` ends
    /// before the message does.
    ///
    /// # Errors
    /// If the client breaks the protocol or a limit, if a text or the reason in a close frame is not UTF-8,
    /// or if a compressed message cannot be inflated. The stream cannot be decoded after an error.
    pub(super) fn decode(&mut self, input: &mut &[u8]) -> Result<Option<Received>, ConnectionEnd> {
        while let Some(piece) = self.scanner.next(input)? {
            match piece {
                Piece::Header(header) => self.begin(header, input.len())?,
                Piece::Payload(payload) => self.unmask(payload),
            }
            if self.arrived == self.frame.payload
                && let Some(received) = self.end()?
            {
                return Ok(Some(received));
            }
        }
        Ok(None)
    }

    /// The number of the incomplete message, if there is one.
    pub(super) fn begun(&self) -> Option<u32> {
        self.scanner.begun()
    }

    /// The memory of the incomplete message, in bytes.
    pub(super) fn kept(&self) -> usize {
        self.message.capacity()
    }

    /// Starts a frame. At most `here` bytes of its payload have arrived.
    fn begin(&mut self, header: Header, here: usize) -> Result<(), RefusedFrame> {
        self.frame = header;
        self.arrived = 0;
        let is_fragment = !header.fin || header.opcode == opcode::CONTINUATION;
        if is_fragment && self.message.len() as u64 + header.payload > MAX_MESSAGE_SIZE as u64 {
            return Err(RefusedFrame::TooBig);
        }
        if matches!(header.opcode, opcode::TEXT | opcode::BINARY) {
            self.is_text = header.opcode == opcode::TEXT;
            self.is_compressed = header.is_compressed;
        }
        let ahead = header.payload.min(here.max(MAX_AHEAD) as u64) as usize;
        self.payload().reserve_exact(ahead);
        Ok(())
    }

    /// The buffer for the payload of the current frame.
    fn payload(&mut self) -> &mut Vec<u8> {
        if self.frame.is_control() {
            &mut self.control
        } else {
            &mut self.message
        }
    }

    fn unmask(&mut self, masked: &[u8]) {
        let mut mask = self.frame.mask;
        mask.rotate_left((self.arrived % 4) as usize);
        self.arrived += masked.len() as u64;
        // Bytes of the payload that are not in the buffer, those of `masked` included.
        let left = self.frame.payload - self.arrived + masked.len() as u64;
        let payload = self.payload();
        let start = payload.len();
        if payload.capacity() - start < masked.len() {
            // Doubles the buffer, but not beyond the end of the frame.
            let more = left.min(start.max(masked.len()) as u64) as usize;
            payload.reserve_exact(more);
        }
        payload.extend_from_slice(masked);
        let key = std::array::from_fn(|at| mask[at % 4]);
        let (blocks, rest) = payload[start..].as_chunks_mut::<BLOCK>();
        blocks.iter_mut().for_each(|block| xor(block, key));
        xor(rest, key);
    }

    /// Ends the current frame. Returns the message that it completes, if any.
    fn end(&mut self) -> Result<Option<Received>, ConnectionEnd> {
        if self.frame.is_control() {
            let payload = Bytes::from(std::mem::take(&mut self.control));
            return Ok(Some(match self.frame.opcode {
                opcode::PING => Received::Ping(payload),
                opcode::PONG => Received::Pong,
                _ => Received::Close(close_code(&payload)?),
            }));
        }
        if !self.frame.fin {
            return Ok(None);
        }
        let mut message = std::mem::take(&mut self.message);
        if self.is_compressed {
            message = self.inflated(&message)?;
        }
        if !self.is_text {
            return Ok(Some(Received::Binary(message.into())));
        }
        let text = String::from_utf8(message).map_err(|_| ConnectionEnd::NotUtf8)?;
        Ok(Some(Received::Text(ByteString::from(text))))
    }

    /// The message in the payload of a compressed one. The limits are those of messages that are not compressed. A
    /// thread inflates one message at a time; then it counts among those in flight, with its inflated size.
    fn inflated(&self, payload: &[u8]) -> Result<Vec<u8>, ConnectionEnd> {
        let is_fragmented = self.frame.opcode == opcode::CONTINUATION;
        let limit = if is_fragmented {
            MAX_MESSAGE_SIZE
        } else {
            self.scanner.max_frame_size()
        };
        inflate(payload, limit).map_err(|error| match error {
            InflateError::Corrupt => ConnectionEnd::Corrupt,
            InflateError::TooBig => ConnectionEnd::TooBig,
        })
    }
}

/// The code of a close frame, if it has one. A UTF-8 reason may follow the code.
fn close_code(payload: &[u8]) -> Result<Option<u16>, ConnectionEnd> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return Ok(None);
    };
    match std::str::from_utf8(reason) {
        Ok(_) => Ok(Some(u16::from_be_bytes(*code))),
        Err(_) => Err(ConnectionEnd::NotUtf8),
    }
}

/// Unmasks a block, or a shorter remainder.
#[inline]
fn xor(bytes: &mut [u8], key: [u8; BLOCK]) {
    for (byte, key) in bytes.iter_mut().zip(key) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use flate2::{Compress, Compression, FlushCompress};
    use proptest::prelude::*;

    use super::*;

    /// The opcode of the first frame of a compressed message.
    const RSV1: u8 = 0x40;

    /// The payload of a compressed message.
    fn deflate(message: &[u8]) -> Vec<u8> {
        let mut output = Vec::with_capacity(message.len() + 1_000);
        let mut deflate = Compress::new(Compression::new(1), false);
        let status = deflate.compress_vec(message, &mut output, FlushCompress::Sync);
        status.expect("memory");
        output.truncate(output.len() - 4);
        output
    }

    /// A frame as a client sends it.
    fn frame(fin: bool, opcode: u8, mask: [u8; 4], payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![u8::from(fin) << 7 | opcode];
        match payload.len() {
            len @ 0..=125 => bytes.push(0x80 | len as u8),
            len @ 126..=0xFFFF => {
                bytes.push(0x80 | 126);
                bytes.extend_from_slice(&(len as u16).to_be_bytes());
            }
            len => {
                bytes.push(0x80 | 127);
                bytes.extend_from_slice(&(len as u64).to_be_bytes());
            }
        }
        bytes.extend_from_slice(&mask);
        let masked = payload.iter().zip(mask.iter().cycle());
        bytes.extend(masked.map(|(byte, mask)| byte ^ mask));
        bytes
    }

    /// The messages of a stream that arrives in these chunks, and the error at its end.
    fn decode<'a>(
        chunks: impl Iterator<Item = &'a [u8]>,
    ) -> (Vec<Received>, Option<ConnectionEnd>) {
        let mut decoder = Decoder::new(1_000_000, true);
        let mut received = Vec::new();
        for mut chunk in chunks {
            loop {
                match decoder.decode(&mut chunk) {
                    Ok(Some(message)) => received.push(message),
                    Ok(None) => break,
                    Err(ending) => return (received, Some(ending)),
                }
            }
            assert!(chunk.is_empty(), "what is left needs more bytes");
        }
        (received, None)
    }

    fn text(text: &str) -> Received {
        Received::Text(text.into())
    }

    #[test]
    fn a_control_frame_may_stand_between_fragments() {
        let stream = [
            frame(false, opcode::TEXT, [1; 4], b"h\xc3"),
            frame(true, opcode::PING, [2; 4], b"are you there"),
            frame(true, opcode::CONTINUATION, [3; 4], b"\xa9!"),
            frame(true, opcode::CLOSE, [4; 4], &[3, 232]),
            frame(true, opcode::CLOSE, [4; 4], b""),
        ]
        .concat();
        let expected = vec![
            Received::Ping(Bytes::from_static(b"are you there")),
            text("h\u{e9}!"),
            Received::Close(Some(1000)),
            Received::Close(None),
        ];
        assert_eq!(decode([&stream[..]].into_iter()), (expected, None));
    }

    #[test]
    fn what_may_not_be_sent_ends_the_stream_after_what_came_before() {
        let whole = frame(true, opcode::TEXT, [9; 4], b"hi");
        for (bad, ending) in [
            (
                frame(true, opcode::TEXT, [0; 4], b"\xff"),
                ConnectionEnd::NotUtf8,
            ),
            (
                frame(true, opcode::CONTINUATION, [0; 4], b""),
                ConnectionEnd::Violation,
            ),
            (frame(true, 3, [0; 4], b""), ConnectionEnd::Violation),
            (frame(true, 0x21, [0; 4], b""), ConnectionEnd::Violation),
            (
                frame(false, opcode::PING, [0; 4], b""),
                ConnectionEnd::Violation,
            ),
            (
                frame(true, opcode::PING, [0; 4], &[0; 126]),
                ConnectionEnd::Violation,
            ),
            (
                frame(true, opcode::CLOSE, [0; 4], b"x"),
                ConnectionEnd::Violation,
            ),
            (
                frame(true, opcode::CLOSE, [0; 4], b"\x03\xe8bye\xff"),
                ConnectionEnd::NotUtf8,
            ),
            (vec![0x81, 2, b'h', b'i'], ConnectionEnd::Violation),
            (
                vec![0x82, 0xFF, 0, 0, 0, 0, 0x40, 0, 0, 0],
                ConnectionEnd::TooBig,
            ),
        ] {
            let stream = [&whole[..], &bad].concat();
            let expected = (vec![text("hi")], Some(ending));
            assert_eq!(decode([&stream[..]].into_iter()), expected, "{bad:?}");
        }
    }

    #[test]
    fn an_inflated_message_has_the_limit_of_one_that_was_not_compressed() {
        let one = |len: usize| frame(true, opcode::BINARY | RSV1, [7; 4], &deflate(&vec![0; len]));
        let two = |len: usize| {
            let payload = deflate(&vec![0; len]);
            let (first, rest) = payload.split_at(payload.len() / 2);
            [
                frame(false, opcode::BINARY | RSV1, [7; 4], first),
                frame(true, opcode::PING, [7; 4], b"between"),
                frame(true, opcode::CONTINUATION, [7; 4], rest),
            ]
            .concat()
        };
        let decoded = |stream: Vec<u8>| {
            let (received, ending) = decode([&stream[..]].into_iter());
            let lens = received.iter().filter_map(|message| match message {
                Received::Binary(bytes) => Some(bytes.len()),
                _ => None,
            });
            (lens.collect::<Vec<_>>(), ending)
        };
        let too_big = (Vec::new(), Some(ConnectionEnd::TooBig));
        assert_eq!(decoded(one(1_000_000)), (vec![1_000_000], None));
        assert_eq!(decoded(one(1_000_001)), too_big);
        assert_eq!(decoded(two(8_000_000)), (vec![8_000_000], None));
        assert_eq!(decoded(two(8_000_001)), too_big);
    }

    #[test]
    fn a_compressed_message_that_is_corrupt_or_no_text_ends_the_stream() {
        for (payload, ending) in [
            (b"no deflate".to_vec(), ConnectionEnd::Corrupt),
            (Vec::new(), ConnectionEnd::Corrupt),
            (deflate(b"\xc3"), ConnectionEnd::NotUtf8),
        ] {
            let stream = frame(true, opcode::TEXT | RSV1, [1; 4], &payload);
            let expected = (Vec::new(), Some(ending));
            assert_eq!(decode([&stream[..]].into_iter()), expected, "{payload:?}");
        }
    }

    #[test]
    fn a_fragmented_message_is_refused_by_the_length_that_it_would_have() {
        let first = frame(false, opcode::BINARY, [0; 4], &vec![0; 900_000]);
        let more = frame(false, opcode::CONTINUATION, [0; 4], &vec![0; 900_000]);
        let fits = [first, more.repeat(7)].concat();
        assert_eq!(decode([&fits[..]].into_iter()), (Vec::new(), None));
        let over = [
            &fits[..],
            &frame(true, 0, [0; 4], &vec![0; 800_001])[..8 + 6],
        ]
        .concat();
        let refused = (Vec::new(), Some(ConnectionEnd::TooBig));
        assert_eq!(decode([&over[..]].into_iter()), refused);
    }

    #[test]
    fn nothing_is_kept_between_messages() {
        let stream = [
            frame(true, opcode::TEXT, [5; 4], &[b'x'; 70_000]),
            frame(true, opcode::PING, [5; 4], b"ping"),
        ]
        .concat();
        let mut decoder = Decoder::new(1_000_000, false);
        let mut input = &stream[..];
        while let Ok(Some(_)) = decoder.decode(&mut input) {}
        assert!(input.is_empty());
        assert_eq!(decoder.message.capacity() + decoder.control.capacity(), 0);
    }

    /// Messages, each in any number of fragments with pings between them.
    fn messages() -> impl Strategy<Value = Vec<(Received, Vec<u8>)>> {
        let payload = prop_oneof![
            ".{0,40}".prop_map(|text| (true, text.into_bytes())),
            prop::collection::vec(any::<u8>(), 0..300).prop_map(|bytes| (false, bytes)),
        ];
        let message = (payload, any::<[u8; 4]>(), 1usize..50, any::<bool>()).prop_map(
            |((is_text, payload), mask, fragment, compressed)| {
                let mut stream = Vec::new();
                let sent = if compressed {
                    deflate(&payload)
                } else {
                    payload.clone()
                };
                let mut parts = sent.chunks(fragment).enumerate().peekable();
                let first = if is_text {
                    opcode::TEXT
                } else {
                    opcode::BINARY
                };
                let first = if compressed { first | RSV1 } else { first };
                if sent.is_empty() {
                    stream = frame(true, first, mask, b"");
                }
                while let Some((index, part)) = parts.next() {
                    let opcode = if index == 0 {
                        first
                    } else {
                        opcode::CONTINUATION
                    };
                    stream.extend(frame(parts.peek().is_none(), opcode, mask, part));
                }
                let message = if is_text {
                    let text = String::from_utf8(payload).expect("it was a text");
                    Received::Text(text.into())
                } else {
                    Received::Binary(payload.into())
                };
                (message, stream)
            },
        );
        prop::collection::vec(message, 0..8)
    }

    proptest! {
        #[test]
        fn messages_come_out_as_they_went_in_however_they_arrive(
            messages in messages(),
            chunk in 1usize..400,
        ) {
            let stream: Vec<u8> = messages.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
            let sent: Vec<Received> = messages.into_iter().map(|(message, _)| message).collect();
            prop_assert_eq!(decode(stream.chunks(chunk)), (sent, None));
        }

        #[test]
        fn any_bytes_are_read_the_same_whatever_the_chunks(
            stream in prop::collection::vec(any::<u8>(), 0..200),
            chunk in 1usize..20,
        ) {
            let whole = decode([&stream[..]].into_iter());
            prop_assert_eq!(decode(stream.chunks(chunk)), whole);
        }
    }
}
