//! Import: the lines of an export into a database of either kind.
//!
//! Each transaction stores many lines. If the file ends early or has a bad line, the lines before it stay; a second
//! import skips them. Clients resume in a topic only once its last line is stored.

mod destination;

use std::fmt;
use std::io::{self, BufRead, Read};

use serde::Deserialize;
use serde::de::IgnoredAny;

use self::destination::Destination;
use crate::log::Seq;
use crate::store::backend::DbConnection;
use crate::store::backend::Fault;
use crate::store::opened::Store;
use crate::store::tables::row::OwnedRow;
use crate::store::upkeep::lines::{ExportHeader, MessageLine, TopicLine, VERSION};
use crate::store::upkeep::lone_writer::LoneWriter;

/// The bounds of one transaction.
const BATCH: usize = 1_000;
const BATCH_BYTES: usize = 4_000_000;
/// The longest line, in bytes.
const MAX_LINE: u64 = 100_000_000;

/// How to treat topics with another history, and removed messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImportOptions {
    /// If the topic has another history in the database, append the file's messages to it, under new ids. Updates
    /// and deletions are left out: the file's messages show them already. Without this option such a topic is
    /// refused.
    pub append: bool,
    /// Also store messages that retention, an erasure or a deletion has removed from the database. Without this
    /// option they are left out.
    pub removed: bool,
}

setters!(ImportOptions {
    append: bool,
    removed: bool,
});

/// The result of an import.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Imported {
    /// Topics that are new in the database: the ids of their messages stay valid.
    pub topics: u64,
    /// Messages, updates and deletions.
    pub messages: u64,
    /// Messages, updates and deletions that were stored before.
    pub skipped: u64,
    /// Messages, updates and deletions that were left out, because they had been removed from the database.
    pub removed: u64,
}

/// The reason why an import ended early, and its result until then.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {problem} ({imported} before it; to import the file again skips those)")]
#[non_exhaustive]
pub struct ImportError {
    /// The line, from 1.
    pub line: u64,
    /// The result until then.
    pub imported: Imported,
    /// The problem.
    #[source]
    pub problem: ImportProblem,
}

/// A problem of a line.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct ImportProblem(#[from] ImportFault);

impl ImportProblem {
    /// Whether the topic has another history in the database, so that [`ImportOptions::append`] would help.
    pub fn is_of_another_history(&self) -> bool {
        matches!(
            self.0,
            ImportFault::OtherHistory(_) | ImportFault::OtherMessage { .. }
        )
    }
}

#[derive(Debug, thiserror::Error)]
enum ImportFault {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
    /// The first line is not that of an export.
    #[error("is not the first line of an export, {{\"slackir_export\":1}}")]
    NoExport,
    /// An export of another version.
    #[error("is an export of version {0}, this slackir knows version {VERSION}")]
    Version(u32),
    /// The line is too long for a message.
    #[error("has more than {MAX_LINE} bytes")]
    TooLong,
    /// The line is no JSON, or neither a topic nor a message.
    #[error("is no topic and no message: {0}")]
    Invalid(#[from] serde_json::Error),
    /// The line has no payload, or two.
    #[error("a message has either payload or payload_text")]
    Payload,
    /// The topic exists with other messages.
    #[error(
        "topic {0:?} has another history in this database: import into another one, or \
         append the file's messages to those that are there"
    )]
    OtherHistory(String),
    /// The topic exists with another message at this seq.
    #[error(
        "topic {topic:?} has another message in this database where the file has number {seq}: import \
         into another one, or append the file's messages to those that are there"
    )]
    OtherMessage {
        /// Its name.
        topic: String,
        /// The seq of the message.
        seq: Seq,
    },
    /// The database refuses it.
    #[error("{0}")]
    Store(#[from] Fault),
}

impl From<diesel::result::Error> for ImportFault {
    fn from(error: diesel::result::Error) -> Self {
        Self::Store(error.into())
    }
}

impl fmt::Display for Imported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            topics,
            messages,
            skipped,
            removed,
        } = self;
        write!(
            f,
            "{messages} messages imported, {skipped} skipped, {topics} new topics"
        )?;
        match removed {
            0 => Ok(()),
            removed => write!(f, ", {removed} left out"),
        }
    }
}

impl Store {
    /// Stores the topics and messages of an export. `read` is called with the length of each line.
    ///
    /// # Errors
    /// At the first line that is malformed, that the database refuses, or whose topic has other messages. The lines
    /// before it are stored.
    pub fn import(
        &self,
        input: &mut dyn BufRead,
        options: ImportOptions,
        read: &mut dyn FnMut(u64),
    ) -> Result<Imported, ImportError> {
        let mut import = Import {
            options,
            ..Import::default()
        };
        match import.run(self, input, read) {
            Ok(()) => Ok(import.progress.imported),
            Err(problem) => Err(ImportError {
                line: import.line,
                imported: import.progress.imported,
                problem: problem.into(),
            }),
        }
    }
}

/// An import in progress.
#[derive(Default)]
struct Import {
    options: ImportOptions,
    /// The last line that was read; after an error, the line at fault.
    line: u64,
    batch: ImportBatch,
    progress: ImportProgress,
}

/// The stored lines.
#[derive(Clone, Default)]
struct ImportProgress {
    imported: Imported,
    /// The topic of the last line. It may have more lines.
    destination: Option<Destination>,
}

/// Lines that are read and not stored yet.
#[derive(Default)]
struct ImportBatch {
    items: Vec<ImportItem>,
    bytes: usize,
}

