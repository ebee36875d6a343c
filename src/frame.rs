//! [`Frame`]: one encoded message, ready for any transport and shared by all its receivers.
//!
//! The WebSocket header (RFC 6455 section 5.2) is stored directly before the payload in the same
//! allocation. So a driver that owns its socket writes one slice, and long-poll takes the payload without a
//! copy. Only frames of the server are made here; the transport reads those of clients.

use bytes::{Buf, Bytes};

/// Room before a payload: the longest header of an unmasked frame.
const HEADER_ROOM: usize = 10;

/// The second byte of a frame whose length follows in 16 bits, and in 64.
const LEN_16: u8 = 126;
const LEN_64: u8 = 127;

/// The first bit of a whole message, and that of a compressed one (RFC 7692 section 6).
const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;

/// The kinds of frames that the server sends. It never fragments a message and never pings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opcode {
    /// A UTF-8 message.
    Text = 0x1,
    /// A message of raw bytes.
    Binary = 0x2,
    /// A close frame, the last of a connection.
    Close = 0x8,
    /// The answer to a ping.
    Pong = 0xA,
}

/// One server-to-client frame. Cloning shares the bytes.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    wire: Bytes,
}

impl Frame {
    /// A frame around `payload`, copied once.
    pub(crate) fn new(opcode: Opcode, payload: &[u8]) -> Self {
        let mut builder = FrameBuilder::with_capacity(payload.len());
        builder.buf.extend_from_slice(payload);
        builder.finish(opcode)
    }

    /// A frame of the same kind around `payload`, which is the compressed payload of this one.
    pub(crate) fn deflated(&self, payload: &[u8]) -> Self {
        let mut builder = FrameBuilder::with_capacity(payload.len());
        builder.buf.extend_from_slice(payload);
        builder.finish_with(self.wire[0] | RSV1)
    }

    /// Whether it is a message, and no control frame.
    pub(crate) fn is_data(&self) -> bool {
        const CONTROL: u8 = 0x8;
        self.wire[0] & CONTROL == 0
    }

    /// Header and payload, as written to a TCP stream.
    pub(crate) fn wire(&self) -> &Bytes {
        &self.wire
    }

    /// The payload, which shares the allocation.
    pub(crate) fn payload(&self) -> Bytes {
        let header_len = match self.wire[1] {
            LEN_16 => 4,
            LEN_64 => 10,
            _ => 2,
        };
        self.wire.slice(header_len..)
    }

    /// Bytes on the wire, header included.
    pub(crate) fn len(&self) -> usize {
        self.wire.len()
    }
}

/// Collects a payload after the room for its header, so that framing moves no byte.
pub(crate) struct FrameBuilder {
    pub(crate) buf: Vec<u8>,
}

impl FrameBuilder {
    /// A builder that holds `payload` bytes without growing.
    pub(crate) fn with_capacity(payload: usize) -> Self {
        let mut buf = Vec::with_capacity(HEADER_ROOM + payload);
        buf.resize(HEADER_ROOM, 0);
        Self { buf }
    }

    /// Writes the header into its room.
    pub(crate) fn finish(self, opcode: Opcode) -> Frame {
        self.finish_with(FIN | opcode as u8)
    }

    /// As [`finish`](Self::finish), with this first byte.
    fn finish_with(mut self, first: u8) -> Frame {
        let len = self.buf.len() - HEADER_ROOM;
        let header_len = match len {
            0..=125 => 2,
            126..=0xFFFF => 4,
            _ => 10,
        };
        let start = HEADER_ROOM - header_len;
        self.buf[start] = first;
        match header_len {
            2 => self.buf[start + 1] = len as u8,
            4 => {
                self.buf[start + 1] = LEN_16;
                self.buf[start + 2..HEADER_ROOM].copy_from_slice(&(len as u16).to_be_bytes());
            }
            _ => {
                self.buf[start + 1] = LEN_64;
                self.buf[start + 2..HEADER_ROOM].copy_from_slice(&(len as u64).to_be_bytes());
            }
        }
        let mut wire = Bytes::from(self.buf);
        wire.advance(start);
        Frame { wire }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lengths on both sides of every header size, against the bytes RFC 6455 asks for.
    #[test]
    fn header_grows_with_the_payload() {
        for (len, header) in [
            (0, vec![0x81, 0]),
            (125, vec![0x81, 125]),
            (126, vec![0x81, 126, 0, 126]),
            (0xFFFF, vec![0x81, 126, 0xFF, 0xFF]),
            (0x1_0000, vec![0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let payload = vec![b'x'; len];
            let frame = Frame::new(Opcode::Text, &payload);
            assert_eq!(frame.wire()[..header.len()], header[..], "length {len}");
            assert_eq!(frame.payload(), payload, "length {len}");
            assert_eq!(frame.len(), header.len() + len);
        }
    }
}
