//! [`Older`]: the stored messages before one that a client has. Some are in the tail, the rest in the
//! store.

use std::sync::Arc;

use super::{LoadError, LogEntry, MessageId, PAGE_BYTES, Pager, TopicLog};

/// A page of messages before another message, as far as the tail has it.
pub(in crate::pubsub) struct Older {
    /// Oldest first.
    in_tail: Vec<Arc<LogEntry>>,
    /// How many more the store may add, and in how many bytes.
    rows: usize,
    bytes: usize,
    /// The store adds messages before this seq.
    end: i64,
    pager: Pager,
}

impl TopicLog {
    /// The newest `limit` messages before `id`, in a page. `None` when the id is none of the topic's.
    pub(in crate::pubsub) fn before(&self, id: MessageId, limit: usize) -> Option<Older> {
        if !self.may_name(id) {
            return None;
        }
        let end = self.tail.partition_point(|entry| entry.seq < id.seq);
        let messages = self.tail.range(..end).rev();
        let messages = messages.filter(|entry| entry.seq <= self.shown && entry.change.is_none());
        let mut in_tail = Vec::new();
        let mut bytes = 0;
        for entry in messages.take(limit) {
            bytes += entry.payload.get().len();
            // A message that is longer than a page is a page.
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
        Some(Older {
            in_tail,
            rows,
            bytes: PAGE_BYTES.saturating_sub(bytes),
            end: id.seq.min(self.floor.saturating_add(1)),
            pager: self.pager(),
        })
    }
}

impl Older {
    /// The whole page, oldest first; what is missing is read from the store.
    pub(in crate::pubsub) async fn page(self) -> Result<Vec<Arc<LogEntry>>, LoadError> {
        if self.rows == 0 {
            return Ok(self.in_tail);
        }
        let Pager { rule, run, .. } = &self.pager;
        let read = rule
            .store
            .before(&run.topic, self.end, self.rows, self.bytes);
        let stored = read.await?.into_iter().map(|row| run.stored(row));
        let mut page: Vec<_> = stored.collect();
        let bytes: usize = page.iter().map(|entry| entry.payload.get().len()).sum();
        // The store gives one message at least: here it would be one too many.
        if bytes > self.bytes && !self.in_tail.is_empty() {
            page.clear();
        }
        page.extend(self.in_tail);
        Ok(page)
    }
}
