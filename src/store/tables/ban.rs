//! [`BanChange`]: the rows of `bans`.

use std::time::SystemTime;

use diesel::prelude::*;

use crate::ban::{Ban, BanKind, BanTarget};
use crate::store::backend::{DbConnection, on_each_backend};
use crate::store::schema::bans;
use crate::store::tables::row::{from_micros, micros};

const BAN: &str = "ban";
const MUTE: &str = "mute";
const USER: &str = "user";
const ADDRESS: &str = "address";

/// The most rows that one transaction deletes, unless they end in the same microsecond.
const PRUNED_AT_ONCE: i64 = 1_000;

/// A change of the table.
#[derive(Clone, Debug)]
pub(in crate::store) enum BanChange {
    /// Adds a row, in place of one of the same kind and target.
    Put(Ban),
    /// Deletes the row of this kind and target.
    Remove(BanKind, BanTarget),
    /// Deletes rows that have ended at this time.
    Prune(SystemTime),
}

/// A row.
type BanRow = (String, String, String, String, i64, i64);

impl BanChange {
    /// Makes the change, inside a transaction. Returns the number of rows.
    pub(in crate::store) fn run(&self, connection: &mut DbConnection<'_>) -> QueryResult<usize> {
        match self {
            Self::Put(ban) => put(connection, ban),
            Self::Remove(kind, of) => {
                let (target, subject) = key(of);
                let row = bans::table.find((name(*kind), target, subject));
                on_each_backend!(connection, |typed| diesel::delete(row).execute(typed))
            }
            Self::Prune(now) => prune(connection, micros(*now)),
        }
    }
}

/// The bans that have not ended, the last to end first.
pub(in crate::store) fn in_force(
    connection: &mut DbConnection<'_>,
    now: SystemTime,
    limit: usize,
) -> QueryResult<Vec<Ban>> {
    let rows = bans::table
        .filter(bans::ends.gt(micros(now)))
        .order(bans::ends.desc())
        .limit(i64::try_from(limit).unwrap_or(i64::MAX));
    let rows: Vec<BanRow> = on_each_backend!(connection, |typed| rows.load(typed))?;
    Ok(rows.into_iter().filter_map(read).collect())
}

/// `None` for a row that this version does not understand.
fn read((kind, target, subject, id, since, ends): BanRow) -> Option<Ban> {
    Some(Ban {
        id,
        kind: match &*kind {
            BAN => BanKind::Ban,
            MUTE => BanKind::Mute,
            _ => return None,
        },
        target: match &*target {
            USER => BanTarget::User(subject),
            ADDRESS => BanTarget::Address(subject.parse().ok()?),
            _ => return None,
        },
        since: from_micros(since),
        ends: from_micros(ends),
    })
}

fn name(kind: BanKind) -> &'static str {
    match kind {
        BanKind::Ban => BAN,
        BanKind::Mute => MUTE,
    }
}

fn key(target: &BanTarget) -> (&'static str, String) {
    match target {
        BanTarget::User(user) => (USER, user.clone()),
        BanTarget::Address(range) => (ADDRESS, range.to_string()),
    }
}

fn put(connection: &mut DbConnection<'_>, ban: &Ban) -> QueryResult<usize> {
    let (target, subject) = key(&ban.target);
    let values = (
        bans::id.eq(&ban.id),
        bans::since.eq(micros(ban.since)),
        bans::ends.eq(micros(ban.ends)),
    );
    let row = (
        bans::kind.eq(name(ban.kind)),
        bans::target.eq(target),
        bans::subject.eq(subject),
        values,
    );
    on_each_backend!(connection, |typed| diesel::insert_into(bans::table)
        .values(row)
        .on_conflict((bans::kind, bans::target, bans::subject))
        .do_update()
        .set(values)
        .execute(typed))
}

fn prune(connection: &mut DbConnection<'_>, now: i64) -> QueryResult<usize> {
    let ended = bans::table.filter(bans::ends.le(now));
    let last = ended
        .select(bans::ends)
        .order(bans::ends)
        .offset(PRUNED_AT_ONCE - 1)
        .limit(1);
    let last: Option<i64> = on_each_backend!(connection, |typed| last.first(typed).optional())?;
    let through = last.unwrap_or(now);
    let ended = bans::table.filter(bans::ends.le(through));
    on_each_backend!(connection, |typed| diesel::delete(ended).execute(typed))
}
