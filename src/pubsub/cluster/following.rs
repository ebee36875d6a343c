//! What the nodes of a cluster do with one strict topic: [`Node::follow`] tells its follower what has happened, and
//! carries out what the follower asks for.

use std::sync::Arc;
use std::time::Duration;

use super::drive::reset;
use super::message;
use super::node::Node;
use super::strict::Row;
use crate::cluster::follower::{Action, Bounds, Follower, Ticket};
use crate::log::{Epoch, LoadError, LogRule, MessageId, OpenedRun, Seq, of_client};
use crate::message::Payload;
use crate::pubsub::topic::TopicState;
use crate::pubsub::{Broadcast, Topic};

/// The wait for a message that is under way.
const HOLE: Duration = Duration::from_millis(10);
/// The wait before another attempt to read.
const AGAIN: Duration = Duration::from_millis(200);
/// Rows and bytes of one page of the database.
const PAGE: (usize, usize) = (500, 250_000);
/// Pieces that wait for others.
const BUFFER: usize = 1_000;

/// Follows a strict topic's log.
pub(crate) type StrictFollower = Box<Follower<Row>>;

/// Follows the log of a topic, after what members have.
pub(super) fn follower(rule: &LogRule, shown: Option<Seq>, number: u64) -> StrictFollower {
    let bounds = Bounds {
        resume: rule.most_missed(),
        buffer: BUFFER,
    };
    Box::new(Follower::after(shown, number, bounds))
}

impl Node {
    /// Tells the follower of a strict topic what has happened.
    pub(super) fn follow(
        self: &Arc<Self>,
        topic: &Arc<Topic>,
        step: impl FnOnce(&mut Follower<Row>, &mut Vec<Action<Row>>),
    ) {
        let mut state = topic.lock();
        self.follow_locked(topic, &mut state, step);
    }

    fn follow_locked(
        self: &Arc<Self>,
        topic: &Arc<Topic>,
        state: &mut TopicState,
        step: impl FnOnce(&mut Follower<Row>, &mut Vec<Action<Row>>),
    ) {
        let Some(follower) = state.strict.as_mut().filter(|_| !state.evicted) else {
            return;
        };
        let mut actions = Vec::new();
        step(follower, &mut actions);
        for action in actions {
            self.carry_out(topic, state, action);
        }
    }

    fn carry_out(
        self: &Arc<Self>,
        topic: &Arc<Topic>,
        state: &mut TopicState,
        action: Action<Row>,
    ) {
        match action {
            Action::Show(seq, row) => self.show_row(topic, state, seq, row),
            Action::Erase(seq) => state.place_erasure(seq),
            Action::Reach(seq) => state.reach(seq),
            Action::Open(ticket) => {
                topic.stands(false);
                let (node, topic) = (Arc::clone(self), Arc::clone(topic));
                self.spawn(async move { node.open_strictly(&topic, ticket).await });
            }
            Action::Fill(ticket, after) => {
                topic.stands(false);
                let (node, topic) = (Arc::clone(self), Arc::clone(topic));
                self.spawn(async move { node.fill(&topic, ticket, after).await });
            }
            Action::Wait(ticket) => self.later(topic, HOLE, move |follower, out| {
                follower.waited(ticket, out);
            }),
            Action::Retry(ticket) => self.later(topic, AGAIN, move |follower, out| {
                follower.retry(ticket, out);
            }),
            Action::Reset(seq) => {
                self.forget_silent(topic.name());
                let at = state.id_of(seq);
                reset(topic, state, at);
            }
            Action::Live => topic.stands(true),
        }
    }

    fn later(
        self: &Arc<Self>,
        topic: &Arc<Topic>,
        wait: Duration,
        step: impl FnOnce(&mut Follower<Row>, &mut Vec<Action<Row>>) + Send + 'static,
    ) {
        let (node, topic) = (Arc::clone(self), Arc::clone(topic));
        self.spawn(async move {
            tokio::time::sleep(wait).await;
            node.follow(&topic, step);
        });
    }

