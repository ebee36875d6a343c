//! [`Exporter`]: the topics and messages of a database as lines of JSON.
//!
//! It reads a page at a time and needs no lock. A server may run meanwhile; its new messages are exported too, if
//! they come after the last page.

use std::collections::BTreeSet;
use std::io::{self, Write};

use diesel::dsl::not;
use diesel::prelude::*;
use serde::Serialize;

use crate::log::Seq;
use crate::pattern::TopicPattern;

use crate::store::backend::{
    Backend, DbConnection, Fault, Pool, Role, StoreError, on_each_backend,
};
use crate::store::schema::{messages, topics};
use crate::store::tables::history::{octet_length, within};
use crate::store::tables::readable::has_place;
use crate::store::tables::row::FoundRow;
use crate::store::upkeep::lines::{ExportHeader, MessageLine, TopicLine, VERSION};

/// Rows of a page, and bytes of their payloads.
const PAGE: i64 = 1_000;
const PAGE_BYTES: usize = 4_000_000;

/// Reads a database for an export.
pub struct Exporter {
    readers: Pool,
}

named_debug!(Exporter);

/// The size of an export.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exported {
    /// Topics.
    pub topics: u64,
    /// Messages, updates and deletions.
    pub messages: u64,
    /// Rows that could not be read.
    pub left_out: u64,
}

/// The progress of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportEvent<'a> {
    /// This many more messages are written.
    Written(u64),
    /// A row of another application cannot be read, and is left out.
    LeftOut {
        /// Its topic.
        topic: &'a str,
        /// Its seq; `None` for the rows of the topic whose seq is no whole number.
        seq: Option<Seq>,
        /// The number of rows.
        rows: u64,
    },
}

/// Why an export is incomplete.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The output failed.
    #[error("the export cannot be written: {0}")]
    Write(#[from] io::Error),
}

impl From<Fault> for ExportError {
    fn from(fault: Fault) -> Self {
        Self::Store(fault.into())
    }
}

impl Exporter {
    /// Opens an existing database with all migrations. Locks, creates and changes nothing.
    ///
    /// # Errors
    /// If the URL is unknown, or the database is unreachable or of another version.
    pub fn open(url: &str) -> Result<Self, StoreError> {
        let readers = Backend::open_to_read(url)?.pool(Role::Readers(1))?;
        let mut pooled = readers.get()?;
        check_tables(&mut pooled.connection()).map_err(Fault::Unreadable)?;
        drop(pooled);
        Ok(Self { readers })
    }

    /// The number of messages that an export of these topics would have now.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn count(&self, pattern: Option<&TopicPattern>) -> Result<u64, StoreError> {
        let mut pooled = self.readers.get()?;
        let connection = &mut pooled.connection();
        let mut count = 0;
        for topic in topics_of(connection, pattern)? {
            let rows = messages::table.filter(messages::topic.eq(topic)).count();
            let rows: i64 = on_each_backend!(connection, |typed| rows.get_result(typed))
                .map_err(Fault::from)?;
            count += rows.unsigned_abs();
        }
        Ok(count)
    }

    /// Writes the topics that match the pattern, or without one all topics, with their messages. Topics are sorted by
    /// the bytes of their names, messages by seq. Two databases with the same content give the same bytes. `tell` is
    /// called after each page and for each unreadable row.
    ///
    /// # Errors
    /// If the database cannot be read, or `out` cannot be written.
    pub fn export(
        &self,
        pattern: Option<&TopicPattern>,
        out: &mut dyn Write,
        tell: &mut dyn FnMut(ExportEvent<'_>),
    ) -> Result<Exported, ExportError> {
        let mut pooled = self.readers.get()?;
        let connection = &mut pooled.connection();
        let header = ExportHeader {
            slackir_export: VERSION,
        };
        line(out, &header)?;
        let mut exported = Exported::default();
        for topic in topics_of(connection, pattern)? {
            if let Some(run) = run_of(connection, &topic)? {
                line(out, &run)?;
            }
            exported.topics += 1;
            let done = messages_of(connection, &topic, out, tell)?;
            exported.messages += done.messages;
            exported.left_out += done.left_out;
        }
        out.flush()?;
        Ok(exported)
    }
}

