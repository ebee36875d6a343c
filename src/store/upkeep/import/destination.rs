//! [`Destination`]: the topic in the database that receives the lines of one topic.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

use chrono::NaiveDateTime;
use diesel::prelude::*;

use super::{ImportFault, ImportOptions, Imported};
use crate::log::{Epoch, MessageId, Seq};
use crate::store::backend::{DbConnection, on_each_backend};
use crate::store::schema::messages;
use crate::store::tables::message;
use crate::store::tables::readable::has_place;
use crate::store::tables::row::{FoundRow, OwnedRow};
use crate::store::tables::run::{self, TopicRow};
use crate::store::upkeep::lines::TopicLine;

#[derive(Clone)]
pub(super) struct Destination {
    topic: String,
    mode: DestinationMode,
    /// The topic's row before the import.
    found: Option<TopicRow>,
    /// The topic's row after the last line; `None`: unchanged.
    then: Option<TopicRow>,
    /// The topic was complete up to this seq before the import.
    head: Seq,
    /// Whether messages of the file have been stored.
    begun: bool,
}

#[derive(Clone)]
enum DestinationMode {
    /// Messages keep their seqs. If the database lacks a message up to this seq, the message has been removed.
    Same { removed_through: Seq },
    /// Messages get new seqs after the head. Those that the topic already has are left out.
    Append {
        head: Seq,
        known: Rc<HashSet<MessageKey>>,
        client_refs: Rc<HashSet<String>>,
    },
}

/// Identifies a message without its seq: event, time, and the payload's hash.
type MessageKey = (String, NaiveDateTime, u64);

impl Destination {
    /// Compares the topic of the file, which `line` describes, with the topic in the database.
    pub(super) fn find(
        connection: &mut DbConnection<'_>,
        options: ImportOptions,
        topic: &str,
        line: Option<&TopicLine>,
    ) -> Result<Self, ImportFault> {
        let found = run::find(connection, topic)?;
        let stored = message::head(connection, topic)?;
        let head = match &found {
            // The head before an import that did not finish.
            Some(run) if run.importing => run.last_seq,
            Some(run) => run.last_seq.max(stored),
            None => Seq::ZERO,
        };
        let destination = |mode, then| Self {
            topic: topic.to_owned(),
            mode,
            found: found.clone(),
            then,
            head,
            begun: false,
        };
        let same = DestinationMode::Same {
            removed_through: head,
        };
        let Some(line) = line else {
            return Ok(destination(same, found.clone()));
        };
        let file = TopicRow::from(line);
        match &found {
            None if stored == Seq::ZERO => return Ok(destination(same, Some(file))),
            Some(run) if run.importing && run.epoch == file.epoch => {
                return Ok(destination(same, Some(file)));
            }
            Some(run) if run.is_followed_by(&file, head) => {
                let then = TopicRow {
                    pruned_through: run.pruned_through.max(file.pruned_through),
                    clean: run.clean && file.clean,
                    ..file
                };
                return Ok(destination(same, Some(then)));
            }
            // The database has the whole file already.
            Some(run) if file.is_followed_by(run, file.last_seq) => {
                return Ok(destination(same, found.clone()));
            }
            _ if options.append => {}
            _ => return Err(ImportFault::OtherHistory(topic.to_owned())),
        }
        let mut destination = destination(same, None);
        destination.append(connection)?;
        Ok(destination)
    }

    /// From now on messages are appended, in a new run.
    fn append(&mut self, connection: &mut DbConnection<'_>) -> QueryResult<()> {
        let head = message::head(connection, &self.topic)?;
        let run = run::find(connection, &self.topic)?.unwrap_or_default();
        let head = head.max(run.last_seq);
        let (known, client_refs) = contents(connection, &self.topic)?;
        self.mode = DestinationMode::Append {
            head,
            known: Rc::new(known),
            client_refs: Rc::new(client_refs),
        };
        self.then = Some(run.followed(run::new_epoch(), head));
        self.begun = false;
        Ok(())
    }

    pub(super) fn topic(&self) -> &str {
        &self.topic
    }

    /// Whether the topic is new in the database.
    pub(super) fn is_new(&self) -> bool {
        self.found.is_none() && matches!(self.mode, DestinationMode::Same { .. })
    }

