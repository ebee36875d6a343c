//! [`Older`]: a page of messages before a given one, partly from the tail and partly from the store.

use std::sync::Arc;

use super::PAGE_BYTES;
use super::entry::LogEntry;
use super::id::{MessageId, Seq};
use super::pager::Pager;
use super::store::LoadError;
use super::topic_log::TopicLog;

/// A page of messages before a given one. So far it holds those of the tail.
pub(crate) struct Older {
    /// Oldest first.
    in_tail: Vec<Arc<LogEntry>>,
    /// How many more messages, of how many bytes, the store may add.
    rows: usize,
    bytes: usize,
    /// The store adds only messages before this seq.
    end: Seq,
    pager: Pager,
}

impl<W> TopicLog<W> {
    /// A page of the newest `limit` messages before `id`. `None` if the id cannot belong to this topic.
    pub(crate) fn before(&self, id: MessageId, limit: usize) -> Option<Older> {
        self.may_name(id).then(|| self.page(id.seq, limit))
    }

    /// A page of the newest `limit` messages.
    pub(crate) fn newest(&self, limit: usize) -> Older {
        self.page(self.shown.next(), limit)
    }

    /// A page of the newest `limit` messages before this seq.
    fn page(&self, end: Seq, limit: usize) -> Older {
        let messages = self.tail.before(end).rev();
        let messages = messages.filter(|entry| entry.seq <= self.shown && entry.change.is_none());
        let mut in_tail = Vec::new();
        let mut bytes = 0;
        for entry in messages.take(limit) {
            bytes += entry.payload.get().len();
            // A message that is longer than a page is a page by itself.
            if bytes > PAGE_BYTES && !in_tail.is_empty() {
                break;
            }
            in_tail.push(Arc::clone(entry));
        }
        in_tail.reverse();
        let rows = if bytes < PAGE_BYTES {
            limit - in_tail.len()
        } else {
            0
        };
        Older {
            in_tail,
            rows,
            bytes: PAGE_BYTES.saturating_sub(bytes),
            end: end.min(self.tail.floor().next()),
            pager: self.pager(),
        }
    }
}

impl Older {
    /// The whole page, oldest first. Reads the messages that the tail does not have from the store.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub(crate) async fn page(self) -> Result<Vec<Arc<LogEntry>>, LoadError> {
        if self.rows == 0 {
            return Ok(self.in_tail);
        }
        let Pager { rule, run, .. } = &self.pager;
        let (store, topic) = (rule.store(), &run.topic);
        let rows = store.before(topic, self.end, self.rows, self.bytes).await?;
        let mut page: Vec<_> = rows
            .into_iter()
            .map(|row| LogEntry::stored(run, row))
            .collect();
        let bytes: usize = page.iter().map(|entry| entry.payload.get().len()).sum();
        // The store returns at least one message, which may be too long for the rest of this page.
        if bytes > self.bytes && !self.in_tail.is_empty() {
            page.clear();
        }
        page.extend(self.in_tail);
        Ok(page)
    }
}
