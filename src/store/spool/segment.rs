//! [`Segment`]: one file of the spool.

use std::fs::File;
use std::io::{self, Write};

pub(super) struct Segment {
    pub(super) id: u64,
    /// The bytes of complete records.
    pub(super) end: u64,
    /// The number of its rows that are not removed.
    pub(super) rows: usize,
    /// `None` once the segment is complete and durable.
    writer: Option<SegmentWriter>,
}

struct SegmentWriter {
    file: File,
    /// Whether something was written since the last fsync.
    dirty: bool,
    /// The file has an incomplete record after `end`.
    torn: bool,
}

impl Segment {
    /// A segment of an earlier process. Nothing is appended to it: its end may be before the noted front, and rows
    /// before the front are not read.
    pub(super) fn found(id: u64, end: u64, rows: usize) -> Self {
        Self {
            id,
            end,
            rows,
            writer: None,
        }
    }

    pub(super) fn new(id: u64, file: File) -> Self {
        let writer = SegmentWriter {
            file,
            dirty: true,
            torn: false,
        };
        Self {
            id,
            end: 0,
            rows: 0,
            writer: Some(writer),
        }
    }

    /// Whether a record of this size fits. An empty segment takes a record of any size.
    pub(super) fn takes(&self, bytes: u64, limit: u64) -> bool {
        self.writer.is_some() && (self.end == 0 || self.end + bytes <= limit)
    }

    /// Writes a complete record or nothing.
    pub(super) fn append(&mut self, record: &[u8]) -> io::Result<()> {
        let writer = self.writer.as_mut();
        let writer = writer.expect("append is called only if the segment takes the record");
        writer.cut(self.end)?;
        writer.dirty = true;
        if let Err(error) = writer.file.write_all(record) {
            writer.torn = true;
            // If this fails too, the next append tries it again.
            let _ = writer.cut(self.end);
            return Err(error);
        }
        self.end += record.len() as u64;
        self.rows += 1;
        Ok(())
    }

    pub(super) fn sync(&mut self) -> io::Result<()> {
        if let Some(writer) = &mut self.writer
            && writer.dirty
        {
            writer.file.sync_data()?;
            writer.dirty = false;
        }
        Ok(())
    }

    /// Ends the segment.
    pub(super) fn complete(&mut self) {
        self.writer = None;
    }
}

impl SegmentWriter {
    fn cut(&mut self, end: u64) -> io::Result<()> {
        if self.torn {
            self.file.set_len(end)?;
            self.torn = false;
        }
        Ok(())
    }
}
