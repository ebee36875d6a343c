//! [`StoreOptions`] and [`WriterOptions`]: how a database is opened, and how the writer works.

use std::path::PathBuf;

use super::columns::ColumnFields;
use super::spool::SpoolLimits;

/// How a database is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    /// Connections for reading. Default 4.
    pub pool_size: u32,
    /// Whether a table `messages` that an Ecto application has made is taken over: with its rows, and
    /// with those that the application has written since. Only one that has the columns `id`, `name`,
    /// `message`, `inserted_at` and `updated_at` of Ecto's types and no others, and takes any message.
    /// Without this such a database is refused. Default false.
    pub adopt_ecto_messages: bool,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            pool_size: 4,
            adopt_ecto_messages: false,
        }
    }
}

/// What opening a database has done to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prepared {
    /// The names of the migrations that it lacked.
    pub migrations: Vec<String>,
    /// Rows that the application before had written after its table was taken over. They are messages
    /// of `random:lobby` now, as those that were there before.
    pub adopted: u64,
}

/// How a writer works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriterOptions {
    /// Rows that may wait for their commit in memory alone. Default 100,000.
    pub rows: usize,
    /// Bytes of payload that may wait for their commit in memory alone. Default 64 MB.
    pub bytes: usize,
    /// Whether a committed row survives a power cut. SQLite then waits for the disk at each commit
    /// (`synchronous = FULL`); PostgreSQL always does. While the database is away, rows are refused
    /// at once. Default false.
    pub strict: bool,
    /// What fills the columns `name` and `message`, by topic; the seed's names where nothing is said.
    pub columns: Vec<ColumnFields>,
    /// Where rows wait on disk while the database is away; without it they wait in memory alone.
    /// What an earlier run has left there is committed before the writer starts. A strict writer
    /// puts nothing there. Default none.
    pub spool: Option<SpoolOptions>,
}

/// Where rows wait for a database that is away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolOptions {
    /// The folder; made if it is not there.
    pub dir: PathBuf,
    /// How much may wait. A million rows at most, whatever their size.
    pub limits: SpoolLimits,
}

impl Default for WriterOptions {
    fn default() -> Self {
        Self {
            rows: 100_000,
            bytes: 64_000_000,
            strict: false,
            columns: Vec::new(),
            spool: None,
        }
    }
}
