//! [`RecordReader`]: reads one segment from a position to its end: rows, and the damage between them.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use memchr::memmem;

use super::record::{HEADER, MARKER, Record, RecordHeader};

/// The bytes of one read.
const CHUNK: usize = 64 << 10;

/// The next item of a segment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SpoolItem {
    Row {
        record: Record,
        /// The start of the next item.
        end: u64,
    },
    /// Bytes that are no record.
    Damage { from: u64, to: u64 },
}

pub(super) struct RecordReader {
    file: File,
    /// Bytes of the file. Those at `position` of the file begin at `at`.
    window: Vec<u8>,
    at: usize,
    position: u64,
    end: u64,
}

/// The item at the position.
enum ReadItem {
    Row(Record, usize),
    /// A record with a valid header and an invalid body.
    DamagedRow(usize),
    Unreadable,
}

impl RecordReader {
    /// Reads no further than `end`.
    pub(super) fn open(path: &Path, from: u64, end: u64) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let position = from.min(end);
        file.seek(SeekFrom::Start(position))?;
        Ok(Self {
            file,
            window: Vec::new(),
            at: 0,
            position,
            end,
        })
    }

    /// `None` at the end. Adjacent damage is one item.
    pub(super) fn next(&mut self) -> io::Result<Option<SpoolItem>> {
        let from = self.position;
        while self.position < self.end {
            match self.place()? {
                ReadItem::Row(record, bytes) if from == self.position => {
                    self.skip(bytes);
                    let end = self.position;
                    return Ok(Some(SpoolItem::Row { record, end }));
                }
                ReadItem::Row(..) => break,
                ReadItem::DamagedRow(bytes) => self.skip(bytes),
                ReadItem::Unreadable => self.skip_to_marker()?,
            }
        }
        let to = self.position;
        Ok((from < to).then_some(SpoolItem::Damage { from, to }))
    }

    fn place(&mut self) -> io::Result<ReadItem> {
        let Some(header) = RecordHeader::parse(self.available(HEADER)?) else {
            return Ok(ReadItem::Unreadable);
        };
        // The window grows by what the file has, not by a length that the header claims.
        let bytes = HEADER + header.body_len();
        let Some(body) = self.available(bytes)?.get(HEADER..bytes) else {
            return Ok(ReadItem::Unreadable);
        };
        let record = header.fits(body).then(|| Record::decode(body)).flatten();
        Ok(record.map_or(ReadItem::DamagedRow(bytes), |record| {
            ReadItem::Row(record, bytes)
        }))
    }

    /// Skips at least one byte.
    fn skip_to_marker(&mut self) -> io::Result<()> {
        loop {
            let bytes = self.available(CHUNK)?;
            let count = bytes.len();
            let found = bytes.get(1..).and_then(|rest| memmem::find(rest, &MARKER));
            if let Some(found) = found {
                self.skip(1 + found);
                return Ok(());
            }
            if count < CHUNK {
                self.skip(count);
                return Ok(());
            }
            // The next chunk may continue a marker.
            self.skip(count - MARKER.len());
        }
    }

    fn skip(&mut self, bytes: usize) {
        self.at += bytes;
        self.position += bytes as u64;
    }

    /// The bytes at the position: `wanted` or more, fewer only at the end of the segment.
    fn available(&mut self, wanted: usize) -> io::Result<&[u8]> {
        if self.window.len() - self.at < wanted {
            self.window.drain(..self.at);
            self.at = 0;
            let left = self.end - self.position - self.window.len() as u64;
            let more = wanted.max(CHUNK) - self.window.len();
            let asked = left.min(more as u64);
            let read = (&self.file).take(asked).read_to_end(&mut self.window)?;
            if (read as u64) < asked {
                // The file has been truncated.
                self.end = self.position + self.window.len() as u64;
            }
        }
        Ok(&self.window[self.at..])
    }

    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.window.capacity()
    }
}
