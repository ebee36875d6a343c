//! [`recover`]: reads a spool when it is opened.

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io;
use std::path::PathBuf;

use super::OpenError;
use super::folder::{Folder, Position};
use super::heads::Heads;
use super::reader::{RecordReader, SpoolItem};
use super::segment::Segment;

/// The most places of damage in the list.
const PLACES: usize = 16;

/// The content of a spool when it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Rows in the spool.
    pub rows: usize,
    /// Bytes that were cut off at the end: an incomplete record, whose process was killed or lost its power. No
    /// [`sync`](super::Spool::sync) had returned after it.
    pub torn_bytes: u64,
    /// The number of damaged places. Their rows are lost.
    pub damaged: usize,
    /// The bytes of all damaged places.
    pub damaged_bytes: u64,
    /// The first 16 places.
    pub damage: Vec<Damage>,
}

/// A place in a segment without complete records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The segment.
    pub path: PathBuf,
    /// The first byte.
    pub from: u64,
    /// The byte after the last one.
    pub to: u64,
}

impl Recovered {
    fn add_damage(&mut self, path: PathBuf, from: u64, to: u64) {
        self.damaged += 1;
        self.damaged_bytes += to - from;
        if self.damage.len() < PLACES {
            self.damage.push(Damage { path, from, to });
        }
    }
}

/// Reads everything after the front. Deletes segments without rows. Syncs the others, because the earlier process may
/// not have done so.
pub(super) fn recover(
    folder: &Folder,
    front: Position,
) -> Result<(VecDeque<Segment>, Heads, Recovered), OpenError> {
    let mut segments = VecDeque::new();
    let mut heads = Heads::default();
    let mut recovered = Recovered::default();
    let ids = folder.segments()?;
    for &id in &ids {
        let last = ids.last() == Some(&id);
        let from = if id == front.segment { front.offset } else { 0 };
        let read = if id < front.segment {
            Ok(Segment::found(id, 0, 0))
        } else {
            read(folder, id, from, last, &mut heads, &mut recovered)
        };
        let kept = read.and_then(|segment| {
            if segment.rows > 0 {
                segments.push_back(segment);
                return Ok(());
            }
            folder.delete(id)
        });
        kept.map_err(|source| OpenError::Folder {
            path: folder.segment_path(id),
            source,
        })?;
    }
    recovered.rows = segments.iter().map(|segment| segment.rows).sum();
    Ok((segments, heads, recovered))
}

fn read(
    folder: &Folder,
    id: u64,
    from: u64,
    last: bool,
    heads: &mut Heads,
    recovered: &mut Recovered,
) -> io::Result<Segment> {
    let path = folder.segment_path(id);
    let file = OpenOptions::new().write(true).open(&path)?;
    let bytes = file.metadata()?.len();
    let mut segment = Segment::found(id, bytes, 0);
    let mut reader = RecordReader::open(&path, from, bytes)?;
    while let Some(found) = reader.next()? {
        match found {
            SpoolItem::Row { record, .. } => {
                heads.add(&record.topic, record.seq);
                segment.rows += 1;
            }
            SpoolItem::Damage { from, to } if last && to == bytes => {
                file.set_len(from)?;
                segment.end = from;
                recovered.torn_bytes += to - from;
            }
            SpoolItem::Damage { from, to } => recovered.add_damage(path.clone(), from, to),
        }
    }
    file.sync_all()?;
    Ok(segment)
}
