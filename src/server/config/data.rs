//! The arguments of `slackir erase`, `slackir export`, `slackir import` and `slackir backup`.

use std::path::PathBuf;

use clap::Args;

use super::{DatabaseConfig, FileConfig};
use crate::pattern::TopicPattern;

/// `slackir erase`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Use it while no server runs on the database. While one runs, erase by its HTTP API, which \
    clears the server's memory as well. With PostgreSQL this command cannot clear that memory; with SQLite it \
    refuses to run beside a server."
)]
pub(crate) struct EraseConfig {
    /// What to erase.
    #[command(flatten)]
    pub what: EraseWhat,

    /// Print how many messages would be erased, and erase none
    #[arg(long)]
    pub dry_run: bool,

    /// The file of settings, which may name the database.
    #[command(flatten)]
    pub file: FileConfig,

    /// The database.
    #[command(flatten)]
    pub database: DatabaseConfig,
}

/// A topic, a name, or both.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = true)]
pub(crate) struct EraseWhat {
    /// Erase all messages of this topic; with --name, only those of the name
    #[arg(long, value_name = "TOPIC")]
    pub topic: Option<String>,

    /// Erase all messages whose column `name` has this value, with their updates
    #[arg(long, value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub name: Option<String>,
}

/// `slackir export`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "One JSON object a line: the version, then each topic with its messages. The lines are the \
    same from SQLite and PostgreSQL. A server may run meanwhile."
)]
pub(crate) struct ExportConfig {
    /// Export only these topics: one topic, or a prefix with * at its end
    #[arg(long, value_name = "PATTERN")]
    pub topic: Option<TopicPattern>,

    /// File to write; - is standard output
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
    after_help = "The database is created and migrated if necessary. Messages that it already has are skipped, \
    so an interrupted import can be repeated; clients resume in a topic once it is complete. A topic that has \
    another history in the database is refused, unless --append is given. No server may run on the database."
)]
pub(crate) struct ImportConfig {
    /// File to read; - is standard input
    #[arg(default_value = "-", value_name = "FILE")]
    pub input: PathBuf,

    /// If a topic has another history in the database, store the file's messages behind that
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

/// `slackir backup`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "A server may run meanwhile, and is not delayed. The copy has every message that was committed before. \
    For PostgreSQL use pg_dump."
)]
pub(crate) struct BackupConfig {
    /// File to write; an existing file is never overwritten
    #[arg(value_name = "FILE")]
    pub output: PathBuf,

    /// The file of settings, which may name the database.
    #[command(flatten)]
    pub file: FileConfig,

    /// The database.
    #[command(flatten)]
    pub database: DatabaseConfig,
}
