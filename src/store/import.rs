//! Import: the lines of an export into a database of either kind.
//!
//! Lines are read one by one and stored a transaction's worth at a time. A file that ends early, or
//! has a bad line, leaves what came before it in the database; to import it again skips that.

use std::fmt;
use std::io::{self, BufRead, Read};

use diesel::prelude::*;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::backend::on_each_backend;
use super::lines::{Header, MessageLine, Row, TopicLine, VERSION};
use super::lone_writer::LoneWriter;
use super::schema::{messages, topics};
use super::{Store, StoreError};

/// What one transaction stores.
const BATCH: usize = 1_000;
const BATCH_BYTES: usize = 4_000_000;
/// The longest line, in bytes.
const MAX_LINE: u64 = 100_000_000;

/// What an import has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Topics that were not there before: the ids of their messages stay valid.
    pub topics: u64,
    /// Messages, and their updates and deletions.
    pub messages: u64,
    /// Those of the latter that were there already: of the same topic and seq, or of the same topic
    /// and client_ref.
    pub skipped: u64,
}

/// Why an import came to an early end, and what it had done by then.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {problem} ({imported} before it; to import the file again skips those)")]
pub struct ImportError {
    /// Which line, from 1.
    pub line: u64,
    /// What was stored.
    pub imported: Imported,
    /// What is wrong.
    #[source]
    pub problem: ImportProblem,
}

/// What is wrong with a line.
#[derive(Debug, thiserror::Error)]
pub enum ImportProblem {
    /// The file.
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
    /// The first line is not that of an export.
    #[error("is not the first line of an export, {{\"slackir_export\":1}}")]
    NoExport,
    /// It is an export of another version.
    #[error("is an export of version {0}, this slackir knows version {VERSION}")]
    Version(u32),
    /// It is too long to be a message.
    #[error("has more than {MAX_LINE} bytes")]
    TooLong,
    /// It is no JSON, or no topic and no message.
    #[error("is no topic and no message: {0}")]
    Invalid(#[from] serde_json::Error),
    /// It has no payload, or two.
    #[error("a message has either payload or payload_text")]
    Payload,
    /// The database does not take it.
    #[error("{0}")]
    Store(#[from] StoreError),
}

impl fmt::Display for Imported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            topics,
            messages,
            skipped,
        } = self;
        write!(
            f,
            "{messages} messages imported, {skipped} skipped, {topics} new topics"
        )
    }
}

impl Store {
    /// Stores the topics and messages of an export. `read` is called with the bytes of each line.
    ///
    /// # Errors
    /// At the first line that is not one, or that the database refuses; the lines before it are
    /// stored.
    pub fn import(
        &self,
        input: &mut dyn BufRead,
        read: &mut dyn FnMut(u64),
    ) -> Result<Imported, ImportError> {
        let mut import = Import::default();
        match import.run(self, input, read) {
            Ok(()) => Ok(import.imported),
            Err(problem) => Err(ImportError {
                line: import.line,
                imported: import.imported,
                problem,
            }),
        }
    }
}

/// An import under way.
#[derive(Default)]
struct Import {
    /// The line that was read last; of an error, the one that is to blame.
    line: u64,
    batch: Batch,
    imported: Imported,
}

/// What was read and is not stored yet, with the lines on which it stood.
#[derive(Default)]
struct Batch {
    topics: Vec<TopicLine>,
    topic_lines: Vec<u64>,
    rows: Vec<Row>,
    row_lines: Vec<u64>,
    bytes: usize,
}

impl Import {
    fn run(
        &mut self,
        store: &Store,
        input: &mut dyn BufRead,
        read: &mut dyn FnMut(u64),
    ) -> Result<(), ImportProblem> {
        let mut writer = store.lone_writer()?;
        let mut text = Vec::new();
        loop {
            self.line += 1;
            let line = self.line;
            let added = read_line(input, &mut text).and_then(|bytes| {
                if bytes > 0 || line == 1 {
                    self.add(&text)?;
                }
                Ok(bytes)
            });
            if !matches!(added, Ok(1..)) || self.batch.is_full() {
                // What came before a bad line stays.
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
    fn add(&mut self, text: &[u8]) -> Result<(), ImportProblem> {
        /// By what lines are told apart.
        #[derive(Deserialize)]
        struct Kind {
            seq: Option<IgnoredAny>,
        }
        if self.line > 1 && text.trim_ascii().is_empty() {
            return Ok(());
        }
        if self.line == 1 {
            let header = serde_json::from_slice(text);
            let Header { slackir_export } = header.map_err(|_| ImportProblem::NoExport)?;
            return match slackir_export {
                VERSION => Ok(()),
                other => Err(ImportProblem::Version(other)),
            };
        }
        let Kind { seq } = serde_json::from_slice(text)?;
        if seq.is_none() {
            self.batch.topics.push(serde_json::from_slice(text)?);
            self.batch.topic_lines.push(self.line);
            return Ok(());
        }
        let line: MessageLine<'_> = serde_json::from_slice(text)?;
        let row = line.into_row().ok_or(ImportProblem::Payload)?;
        self.batch.bytes += row.bytes();
        self.batch.rows.push(row);
        self.batch.row_lines.push(self.line);
        Ok(())
    }

    /// Stores what was read: all at once, or line by line to find the one that is refused.
    fn store(&mut self, writer: &mut LoneWriter) -> Result<(), ImportProblem> {
        let batch = std::mem::take(&mut self.batch);
        if let Ok(()) = self.attempt(writer, &batch.topics, &batch.rows) {
            return Ok(());
        }
        for (topic, line) in batch.topics.iter().zip(batch.topic_lines) {
            self.line = line;
            self.attempt(writer, std::slice::from_ref(topic), &[])?;
        }
        for (row, line) in batch.rows.iter().zip(batch.row_lines) {
            self.line = line;
            self.attempt(writer, &[], std::slice::from_ref(row))?;
        }
        Ok(())
    }

    fn attempt(
        &mut self,
        writer: &mut LoneWriter,
        new_topics: &[TopicLine],
        rows: &[Row],
    ) -> Result<(), StoreError> {
        let (topics, messages) = writer.commit(|connection| {
            let mut stored = (0, 0);
            // SQLite would count for an insert of nothing what the statement before it has changed.
            if !new_topics.is_empty() {
                stored.0 = on_each_backend!(connection, |typed| {
                    diesel::insert_into(topics::table)
                        .values(new_topics)
                        .on_conflict_do_nothing()
                        .execute(typed)
                })?;
            }
            if !rows.is_empty() {
                stored.1 = on_each_backend!(connection, |typed| {
                    diesel::insert_into(messages::table)
                        .values(rows)
                        .on_conflict_do_nothing()
                        .execute(typed)
                })?;
            }
            Ok(stored)
        })?;
        let (topics, messages) = (topics as u64, messages as u64);
        self.imported.topics += topics;
        self.imported.messages += messages;
        self.imported.skipped += rows.len() as u64 - messages;
        Ok(())
    }
}

impl Batch {
    fn is_full(&self) -> bool {
        self.topics.len() + self.rows.len() >= BATCH || self.bytes >= BATCH_BYTES
    }
}

/// Reads a line; its bytes with the line break, 0 at the end.
fn read_line(input: &mut dyn BufRead, text: &mut Vec<u8>) -> Result<u64, ImportProblem> {
    text.clear();
    let bytes = input.take(MAX_LINE).read_until(b'\n', text)? as u64;
    if bytes == MAX_LINE && text.last() != Some(&b'\n') {
        return Err(ImportProblem::TooLong);
    }
    Ok(bytes)
}
