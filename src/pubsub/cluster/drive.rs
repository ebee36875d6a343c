//! What the nodes of a cluster do with one topic: [`Node::drive`] tells its replica what has happened, and carries out
//! what the replica asks for.

use std::sync::Arc;
use std::time::Duration;

use super::message::{self, Arrived, Ordered};
use super::node::Node;
use super::old_rows;
use super::outstanding::Publishing;
use crate::cluster::replica::{Action, Replica, Ticket};
use crate::cluster::{Away, Position};
use crate::log::{
    LoadError, MessageId, OpenedRun, Pending, Seq, StoreFull, StoredEntry, of_client,
};
use crate::message::Payload;
use crate::pubsub::fastlane::Direction;
use crate::pubsub::topic::TopicState;
use crate::pubsub::{Broadcast, Draft, Published, Topic};

/// The wait for another node that opens the run.
const OPENING: Duration = Duration::from_millis(20);
/// The wait before another attempt to read.
const AGAIN: Duration = Duration::from_millis(200);
/// Rows and bytes of one page of the database.
const PAGE: (usize, usize) = (500, 250_000);

/// Where a topic is, and the run if the topic's log does not know it.
pub(super) struct Located {
    position: Position,
    run: Option<OpenedRun>,
    /// If this node has begun the run: the last seq of a stored message, and the seq behind which the run begins.
    unused: Option<(Seq, Seq)>,
}

/// When a topic without a run gets one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Begins {
    /// Somebody waits for it.
    AtOnce,
    /// In its turn.
    InTurn,
}

impl Node {
    /// Tells a topic's replica what has happened.
    pub(super) fn drive(
        self: &Arc<Self>,
        topic: &Arc<Topic>,
        step: impl FnOnce(&mut Replica<Arrived>, Duration, &mut Vec<Action<Arrived>>),
    ) {
        let mut state = topic.lock();
        self.drive_locked(topic, &mut state, step);
    }

    fn drive_locked(
        self: &Arc<Self>,
        topic: &Arc<Topic>,
        state: &mut TopicState,
        step: impl FnOnce(&mut Replica<Arrived>, Duration, &mut Vec<Action<Arrived>>),
    ) {
        let Some(replica) = state.replica.as_mut().filter(|_| !state.evicted) else {
            return;
        };
        let mut actions = Vec::new();
        step(replica, self.now(), &mut actions);
        for action in actions {
            self.perform(topic, state, action);
        }
    }

    fn perform(
        self: &Arc<Self>,
        topic: &Arc<Topic>,
        state: &mut TopicState,
        action: Action<Arrived>,
    ) {
        match action {
            Action::Show(id, arrived) => self.show(topic, state, id, arrived),
            Action::Settle(id, arrived) => self.settle_unheard(state, id, arrived),
            Action::Watch(author) => self.watch.add(author, topic),
            Action::Read(ticket) | Action::Open(ticket) => {
                topic.stands(false);
                let (node, topic) = (Arc::clone(self), Arc::clone(topic));
                self.spawn(async move { node.find(&topic, ticket).await });
            }
            Action::Rows {
                ticket,
                after,
                through,
            } => {
                let (node, topic) = (Arc::clone(self), Arc::clone(topic));
                self.spawn(async move {
                    node.read_rows(&topic, ticket, (after, through)).await;
                });
            }
            Action::Retry(ticket) => {
                let (node, topic) = (Arc::clone(self), Arc::clone(topic));
                self.spawn(async move {
                    tokio::time::sleep(AGAIN).await;
                    node.drive(&topic, |replica, _, out| replica.retry(ticket, out));
                });
            }
            Action::Begin { at, journal } => {
                state.begin_at(topic, at);
                if let Some(joint) = topic.joint() {
                    joint.begin_with(at.epoch, journal);
                }
            }
            Action::Reset { at, .. } => reset(topic, state, at),
            Action::Live(_) => topic.stands(true),
        }
    }

    /// The bus has confirmed that messages of the topic arrive from now on.
    pub(super) fn attached(self: &Arc<Self>, topic: &Arc<Topic>) {
        if topic.is_strict() {
            self.attached_strictly(topic);
        } else if topic.has_log() {
            self.drive(topic, |replica, _, out| replica.attached(out));
        } else {
            topic.stands(true);
        }
    }