/// Writes the messages of one topic.
fn messages_of(
    connection: &mut DbConnection<'_>,
    topic: &str,
    out: &mut dyn Write,
    tell: &mut dyn FnMut(ExportEvent<'_>),
) -> Result<Exported, ExportError> {
    let mut exported = Exported::default();
    let mut after = Seq::MIN;
    while let Some((last, rows)) = page(connection, topic, after)? {
        let before = exported.messages;
        for row in rows {
            let seq = Some(row.seq);
            let Some(row) = row.into_row() else {
                exported.left_out += 1;
                tell(ExportEvent::LeftOut {
                    topic,
                    seq,
                    rows: 1,
                });
                continue;
            };
            line(out, &MessageLine::from(&row))?;
            exported.messages += 1;
        }
        after = last;
        tell(ExportEvent::Written(exported.messages - before));
    }
    let rows = without_place(connection, topic)?;
    if rows > 0 {
        exported.left_out += rows;
        let seq = None;
        tell(ExportEvent::LeftOut { topic, seq, rows });
    }
    Ok(exported)
}

fn line(out: &mut dyn Write, line: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}

fn check_tables(connection: &mut DbConnection<'_>) -> QueryResult<()> {
    on_each_backend!(connection, |typed| {
        let rows = messages::table.select(FoundRow::as_select());
        let runs = topics::table.select(TopicLine::as_select());
        rows.first(typed).optional()?;
        runs.first(typed).optional()
    })?;
    Ok(())
}

/// The topics that match the pattern, sorted by bytes independently of the database's collation. The empty name is
/// left out, because the writer uses it for trials.
fn topics_of(
    connection: &mut DbConnection<'_>,
    pattern: Option<&TopicPattern>,
) -> Result<BTreeSet<String>, Fault> {
    let with_messages = messages::table.select(messages::topic).distinct();
    let opened = topics::table.select(topics::topic);
    let (with_messages, opened): (Vec<String>, Vec<String>) =
        on_each_backend!(connection, |typed| {
            (with_messages.load(typed)?, opened.load(typed)?)
        });
    let all = with_messages.into_iter().chain(opened);
    let matching = all
        .filter(|topic| !topic.is_empty() && pattern.is_none_or(|pattern| pattern.matches(topic)));
    Ok(matching.collect())
}

fn run_of(connection: &mut DbConnection<'_>, topic: &str) -> Result<Option<TopicLine>, Fault> {
    Ok(on_each_backend!(connection, |typed| topics::table
        .find(topic)
        .select(TopicLine::as_select())
        .first(typed)
        .optional())?)
}

/// The number of rows of a topic whose seq is no whole number, so that no page can have them.
fn without_place(connection: &mut DbConnection<'_>, topic: &str) -> Result<u64, Fault> {
    // PostgreSQL has none, and would read all rows.
    #[cfg(feature = "postgres")]
    if matches!(connection, DbConnection::Postgres(_)) {
        return Ok(0);
    }
    let rows = messages::table
        .filter(messages::topic.eq(topic))
        .filter(not(has_place()))
        .count();
    let rows: i64 =
        on_each_backend!(connection, |typed| rows.get_result(typed)).map_err(Fault::from)?;
    Ok(rows.unsigned_abs())
}

/// The rows after a seq, and the seq of the last one; `None` if there is no row.
fn page(
    connection: &mut DbConnection<'_>,
    topic: &str,
    after: Seq,
) -> Result<Option<(Seq, Vec<FoundRow>)>, Fault> {
    let rows = messages::table
        .filter(messages::topic.eq(topic))
        .filter(messages::seq.gt(after))
        .filter(has_place())
        .order(messages::seq);
    let sizes = rows
        .clone()
        .limit(PAGE)
        .select((messages::seq, octet_length(messages::payload)));
    let sizes: Vec<(Seq, i32)> = on_each_backend!(connection, |typed| sizes.load(typed))?;
    let Some(&(first, _)) = sizes.first() else {
        return Ok(None);
    };
    let mut last = first;
    within(&sizes, PAGE_BYTES, |seq| last = seq);
    let rows = rows.filter(messages::seq.le(last));
    let rows = on_each_backend!(connection, |typed| rows
        .select(FoundRow::as_select())
        .load(typed))?;
    Ok(Some((last, rows)))
}
