//! [`Removal`]: deletes rows, as many as fit one transaction.

use diesel::prelude::*;

use crate::log::Seq;
use crate::store::backend::{DbConnection, on_each_backend};
use crate::store::schema::messages;
use crate::store::tables::run;

/// The most rows of one transaction, because messages wait for it.
pub(in crate::store) const MAX_ROWS: usize = 1_000;

/// Rows of one topic to delete. The caller must pass at most [`MAX_ROWS`].
#[derive(Clone, Debug)]
pub(in crate::store) struct Removal {
    pub(in crate::store) topic: String,
    pub(in crate::store) rows: RemovedRows,
    /// Afterwards messages up to this seq may be missing: no client resumes from before it.
    pub(in crate::store) pruned_through: Seq,
}

/// The rows to delete.
#[derive(Clone, Debug)]
pub(in crate::store) enum RemovedRows {
    /// All up to this seq.
    Through(Seq),
    /// Those with these seqs.
    These(Vec<Seq>),
}

/// Deletes the rows, inside a transaction. Returns their number.
pub(in crate::store) fn remove(
    connection: &mut DbConnection<'_>,
    removal: &Removal,
) -> QueryResult<usize> {
    let Removal {
        topic,
        rows,
        pruned_through,
    } = removal;
    run::prune(connection, topic, *pruned_through)?;
    let of_topic = messages::table.filter(messages::topic.eq(topic));
    match rows {
        RemovedRows::Through(seq) => on_each_backend!(connection, |typed| diesel::delete(
            of_topic.filter(messages::seq.le(seq))
        )
        .execute(typed)),
        RemovedRows::These(seqs) => on_each_backend!(connection, |typed| diesel::delete(
            of_topic.filter(messages::seq.eq_any(seqs))
        )
        .execute(typed)),
    }
}
