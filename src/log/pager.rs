//! [`Pager`]: reads the messages of a log that are only in the database.

use std::sync::Arc;

use super::entry::LogEntry;
use super::id::{MessageId, Seq};
use super::rule::LogRule;
use super::sequence::Run;
use super::store::LoadError;
use super::{PAGE_BYTES, PAGE_ROWS};

/// The place of a message.
pub(crate) enum Found {
    /// In memory.
    Entry(Arc<LogEntry>),
    /// In the database, if it exists.
    Below(Pager),
    /// It does not exist.
    Nothing,
}

/// Reads the messages below a log's floor, one page at a time. It copies the state of the log when it is
/// made.
pub(crate) struct Pager {
    pub(super) rule: Arc<LogRule>,
    pub(super) run: Arc<Run>,
    pub(super) floor: Seq,
    pub(super) shown: Seq,
}

impl Pager {
    /// The floor of the log: later messages are in memory.
    pub(crate) fn floor(&self) -> Seq {
        self.floor
    }

    /// One page of the messages after this one that members were sent, oldest first.
    pub(crate) async fn page(&self, after: Seq) -> Result<Vec<Arc<LogEntry>>, LoadError> {
        let mut page = self.read(after, PAGE_ROWS).await?;
        page.retain(|entry| entry.seq <= self.shown);
        Ok(page)
    }

    /// The id of a message that members were sent.
    pub(crate) fn id_of(&self, seq: Seq) -> MessageId {
        self.run.id(seq)
    }

    /// The message with this seq, if it is stored.
    pub(crate) async fn find(&self, seq: Seq) -> Result<Option<Arc<LogEntry>>, LoadError> {
        let next = self.read(seq.previous(), 1).await?;
        Ok(next.into_iter().find(|entry| entry.seq == seq))
    }

    async fn read(&self, after: Seq, rows: usize) -> Result<Vec<Arc<LogEntry>>, LoadError> {
        let (store, topic) = (self.rule.store(), &self.run.topic);
        let rows = store.page(topic, after, rows, PAGE_BYTES).await?;
        let entries = rows.into_iter().map(|row| LogEntry::stored(&self.run, row));
        Ok(entries.collect())
    }
}
