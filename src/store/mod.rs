//! The database: connects by URL, migrates, reads. The [`DbWriter`] writes.
//!
//! Only this module names diesel, r2d2 or SQL. Only its own threads and the runtime's blocking pool wait for the
//! database. SQLite and PostgreSQL run the same statements, each written once.
//!
//! Its modules have an order. Each may use the modules above it; `tests/architecture.rs` checks that.
//!
//! | module | responsibility |
//! | --- | --- |
//! | `schema`, `numbers` | the columns; seqs and epochs as columns |
//! | `spool` | a queue of rows on disk |
//! | `backend` | SQLite and PostgreSQL behind one interface |
//! | `tables` | rows and statements |
//! | `options`, `reader` | how a database is opened; reading |
//! | `write` | the writer |
//! | `upkeep`, `servers` | retention, erasing, exports, imports, backups, revocations, bans; other servers on the database |
//! | `feed` | committed messages of all topics, behind a cursor |

#[cfg(not(any(feature = "sqlite", feature = "postgres")))]
compile_error!("a store needs the feature `sqlite` or `postgres`");

mod backend;
mod feed;
mod lock_file;
mod numbers;
mod options;
mod reader;
mod schema;
mod servers;
pub mod spool;
mod tables;
mod upkeep;
mod write;

use std::path::PathBuf;

use self::backend::Fault;
#[cfg(feature = "sqlite")]
pub use self::backend::FileFault;
use self::backend::{Backend, DbConnection, Pool, Role, url};
pub use self::backend::{Prepared, StoreError, redacted};
pub(crate) use self::feed::{FedMessage, Feed, RowCursor};
pub use self::options::{SpoolOptions, StoreOptions, WriterOptions};
pub use self::reader::{CommittedMessage, Page, Reader, Window};
pub(crate) use self::servers::{ClusterSeat, OtherServers, SeenServer, Servers};
pub use self::tables::ColumnFields;
use self::tables::migrations;
pub use self::upkeep::{
    BackupError, BansUnavailable, DatabaseCondition, EraseError, Eraser, ExportError, ExportEvent,
    Exported, Exporter, ImportError, ImportOptions, ImportProblem, Imported, Retention,
    RetentionRule, RetentionRules, RetentionTask, RevocationsUnavailable, StoredBans,
    StoredRevocations, Target, back_up,
};
pub use self::write::{DbWriter, DbWriterHandle, StorageState};

/// A database.
pub struct Store {
    backend: Backend,
    readers: Pool,
    adopt: bool,
    /// Whether the database was reached and migrated.
    prepared: bool,
}

named_debug!(Store);

impl Store {
    /// Opens the database of a URL, `sqlite://FILE` or `postgres://USER:PASSWORD@HOST/DATABASE`, creates its tables
    /// if they are missing, and runs all pending migrations or none. A SQLite file is created if it is missing, and
    /// belongs to one server at a time. A PostgreSQL database must exist; several servers may share it.
    ///
    /// # Errors
    /// If the URL is unknown, the database is unreachable, invalid or in use, has tables of another application, or
    /// a migration fails. Then nothing is changed.
    pub fn open(url: &str, options: StoreOptions) -> Result<(Self, Prepared), StoreError> {
        let adopt = options.adopt_ecto_messages;
        let (backend, prepared) = Backend::open(url, &migration(adopt))?;
        let store = Self::new(backend, options, true)?;
        Ok((store, prepared))
    }

    /// Migrates the database as [`Store::open`] does, and does nothing else.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn migrate(url: &str, options: StoreOptions) -> Result<Prepared, StoreError> {
        // Without a pool: a thread that is still connecting would outlive this call.
        let (_, prepared) = Backend::open(url, &migration(options.adopt_ecto_messages))?;
        Ok(prepared)
    }

    /// As [`Store::open`], for a server that starts without its database. If the database is
    /// [unreachable](StoreError::is_unreachable) now, the [`DbWriter`] migrates it later.
    ///
    /// # Errors
    /// As [`Store::open`], except for an unreachable database.
    pub fn open_or_wait(url: &str, options: StoreOptions) -> Result<(Self, Prepared), StoreError> {
        match Self::open(url, options) {
            #[cfg(feature = "postgres")]
            Err(StoreError(error @ Fault::Unreachable(_))) => {
                tracing::error!(
                    %error,
                    "store.unreachable: start the database or mend its URL; messages wait in the \
                     spool"
                );
                let store = Self::new(Backend::unreached(url)?, options, false)?;
                Ok((store, Prepared::default()))
            }
            opened => opened,
        }
    }

    fn new(backend: Backend, options: StoreOptions, prepared: bool) -> Result<Self, Fault> {
        Ok(Self {
            readers: backend.pool(Role::Readers(options.pool_size))?,
            backend,
            adopt: options.adopt_ecto_messages,
            prepared,
        })
    }

    /// Migrates a database that was unreachable when it was opened.
    fn prepare(&mut self) -> Result<(), Fault> {
        if self.prepared {
            return Ok(());
        }
        self.backend.prepare(&migration(self.adopt))?.log();
        self.prepared = true;
        Ok(())
    }
}

/// The migrations. `adopt`: also take over the table of an Ecto application.
fn migration(adopt: bool) -> impl Fn(&mut DbConnection<'_>) -> Result<Prepared, Fault> {
    move |connection| migrations::run(connection, adopt)
}

/// Opens the database of a URL (`sqlite://FILE` or `postgres://USER:PASSWORD@HOST/DATABASE`) and starts its writer,
/// both with default options. The result is the store of a [`LogRule`](crate::log::LogRule). [`Store::open`] and
/// [`DbWriter::start_on_own_thread`] take other options, such as a spool.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let url = format!("sqlite://{}/chat.db", folder.path().display());
/// # let _system = actix_rt::System::new();
/// use std::sync::Arc;
///
/// use slackir::log::LogRule;
///
/// let store = Arc::new(slackir::store::open(&url)?);
/// let rule = LogRule::new("room:*", &["shout"], 50, store);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// As [`Store::open`] and [`DbWriter::start_on_own_thread`].
pub fn open(url: &str) -> Result<DbWriterHandle, StoreError> {
    let (store, _) = Store::open(url, StoreOptions::default())?;
    DbWriter::start_on_own_thread(store, WriterOptions::default())
}

/// The default folder of the spool. For SQLite its path is that of the database file with `.spool` at the end; for
/// PostgreSQL it is `slackir.spool` in the working folder.
///
/// # Errors
/// If the URL is unknown.
pub fn default_spool(url: &str) -> Result<PathBuf, StoreError> {
    Ok(match url::Scheme::of(url)? {
        url::Scheme::Sqlite => url::beside(&url::SqliteUrl::parse(url)?.path, ".spool"),
        url::Scheme::Postgres => PathBuf::from("slackir.spool"),
    })
}

/// The file of a SQLite URL; `None` for PostgreSQL.
#[cfg(feature = "server")]
pub(crate) fn sqlite_file(url: &str) -> Option<PathBuf> {
    match url::Scheme::of(url).ok()? {
        url::Scheme::Sqlite => Some(url::SqliteUrl::parse(url).ok()?.path),
        url::Scheme::Postgres => None,
    }
}
