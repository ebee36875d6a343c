//! [`Retention`]: deletes the messages that are too old, and the oldest where there are too many.
//!
//! What to delete is found on the connections for reading, so that the writer never waits for it, and
//! the writer deletes it between two batches, a few rows at a time. Each run costs two or three looks
//! into the index of (topic, seq) for each topic with messages, and more only where something has
//! changed. Only what is committed is found, so no row on its way is ever missed.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use chrono::NaiveDateTime;
use diesel::prelude::*;
use tokio::task::JoinHandle;

use super::DbWriterHandle;
use super::backend::{Connection, on_each_backend};
use super::message::{self, to_timestamp};
use super::readable::{Readable, has_place};
use super::remove::{MAX_ROWS, Removal, Rows};
use super::schema::messages;
use crate::metrics::metrics;
use crate::pubsub::{PubSub, topic_matches};

/// The wait between two runs.
const PERIOD: Duration = Duration::from_secs(60);
/// Topics that are looked at with one connection.
const TOPICS: usize = 500;
/// A topic that was counted is counted again when it may have this part of its number more: counting
/// walks over all of them, so the work stays in proportion to what is published.
const SLACK: i64 = 20;
/// After so many runs every topic is counted anew, whatever is known of it: others may write to the
/// database as well.
const RUNS_OF_A_COUNT: u64 = 60;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// How long the messages of some topics are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetentionRule {
    /// Which topics, as in a route: `"random:*"`, or one topic.
    pub topics: String,
    /// How old a message may become; `None`: as old as it likes.
    pub max_age: Option<Duration>,
    /// How many messages a topic keeps, the newest; `None`: any number. It may have a twentieth more
    /// before it is cut down to them. Updates and deletions do not count, and leave with the messages
    /// beside them.
    pub max_messages: Option<u32>,
}

/// The background job of a server that forgets messages.
///
/// A message that is deleted is gone for resumes as well: a client that has seen nothing since gets
/// the ordinary history. Its client_ref is free again: a retry of a deleted message is a new message,
/// unless the topic's log still knows the ref (10 minutes).
pub struct Retention {
    writer: DbWriterHandle,
    pubsub: PubSub,
    rules: Vec<RetentionRule>,
    period: Duration,
    /// What is known of the topics whose messages are counted.
    counts: HashMap<String, Count>,
    runs: u64,
}

named_debug!(Retention, rules, period);

/// A running [`Retention`]. It ends when this is dropped.
#[must_use = "retention ends when its task is dropped"]
#[derive(Debug)]
pub struct RetentionTask(JoinHandle<()>);

/// How many messages a topic had, at least, when it had this head. Every message since has a seq of
/// its own, so the heads tell how many it has now, at most.
#[derive(Clone, Copy, Debug)]
struct Count {
    head: i64,
    messages: i64,
}

/// A topic, and its oldest row.
struct Oldest {
    topic: String,
    inserted_at: NaiveDateTime,
}

/// What is to be deleted of a topic.
#[derive(Debug)]
struct Surplus {
    topic: String,
    /// Rows from before this time.
    before: Option<NaiveDateTime>,
    /// Rows up to this seq.
    through: i64,
}

impl Retention {
    /// Forgets messages of this `pubsub` and of the database behind its logs. A topic belongs to the
    /// first rule that matches it; without any its messages stay.
    pub fn new(writer: &DbWriterHandle, pubsub: &PubSub, rules: Vec<RetentionRule>) -> Self {
        Self {
            writer: writer.clone(),
            pubsub: pubsub.clone(),
            rules,
            period: PERIOD,
            counts: HashMap::new(),
            runs: 0,
        }
    }

    /// The wait between two runs. Default one minute.
    pub fn every(mut self, period: Duration) -> Self {
        self.period = period;
        self
    }

    /// Begins at once, on the current thread's runtime, and goes on until the task is dropped.
    pub fn start(mut self) -> RetentionTask {
        RetentionTask(actix_rt::spawn(async move {
            loop {
                match self.run().await {
                    Ok(0) => {}
                    Ok(rows) => tracing::info!(rows, "store.retention.pruned"),
                    Err(error) => tracing::warn!(%error, "store.retention.failed"),
                }
                tokio::time::sleep(self.period).await;
            }
        }))
    }

    /// One round over all topics; how many rows it has deleted.
    async fn run(&mut self) -> Result<u64, Error> {
        if self.runs.is_multiple_of(RUNS_OF_A_COUNT) {
            self.counts.clear();
        }
        self.runs += 1;
        let (mut pruned, mut last) = (0, Some(String::new()));
        while let Some(after) = last {
            let (rules, counts) = (self.rules.clone(), std::mem::take(&mut self.counts));
            let readers = self.writer.readers().clone();
            let read = readers.read(move |connection| {
                let mut look = Look {
                    rules: &rules,
                    counts,
                    now: SystemTime::now(),
                };
                let (surplus, last) = look.at_topics(connection, after)?;
                Ok((surplus, last, look.counts))
            });
            let surplus;
            (surplus, last, self.counts) = read.await?;
            for surplus in surplus {
                pruned += self.prune(surplus).await?;
            }
        }
        Ok(pruned)
    }

