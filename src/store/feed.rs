//! [`Feed`]: the committed messages of all topics, in the order in which they were committed, for a reader that must
//! get each of them at least once.
//!
//! A cursor in the database, the id of a row, says how far the reader has taken them. The connections for reading
//! find the rows; the writer stores the cursor between two batches. Rows are read when something was committed, and
//! at no other time.
//!
//! Ids follow the commits of one writer. Another server on the same PostgreSQL has a writer of its own, so a row may
//! become visible after rows with higher ids. While there is another server, the feed stops at a gap between two ids,
//! for [`GAP_WAIT`] at most: most gaps belong to deleted rows.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

use crate::log::{LoadError, MessageId, of_client};
use crate::message::RawJson;
use crate::metrics::Query;
use crate::store::backend::DbConnection;
use crate::store::servers::OtherServers;
use crate::store::tables::cursor::{self, CursorChange};
use crate::store::tables::feed::{self, RowSize};
use crate::store::write::DbWriterHandle;

/// The most rows of one look at ids and topics.
const SCAN_ROWS: usize = 1_000;
/// The most looks of one read, if no row belongs to a fed topic.
const SCANS: usize = 20;
/// A cursor that passes rows of other topics alone is stored after this many.
const STORE_EVERY: i64 = 10_000;
/// The longest wait for a row of another server. Transactions of a writer are shorter.
const GAP_WAIT: Duration = Duration::from_secs(5);

/// Whether a topic's messages are fed.
type IsFed = dyn Fn(&str) -> bool + Send + Sync;

/// Reads the committed messages of some topics behind a cursor.
pub(crate) struct Feed {
    writer: DbWriterHandle,
    commits: watch::Receiver<u64>,
    others: OtherServers,
    name: &'static str,
    is_fed: Arc<IsFed>,
    /// The id of the last row that was read.
    read: Option<i64>,
    /// The id of the last row that the reader has taken.
    taken: i64,
    /// The cursor, as this process has stored it.
    stored: i64,
    /// The row before a gap, since this time.
    gap: Option<(i64, Instant)>,
    /// The messages that were read and are not taken out, with the ids of their rows.
    page: VecDeque<(i64, FedMessage)>,
    /// Rows may be there that were not read.
    is_behind: bool,
    /// They are there for certain.
    has_more: bool,
    /// The rows that were committed before the last read.
    seen: u64,
}

named_debug!(Feed, name, read, taken);

/// A committed message, an update or a deletion.
#[derive(Clone, Debug)]
pub(crate) struct FedMessage {
    /// Its topic.
    pub(crate) topic: String,
    /// Its id, as clients know it.
    pub(crate) id: MessageId,
    /// Its event.
    pub(crate) event: String,
    /// A JSON object.
    pub(crate) payload: RawJson,
    /// The client's own name for it.
    pub(crate) client_ref: Option<String>,
    /// When it was published.
    pub(crate) inserted_at: SystemTime,
}

/// Some rows behind the cursor.
struct FedPage {
    messages: Vec<(i64, FedMessage)>,
    /// The last row that was looked at.
    through: i64,
    /// No row is behind it yet.
    is_last: bool,
    gap: Option<(i64, Instant)>,
}

impl Feed {
    /// Feeds the messages of the topics for which `is_fed` holds. If the database has no cursor of this name, it
    /// begins at the newest row, before the first message that is published after this call.
    pub(crate) fn begin(
        writer: &DbWriterHandle,
        others: OtherServers,
        name: &'static str,
        is_fed: impl Fn(&str) -> bool + Send + Sync + 'static,
    ) -> Self {
        writer.change_cursor(CursorChange { name, to: None });
        Self {
            commits: writer.commits(),
            writer: writer.clone(),
            others,
            name,
            is_fed: Arc::new(is_fed),
            read: None,
            taken: 0,
            stored: 0,
            gap: None,
            page: VecDeque::new(),
            is_behind: true,
            has_more: false,
            seen: 0,
        }
    }

    /// Waits until rows were committed since the last read. Dropping the future loses nothing.
    pub(crate) async fn committed(&mut self) {
        if self.commits.changed().await.is_err() {
            // The writer has ended: nothing is committed any more.
            std::future::pending::<()>().await;
        }
        self.is_behind = true;
    }

    /// Whether rows may be there that were not read.
    pub(crate) fn is_behind(&self) -> bool {
        self.is_behind
    }

    /// Whether at least so many rows were not read, as far as known.
    pub(crate) fn has_rows(&self, rows: usize) -> bool {
        let new = self.commits.borrow().saturating_sub(self.seen);
        self.has_more || new >= rows as u64
    }

    /// The number of messages that were read and are not taken out.
    pub(crate) fn len(&self) -> usize {
        self.page.len()
    }

    /// Whether every message that was read is taken out.
    pub(crate) fn is_empty(&self) -> bool {
        self.page.is_empty()
    }

    /// The oldest message that is not taken out.
    pub(crate) fn first(&self) -> Option<&FedMessage> {
        self.page.front().map(|(_, message)| message)
    }

