//! The database: connect by URL, migrate, read. Writing is [`DbWriter`]'s work.
//!
//! Only this module names diesel, r2d2 or SQL, and only its own threads and the runtime's blocking
//! pool wait for the database. SQLite and PostgreSQL run the same statements, each written once.

#[cfg(not(any(feature = "sqlite", feature = "postgres")))]
compile_error!("a store needs the feature `sqlite` or `postgres`");

mod backend;
mod batch;
mod capacity;
mod ceiling;
#[cfg(feature = "sqlite")]
mod checkpoint;
mod columns;
mod committer;
#[cfg(feature = "sqlite")]
mod database_file;
mod erase;
mod export;
mod handle;
mod health;
mod history;
mod import;
mod intake;
mod journal;
mod lines;
mod lone_writer;
mod message;
mod migrations;
mod options;
#[cfg(feature = "postgres")]
mod postgres;
mod readable;
mod reader;
mod remove;
mod retention;
mod row;
mod run;
mod schema;
mod servers;
pub mod spool;
#[cfg(feature = "sqlite")]
mod sqlite;
mod takeover;
mod turn;
mod url;
mod writer;

use std::io;
use std::path::PathBuf;

use diesel::ConnectionError;

use self::backend::{Backend, Pool, Role};
pub use self::capacity::StorageState;
pub use self::columns::ColumnFields;
#[cfg(feature = "sqlite")]
pub use self::database_file::FileFault;
pub use self::erase::{EraseError, Eraser, Target};
pub use self::export::{ExportError, ExportEvent, Exported, Exporter};
pub use self::handle::DbWriterHandle;
pub use self::import::{ImportError, ImportOptions, ImportProblem, Imported};
pub use self::options::{Prepared, SpoolOptions, StoreOptions, WriterOptions};
pub use self::reader::{CommittedMessage, Page, Reader, Window};
pub use self::retention::{Retention, RetentionRule, RetentionTask};
pub use self::servers::{OtherServers, Servers};
pub use self::url::redacted;
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
    /// What libpq also takes, and other tools of PostgreSQL.
    #[error(
        "a database is named by a URL and not by key=value pairs: write \
         postgres://USER:PASSWORD@HOST/DATABASE"
    )]
    KeyValues,
    /// The URL means SQLite, and no file.
    #[error(
        "the database URL names no file, and a database in memory is not supported: use \
         sqlite://FILE, for example sqlite://slackir.db"
    )]
    NoFile,
    /// The URL means SQLite, and something else than a file.
    #[error("the database URL cannot be used: {0}")]
    SqliteUrl(String),
    /// The URL means a file that is only to be read.
    #[error("database file {0} cannot be written: the URL says mode=ro")]
    ReadOnly(PathBuf),
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
    /// Another server uses the database, and would not learn what is changed in it.
    #[error(
        "the database is in use by another slackir ({0}); stop it, and if it was killed, wait 10 seconds"
    )]
    Shared(String),
    /// There is nothing to read.
    #[error("there is no database file {0}")]
    Missing(PathBuf),
    /// The tables are not there, or not as this version knows them.
    #[error(
        "the database's tables cannot be read: run `slackir migrate` if it is an older database ({0})"
    )]
    Unreadable(#[source] diesel::result::Error),
    /// A table is an Ecto application's, and it was not asked for.
    #[error(
        "the database has a table `messages` that an Ecto application has made: `slackir migrate` \
         takes it over"
    )]
    NotAdopted,
    /// A table is there that is not Slackir's, and cannot become it.
    #[error(
        "the database has a table `{table}` that slackir did not make and cannot take over: {problem}. \
         Nothing was changed; use a database of its own"
    )]
    Foreign {
        /// Which one.
        table: &'static str,
        /// What is not as it should be.
        problem: String,
    },
    /// Messages would be refused.
    #[error("the table `messages` does not take what slackir writes, nothing was changed: {0}")]
    Unfit(#[source] diesel::result::Error),
    /// Somebody else keeps the tables from being migrated.
    #[error(
        "cannot migrate the database: {held} is held for more than {seconds} seconds by {holder}; \
         end that (SELECT pg_terminate_backend(PROCESS)) or try again when it is done"
    )]
    Held {
        /// Which lock.
        held: &'static str,
        /// How long it was waited for.
        seconds: u64,
        /// Who has it.
        holder: String,
    },
    /// A migration failed; none was made.
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
    /// Something has happened to SQLite's file under the server.
    #[cfg(feature = "sqlite")]
    #[error(transparent)]
    File(#[from] FileFault),
    /// The code that commits has panicked.
    #[error("a transaction has panicked: {0}")]
    Panicked(String),
    /// The database does not answer at the moment.
    #[error("the database is away")]
    Away,
    /// A statement failed.
    #[error("the database refused a statement: {0}")]
    Statement(#[from] diesel::result::Error),
}

/// What is said of a file whose pages SQLite cannot read.
const DAMAGED: &str = "the database file is damaged: stop the server and restore a backup";

impl StoreError {
    /// The setting that names what cannot be used, as the file of settings calls it.
    pub fn setting(&self) -> Option<&'static str> {
        match self {
            Self::OpenSpool(_) | Self::Spool(_) => Some("spool_dir"),
            Self::Pool(_) | Self::Panicked(_) | Self::Away | Self::Statement(_) => None,
            _ => Some("database_url"),
        }
    }

    /// What makes the server not ready until it is mended, in words for anybody; `None` where waiting
    /// helps.
    fn fault(&self) -> Option<String> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::File(fault) => Some(fault.to_string()),
            Self::Panicked(_) => {
                Some("the code that saves messages has panicked: see the log".to_owned())
            }
            Self::Statement(error) if batch::is_damage(error) => Some(DAMAGED.to_owned()),
            _ => None,
        }
    }

    /// Whether what is saved now would not be there later.
    fn is_damage(&self) -> bool {
        match self {
            #[cfg(feature = "sqlite")]
            Self::File(_) => true,
            Self::Statement(error) => batch::is_damage(error),
            _ => false,
        }
    }
}

