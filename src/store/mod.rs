//! The database: connect by URL, migrate, read. Writing is [`DbWriter`]'s work.
//!
//! Only this module names diesel, r2d2 or SQL, and only its own threads and the runtime's blocking
//! pool wait for the database. SQLite and PostgreSQL run the same statements, each written once.

#[cfg(not(any(feature = "sqlite", feature = "postgres")))]
compile_error!("a store needs the feature `sqlite` or `postgres`");

mod backend;
mod batch;
mod capacity;
#[cfg(feature = "sqlite")]
mod checkpoint;
mod columns;
mod committer;
mod erase;
mod export;
mod handle;
mod history;
mod import;
mod intake;
mod journal;
mod lines;
mod lone_writer;
mod message;
mod options;
#[cfg(feature = "postgres")]
mod postgres;
mod reader;
mod remove;
mod retention;
mod row;
mod run;
mod schema;
pub mod spool;
#[cfg(feature = "sqlite")]
mod sqlite;
mod turn;
mod url;
mod writer;

use std::io;
use std::path::PathBuf;

use diesel::ConnectionError;

use self::backend::{Backend, Pool, Role};
pub use self::capacity::StorageState;
pub use self::columns::ColumnFields;
pub use self::erase::{EraseError, Eraser, Target};
pub use self::export::{ExportError, Exported, Exporter};
pub use self::handle::DbWriterHandle;
pub use self::import::{ImportError, ImportProblem, Imported};
pub use self::options::{SpoolOptions, WriterOptions};
pub use self::reader::{CommittedMessage, Page, Reader, Window};
pub use self::retention::{Retention, RetentionRule, RetentionTask};
pub use self::writer::DbWriter;

/// Why the database cannot be used. Each text says what to do about it, and none holds a password.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The URL names a database that nobody here knows.
    #[error(
        "a database URL with scheme {0:?} is not supported: use sqlite://FILE, for example \
         sqlite://slackir.db, or postgres://USER:PASSWORD@HOST/DATABASE"
    )]
    UnsupportedUrl(String),
    /// The URL names a database that this build does not have.
    #[error("this slackir was built without {database}: build it with --features {feature}")]
    NotBuiltIn {
        /// Which one.
        database: &'static str,
        /// The Cargo feature that brings it.
        feature: &'static str,
    },
    /// The URL would be misread.
    #[error(
        "the database URL cannot be read: write / : @ ? # % and spaces in its password \
         percent-encoded, for example %2F for /"
    )]
    PasswordEncoding,
    /// The server lets nobody in.
    #[error("cannot connect to the database: {0}")]
    Connect(String),
    /// The server does not answer, or not yet.
    #[error("cannot connect to the database: {0}")]
    Unreachable(String),
    /// The database cannot hold every text.
    #[error("the database has the encoding {0}: make one WITH ENCODING 'UTF8' TEMPLATE template0")]
    Encoding(String),
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
        source: io::Error,
    },
    /// Another server has the database.
    #[error(
        "database file {0} is in use by another slackir; stop it, or give this one its own --database-url"
    )]
    InUse(PathBuf),
    /// There is nothing to read.
    #[error("there is no database file {0}")]
    Missing(PathBuf),
    /// The tables are not there, or not as this version knows them.
    #[error(
        "the database's tables cannot be read: run `slackir migrate` if it is an older database ({0})"
    )]
    Unreadable(#[source] diesel::result::Error),
    /// A migration failed; those before it are done.
    #[error("cannot migrate the database: {0}")]
    Migration(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No connection of the pool became free.
    #[error("no database connection: {0}")]
    Pool(#[from] r2d2::Error),
    /// The spool cannot be used.
    #[error(transparent)]
    OpenSpool(#[from] spool::OpenError),
    /// What waits in the spool cannot be read.
    #[error("cannot read the spool: {0}")]
    Spool(#[source] io::Error),
    /// The database does not answer at the moment.
    #[error("the database is away")]
    Away,
    /// A statement failed.
    #[error("the database refused a statement: {0}")]
    Statement(#[from] diesel::result::Error),
}

/// A database.
pub struct Store {
    backend: Backend,
    readers: Pool,
    /// Whether it was reached and is migrated.
    prepared: bool,
}

impl Store {
    /// Opens the database, makes its tables if need be, and runs the migrations that it lacks: their
    /// names come back with it. A SQLite file is made where there is none and belongs to one server
    /// at a time; a PostgreSQL database is there already, and several servers may share it.
    ///
    /// # Errors
    /// When the URL is unknown, the database cannot be reached, is none or is in use, or a migration
    /// fails; then nothing is left half started.
    pub fn open(url: &str, pool_size: u32) -> Result<(Self, Vec<String>), StoreError> {
        let (backend, applied) = Backend::open(url)?;
        let store = Self::new(backend, pool_size, true)?;
        Ok((store, applied))
    }

    /// As [`Store::open`], for a server that goes on without its database: one that
    /// [cannot be reached](StoreError::Unreachable) now is migrated by the [`DbWriter`] when it can.
    ///
    /// # Errors
    /// As [`Store::open`], but for that.
    pub fn open_or_wait(url: &str, pool_size: u32) -> Result<(Self, Vec<String>), StoreError> {
        match Self::open(url, pool_size) {
            #[cfg(feature = "postgres")]
            Err(StoreError::Unreachable(error)) => {
                tracing::error!(%error, "store.unreachable");
                let store = Self::new(Backend::unreached(url)?, pool_size, false)?;
                Ok((store, Vec::new()))
            }
            opened => opened,
        }
    }

    fn new(backend: Backend, pool_size: u32, prepared: bool) -> Result<Self, StoreError> {
        Ok(Self {
            readers: backend.pool(Role::Readers(pool_size))?,
            backend,
            prepared,
        })
    }

    /// Migrates a database that was not reached when it was opened.
    fn prepare(&mut self) -> Result<(), StoreError> {
        if self.prepared {
            return Ok(());
        }
        for name in self.backend.prepare()? {
            tracing::info!(%name, "store.migrated");
        }
        self.prepared = true;
        Ok(())
    }
}

/// The folder of the spool, where nobody has named another: beside SQLite's file, with `.spool`
/// behind its name, and for PostgreSQL `slackir.spool` in the working folder.
///
/// # Errors
/// When the URL is unknown.
pub fn default_spool(url: &str) -> Result<PathBuf, StoreError> {
    Ok(match url::Scheme::of(url)? {
        url::Scheme::Sqlite => url::beside(&url::sqlite_path(url), ".spool"),
        url::Scheme::Postgres => PathBuf::from("slackir.spool"),
    })
}
