//! [`Place`]: the topic of the database to which the lines of one topic go.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

use chrono::NaiveDateTime;
use diesel::prelude::*;

use super::{ImportOptions, ImportProblem, Imported};
use crate::pubsub::MessageId;
use crate::store::backend::{Connection, on_each_backend};
use crate::store::lines::{FoundRow, Row, TopicLine};
use crate::store::message;
use crate::store::readable::has_place;
use crate::store::run::{self, Run};
use crate::store::schema::messages;

#[derive(Clone)]
pub(super) struct Place {
    topic: String,
    mode: Mode,
    /// The topic's row as it was found.
    found: Option<Run>,
    /// Its row once the last line is in; `None`: as it is.
    then: Option<Run>,
    /// Up to here the topic was whole before this import.
    head: i64,
    /// Whether messages of the file have been stored.
    begun: bool,
}

#[derive(Clone)]
enum Mode {
    /// Messages go where they were. Those up to this seq that are not here have been removed.
    Same { removed_through: i64 },
    /// They go behind those that are here, unless they are among them.
    Append {
        head: i64,
        known: Rc<HashSet<Content>>,
        client_refs: Rc<HashSet<String>>,
    },
}

/// What a message is known by where its seq says nothing: event, time, and the payload's hash.
type Content = (String, NaiveDateTime, u64);

impl Place {
    /// Compares the topic of the file, whose own line is `line`, with what is here.
    pub(super) fn find(
        connection: &mut Connection<'_>,
        options: ImportOptions,
        topic: &str,
        line: Option<&TopicLine>,
    ) -> Result<Self, ImportProblem> {
        let found = run::find(connection, topic)?;
        let stored = message::head(connection, topic)?;
        let head = match &found {
            // Before the import that did not end.
            Some(run) if run.importing => run.last_seq,
            Some(run) => run.last_seq.max(stored),
            None => 0,
        };
        let place = |mode, then| Self {
            topic: topic.to_owned(),
            mode,
            found: found.clone(),
            then,
            head,
            begun: false,
        };
        let same = Mode::Same {
            removed_through: head,
        };
        let Some(line) = line else {
            return Ok(place(same, found.clone()));
        };
        let file = Run::from(line);
        match &found {
            None if stored == 0 => return Ok(place(same, Some(file))),
            Some(run) if run.importing && run.epoch == file.epoch => {
                return Ok(place(same, Some(file)));
            }
            Some(run) if run.is_followed_by(&file, head) => {
                let then = Run {
                    pruned_through: run.pruned_through.max(file.pruned_through),
                    clean: run.clean && file.clean,
                    ..file
                };
                return Ok(place(same, Some(then)));
            }
            // Everything of the file has been here.
            Some(run) if file.is_followed_by(run, file.last_seq) => {
                return Ok(place(same, found.clone()));
            }
            _ if options.append => {}
            _ => return Err(ImportProblem::OtherHistory(topic.to_owned())),
        }
        let mut place = place(same, None);
        place.append(connection)?;
        Ok(place)
    }

