//! [`Eraser`]: deletes everything of a topic, or everything that a name has written.
//!
//! Rows go newest first, so that an update goes before the message that tells whose it is. What is
//! to go is found on the connections for reading; the writer deletes it a few rows at a time.

use std::collections::VecDeque;
use std::time::Duration;

use diesel::dsl::exists;
use diesel::prelude::*;
use tokio::time::timeout;

use super::backend::{Connection, on_each_backend};
use super::remove::{self, MAX_ROWS, Removal, Rows};
use super::schema::{messages, topics};
use super::{DbWriterHandle, Store, StoreError, message};
use crate::pubsub::{Erasure, PubSub};

/// How long the rows that wait for the database may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Rows that are looked for at once.
const LOOK: usize = 20 * MAX_ROWS;
/// Messages of a topic of whose end its members are told, the newest.
const TOLD: usize = 1_000;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// What to erase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// All messages of a topic.
    Topic(String),
    /// The messages whose column `name` is this, with all that was made of them: in one topic, or
    /// in all.
    Name {
        /// Who wrote them.
        name: String,
        /// Where; `None`: everywhere.
        topic: Option<String>,
    },
}

/// Nothing, or not everything, was erased. What has been erased stays so; try again.
#[derive(Debug, thiserror::Error)]
pub enum EraseError {
    /// Messages that were published before are still on their way to the database.
    #[error("the database has not taken the messages that wait for it within 10 seconds")]
    Unsettled,
    /// The database cannot be read or written.
    #[error("the database cannot erase at present: {0}")]
    Store(#[source] Error),
}

/// Erases in the database of a running server, in its memory, and on the pages of its clients.
/// Cloning is cheap.
#[derive(Clone)]
pub struct Eraser {
    writer: DbWriterHandle,
    pubsub: PubSub,
}

named_debug!(Eraser);

/// A row that is to go.
type Row = (i64, Option<i64>);

impl Eraser {
    /// For this `pubsub`, and the database behind its logs.
    pub fn new(writer: &DbWriterHandle, pubsub: &PubSub) -> Self {
        Self {
            writer: writer.clone(),
            pubsub: pubsub.clone(),
        }
    }

    /// Erases what was published before; how many messages there were. Afterwards no history and no
    /// resume gives any of them: clients that were away get their topic's history anew, and those
    /// that are there are sent a `message_deleted` for each of the newest 1,000 of a topic.
    ///
    /// # Errors
    /// When the database does not take what waits for it, or cannot be used.
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
        let mut gone = Gone::default();
        let done = self.delete(topic, name, erasure.as_ref(), &mut gone).await;
        if let Some(erasure) = erasure {
            // Also of those that are gone when the rest could not be deleted.
            gone.newest.iter().rev().for_each(|&seq| erasure.tell(seq));
        }
        done.map(|()| gone.messages)
    }

    async fn delete(
        &self,
        topic: &str,
        name: Option<&str>,
        erasure: Option<&Erasure>,
        gone: &mut Gone,
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
                let seqs: Vec<i64> = rows.iter().map(|(seq, _)| *seq).collect();
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
        query: impl FnOnce(&mut Connection<'_>) -> QueryResult<T> + Send + 'static,
    ) -> Result<T, EraseError> {
        let readers = self.writer.readers().clone();
        readers.read(query).await.map_err(EraseError::Store)
    }
}

impl Store {
    /// Erases in the database alone, where no server runs; how many messages there were. Who resumes
    /// later from before gets the history.
    ///
    /// # Errors
    /// When a statement fails; what has been erased stays so.
    pub fn erase(&self, target: &Target) -> Result<u64, StoreError> {
        let mut writer = self.lone_writer()?;
        let mut gone = Gone::default();
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

    /// How many messages [`Store::erase`] would erase.
    ///
    /// # Errors
    /// When a statement fails.
    pub fn count_erasable(&self, target: &Target) -> Result<u64, StoreError> {
        let mut pooled = self.readers.get()?;
        let connection = &mut pooled.connection();
        let mut count = 0;
        for topic in topics_of(connection, target)? {
            let mut before = i64::MAX;
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

/// What is gone of a topic.
#[derive(Default)]
struct Gone {
    messages: u64,
    /// The seqs of the newest of them, newest first.
    newest: VecDeque<i64>,
}

impl Gone {
    fn note(&mut self, rows: &[Row]) {
        self.messages += messages_in(rows);
        let room = TOLD - self.newest.len();
        let newest = rows.iter().filter(|(_, target)| target.is_none());
        self.newest.extend(newest.take(room).map(|(seq, _)| *seq));
    }
}

fn messages_in(rows: &[Row]) -> u64 {
    rows.iter().filter(|(_, target)| target.is_none()).count() as u64
}

fn removal(topic: &str, seqs: Vec<i64>, through: i64) -> Removal {
    Removal {
        topic: topic.to_owned(),
        rows: Rows::These(seqs),
        pruned_through: through,
    }
}

/// The topics that have something to erase.
fn topics_of(connection: &mut Connection<'_>, target: &Target) -> QueryResult<Vec<String>> {
    match target {
        Target::Topic(topic)
        | Target::Name {
            topic: Some(topic), ..
        } => {
            let any = !rows_at_most(connection, topic, target.name(), i64::MAX, 1)?.is_empty();
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

/// A seq of the topic that is higher than any that was given.
fn free_seq(connection: &mut Connection<'_>, topic: &str) -> QueryResult<i64> {
    let given = topics::table.find(topic).select(topics::last_seq);
    let given: Option<i64> = on_each_backend!(connection, |typed| given.first(typed).optional())?;
    let head = message::head(connection, topic)?;
    Ok(given.unwrap_or(0).max(head) + 1)
}

/// The rows to erase before this seq, newest first, as many as are looked for at once.
fn rows_of(
    connection: &mut Connection<'_>,
    topic: &str,
    name: Option<&str>,
    before: i64,
) -> QueryResult<Vec<Row>> {
    rows_at_most(connection, topic, name, before, LOOK)
}

diesel::alias!(messages as written: Written);

fn rows_at_most(
    connection: &mut Connection<'_>,
    topic: &str,
    name: Option<&str>,
    before: i64,
    limit: usize,
) -> QueryResult<Vec<Row>> {
    let rows = messages::table
        .filter(messages::topic.eq(topic))
        .filter(messages::seq.lt(before))
        .order(messages::seq.desc())
        .limit(limit as i64)
        .select((messages::seq, messages::target));
    let Some(name) = name else {
        return on_each_backend!(connection, |typed| rows.load(typed));
    };
    // What others have made of the messages of this name goes, too.
    let changed = written
        .filter(written.field(messages::topic).eq(topic))
        .filter(written.field(messages::seq).nullable().eq(messages::target))
        .filter(written.field(messages::name).eq(name));
    let of_name = messages::name.eq(name).or(exists(changed));
    on_each_backend!(connection, |typed| rows.filter(of_name).load(typed))
}
