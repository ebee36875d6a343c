//! [`StoredRows`]: the rows of one topic, for stores that keep them in memory.

use super::{Newest, Seq, StoredEntry};

/// The rows of one topic, oldest first, for a [`MessageStore`](super::MessageStore) that keeps them in memory. Its
/// methods choose rows as the methods of the port with these names must.
///
/// ```
/// use std::time::SystemTime;
/// use slackir::log::{Seq, StoredEntry, StoredRows};
///
/// let mut rows = StoredRows::default();
/// for seq in 1..=3 {
///     let row = StoredEntry::new(Seq::new(seq), "say", r#"{"body":"hi"}"#, SystemTime::now());
///     rows.store(row, None);
/// }
/// assert_eq!(rows.page(Seq::new(1), 1, 1_000)[0].seq, Seq::new(2));
/// assert_eq!(rows.last_seq(), Seq::new(3));
/// ```
#[derive(Clone, Debug, Default)]
pub struct StoredRows(Vec<StoredEntry>);

impl StoredRows {
    /// Adds a row. If it has a target, it also deletes that row, or gives it the payload `updated`.
    pub fn store(&mut self, row: StoredEntry, updated: Option<String>) {
        if let Some(target) = row.target {
            match updated {
                None => self.0.retain(|row| row.seq != target),
                Some(payload) => {
                    if let Some(row) = self.0.iter_mut().find(|row| row.seq == target) {
                        row.payload = payload;
                    }
                }
            }
        }
        self.0.push(row);
    }

    /// All rows, those of changes too.
    pub fn all(&self) -> &[StoredEntry] {
        &self.0
    }

    /// The seq of the newest row; 0 for none.
    pub fn last_seq(&self) -> Seq {
        self.0.last().map_or(Seq::ZERO, |row| row.seq)
    }

    /// See [`MessageStore::newest`](super::MessageStore::newest).
    pub fn newest(&self, limit: usize, bytes: usize) -> Newest {
        let messages = self.0.iter().rev().filter(|row| row.target.is_none());
        let fitting = fitting(messages.clone(), limit, bytes);
        let oldest = messages.take(fitting).last();
        let oldest = oldest.map_or(Seq::MAX, |row| row.seq);
        let client_refs = self.0.iter();
        let client_refs = client_refs.filter_map(|row| Some((row.client_ref.clone()?, row.seq)));
        let entries = self.0.iter().filter(|row| row.seq >= oldest);
        Newest::new(entries.cloned().collect(), client_refs.collect())
    }

    /// See [`MessageStore::page`](super::MessageStore::page).
    pub fn page(&self, after: Seq, limit: usize, bytes: usize) -> Vec<StoredEntry> {
        let rows = self.0.iter().filter(|row| row.seq > after);
        let fitting = fitting(rows.clone(), limit, bytes);
        rows.take(fitting).cloned().collect()
    }

    /// See [`MessageStore::before`](super::MessageStore::before).
    pub fn before(&self, before: Seq, limit: usize, bytes: usize) -> Vec<StoredEntry> {
        let is_older = |row: &&StoredEntry| row.seq < before && row.target.is_none();
        let newest_first = self.0.iter().rev().filter(is_older);
        let fitting = fitting(newest_first.clone(), limit, bytes);
        let mut rows: Vec<_> = newest_first.take(fitting).cloned().collect();
        rows.reverse();
        rows
    }
}

/// The number of these rows that fit a page: at most `limit`, with `bytes` of payload together, but one if there is
/// any.
fn fitting<'a>(rows: impl Iterator<Item = &'a StoredEntry>, limit: usize, bytes: usize) -> usize {
    let mut taken = 0;
    let fits = |(at, row): &(usize, &StoredEntry)| {
        taken += row.payload.len();
        *at == 0 || taken <= bytes
    };
    rows.take(limit).enumerate().take_while(fits).count()
}
