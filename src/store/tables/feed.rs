//! Reads rows of all topics in the order of their ids.

use std::collections::HashMap;

use diesel::prelude::*;

use crate::log::{MessageId, Seq, StoredEntry};
use crate::store::backend::{DbConnection, on_each_backend};
use crate::store::schema::messages;
use crate::store::tables::history::{StoredMessage, octet_length};
use crate::store::tables::readable::{Readable, has_place};
use crate::store::tables::run::Names;

/// The id and the topic of a row, and the bytes of its payload.
#[derive(Debug, Queryable)]
pub(in crate::store) struct RowSize {
    pub(in crate::store) id: i64,
    topic: Readable<String>,
    bytes: Readable<i32>,
}

impl RowSize {
    /// Empty for a row without a topic: another application has written it.
    pub(in crate::store) fn topic(&self) -> &str {
        self.topic.0.as_deref().unwrap_or_default()
    }

    pub(in crate::store) fn bytes(&self) -> usize {
        let bytes = self.bytes.0.unwrap_or_default();
        usize::try_from(bytes).unwrap_or_default()
    }
}

/// The rows behind this id, lowest first. Reads no payload.
pub(in crate::store) fn sizes(
    connection: &mut DbConnection<'_>,
    after: i64,
    limit: i64,
) -> QueryResult<Vec<RowSize>> {
    let rows = messages::table
        .filter(messages::id.gt(after))
        .order(messages::id)
        .limit(limit)
        .select((
            messages::id,
            messages::topic,
            octet_length(messages::payload),
        ));
    on_each_backend!(connection, |typed| rows.load(typed))
}

/// A row with its topic and the id that clients know.
pub(in crate::store) struct FedRow {
    pub(in crate::store) row_id: i64,
    pub(in crate::store) topic: String,
    pub(in crate::store) id: MessageId,
    pub(in crate::store) entry: StoredEntry,
}

/// The rows with these ids, lowest first. Rows that were deleted meanwhile, and unreadable ones, are left out.
pub(in crate::store) fn rows(
    connection: &mut DbConnection<'_>,
    ids: Vec<i64>,
) -> QueryResult<Vec<FedRow>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows = messages::table
        .filter(messages::id.eq_any(ids))
        .filter(has_place())
        .order(messages::id);
    let rows: Vec<(i64, String, Seq, StoredMessage)> = on_each_backend!(connection, |typed| rows
        .select((
            messages::id,
            messages::topic,
            messages::seq,
            StoredMessage::as_select(),
        ))
        .load(typed))?;
    let mut names = HashMap::new();
    let mut fed = Vec::with_capacity(rows.len());
    for (row_id, topic, seq, message) in rows {
        let Some(entry) = message.into_entry() else {
            continue;
        };
        if !names.contains_key(&topic) {
            names.insert(topic.clone(), Names::of(connection, &topic)?);
        }
        let id = names[&topic].id(seq);
        fed.push(FedRow {
            row_id,
            topic,
            id,
            entry,
        });
    }
    Ok(fed)
}
