//! One batch of messages whose place the database gives: one transaction, or one for each half, and so on, down to the
//! messages that the database refuses.
//!
//! The transaction goes statement by statement: it locks the topics, then looks for messages that are stored already,
//! inserts the others after the last seq, and commits. The lock is held until the end. So seqs have the order of
//! commits, and none is left out.
//!
//! **In doubt.** If a commit has no answer, the same messages go through the transaction again, over another
//! connection. It waits for the lock of the first one, if that is still under way; then the refs of the messages say
//! whether they are stored.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use diesel::connection::{AnsiTransactionManager, TransactionManager};
use diesel::result::{DatabaseErrorKind, Error};

use crate::log::{
    ClusterEra, MessageId, PlacedMessage, PlacedTogether, Placings, Seq, Unplaced, UnplacedMessage,
};
use crate::store::backend::DbConnection;
use crate::store::tables::columns::Columns;
use crate::store::tables::order::{self, Given, RowPlace};
use crate::store::tables::row::{MessageRow, PendingRow};
use crate::store::tables::{message, run};
use crate::store::write::batch::TransactionFailure;

/// PostgreSQL ends a transaction of a server that has stopped in its middle: all others wait for its locks. Set with
/// the transaction, because PgBouncer may give the next one another session.
const BEGIN: &str = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = 2000";

/// The result of some messages.
pub(in crate::store) enum Ordered {
    /// They are stored, now or before.
    Stored(Placings),
    /// The database refuses this message, and always will.
    Rejected(Error),
}

/// Why a transaction has failed.
enum Failed {
    /// It was rolled back.
    Before(TransactionFailure),
    /// Whether it is committed is not known.
    InDoubt(Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Before(TransactionFailure::Statement(error))
    }
}

/// Gives messages their places and commits them. Calls `settled` for each part of them, in order, as soon as its
/// result is certain; withdrawn messages are part of it.
///
/// # Errors
/// If the database is unreachable or refuses everything. `settled` is not called for the other messages.
pub(in crate::store) fn commit(
    connection: &mut DbConnection<'_>,
    drafts: &[Arc<Unplaced>],
    columns: &Columns,
    settled: &mut impl FnMut(&[Arc<Unplaced>], Ordered),
) -> Result<(), Error> {
    let taken: Vec<_> = drafts.iter().filter(|draft| draft.take()).collect();
    if taken.is_empty() {
        settled(drafts, Ordered::Stored(Placings::default()));
        return Ok(());
    }
    let failure = match attempt(connection, &taken, columns) {
        Ok(placings) => {
            settled(drafts, Ordered::Stored(placings));
            return Ok(());
        }
        Err(Failed::InDoubt(error)) => {
            taken.iter().for_each(|draft| draft.doubt());
            return Err(error);
        }
        Err(Failed::Before(failure)) => failure,
    };
    taken.iter().for_each(|draft| draft.put_back());
    let error = failure.blame()?;
    if let [draft] = drafts {
        let judged = judge(connection, draft, columns, error)?;
        settled(drafts, judged);
        return Ok(());
    }
    let (first, second) = drafts.split_at(drafts.len() / 2);
    commit(connection, first, columns, settled)?;
    commit(connection, second, columns, settled)
}

/// Decides whether the message is the cause, or the database, as for a row whose place is known.
fn judge(
    connection: &mut DbConnection<'_>,
    draft: &Arc<Unplaced>,
    columns: &Columns,
    error: Error,
) -> Result<Ordered, Error> {
    use DatabaseErrorKind::{
        CheckViolation, ExclusionViolation, ForeignKeyViolation, NotNullViolation,
    };
    let Some(message) = &draft.message else {
        return Err(error);
    };
    if let Error::DatabaseError(
        CheckViolation | ExclusionViolation | ForeignKeyViolation | NotNullViolation,
        _,
    ) = error
    {
        return Ok(Ordered::Rejected(error));
    }
    let row = row(draft, message, Seq::ZERO, &message.payload);
    message::try_same_size(connection, &MessageRow::new(row, columns))?;
    run::rehearse(connection)?;
    if !draft.take() {
        return Ok(Ordered::Stored(Placings::default()));
    }
    match attempt(connection, &[draft], columns) {
        Ok(placings) => Ok(Ordered::Stored(placings)),
        Err(Failed::InDoubt(error)) => {
            draft.doubt();
            Err(error)
        }
        Err(Failed::Before(failure)) => {
            draft.put_back();
            failure.blame().map(Ordered::Rejected)
        }
    }
}

