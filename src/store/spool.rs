//! [`Spool`]: rows on disk while the database is away.
//!
//! A folder of segments. Rows are appended to the last one and taken from the first one, in order,
//! over restarts of the process. It belongs to one thread, the
//! [`DbWriter`](super::DbWriter)'s, and blocks it.
//!
//! **What a crash takes.** A row outlives the process once [`append`](Spool::append) has returned,
//! and a power cut once [`sync`](Spool::sync) has. What was removed may come again after either;
//! rows are unique by topic and seq, so storing them again changes nothing. No row is lost or
//! passed by a later one. Each run begins a segment of its own, so nothing is ever written before
//! the place that an older run has noted as its front.
//!
//! **Damage.** Each record carries its length and its checksums. What ends the last segment and is
//! no whole record was being written; it is cut off. Anywhere else it is passed over to the next
//! whole record, and reported. Segments are read once when the spool is opened, to count what waits.
//!
//! **Memory**: the topics that have rows in it, and at most a large record or what a peek asks for.

mod folder;
mod heads;
mod reader;
mod record;
mod recovery;
mod rows;
mod segment;

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use self::record::Record;
pub use self::recovery::{Damage, Recovered};
pub use self::rows::Rows;

use self::folder::{Folder, Position};
use self::heads::Heads;
use self::segment::Segment;

/// The buffer for encoding may keep this much between two records.
const BUFFER: usize = 1 << 20;

/// How much a spool may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpoolLimits {
    /// Bytes on disk. Default 256 MB. One record always enters an empty spool.
    pub bytes: u64,
    /// Bytes of a segment, the unit in which room comes back; an eighth of `bytes` at most. A
    /// larger record gets one of its own. Default 8 MB.
    pub segment_bytes: u64,
}

impl Default for SpoolLimits {
    fn default() -> Self {
        Self {
            bytes: 256_000_000,
            segment_bytes: 8_000_000,
        }
    }
}

/// Why a spool cannot be opened. Each text says where.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("spool {0} is in use by another slackir; stop it, or give this one its own")]
    InUse(PathBuf),
    /// A file of a version that this one cannot read.
    #[error(
        "cannot read {0}: it was written by another version of slackir; let that one empty the spool"
    )]
    Unsupported(PathBuf),
    /// The folder or a file in it cannot be made, read or written.
    #[error("cannot use spool {path}: {source}")]
    Folder {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Why a row was not appended. The spool is as it was before.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// It has reached its limit.
    #[error("the spool is full: {bytes} bytes wait for the database")]
    Full {
        /// How much it holds.
        bytes: u64,
    },
    /// There is no room left on the disk, or for a file of this size.
    #[error("no room on disk for the spool: {0}")]
    DiskFull(#[source] io::Error),
    /// No spool takes such a row.
    #[error("a row of {bytes} bytes is too large for the spool")]
    TooLarge {
        /// Bytes of its texts; 64 MB are too many.
        bytes: usize,
    },
    /// The disk failed.
    #[error("cannot write to the spool: {0}")]
    Io(#[source] io::Error),
}

impl From<io::Error> for AppendError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                Self::DiskFull(error)
            }
            _ => Self::Io(error),
        }
    }
}

/// The queue on disk. See the [module](self).
pub struct Spool {
    folder: Folder,
    limits: SpoolLimits,
    /// Oldest first. Only the last one is written to, and only if this run has made it.
    segments: VecDeque<Segment>,
    next_id: u64,
    /// Behind the last row that was removed.
    front: Position,
    /// What the last peek gave and nobody has removed.
    peeked: VecDeque<Peeked>,
    heads: Heads,
    rows: usize,
    bytes: u64,
    /// Names were made or deleted since the last sync.
    renamed: bool,
    buffer: Vec<u8>,
}

named_debug!(Spool);

struct Peeked {
    topic: Arc<str>,
    /// Where it ends.
    end: Position,
}

impl Spool {
    /// Opens the folder, or makes it in a folder that is there, and reads what waits in it.
    ///
    /// # Errors
    /// When another process has it, another version wrote it, or the disk fails.
    pub fn open(dir: &Path, limits: SpoolLimits) -> Result<(Self, Recovered), OpenError> {
        let failed = |source| OpenError::Folder {
            path: dir.to_owned(),
            source,
        };
        let mut folder = Folder::open(dir)?;
        let front = folder.front().map_err(failed)?.unwrap_or_default();
        let (segments, heads, recovered) = recovery::recover(&folder, front)?;
        // Takes its room on the disk now, while there is some.
        folder.set_front(front).map_err(failed)?;
        folder.sync().map_err(failed)?;
        let last = segments.back().map_or(0, |segment| segment.id);
        let spool = Self {
            folder,
            limits: SpoolLimits {
                segment_bytes: limits.segment_bytes.min(limits.bytes / 8),
                ..limits
            },
            next_id: last.max(front.segment).saturating_add(1),
            front,
            peeked: VecDeque::new(),
            heads,
            rows: recovered.rows,
            bytes: segments.iter().map(|segment| segment.end).sum(),
            segments,
            renamed: false,
            buffer: Vec::new(),
        };
        Ok((spool, recovered))
    }

