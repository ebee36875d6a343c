//! The arguments of `slackir erase`, `slackir export` and `slackir import`.

use std::path::PathBuf;

use clap::Args;

use super::{DatabaseConfig, FileConfig};

/// `slackir erase`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "For a database that no server runs on. A running server erases by its HTTP API, which \
    clears its memory as well: with PostgreSQL this command cannot do that, and with SQLite it refuses to \
    run beside a server."
)]
pub(crate) struct EraseConfig {
    /// What to erase.
    #[command(flatten)]
    pub what: EraseWhat,

    /// Only print how many messages it would be
    #[arg(long)]
    pub dry_run: bool,

    /// The file of settings, which may name the database.
    #[command(flatten)]
    pub file: FileConfig,

    /// The database.
    #[command(flatten)]
    pub database: DatabaseConfig,
}

/// One of both, or both.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = true)]
pub(crate) struct EraseWhat {
    /// Erase all messages of this topic; with --name, only those that the name has written there
    #[arg(long, value_name = "TOPIC")]
    pub topic: Option<String>,

    /// Erase all messages whose column `name` is this, and what was made of them
    #[arg(long, value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub name: Option<String>,
}

/// `slackir export`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "One JSON object a line: the version, then each topic and its messages, the same from \
    SQLite and PostgreSQL. A server may run meanwhile."
)]
pub(crate) struct ExportConfig {
    /// Only these topics: one, or a prefix with * at its end
    #[arg(long, value_name = "PATTERN")]
    pub topic: Option<String>,

    /// Where to write; - is standard output
    #[arg(long, default_value = "-", value_name = "FILE")]
    pub output: PathBuf,

    /// The file of settings, which may name the database.
    #[command(flatten)]
    pub file: FileConfig,

    /// The database.
    #[command(flatten)]
    pub database: DatabaseConfig,
}

/// `slackir import`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "The database is made and migrated if need be. Messages that are there already are skipped, \
    so an import that has ended early can be made again; clients resume in a topic once it is whole. A topic \
    that has another history in the database is refused, unless --append is given. No server may run on the \
    database."
)]
pub(crate) struct ImportConfig {
    /// What to read; - is standard input
    #[arg(default_value = "-", value_name = "FILE")]
    pub input: PathBuf,

    /// Where a topic has another history in the database, store the file's messages behind it
    #[arg(long)]
    pub append: bool,

    /// Bring back messages that retention, an erasure or a deletion has removed from the database
    #[arg(long)]
    pub removed: bool,

    /// The file of settings, which may name the database.
    #[command(flatten)]
    pub file: FileConfig,

    /// The database.
    #[command(flatten)]
    pub database: DatabaseConfig,
}