    /// Takes out the oldest message. The cursor is not moved: call [`taken`](Self::taken).
    pub(crate) fn pop(&mut self) -> Option<(RowCursor, FedMessage)> {
        let (row, message) = self.page.pop_front()?;
        // Behind the last message of a page are rows of other topics alone.
        let through = if self.page.is_empty() {
            self.read.unwrap_or(row).max(row)
        } else {
            row
        };
        Some((RowCursor(through), message))
    }

    /// Reads up to `limit` messages, with at most `bytes` of payload together; but one message of any size. Call it
    /// when all messages are taken out, and taken. Returns false if rows are missing that may come without a commit:
    /// call it again after a while.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub(crate) async fn read(&mut self, limit: usize, bytes: usize) -> Result<bool, LoadError> {
        // Before the read, so that a commit during the read is noticed.
        self.seen = *self.commits.borrow_and_update();
        self.has_more = false;
        let (read, name, is_fed) = (self.read, self.name, Arc::clone(&self.is_fed));
        let holds = !self.others.names().is_empty();
        let gap = self.gap.filter(|_| holds);
        let page = self
            .writer
            .readers()
            .clone()
            .read(Query::Other, move |connection| {
                let stored = cursor::find(connection, name)?;
                // Another server may have taken more.
                let Some(after) = stored.max(read) else {
                    return Ok(None);
                };
                let scan = FeedScan {
                    is_fed: &*is_fed,
                    limit,
                    bytes,
                    holds,
                    gap,
                };
                Ok(Some((after, scan.page(connection, after)?)))
            });
        let page = page.await.map_err(|source| LoadError {
            topic: String::new(),
            source,
        })?;
        // The writer has not begun the cursor yet.
        let Some((after, page)) = page else {
            return Ok(false);
        };
        if self.read.is_none() {
            (self.taken, self.stored) = (after, after);
        }
        self.read = Some(page.through);
        self.gap = page.gap;
        self.has_more = !page.is_last;
        self.is_behind = self.has_more || self.gap.is_some();
        self.page.extend(page.messages);
        if self.page.is_empty() {
            self.pass(page.through);
        }
        Ok(self.gap.is_none())
    }

    /// The reader has taken all messages up to this one: a restart does not feed them again.
    pub(crate) fn taken(&mut self, RowCursor(row): RowCursor) {
        self.taken = self.taken.max(row);
        self.store();
    }

    /// Rows without a fed message need no cursor of their own.
    fn pass(&mut self, through: i64) {
        self.taken = self.taken.max(through);
        if self.taken - self.stored >= STORE_EVERY {
            self.store();
        }
    }

    /// Stores the cursor.
    pub(crate) fn store(&mut self) {
        if self.taken > self.stored {
            self.stored = self.taken;
            self.writer.change_cursor(CursorChange {
                name: self.name,
                to: Some(self.taken),
            });
        }
    }
}

/// A place of a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RowCursor(i64);

/// One read.
struct FeedScan<'a> {
    is_fed: &'a IsFed,
    limit: usize,
    bytes: usize,
    /// Whether to stop at a gap.
    holds: bool,
    gap: Option<(i64, Instant)>,
}

impl FeedScan<'_> {
    fn page(self, connection: &mut DbConnection<'_>, after: i64) -> diesel::QueryResult<FedPage> {
        let (mut through, mut ids, mut left) = (after, Vec::new(), self.bytes);
        let (mut is_last, mut gap) = (false, None);
        'scans: for _ in 0..SCANS {
            let limit = i64::try_from(SCAN_ROWS).unwrap_or(i64::MAX);
            let rows = feed::sizes(connection, through, limit)?;
            let is_whole = rows.len() < SCAN_ROWS;
            for row in rows {
                if self.holds && row.id != through + 1 {
                    let since = self.gap.filter(|(before, _)| *before == through);
                    let since = since.map_or_else(Instant::now, |(_, since)| since);
                    if since.elapsed() < GAP_WAIT {
                        (gap, is_last) = (Some((through, since)), true);
                        break 'scans;
                    }
                }
                if self.is_wanted(&row) {
                    let rest = left.checked_sub(row.bytes());
                    if ids.len() >= self.limit || (rest.is_none() && !ids.is_empty()) {
                        break 'scans;
                    }
                    left = rest.unwrap_or_default();
                    ids.push(row.id);
                }
                through = row.id;
            }
            if is_whole {
                is_last = true;
                break;
            }
            if !ids.is_empty() {
                break;
            }
        }
        let messages = feed::rows(connection, ids)?;
        let messages = messages.into_iter().map(|row| {
            let message = FedMessage {
                topic: row.topic,
                id: row.id,
                event: row.entry.event,
                payload: RawJson::trusted(row.entry.payload.into()),
                client_ref: of_client(row.entry.client_ref),
                inserted_at: row.entry.at,
            };
            (row.row_id, message)
        });
        Ok(FedPage {
            messages: messages.collect(),
            through,
            is_last,
            gap,
        })
    }

    fn is_wanted(&self, row: &RowSize) -> bool {
        !row.topic().is_empty() && (self.is_fed)(row.topic())
    }
}
