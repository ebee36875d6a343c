//! [`Spool`]: a queue of rows on disk, for the time when the database is unreachable.
//!
//! A folder of segments. Rows are appended to the last segment and taken from the first, in order, also after a
//! restart. A spool blocks its thread, which is that of the [`DbWriter`](super::DbWriter).
//!
//! **Crashes.** A row survives the process once [`append`](Spool::append) has returned, and a power cut once
//! [`sync`](Spool::sync) has returned. No row is lost, and the order stays. A removed row may come again after a
//! crash or a power cut; rows are unique by topic and seq, so a second insertion changes nothing. Each process begins
//! a segment of its own, so it writes nothing before the front that an earlier process has noted.
//!
//! **Damage.** Each record has its length and checksums. An incomplete record at the end of the last segment was
//! being written at the crash; it is cut off. Anywhere else the spool skips to the next complete record and reports
//! the damage. To open the spool reads all segments once, and counts the rows.
//!
//! **Memory.** The topics with rows in the spool, and one large record or the result of one peek.

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
use crate::log::Seq;

/// The encoding buffer keeps at most this capacity.
const BUFFER: usize = 1 << 20;

/// The bounds of a spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpoolLimits {
    /// Bytes on disk. Default 256 MB. An empty spool takes one record of any size.
    pub bytes: u64,
    /// Bytes of a segment; at most an eighth of `bytes`. Only a whole segment is freed. A larger record gets a
    /// segment of its own. Default 8 MB.
    pub segment_bytes: u64,
}

setters!(SpoolLimits {
    bytes: u64,
    segment_bytes: u64,
});

impl Default for SpoolLimits {
    fn default() -> Self {
        Self {
            bytes: 256_000_000,
            segment_bytes: 8_000_000,
        }
    }
}

/// Why a spool cannot be opened. Each text names the path.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has locked it.
    #[error("spool {0} is in use by another slackir; stop it, or give this one its own")]
    InUse(PathBuf),
    /// A file of an unknown version.
    #[error(
        "cannot read {0}: it was written by another version of slackir; let that one empty the spool"
    )]
    Unsupported(PathBuf),
    /// The folder or one of its files cannot be created, read or written.
    #[error("cannot use spool {path}: {source}")]
    Folder {
        /// Its path.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
}

/// Why a row was not appended. The spool is unchanged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The spool is full.
    #[error("the spool is full: {bytes} bytes wait for the database")]
    Full {
        /// Its bytes on disk.
        bytes: u64,
    },
    /// The disk is full, or the file would be too large for it.
    #[error("no room on disk for the spool: {0}")]
    DiskFull(#[source] io::Error),
    /// The row is too large for any spool.
    #[error("a row of {bytes} bytes is too large for the spool")]
    TooLarge {
        /// The bytes of its texts; 64 MB are too many.
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
    /// Oldest first. Rows are appended to the last one, and only if this process has created it.
    segments: VecDeque<Segment>,
    next_id: u64,
    /// The end of the last removed row.
    front: Position,
    /// The rows of the last peek that were not removed.
    peeked: VecDeque<Peeked>,
    heads: Heads,
    rows: usize,
    bytes: u64,
    /// Whether segments were created or deleted since the last sync.
    renamed: bool,
    buffer: Vec<u8>,
}

named_debug!(Spool);

struct Peeked {
    topic: Arc<str>,
    /// The end of the row.
    end: Position,
}

impl Spool {
    /// Opens the folder, or creates it in an existing parent, and counts its rows.
    ///
    /// # Errors
    /// If another process has locked it, another version wrote it, or the disk fails.
    pub fn open(dir: &Path, limits: SpoolLimits) -> Result<(Self, Recovered), OpenError> {
        let failed = |source| OpenError::Folder {
            path: dir.to_owned(),
            source,
        };
        let mut folder = Folder::open(dir)?;
        let front = folder.front().map_err(failed)?.unwrap_or_default();
        let (segments, heads, recovered) = recovery::recover(&folder, front)?;
        // Reserves the note's room on disk now.
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

    /// Appends a row, completely or not at all.
    ///
    /// # Errors
    /// If the spool or the disk is full, or the disk fails. A later, smaller row may still fit: to leave no gap, the
    /// caller must append this row first.
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

    /// Makes all appended rows survive a power cut. Costs nothing if there is no new row; call it at least every 100
    /// ms.
    ///
    /// # Errors
    /// If the disk fails. The next call tries again. But the system may report a failed fsync only once: after a
    /// power cut, rows since the last successful sync are uncertain.
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

    /// The oldest rows: at most `limit_rows`, and at most `limit_bytes` of text; but one row of any size.
    ///
    /// # Errors
    /// If the disk cannot read the first row. A retry loses nothing.
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

    /// Removes the first `rows` rows of the last [`peek`](Self::peek): the database has committed them.
    ///
    /// # Errors
    /// If the disk fails. The rows are removed now, but may come again after a restart.
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

    /// All rows, oldest first, read on demand.
    pub fn rows(&self) -> Rows<'_> {
        let first = self.segments.front();
        let begun = first.is_some_and(|first| first.id == self.front.segment);
        let from = if begun { self.front.offset } else { 0 };
        Rows::new(&self.folder, self.segments.iter(), from)
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The bytes on disk. They include removed rows until the segment is deleted.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The topics with rows, each with its highest seq.
    pub fn heads(&self) -> impl Iterator<Item = (&str, Seq)> {
        self.heads.iter()
    }

    /// The highest seq of a topic's rows.
    pub fn head(&self, topic: &str) -> Option<Seq> {
        self.heads.get(topic)
    }

    /// Deletes the first segment. If rows were counted in it and not removed, they are lost: the disk has damaged
    /// them.
    fn drop_first(&mut self) -> io::Result<()> {
        let Some(segment) = self.segments.pop_front() else {
            return Ok(());
        };
        if segment.rows > 0 {
            tracing::error!(
                segment = segment.id,
                rows = segment.rows,
                "store.spool.rows_lost: these messages cannot be read; check the disk of the spool"
            );
        }
        self.rows = self.rows.saturating_sub(segment.rows);
        self.bytes -= segment.end;
        self.renamed = true;
        self.folder.delete(segment.id)
    }

    /// Deletes all segments: rows were counted, and the disk has damaged all of them since.
    fn drop_unreadable(&mut self) {
        while !self.segments.is_empty() {
            if let Err(error) = self.drop_first() {
                tracing::warn!(
                    %error,
                    "store.spool.not_deleted: see that the server may write into the spool's \
                     folder"
                );
            }
        }
        self.rows = 0;
        self.heads.clear();
    }
}

#[cfg(test)]
mod tests;
