//! [`StoreOptions`] and [`WriterOptions`]: how a database is opened, and how the writer works.

use std::path::PathBuf;

use crate::store::spool::SpoolLimits;
use crate::store::tables::columns::ColumnFields;

/// How a database is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreOptions {
    /// Connections for reading. Default 4.
    pub pool_size: u32,
    /// Whether to take over a table `messages` of an Ecto application, with all its rows. The table must have the
    /// columns `id`, `name`, `message`, `inserted_at` and `updated_at` of Ecto's types and no others, and must accept
    /// any message. Without this option such a database is refused. Default false.
    pub adopt_ecto_messages: bool,
}

setters!(StoreOptions {
    pool_size: u32,
    adopt_ecto_messages: bool,
});

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            pool_size: 4,
            adopt_ecto_messages: false,
        }
    }
}

/// How a writer works.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WriterOptions {
    /// The most pending rows that are in memory only. Default 100,000.
    pub rows: usize,
    /// The most bytes of payload of pending rows that are in memory only. Default 64 MB.
    pub bytes: usize,
    /// Whether a committed row survives a power cut. SQLite then waits for the disk at each commit (`synchronous =
    /// FULL`); PostgreSQL always does. While the database is unreachable, rows are refused at once. Default false.
    pub strict: bool,
    /// The members that fill the columns `name` and `message`, by topic. Topics without a rule use `name` and
    /// `message`.
    pub columns: Vec<ColumnFields>,
    /// The queue on disk for the time when the database is unreachable. Without it pending rows are in memory only.
    /// Rows of an earlier process are committed before the writer starts. A strict writer spools nothing. Default
    /// none.
    pub spool: Option<SpoolOptions>,
}

setters!(WriterOptions {
rows: usize,
    bytes: usize,
    strict: bool,
    columns: Vec<ColumnFields>,
} some {
    spool: SpoolOptions,
});

/// The queue on disk for the time when the database is unreachable.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpoolOptions {
    /// The folder. It is created if it is missing.
    pub dir: PathBuf,
    /// The bounds of the spool. It also has at most a million rows.
    pub limits: SpoolLimits,
}

impl SpoolOptions {
    /// A spool in this folder, with the default bounds.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            limits: SpoolLimits::default(),
        }
    }
}

setters!(SpoolOptions {
    limits: SpoolLimits,
});

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
