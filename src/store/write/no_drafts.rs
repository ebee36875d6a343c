//! A writer whose messages all have their place: the build has no cluster, or no PostgreSQL.

use std::sync::Arc;

use crate::store::backend::DbConnection;
use crate::store::backend::Fault;

use crate::store::tables::columns::Columns;
use crate::store::write::capacity::Capacity;

/// Messages on their way to the writer: none.
#[derive(Default)]
pub(in crate::store) struct DraftIntake;

/// The writer's queue of messages without a place.
pub(in crate::store) struct Drafts;

/// Messages for one round: none.
pub(in crate::store) type DraftBatch = ();

impl Drafts {
    pub(in crate::store) fn new(_: &Arc<DraftIntake>, _: &Arc<Capacity>) -> Self {
        Self
    }

    pub(in crate::store) fn take_in(&mut self) {}

    pub(in crate::store) fn is_empty(&self) -> bool {
        true
    }

    pub(in crate::store) fn batch(&self) -> DraftBatch {}

    pub(in crate::store) fn remove(&mut self, _: usize) {}

    pub(in crate::store) fn refuse_old(&mut self) {}
}

/// There is nothing to commit.
pub(in crate::store) fn commit(
    _: &mut DbConnection<'_>,
    (): &DraftBatch,
    _: &Columns,
    _: &Capacity,
    _: &mut usize,
) -> Result<(), Fault> {
    Ok(())
}
