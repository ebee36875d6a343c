//! The database: connect by URL, migrate, read. Writing is [`DbWriter`]'s work.
//!
//! Only this module names diesel, r2d2 or SQL, and only its own threads and the runtime's blocking
//! pool wait for the database.

mod message;
mod schema;
pub mod spool;
mod writer;

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::r2d2::{ConnectionManager, CustomizeConnection};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

pub use self::writer::{DbWriter, DbWriterHandle, WriterLimits};

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/sqlite");

/// How long a statement waits for another process's lock on the database.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a reader waits for a free connection.
const CHECKOUT_TIMEOUT: Duration = Duration::from_secs(5);

type Pool = r2d2::Pool<ConnectionManager<SqliteConnection>>;
type Pooled = r2d2::PooledConnection<ConnectionManager<SqliteConnection>>;

/// Why the database cannot be used. Each text says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The URL names a database that this build does not know.
    #[error(
        "a database URL with {0} is not supported: use sqlite://FILE, for example sqlite://slackir.db"
    )]
    UnsupportedUrl(String),
    /// The file cannot be opened.
    #[error("cannot open database file {path}: {source}")]
    Open {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: ConnectionError,
    },
    /// The file is there, and is no database or cannot be read.
    #[error("cannot use database file {path}: {source}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: diesel::result::Error,
    },
    /// The lock file beside the database cannot be made.
    #[error("cannot lock database file {path}: {source}")]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Another server has the database.
    #[error(
        "database file {0} is in use by another slackir; stop it, or give this one its own --database-url"
    )]
    InUse(PathBuf),
    /// A migration failed; those before it are done.
    #[error("cannot migrate the database: {0}")]
    Migration(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No connection of the pool became free.
    #[error("no database connection: {0}")]
    Pool(#[from] r2d2::Error),
    /// A statement failed.
    #[error("the database refused a statement: {0}")]
    Statement(#[from] diesel::result::Error),
}

/// An opened, migrated database.
pub struct Store {
    path: PathBuf,
    readers: Pool,
    /// Held as long as the store: SQLite gives out seqs to one server at a time.
    _lock: File,
}

impl Store {
    /// Opens the database, makes it if need be, and runs the migrations that it lacks.
    ///
    /// # Errors
    /// When the URL is unknown, the file is no database or in use, or a migration fails; then
    /// nothing is left half started.
    pub fn open(url: &str, pool_size: u32) -> Result<(Self, Vec<String>), StoreError> {
        let path = sqlite_path(url)?;
        // The lock comes first: a database that another server uses is not touched.
        let lock = lock(&path)?;
        let mut connection = connect(&path)?;
        let applied = migrate(&mut connection)?;
        // A file that can only be read would take no message.
        connection
            .batch_execute("BEGIN IMMEDIATE; UPDATE messages SET seq = seq WHERE FALSE; ROLLBACK")
            .map_err(|source| StoreError::Unusable {
                path: path.clone(),
                source,
            })?;
        let readers = pool(&path, pool_size)?;
        Ok((
            Self {
                path,
                readers,
                _lock: lock,
            },
            applied,
        ))
    }

    /// The one connection that writes, in a pool of its own.
    fn writer(&self) -> Result<Pool, StoreError> {
        pool(&self.path, 1)
    }
}

/// `sqlite://FILE`, `sqlite:FILE` or `FILE`, the rule of diesel_cli.
fn sqlite_path(url: &str) -> Result<PathBuf, StoreError> {
    // The scheme alone: the rest may hold a password.
    let unsupported = || {
        StoreError::UnsupportedUrl(format!(
            "scheme {:?}",
            url.split(':').next().unwrap_or_default()
        ))
    };
    let path = url
        .strip_prefix("sqlite://")
        .or_else(|| url.strip_prefix("sqlite:"))
        .unwrap_or(url);
    // Every pooled connection would have a memory of its own.
    if path.is_empty()
        || path.contains(":memory:")
        || path.contains("://")
        || path.starts_with("file:")
    {
        return Err(unsupported());
    }
    Ok(PathBuf::from(path))
}

/// Takes the lock file beside the database. The system gives it back when the process ends,
/// however it ends.
fn lock(path: &Path) -> Result<File, StoreError> {
    let mut lock_path = path.as_os_str().to_owned();
    lock_path.push(".lock");
    let lock_path = PathBuf::from(lock_path);
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

/// busy_timeout first: the switch to WAL needs a moment alone. Checkpoints are rare, because a
/// commit that has to make one takes tens of milliseconds.
fn set_pragmas(connection: &mut SqliteConnection) -> QueryResult<()> {
    connection.batch_execute(&format!(
        "PRAGMA busy_timeout = {}; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; \
         PRAGMA foreign_keys = ON; PRAGMA wal_autocheckpoint = 20000;",
        BUSY_TIMEOUT.as_millis(),
    ))
}

fn migrate(connection: &mut SqliteConnection) -> Result<Vec<String>, StoreError> {
    let applied = connection
        .run_pending_migrations(MIGRATIONS)
        .map_err(StoreError::Migration)?;
    Ok(applied.iter().map(ToString::to_string).collect())
}

fn pool(path: &Path, size: u32) -> Result<Pool, StoreError> {
    let manager = ConnectionManager::new(path.to_string_lossy());
    let pool = r2d2::Pool::builder()
        .max_size(size.max(1))
        .min_idle(Some(1))
        .test_on_check_out(false)
        .connection_timeout(CHECKOUT_TIMEOUT)
        .connection_customizer(Box::new(Pragmas))
        .build(manager)?;
    Ok(pool)
}

#[derive(Debug)]
struct Pragmas;

impl CustomizeConnection<SqliteConnection, diesel::r2d2::Error> for Pragmas {
    fn on_acquire(&self, connection: &mut SqliteConnection) -> Result<(), diesel::r2d2::Error> {
        set_pragmas(connection).map_err(diesel::r2d2::Error::QueryError)
    }
}
