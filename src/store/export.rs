//! [`Exporter`]: the topics and messages of a database as lines of JSON.
//!
//! It only reads, a page at a time, and needs no lock: a server may run meanwhile, and what it commits
//! behind the page that was read last is in the export, too.

use std::collections::BTreeSet;
use std::io::{self, Write};

use diesel::prelude::*;
use serde::Serialize;

use super::StoreError;
use super::backend::{Backend, Connection, Pool, Role, on_each_backend};
use super::history::{octet_length, within};
use super::lines::{Header, MessageLine, Row, TopicLine, VERSION};
use super::schema::{messages, topics};
use crate::pubsub::topic_matches;

/// Rows of a page, and bytes of their payloads.
const PAGE: i64 = 1_000;
const PAGE_BYTES: usize = 4_000_000;

/// Reads a database for an export.
pub struct Exporter {
    readers: Pool,
}

/// What an export holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// Topics.
    pub topics: u64,
    /// Messages, and their updates and deletions.
    pub messages: u64,
}

/// Why an export is not whole.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Where it was to be written.
    #[error("the export cannot be written: {0}")]
    Write(#[from] io::Error),
}

impl Exporter {
    /// Opens a database that is there, and has all migrations. Nothing is locked, made or changed.
    ///
    /// # Errors
    /// When the URL is unknown, the database cannot be reached, or is none of this version.
    pub fn open(url: &str) -> Result<Self, StoreError> {
        let readers = Backend::open_to_read(url)?.pool(Role::Readers(1))?;
        let mut pooled = readers.get()?;
        check_tables(&mut pooled.connection()).map_err(StoreError::Unreadable)?;
        drop(pooled);
        Ok(Self { readers })
    }

    /// How many rows of messages an export of these topics has, at present.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn count(&self, pattern: Option<&str>) -> Result<u64, StoreError> {
        let mut pooled = self.readers.get()?;
        let connection = &mut pooled.connection();
        let mut count = 0;
        for topic in topics_of(connection, pattern)? {
            let rows = messages::table.filter(messages::topic.eq(topic)).count();
            let rows: i64 = on_each_backend!(connection, |typed| rows.get_result(typed))?;
            count += rows.unsigned_abs();
        }
        Ok(count)
    }

    /// Writes the topics that match a pattern (as in a route; all without one) with their messages:
    /// topics in the order of their names' bytes, messages in that of their seq. Two databases with
    /// the same content give the same bytes. `written` is called with the rows of each page.
    ///
    /// # Errors
    /// When the database cannot be read, or `out` not be written.
    pub fn export(
        &self,
        pattern: Option<&str>,
        out: &mut dyn Write,
        written: &mut dyn FnMut(u64),
    ) -> Result<Exported, ExportError> {
        let mut pooled = self.readers.get()?;
        let connection = &mut pooled.connection();
        let header = Header {
            slackir_export: VERSION,
        };
        line(out, &header)?;
        let mut exported = Exported::default();
        for topic in topics_of(connection, pattern)? {
            if let Some(run) = run_of(connection, &topic)? {
                line(out, &run)?;
            }
            exported.topics += 1;
            let mut after = i64::MIN;
            while let Some((last, rows)) = page(connection, &topic, after)? {
                for row in &rows {
                    line(out, &MessageLine::from(row))?;
                }
                after = last;
                exported.messages += rows.len() as u64;
                written(rows.len() as u64);
            }
        }
        out.flush()?;
        Ok(exported)
    }
}

fn line(out: &mut dyn Write, line: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}

fn check_tables(connection: &mut Connection<'_>) -> QueryResult<()> {
    on_each_backend!(connection, |typed| {
        let rows = messages::table.select(Row::as_select());
        let runs = topics::table.select(TopicLine::as_select());
        rows.first(typed).optional()?;
        runs.first(typed).optional()
    })?;
    Ok(())
}

/// The topics that a pattern means, in the order of their bytes, whatever the database's is. The
/// empty name belongs to the writer.
fn topics_of(
    connection: &mut Connection<'_>,
    pattern: Option<&str>,
) -> Result<BTreeSet<String>, StoreError> {
    let with_messages = messages::table.select(messages::topic).distinct();
    let opened = topics::table.select(topics::topic);
    let (with_messages, opened): (Vec<String>, Vec<String>) =
        on_each_backend!(connection, |typed| {
            (with_messages.load(typed)?, opened.load(typed)?)
        });
    let all = with_messages.into_iter().chain(opened);
    let matching = all.filter(|topic| {
        !topic.is_empty() && pattern.is_none_or(|pattern| topic_matches(pattern, topic))
    });
    Ok(matching.collect())
}

fn run_of(connection: &mut Connection<'_>, topic: &str) -> Result<Option<TopicLine>, StoreError> {
    Ok(on_each_backend!(connection, |typed| topics::table
        .find(topic)
        .select(TopicLine::as_select())
        .first(typed)
        .optional())?)
}

/// The rows after a seq, and the last one's; at least one, if there is any.
fn page(
    connection: &mut Connection<'_>,
    topic: &str,
    after: i64,
) -> Result<Option<(i64, Vec<Row>)>, StoreError> {
    let rows = messages::table
        .filter(messages::topic.eq(topic))
        .filter(messages::seq.gt(after))
        .order(messages::seq);
    let sizes = rows
        .limit(PAGE)
        .select((messages::seq, octet_length(messages::payload)));
    let sizes: Vec<(i64, i32)> = on_each_backend!(connection, |typed| sizes.load(typed))?;
    let Some(&(first, _)) = sizes.first() else {
        return Ok(None);
    };
    let mut last = first;
    within(&sizes, PAGE_BYTES, |seq| last = seq);
    let rows = rows.filter(messages::seq.le(last));
    let rows = on_each_backend!(connection, |typed| rows
        .select(Row::as_select())
        .load(typed))?;
    Ok(Some((last, rows)))
}
