//! [`Retention`]: deletes messages that are too old, and the oldest if there are too many.
//!
//! The connections for reading find the rows, so that the writer does not wait. The writer deletes a few rows between
//! two batches. Each run costs two or three lookups in the index of (topic, seq) for each topic with messages, and
//! more only if something has changed. It deletes committed rows only.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use chrono::NaiveDateTime;
use diesel::prelude::*;
use tokio::task::JoinHandle;

use crate::log::Seq;
use crate::metrics::{Query, metrics};
use crate::pattern::{ForTopics, TopicPattern, first_match};
use crate::pubsub::PubSub;
use crate::store::backend::error::AnyError;
use crate::store::backend::{DbConnection, on_each_backend};
use crate::store::schema::messages;
use crate::store::tables::message;
use crate::store::tables::readable::{Readable, has_place};
use crate::store::tables::remove::{MAX_ROWS, Removal, RemovedRows};
use crate::store::tables::row::to_timestamp;
use crate::store::write::DbWriterHandle;

/// The wait between two runs.
const PERIOD: Duration = Duration::from_secs(60);
/// The most topics in one read.
const TOPICS: usize = 500;
/// A topic is counted again once it may have grown by the 20th part. A count reads all its rows, so the work stays in
/// proportion to the published messages.
const SLACK: i64 = 20;
/// After this many runs every topic is counted again, because other applications may write to the database.
const RUNS_OF_A_COUNT: u64 = 60;

/// How long messages are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetentionRule {
    /// The topics.
    pub topics: TopicPattern,
    /// The greatest age of a message; `None`: no limit.
    pub max_age: Option<Duration>,
    /// The number of messages that a topic keeps, the newest; `None`: no limit. A topic may have a twentieth more
    /// before it is pruned. Updates and deletions do not count, and are deleted with the messages around them.
    pub max_messages: Option<u32>,
}

impl RetentionRule {
    /// A rule for these topics that deletes nothing.
    pub fn new(topics: TopicPattern) -> Self {
        Self {
            topics,
            max_age: None,
            max_messages: None,
        }
    }
}

setters!(RetentionRule {
} some {
    max_age: Duration,
    max_messages: u32,
});

/// The rules of a [`Retention`], which can change while it runs. Clones share them.
#[derive(Clone, Debug)]
pub struct RetentionRules(Arc<RwLock<Arc<[RetentionRule]>>>);

impl RetentionRules {
    fn new(rules: Vec<RetentionRule>) -> Self {
        Self(Arc::new(RwLock::new(rules.into())))
    }

    /// The next run goes by these rules.
    pub fn set(&self, rules: Vec<RetentionRule>) {
        // No code panics while it holds this lock.
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = rules.into();
    }

    fn get(&self) -> Arc<[RetentionRule]> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The background job that deletes old messages.
///
/// If a client's last message is older than a deleted one, the client gets the history instead of a resume. The
/// client_ref of a deleted message is free again: a retry is a new message, unless the topic's log still has the ref,
/// for 10 minutes.
pub struct Retention {
    writer: DbWriterHandle,
    pubsub: PubSub,
    rules: RetentionRules,
    /// The rules of the last run.
    last: Arc<[RetentionRule]>,
    period: Duration,
    /// The counts of the topics with a maximum.
    counts: HashMap<String, Count>,
    runs: u64,
}

named_debug!(Retention, rules, period);

/// A running [`Retention`]. Dropping it ends the job.
#[must_use = "retention ends when its task is dropped"]
#[derive(Debug)]
pub struct RetentionTask(JoinHandle<()>);

/// The number of a topic's messages at this head, or the rule's maximum if there are more. Each later message raises
/// the head by at least one, so the heads give an upper bound for the number now.
#[derive(Clone, Copy, Debug)]
struct Count {
    head: Seq,
    messages: i64,
}

/// A topic and its oldest row.
struct Oldest {
    topic: String,
    inserted_at: NaiveDateTime,
}

/// Rows to delete from a topic.
#[derive(Debug)]
struct Surplus {
    topic: String,
    /// Rows from before this time.
    before: Option<NaiveDateTime>,
    /// Rows up to this seq.
    through: Seq,
}

impl Retention {
    /// Deletes messages of the database behind the logs of `pubsub`. The first rule that matches a topic applies;
    /// without one its messages stay.
    pub fn new(writer: &DbWriterHandle, pubsub: &PubSub, rules: Vec<RetentionRule>) -> Self {
        Self {
            writer: writer.clone(),
            pubsub: pubsub.clone(),
            rules: RetentionRules::new(rules),
            last: [].into(),
            period: PERIOD,
            counts: HashMap::new(),
            runs: 0,
        }
    }

    /// The rules, to change them while the job runs.
    pub fn rules(&self) -> RetentionRules {
        self.rules.clone()
    }

    /// The wait between two runs. Default one minute.
    pub fn every(mut self, period: Duration) -> Self {
        self.period = period;
        self
    }

    /// Starts at once, on the current thread's runtime, and runs until the task is dropped.
    pub fn start(mut self) -> RetentionTask {
        RetentionTask(actix_rt::spawn(async move {
            loop {
                let period = u32::try_from(self.period.as_secs()).unwrap_or(u32::MAX);
                let forgets = self.rules.get().iter().any(RetentionRule::forgets);
                let is_due = forgets && self.pubsub.claims("retention", period.max(1)).await;
                match if is_due { self.run().await } else { Ok(0) } {
                    Ok(0) => {}
                    Ok(rows) => tracing::info!(rows, "store.retention.pruned"),
                    Err(error) => tracing::warn!(
                        %error,
                        "store.retention.failed: old messages stay until the next round; see that \
                         the database answers"
                    ),
                }
                tokio::time::sleep(self.period).await;
            }
        }))
    }