    /// Deletes what is too much of one topic, a transaction's worth at a time.
    async fn prune(&self, surplus: Surplus) -> Result<u64, Error> {
        let Surplus {
            topic,
            before,
            through,
        } = surplus;
        let mut pruned = 0;
        loop {
            let name = topic.clone();
            let readers = self.writer.readers().clone();
            let next =
                readers.read(move |connection| next_rows(connection, &name, before, through));
            let Some(last) = next.await? else {
                return Ok(pruned);
            };
            // First, so that a resume that is under way notices.
            self.pubsub.pruned(&topic, last);
            let removal = Removal {
                topic: topic.clone(),
                rows: Rows::Through(last),
                pruned_through: last,
            };
            let rows = self.writer.remove(removal).await? as u64;
            metrics().rows_pruned.increment(rows);
            pruned += rows;
        }
    }
}

impl Drop for RetentionTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// One look at topics.
struct Look<'a> {
    rules: &'a [RetentionRule],
    counts: HashMap<String, Count>,
    now: SystemTime,
}

impl Look<'_> {
    /// What is too much of the topics behind this one, and where to go on.
    fn at_topics(
        &mut self,
        connection: &mut Connection<'_>,
        after: String,
    ) -> QueryResult<(Vec<Surplus>, Option<String>)> {
        let (mut surplus, mut last) = (Vec::new(), after);
        for _ in 0..TOPICS {
            let Some(oldest) = next_topic(connection, &last)? else {
                return Ok((surplus, None));
            };
            last.clone_from(&oldest.topic);
            let mut rules = self.rules.iter();
            if let Some(rule) = rules.find(|rule| topic_matches(&rule.topics, &oldest.topic)) {
                surplus.extend(self.at_topic(connection, rule, oldest)?);
            }
        }
        Ok((surplus, Some(last)))
    }

    fn at_topic(
        &mut self,
        connection: &mut Connection<'_>,
        rule: &RetentionRule,
        oldest: Oldest,
    ) -> QueryResult<Option<Surplus>> {
        let before = rule.max_age.and_then(|age| self.now.checked_sub(age));
        let before = before.map(to_timestamp);
        let through = match rule.max_messages {
            Some(max) => self.too_many(connection, &oldest.topic, max.into())?,
            None => None,
        };
        let too_old = before.is_some_and(|before| oldest.inserted_at < before);
        Ok((too_old || through.is_some()).then_some(Surplus {
            topic: oldest.topic,
            before,
            through: through.unwrap_or_default(),
        }))
    }

    /// The newest message of those that are more than `max`.
    fn too_many(
        &mut self,
        connection: &mut Connection<'_>,
        topic: &str,
        max: i64,
    ) -> QueryResult<Option<i64>> {
        let head = message::head(connection, topic)?;
        let at_most = self.counts.get(topic).map_or(i64::MAX, |count| {
            count.messages.saturating_add(head - count.head)
        });
        if at_most <= max + max / SLACK {
            return Ok(None);
        }
        let of_topic = messages::table
            .filter(messages::topic.eq(topic))
            .filter(messages::target.is_null())
            .filter(has_place());
        let newest = of_topic
            .clone()
            .order(messages::seq.desc())
            .offset(max)
            .limit(1)
            .select(messages::seq);
        let surplus: Option<i64> =
            on_each_backend!(connection, |typed| newest.first(typed).optional())?;
        let messages = match surplus {
            Some(_) => max,
            None => on_each_backend!(connection, |typed| of_topic.count().get_result(typed))?,
        };
        self.counts
            .insert(topic.to_owned(), Count { head, messages });
        Ok(surplus)
    }
}

/// The topic with messages that comes after this one: one look into the index.
fn next_topic(connection: &mut Connection<'_>, after: &str) -> QueryResult<Option<Oldest>> {
    let next = messages::table
        .filter(messages::topic.gt(after))
        .order((messages::topic, messages::seq))
        .select((messages::topic, messages::inserted_at));
    let next: Option<(String, Readable<NaiveDateTime>)> =
        on_each_backend!(connection, |typed| next.first(typed).optional())?;
    Ok(next.map(|(topic, inserted_at)| Oldest {
        topic,
        // Behind a time that cannot be read may be any.
        inserted_at: inserted_at.0.unwrap_or(NaiveDateTime::MIN),
    }))
}

/// The last of the oldest rows that are too old or too many, as many as one transaction deletes.
/// Rows stand in the order of their seq, which is that of time; one whose time cannot be read goes with
/// the next that is too old.
fn next_rows(
    connection: &mut Connection<'_>,
    topic: &str,
    before: Option<NaiveDateTime>,
    through: i64,
) -> QueryResult<Option<i64>> {
    let oldest = messages::table
        .filter(messages::topic.eq(topic))
        .filter(has_place())
        .order(messages::seq)
        .limit(MAX_ROWS as i64)
        .select((messages::seq, messages::inserted_at));
    let oldest: Vec<(i64, Readable<NaiveDateTime>)> =
        on_each_backend!(connection, |typed| oldest.load(typed))?;
    let surplus = oldest.into_iter().take_while(|(seq, inserted_at)| {
        let too_old = |before| inserted_at.0.is_none_or(|inserted_at| inserted_at < before);
        *seq <= through || before.is_some_and(too_old)
    });
    let certain = surplus.filter(|(seq, inserted_at)| *seq <= through || inserted_at.0.is_some());
    Ok(certain.last().map(|(seq, _)| seq))
}
