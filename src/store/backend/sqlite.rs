//! SQLite: a file, and one server at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::r2d2::{ConnectionManager, CustomizeConnection};

use crate::store::backend::Fault;
use crate::store::backend::Migrate;
use crate::store::backend::Prepared;
use crate::store::backend::checkpoint::{self, Checkpointer};
use crate::store::backend::database_file::{DatabaseFile, FileFault};
use crate::store::backend::url::{self, SqliteMode, SqliteUrl};
use crate::store::backend::{self, Role};
use crate::store::lock_file;

/// The longest wait of a statement for another process's lock on the database.
pub(in crate::store) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

pub(in crate::store) type SqlitePool = r2d2::Pool<ConnectionManager<SqliteConnection>>;
pub(in crate::store) type PooledSqlite =
    r2d2::PooledConnection<ConnectionManager<SqliteConnection>>;

/// A database file. This server owns it while this value lives.
pub(in crate::store) struct SqliteDatabase {
    url: SqliteUrl,
    /// Keeps other servers away, because only one may give seqs. `None` for a reader.
    _lock: Option<File>,
}

impl SqliteDatabase {
    pub(in crate::store) fn open(
        url: &str,
        migrate: Migrate<'_>,
    ) -> Result<(Self, Prepared), Fault> {
        let mut url = SqliteUrl::parse(url)?;
        match url.mode {
            SqliteMode::Still | SqliteMode::Read => return Err(Fault::ReadOnly(url.path)),
            SqliteMode::Write if !url.path.exists() => return Err(Fault::Missing(url.path)),
            SqliteMode::Write | SqliteMode::Create => {}
        }
        // First, so that a database in use is not touched.
        let lock = lock(&url.path)?;
        let mut connection = connect(&url)?;
        let unusable = |source| Fault::Unusable {
            path: url.path.clone(),
            source,
        };
        // The first write lock: this fails for a read-only file.
        let prepared = backend::DbConnection::Sqlite(&mut connection)
            .transaction(migrate)
            .map_err(|error| match error {
                Fault::Statement(source) => unusable(source),
                error => error,
            })?;
        // Last, so that a refused file stays unchanged.
        set_pragmas(&mut connection).map_err(unusable)?;
        // A file that somebody has moved away must not be replaced by an empty one.
        url.mode = SqliteMode::Write;
        let database = Self {
            url,
            _lock: Some(lock),
        };
        Ok((database, prepared))
    }

    /// Opens an existing file to read it. A server may own it.
    pub(in crate::store) fn open_to_read(url: &str) -> Result<Self, Fault> {
        Self::open_existing(SqliteUrl::parse(url)?)
    }

    fn open_existing(url: SqliteUrl) -> Result<Self, Fault> {
        // SQLite would create the file.
        if !url.path.is_file() {
            return Err(Fault::Missing(url.path));
        }
        connect(&url)?;
        Ok(Self { url, _lock: None })
    }

    /// As [`open_to_read`](Self::open_to_read); no connection can write.
    pub(in crate::store) fn open_to_look(url: &str) -> Result<Self, Fault> {
        let mut url = SqliteUrl::parse(url)?;
        // A server that runs, or has crashed, has a write-ahead log. Without one nobody writes.
        url.mode = if url::beside(&url.path, "-wal").exists() {
            SqliteMode::Read
        } else {
            SqliteMode::Still
        };
        Self::open_existing(url)
    }

    pub(in crate::store) fn pool(&self, role: Role) -> Result<SqlitePool, Fault> {
        let manager = ConnectionManager::new(self.url.connection_string());
        let pool = role
            .pool()
            .test_on_check_out(false)
            .connection_customizer(Box::new(Pragmas(role)))
            .build(manager)?;
        Ok(pool)
    }

    /// Whether a server has the file now.
    pub(in crate::store) fn is_owned(&self) -> bool {
        let lock = File::open(url::beside(&self.url.path, ".lock"));
        lock.is_ok_and(|lock| matches!(lock.try_lock(), Err(TryLockError::WouldBlock)))
    }

    pub(in crate::store) fn file(&self) -> Result<DatabaseFile, FileFault> {
        Ok(DatabaseFile::watch(&self.url.path)?)
    }

    pub(in crate::store) fn checkpointer(&self) -> Result<Checkpointer, Fault> {
        let mut connection = connect(&self.url)?;
        set_pragmas(&mut connection)?;
        Ok(Checkpointer::start(&self.url.path, connection))
    }
}

/// Takes the lock file beside the database. The system releases it when the process ends.
fn lock(path: &Path) -> Result<File, Fault> {
    let lock_path = url::beside(path, ".lock");
    let failed = |source| Fault::Lock {
        path: lock_path.clone(),
        source,
    };
    let file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(false)
        .open(&lock_path)
        .map_err(failed)?;
    match lock_file::take(&file).map_err(failed)? {
        true => Ok(file),
        false => Err(Fault::InUse(path.to_owned())),
    }
}

/// A connection outside any pool. Its errors describe the fault of the file. It changes nothing.
fn connect(url: &SqliteUrl) -> Result<SqliteConnection, Fault> {
    let mut connection =
        SqliteConnection::establish(&url.connection_string()).map_err(|source| Fault::Open {
            path: url.path.clone(),
            source,
        })?;
    connection
        .batch_execute(&format!("{} PRAGMA schema_version;", to_read()))
        .map_err(|source| Fault::Unusable {
            path: url.path.clone(),
            source,
        })?;
    Ok(connection)
}

/// Settings that change nothing in the file.
fn to_read() -> String {
    format!(
        "PRAGMA busy_timeout = {}; PRAGMA foreign_keys = ON;",
        BUSY_TIMEOUT.as_millis()
    )
}

/// Settings of a connection that writes. busy_timeout comes first, because the switch to WAL needs a lock. Commits
/// make no checkpoints: the [`Checkpointer`] does.
fn set_pragmas(connection: &mut SqliteConnection) -> QueryResult<()> {
    connection.batch_execute(&format!(
        "{} PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 0; \
         PRAGMA journal_size_limit = {};",
        to_read(),
        checkpoint::LONG,
    ))
}

/// Sets the longest wait of a statement of this connection for a lock.
pub(in crate::store) fn set_busy_timeout(
    connection: &mut SqliteConnection,
    timeout: Duration,
) -> QueryResult<()> {
    connection.batch_execute(&format!("PRAGMA busy_timeout = {}", timeout.as_millis()))
}

#[derive(Debug)]
struct Pragmas(Role);

impl CustomizeConnection<SqliteConnection, diesel::r2d2::Error> for Pragmas {
    fn on_acquire(&self, connection: &mut SqliteConnection) -> Result<(), diesel::r2d2::Error> {
        // Erased data is overwritten.
        let set = match self.0 {
            Role::Readers(_) => connection.batch_execute(&to_read()),
            Role::Writer { strict } => set_pragmas(connection).and_then(|()| {
                let synchronous = if strict { "FULL" } else { "NORMAL" };
                connection.batch_execute(&format!(
                    "PRAGMA secure_delete = ON; PRAGMA synchronous = {synchronous}"
                ))
            }),
        };
        set.map_err(diesel::r2d2::Error::QueryError)
    }
}