    /// One run over all topics. Returns the number of deleted rows.
    async fn run(&mut self) -> Result<u64, AnyError> {
        let rules = self.rules.get();
        if self.runs.is_multiple_of(RUNS_OF_A_COUNT) || rules != self.last {
            self.counts.clear();
        }
        self.last = Arc::clone(&rules);
        self.runs += 1;
        let (mut pruned, mut last) = (0, Some(String::new()));
        while let Some(after) = last {
            let (rules, counts) = (Arc::clone(&rules), std::mem::take(&mut self.counts));
            let readers = self.writer.readers().clone();
            let read = readers.read(Query::Retention, move |connection| {
                let mut scan = RetentionScan {
                    rules: &rules,
                    counts,
                    now: SystemTime::now(),
                };
                let (surplus, last) = scan.at_topics(connection, after)?;
                Ok((surplus, last, scan.counts))
            });
            let surplus;
            (surplus, last, self.counts) = read.await?;
            for surplus in surplus {
                pruned += self.prune(surplus).await?;
            }
        }
        Ok(pruned)
    }

    /// Deletes the surplus of one topic, in several transactions.
    async fn prune(&self, surplus: Surplus) -> Result<u64, AnyError> {
        let Surplus {
            topic,
            before,
            through,
        } = surplus;
        let mut pruned = 0;
        loop {
            let name = topic.clone();
            let readers = self.writer.readers().clone();
            let next = readers.read(Query::Retention, move |connection| {
                next_rows(connection, &name, before, through)
            });
            let Some(last) = next.await? else {
                return Ok(pruned);
            };
            // Before the deletion, so that a running resume can detect the gap.
            self.pubsub.pruned(&topic, last);
            let removal = Removal {
                topic: topic.clone(),
                rows: RemovedRows::Through(last),
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

/// One read of topics.
struct RetentionScan<'a> {
    rules: &'a [RetentionRule],
    counts: HashMap<String, Count>,
    now: SystemTime,
}

impl RetentionRule {
    /// Whether it deletes anything.
    fn forgets(&self) -> bool {
        self.max_age.is_some() || self.max_messages.is_some()
    }
}

impl ForTopics for RetentionRule {
    fn pattern(&self) -> &TopicPattern {
        &self.topics
    }
}

impl RetentionScan<'_> {
    /// The surplus of the topics after this one, and the last topic; `None` if there are no more.
    fn at_topics(
        &mut self,
        connection: &mut DbConnection<'_>,
        after: String,
    ) -> QueryResult<(Vec<Surplus>, Option<String>)> {
        let (mut surplus, mut last) = (Vec::new(), after);
        for _ in 0..TOPICS {
            let Some(oldest) = next_topic(connection, &last)? else {
                return Ok((surplus, None));
            };
            last.clone_from(&oldest.topic);
            if let Some(rule) = first_match(self.rules, &oldest.topic) {
                surplus.extend(self.at_topic(connection, rule, oldest)?);
            }
        }
        Ok((surplus, Some(last)))
    }

    fn at_topic(
        &mut self,
        connection: &mut DbConnection<'_>,
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

    /// The newest of the messages beyond the newest `max`.
    fn too_many(
        &mut self,
        connection: &mut DbConnection<'_>,
        topic: &str,
        max: i64,
    ) -> QueryResult<Option<Seq>> {
        let head = message::head(connection, topic)?;
        let at_most = self.counts.get(topic).map_or(i64::MAX, |count| {
            let since = head.distance_from(count.head);
            count
                .messages
                .saturating_add(i64::try_from(since).unwrap_or(i64::MAX))
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
        let surplus: Option<Seq> =
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

/// The next topic with messages: one lookup in the index.
fn next_topic(connection: &mut DbConnection<'_>, after: &str) -> QueryResult<Option<Oldest>> {
    let next = messages::table
        .filter(messages::topic.gt(after))
        .order((messages::topic, messages::seq))
        .select((messages::topic, messages::inserted_at));
    let next: Option<(String, Readable<NaiveDateTime>)> =
        on_each_backend!(connection, |typed| next.first(typed).optional())?;
    Ok(next.map(|(topic, inserted_at)| Oldest {
        topic,
        // An unreadable time may hide an old row.
        inserted_at: inserted_at.0.unwrap_or(NaiveDateTime::MIN),
    }))
}

/// The last of the oldest rows that are too old or too many, as many as one transaction deletes. Times have the order
/// of seqs; a row with an unreadable time is deleted with the next row that is too old.
fn next_rows(
    connection: &mut DbConnection<'_>,
    topic: &str,
    before: Option<NaiveDateTime>,
    through: Seq,
) -> QueryResult<Option<Seq>> {
    let oldest = messages::table
        .filter(messages::topic.eq(topic))
        .filter(has_place())
        .order(messages::seq)
        .limit(MAX_ROWS as i64)
        .select((messages::seq, messages::inserted_at));
    let oldest: Vec<(Seq, Readable<NaiveDateTime>)> =
        on_each_backend!(connection, |typed| oldest.load(typed))?;
    let surplus = oldest.into_iter().take_while(|(seq, inserted_at)| {
        let too_old = |before| inserted_at.0.is_none_or(|inserted_at| inserted_at < before);
        *seq <= through || before.is_some_and(too_old)
    });
    let certain = surplus.filter(|(seq, inserted_at)| *seq <= through || inserted_at.0.is_some());
    Ok(certain.last().map(|(seq, _)| seq))
}
