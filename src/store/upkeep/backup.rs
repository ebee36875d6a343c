//! [`back_up`]: a copy of SQLite's file that is whole at one moment, also beside a running server.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::store::backend::url::{self, Scheme};
use crate::store::backend::{Backend, Fault, Role, StoreError};
use crate::store::tables::run;

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The database cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The database is PostgreSQL.
    #[error(
        "only SQLite databases are copied like this; back PostgreSQL up by: pg_dump --format=custom --file={} {url} \
         (with the password in PGPASSWORD or ~/.pgpass)", file.display()
    )]
    Postgres {
        /// The backup.
        file: PathBuf,
        /// The URL without its password.
        url: String,
    },
    /// The backup's file exists.
    #[error("{} exists already: nothing was written; name another file", .0.display())]
    Exists(PathBuf),
    /// The backup cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The copy failed.
    #[error("cannot copy the database to {}: {source}", path.display())]
    Copy {
        /// The file.
        path: PathBuf,
        /// SQLite's error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl From<Fault> for BackupError {
    fn from(fault: Fault) -> Self {
        Self::Store(fault.into())
    }
}

/// Copies the database of a URL to a new file, and returns the size of the copy in bytes. The copy has every message
/// that was committed before. A server may write meanwhile, and is not delayed. The file appears once the copy is whole
/// and on disk. Only its owner may read it.
///
/// # Errors
/// If the file exists or cannot be written, or the database cannot be read. Then no file is left behind.
pub fn back_up(url: &str, file: &Path) -> Result<u64, BackupError> {
    if Scheme::of(url)? == Scheme::Postgres {
        let url = url::redacted(url).replacen("ecto://", "postgres://", 1);
        return Err(BackupError::Postgres {
            file: file.to_owned(),
            url,
        });
    }
    if file.symlink_metadata().is_ok() {
        return Err(BackupError::Exists(file.to_owned()));
    }
    let backend = Backend::open_to_read(url)?;
    // Before the copy, so that a server that ends meanwhile has ended its runs.
    let is_owned = backend.is_owned();
    let unfinished = Unfinished::create(file)?;
    let mut pooled = backend.pool(Role::Readers(1))?.get()?;
    unfinished.fill(&mut pooled.connection())?;
    if is_owned {
        unfinished.end_runs()?;
    }
    unfinished.finish(file)
}

/// The copy before it is whole. It is removed when this value is dropped.
struct Unfinished {
    path: PathBuf,
    file: File,
}

impl Unfinished {
    fn create(file: &Path) -> Result<Self, BackupError> {
        // Of this process: two backups must not write into one file.
        let path = url::beside(file, &format!(".{}.unfinished", std::process::id()));
        let mut options = OpenOptions::new();
        // One that an earlier process with this number has left is written again.
        let options = options.write(true).create(true).truncate(true).mode(0o600);
        match options.open(&path) {
            Ok(file) => Ok(Self { path, file }),
            Err(source) => Err(BackupError::Write { path, source }),
        }
    }

    /// Copies the database into the file, which is empty.
    #[cfg(feature = "sqlite")]
    fn fill(
        &self,
        connection: &mut crate::store::backend::DbConnection<'_>,
    ) -> Result<(), BackupError> {
        use diesel::prelude::*;
        use diesel::sql_types::Text;

        use crate::store::backend::on_each_backend;

        // A plain name, and not a URI, for SQLite.
        let path = std::path::absolute(&self.path).map_err(|source| self.failed(source))?;
        let copy = diesel::sql_query("VACUUM INTO $1");
        let copy = copy.bind::<Text, _>(path.to_string_lossy().into_owned());
        on_each_backend!(connection, |typed| copy.execute(typed)).map_err(|source| {
            BackupError::Copy {
                path: self.path.clone(),
                source: source.into(),
            }
        })?;
        Ok(())
    }

    #[cfg(not(feature = "sqlite"))]
    fn fill(&self, _: &mut crate::store::backend::DbConnection<'_>) -> Result<(), BackupError> {
        // PostgreSQL was refused, and another database cannot be opened.
        Ok(())
    }

    /// Ends the runs that the server goes on with, so that clients can resume from the copy. A database that no server
    /// has keeps its open runs: those are of a server that has crashed, and may have lost messages.
    fn end_runs(&self) -> Result<(), BackupError> {
        let copy = Backend::open_to_read(&format!("sqlite:{}", self.path.display()))?;
        let mut pooled = copy.pool(Role::Readers(1))?.get()?;
        let ended = pooled.connection().transaction(run::end_all);
        ended.map_err(|source| BackupError::Copy {
            path: self.path.clone(),
            source: source.into(),
        })
    }

    /// Gives the file its name, once it is on disk.
    fn finish(self, file: &Path) -> Result<u64, BackupError> {
        let finished = self.file.sync_all().and_then(|()| {
            // Unlike a renaming, a link does not overwrite a file that has appeared meanwhile.
            fs::hard_link(&self.path, file)?;
            let folder = file
                .parent()
                .filter(|folder| !folder.as_os_str().is_empty());
            File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
            Ok(self.file.metadata()?.len())
        });
        finished.map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => BackupError::Exists(file.to_owned()),
            _ => BackupError::Write {
                path: file.to_owned(),
                source,
            },
        })
    }

    #[cfg(feature = "sqlite")]
    fn failed(&self, source: io::Error) -> BackupError {
        BackupError::Write {
            path: self.path.clone(),
            source,
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // It is in the way of nothing if it stays.
        let _ = fs::remove_file(&self.path);
    }
}
