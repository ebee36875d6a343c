//! One batch of rows. If the database takes all of them, one transaction stores them; otherwise one for each half,
//! and so on, down to the rows that the database refuses.

use diesel::result::{DatabaseErrorKind, Error};

use crate::log::Seq;
use crate::store::backend::DbConnection;
use crate::store::backend::error::is_damage;
use crate::store::tables::columns::Columns;
use crate::store::tables::message;
use crate::store::tables::row::{MessageRow, PendingRow};

/// The most rows of one transaction.
pub(in crate::store) const MAX_BATCH: usize = 1_000;

/// The result of one row.
#[derive(Debug)]
pub(in crate::store) enum RowOutcome {
    Committed,
    /// Another server had used its seq: the row is stored under this one.
    Moved(Seq),
    /// Not stored again: the row at this seq has its client_ref.
    DuplicateOf(Seq),
    /// The database refuses it, and always will.
    Rejected(Error),
}

/// Why a transaction failed.
pub(in crate::store) enum TransactionFailure {
    /// A statement failed: a row may be the cause.
    Statement(Error),
    /// The begin or the commit failed, so no row is the cause.
    Transaction(Error),
}

impl From<Error> for TransactionFailure {
    fn from(error: Error) -> Self {
        Self::Transaction(error)
    }
}

impl TransactionFailure {
    /// `Ok` with the error if a row may be its cause; otherwise the database is the cause.
    pub(in crate::store) fn blame(self) -> Result<Error, Error> {
        use DatabaseErrorKind::{
            ClosedConnection, ReadOnlyTransaction, SerializationFailure, UnableToSendCommand,
        };
        match self {
            Self::Statement(Error::DatabaseError(
                ClosedConnection | ReadOnlyTransaction | SerializationFailure | UnableToSendCommand,
                _,
            )) => {}
            Self::Statement(ref error) if is_damage(error) => {}
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

/// Commits rows in their order. Calls `settled` with the outcome of each row as soon as it is certain.
///
/// # Errors
/// If the database is unreachable or refuses everything. `settled` is not called for the other rows.
pub(in crate::store) fn commit(
    connection: &mut DbConnection<'_>,
    rows: &[PendingRow<'_>],
    columns: &Columns,
    settled: &mut impl FnMut(RowOutcome),
) -> Result<(), Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let failure = match attempt(connection, rows, columns) {
        Ok(outcomes) => {
            outcomes.into_iter().for_each(settled);
            return Ok(());
        }
        Err(failure) => failure,
    };
    let error = failure.blame()?;
    if let [row] = rows {
        settled(judge(connection, *row, columns, error)?);
        return Ok(());
    }
    let (first, second) = rows.split_at(rows.len() / 2);
    commit(connection, first, columns, settled)?;
    commit(connection, second, columns, settled)
}

/// One transaction for all rows.
fn attempt(
    connection: &mut DbConnection<'_>,
    rows: &[PendingRow<'_>],
    columns: &Columns,
) -> Result<Vec<RowOutcome>, TransactionFailure> {
    let new: Vec<_> = rows
        .iter()
        .map(|row| MessageRow::new(*row, columns))
        .collect();
    if rows.iter().all(|row| row.client_ref.is_none()) {
        let plain = connection.transaction(|connection| {
            message::insert(connection, &new)
                .and_then(|()| {
                    rows.iter()
                        .try_for_each(|row| message::apply(connection, *row, columns))
                })
                .map_err(TransactionFailure::Statement)
        });
        match plain {
            // A seq is taken. The next transaction finds out which.
            Err(TransactionFailure::Statement(Error::DatabaseError(
                DatabaseErrorKind::UniqueViolation,
                _,
            ))) => {}
            plain => return plain.map(|()| rows.iter().map(|_| RowOutcome::Committed).collect()),
        }
    }
    connection.transaction(|connection| {
        insert_or_find(connection, rows, &new, columns).map_err(TransactionFailure::Statement)
    })
}

/// Inserts the rows that are new, and finds the outcome of the others.
fn insert_or_find(
    connection: &mut DbConnection<'_>,
    rows: &[PendingRow<'_>],
    new: &[MessageRow<'_>],
    columns: &Columns,
) -> Result<Vec<RowOutcome>, Error> {
    let inserted = message::insert_new(connection, new)?;
    let mut outcomes = Vec::with_capacity(new.len());
    for (row, new) in rows.iter().zip(new) {
        let outcome = if inserted.contains(&(row.topic.to_owned(), new.seq))
            || message::is_stored(connection, new)?
        {
            RowOutcome::Committed
        } else if let Some(first) = message::first_with_ref_of(connection, new)? {
            RowOutcome::DuplicateOf(first)
        } else {
            RowOutcome::Moved(message::insert_last(connection, new)?)
        };
        // Also for a row that was stored already: another server may have inserted its target again.
        if !matches!(outcome, RowOutcome::DuplicateOf(_)) {
            message::apply(connection, *row, columns)?;
        }
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

/// Decides whether the row is the cause, or the database: the database has refused this row alone.
fn judge(
    connection: &mut DbConnection<'_>,
    row: PendingRow<'_>,
    columns: &Columns,
    error: Error,
) -> Result<RowOutcome, Error> {
    use DatabaseErrorKind::{
        CheckViolation, ExclusionViolation, ForeignKeyViolation, NotNullViolation,
    };
    if let Error::DatabaseError(
        CheckViolation | ExclusionViolation | ForeignKeyViolation | NotNullViolation,
        _,
    ) = error
    {
        return Ok(RowOutcome::Rejected(error));
    }
    // A full disk and a trigger give the same error. The row is the cause if the database takes another row of this
    // size and then refuses this one again.
    message::try_same_size(connection, &MessageRow::new(row, columns))?;
    match attempt(connection, &[row], columns) {
        Ok(mut outcomes) => Ok(outcomes.pop().unwrap_or(RowOutcome::Committed)),
        Err(failure) => match failure.blame()? {
            // Another server takes each free seq before this one can.
            race @ Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _) => Err(race),
            error => Ok(RowOutcome::Rejected(error)),
        },
    }
}
