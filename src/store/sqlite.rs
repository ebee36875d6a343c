//! SQLite: a file, and one server at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::r2d2::{ConnectionManager, CustomizeConnection};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::backend::Role;
use super::checkpoint::{self, Checkpointer};
use super::{StoreError, url};

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/sqlite");

/// How long a statement waits for another process's lock on the database.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) type Pool = r2d2::Pool<ConnectionManager<SqliteConnection>>;
pub(super) type Pooled = r2d2::PooledConnection<ConnectionManager<SqliteConnection>>;

/// A migrated database file, this server's own as long as this lives.
pub(super) struct Database {
    path: PathBuf,
    /// Seqs are given out by one server at a time. `None` for one who only reads.
    _lock: Option<File>,
}

impl Database {
    pub(super) fn open(url: &str) -> Result<(Self, Vec<String>), StoreError> {
        let path = url::sqlite_path(url);
        // The lock comes first: a database that another server uses is not touched.
        let lock = lock(&path)?;
        let mut connection = connect(&path)?;
        let applied = connection
            .run_pending_migrations(MIGRATIONS)
            .map_err(StoreError::Migration)?;
        let applied = applied.iter().map(ToString::to_string).collect();
        // A file that can only be read would take no message.
        connection
            .batch_execute("BEGIN IMMEDIATE; UPDATE messages SET seq = seq WHERE FALSE; ROLLBACK")
            .map_err(|source| StoreError::Unusable {
                path: path.clone(),
                source,
            })?;
        let database = Self {
            path,
            _lock: Some(lock),
        };
        Ok((database, applied))
    }

    /// Opens a file that is there, beside the server that may have it.
    pub(super) fn open_to_read(url: &str) -> Result<Self, StoreError> {
        let path = url::sqlite_path(url);
        // SQLite would make one.
        if !path.is_file() {
            return Err(StoreError::Missing(path));
        }
        connect(&path)?;
        Ok(Self { path, _lock: None })
    }

    pub(super) fn pool(&self, role: Role) -> Result<Pool, StoreError> {
        let manager = ConnectionManager::new(self.path.to_string_lossy());
        let pool = role
            .pool()
            .test_on_check_out(false)
            .connection_customizer(Box::new(Pragmas(role)))
            .build(manager)?;
        Ok(pool)
    }

    pub(super) fn checkpointer(&self) -> Result<Checkpointer, StoreError> {
        Ok(Checkpointer::start(&self.path, connect(&self.path)?))
    }
}

/// Takes the lock file beside the database. The system gives it back when the process ends,
/// however it ends.
fn lock(path: &Path) -> Result<File, StoreError> {
    let lock_path = url::beside(path, ".lock");
    let failed = |source| StoreError::Lock {
        path: lock_path.clone(),
        source,
    };
    let file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(false)
        .open(&lock_path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse(path.to_owned())),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// One connection outside any pool, whose errors say what is wrong with the file.
fn connect(path: &Path) -> Result<SqliteConnection, StoreError> {
    let mut connection =
        SqliteConnection::establish(&path.to_string_lossy()).map_err(|source| {
            StoreError::Open {
                path: path.to_owned(),
                source,
            }
        })?;
    set_pragmas(&mut connection).map_err(|source| StoreError::Unusable {
        path: path.to_owned(),
        source,
    })?;
    Ok(connection)
}

/// busy_timeout first: the switch to WAL needs a moment alone. No commit makes a checkpoint, which
/// takes tens of milliseconds: [`Checkpointer`] does.
fn set_pragmas(connection: &mut SqliteConnection) -> QueryResult<()> {
    connection.batch_execute(&format!(
        "PRAGMA busy_timeout = {}; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; \
         PRAGMA foreign_keys = ON; PRAGMA wal_autocheckpoint = 0; PRAGMA journal_size_limit = {};",
        BUSY_TIMEOUT.as_millis(),
        checkpoint::LONG,
    ))
}

/// How long a statement of this connection waits from now on.
pub(super) fn set_busy_timeout(
    connection: &mut SqliteConnection,
    timeout: Duration,
) -> QueryResult<()> {
    connection.batch_execute(&format!("PRAGMA busy_timeout = {}", timeout.as_millis()))
}

#[derive(Debug)]
struct Pragmas(Role);

impl CustomizeConnection<SqliteConnection, diesel::r2d2::Error> for Pragmas {
    fn on_acquire(&self, connection: &mut SqliteConnection) -> Result<(), diesel::r2d2::Error> {
        set_pragmas(connection)
            .and_then(|()| match self.0 {
                // What is erased is overwritten.
                Role::Writer { strict: true } => {
                    connection.batch_execute("PRAGMA secure_delete = ON; PRAGMA synchronous = FULL")
                }
                Role::Writer { strict: false } => {
                    connection.batch_execute("PRAGMA secure_delete = ON")
                }
                Role::Readers(_) => Ok(()),
            })
            .map_err(diesel::r2d2::Error::QueryError)
    }
}
