//! [`Readable`]: columns of rows that other applications have written, which may hold anything. A row that cannot be
//! read is left out and logged; the other rows are read.

use diesel::backend::Backend;
use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::SqlLiteral;
use diesel::prelude::*;
use diesel::sql_types::BigInt;

use crate::store::schema::messages;

/// The value of a column; `None` if it cannot be read. PostgreSQL has times outside of any calendar, and a column of
/// SQLite holds any type.
#[derive(Clone, Debug, FromSqlRow)]
pub(in crate::store) struct Readable<T>(pub(in crate::store) Option<T>);

impl<T, ST, DB> FromSql<ST, DB> for Readable<T>
where
    DB: Backend,
    T: FromSql<ST, DB>,
{
    fn from_sql(bytes: DB::RawValue<'_>) -> deserialize::Result<Self> {
        Ok(Self(T::from_sql(bytes).ok()))
    }
}

/// Whether the seq of a row is a whole number. In PostgreSQL it always is. A page that ended with another value would
/// be read again and again.
pub(in crate::store) fn has_place() -> diesel::dsl::Eq<messages::seq, SqlLiteral<BigInt>> {
    messages::seq.eq(diesel::dsl::sql::<BigInt>("CAST(messages.seq AS BIGINT)"))
}