/// One transaction for all messages; another one if a topic had no run of the database, or its row was behind the
/// messages.
fn attempt(
    connection: &mut DbConnection<'_>,
    drafts: &[&Arc<Unplaced>],
    columns: &Columns,
) -> Result<Placings, Failed> {
    let mut repair = false;
    let mut of_bus = BTreeSet::new();
    loop {
        begin(connection)?;
        match place(connection, drafts, columns, (repair, &of_bus)) {
            Ok(Step::Placed(batch)) => return batch.commit(connection),
            Ok(Step::Unknown(topics)) => {
                roll_back(connection);
                for (topic, within) in topics {
                    match order::open(connection, &topic, within) {
                        Err(Error::RollbackTransaction) => {
                            of_bus.insert(topic);
                        }
                        opened => drop(opened?),
                    }
                }
            }
            Err(Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _)) if !repair => {
                // Somebody else has written rows after the last seq.
                roll_back(connection);
                repair = true;
            }
            Err(error) => {
                roll_back(connection);
                return Err(error.into());
            }
        }
    }
}

/// How far a transaction has come.
enum Step<'a> {
    /// Up to the commit.
    Placed(Batch),
    /// These topics have no row, or are in a run of the bus. With the era in which the database gives their order.
    Unknown(Vec<(String, Option<&'a ClusterEra>)>),
}

/// What a transaction does.
#[derive(Default)]
struct Batch {
    placings: Placings,
    /// The present part of each topic, by name.
    open: BTreeMap<Arc<str>, PlacedTogether>,
    erasures: HashMap<Arc<str>, Seq>,
    /// The messages of this batch that have a ref.
    refs: HashMap<(Arc<str>, String), MessageId>,
}

/// All statements but the commit. `of_bus`: topics whose order the bus gives again.
fn place<'a>(
    connection: &mut DbConnection<'_>,
    drafts: &[&'a Arc<Unplaced>],
    columns: &Columns,
    (repair, of_bus): (bool, &BTreeSet<String>),
) -> Result<Step<'a>, Error> {
    let topics: BTreeMap<&str, Option<&ClusterEra>> = drafts
        .iter()
        .map(|draft| (&*draft.topic, draft.within.as_ref()))
        .collect();
    let names = topics.keys().copied().collect();
    let mut places = order::lock(connection, &names)?;
    let is_open = |name: &str, within: Option<&ClusterEra>| {
        let place = places.get(name);
        place.is_some_and(|place| within.is_none() || place.is_clean)
    };
    let unknown: Vec<_> = topics
        .into_iter()
        .filter(|(name, within)| !is_open(name, *within) && !of_bus.contains(*name))
        .collect();
    if !unknown.is_empty() {
        let unknown = unknown.into_iter();
        let unknown = unknown.map(|(name, within)| (name.to_owned(), within));
        return Ok(Step::Unknown(unknown.collect()));
    }
    if repair {
        for (topic, place) in &mut places {
            place.last = place.last.max(message::head(connection, topic)?);
        }
    }
    let stored = order::with_refs(connection, &asked_refs(drafts))?;
    let mut batch = Batch::default();
    for draft in drafts {
        batch.add(draft, &mut places, (&stored, of_bus));
    }
    batch.close();
    let new: Vec<_> = batch
        .rows()
        .map(|row| MessageRow::new(row, columns))
        .collect();
    if !new.is_empty() {
        message::insert(connection, &new)?;
    }
    drop(new);
    for row in batch.rows() {
        message::apply(connection, row, columns)?;
    }
    let given = batch.given(&places);
    if !given.is_empty() {
        order::advance(connection, &given)?;
    }
    drop(given);
    Ok(Step::Placed(batch))
}

/// The refs to look for. Nobody else has a server's own refs, so they are stored only if a commit had no answer.
fn asked_refs<'a>(drafts: &[&'a Arc<Unplaced>]) -> Vec<(&'a str, &'a str)> {
    let mut asked = BTreeSet::new();
    for draft in drafts {
        if let Some(message) = &draft.message
            && (!message.has_own_ref() || draft.is_in_doubt())
        {
            asked.insert((&*draft.topic, &*message.client_ref));
        }
    }
    asked.into_iter().collect()
}

impl Batch {
    /// Gives a message its place, unless it is stored already, or the bus gives the order of its topic.
    fn add(
        &mut self,
        draft: &Arc<Unplaced>,
        places: &mut HashMap<String, RowPlace>,
        (stored, of_bus): (&HashMap<(String, String), Seq>, &BTreeSet<String>),
    ) {
        let is_late = of_bus.contains(&*draft.topic);
        // All topics of the batch that have a row are locked.
        let Some(place) = places.get_mut(&*draft.topic) else {
            return self.placings.late.push(Arc::clone(draft));
        };
        let Some(message) = &draft.message else {
            if is_late {
                return self.placings.late.push(Arc::clone(draft));
            }
            return self.add_erasure(draft, place);
        };
        let key = (draft.topic.to_string(), message.client_ref.to_string());
        if let Some(seq) = stored.get(&key) {
            let first = MessageId::new(place.epoch, *seq);
            return self.placings.found.push((Arc::clone(draft), first));
        }
        if is_late {
            return self.placings.late.push(Arc::clone(draft));
        }
        let key = (Arc::clone(&draft.topic), key.1);
        if let Some(first) = self.refs.get(&key) {
            return self.placings.found.push((Arc::clone(draft), *first));
        }
        let prev = place.last;
        place.last = prev.next();
        let id = MessageId::new(place.epoch, place.last);
        self.refs.insert(key, id);
        let part = self.part(draft, place.epoch, prev);
        part.head = id.seq;
        part.messages.push(PlacedMessage {
            seq: id.seq,
            payload: message.payload_of(id),
            draft: Arc::clone(draft),
        });
    }

