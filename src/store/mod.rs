//! The database: connect by URL, migrate, read. Writing is [`DbWriter`]'s work.
//!
//! Only this module names diesel, r2d2 or SQL, and only its own threads and the runtime's blocking
//! pool wait for the database. SQLite and PostgreSQL run the same statements, each written once.

#[cfg(not(any(feature = "sqlite", feature = "postgres")))]
compile_error!("a store needs the feature `sqlite` or `postgres`");

mod backend;
mod batch;
#[cfg(feature = "sqlite")]
mod checkpoint;
mod columns;
mod erase;
mod export;
mod handle;
mod history;
mod import;
mod lines;
mod lone_writer;
mod message;
#[cfg(feature = "postgres")]
mod postgres;
mod reader;
mod remove;
mod retention;
mod run;
mod schema;
pub mod spool;
#[cfg(feature = "sqlite")]
mod sqlite;
mod url;
mod writer;

use std::path::PathBuf;

use diesel::ConnectionError;

use self::backend::{Backend, Pool, Role};
pub use self::columns::ColumnFields;
pub use self::erase::{EraseError, Eraser, Target};
pub use self::export::{ExportError, Exported, Exporter};
pub use self::handle::DbWriterHandle;
pub use self::import::{ImportError, ImportProblem, Imported};
pub use self::reader::{CommittedMessage, Page, Reader, Window};
pub use self::retention::{Retention, RetentionRule, RetentionTask};
pub use self::writer::{DbWriter, WriterOptions};

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
    /// The server cannot be reached, or lets nobody in.
    #[error("cannot connect to the database: {0}")]
    Connect(String),
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
        source: std::io::Error,
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
    /// A statement failed.
    #[error("the database refused a statement: {0}")]
    Statement(#[from] diesel::result::Error),
}

/// An opened, migrated database.
pub struct Store {
    backend: Backend,
    readers: Pool,
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
        let readers = backend.pool(Role::Readers(pool_size))?;
        Ok((Self { backend, readers }, applied))
    }
}
