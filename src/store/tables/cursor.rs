//! The rows of `hook_cursors`: how far another program has taken the rows of `messages`, by their ids.

use diesel::prelude::*;

use crate::store::backend::{DbConnection, on_each_backend};
use crate::store::schema::{hook_cursors, messages};

/// A change of a cursor, for the writer.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct CursorChange {
    pub(in crate::store) name: &'static str,
    /// `None`: the cursor begins at the newest row, unless it exists.
    pub(in crate::store) to: Option<i64>,
}

/// Makes the change, inside a transaction. A cursor never moves back.
pub(in crate::store) fn change(
    connection: &mut DbConnection<'_>,
    change: CursorChange,
) -> QueryResult<()> {
    let Some(row_id) = change.to else {
        return begin(connection, change.name);
    };
    let behind = hook_cursors::table
        .find(change.name)
        .filter(hook_cursors::row_id.lt(row_id));
    on_each_backend!(connection, |typed| diesel::update(behind)
        .set(hook_cursors::row_id.eq(row_id))
        .execute(typed))?;
    Ok(())
}

fn begin(connection: &mut DbConnection<'_>, name: &str) -> QueryResult<()> {
    let newest = messages::table.select(diesel::dsl::max(messages::id));
    let newest: Option<i64> = on_each_backend!(connection, |typed| newest.first(typed))?;
    let cursor = (
        hook_cursors::name.eq(name),
        hook_cursors::row_id.eq(newest.unwrap_or_default()),
    );
    on_each_backend!(connection, |typed| {
        diesel::insert_into(hook_cursors::table)
            .values(cursor)
            .on_conflict_do_nothing()
            .execute(typed)
    })?;
    Ok(())
}

/// The id of the last row that was taken; `None` if the cursor has not begun.
pub(in crate::store) fn find(
    connection: &mut DbConnection<'_>,
    name: &str,
) -> QueryResult<Option<i64>> {
    let cursor = hook_cursors::table.find(name).select(hook_cursors::row_id);
    on_each_backend!(connection, |typed| cursor.first(typed).optional())
}