    /// An erasure is a part of its own.
    fn add_erasure(&mut self, draft: &Arc<Unplaced>, place: &mut RowPlace) {
        self.placings.placed.extend(self.open.remove(&draft.topic));
        let prev = place.last;
        place.last = prev.next();
        self.erasures.insert(Arc::clone(&draft.topic), place.last);
        let part = self.part(draft, place.epoch, prev);
        part.head = prev.next();
        part.erasure = Some(Arc::clone(draft));
        self.placings.placed.extend(self.open.remove(&draft.topic));
    }

    /// The part that goes on in this topic, or begins after this seq.
    fn part(
        &mut self,
        draft: &Arc<Unplaced>,
        epoch: crate::log::Epoch,
        prev: Seq,
    ) -> &mut PlacedTogether {
        let topic = Arc::clone(&draft.topic);
        self.open
            .entry(Arc::clone(&topic))
            .or_insert_with(|| PlacedTogether {
                topic,
                epoch,
                prev,
                head: prev,
                messages: Vec::new(),
                erasure: None,
            })
    }

    fn close(&mut self) {
        let open = std::mem::take(&mut self.open);
        self.placings.placed.extend(open.into_values());
    }

    /// The rows to insert.
    fn rows(&self) -> impl Iterator<Item = PendingRow<'_>> {
        let messages = self.placings.placed.iter().flat_map(|part| &part.messages);
        messages.filter_map(|placed| {
            let message = placed.draft.message.as_ref()?;
            Some(row(&placed.draft, message, placed.seq, &placed.payload))
        })
    }

    /// The topics that have new seqs.
    fn topics(&self) -> Vec<Arc<str>> {
        let topics = self.placings.placed.iter().map(|part| &part.topic);
        let topics: BTreeSet<_> = topics.cloned().collect();
        topics.into_iter().collect()
    }

    /// The last seqs of these topics.
    fn given<'a>(&self, places: &'a HashMap<String, RowPlace>) -> Vec<Given<'a>> {
        let topics = self.topics();
        let given = topics.iter().filter_map(|topic| {
            let (name, place) = places.get_key_value(&**topic)?;
            Some(Given {
                topic: name,
                last: place.last,
                erasure: self.erasures.get(topic).copied().unwrap_or_default(),
            })
        });
        given.collect()
    }

    fn commit(self, connection: &mut DbConnection<'_>) -> Result<Placings, Failed> {
        let topics = self.topics();
        if !topics.is_empty()
            && let Some(owner) = self.owner()
        {
            // Should this server die now, the others must look for these messages.
            owner.committing(&topics);
        }
        match connection {
            DbConnection::Postgres(postgres) => {
                let committed = AnsiTransactionManager::commit_transaction(*postgres);
                committed.map_err(Failed::InDoubt)?;
            }
            #[cfg(feature = "sqlite")]
            DbConnection::Sqlite(_) => {}
        }
        Ok(self.placings)
    }

    fn owner(&self) -> Option<Arc<dyn crate::log::PlaceOwner>> {
        let part = self.placings.placed.first()?;
        let message = part.messages.first().map(|placed| &placed.draft);
        message.or(part.erasure.as_ref())?.owner()
    }
}

fn row<'a>(
    draft: &'a Unplaced,
    message: &'a UnplacedMessage,
    seq: Seq,
    payload: &'a str,
) -> PendingRow<'a> {
    PendingRow {
        topic: &draft.topic,
        seq,
        event: &message.event,
        payload,
        client_ref: Some(&message.client_ref),
        change: message.change,
        at: draft.at,
    }
}

fn begin(connection: &mut DbConnection<'_>) -> Result<(), Failed> {
    let begun = match connection {
        DbConnection::Postgres(postgres) => {
            AnsiTransactionManager::begin_transaction_sql(*postgres, BEGIN)
        }
        #[cfg(feature = "sqlite")]
        DbConnection::Sqlite(_) => Ok(()),
    };
    begun.map_err(|error| Failed::Before(TransactionFailure::Transaction(error)))
}

/// A connection that cannot roll back is of no use: the next statement fails.
fn roll_back(connection: &mut DbConnection<'_>) {
    match connection {
        DbConnection::Postgres(postgres) => {
            let _ = AnsiTransactionManager::rollback_transaction(*postgres);
        }
        #[cfg(feature = "sqlite")]
        DbConnection::Sqlite(_) => {}
    }
}