    /// Stores messages of the topic.
    pub(super) fn store(
        &mut self,
        connection: &mut DbConnection<'_>,
        options: ImportOptions,
        rows: &[&OwnedRow],
        imported: &mut Imported,
    ) -> Result<(), ImportFault> {
        let Sorted {
            new,
            removed,
            other,
        } = match &mut self.mode {
            DestinationMode::Same { removed_through } => {
                let removed_through = if options.removed {
                    Seq::ZERO
                } else {
                    *removed_through
                };
                sort(&here(connection, &self.topic, rows)?, rows, removed_through)
            }
            DestinationMode::Append {
                head,
                known,
                client_refs,
            } => Sorted {
                new: appended(rows, head, known, client_refs),
                ..Sorted::default()
            },
        };
        imported.removed += removed;
        imported.skipped += (rows.len() - new.len() - other.len()) as u64 - removed;
        let mut taken = Vec::new();
        if !new.is_empty() {
            self.begin(connection)?;
            taken = insert(connection, &new)?;
            imported.messages += (new.len() - taken.len()) as u64;
        }
        let others: Vec<&OwnedRow> = other.into_iter().chain(taken).collect();
        match others.first() {
            None => Ok(()),
            Some(_) if options.append && matches!(self.mode, DestinationMode::Same { .. }) => {
                self.append(connection)?;
                self.store(connection, options, &others, imported)
            }
            Some(row) => Err(ImportFault::OtherMessage {
                topic: row.topic.clone().into_owned(),
                seq: row.seq,
            }),
        }
    }

    /// The last line is stored.
    pub(super) fn end(self, connection: &mut DbConnection<'_>) -> QueryResult<()> {
        // Only a file with the topic's line completes a topic that was incomplete before.
        let found = self.found.as_ref();
        let changes = self.begun || found.is_none_or(|run| run.importing);
        let Some(then) = self.then.filter(|then| changes && !then.importing) else {
            return Ok(());
        };
        let run = TopicRow {
            last_seq: then.last_seq.max(message::head(connection, &self.topic)?),
            ..then
        };
        run::put(connection, &self.topic, &run)
    }

    /// The first message is stored. While the topic is incomplete, no client resumes in it. A topic with appended
    /// messages is never incomplete.
    fn begin(&mut self, connection: &mut DbConnection<'_>) -> QueryResult<()> {
        let Some(then) = self.then.as_ref().filter(|_| !self.begun) else {
            return Ok(());
        };
        self.begun = true;
        let run = match self.mode {
            DestinationMode::Append { .. } => then.clone(),
            DestinationMode::Same { .. } => TopicRow {
                last_seq: self.head,
                clean: false,
                importing: true,
                ..then.clone()
            },
        };
        run::put(connection, &self.topic, &run)
    }
}

impl From<&TopicLine> for TopicRow {
    fn from(line: &TopicLine) -> Self {
        Self {
            epoch: line.epoch,
            last_seq: line.last_seq,
            pruned_through: line.pruned_through,
            clean: line.clean,
            past: line.past.clone(),
            importing: false,
        }
    }
}

/// The messages of the file, compared with the database.
#[derive(Default)]
struct Sorted<'a> {
    /// To be stored.
    new: Vec<OwnedRow>,
    /// The number of messages that have been removed from the database.
    removed: u64,
    /// Their seqs belong to other messages in the database.
    other: Vec<&'a OwnedRow>,
}

fn sort<'a>(
    here: &HashMap<Seq, Option<OwnedRow>>,
    rows: &[&'a OwnedRow],
    removed_through: Seq,
) -> Sorted<'a> {
    let mut sorted = Sorted::default();
    for &row in rows {
        match here.get(&row.seq) {
            Some(Some(known)) if is_same(known, row) => {}
            Some(_) => sorted.other.push(row),
            None if row.seq <= removed_through => sorted.removed += 1,
            None => sorted.new.push(row.clone()),
        }
    }
    sorted
}