    /// The bus is away.
    pub(super) fn away(self: &Arc<Self>, topic: &Arc<Topic>) {
        if topic.is_strict() {
            return self.go_on_alone(topic);
        }
        topic.stands(false);
        self.drive(topic, |replica, now, _| replica.down(now));
    }

    /// All runs of topics have ended with the process of the bus's server. Stores what their authors may not have been
    /// told of.
    pub(super) fn end_runs(self: &Arc<Self>) {
        for topic in self.topics() {
            let mut state = topic.lock();
            state.run_has_ended = true;
            self.rescue(&mut state);
        }
    }

    /// The same while it only seems so.
    pub(super) fn rescue_all(self: &Arc<Self>) {
        for topic in self.topics() {
            self.rescue(&mut topic.lock());
        }
    }

    /// Stores own messages that had a place and did not come back: they have no other source now.
    pub(super) fn settle_taken(self: &Arc<Self>) {
        for (id, topic, message) in self.outstanding.taken() {
            self.settle_unheard(&topic.lock(), id, Arrived::read(message));
        }
    }

    /// Stores what a topic's members have got and an author may not have been told of. If the journal exists all the
    /// same, it keeps these messages: an author that does not find its message there publishes it again.
    pub(super) fn rescue(self: &Arc<Self>, state: &mut TopicState) {
        let Some(replica) = &mut state.replica else {
            return;
        };
        let mut rows = Vec::new();
        for (id, arrived) in replica.rescue() {
            if let Ordered::Message(stored) = arrived.content {
                let placed = message::placed(id, arrived.at, stored, None);
                rows.extend(state.unowned_row(placed));
            }
        }
        self.store_rows(rows);
    }

    /// Stores a message of another node.
    ///
    /// # Errors
    /// If the store has no room.
    pub(super) fn adopt(
        &self,
        state: &TopicState,
        id: MessageId,
        arrived: Arrived,
    ) -> Result<(), StoreFull> {
        match (arrived.content, &self.store) {
            (Ordered::Message(stored), Some(store)) => {
                let row = state.row(message::placed(id, arrived.at, stored, None));
                row.map_or(Ok(()), |(_, row)| store.append(row))
            }
            _ => Ok(()),
        }
    }

    /// Hands a row to the store that nobody has reserved room for. Tries until there is room: until then the journal
    /// has it.
    pub(super) fn store_row(&self, row: Pending) {
        self.store_rows(vec![row]);
    }

    fn store_rows(&self, rows: Vec<Pending>) {
        let Some(store) = self.store.clone().filter(|_| !rows.is_empty()) else {
            return;
        };
        self.spawn(async move {
            for row in rows {
                while let Err(full) = store.append(row.clone()) {
                    tokio::time::sleep(Duration::from_millis(full.retry_after_ms)).await;
                }
            }
        });
    }

    /// Shows members the next message.
    fn show(
        self: &Arc<Self>,
        topic: &Arc<Topic>,
        state: &mut TopicState,
        id: MessageId,
        arrived: Arrived,
    ) {
        let publishing = self.publishing(&arrived);
        let is_own = arrived.author == Some(self.id);
        let stored = match arrived.content {
            Ordered::Message(stored) => stored,
            Ordered::Erasure(author) => {
                state.place_erasure(id.seq);
                return self.answer_erasure(author, arrived.nonce, id);
            }
            Ordered::Unread => {
                return tracing::warn!(
                    topic = topic.name(), %id,
                    "cluster.message.unread: another node runs a newer release; update this one"
                );
            }
        };
        let from = publishing.as_ref().and_then(|publishing| publishing.from);
        // Nobody waits for it if its publisher was told that it is unconfirmed.
        let own = is_own.then(|| {
            publishing
                .as_ref()
                .map(|it| it.own.clone())
                .unwrap_or_default()
        });
        let placed = message::placed(id, arrived.at, stored, own);
        let (event, payload) = (placed.event.clone(), Payload::Json(placed.payload.clone()));
        let Some((appended, row)) = state.place(topic, placed) else {
            return;
        };
        let broadcast = Broadcast::new(topic, &event, &payload, from, Some(appended.meta));
        self.deliver(topic, state, broadcast);
        if let Some(row) = row {
            self.store_own(row, publishing, Published::from(appended));
        }
    }

