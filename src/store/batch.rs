//! One batch of rows: a transaction if the database takes them all, else its halves, until the
//! rows that it refuses are alone.

use std::sync::Arc;

use diesel::result::{DatabaseErrorKind, Error};

use super::backend::Connection;
use super::columns::Columns;
use super::message::{self, NewMessage};
use crate::pubsub::LogEntry;

/// What became of a row.
#[derive(Debug)]
pub(super) enum Fate {
    Committed,
    /// Another server had given its seq away: it is stored under this one.
    Moved(i64),
    /// Its client_ref is stored with the row of this seq.
    DuplicateOf(i64),
    /// The database will never take it.
    Rejected(Error),
}

/// Why a transaction failed.
pub(super) enum Failure {
    /// A statement: perhaps a row's fault.
    Statement(Error),
    /// Its beginning or its end: no row's fault.
    Transaction(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Transaction(error)
    }
}

impl Failure {
    /// `Ok` with the error if what was asked for may be to blame, and not the database.
    pub(super) fn blame(self) -> Result<Error, Error> {
        use DatabaseErrorKind::{
            ClosedConnection, ReadOnlyTransaction, SerializationFailure, UnableToSendCommand,
        };
        match self {
            Self::Statement(Error::DatabaseError(
                ClosedConnection | ReadOnlyTransaction | SerializationFailure | UnableToSendCommand,
                _,
            )) => {}
            Self::Statement(
                error @ Error::DatabaseError(..) | error @ Error::SerializationError(_),
            ) => {
                return Ok(error);
            }
            Self::Statement(_) | Self::Transaction(_) => {}
        }
        let (Self::Statement(error) | Self::Transaction(error)) = self;
        Err(error)
    }
}

/// Commits entries in their order, and tells what became of each as soon as it is certain.
///
/// # Errors
/// When the database is away, or takes nothing; then the fate of the rest is not told.
pub(super) fn commit(
    connection: &mut Connection<'_>,
    entries: &[Arc<LogEntry>],
    columns: &Columns,
    tell: &mut impl FnMut(Fate),
) -> Result<(), Error> {
    let failure = match attempt(connection, entries, columns) {
        Ok(fates) => {
            fates.into_iter().for_each(tell);
            return Ok(());
        }
        Err(failure) => failure,
    };
    let error = failure.blame()?;
    if let [entry] = entries {
        tell(judge(connection, entry, columns, error)?);
        return Ok(());
    }
    let (first, second) = entries.split_at(entries.len() / 2);
    commit(connection, first, columns, tell)?;
    commit(connection, second, columns, tell)
}

/// One transaction for all entries.
fn attempt(
    connection: &mut Connection<'_>,
    entries: &[Arc<LogEntry>],
    columns: &Columns,
) -> Result<Vec<Fate>, Failure> {
    let rows: Vec<_> = entries
        .iter()
        .map(|entry| NewMessage::new(entry, columns))
        .collect();
    if entries.iter().all(|entry| entry.client_ref().is_none()) {
        let plain = connection.transaction(|connection| {
            message::insert(connection, &rows)
                .and_then(|_| {
                    entries
                        .iter()
                        .try_for_each(|entry| message::apply(connection, entry, columns))
                })
                .map_err(Failure::Statement)
        });
        match plain {
            // Some seq is taken: which one the other statement tells.
            Err(Failure::Statement(Error::DatabaseError(
                DatabaseErrorKind::UniqueViolation,
                _,
            ))) => {}
            plain => return plain.map(|()| entries.iter().map(|_| Fate::Committed).collect()),
        }
    }
    connection.transaction(|connection| {
        insert_or_find(connection, entries, &rows, columns).map_err(Failure::Statement)
    })
}

/// Inserts what is new, and finds out why the rest is not.
fn insert_or_find(
    connection: &mut Connection<'_>,
    entries: &[Arc<LogEntry>],
    rows: &[NewMessage<'_>],
    columns: &Columns,
) -> Result<Vec<Fate>, Error> {
    let inserted = message::insert_new(connection, rows)?;
    let mut fates = Vec::with_capacity(rows.len());
    for (entry, row) in entries.iter().zip(rows) {
        let fate = if inserted.contains(&(row.topic.to_owned(), row.seq))
            || message::is_stored(connection, row)?
        {
            Fate::Committed
        } else if let Some(first) = message::first_with_ref_of(connection, row)? {
            Fate::DuplicateOf(first)
        } else {
            Fate::Moved(message::insert_last(connection, row)?)
        };
        // Also when it was stored before: what it deletes may have been inserted once more.
        if !matches!(fate, Fate::DuplicateOf(_)) {
            message::apply(connection, entry, columns)?;
        }
        fates.push(fate);
    }
    Ok(fates)
}

/// A row alone was refused: whether it is to blame, or the database.
fn judge(
    connection: &mut Connection<'_>,
    entry: &Arc<LogEntry>,
    columns: &Columns,
    error: Error,
) -> Result<Fate, Error> {
    use DatabaseErrorKind::{
        CheckViolation, ExclusionViolation, ForeignKeyViolation, NotNullViolation,
    };
    if let Error::DatabaseError(
        CheckViolation | ExclusionViolation | ForeignKeyViolation | NotNullViolation,
        _,
    ) = error
    {
        return Ok(Fate::Rejected(error));
    }
    // A full disk and a trigger look alike: only when the database takes another row of this size
    // and then refuses this one again, it is this one's fault.
    message::stand_in(connection, &NewMessage::new(entry, columns))?;
    match attempt(connection, std::slice::from_ref(entry), columns) {
        Ok(mut fates) => Ok(fates.pop().unwrap_or(Fate::Committed)),
        Err(failure) => match failure.blame()? {
            // Another server is taking the seqs as fast as we find free ones.
            race @ Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _) => Err(race),
            error => Ok(Fate::Rejected(error)),
        },
    }
}