/// A line and its number.
struct ImportItem {
    line: u64,
    content: ImportContent,
}

enum ImportContent {
    Topic(TopicLine),
    Message(OwnedRow),
    /// The end of the file.
    End,
}

impl Import {
    fn run(
        &mut self,
        store: &Store,
        input: &mut dyn BufRead,
        read: &mut dyn FnMut(u64),
    ) -> Result<(), ImportFault> {
        let mut writer = store.lone_writer()?;
        let mut text = Vec::new();
        loop {
            self.line += 1;
            let line = self.line;
            let added = read_line(input, &mut text).and_then(|bytes| {
                match bytes {
                    0 if line > 1 => self.batch.add(line, ImportContent::End),
                    _ => self.add(&text)?,
                }
                Ok(bytes)
            });
            if !matches!(added, Ok(1..)) || self.batch.is_full() {
                // Lines before a bad one are kept.
                self.store(&mut writer)?;
                self.line = line;
            }
            match added? {
                0 => return Ok(()),
                bytes => read(bytes),
            }
        }
    }

    /// Takes a line.
    fn add(&mut self, text: &[u8]) -> Result<(), ImportFault> {
        /// The member that only lines of messages have.
        #[derive(Deserialize)]
        struct ExportLineKind {
            seq: Option<IgnoredAny>,
        }
        if self.line > 1 && text.trim_ascii().is_empty() {
            return Ok(());
        }
        if self.line == 1 {
            let header = serde_json::from_slice(text);
            let ExportHeader { slackir_export } = header.map_err(|_| ImportFault::NoExport)?;
            return match slackir_export {
                VERSION => Ok(()),
                other => Err(ImportFault::Version(other)),
            };
        }
        let ExportLineKind { seq } = serde_json::from_slice(text)?;
        let content = if seq.is_none() {
            ImportContent::Topic(serde_json::from_slice(text)?)
        } else {
            let line: MessageLine<'_> = serde_json::from_slice(text)?;
            ImportContent::Message(line.into_row().ok_or(ImportFault::Payload)?)
        };
        self.batch.add(self.line, content);
        Ok(())
    }

    /// Stores the pending lines in one transaction; if that fails, one by one, to find the refused line.
    fn store(&mut self, writer: &mut LoneWriter) -> Result<(), ImportFault> {
        let items = std::mem::take(&mut self.batch).items;
        if let Ok(()) = self.attempt(writer, &items) {
            return Ok(());
        }
        for item in &items {
            self.line = item.line;
            self.attempt(writer, std::slice::from_ref(item))?;
        }
        Ok(())
    }

    fn attempt(
        &mut self,
        writer: &mut LoneWriter,
        items: &[ImportItem],
    ) -> Result<(), ImportFault> {
        let mut progress = self.progress.clone();
        writer.commit(|connection| progress.store(connection, self.options, items))?;
        self.progress = progress;
        Ok(())
    }
}

impl ImportProgress {
    /// Stores lines, inside a transaction.
    fn store(
        &mut self,
        connection: &mut DbConnection<'_>,
        options: ImportOptions,
        items: &[ImportItem],
    ) -> Result<(), ImportFault> {
        for items in items.chunk_by(|a, b| a.topic().is_some() && a.topic() == b.topic()) {
            let rows: Vec<&OwnedRow> = items.iter().filter_map(ImportItem::row).collect();
            let Some(topic) = rows.first().map(|row| &*row.topic) else {
                self.end_topic(connection)?;
                if let [
                    ImportItem {
                        content: ImportContent::Topic(line),
                        ..
                    },
                ] = items
                {
                    let destination =
                        Destination::find(connection, options, &line.topic, Some(line))?;
                    self.imported.topics += u64::from(destination.is_new());
                    self.destination = Some(destination);
                }
                continue;
            };
            if self
                .destination
                .as_ref()
                .is_none_or(|destination| destination.topic() != topic)
            {
                self.end_topic(connection)?;
                self.destination = Some(Destination::find(connection, options, topic, None)?);
            }
            if let Some(destination) = &mut self.destination {
                destination.store(connection, options, &rows, &mut self.imported)?;
            }
        }
        Ok(())
    }

    /// The last line of a topic is stored.
    fn end_topic(&mut self, connection: &mut DbConnection<'_>) -> Result<(), ImportFault> {
        match self.destination.take() {
            Some(destination) => Ok(destination.end(connection)?),
            None => Ok(()),
        }
    }
}

impl ImportItem {
    fn row(&self) -> Option<&OwnedRow> {
        match &self.content {
            ImportContent::Message(row) => Some(row),
            ImportContent::Topic(_) | ImportContent::End => None,
        }
    }

    /// The topic of a message.
    fn topic(&self) -> Option<&str> {
        self.row().map(|row| &*row.topic)
    }
}

impl ImportBatch {
    fn add(&mut self, line: u64, content: ImportContent) {
        if let ImportContent::Message(row) = &content {
            self.bytes += row.bytes();
        }
        self.items.push(ImportItem { line, content });
    }

    fn is_full(&self) -> bool {
        self.items.len() >= BATCH || self.bytes >= BATCH_BYTES
    }
}

/// Reads a line. Returns its length with the line break, 0 at the end.
fn read_line(input: &mut dyn BufRead, text: &mut Vec<u8>) -> Result<u64, ImportFault> {
    text.clear();
    let bytes = input.take(MAX_LINE).read_until(b'\n', text)? as u64;
    if bytes == MAX_LINE && text.last() != Some(&b'\n') {
        return Err(ImportFault::TooLong);
    }
    Ok(bytes)
}
