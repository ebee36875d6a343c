//! One batch of rows: a transaction if the database takes them all, else its halves, until the
//! rows that it refuses are alone.

use diesel::result::{DatabaseErrorKind, Error};

use super::backend::Connection;
use super::columns::Columns;
use super::message::{self, NewMessage};
use super::row::Row;

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

/// Whether SQLite says that its file is no sound database. It has no language but English.
pub(super) fn is_damage(error: &Error) -> bool {
    const DAMAGE: [&str; 2] = ["disk image is malformed", "file is not a database"];
    match error {
        Error::DatabaseError(DatabaseErrorKind::Unknown, information) => {
            let message = information.message();
            DAMAGE.iter().any(|damage| message.contains(damage))
        }
        _ => false,
    }
}

/// Commits rows in their order, and tells what became of each as soon as it is certain.
///
/// # Errors
/// When the database is away, or takes nothing; then the fate of the rest is not told.
pub(super) fn commit(
    connection: &mut Connection<'_>,
    rows: &[Row<'_>],
    columns: &Columns,
    tell: &mut impl FnMut(Fate),
) -> Result<(), Error> {
    // A database that refuses everything refuses an empty transaction too: no row is to blame, and
    // there is nothing to halve.
    if rows.is_empty() {
        return Ok(());
    }
    let failure = match attempt(connection, rows, columns) {
        Ok(fates) => {
            fates.into_iter().for_each(tell);
            return Ok(());
        }
        Err(failure) => failure,
    };
    let error = failure.blame()?;
    if let [row] = rows {
        tell(judge(connection, *row, columns, error)?);
        return Ok(());
    }
    let (first, second) = rows.split_at(rows.len() / 2);
    commit(connection, first, columns, tell)?;
    commit(connection, second, columns, tell)
}

/// One transaction for all rows.
fn attempt(
    connection: &mut Connection<'_>,
    rows: &[Row<'_>],
    columns: &Columns,
) -> Result<Vec<Fate>, Failure> {
    let new: Vec<_> = rows
        .iter()
        .map(|row| NewMessage::new(*row, columns))
        .collect();
    if rows.iter().all(|row| row.client_ref.is_none()) {
        let plain = connection.transaction(|connection| {
            message::insert(connection, &new)
                .and_then(|()| {
                    rows.iter()
                        .try_for_each(|row| message::apply(connection, *row, columns))
                })
                .map_err(Failure::Statement)
        });
        match plain {
            // Some seq is taken: which one the other statement tells.
            Err(Failure::Statement(Error::DatabaseError(
                DatabaseErrorKind::UniqueViolation,
                _,
            ))) => {}
            plain => return plain.map(|()| rows.iter().map(|_| Fate::Committed).collect()),
        }
    }
    connection.transaction(|connection| {
        insert_or_find(connection, rows, &new, columns).map_err(Failure::Statement)
    })
}

/// Inserts what is new, and finds out why the rest is not.
fn insert_or_find(
    connection: &mut Connection<'_>,
    rows: &[Row<'_>],
    new: &[NewMessage<'_>],
    columns: &Columns,
) -> Result<Vec<Fate>, Error> {
    let inserted = message::insert_new(connection, new)?;
    let mut fates = Vec::with_capacity(new.len());
    for (row, new) in rows.iter().zip(new) {
        let fate = if inserted.contains(&(new.topic.to_owned(), new.seq))
            || message::is_stored(connection, new)?
        {
            Fate::Committed
        } else if let Some(first) = message::first_with_ref_of(connection, new)? {
            Fate::DuplicateOf(first)
        } else {
            Fate::Moved(message::insert_last(connection, new)?)
        };
        // Also when it was stored before: what it deletes may have been inserted once more.
        if !matches!(fate, Fate::DuplicateOf(_)) {
            message::apply(connection, *row, columns)?;
        }
        fates.push(fate);
    }
    Ok(fates)
}

/// A row alone was refused: whether it is to blame, or the database.
fn judge(
    connection: &mut Connection<'_>,
    row: Row<'_>,
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
    message::stand_in(connection, &NewMessage::new(row, columns))?;
    match attempt(connection, &[row], columns) {
        Ok(mut fates) => Ok(fates.pop().unwrap_or(Fate::Committed)),
        Err(failure) => match failure.blame()? {
            // Another server is taking the seqs as fast as we find free ones.
            race @ Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _) => Err(race),
            error => Ok(Fate::Rejected(error)),
        },
    }
}