    /// From now on messages go behind those that are here, in a run of their own.
    fn append(&mut self, connection: &mut Connection<'_>) -> QueryResult<()> {
        let head = message::head(connection, &self.topic)?;
        let run = run::find(connection, &self.topic)?.unwrap_or_default();
        let head = head.max(run.last_seq);
        let (known, client_refs) = contents(connection, &self.topic)?;
        self.mode = Mode::Append {
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

    /// Whether the topic was not here before.
    pub(super) fn is_new(&self) -> bool {
        self.found.is_none() && matches!(self.mode, Mode::Same { .. })
    }

    /// Stores messages of the topic.
    pub(super) fn store(
        &mut self,
        connection: &mut Connection<'_>,
        options: ImportOptions,
        rows: &[&Row],
        imported: &mut Imported,
    ) -> Result<(), ImportProblem> {
        let Sorted {
            new,
            removed,
            other,
        } = match &mut self.mode {
            Mode::Same { removed_through } => {
                let removed_through = if options.removed { 0 } else { *removed_through };
                sort(&here(connection, &self.topic, rows)?, rows, removed_through)
            }
            Mode::Append {
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
        let others: Vec<&Row> = other.into_iter().chain(taken).collect();
        match others.first() {
            None => Ok(()),
            Some(_) if options.append && matches!(self.mode, Mode::Same { .. }) => {
                self.append(connection)?;
                self.store(connection, options, &others, imported)
            }
            Some(row) => Err(ImportProblem::OtherMessage {
                topic: row.topic.clone(),
                seq: row.seq,
            }),
        }
    }

    /// The last line is in.
    pub(super) fn end(self, connection: &mut Connection<'_>) -> QueryResult<()> {
        // What is not whole by what was here needs the word of the file.
        let found = self.found.as_ref();
        let changes = self.begun || found.is_none_or(|run| run.importing);
        let Some(then) = self.then.filter(|then| changes && !then.importing) else {
            return Ok(());
        };
        let run = Run {
            last_seq: then.last_seq.max(message::head(connection, &self.topic)?),
            ..then
        };
        run::put(connection, &self.topic, &run)
    }

    /// The first message is stored. Until the last one is in, some are missing and nobody resumes; where
    /// messages are appended, none is.
    fn begin(&mut self, connection: &mut Connection<'_>) -> QueryResult<()> {
        let Some(then) = self.then.as_ref().filter(|_| !self.begun) else {
            return Ok(());
        };
        self.begun = true;
        let run = match self.mode {
            Mode::Append { .. } => then.clone(),
            Mode::Same { .. } => Run {
                last_seq: self.head,
                clean: false,
                importing: true,
                ..then.clone()
            },
        };
        run::put(connection, &self.topic, &run)
    }
}

impl From<&TopicLine> for Run {
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

/// The messages of the file beside those that are here.
#[derive(Default)]
struct Sorted<'a> {
    /// To be stored.
    new: Vec<Row>,
    /// How many have been removed here.
    removed: u64,
    /// Those in whose places there are others.
    other: Vec<&'a Row>,
}

fn sort<'a>(
    here: &HashMap<i64, Option<Row>>,
    rows: &[&'a Row],
    removed_through: i64,
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

/// What is stored in the places of these rows; `None` for what cannot be read.
fn here(
    connection: &mut Connection<'_>,
    topic: &str,
    rows: &[&Row],
) -> QueryResult<HashMap<i64, Option<Row>>> {
    let seqs: Vec<i64> = rows.iter().map(|row| row.seq).collect();
    let here = messages::table
        .filter(messages::topic.eq(topic))
        .filter(messages::seq.eq_any(seqs));
    let here: Vec<FoundRow> = on_each_backend!(connection, |typed| here
        .select(FoundRow::as_select())
        .load(typed))?;
    let by_seq = |row: FoundRow| (row.seq, row.into_row());
    Ok(here.into_iter().map(by_seq).collect())
}

/// Not by the payload: an update may have changed it since.
fn is_same(known: &Row, row: &Row) -> bool {
    (&known.event, known.inserted_at, &known.client_ref)
        == (&row.event, row.inserted_at, &row.client_ref)
}

/// The messages that are not among those that are here, with new seqs. The file's messages have been
/// updated, and lack what was deleted, so that updates and deletions have nothing left to do.
fn appended(
    rows: &[&Row],
    head: &mut i64,
    known: &HashSet<Content>,
    client_refs: &HashSet<String>,
) -> Vec<Row> {
    let new = rows
        .iter()
        .filter(|row| row.target.is_none() && !known.contains(&content(row)));
    new.map(|&row| {
        *head += 1;
        let free = |client_ref: &String| !client_refs.contains(client_ref);
        Row {
            seq: *head,
            client_ref: row.client_ref.clone().filter(free),
            ..row.clone()
        }
    })
    .collect()
}

fn content(row: &Row) -> Content {
    (row.event.clone(), row.inserted_at, hash_of(&row.payload))
}

fn hash_of(payload: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    payload.hash(&mut hasher);
    hasher.finish()
}

/// What a topic has, and the client_refs of it.
fn contents(
    connection: &mut Connection<'_>,
    topic: &str,
) -> QueryResult<(HashSet<Content>, HashSet<String>)> {
    let (mut known, mut client_refs) = (HashSet::new(), HashSet::new());
    let mut after = i64::MIN;
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
            client_refs.extend(row.client_ref);
        }
    }
}

/// Stores rows; those are left that have the place or the client_ref of another message.
fn insert<'a>(connection: &mut Connection<'_>, rows: &'a [Row]) -> QueryResult<Vec<&'a Row>> {
    let inserted: Vec<i64> = on_each_backend!(connection, |typed| {
        diesel::insert_into(messages::table)
            .values(rows)
            .on_conflict_do_nothing()
            .returning(messages::seq)
            .get_results(typed)
    })?;
    let inserted: HashSet<i64> = inserted.into_iter().collect();
    let left = rows.iter().filter(|row| !inserted.contains(&row.seq));
    Ok(left.collect())
}

/// The id of the last message of a run that has ended there.
fn last(run: &Run, head: i64) -> MessageId {
    MessageId {
        epoch: run.epoch,
        seq: head,
    }
}

impl Run {
    /// Whether `later` is this run, or one that came after it, of the same history; this one has come to
    /// `head`.
    fn is_followed_by(&self, later: &Self, head: i64) -> bool {
        if self.epoch == later.epoch {
            return head <= later.last_seq;
        }
        later.past().resumes(last(self, head))
    }

    /// The run that comes next, once this one has ended at `head`.
    fn followed(&self, epoch: i64, head: i64) -> Self {
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
