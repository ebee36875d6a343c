//! Opens the logs of topics, many of them by a few statements: after a restart or an outage thousands of topics come back
//! at once, and each statement is a round trip to the database.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use diesel::prelude::*;

#[cfg(feature = "_cluster")]
use crate::log::ClusterEra;
use crate::log::{Epoch, OpenedRun};
use crate::store::backend::{DbConnection, on_each_backend};
use crate::store::schema::topics;
use crate::store::tables::message;
use crate::store::tables::run::{self, JUMP, TopicRow};

/// A log that a server opens for itself.
#[derive(Clone, Debug)]
pub(in crate::store) struct Opening {
    pub(in crate::store) topic: String,
    pub(in crate::store) strict: bool,
    /// The epoch of its next run.
    pub(in crate::store) next_epoch: Epoch,
}

/// The runs of topics whose logs are opened, in the order of the openings. After an unclean end, a new run begins now and
/// is stored. Otherwise nothing is written, and the next run, of `next_epoch`, begins with a message.
///
/// A strict run is always clean, because members see only committed messages.
pub(in crate::store) fn open(
    connection: &mut DbConnection<'_>,
    openings: &[&Opening],
) -> QueryResult<Vec<OpenedRun>> {
    let names = openings.iter().map(|opening| &*opening.topic).collect();
    let heads = message::heads(connection, &names)?;
    let mut found = find_all(connection, &names)?;
    let mut begun = BTreeMap::new();
    let opened = openings.iter().map(|opening| {
        let name = &*opening.topic;
        let row = found.get(name).cloned().unwrap_or_default();
        let head = heads.get(name).copied().unwrap_or_default();
        let head = head.max(row.last_seq);
        if row.clean {
            return OpenedRun {
                next_epoch: Some(opening.next_epoch),
                head,
                ..row.opened()
            };
        }
        let run = row.next(head, head.plus(JUMP), opening.strict);
        let opened = run.opened();
        // A topic may be there twice: its first opener has gone.
        found.insert(name.to_owned(), run.clone());
        begun.insert(name, run);
        opened
    });
    let opened = opened.collect();
    put(connection, &begun)?;
    Ok(opened)
}

/// Begins runs whose seqs the cluster gives, by topic. They are open until the cluster begins the next ones: no node can
/// know that their messages are all committed, so the next ones begin far beyond them.
///
/// `None` if the era `within` is over: then the database gives the seqs.
#[cfg(feature = "_cluster")]
pub(in crate::store) fn begin_shared(
    connection: &mut DbConnection<'_>,
    names: &BTreeSet<&str>,
    within: Option<&ClusterEra>,
) -> QueryResult<Option<HashMap<String, OpenedRun>>> {
    if is_over(connection, within)? {
        return Ok(None);
    }
    let mut found = find_locked(connection, names)?;
    let heads = message::heads(connection, names)?;
    let begun = names.iter().map(|&name| {
        let row = found.remove(name).unwrap_or_default();
        let head = heads.get(name).copied().unwrap_or_default();
        let head = head.max(row.last_seq);
        let start = if !row.clean {
            head.plus(JUMP)
        } else if row.epoch == Epoch::default() {
            head
        } else {
            // Members of a node may have all messages up to the head: the new run begins behind it.
            head.next()
        };
        (name, row.next(head, start, false))
    });
    let begun: BTreeMap<&str, TopicRow> = begun.collect();
    put(connection, &begun)?;
    let opened = begun.iter();
    let opened = opened.map(|(name, run)| ((*name).to_owned(), run.opened()));
    Ok(Some(opened.collect()))
}

fn put(connection: &mut DbConnection<'_>, begun: &BTreeMap<&str, TopicRow>) -> QueryResult<()> {
    let runs = begun.iter().map(|(name, run)| (*name, run));
    run::put_all(connection, &runs.collect::<Vec<_>>())
}

/// Whether the bus gives no seqs any more in this era.
#[cfg(all(feature = "_cluster", feature = "postgres"))]
fn is_over(connection: &mut DbConnection<'_>, within: Option<&ClusterEra>) -> QueryResult<bool> {
    let holds = |era| crate::store::tables::era::holds(connection, era, false);
    within.map_or(Ok(true), holds).map(|holds| !holds)
}

/// Without PostgreSQL no servers share a database, and no era ends.
#[cfg(all(feature = "_cluster", not(feature = "postgres")))]
fn is_over(_: &mut DbConnection<'_>, _: Option<&ClusterEra>) -> QueryResult<bool> {
    Ok(false)
}

/// The rows of topics that have one, by topic.
fn find_all(
    connection: &mut DbConnection<'_>,
    names: &BTreeSet<&str>,
) -> QueryResult<HashMap<String, TopicRow>> {
    let rows: Vec<(String, TopicRow)> = on_each_backend!(connection, |typed| {
        topics::table
            .filter(topics::topic.eq_any(names.iter().copied()))
            .select((topics::topic, TopicRow::as_select()))
            .load(typed)
    })?;
    Ok(rows.into_iter().collect())
}

/// The same, and no other node changes these rows until the end of the transaction. They are locked in the order of their
/// names, so that no two nodes wait for each other.
#[cfg(feature = "_cluster")]
fn find_locked(
    connection: &mut DbConnection<'_>,
    names: &BTreeSet<&str>,
) -> QueryResult<HashMap<String, TopicRow>> {
    match connection {
        #[cfg(feature = "sqlite")]
        DbConnection::Sqlite(_) => find_all(connection, names),
        #[cfg(feature = "postgres")]
        DbConnection::Postgres(postgres) => {
            let rows: Vec<(String, TopicRow)> = topics::table
                .filter(topics::topic.eq_any(names.iter().copied()))
                .order(topics::topic)
                .select((topics::topic, TopicRow::as_select()))
                .for_update()
                .load(*postgres)?;
            Ok(rows.into_iter().collect())
        }
    }
}
