//! [`DatabaseFile`]: checks that SQLite's file is still the one that was opened, and sound.
//!
//! SQLite goes on writing to a deleted file, and serves cached pages of an overwritten one. So this module checks the
//! file names and the headers, and reads the newest message over a new connection. It finds a file that was
//! overwritten at random, but not each damaged page.

use std::fs::{self, File, Metadata};
use std::io;
use std::mem::ManuallyDrop;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use diesel::prelude::*;

use crate::store::backend::error::{DAMAGED, is_damage};
use crate::store::backend::url::{self, SqliteMode, SqliteUrl};
use crate::store::schema::messages;

/// The time between two checks of the headers. The names are checked at each call.
const HEADERS: Duration = Duration::from_secs(1);
/// The time between two reads of the newest message.
const NEWEST: Duration = Duration::from_secs(3);
/// The length of a database's header, and of a WAL's.
const HEADER: usize = 100;
const LOG_HEADER: usize = 32;
/// The first bytes of a database, and of a WAL.
const MAGIC: &[u8] = b"SQLite format 3\0";
const LOG_MAGIC: [[u8; 4]; 2] = [[0x37, 0x7f, 0x06, 0x82], [0x37, 0x7f, 0x06, 0x83]];

/// The file of an open database.
pub(in crate::store) struct DatabaseFile {
    path: PathBuf,
    log: PathBuf,
    /// Never closed: closing would release SQLite's locks, which belong to the process and the file.
    file: ManuallyDrop<File>,
    identity: FileIdentity,
    /// `None` before the first check.
    log_identity: Option<FileIdentity>,
    /// Its length when it was last sound.
    length: u64,
    headers_read: Option<Instant>,
    newest_read: Option<Instant>,
}

/// The identity of a file, independent of its name.
#[derive(Clone, Copy, PartialEq, Eq)]
struct FileIdentity {
    device: u64,
    inode: u64,
}

/// A fault of the database file under a running server. The readiness check shows these texts to anybody, so they
/// hold no path.
#[derive(Debug, thiserror::Error)]
pub enum FileFault {
    /// The file was deleted or renamed.
    #[error("the database file has been deleted: stop the server and put the file back")]
    Deleted,
    /// Another file has its name.
    #[error(
        "the database file has been replaced by another: stop the server, decide which of them is \
         right, and start it again"
    )]
    Replaced,
    /// It is shorter than the length in its header.
    #[error("the database file has been truncated: stop the server and restore a backup")]
    Truncated,
    /// It does not begin as a database does.
    #[error("the database file has been overwritten: stop the server and restore a backup")]
    Overwritten,
    /// SQLite cannot read its pages.
    #[error("{DAMAGED}")]
    Damaged,
    /// The write-ahead log was deleted or replaced. It holds the newest messages.
    #[error(
        "the database's write-ahead log (-wal) has been deleted or replaced: stop the server, and \
         check what the database holds"
    )]
    LogGone,
    /// The write-ahead log does not begin as such a log does.
    #[error(
        "the database's write-ahead log (-wal) has been overwritten: stop the server, and check what \
         the database holds"
    )]
    LogOverwritten,
    /// The file cannot be examined.
    #[error("the database file cannot be read: {0}")]
    Unreadable(#[from] io::Error),
}

impl DatabaseFile {
    /// An open and sound database.
    pub(in crate::store) fn watch(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let found = file.metadata()?;
        Ok(Self {
            path: path.to_owned(),
            log: url::beside(path, "-wal"),
            file: ManuallyDrop::new(file),
            identity: FileIdentity::of(&found),
            log_identity: None,
            length: found.len(),
            headers_read: None,
            newest_read: None,
        })
    }

