//! DEFLATE for what clients are sent and send: messages of `permessage-deflate` (RFC 7692), and gzip for answers to
//! polls. It knows neither handshakes nor headers of HTTP.
//!
//! A thread has one compressor and one decompressor, which forget each message: no connection has memory for
//! compression. So all receivers of a broadcast can share its compressed frame, and the length of a message shows
//! nothing of the messages before it.

use std::cell::RefCell;
use std::time::Duration;

use flate2::{Compress, Compression, Crc, Decompress, FlushCompress, FlushDecompress, Status};

use crate::frame::Frame;
use crate::metrics::{Hot, count};
use crate::rate::{self, Bucket, Rate};

/// Shorter messages are sent as they are: they would shrink by little.
pub(crate) const WORTHWHILE: usize = 512;

/// The bytes that a thread compresses: a fifth of its time. Without this bound a client that asks for long replies, such as
/// histories, could keep the thread busy, because the short compressed replies never fill its outbox.
const BYTES_PER_SECOND: u32 = 16_000_000;
const RATE: Rate = Rate::new(BYTES_PER_SECOND, BYTES_PER_SECOND);
/// A message costs as much time as its bytes and these.
const OVERHEAD: usize = 500;

/// The end of each flushed message, which is not sent.
const FLUSHED: [u8; 4] = [0, 0, 0xFF, 0xFF];
/// [`FLUSHED`] and an empty final block: inflating ends exactly here, unless the message was truncated.
const TAIL: [u8; 6] = [0, 0, 0xFF, 0xFF, 3, 0];
/// The fastest level with Huffman codes made for the message. A kilobyte of prose becomes 59 %, and no level makes it
/// less than 58.8 %; with level 1 it is 79 %.
const LEVEL: u32 = 2;
/// The most final blocks in one message. Each makes the decompressor start again.
const MAX_FINAL_BLOCKS: usize = 64;
/// The least memory for an inflated message at first.
const FIRST_ROOM: usize = 1_024;
/// A larger buffer of the compressor is freed after the message.
const KEPT_BUFFER: usize = 65_536;

thread_local! {
    static COMPRESSOR: RefCell<Compressor> = RefCell::new(Compressor {
        deflate: Compress::new(Compression::new(LEVEL), false),
        output: Vec::new(),
        spent: Bucket::default(),
    });
    static DECOMPRESSOR: RefCell<Decompress> = RefCell::new(Decompress::new(false));
}

/// The window in which a client inflates messages, as an exponent of 2: 8 to 15.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window(u8);

impl Window {
    /// The largest, in which any message can be inflated.
    pub(crate) const MAX: Self = Self(15);

    /// The window of a parameter's value, which has no leading zero.
    pub(crate) fn parse(value: &str) -> Option<Self> {
        let bits = value.parse().ok()?;
        let is_plain = !value.starts_with(['0', '+']);
        (is_plain && (8..=15).contains(&bits)).then_some(Self(bits))
    }

    /// Its exponent.
    pub(crate) fn bits(self) -> u8 {
        self.0
    }

    /// Whether a message of this length can be compressed for the client. All messages are compressed in the largest
    /// window, so that receivers can share them. No distance in a message is longer than the message.
    fn fits(self, len: usize) -> bool {
        self == Self::MAX || len <= 1 << self.0
    }
}

/// Whether a frame is compressed for a client of this window, if that makes it shorter.
pub(crate) fn is_worthwhile(frame: &Frame, window: Window) -> bool {
    // The length of the frame stands for that of the payload, which is up to 10 bytes shorter.
    frame.len() >= WORTHWHILE && window.fits(frame.len()) && frame.is_data()
}

/// The same message in a compressed frame; `None` if that is no shorter, or the thread has compressed too much.
pub(crate) fn deflated(frame: &Frame) -> Option<Frame> {
    let payload = frame.payload();
    let deflated = COMPRESSOR.with_borrow_mut(|compressor| {
        let output = compressor.run(&payload)?;
        let message = output.strip_suffix(&FLUSHED)?;
        (message.len() < payload.len()).then(|| frame.deflated(message))
    });
    count_compressed(frame.len(), deflated.as_ref().map(Frame::len));
    deflated
}

/// A body in the format of gzip; `None` if that is no shorter, or the thread has compressed too much. The body ends with
/// `secret`, which is not compressed, so that the length does not show whether the text before it has the same letters.
pub(crate) fn gzip(text: &[u8], secret: &[u8]) -> Option<Vec<u8>> {
    // No time, no name, the fastest method, an unknown system.
    const HEAD: [u8; 10] = [0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 4, 0xFF];
    /// The final block, whose bytes are stored as they are.
    const STORED: [u8; 1] = [1];
    let stored = u16::try_from(secret.len()).ok()?;
    let mut crc = Crc::new();
    crc.update(text);
    crc.update(secret);
    let len = text.len() + secret.len();
    let zipped = COMPRESSOR.with_borrow_mut(|compressor| {
        let parts = [
            &HEAD[..],
            compressor.run(text)?,
            &STORED,
            &stored.to_le_bytes(),
            &(!stored).to_le_bytes(),
            secret,
            &crc.sum().to_le_bytes(),
            &(len as u32).to_le_bytes(),
        ];
        Some(parts.concat()).filter(|zipped| zipped.len() < len)
    });
    count_compressed(len, zipped.as_ref().map(Vec::len));
    zipped
}