    /// Adds a row behind all others, whole or not at all.
    ///
    /// # Errors
    /// When there is no room or the disk fails; the row is not in the spool then, and later rows
    /// may well be taken: whoever wants no gap must not go on.
    pub fn append<S: AsRef<str>>(&mut self, record: &Record<S>) -> Result<(), AppendError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let appended = record
            .encode(&mut buffer)
            .and_then(|()| self.write(&buffer));
        if buffer.capacity() <= BUFFER {
            self.buffer = buffer;
        }
        appended?;
        self.heads.add(record.topic.as_ref(), record.seq);
        Ok(())
    }

    fn write(&mut self, record: &[u8]) -> Result<(), AppendError> {
        let bytes = record.len() as u64;
        if self.rows > 0 && self.bytes + bytes > self.limits.bytes {
            return Err(AppendError::Full { bytes: self.bytes });
        }
        let limit = self.limits.segment_bytes;
        if !self
            .segments
            .back()
            .is_some_and(|last| last.takes(bytes, limit))
        {
            let id = self.next_id;
            self.next_id = id.saturating_add(1);
            let file = self.folder.create(id)?;
            self.segments.push_back(Segment::new(id, file));
            self.renamed = true;
        }
        if let Some(last) = self.segments.back_mut() {
            last.append(record)?;
        }
        self.rows += 1;
        self.bytes += bytes;
        Ok(())
    }

    /// Makes everything that was appended outlive a power cut. Costs nothing when there is nothing
    /// new; call it at least every 100 ms.
    ///
    /// # Errors
    /// When the disk fails. The next call tries again, but a system that has told of a failed
    /// fsync once need not tell again: what was appended since the last good one is in doubt until
    /// it is removed, should the power be cut.
    pub fn sync(&mut self) -> io::Result<()> {
        let last = self.segments.len().saturating_sub(1);
        for (at, segment) in self.segments.iter_mut().enumerate() {
            segment.sync()?;
            if at < last {
                segment.complete();
            }
        }
        if self.renamed {
            self.folder.sync()?;
            self.renamed = false;
        }
        Ok(())
    }

    /// The oldest rows: no more than `limit_rows`, and no more than have `limit_bytes` of text,
    /// but one if there is any.
    ///
    /// # Errors
    /// When the disk cannot read the first of them. Nothing is lost by trying again.
    pub fn peek(&mut self, limit_rows: usize, limit_bytes: usize) -> io::Result<Vec<Record>> {
        self.peeked.clear();
        let mut peeked = Vec::new();
        let mut bytes = 0;
        let mut rows = self.rows();
        while peeked.len() < limit_rows {
            let (record, end) = match rows.next_row() {
                Ok(Some(next)) => next,
                Ok(None) => break,
                Err(error) if peeked.is_empty() => return Err(error),
                Err(_) => break,
            };
            bytes += record.text_bytes();
            if bytes > limit_bytes && !peeked.is_empty() {
                break;
            }
            peeked.push((record, end));
        }
        if peeked.is_empty() && limit_rows > 0 {
            self.drop_unreadable();
        }
        let note = |(record, end): (Record, Position)| {
            let topic = self.heads.name(&record.topic);
            self.peeked.push_back(Peeked { topic, end });
            record
        };
        Ok(peeked.into_iter().map(note).collect())
    }

    /// Takes away the first `rows` of those that the last [`peek`](Self::peek) gave, because their
    /// database has committed them.
    ///
    /// # Errors
    /// When the disk fails. They are gone from this spool all the same, but after a restart they
    /// may come again.
    pub fn remove(&mut self, rows: usize) -> io::Result<()> {
        let mut done = Ok(());
        for _ in 0..rows {
            let Some(Peeked { topic, end }) = self.peeked.pop_front() else {
                break;
            };
            while self
                .segments
                .front()
                .is_some_and(|first| first.id < end.segment)
            {
                done = done.and(self.drop_first());
            }
            if let Some(first) = self.segments.front_mut() {
                first.rows = first.rows.saturating_sub(1);
            }
            self.rows = self.rows.saturating_sub(1);
            self.heads.remove(&topic);
            self.front = end;
        }
        done = done.and(self.folder.set_front(self.front));
        while self.segments.front().is_some_and(|first| first.rows == 0) {
            done = done.and(self.drop_first());
        }
        if self.rows == 0 {
            self.heads.clear();
        }
        done
    }

    /// All rows, oldest first, read as they are asked for.
    pub fn rows(&self) -> Rows<'_> {
        let first = self.segments.front();
        let begun = first.is_some_and(|first| first.id == self.front.segment);
        let from = if begun { self.front.offset } else { 0 };
        Rows::new(&self.folder, self.segments.iter(), from)
    }

    /// How many rows wait.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// What it takes on disk. Rows that were removed count until their segment is passed.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The topics that have rows in it, each with its highest seq.
    pub fn heads(&self) -> impl Iterator<Item = (&str, i64)> {
        self.heads.iter()
    }

    /// The highest seq that a topic has in it.
    pub fn head(&self, topic: &str) -> Option<i64> {
        self.heads.get(topic)
    }

    /// The first segment is passed. Rows that are left in it by count were there when it was
    /// written or opened, and cannot be read any more.
    fn drop_first(&mut self) -> io::Result<()> {
        let Some(segment) = self.segments.pop_front() else {
            return Ok(());
        };
        if segment.rows > 0 {
            tracing::error!(
                segment = segment.id,
                rows = segment.rows,
                "store.spool.rows_lost"
            );
        }
        self.rows = self.rows.saturating_sub(segment.rows);
        self.bytes -= segment.end;
        self.renamed = true;
        self.folder.delete(segment.id)
    }

    /// Nothing can be read although rows wait: the disk has spoiled them since they were counted.
    fn drop_unreadable(&mut self) {
        while !self.segments.is_empty() {
            if let Err(error) = self.drop_first() {
                tracing::warn!(%error, "store.spool.not_deleted");
            }
        }
        self.rows = 0;
        self.heads.clear();
    }
}

#[cfg(test)]
mod tests;
