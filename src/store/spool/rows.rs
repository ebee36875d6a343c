//! [`Rows`]: reads the rows of all segments, from the front to the end.

use std::collections::vec_deque;
use std::io;

use super::folder::{Folder, Position};
use super::reader::{RecordReader, SpoolItem};
use super::record::Record;
use super::segment::Segment;

/// The rows of a [`Spool`](super::Spool), oldest first. Ends after an error.
pub struct Rows<'a> {
    folder: &'a Folder,
    segments: vec_deque::Iter<'a, Segment>,
    /// The offset at which the next segment is read.
    from: u64,
    reader: Option<(u64, RecordReader)>,
}

named_debug!(Rows<'_>, from);

impl<'a> Rows<'a> {
    /// `from` is an offset in the first segment.
    pub(super) fn new(
        folder: &'a Folder,
        segments: vec_deque::Iter<'a, Segment>,
        from: u64,
    ) -> Self {
        Self {
            folder,
            segments,
            from,
            reader: None,
        }
    }

    /// A row and its end. Skips damage.
    pub(super) fn next_row(&mut self) -> io::Result<Option<(Record, Position)>> {
        loop {
            let Some((segment, reader)) = &mut self.reader else {
                let Some(next) = self.segments.next() else {
                    return Ok(None);
                };
                let path = self.folder.segment_path(next.id);
                let from = std::mem::take(&mut self.from);
                self.reader = Some((next.id, RecordReader::open(&path, from, next.end)?));
                continue;
            };
            let segment = *segment;
            match reader.next()? {
                Some(SpoolItem::Row { record, end }) => {
                    let offset = end;
                    return Ok(Some((record, Position { segment, offset })));
                }
                Some(SpoolItem::Damage { .. }) => {}
                None => self.reader = None,
            }
        }
    }
}

impl Iterator for Rows<'_> {
    type Item = io::Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next_row().transpose()?;
        if next.is_err() {
            self.reader = None;
            self.segments = vec_deque::Iter::default();
        }
        Some(next.map(|(record, _)| record))
    }
}
