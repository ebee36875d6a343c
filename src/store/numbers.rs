//! [`Seq`] and [`Epoch`] as columns.

use diesel::backend::Backend;
use diesel::deserialize::{self, FromSql, Queryable};
use diesel::expression::AsExpression;
use diesel::serialize::{self, Output, ToSql};
use diesel::sql_types::{BigInt, Nullable};

use crate::log::{Epoch, Seq};

/// The implementations that diesel's derives would write. The derives would need diesel in `log`.
macro_rules! number_column {
    ($type:ty) => {
        impl<DB: Backend> FromSql<BigInt, DB> for $type
        where
            i64: FromSql<BigInt, DB>,
        {
            fn from_sql(bytes: DB::RawValue<'_>) -> deserialize::Result<Self> {
                i64::from_sql(bytes).map(Self::new)
            }
        }

        impl<DB: Backend> Queryable<BigInt, DB> for $type
        where
            Self: FromSql<BigInt, DB>,
        {
            type Row = Self;

            fn build(row: Self) -> deserialize::Result<Self> {
                Ok(row)
            }
        }

        impl<DB: Backend> ToSql<BigInt, DB> for $type
        where
            i64: ToSql<BigInt, DB>,
        {
            fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, DB>) -> serialize::Result {
                self.number().to_sql(out)
            }
        }

        impl AsExpression<BigInt> for $type {
            type Expression = <i64 as AsExpression<BigInt>>::Expression;

            fn as_expression(self) -> Self::Expression {
                <i64 as AsExpression<BigInt>>::as_expression(self.get())
            }
        }

        impl AsExpression<BigInt> for &$type {
            type Expression = <i64 as AsExpression<BigInt>>::Expression;

            fn as_expression(self) -> Self::Expression {
                <i64 as AsExpression<BigInt>>::as_expression(self.get())
            }
        }

        impl AsExpression<Nullable<BigInt>> for $type {
            type Expression = <i64 as AsExpression<Nullable<BigInt>>>::Expression;

            fn as_expression(self) -> Self::Expression {
                <i64 as AsExpression<Nullable<BigInt>>>::as_expression(self.get())
            }
        }
    };
}

number_column!(Seq);
number_column!(Epoch);
