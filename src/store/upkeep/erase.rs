//! [`Eraser`]: deletes all messages of a topic, or all messages with a name.
//!
//! Rows are deleted newest first. So an update is deleted before its message, whose column `name` has the author. The
//! connections for reading find the rows; the writer deletes a few at a time.

use std::collections::VecDeque;
use std::time::Duration;

use diesel::dsl::exists;
use diesel::prelude::*;
use tokio::time::timeout;

use crate::log::Seq;
use crate::metrics::Query;
use crate::pubsub::{Erasure, PubSub};
use crate::store::backend::error::AnyError;
use crate::store::backend::{DbConnection, Fault, StoreError, on_each_backend};
use crate::store::opened::Store;
use crate::store::schema::{messages, topics};
use crate::store::tables::message;
use crate::store::tables::remove::{self, MAX_ROWS, Removal, RemovedRows};
use crate::store::write::DbWriterHandle;

/// The longest wait for the commit of pending rows.
const PATIENCE: Duration = Duration::from_secs(10);
/// Rows of one search.
const SEARCH_ROWS: usize = 20 * MAX_ROWS;
/// Members get a `message_deleted` for at most this many messages of a topic, the newest.
const TOLD: usize = 1_000;

/// What to erase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// All messages of a topic.
    Topic(String),
    /// The messages with this column `name`, and their updates.
    Name {
        /// The author.
        name: String,
        /// The topic; `None`: all topics.
        topic: Option<String>,
    },
}

/// The erasure is incomplete. Erased messages stay erased; try again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EraseError {
    /// Messages that were published before are not committed yet.
    #[error("the database has not taken the messages that wait for it within {} seconds", PATIENCE.as_secs())]
    Unsettled,
    /// The database cannot be read or written.
    #[error("the database cannot erase at present: {0}")]
    Store(#[source] AnyError),
}

/// Erases in the database of a running server, in its memory, and on the pages of its clients. Cloning is cheap.
#[derive(Clone)]
pub struct Eraser {
    writer: DbWriterHandle,
    pubsub: PubSub,
}

named_debug!(Eraser);

/// The seq and the target of a row to delete.
type RowKey = (Seq, Option<Seq>);

impl Eraser {
    /// For this `pubsub` and the database of its logs.
    pub fn new(writer: &DbWriterHandle, pubsub: &PubSub) -> Self {
        Self {
            writer: writer.clone(),
            pubsub: pubsub.clone(),
        }
    }

    /// Erases messages that were published before this call. Returns their number. Afterwards no history and no
    /// resume has any of them. Returning clients get the history again. Connected members get a `message_deleted` for
    /// each of the newest 1,000 messages of a topic.
    ///
    /// # Errors
    /// If the database does not commit the pending rows, or cannot be used.
    pub async fn erase(&self, target: &Target) -> Result<u64, EraseError> {
        let settled = timeout(PATIENCE, self.pubsub.settled()).await;
        settled.map_err(|_| EraseError::Unsettled)?;
        let asked = target.clone();
        let topics = self.read(move |connection| topics_of(connection, &asked));
        let mut erased = 0;
        for topic in topics.await? {
            erased += self.erase_in(&topic, target.name()).await?;
        }
        Ok(erased)
    }

    async fn erase_in(&self, topic: &str, name: Option<&str>) -> Result<u64, EraseError> {
        let erasure = self.pubsub.begin_erasure(topic).await;
        let erasure = erasure.map_err(|error| EraseError::Store(error.into()))?;
        if let Some(erasure) = &erasure {
            let settled = timeout(PATIENCE, erasure.settled()).await;
            settled.map_err(|_| EraseError::Unsettled)?;
        }
        let mut gone = ErasedMessages::default();
        let done = self.delete(topic, name, erasure.as_ref(), &mut gone).await;
        if let Some(erasure) = erasure {
            // Also for messages that were deleted before a failure.
            gone.newest.iter().rev().for_each(|&seq| erasure.tell(seq));
        }
        done.map(|()| gone.messages)
    }

    async fn delete(
        &self,
        topic: &str,
        name: Option<&str>,
        erasure: Option<&Erasure>,
        gone: &mut ErasedMessages,
    ) -> Result<(), EraseError> {
        let through = match erasure {
            Some(erasure) => erasure.through(),
            None => {
                let of = topic.to_owned();
                self.read(move |connection| free_seq(connection, &of))
                    .await?
            }
        };
        let mut before = through;
        loop {
            let (of, by) = (topic.to_owned(), name.map(str::to_owned));
            let rows = self.read(move |connection| rows_of(connection, &of, by.as_deref(), before));
            let rows = rows.await?;
            let Some(&(last, _)) = rows.last() else {
                return Ok(());
            };
            before = last;
            for rows in rows.chunks(MAX_ROWS) {
                let seqs: Vec<Seq> = rows.iter().map(|(seq, _)| *seq).collect();
                let removal = removal(topic, seqs.clone(), through);
                let removed = self.writer.remove(removal).await;
                removed.map_err(EraseError::Store)?;
                if let Some(erasure) = erasure {
                    erasure.deleted(&seqs);
                }
                gone.note(rows);
            }
        }
    }

    async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&mut DbConnection<'_>) -> QueryResult<T> + Send + 'static,
    ) -> Result<T, EraseError> {
        let readers = self.writer.readers().clone();
        readers
            .read(Query::Other, query)
            .await
            .map_err(EraseError::Store)
    }
}