/// The messages of the database at the seqs of these rows; `None` for a row that cannot be read.
fn here(
    connection: &mut DbConnection<'_>,
    topic: &str,
    rows: &[&OwnedRow],
) -> QueryResult<HashMap<Seq, Option<OwnedRow>>> {
    let seqs: Vec<Seq> = rows.iter().map(|row| row.seq).collect();
    let here = messages::table
        .filter(messages::topic.eq(topic))
        .filter(messages::seq.eq_any(seqs));
    let here: Vec<FoundRow> = on_each_backend!(connection, |typed| here
        .select(FoundRow::as_select())
        .load(typed))?;
    let by_seq = |row: FoundRow| (row.seq, row.into_row());
    Ok(here.into_iter().map(by_seq).collect())
}

/// The payload is not compared: an update may have changed it.
fn is_same(known: &OwnedRow, row: &OwnedRow) -> bool {
    (&known.event, known.inserted_at, &known.client_ref)
        == (&row.event, row.inserted_at, &row.client_ref)
}

/// The messages that the topic lacks, with new seqs. Updates and deletions are left out, because the file's messages
/// have them applied already.
fn appended(
    rows: &[&OwnedRow],
    head: &mut Seq,
    known: &HashSet<MessageKey>,
    client_refs: &HashSet<String>,
) -> Vec<OwnedRow> {
    let new = rows
        .iter()
        .filter(|row| row.target.is_none() && !known.contains(&content(row)));
    new.map(|&row| {
        *head = head.next();
        let free = |client_ref: &Cow<'_, str>| !client_refs.contains(&**client_ref);
        OwnedRow {
            seq: *head,
            client_ref: row.client_ref.clone().filter(free),
            ..row.clone()
        }
    })
    .collect()
}

fn content(row: &OwnedRow) -> MessageKey {
    (
        row.event.clone().into_owned(),
        row.inserted_at,
        hash_of(&row.payload),
    )
}

fn hash_of(payload: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    payload.hash(&mut hasher);
    hasher.finish()
}

/// The messages of a topic, and its client_refs.
fn contents(
    connection: &mut DbConnection<'_>,
    topic: &str,
) -> QueryResult<(HashSet<MessageKey>, HashSet<String>)> {
    let (mut known, mut client_refs) = (HashSet::new(), HashSet::new());
    let mut after = Seq::MIN;
    loop {
        let page = messages::table
            .filter(messages::topic.eq(topic))
            .filter(messages::seq.gt(after))
            .filter(has_place())
            .order(messages::seq)
            .limit(super::BATCH as i64);
        let page: Vec<FoundRow> = on_each_backend!(connection, |typed| page
            .select(FoundRow::as_select())
            .load(typed))?;
        let Some(last) = page.last() else {
            return Ok((known, client_refs));
        };
        after = last.seq;
        for row in page.into_iter().filter_map(FoundRow::into_row) {
            known.insert(content(&row));
            client_refs.extend(row.client_ref.map(Cow::into_owned));
        }
    }
}

/// Stores rows. Returns the rows whose seq or client_ref another message has.
fn insert<'a>(
    connection: &mut DbConnection<'_>,
    rows: &'a [OwnedRow],
) -> QueryResult<Vec<&'a OwnedRow>> {
    let inserted: Vec<Seq> = on_each_backend!(connection, |typed| {
        diesel::insert_into(messages::table)
            .values(rows)
            .on_conflict_do_nothing()
            .returning(messages::seq)
            .get_results(typed)
    })?;
    let inserted: HashSet<Seq> = inserted.into_iter().collect();
    let left = rows.iter().filter(|row| !inserted.contains(&row.seq));
    Ok(left.collect())
}

/// The id of the last message of a run that ended at `head`.
fn last(run: &TopicRow, head: Seq) -> MessageId {
    MessageId::new(run.epoch, head)
}

impl TopicRow {
    /// Whether `later` is this run or a later one of the same history, given that this one has reached `head`.
    fn is_followed_by(&self, later: &Self, head: Seq) -> bool {
        if self.epoch == later.epoch {
            return head <= later.last_seq;
        }
        later.past().resumes(last(self, head))
    }

    /// The next run, if this one ends at `head`.
    fn followed(&self, epoch: Epoch, head: Seq) -> Self {
        Self {
            epoch,
            last_seq: head,
            clean: true,
            past: self.past_after(head).to_string(),
            importing: false,
            ..self.clone()
        }
    }
}
