//! [`Record`]: a row as bytes. A header has the length and two checksums, and the body follows.
//!
//! ```text
//! header  marker (4) | length of the body (4) | CRC32 of the body (4) | CRC32 of these 12 bytes (4)
//! body    flags (1) | seq (8) | at (8) | [target (8)] | topic | event | [client_ref] | payload
//! ```
//! Numbers are little-endian. A text is its length (4) and its bytes; the payload is the rest. The header has a
//! checksum of its own, so the length is known even if the body is damaged. The first and the last byte of the marker
//! occur in no UTF-8 text, so no payload looks like a record.

use super::AppendError;
use crate::log::{Change, Seq};

/// The first bytes of a record.
pub(super) const MARKER: [u8; 4] = [0xFF, b'r', b'w', 0xFE];
/// Bytes of a record's header.
pub(super) const HEADER: usize = 16;
/// The longest body.
pub(super) const MAX_BODY: usize = 64 << 20;

const UPDATE: u8 = 1;
const DELETE: u8 = 2;
const CLIENT_REF: u8 = 4;

/// A row in the spool: borrowed texts for writing, owned ones for reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<S = String> {
    /// Its topic.
    pub topic: S,
    /// Its place in the topic. Topic and seq are unique, so a row that is replayed twice is stored once.
    pub seq: Seq,
    /// Its event.
    pub event: S,
    /// The payload: the text of a JSON object.
    pub payload: S,
    /// The client's own name for it. A retry has the same.
    pub client_ref: Option<S>,
    /// The change that it makes to an earlier row.
    pub change: Option<Change>,
    /// When it was published: microseconds since 1970 in UTC.
    pub at_micros: i64,
}

impl<S: AsRef<str>> Record<S> {
    /// Writes header and body into `out`, in place of its content.
    pub(super) fn encode(&self, out: &mut Vec<u8>) -> Result<(), AppendError> {
        out.clear();
        let texts = [&self.topic, &self.event, &self.payload];
        let texts = texts.into_iter().chain(&self.client_ref);
        let bytes: usize = texts.map(|text| text.as_ref().len()).sum();
        // Flags, numbers and lengths take far less than 64 bytes. So each length fits its four bytes.
        if bytes + 64 > MAX_BODY {
            return Err(AppendError::TooLarge { bytes });
        }
        let (change, target) = match self.change {
            None => (0, None),
            Some(Change::Update { target }) => (UPDATE, Some(target)),
            Some(Change::Delete { target }) => (DELETE, Some(target)),
        };
        let client_ref = self.client_ref.as_ref().map_or(0, |_| CLIENT_REF);
        out.extend_from_slice(&[0; HEADER]);
        out.push(change | client_ref);
        out.extend_from_slice(&self.seq.get().to_le_bytes());
        out.extend_from_slice(&self.at_micros.to_le_bytes());
        if let Some(target) = target {
            out.extend_from_slice(&target.get().to_le_bytes());
        }
        put_text(out, self.topic.as_ref());
        put_text(out, self.event.as_ref());
        if let Some(client_ref) = &self.client_ref {
            put_text(out, client_ref.as_ref());
        }
        out.extend_from_slice(self.payload.as_ref().as_bytes());
        let header = RecordHeader::of(&out[HEADER..]).to_bytes();
        out[..HEADER].copy_from_slice(&header);
        Ok(())
    }
}

impl Record {
    /// `None` if the body is no record, which its checksum makes nearly impossible.
    pub(super) fn decode(body: &[u8]) -> Option<Self> {
        let rest = &mut &*body;
        let [flags] = take(rest)?;
        let seq = Seq::new(i64::from_le_bytes(take(rest)?));
        let at_micros = i64::from_le_bytes(take(rest)?);
        let change = match flags & !CLIENT_REF {
            0 => None,
            UPDATE => Some(Change::Update {
                target: Seq::new(i64::from_le_bytes(take(rest)?)),
            }),
            DELETE => Some(Change::Delete {
                target: Seq::new(i64::from_le_bytes(take(rest)?)),
            }),
            _ => return None,
        };
        let (topic, event) = (take_text(rest)?, take_text(rest)?);
        let client_ref = match flags & CLIENT_REF {
            0 => None,
            _ => Some(take_text(rest)?),
        };
        Some(Self {
            topic,
            seq,
            event,
            payload: std::str::from_utf8(rest).ok()?.to_owned(),
            client_ref,
            change,
            at_micros,
        })
    }

    /// The bytes of its texts, for the limit of a peek.
    pub(super) fn text_bytes(&self) -> usize {
        let client_ref = self.client_ref.as_ref().map_or(0, String::len);
        self.topic.len() + self.event.len() + self.payload.len() + client_ref
    }
}

/// The length and the checksum of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordHeader {
    body_crc: u32,
    body_len: u32,
}

impl RecordHeader {
    fn of(body: &[u8]) -> Self {
        Self {
            body_crc: crc32fast::hash(body),
            body_len: u32::try_from(body.len()).expect("a body is at most MAX_BODY bytes"),
        }
    }

    fn to_bytes(self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..4].copy_from_slice(&MARKER);
        bytes[4..8].copy_from_slice(&self.body_len.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.body_crc.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..12]);
        bytes[12..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// `None` if no record begins here.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let rest = &mut &*bytes;
        let _marker: [u8; 4] = take(rest)?;
        let header = Self {
            body_len: u32::from_le_bytes(take(rest)?),
            body_crc: u32::from_le_bytes(take(rest)?),
        };
        let whole = bytes.starts_with(&header.to_bytes()) && header.body_len() <= MAX_BODY;
        whole.then_some(header)
    }

    pub(super) fn body_len(self) -> usize {
        self.body_len as usize
    }

    pub(super) fn fits(self, body: &[u8]) -> bool {
        crc32fast::hash(body) == self.body_crc
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    let bytes = u32::try_from(text.len()).expect("a text is shorter than MAX_BODY");
    out.extend_from_slice(&bytes.to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, left) = rest.split_first_chunk()?;
    *rest = left;
    Some(*taken)
}

fn take_text(rest: &mut &[u8]) -> Option<String> {
    let bytes = u32::from_le_bytes(take(rest)?);
    let (text, left) = rest.split_at_checked(bytes as usize)?;
    *rest = left;
    Some(std::str::from_utf8(text).ok()?.to_owned())
}