    /// An own message that members of this node do not get: they have ended since.
    fn settle_unheard(self: &Arc<Self>, state: &TopicState, id: MessageId, arrived: Arrived) {
        let publishing = self.publishing(&arrived);
        let Ordered::Message(stored) = arrived.content else {
            return;
        };
        let own = publishing
            .as_ref()
            .map(|it| it.own.clone())
            .unwrap_or_default();
        let placed = message::placed(id, arrived.at, stored, Some(own));
        if let Some((receipt, row)) = state.row(placed) {
            let published = Published {
                id: Some(id),
                duplicate: false,
                receipt,
            };
            self.store_own(row, publishing, published);
        }
    }

    fn publishing(&self, arrived: &Arrived) -> Option<Publishing> {
        if arrived.author != Some(self.id) {
            return None;
        }
        self.outstanding.take(arrived.nonce)
    }

    /// Hands the row of an own message to the store, and answers its publisher.
    fn store_own(
        self: &Arc<Self>,
        row: Pending,
        publishing: Option<Publishing>,
        published: Published,
    ) {
        match (publishing, &self.store) {
            (Some(publishing), Some(store)) => {
                store.put(row, publishing.reserved.unwrap_or_default());
                // A publisher that has gone needs no answer.
                let _ = publishing.publisher.send(Ok(published));
            }
            // Its publisher was told that it is unconfirmed.
            _ => self.store_row(row),
        }
    }

    /// Finds out where the topic is, and tells the replica.
    async fn find(self: &Arc<Self>, topic: &Arc<Topic>, ticket: Ticket) {
        match self.locate(topic, Begins::InTurn).await {
            Ok(Located {
                position,
                run,
                unused,
            }) => {
                let mut position = decoded(position);
                if run.is_some() && self.run_ended(topic, position.head).await {
                    position.unused = unused;
                }
                let mut state = topic.lock();
                if !has_asked(&state, ticket) {
                    // Meanwhile the topic goes on in another order.
                    return;
                }
                if let Some(run) = run {
                    state.enter_run(topic, run);
                }
                self.drive_locked(topic, &mut state, |replica, now, out| {
                    replica.position(ticket, Some(position), now, out);
                });
            }
            Err(error) => {
                tracing::debug!(topic = topic.name(), %error, "cluster.position.unread");
                self.drive(topic, |replica, now, out| replica.failed(ticket, now, out));
            }
        }
    }

    /// Another run goes on where a topic's log is: it has come to `head`. Waits until the messages of the old one are in
    /// the database. Whether they were there before the new one began.
    async fn run_ended(self: &Arc<Self>, topic: &Arc<Topic>, head: Seq) -> bool {
        let was_awaited = {
            let mut state = topic.lock();
            if state.log.is_none() {
                return false;
            }
            self.rescue(&mut state);
            state.is_followed_by(head)
        };
        if !was_awaited {
            // The bus's server goes on without its data: other nodes find the new run now, and rescue their rows.
            tokio::time::sleep(old_rows::SHORTEST).await;
        }
        self.old_rows.wait().await;
        was_awaited
    }

    /// The topic has a run now: if its replica still waits for that, it is told.
    pub(super) fn find_again(self: &Arc<Self>, topic: &Arc<Topic>) {
        let question = {
            let state = topic.lock();
            let replica = state.replica.as_ref();
            replica.and_then(|replica| replica.question())
        };
        if let Some(ticket) = question {
            let (node, topic) = (Arc::clone(self), Arc::clone(topic));
            self.spawn(async move { node.find(&topic, ticket).await });
        }
    }

