//! [`Drafts`]: messages that wait for their place, which the database gives.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::lock::lock;
use crate::log::{StoreFull, Unplaced};
use crate::metrics::{committed as committed_now, metrics};
use crate::store::backend::DbConnection;
use crate::store::backend::Fault;

use crate::store::tables::columns::Columns;
use crate::store::write::batch::MAX_BATCH;
use crate::store::write::capacity::Capacity;
use crate::store::write::order::{self, Ordered};

/// How long a message waits for a database that is unreachable.
const PATIENCE: Duration = Duration::from_secs(5);

/// Messages on their way from publishers to the writer.
#[derive(Default)]
pub(in crate::store) struct DraftIntake(Mutex<Vec<Arc<Unplaced>>>);

/// The writer's queue of messages, in order.
pub(in crate::store) struct Drafts {
    intake: Arc<DraftIntake>,
    queue: VecDeque<Arc<Unplaced>>,
    capacity: Arc<Capacity>,
}

/// Messages for one round.
pub(in crate::store) type DraftBatch = Vec<Arc<Unplaced>>;

impl DraftIntake {
    /// Adds a message. Returns whether the writer must be woken.
    pub(in crate::store) fn put(&self, draft: Arc<Unplaced>) -> bool {
        let mut drafts = lock(&self.0);
        drafts.push(draft);
        drafts.len() == 1
    }
}

impl Drafts {
    pub(in crate::store) fn new(intake: &Arc<DraftIntake>, capacity: &Arc<Capacity>) -> Self {
        Self {
            intake: Arc::clone(intake),
            queue: VecDeque::new(),
            capacity: Arc::clone(capacity),
        }
    }

    /// Takes what publishers have put in.
    pub(in crate::store) fn take_in(&mut self) {
        self.queue
            .extend(std::mem::take(&mut *lock(&self.intake.0)));
    }

    /// Whether there is nothing to do.
    pub(in crate::store) fn is_empty(&self) -> bool {
        self.queue.is_empty() && lock(&self.intake.0).is_empty()
    }

    /// The first messages.
    pub(in crate::store) fn batch(&self) -> DraftBatch {
        let drafts = self.queue.iter().take(MAX_BATCH);
        drafts.cloned().collect()
    }

    /// The first messages are done with.
    pub(in crate::store) fn remove(&mut self, number: usize) {
        self.queue.drain(..number);
    }

    /// The database is unreachable: refuses what has waited too long, except what may be stored.
    pub(in crate::store) fn refuse_old(&mut self) {
        self.take_in();
        let now = SystemTime::now();
        for draft in &self.queue {
            let age = now.duration_since(draft.at).unwrap_or_default();
            if age >= PATIENCE
                && withdraw(draft, &self.capacity)
                && let Some(owner) = draft.owner()
            {
                owner.not_stored(draft, false);
            }
        }
    }
}

/// Takes a message back, unless it may be stored.
pub(in crate::store) fn withdraw(draft: &Unplaced, capacity: &Capacity) -> bool {
    let withdrawn = draft.withdraw();
    if withdrawn {
        capacity.release(1, draft.bytes());
    }
    withdrawn
}

/// Reserves room for a message. While the database is unreachable there is none: members see committed messages only.
///
/// # Errors
/// If there is no room.
pub(in crate::store) fn reserve(draft: &Unplaced, capacity: &Capacity) -> Result<(), StoreFull> {
    if capacity.is_away() {
        return Err(capacity.refuse());
    }
    capacity.reserve(draft.bytes())
}

/// Commits messages. `done` counts those that are settled, from the first.
pub(in crate::store) fn commit(
    connection: &mut DbConnection<'_>,
    drafts: &DraftBatch,
    columns: &Columns,
    capacity: &Capacity,
    done: &mut usize,
) -> Result<(), Fault> {
    let settled = &mut |drafts: &[Arc<Unplaced>], ordered: Ordered| {
        *done += drafts.len();
        settle(drafts, ordered, capacity);
    };
    let Some(oldest) = drafts.first() else {
        return Ok(());
    };
    let started = Instant::now();
    let committed = order::commit(connection, drafts, columns, settled);
    show(drafts.len(), oldest.at, started, *done > 0);
    Ok(committed?)
}

/// Shows a round in the metrics.
fn show(messages: usize, oldest: SystemTime, started: Instant, is_done: bool) {
    let now = SystemTime::now();
    if is_done {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        metrics().last_commit.set(since.as_secs_f64());
    }
    let took = started.elapsed().as_secs_f64();
    metrics().writer_commit.record(took);
    metrics().writer_batch.record(messages as f64);
    let lag = now.duration_since(oldest).unwrap_or_default();
    metrics().writer_lag.record(lag.as_secs_f64());
    committed_now(lag);
}

fn settle(drafts: &[Arc<Unplaced>], ordered: Ordered, capacity: &Capacity) {
    let Some(owner) = drafts.iter().find_map(|draft| draft.owner()) else {
        return drafts.iter().for_each(|draft| {
            capacity.release(1, draft.bytes());
        });
    };
    match ordered {
        Ordered::Stored(placings) => {
            let mut rows = 0;
            for part in &placings.placed {
                rows += part.messages.len();
                for placed in &part.messages {
                    capacity.release(1, placed.draft.bytes());
                }
                if part.erasure.is_some() {
                    capacity.release(1, 0);
                }
            }
            let found = placings.found.iter().map(|(draft, _)| draft);
            for draft in found.chain(&placings.late) {
                capacity.release(1, draft.bytes());
            }
            metrics().rows_committed.increment(rows as u64);
            metrics()
                .rows_duplicate
                .increment(placings.found.len() as u64);
            owner.committed(placings);
        }
        Ordered::Rejected(error) => {
            for draft in drafts {
                tracing::error!(
                    topic = &*draft.topic, %error,
                    "store.writer.row_rejected: this message is not stored; look at the database's \
                     log"
                );
                metrics().rows_rejected.increment(1);
                capacity.release(1, draft.bytes());
                owner.not_stored(draft, true);
            }
        }
    }
}