    /// Checks that the file is still the one that was opened.
    pub(in crate::store) fn check(&mut self) -> Result<(), FileFault> {
        let found = find(&self.path)?.ok_or(FileFault::Deleted)?;
        if FileIdentity::of(&found) != self.identity {
            return Err(FileFault::Replaced);
        }
        let log = find(&self.log)?;
        let log_identity = log.as_ref().map(FileIdentity::of);
        if self.log_identity.is_some() && self.log_identity != log_identity {
            return Err(FileFault::LogGone);
        }
        self.log_identity = log_identity;
        if self.headers_read.is_some_and(|at| at.elapsed() < HEADERS) && found.len() >= self.length
        {
            return Ok(());
        }
        self.check_header(found.len())?;
        if let Some(log) = log {
            self.check_log_header(log.len())?;
        }
        self.headers_read = Some(Instant::now());
        if self.newest_read.is_none_or(|at| at.elapsed() >= NEWEST) {
            self.check_pages()?;
            self.newest_read = Some(Instant::now());
        }
        Ok(())
    }

    fn check_pages(&self) -> Result<(), FileFault> {
        // If the file cannot be opened or is locked, the writer reports it.
        let url = SqliteUrl {
            path: self.path.clone(),
            // This creates no file.
            mode: SqliteMode::Write,
        };
        let Ok(mut connection) = SqliteConnection::establish(&url.connection_string()) else {
            return Ok(());
        };
        let newest = messages::table
            .order((messages::topic.desc(), messages::seq.desc()))
            .select(messages::event)
            .limit(1);
        match newest.load::<String>(&mut connection) {
            Err(error) if is_damage(&error) => Err(FileFault::Damaged),
            _ => Ok(()),
        }
    }

    fn check_header(&mut self, length: u64) -> Result<(), FileFault> {
        let shrunk = length < self.length;
        let mut header = [0; HEADER];
        match self.file.read_exact_at(&mut header, 0) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(FileFault::Truncated);
            }
            read => read?,
        }
        if !header.starts_with(MAGIC) {
            return Err(FileFault::Overwritten);
        }
        // In a growing file, the header may be ahead of the length.
        if shrunk && length < length_of(&header) {
            return Err(FileFault::Truncated);
        }
        self.length = length;
        Ok(())
    }

    fn check_log_header(&self, length: u64) -> Result<(), FileFault> {
        // SQLite keeps no lock in this file, so closing it is safe.
        if length < LOG_HEADER as u64 {
            return Ok(());
        }
        let mut magic = [0; 4];
        match File::open(&self.log)?.read_exact_at(&mut magic, 0) {
            // Truncated since its length was read.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            read => read?,
        }
        // A WAL that starts over may have room and no header yet.
        if LOG_MAGIC.contains(&magic) || magic == [0; 4] {
            Ok(())
        } else {
            Err(FileFault::LogOverwritten)
        }
    }
}

impl FileIdentity {
    fn of(found: &Metadata) -> Self {
        Self {
            device: found.dev(),
            inode: found.ino(),
        }
    }
}

