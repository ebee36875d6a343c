//! Deleting rows, a transaction's worth at a time.

use diesel::prelude::*;

use super::backend::{Connection, on_each_backend};
use super::run;
use super::schema::messages;

/// Rows of one transaction: no shout waits for more.
pub(super) const MAX_ROWS: usize = 1_000;

/// Rows of one topic to delete; at most [`MAX_ROWS`], by the care of the one who asks.
#[derive(Clone, Debug)]
pub(super) struct Removal {
    pub(super) topic: String,
    pub(super) rows: Rows,
    /// Messages up to this seq may be gone afterwards: no client resumes from before it.
    pub(super) pruned_through: i64,
}

/// Which of them.
#[derive(Clone, Debug)]
pub(super) enum Rows {
    /// All up to this seq.
    Through(i64),
    /// Those with these seqs.
    These(Vec<i64>),
}

/// Deletes the rows, inside a transaction; how many there were.
pub(super) fn remove(connection: &mut Connection<'_>, removal: &Removal) -> QueryResult<usize> {
    let Removal {
        topic,
        rows,
        pruned_through,
    } = removal;
    run::prune(connection, topic, *pruned_through)?;
    let of_topic = messages::table.filter(messages::topic.eq(topic));
    match rows {
        Rows::Through(seq) => on_each_backend!(connection, |typed| diesel::delete(
            of_topic.filter(messages::seq.le(seq))
        )
        .execute(typed)),
        Rows::These(seqs) => on_each_backend!(connection, |typed| diesel::delete(
            of_topic.filter(messages::seq.eq_any(seqs))
        )
        .execute(typed)),
    }
}