/// A database.
pub struct Store {
    backend: Backend,
    readers: Pool,
    adopt: bool,
    /// Whether it was reached and is migrated.
    prepared: bool,
}

named_debug!(Store);

impl Store {
    /// Opens the database, makes its tables if need be, and runs the migrations that it lacks: all of
    /// them or none. A SQLite file is made where there is none and belongs to one server at a time; a
    /// PostgreSQL database is there already, and several servers may share it.
    ///
    /// # Errors
    /// When the URL is unknown, the database cannot be reached, is none or is in use, has tables of
    /// somebody else, or a migration fails; then nothing is changed and nothing left half started.
    pub fn open(url: &str, options: StoreOptions) -> Result<(Self, Prepared), StoreError> {
        let (backend, prepared) = Backend::open(url, options.adopt_ecto_messages)?;
        let store = Self::new(backend, options, true)?;
        Ok((store, prepared))
    }

    /// Does to the database what [`Store::open`] does, and no more.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn migrate(url: &str, options: StoreOptions) -> Result<Prepared, StoreError> {
        // No pool is made: a thread that connects while the process exits would be in nobody's hands.
        let (_, prepared) = Backend::open(url, options.adopt_ecto_messages)?;
        Ok(prepared)
    }

    /// As [`Store::open`], for a server that goes on without its database: one that
    /// [cannot be reached](StoreError::Unreachable) now is migrated by the [`DbWriter`] when it can.
    ///
    /// # Errors
    /// As [`Store::open`], but for that.
    pub fn open_or_wait(url: &str, options: StoreOptions) -> Result<(Self, Prepared), StoreError> {
        match Self::open(url, options) {
            #[cfg(feature = "postgres")]
            Err(StoreError::Unreachable(error)) => {
                tracing::error!(%error, "store.unreachable");
                let store = Self::new(Backend::unreached(url)?, options, false)?;
                Ok((store, Prepared::default()))
            }
            opened => opened,
        }
    }

    fn new(backend: Backend, options: StoreOptions, prepared: bool) -> Result<Self, StoreError> {
        Ok(Self {
            readers: backend.pool(Role::Readers(options.pool_size))?,
            backend,
            adopt: options.adopt_ecto_messages,
            prepared,
        })
    }

    /// Migrates a database that was not reached when it was opened.
    fn prepare(&mut self) -> Result<(), StoreError> {
        if self.prepared {
            return Ok(());
        }
        self.backend.prepare(self.adopt)?.log();
        self.prepared = true;
        Ok(())
    }
}

impl Prepared {
    /// Says in the log what was done.
    pub fn log(&self) {
        for name in &self.migrations {
            tracing::info!(%name, "store.migrated");
        }
        if self.adopted > 0 {
            tracing::info!(rows = self.adopted, "store.adopted");
        }
    }
}

/// The folder of the spool, where nobody has named another: beside SQLite's file, with `.spool`
/// behind its name, and for PostgreSQL `slackir.spool` in the working folder.
///
/// # Errors
/// When the URL is unknown.
pub fn default_spool(url: &str) -> Result<PathBuf, StoreError> {
    Ok(match url::Scheme::of(url)? {
        url::Scheme::Sqlite => url::beside(&url::SqliteUrl::parse(url)?.path, ".spool"),
        url::Scheme::Postgres => PathBuf::from("slackir.spool"),
    })
}
