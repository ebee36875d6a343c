//! `slackir erase`, `slackir export` and `slackir import`: work on the database without a server.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};

use crate::log::Seq;
use crate::server::config::{DatabaseConfig, EraseConfig, ExportConfig, ImportConfig};
use crate::server::console::{OutputError, print, say};
use crate::store::{
    ExportError, ExportEvent, Exporter, ImportError, ImportOptions, Store, StoreError,
    StoreOptions, Target,
};

/// The size of the file buffers, in bytes.
const BUFFER: usize = 256 * 1024;

/// Why a command has failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DataCommandError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The export is incomplete.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// The import is incomplete.
    #[error("{}, {source}{}", file.display(), remedy(source))]
    Import {
        /// The file that was read.
        file: PathBuf,
        /// The line, and its problem.
        #[source]
        source: Box<ImportError>,
    },
    /// The import has left out messages that were removed from the database.
    #[error(
        "{}: {} left out, because retention, an erasure or a deletion has removed them from the \
         database: import with --removed to bring them back", file.display(), number(*messages, "message")
    )]
    LeftOut {
        /// The file that was read.
        file: PathBuf,
        /// The number of messages.
        messages: u64,
    },
    /// Standard output.
    #[error("{0}")]
    Output(#[from] OutputError),
    /// The file could not be opened.
    #[error("cannot open {}: {source}", file.display())]
    Open {
        /// The file.
        file: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
}

/// The flag that helps.
fn remedy(error: &ImportError) -> &'static str {
    if error.problem.is_of_another_history() {
        "; --append does that"
    } else {
        ""
    }
}

impl DataCommandError {
    /// The setting whose value causes the error, by its name in the config file.
    pub(crate) fn setting(&self) -> Option<&'static str> {
        match self {
            Self::Store(error) | Self::Export(ExportError::Store(error)) => error.setting(),
            Self::Export(ExportError::Write(_))
            | Self::Import { .. }
            | Self::LeftOut { .. }
            | Self::Output(_)
            | Self::Open { .. } => None,
        }
    }
}

/// Erases messages, and prints their number.
///
/// # Errors
/// If the database cannot be used. Messages that were erased before the error stay erased.
pub(crate) fn erase(config: EraseConfig) -> Result<(), DataCommandError> {
    let (topic, name) = (config.what.topic, config.what.name);
    let target = match (name, topic) {
        (Some(name), topic) => Target::Name { name, topic },
        // The command line has at least one of them.
        (None, topic) => Target::Topic(topic.unwrap_or_default()),
    };
    let store = open(&config.database)?;
    if config.dry_run {
        let messages = store.count_erasable(&target)?;
        print(format_args!("Would erase {}.", number(messages, "message")))?;
    } else {
        let messages = store.erase(&target)?;
        print(format_args!("Erased {}.", number(messages, "message")))?;
    }
    Ok(())
}

/// Writes messages as lines of JSON. If the reader of a pipe exits early, the exit code is not 0.
///
/// # Errors
/// If the database cannot be read, or the file cannot be written.
pub(crate) fn export(config: &ExportConfig) -> Result<(), DataCommandError> {
    let exporter = Exporter::open(&config.database.database_url)?;
    let topics = config.topic.as_ref();
    let out: Box<dyn Write> = if is_standard(&config.output) {
        Box::new(io::stdout().lock())
    } else {
        let file = File::create(&config.output);
        Box::new(file.map_err(|source| open_error(&config.output, source))?)
    };
    let bar = progress(
        "{bar:40} {pos}/{len} messages, {per_sec}, {eta} left",
        || exporter.count(topics),
    )?;
    let mut out = BufWriter::with_capacity(BUFFER, out);
    let written = exporter.export(topics, &mut out, &mut |event| match event {
        ExportEvent::Written(rows) => bar.inc(rows),
        ExportEvent::LeftOut { topic, seq, rows } => {
            bar.suspend(|| say(left_out(topic, seq, rows)));
        }
    });
    bar.finish_and_clear();
    match written {
        Ok(done) => {
            let messages = number(done.messages, "message");
            let topics = number(done.topics, "topic");
            say(format_args!("Exported {messages} of {topics}."));
            if done.left_out > 0 {
                let rows = number(done.left_out, "row");
                say(format_args!(
                    "Left out {rows} that cannot be read, see above."
                ));
            }
            Ok(())
        }
        Err(ExportError::Write(error)) if is_standard(&config.output) => {
            Err(OutputError::from(error).into())
        }
        Err(error) => Err(error.into()),
    }
}

/// Reads messages from lines of JSON.
///
/// # Errors
/// If the database or the file cannot be used, or if a line is wrong; the lines before it are stored.
pub(crate) fn import(config: &ImportConfig) -> Result<(), DataCommandError> {
    let file = &config.input;
    let mut length = None;
    let mut input: Box<dyn BufRead> = if is_standard(file) {
        Box::new(io::stdin().lock())
    } else {
        let opened = File::open(file).map_err(|source| open_error(file, source))?;
        // A pipe or a device has no length.
        length = opened.metadata().ok().filter(std::fs::Metadata::is_file);
        Box::new(BufReader::with_capacity(BUFFER, opened))
    };
    let store = open(&config.database)?;
    let bar = progress(
        "{bar:40} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left",
        || Ok(length.map_or(0, |file| file.len())),
    )?;
    store.check_unused()?;
    let options = ImportOptions {
        append: config.append,
        removed: config.removed,
    };
    let done = store.import(&mut input, options, &mut |bytes| bar.inc(bytes));
    bar.finish_and_clear();
    let done = done.map_err(|source| DataCommandError::Import {
        file: file.clone(),
        source: Box::new(source),
    })?;
    say(format_args!("{done}."));
    match done.removed {
        0 => Ok(()),
        messages => Err(DataCommandError::LeftOut {
            file: file.clone(),
            messages,
        }),
    }
}

/// Opens the database for writing. These commands never take over an Ecto application's table; `slackir
/// migrate` does.
fn open(config: &DatabaseConfig) -> Result<Store, StoreError> {
    let options = StoreOptions {
        pool_size: 1,
        adopt_ecto_messages: false,
    };
    let (store, _) = Store::open(&config.database_url, options)?;
    Ok(store)
}

/// A progress bar, hidden if standard error is no terminal; then `length` is not called.
fn progress(
    style: &str,
    length: impl FnOnce() -> Result<u64, StoreError>,
) -> Result<ProgressBar, StoreError> {
    if !io::stderr().is_terminal() {
        return Ok(ProgressBar::hidden());
    }
    let length = length()?;
    if length == 0 {
        return Ok(ProgressBar::no_length());
    }
    let style = ProgressStyle::with_template(style).expect("the templates above are sound");
    Ok(ProgressBar::new(length).with_style(style))
}

/// The message about rows that an export has left out.
fn left_out(topic: &str, seq: Option<Seq>, rows: u64) -> String {
    match seq {
        Some(seq) => format!("Left out: the row of topic {topic:?} with seq {seq} cannot be read."),
        None => format!(
            "Left out: {} of topic {topic:?} whose seq is no whole number.",
            number(rows, "row")
        ),
    }
}

fn is_standard(file: &Path) -> bool {
    file.as_os_str() == "-"
}

fn open_error(file: &Path, source: io::Error) -> DataCommandError {
    DataCommandError::Open {
        file: file.to_owned(),
        source,
    }
}

fn number(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}