fn find(path: &Path) -> io::Result<Option<Metadata>> {
    match fs::metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The length of a database with this header: the page size (1 stands for 65,536) times the number of pages.
fn length_of(header: &[u8; HEADER]) -> u64 {
    let page = u64::from(u16::from_be_bytes([header[16], header[17]]));
    let page = if page == 1 { 65_536 } else { page };
    let pages = u32::from_be_bytes([header[28], header[29], header[30], header[31]]);
    page * u64::from(pages)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use diesel::connection::SimpleConnection;
    use diesel::prelude::*;
    use tempfile::{TempDir, tempdir};

    use super::*;
    use crate::store::{Store, StoreOptions};

    /// An open database with a WAL, and its path.
    fn database() -> (TempDir, SqliteConnection, PathBuf) {
        let dir = tempdir().expect("a folder");
        let path = dir.path().join("s.db");
        let mut open = SqliteConnection::establish(&path.to_string_lossy()).expect("it opens");
        open.batch_execute(
            "PRAGMA journal_mode = WAL; CREATE TABLE t (x); INSERT INTO t VALUES (zeroblob(100000)); \
             PRAGMA wal_checkpoint; INSERT INTO t VALUES (1)",
        )
        .expect("sound statements");
        (dir, open, path)
    }

    fn look(watched: &mut DatabaseFile) -> Result<(), String> {
        watched.headers_read = None;
        watched.newest_read = None;
        watched.check().map_err(|fault| format!("{fault:?}"))
    }

    /// The fault that is found after `damage` was done to a sound file.
    fn found(damage: impl FnOnce(&Path)) -> Result<(), String> {
        let (_dir, _open, path) = database();
        let mut watched = DatabaseFile::watch(&path).expect("it is there");
        assert_eq!(look(&mut watched), Ok(()));
        damage(&path);
        look(&mut watched)
    }

    fn fault(name: &str) -> Result<(), String> {
        Err(name.to_owned())
    }

    fn overwrite(path: &Path) {
        let file = File::options().write(true).open(path).expect("it opens");
        file.write_all_at(b"garbage", 0).expect("there is room");
    }

    #[test]
    fn names_tell_what_became_of_the_files() {
        assert_eq!(
            found(|path| fs::remove_file(path).expect("it was there")),
            fault("Deleted")
        );
        let replaced = found(|path| {
            fs::copy(path, path.with_extension("new")).expect("there is room");
            fs::rename(path.with_extension("new"), path).expect("it was there");
        });
        assert_eq!(replaced, fault("Replaced"));
        let log_gone = found(|path| {
            fs::remove_file(url::beside(path, "-wal")).expect("it was there");
        });
        assert_eq!(log_gone, fault("LogGone"));
        let back = found(|path| {
            fs::rename(path, path.with_extension("old")).expect("it was there");
            fs::rename(path.with_extension("old"), path).expect("it was there");
        });
        assert_eq!(back, Ok(()), "it is the same file");
    }

    #[test]
    fn headers_tell_what_was_written_over_them() {
        let truncated = |length| {
            move |path: &Path| {
                let file = File::options().write(true).open(path).expect("it opens");
                file.set_len(length).expect("a shorter file");
            }
        };
        assert_eq!(found(truncated(0)), fault("Truncated"));
        assert_eq!(found(truncated(8_192)), fault("Truncated"));
        assert_eq!(found(overwrite), fault("Overwritten"));
        let log = found(|path| overwrite(&url::beside(path, "-wal")));
        assert_eq!(log, fault("LogOverwritten"));
    }

    #[test]
    fn pages_are_read_anew() {
        let dir = tempdir().expect("a folder");
        let path = dir.path().join("s.db");
        let url = format!("sqlite://{}", path.display());
        let (_store, _) = Store::open(&url, StoreOptions::default()).expect("a new database");
        let mut open = SqliteConnection::establish(&path.to_string_lossy()).expect("it opens");
        open.batch_execute("PRAGMA wal_checkpoint(TRUNCATE)")
            .expect("a sound statement");
        let mut watched = DatabaseFile::watch(&path).expect("it is there");
        assert_eq!(look(&mut watched), Ok(()));
        let file = File::options().write(true).open(&path).expect("it opens");
        let pages = file.metadata().expect("it is there").len() / 4096 - 1;
        for page in 1..=pages {
            file.write_all_at(&[7; 4096], page * 4096)
                .expect("there is room");
        }
        assert_eq!(look(&mut watched), fault("Damaged"));
    }

    #[test]
    fn a_database_that_grows_and_shrinks_by_itself_is_whole() {
        let (_dir, mut open, path) = database();
        let mut watched = DatabaseFile::watch(&path).expect("it is there");
        for statement in [
            "INSERT INTO t VALUES (zeroblob(1000000)); PRAGMA wal_checkpoint",
            "DELETE FROM t; VACUUM; PRAGMA wal_checkpoint(TRUNCATE)",
            "INSERT INTO t VALUES (2)",
        ] {
            open.batch_execute(statement).expect("a sound statement");
            assert_eq!(look(&mut watched), Ok(()), "{statement}");
        }
    }
}
