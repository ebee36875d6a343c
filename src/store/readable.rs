//! Rows that others have written: a table may hold what no column of it promises. A row that cannot be
//! read is left out and named; those beside it are read all the same.

use diesel::backend::Backend;
use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::SqlLiteral;
use diesel::prelude::*;
use diesel::sql_types::BigInt;

use super::schema::messages;

/// The value of a column, if it can be read: PostgreSQL has times that no calendar knows, and a column
/// of SQLite holds anything.
#[derive(Clone, Debug, FromSqlRow)]
pub(super) struct Readable<T>(pub(super) Option<T>);

impl<T, ST, DB> FromSql<ST, DB> for Readable<T>
where
    DB: Backend,
    T: FromSql<ST, DB>,
{
    fn from_sql(bytes: DB::RawValue<'_>) -> deserialize::Result<Self> {
        Ok(Self(T::from_sql(bytes).ok()))
    }
}

/// Whether the seq of a row is a whole number, as it always is in PostgreSQL. Others have no place among
/// the messages of their topic: a page that ended with one would be read again and again.
pub(super) fn has_place() -> diesel::dsl::Eq<messages::seq, SqlLiteral<BigInt>> {
    messages::seq.eq(diesel::dsl::sql::<BigInt>("CAST(messages.seq AS BIGINT)"))
}