    /// Shows members the next message.
    fn show_row(self: &Arc<Self>, topic: &Arc<Topic>, state: &mut TopicState, seq: Seq, row: Row) {
        let Row { at, mut message } = row;
        let key = message.client_ref.clone();
        let from = key.and_then(|key| self.take_silent(topic.shared_name(), key));
        message.client_ref = of_client(message.client_ref);
        let placed = message::placed(state.id_of(seq), at, message, None);
        let (event, payload) = (placed.event.clone(), Payload::Json(placed.payload.clone()));
        let Some((appended, _)) = state.place(topic, placed) else {
            return;
        };
        let broadcast = Broadcast::new(topic, &event, &payload, from, Some(appended.meta));
        self.deliver(topic, state, broadcast);
    }

    async fn open_strictly(self: &Arc<Self>, topic: &Arc<Topic>, ticket: Ticket) {
        let Some(store) = &self.store else { return };
        let opened = {
            let _permit = self.may_read().await;
            if !topic.lock().follower_asks(ticket) {
                // Thousands of topics may stand in this line when the order changes again.
                return;
            }
            let within = topic.rule().and_then(|rule| self.era_of(rule));
            store.open_placing(topic.name(), within).await
        };
        match opened {
            Ok(run) => {
                let mut state = topic.lock();
                if !state.follower_asks(ticket) {
                    // Meanwhile the topic goes on in another order.
                    return;
                }
                let head = run.head;
                state.enter_run(topic, run);
                self.follow_locked(topic, &mut state, |follower, out| {
                    follower.opened(ticket, head, out);
                });
            }
            Err(error) => self.unread(topic, ticket, &error),
        }
    }

    /// Reads rows that members have missed: the head first, so that no row up to it can come later.
    async fn fill(self: &Arc<Self>, topic: &Arc<Topic>, ticket: Ticket, after: Seq) {
        let Some(store) = &self.store else { return };
        topic.drained().await;
        let name = topic.name();
        let _permit = self.may_read().await;
        if !topic.lock().follower_asks(ticket) {
            return;
        }
        let read = async {
            let run = store.known_run(name).await?;
            let page = store.page(name, after, PAGE.0, PAGE.1).await?;
            Ok((run, page))
        };
        let (run, page) = match read.await {
            Ok(read) => read,
            Err(error) => return self.unread(topic, ticket, &error),
        };
        let head = run.head;
        let complete = page.last().is_none_or(|row| row.seq >= head);
        let rows = page.into_iter().take_while(|row| row.seq <= head);
        let rows = rows.map(|row| (row.seq, Row::of_entry(row))).collect();
        let mut state = topic.lock();
        if !state.follower_asks(ticket) {
            // Meanwhile the topic goes on in another order.
            return;
        }
        state.forget_deleted(topic, &run);
        self.follow_locked(topic, &mut state, |follower, out| {
            follower.rows(ticket, rows, (head, complete), out);
        });
    }

    fn unread(self: &Arc<Self>, topic: &Arc<Topic>, ticket: Ticket, error: &LoadError) {
        tracing::debug!(topic = topic.name(), %error, "cluster.topic.unread");
        self.follow(topic, |follower, out| follower.failed(ticket, out));
    }
}

impl TopicState {
    /// Whether the topic's present follower waits for the answer.
    fn follower_asks(&self, ticket: Ticket) -> bool {
        let follower = self.strict.as_ref();
        follower.is_some_and(|follower| follower.has_asked(ticket))
    }

    fn id_of(&self, seq: Seq) -> MessageId {
        let log = self.log.as_ref();
        log.map_or(MessageId::new(Epoch::default(), seq), |log| log.id_of(seq))
    }

    /// Members have everything up to this seq.
    fn reach(&mut self, seq: Seq) {
        if let Some(log) = &mut self.log {
            log.reach(seq);
        }
    }

    /// Others may have deleted messages while this node did not hear of it, or the topic goes on in another run.
    fn forget_deleted(&mut self, topic: &Arc<Topic>, run: &OpenedRun) {
        let Some(log) = &mut self.log else { return };
        if !log.is_in_run_of(run.epoch) {
            log.renew(run.clone());
        }
        log.forget_deleted(run.pruned_through);
        topic.note_shed(log);
    }
}