impl Store {
    /// Erases in the database only, without a running server. Returns the number of messages. Clients whose last
    /// message is older get the history instead of a resume.
    ///
    /// # Errors
    /// If a statement fails. Erased messages stay erased.
    pub fn erase(&self, target: &Target) -> Result<u64, StoreError> {
        Ok(self.erase_rows(target)?)
    }

    fn erase_rows(&self, target: &Target) -> Result<u64, Fault> {
        let mut writer = self.lone_writer()?;
        let mut gone = ErasedMessages::default();
        for topic in topics_of(&mut writer.connection(), target)? {
            let through = free_seq(&mut writer.connection(), &topic)?;
            let mut before = through;
            loop {
                let rows = rows_of(&mut writer.connection(), &topic, target.name(), before)?;
                let Some(&(last, _)) = rows.last() else {
                    break;
                };
                before = last;
                for rows in rows.chunks(MAX_ROWS) {
                    let seqs = rows.iter().map(|(seq, _)| *seq).collect();
                    let removal = removal(&topic, seqs, through);
                    writer.commit(|connection| remove::remove(connection, &removal))?;
                    gone.note(rows);
                }
            }
        }
        Ok(gone.messages)
    }

    /// The number of messages that [`Store::erase`] would erase.
    ///
    /// # Errors
    /// If a statement fails.
    pub fn count_erasable(&self, target: &Target) -> Result<u64, StoreError> {
        Ok(self.count_rows(target)?)
    }

    fn count_rows(&self, target: &Target) -> Result<u64, Fault> {
        let mut pooled = self.readers.get()?;
        let connection = &mut pooled.connection();
        let mut count = 0;
        for topic in topics_of(connection, target)? {
            let mut before = Seq::MAX;
            loop {
                let rows = rows_of(connection, &topic, target.name(), before)?;
                let Some(&(last, _)) = rows.last() else {
                    break;
                };
                before = last;
                count += messages_in(&rows);
            }
        }
        Ok(count)
    }
}

impl Target {
    fn name(&self) -> Option<&str> {
        match self {
            Self::Topic(_) => None,
            Self::Name { name, .. } => Some(name),
        }
    }
}

/// The deleted messages of one topic.
#[derive(Default)]
struct ErasedMessages {
    messages: u64,
    /// The seqs of the newest messages, newest first.
    newest: VecDeque<Seq>,
}

impl ErasedMessages {
    fn note(&mut self, rows: &[RowKey]) {
        self.messages += messages_in(rows);
        let room = TOLD - self.newest.len();
        let newest = rows.iter().filter(|(_, target)| target.is_none());
        self.newest.extend(newest.take(room).map(|(seq, _)| *seq));
    }
}

fn messages_in(rows: &[RowKey]) -> u64 {
    rows.iter().filter(|(_, target)| target.is_none()).count() as u64
}

fn removal(topic: &str, seqs: Vec<Seq>, through: Seq) -> Removal {
    Removal {
        topic: topic.to_owned(),
        rows: RemovedRows::These(seqs),
        pruned_through: through,
    }
}

/// The topics with something to erase.
fn topics_of(connection: &mut DbConnection<'_>, target: &Target) -> QueryResult<Vec<String>> {
    match target {
        Target::Topic(topic)
        | Target::Name {
            topic: Some(topic), ..
        } => {
            let any = !rows_at_most(connection, topic, target.name(), Seq::MAX, 1)?.is_empty();
            Ok(any.then(|| topic.clone()).into_iter().collect())
        }
        Target::Name { name, topic: None } => {
            let topics = messages::table
                .filter(messages::name.eq(name))
                .select(messages::topic)
                .distinct();
            on_each_backend!(connection, |typed| topics.load(typed))
        }
    }
}

/// A seq beyond all that the topic has given.
fn free_seq(connection: &mut DbConnection<'_>, topic: &str) -> QueryResult<Seq> {
    let given = topics::table.find(topic).select(topics::last_seq);
    let given: Option<Seq> = on_each_backend!(connection, |typed| given.first(typed).optional())?;
    let head = message::head(connection, topic)?;
    Ok(given.unwrap_or_default().max(head).next())
}

/// The rows to delete before this seq, newest first: at most [`SEARCH_ROWS`].
fn rows_of(
    connection: &mut DbConnection<'_>,
    topic: &str,
    name: Option<&str>,
    before: Seq,
) -> QueryResult<Vec<RowKey>> {
    rows_at_most(connection, topic, name, before, SEARCH_ROWS)
}

diesel::alias!(messages as written: Written);

fn rows_at_most(
    connection: &mut DbConnection<'_>,
    topic: &str,
    name: Option<&str>,
    before: Seq,
    limit: usize,
) -> QueryResult<Vec<RowKey>> {
    let rows = messages::table
        .filter(messages::topic.eq(topic))
        .filter(messages::seq.lt(before))
        .order(messages::seq.desc())
        .limit(limit as i64)
        .select((messages::seq, messages::target));
    let Some(name) = name else {
        return on_each_backend!(connection, |typed| rows.load(typed));
    };
    // Also the updates by other names to messages of this name.
    let changed = written
        .filter(written.field(messages::topic).eq(topic))
        .filter(written.field(messages::seq).nullable().eq(messages::target))
        .filter(written.field(messages::name).eq(name));
    let of_name = messages::name.eq(name).or(exists(changed));
    on_each_backend!(connection, |typed| rows.filter(of_name).load(typed))
}