fn count_compressed(before: usize, after: Option<usize>) {
    count(Hot::CompressionInput, before as u64);
    count(Hot::CompressionOutput, after.unwrap_or(before) as u64);
}

/// One thread's compressor.
struct Compressor {
    deflate: Compress,
    output: Vec<u8>,
    /// What it has compressed of late.
    spent: Bucket,
}

impl Compressor {
    /// Whether a message of this length may be compressed at this time. Then it counts.
    fn may_compress(&mut self, len: usize, now: Duration) -> bool {
        let cost = (len + OVERHEAD) as u64;
        self.spent.take(RATE, cost, now).is_ok()
    }

    /// Compresses a whole message, up to [`FLUSHED`]. `None` if the result would be longer than the message, or too much was compressed.
    fn run(&mut self, message: &[u8]) -> Option<&[u8]> {
        if !self.may_compress(message.len(), rate::now()) {
            return None;
        }
        if self.output.capacity() > KEPT_BUFFER {
            self.output = Vec::new();
        }
        self.output.clear();
        self.output.reserve(message.len() + FLUSHED.len());
        self.deflate.reset();
        let status = self
            .deflate
            .compress_vec(message, &mut self.output, FlushCompress::Sync)
            .ok()?;
        let has_room = self.output.len() < self.output.capacity();
        let is_whole = self.deflate.total_in() == message.len() as u64;
        (status == Status::Ok && has_room && is_whole).then_some(&self.output)
    }
}

/// Why a message of a client cannot be inflated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InflateError {
    /// It is no compressed message, or not a whole one.
    Corrupt,
    /// It would be longer than the limit.
    TooBig,
}

/// Inflates the payload of a whole compressed message. Takes memory for at most `limit` bytes and one, and stops there.
///
/// # Errors
/// If the payload is corrupt or truncated, or if the message is longer than `limit`.
pub(crate) fn inflate(payload: &[u8], limit: usize) -> Result<Vec<u8>, InflateError> {
    DECOMPRESSOR.with_borrow_mut(|decompressor| {
        decompressor.reset(false);
        let first = payload.len().saturating_mul(3).max(FIRST_ROOM);
        let mut inflating = Inflating {
            decompressor,
            message: Vec::with_capacity(first.min(limit.saturating_add(1))),
            limit,
            final_blocks: 0,
        };
        if inflating.run(payload)? != End::Final && inflating.run(&TAIL)? != End::Final {
            return Err(InflateError::Corrupt);
        }
        let mut message = inflating.message;
        message.shrink_to_fit();
        Ok(message)
    })
}

/// How far a part of the input has led.
#[derive(PartialEq, Eq)]
enum End {
    /// Its last byte ends a final block.
    Final,
    /// More must follow.
    Open,
}

struct Inflating<'a> {
    decompressor: &'a mut Decompress,
    message: Vec<u8>,
    limit: usize,
    final_blocks: usize,
}

impl Inflating<'_> {
    /// Inflates a part of the input. Behind a final block a new stream begins (RFC 7692 section 7.2.3.4).
    fn run(&mut self, mut input: &[u8]) -> Result<End, InflateError> {
        loop {
            self.make_room()?;
            let before = self.decompressor.total_in();
            let status = self
                .decompressor
                .decompress_vec(input, &mut self.message, FlushDecompress::None)
                .map_err(|_| InflateError::Corrupt)?;
            let taken = self.decompressor.total_in() - before;
            input = &input[taken as usize..];
            let has_room = self.message.len() < self.message.capacity();
            match status {
                _ if self.message.len() > self.limit => return Err(InflateError::TooBig),
                Status::StreamEnd if input.is_empty() => return Ok(End::Final),
                Status::StreamEnd if self.final_blocks < MAX_FINAL_BLOCKS => {
                    self.final_blocks += 1;
                    self.decompressor.reset(false);
                }
                Status::StreamEnd => return Err(InflateError::Corrupt),
                Status::Ok | Status::BufError if !has_room => {}
                Status::Ok | Status::BufError if input.is_empty() => return Ok(End::Open),
                Status::Ok if taken > 0 => {}
                Status::Ok | Status::BufError => return Err(InflateError::Corrupt),
            }
        }
    }

    /// Doubles a full buffer, up to the limit and one byte that shows that the message is longer.
    fn make_room(&mut self) -> Result<(), InflateError> {
        let len = self.message.len();
        if len < self.message.capacity() {
            return Ok(());
        }
        let left = self.limit.saturating_add(1).saturating_sub(len);
        if left == 0 {
            return Err(InflateError::TooBig);
        }
        self.message.reserve_exact(len.max(FIRST_ROOM).min(left));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
