//! The spool's folder: its files, its lock, and the note of its front.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};

use super::OpenError;
use crate::store::lock_file;

const LOCK: &str = "lock";
const FRONT: &str = "front";
const PREFIX: &str = "segment-";
/// The format of a segment. Another format gets another suffix. Then an older server refuses the folder, and does not
/// take the file for damaged.
const SUFFIX: &str = ".v1";

/// A position in the spool. Later segments have higher numbers, and no number is used twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) segment: u64,
    pub(super) offset: u64,
}

pub(super) struct Folder {
    path: PathBuf,
    /// For fsync: a new name is durable only with its folder.
    handle: File,
    front: File,
    /// The system releases the lock when the process ends.
    _lock: File,
}

impl Folder {
    /// Creates the folder if it is missing; its parent must exist.
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Folder {
            path: path.to_owned(),
            source,
        };
        make(path).map_err(failed)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let lock = options.open(path.join(LOCK)).map_err(failed)?;
        if !lock_file::take(&lock).map_err(failed)? {
            return Err(OpenError::InUse(path.to_owned()));
        }
        Ok(Self {
            handle: File::open(path).map_err(failed)?,
            front: options.open(path.join(FRONT)).map_err(failed)?,
            _lock: lock,
            path: path.to_owned(),
        })
    }

    pub(super) fn segment_path(&self, id: u64) -> PathBuf {
        self.path.join(format!("{PREFIX}{id:020}{SUFFIX}"))
    }

    /// The segments in order. Other files are ignored.
    pub(super) fn segments(&self) -> Result<Vec<u64>, OpenError> {
        let failed = |source| OpenError::Folder {
            path: self.path.clone(),
            source,
        };
        let mut ids = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else {
                continue;
            };
            let path = self.path.join(&name);
            match rest.strip_suffix(SUFFIX).map(str::parse) {
                Some(Ok(id)) if self.segment_path(id) == path => ids.push(id),
                _ => return Err(OpenError::Unsupported(path)),
            }
        }
        ids.sort_unstable();
        Ok(ids)
    }

    pub(super) fn create(&self, id: u64) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.append(true).create_new(true);
        options.open(self.segment_path(id))
    }

    pub(super) fn delete(&self, id: u64) -> io::Result<()> {
        match fs::remove_file(self.segment_path(id)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// `None` if there is no note or it is incomplete: then the oldest segment is replayed from its start.
    pub(super) fn front(&mut self) -> io::Result<Option<Position>> {
        let mut note = Vec::new();
        self.front.rewind()?;
        (&self.front).take(NOTE as u64).read_to_end(&mut note)?;
        Ok(note.try_into().ok().and_then(Position::from_note))
    }

    /// Overwrites the note in place, which needs no new room on a full disk.
    pub(super) fn set_front(&mut self, front: Position) -> io::Result<()> {
        self.front.rewind()?;
        self.front.write_all(&front.to_note())
    }

    /// Makes created and deleted segments durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.handle.sync_all()
    }
}

/// Creates the folder, durably.
fn make(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Ok(()) => {
            let parent = path.parent().filter(|parent| *parent != Path::new(""));
            File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// The bytes of the note: segment, offset, CRC32 of both.
const NOTE: usize = 20;

impl Position {
    fn to_note(self) -> [u8; NOTE] {
        let mut note = [0; NOTE];
        note[..8].copy_from_slice(&self.segment.to_le_bytes());
        note[8..16].copy_from_slice(&self.offset.to_le_bytes());
        let crc = crc32fast::hash(&note[..16]);
        note[16..].copy_from_slice(&crc.to_le_bytes());
        note
    }

    fn from_note(note: [u8; NOTE]) -> Option<Self> {
        let (segment, rest) = note.split_first_chunk()?;
        let (offset, _) = rest.split_first_chunk()?;
        let position = Self {
            segment: u64::from_le_bytes(*segment),
            offset: u64::from_le_bytes(*offset),
        };
        (position.to_note() == note).then_some(position)
    }
}
