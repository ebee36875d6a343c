//! [`MemoryStore`]: a store without a database, for tests and trials.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use futures_core::future::BoxFuture;
use futures_util::FutureExt;

use super::{
    Epoch, Flushed, LoadError, LogEntry, MessageId, MessageStore, Newest, OpenedRun, Pending, Seq,
    StoreFull, StoredEntry, StoredRows,
};

/// A [`MessageStore`] in memory, for tests of channels whose topics have a log. It commits on a
/// thread of its own, at once or when [released](MemoryStore::release). Its rows outlive the `PubSub`, as a database
/// outlives its server. It deletes nothing.
///
/// ```
/// use slackir::log::{LogRule, MemoryStore};
/// use slackir::pubsub::PubSub;
///
/// let store = MemoryStore::new();
/// let rule = LogRule::new("room:*", &["shout"], 50, store.clone());
/// let pubsub = PubSub::with_logs(vec![rule]);
/// ```
#[derive(Default)]
pub struct MemoryStore {
    state: Mutex<StoreState>,
    /// Signals new rows, and a release.
    changed: Condvar,
}

named_debug!(MemoryStore);

#[derive(Default)]
struct StoreState {
    topics: HashMap<String, StoredTopic>,
    waiting: Vec<Pending>,
    held: bool,
    refusing: bool,
    /// The number of epochs so far.
    epochs: i64,
}

/// The rows of one topic.
#[derive(Default)]
struct StoredTopic {
    epoch: Epoch,
    /// A run is open: it was not closed, or not yet.
    open: bool,
    rows: StoredRows,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Arc<Self> {
        let store = Arc::new(Self::default());
        let weak = Arc::downgrade(&store);
        std::thread::spawn(move || {
            while let Some(store) = weak.upgrade() {
                store.run();
            }
        });
        store
    }

    /// An empty store that commits nothing until [`MemoryStore::commit`].
    pub(crate) fn without_thread() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Commits nothing until [`MemoryStore::release`].
    pub fn hold(&self) {
        self.lock().held = true;
    }

    /// Commits the pending rows, and later ones at once.
    pub fn release(&self) {
        self.lock().held = false;
        self.changed.notify_all();
    }

    /// Refuses every message, as a database that is unreachable for too long, or takes them again.
    pub fn refuse(&self, refusing: bool) {
        self.lock().refusing = refusing;
    }

    /// The committed messages of a topic and their changes, oldest first.
    pub fn rows(&self, topic: &str) -> Vec<StoredEntry> {
        self.lock().read(topic, |rows| rows.all().to_vec())
    }

    /// Waits for rows, and commits them. Returns at least every 50 ms, so that its thread ends with the store.
    fn run(&self) {
        const MOMENT: Duration = Duration::from_millis(50);
        let idle = |state: &mut StoreState| state.held || state.waiting.is_empty();
        let waited = self.changed.wait_timeout_while(self.lock(), MOMENT, idle);
        drop(waited);
        self.commit();
    }

    /// Commits the pending rows, unless they are held.
    pub(crate) fn commit(&self) {
        let mut state = self.lock();
        if state.held {
            return;
        }
        let committed = std::mem::take(&mut state.waiting);
        for row in &committed {
            state.store(row);
        }
        drop(state);
        committed.iter().for_each(Pending::committed);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, StoreState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StoreState {
    fn store(&mut self, entry: &LogEntry) {
        let stored = self.topics.entry(entry.topic().to_owned()).or_default();
        let updated = entry.updated_payload().map(|json| json.get().to_owned());
        stored.rows.store(entry.to_stored(), updated);
    }

    fn open(&mut self, topic: &str, strict: bool) -> OpenedRun {
        self.epochs += 1;
        let fresh = Epoch::new(self.epochs);
        let known = self.topics.contains_key(topic);
        let stored = self.topics.entry(topic.to_owned()).or_default();
        let was_open = std::mem::replace(&mut stored.open, true);
        let head = stored.rows.last_seq();
        let run = match (known, was_open && !strict) {
            (false, _) => OpenedRun::never_begun(fresh),
            (true, false) => OpenedRun::continued(stored.epoch, head),
            (true, true) => OpenedRun::after_a_kill(fresh, head),
        };
        stored.epoch = run.epoch;
        // The opening begins the run: nothing has to be stored with its first message.
        OpenedRun {
            next_epoch: None,
            ..run
        }
    }

    /// The rows of a topic, for a page of them.
    fn read<T>(&self, topic: &str, page: impl FnOnce(&StoredRows) -> T) -> T {
        match self.topics.get(topic) {
            Some(stored) => page(&stored.rows),
            None => page(&StoredRows::default()),
        }
    }
}

impl MessageStore for MemoryStore {
    fn append(&self, row: Pending) -> Result<(), StoreFull> {
        let mut state = self.lock();
        if state.refusing {
            return Err(StoreFull::retry_after(Duration::from_secs(1)));
        }
        state.waiting.push(row);
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    fn open(&self, topic: &str, strict: bool) -> BoxFuture<'static, Result<OpenedRun, LoadError>> {
        // Messages published before are committed first, as in a database.
        self.commit();
        let run = self.lock().open(topic, strict);
        std::future::ready(Ok(run)).boxed()
    }

    fn newest(
        &self,
        topic: &str,
        limit: usize,
        bytes: usize,
    ) -> BoxFuture<'static, Result<Newest, LoadError>> {
        let newest = self.lock().read(topic, |rows| rows.newest(limit, bytes));
        std::future::ready(Ok(newest)).boxed()
    }

    fn close(&self, topic: &str, _last: MessageId) {
        if let Some(stored) = self.lock().topics.get_mut(topic) {
            stored.open = false;
        }
    }

    /// Commits the pending rows, unless they are held.
    fn flush(&self, _limit: Duration) -> BoxFuture<'_, Flushed> {
        self.commit();
        let flushed = Flushed::waiting(self.lock().waiting.len());
        std::future::ready(flushed).boxed()
    }

    fn page(
        &self,
        topic: &str,
        after: Seq,
        limit: usize,
        bytes: usize,
    ) -> BoxFuture<'static, Result<Vec<StoredEntry>, LoadError>> {
        let rows = self
            .lock()
            .read(topic, |rows| rows.page(after, limit, bytes));
        std::future::ready(Ok(rows)).boxed()
    }

    fn before(
        &self,
        topic: &str,
        before: Seq,
        limit: usize,
        bytes: usize,
    ) -> BoxFuture<'static, Result<Vec<StoredEntry>, LoadError>> {
        let rows = self
            .lock()
            .read(topic, |rows| rows.before(before, limit, bytes));
        std::future::ready(Ok(rows)).boxed()
    }
}
