//! [`JournaledStore`]: the messages of a cluster's logs, where the database does not have the newest yet.
//!
//! A message is in the bus's journal from the moment it has its place until the database has it. So the journal is
//! read first, then the database: between the two a message can only have moved into the second.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use futures_core::future::BoxFuture;
use futures_util::FutureExt;

use super::drive;
use super::message;
use super::node::{Node, PATIENCE};
use crate::cluster::Away;
use crate::log::{
    Flushed, LoadError, MessageId, MessageStore, Newest, OpenedRun, Pending, Seq, SharedStore,
    StoreFull, StoredEntry,
};
use crate::pubsub::draft::MESSAGE_DELETED;

/// How often to ask whether it is back.
const AGAIN: Duration = Duration::from_millis(100);

/// The store of a cluster's logs.
pub(super) struct JournaledStore {
    store: Arc<dyn SharedStore>,
    node: Weak<Node>,
}

impl JournaledStore {
    pub(super) fn new(store: Arc<dyn SharedStore>, node: Weak<Node>) -> Self {
        Self { store, node }
    }

    /// Messages of the journal, oldest first. Waits for the bus if it is away.
    fn journal(&self, topic: &str) -> BoxFuture<'static, Result<Vec<StoredEntry>, LoadError>> {
        let name = topic.to_owned();
        let node = self.node.upgrade();
        async move {
            // The database has all of them.
            if node
                .as_ref()
                .is_some_and(|node| node.is_strict_topic(&name))
            {
                return Ok(Vec::new());
            }
            let begun = Instant::now();
            let read = loop {
                let Some(node) = &node else { break Err(Away) };
                let read = node.read(&name).await;
                if read.is_ok() || node.patience().is_zero() || begun.elapsed() >= PATIENCE {
                    break read;
                }
                tokio::time::sleep(AGAIN).await;
            };
            let position = read.map_err(|source| LoadError {
                topic: name,
                source: source.into(),
            })?;
            Ok(position.map_or_else(Vec::new, |position| {
                let position = drive::decoded(position);
                message::rows(position.epoch, position.journal)
            }))
        }
        .boxed()
    }

    /// The journal for the first history of a topic, which has come with its position.
    fn begun(&self, topic: &str) -> Option<Vec<StoredEntry>> {
        let topic = self.node.upgrade()?.topic(topic)?;
        topic.joint()?.take_begun()
    }
}

/// Adds messages of the journal to rows of the database; both ascend. Carries out the changes among them.
fn merge(rows: Vec<StoredEntry>, journal: Vec<StoredEntry>) -> Vec<StoredEntry> {
    let mut merged = rows;
    let known: Vec<Seq> = merged.iter().map(|row| row.seq).collect();
    let new = journal
        .into_iter()
        .filter(|entry| known.binary_search(&entry.seq).is_err());
    merged.extend(new);
    merged.sort_by_key(|entry| entry.seq);
    let changes = merged.iter().filter(|entry| entry.target.is_some());
    for change in changes.cloned().collect::<Vec<_>>() {
        apply(&mut merged, &change);
    }
    merged
}

/// Carries out a change, which the database may have carried out already.
fn apply(entries: &mut Vec<StoredEntry>, change: &StoredEntry) {
    let Some(at) = change.target.and_then(|target| {
        entries
            .binary_search_by_key(&target, |entry| entry.seq)
            .ok()
    }) else {
        return;
    };
    if change.event == MESSAGE_DELETED {
        entries.remove(at);
        return;
    }
    let update = crate::log::Change::Update {
        target: entries[at].seq,
    };
    if let Some(payload) = update.updated_payload(&change.payload) {
        entries[at].payload = payload.to_owned();
    }
}

impl MessageStore for JournaledStore {
    fn append(&self, row: Pending) -> Result<(), StoreFull> {
        self.store.append(row)
    }

    fn open(&self, topic: &str, _strict: bool) -> BoxFuture<'static, Result<OpenedRun, LoadError>> {
        let node = self.node.upgrade();
        let within = node.and_then(|node| node.eras.of_cluster());
        self.store.begin_run(topic, within)
    }

    fn newest(
        &self,
        topic: &str,
        limit: usize,
        bytes: usize,
    ) -> BoxFuture<'static, Result<Newest, LoadError>> {
        let (begun, journal) = (self.begun(topic), self.journal(topic));
        let (store, topic) = (Arc::clone(&self.store), topic.to_owned());
        async move {
            let journal = match begun {
                Some(journal) => journal,
                None => journal.await?,
            };
            let newest = store.newest(&topic, limit, bytes).await?;
            let oldest = newest.entries.first().map_or(Seq::ZERO, |row| row.seq);
            // The bus knows these, but the next one does not.
            let refs = journal.iter().filter_map(|entry| {
                let client_ref = entry.client_ref.clone()?;
                Some((client_ref, entry.seq))
            });
            let client_refs = newest.client_refs.into_iter().chain(refs).collect();
            let later = journal.into_iter().filter(|entry| entry.seq > oldest);
            Ok(Newest {
                entries: merge(newest.entries, later.collect()),
                client_refs,
            })
        }
        .boxed()
    }

    /// No node ends a run: the others may go on with it.
    fn close(&self, _topic: &str, _last: MessageId) {}

    fn flush(&self, limit: Duration) -> BoxFuture<'_, Flushed> {
        self.store.flush(limit)
    }

    fn page(
        &self,
        topic: &str,
        after: Seq,
        limit: usize,
        bytes: usize,
    ) -> BoxFuture<'static, Result<Vec<StoredEntry>, LoadError>> {
        let (journal, store, topic) = (
            self.journal(topic),
            Arc::clone(&self.store),
            topic.to_owned(),
        );
        async move {
            let journal = journal.await?;
            let rows = store.page(&topic, after, limit, bytes).await?;
            let later = journal.into_iter().filter(|entry| entry.seq > after);
            // There may be more rows after the last; after none there are none.
            let journal = match rows.last().map(|row| row.seq) {
                Some(last) => later.take_while(|entry| entry.seq <= last).collect(),
                None => later.take(limit).collect(),
            };
            Ok(merge(rows, journal))
        }
        .boxed()
    }

    fn before(
        &self,
        topic: &str,
        before: Seq,
        limit: usize,
        bytes: usize,
    ) -> BoxFuture<'static, Result<Vec<StoredEntry>, LoadError>> {
        let (journal, store, topic) = (
            self.journal(topic),
            Arc::clone(&self.store),
            topic.to_owned(),
        );
        async move {
            let journal = journal.await?;
            let rows = store.before(&topic, before, limit, bytes).await?;
            let oldest = rows.first().map_or(Seq::ZERO, |row| row.seq);
            let between = |entry: &StoredEntry| entry.seq > oldest && entry.seq < before;
            let journal = journal.into_iter().filter(between);
            let mut page = merge(rows, journal.collect());
            page.retain(|entry| entry.target.is_none());
            let surplus = page.len().saturating_sub(limit);
            Ok(page.split_off(surplus))
        }
        .boxed()
    }
}
