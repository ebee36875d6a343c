//! [`RevocationChange`]: the rows of `revocations`.

use std::time::SystemTime;

use diesel::prelude::*;

use crate::revocation::{Revocation, RevokedSubject};
use crate::store::backend::{DbConnection, on_each_backend};
use crate::store::schema::revocations;
use crate::store::tables::row::{from_micros, micros};

const USER: &str = "user";
const TOKEN: &str = "token";

/// The most rows that one transaction deletes, unless they end in the same microsecond.
const PRUNED_AT_ONCE: i64 = 1_000;

/// A change of the table.
#[derive(Clone, Debug)]
pub(in crate::store) enum RevocationChange {
    /// Adds a row. If its subject has one, the later time of both counts.
    Put(Revocation),
    Remove(RevokedSubject),
    /// Deletes rows that have ended at this time.
    Prune(SystemTime),
}

impl RevocationChange {
    /// Makes the change, inside a transaction. Returns the number of rows.
    pub(in crate::store) fn run(&self, connection: &mut DbConnection<'_>) -> QueryResult<usize> {
        match self {
            Self::Put(revocation) => put(connection, revocation),
            Self::Remove(subject) => {
                let row = revocations::table.find(key(subject));
                on_each_backend!(connection, |typed| diesel::delete(row).execute(typed))
            }
            Self::Prune(now) => prune(connection, micros(*now)),
        }
    }
}

/// The revocations that have not ended, the last to end first.
pub(in crate::store) fn in_force(
    connection: &mut DbConnection<'_>,
    now: SystemTime,
    limit: usize,
) -> QueryResult<Vec<Revocation>> {
    let rows = revocations::table
        .filter(revocations::ends.gt(micros(now)))
        .order(revocations::ends.desc())
        .limit(i64::try_from(limit).unwrap_or(i64::MAX));
    let rows: Vec<(String, String, i64, i64)> =
        on_each_backend!(connection, |typed| rows.load(typed))?;
    let read = rows
        .into_iter()
        .filter_map(|(kind, name, not_before, ends)| {
            let subject = match &*kind {
                USER => RevokedSubject::User(name),
                TOKEN => RevokedSubject::Token(name),
                _ => return None,
            };
            Some(Revocation {
                subject,
                not_before: from_micros(not_before),
                ends: from_micros(ends),
            })
        });
    Ok(read.collect())
}

fn key(subject: &RevokedSubject) -> (&'static str, &str) {
    match subject {
        RevokedSubject::User(user) => (USER, user),
        RevokedSubject::Token(id) => (TOKEN, id),
    }
}

fn put(connection: &mut DbConnection<'_>, revocation: &Revocation) -> QueryResult<usize> {
    let (kind, subject) = key(&revocation.subject);
    let known = revocations::table
        .find((kind, subject))
        .select((revocations::not_before, revocations::ends));
    let known: Option<(i64, i64)> =
        on_each_backend!(connection, |typed| known.first(typed).optional())?;
    let (not_before, ends) = known.unwrap_or_default();
    let not_before = not_before.max(micros(revocation.not_before));
    let ends = ends.max(micros(revocation.ends));
    let times = (
        revocations::not_before.eq(not_before),
        revocations::ends.eq(ends),
    );
    let row = (
        revocations::kind.eq(kind),
        revocations::subject.eq(subject),
        revocations::not_before.eq(not_before),
        revocations::ends.eq(ends),
    );
    on_each_backend!(connection, |typed| diesel::insert_into(revocations::table)
        .values(row)
        .on_conflict((revocations::kind, revocations::subject))
        .do_update()
        .set(times)
        .execute(typed))
}

fn prune(connection: &mut DbConnection<'_>, now: i64) -> QueryResult<usize> {
    let ended = revocations::table.filter(revocations::ends.le(now));
    let last = ended
        .select(revocations::ends)
        .order(revocations::ends)
        .offset(PRUNED_AT_ONCE - 1)
        .limit(1);
    let last: Option<i64> = on_each_backend!(connection, |typed| last.first(typed).optional())?;
    let through = last.unwrap_or(now);
    let ended = revocations::table.filter(revocations::ends.le(through));
    on_each_backend!(connection, |typed| diesel::delete(ended).execute(typed))
}