    /// Where the topic is. Opens a run if it has none.
    pub(super) async fn locate(
        self: &Arc<Self>,
        topic: &Arc<Topic>,
        begins: Begins,
    ) -> Result<Located, LoadError> {
        let name = topic.name();
        let away = |source| LoadError {
            topic: name.to_owned(),
            source: Box::new(source),
        };
        let mut begun: Option<OpenedRun> = None;
        loop {
            if let Some(position) = self.read(name).await.map_err(away)? {
                let begun = begun.filter(|begun| begun.epoch == position.epoch);
                let unused = begun.as_ref().and_then(|begun| {
                    let before = begun.past.last_seq()?;
                    Some((before, begun.head))
                });
                let run = if topic.is_in_run(position.epoch) {
                    None
                } else {
                    Some(self.run_at(name, &position, begun).await)
                };
                return Ok(Located {
                    position,
                    run,
                    unused,
                });
            }
            self.old_rows.wait().await;
            if topic.is_strict() {
                return Err(away(Away));
            }
            let _permit = match begins {
                Begins::InTurn => self.may_begin().await,
                Begins::AtOnce => None,
            };
            let lock = self.sequencer().map_err(away)?.lock(name);
            match (lock.await.map_err(away)?, &self.store) {
                // Another node has begun one between the look and the lock.
                (Some(_), _) if self.read(name).await.map_err(away)?.is_some() => {}
                (Some(token), Some(store)) => {
                    let run = store.begin_run(name, self.eras.of_cluster()).await?;
                    let begin = self.sequencer().map_err(away)?;
                    let begin = begin.begin(name, token, run.epoch, run.head);
                    if begin.await.map_err(away)? {
                        if run.next_epoch.is_some() {
                            store.begun(name, &run);
                        }
                        begun = Some(run);
                    }
                }
                _ => tokio::time::sleep(OPENING).await,
            }
        }
    }

    /// The run that the bus is in. Without the database nobody resumes from the runs before it.
    async fn run_at(
        &self,
        topic: &str,
        position: &Position,
        begun: Option<OpenedRun>,
    ) -> OpenedRun {
        let known = match (begun, &self.store) {
            (Some(begun), _) => begun,
            (_, Some(store)) => {
                let _permit = self.may_read().await;
                store.known_run(topic).await.unwrap_or_default()
            }
            (_, None) => OpenedRun::default(),
        };
        OpenedRun {
            epoch: position.epoch,
            head: position.head,
            ..known
        }
    }

    /// Reads rows that members have missed.
    async fn read_rows(
        self: &Arc<Self>,
        topic: &Arc<Topic>,
        ticket: Ticket,
        (after, through): (Seq, Seq),
    ) {
        let Some(store) = &self.store else { return };
        topic.drained().await;
        let page = {
            let _permit = self.may_read().await;
            store.page(topic.name(), after, PAGE.0, PAGE.1).await
        };
        let Ok(page) = page else {
            return self.drive(topic, |replica, now, out| replica.failed(ticket, now, out));
        };
        let complete = page.last().is_none_or(|row| row.seq >= through);
        let id = |row: &StoredEntry| topic.id_of(row.seq);
        let rows = page.into_iter().take_while(|row| row.seq <= through);
        let rows = rows.filter_map(|mut row| {
            // The database may have given it a ref of its node.
            row.client_ref = of_client(row.client_ref);
            Some((id(&row)?, Arrived::of_row(row)))
        });
        let rows = rows.collect();
        self.drive(topic, |replica, now, out| {
            replica.rows(ticket, rows, complete, now, out);
        });
    }
}

/// Whether the topic's present replica waits for the answer.
fn has_asked(state: &TopicState, ticket: Ticket) -> bool {
    let replica = state.replica.as_ref();
    replica.is_some_and(|replica| replica.has_asked(ticket))
}

/// Ends the channels of a topic that has missed too much, and forgets its history.
pub(super) fn reset(topic: &Arc<Topic>, state: &mut TopicState, at: MessageId) {
    tracing::warn!(
        topic = topic.name(),
        "cluster.topic.reset: this node has missed more than it may send late, and its clients \
         join again; see that it reaches the bus and is fast enough"
    );
    let draft = Draft::new("phx_error", Payload::EMPTY);
    let broadcast = Broadcast::new(topic, &draft.event, &draft.payload, None, None);
    let broadcast = broadcast.directed(Some(&Direction::Fail));
    state.deliver(&Arc::new(broadcast), None);
    state.skip_to(topic, at);
}

/// A position with its messages read.
pub(super) fn decoded(position: Position) -> crate::cluster::replica::Position<Arrived> {
    let messages = position.journal.into_iter();
    let messages = messages.map(|(seq, bytes)| (seq, Arrived::read(bytes)));
    crate::cluster::replica::Position {
        epoch: position.epoch,
        head: position.head,
        journal: messages.collect(),
        unused: None,
    }
}
