//! The database: connects by URL, migrates, reads. The [`DbWriter`] writes.
//!
//! Only this module names diesel, r2d2 or SQL. Only its own threads and the runtime's blocking pool wait for the
//! database. SQLite and PostgreSQL run the same statements, each written once.
//!
//! Its modules have an order. Each may use the modules above it; `tests/architecture/` checks that.
//!
//! | module | responsibility |
//! | --- | --- |
//! | `lock_file` | one owner for a database file and a spool |
//! | `schema`, `numbers` | the columns; seqs and epochs as columns |
//! | `spool` | a queue of rows on disk |
//! | `backend` | SQLite and PostgreSQL behind one interface |
//! | `tables` | rows and statements |
//! | `options`, `opened`, `reader` | how a database is opened; [`Store`]; reading |
//! | `write` | the writer |
//! | `upkeep`, `servers` | retention, erasing, exports, imports, backups, revocations, bans, slow modes; other servers on the database |
//! | `feed` | committed messages of all topics, behind a cursor |

#[cfg(not(any(feature = "sqlite", feature = "postgres")))]
compile_error!("a store needs the feature `sqlite` or `postgres`; so do `redis` and `nats`");

mod backend;
mod feed;
mod lock_file;
mod numbers;
mod opened;
mod options;
mod reader;
mod schema;
mod servers;
pub mod spool;
mod tables;
mod upkeep;
mod write;

use std::path::PathBuf;

#[cfg(feature = "sqlite")]
pub use self::backend::FileFault;
use self::backend::url;
pub use self::backend::{Prepared, StoreError, redacted};
pub(crate) use self::feed::{FedMessage, Feed, RowCursor};
pub use self::opened::Store;
pub use self::options::{SpoolOptions, StoreOptions, WriterOptions};
pub use self::reader::{CommittedMessage, Page, Reader, Window};
pub(crate) use self::servers::{ClusterSeat, OtherServers, SeenServer, Servers};
pub use self::tables::ColumnFields;
pub use self::upkeep::{
    BackupError, BansUnavailable, DatabaseCondition, EraseError, Eraser, ExportError, ExportEvent,
    Exported, Exporter, ImportError, ImportOptions, ImportProblem, Imported, Retention,
    RetentionRule, RetentionRules, RetentionTask, RevocationsUnavailable, StoredBans,
    StoredRevocations, Target, back_up,
};
pub(crate) use self::upkeep::{SlowModesUnavailable, StoredSlowModes};
pub use self::write::{DbWriter, DbWriterHandle, StorageState};

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
///
/// # Panics
/// As [`DbWriter::start_on_own_thread`].
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
