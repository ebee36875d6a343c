//! One topic's state, shared by all worker threads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::OnceCell;

use super::node::{Joint, StrictFollower, TopicReplica};
use super::worker::{Inbox, Table};
use super::{Broadcast, Draft, PublishError, Want};
use crate::lock::lock;
use crate::log::{
    Appended, Backlog, Epoch, Found, LoadError, LogOwner, LogRule, MessageId, NewEntry, Older,
    Outcome, Pager, RecentRefs, Seq, TopicLog,
};
use crate::message::{Payload, is_of_protocol};
use crate::metrics::{RouteId, RouteMetrics, second};

/// A topic: its members by worker, and its log.
pub(crate) struct Topic {
    name: Arc<str>,
    /// Of its metrics.
    route: RouteId,
    pub(super) rule: Option<Arc<LogRule>>,
    pub(super) refs: Arc<RecentRefs>,
    /// In a cluster: the topic's side of the other nodes.
    joint: Option<Joint>,
    /// Set once the log is open. After a failed attempt the next caller tries again.
    opened: OnceCell<()>,
    /// Whether the tail holds the history, if there is a log; whether the messages of other nodes arrive.
    filled: AtomicBool,
    state: Mutex<TopicState>,
}

/// The part of a topic that its lock protects.
pub(super) struct TopicState {
    /// The topic was removed from the registry: a holder must look it up again.
    pub(super) evicted: bool,
    /// In a cluster: the log's run has ended with the process of the bus's server.
    pub(super) run_has_ended: bool,
    pub(super) members: Members,
    /// The members that are channels of clients.
    pub(super) channels: u32,
    /// The broadcasts since the topic is in memory.
    pub(super) broadcasts: u64,
    /// When the last message was sent since then, in seconds since 1970; 0: there was none.
    last_message: u64,
    /// Running erasures. They keep the log in memory.
    pub(super) erasures: usize,
    pub(super) log: Option<TopicLog<Arc<Broadcast>>>,
    /// In a cluster: follows the log, whose order comes from outside.
    pub(super) replica: Option<TopicReplica>,
    /// In a cluster: follows a strict log, whose order the database gives.
    pub(super) strict: Option<StrictFollower>,
    /// Messages up to this seq may be deleted. Kept here too for a log that is still being loaded.
    pruned_through: Seq,
}

impl Topic {
    /// `refs` are shared by all topics.
    pub(super) fn new(
        name: Arc<str>,
        rule: Option<Arc<LogRule>>,
        refs: Arc<RecentRefs>,
        joint: Option<Joint>,
    ) -> Self {
        let logged = joint.as_ref().zip(rule.as_ref());
        let replica = logged.and_then(|(joint, rule)| joint.replica(rule, None));
        let strict = logged.and_then(|(joint, rule)| joint.strict_follower(rule, None));
        Self {
            route: RouteId::of_topic(&name),
            name,
            opened: OnceCell::new(),
            filled: AtomicBool::new(rule.is_none() && joint.is_none()),
            rule,
            refs,
            joint,
            state: Mutex::new(TopicState {
                evicted: false,
                run_has_ended: false,
                members: Members::default(),
                channels: 0,
                broadcasts: 0,
                last_message: 0,
                erasures: 0,
                log: None,
                replica,
                strict,
                pruned_through: Seq::ZERO,
            }),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The metrics of the topics with its pattern.
    pub(super) fn metrics(&self) -> &'static RouteMetrics {
        self.route.metrics()
    }

    pub(super) fn shared_name(&self) -> &Arc<str> {
        &self.name
    }

    /// In a cluster: the topic's side of the other nodes.
    pub(super) fn joint(&self) -> Option<&Joint> {
        self.joint.as_ref()
    }

    pub(super) fn rule(&self) -> Option<&LogRule> {
        self.rule.as_deref()
    }

    pub(super) fn has_log(&self) -> bool {
        self.rule.is_some()
    }

    /// Whether broadcasts of this event are stored.
    pub(super) fn stores(&self, event: &str) -> bool {
        self.rule.as_ref().is_some_and(|rule| rule.stores(event))
    }

    /// Whether broadcasts of any event are stored.
    pub(super) fn stores_any(&self) -> bool {
        self.rule.as_ref().is_some_and(|rule| rule.stores_any())
    }

    /// Whether a join can proceed without [`load`](Self::load).
    pub(crate) fn is_loaded(&self) -> bool {
        self.filled.load(Ordering::Acquire)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, TopicState> {
        lock(&self.state)
    }

    /// Opens the log, if there is one, and reads its history. Concurrent callers wait for one opening.
    ///
    /// If the history cannot be read, the log continues with the messages published since its opening, and
    /// the next caller tries again.
    pub(crate) async fn load(self: &Arc<Self>) -> Result<(), LoadError> {
        if self.is_loaded() {
            return Ok(());
        }
        if let Some(joint) = &self.joint {
            joint.ready(&self.name).await?;
        }
        let Some(rule) = &self.rule else {
            self.filled.store(true, Ordering::Release);
            return Ok(());
        };
        if self.joint.is_none() {
            self.open(rule).await?;
        }
        if self.is_loaded() {
            return Ok(());
        }
        let history = rule.history();
        match rule.newest(&self.name).await {
            Ok(newest) => {
                let mut state = self.lock();
                // Retention may have deleted some of it meanwhile.
                let pruned_through = state.pruned_through;
                if let Some(log) = &mut state.log {
                    log.fill(newest);
                    log.prune(pruned_through);
                }
                if rule.history() > history {
                    drop(state);
                    self.read_again();
                    return Ok(());
                }
                // Set under the lock, because a publisher may shed the tail again.
                self.filled.store(true, Ordering::Release);
            }
            Err(error) => {
                tracing::warn!(
                    %error, source = ?error.source,
                    "pubsub.log.unread: the next join reads again; see that the database answers"
                );
                if let Some(log) = &mut self.lock().log {
                    log.go_on_without();
                }
            }
        }
        Ok(())
    }

    /// Opens the log.
    async fn open(self: &Arc<Self>, rule: &Arc<LogRule>) -> Result<(), LoadError> {
        let opening = self.opened.get_or_try_init(async || {
            // A `Weak` must be made with its own type before it can become a trait object.
            let owner: Weak<Self> = Arc::downgrade(self);
            let refs = Arc::clone(&self.refs);
            let mut log = TopicLog::open(&self.name, owner, rule, refs).await?;
            let mut state = self.lock();
            log.prune(state.pruned_through);
            state.log = Some(log);
            Ok(())
        });
        opening.await.copied()
    }

    /// The log was changed: its tail may have lost messages that belong there.
    pub(super) fn note_shed(&self, log: &TopicLog<Arc<Broadcast>>) {
        if log.is_shed() {
            if let Some(joint) = &self.joint {
                joint.forget_begun();
            }
            self.filled.store(false, Ordering::Release);
        }
    }

    /// The next join reads the history again, because it has become longer.
    pub(super) fn read_again(&self) {
        if let Some(log) = &mut self.lock().log {
            log.read_again();
            self.filled.store(false, Ordering::Release);
        }
    }

    /// The store may have deleted the messages up to this seq.
    pub(super) fn prune(&self, through: Seq) {
        let mut state = self.lock();
        state.pruned_through = state.pruned_through.max(through);
        if let Some(log) = &mut state.log {
            log.prune(through);
        }
    }

    /// Takes the next seq for an erasure, unless a cluster has given it one. `None` if the topic was evicted or has no
    /// log.
    pub(super) fn begin_erasure(&self, given: Option<MessageId>) -> Option<MessageId> {
        let mut state = self.lock();
        if state.evicted {
            return None;
        }
        let log = state.log.as_mut()?;
        let id = given.unwrap_or_else(|| log.begin_erasure());
        state.erasures += 1;
        Some(id)
    }

    pub(super) fn end_erasure(&self) {
        self.lock().erasures -= 1;
    }

    /// Whether the store may have deleted messages after this one.
    pub(crate) fn is_pruned_after(&self, seq: Seq) -> bool {
        let state = self.lock();
        state
            .log
            .as_ref()
            .is_some_and(|log| log.is_pruned_after(seq))
    }

    /// The id of a stored message.
    pub(super) fn id_of(&self, seq: Seq) -> Option<MessageId> {
        self.lock().log.as_ref().map(|log| log.id_of(seq))
    }

    /// The store has deleted these messages, and noted the seq of the erasure.
    pub(super) fn erase(&self, seqs: &[Seq], erasure: Seq) {
        let mut state = self.lock();
        if let Some(joint) = &self.joint {
            joint.forget_begun();
        }
        if let Some(log) = &mut state.log {
            log.erase(seqs, erasure);
        }
    }
}

impl LogOwner for Topic {
    fn settled(&self, epoch: Epoch, seq: Seq, outcome: Outcome) {
        let mut state = self.lock();
        let log = state.log.as_mut();
        if let Some(broadcast) = log.and_then(|log| log.settle(epoch, seq, outcome)) {
            // A publisher waits for a full inbox with its next message, not here.
            state.deliver(&broadcast, None);
        }
        drop(state);
        if let Some(joint) = &self.joint {
            joint.node().settled(&self.name, MessageId::new(epoch, seq));
        }
    }
}

impl TopicState {
    /// Takes the next seq for a message that the rule stores, and hands its row to the store. `None` for a
    /// message that is not stored.
    pub(super) fn append(
        &mut self,
        topic: &Topic,
        draft: &Draft,
    ) -> Result<Option<Appended>, PublishError> {
        let (true, Payload::Json(payload)) = (draft.is_stored(topic), &draft.payload) else {
            return Ok(None);
        };
        let log = self.log.as_mut().ok_or(PublishError::NotLoaded)?;
        let appended = log.append(&NewEntry {
            event: &draft.event,
            payload,
            with_id: draft.with_id.as_deref(),
            client_ref: draft.client_ref.as_deref(),
            change: draft.change,
            receipt: draft.receipt,
        })?;
        topic.note_shed(log);
        Ok(Some(appended))
    }

    /// Counts a broadcast of this event.
    pub(super) fn count_broadcast(&mut self, event: &str) {
        self.broadcasts += 1;
        // Who comes and goes has said nothing.
        if !is_of_protocol(event) {
            self.last_message = second();
        }
    }

    /// When the last message was sent, in whole seconds. If there was none since the topic is in memory, when the newest
    /// one of the log was published.
    pub(super) fn last_message(&self) -> Option<SystemTime> {
        match self.last_message {
            0 => self.log.as_ref()?.last_at(),
            second => Some(UNIX_EPOCH + Duration::from_secs(second)),
        }
    }

    /// Whether a shed log must be filled again before it can give this backlog.
    pub(super) fn must_load(&self, want: Want) -> bool {
        let Some(log) = self.log.as_ref().filter(|log| log.is_shed()) else {
            return false;
        };
        match want {
            Want::Nothing => false,
            Want::History(limit) => limit != Some(0),
            Want::Resume(last_seen, limit) => limit != Some(0) && log.is_lost(last_seen),
        }
    }

    /// Puts a broadcast into the inbox of every worker with members. `own` is the table of the calling
    /// worker, which drains its inbox itself. Returns an inbox that is over its bound, if there is one.
    pub(super) fn deliver(
        &self,
        broadcast: &Arc<Broadcast>,
        own: Option<&Table>,
    ) -> Option<Arc<Inbox>> {
        let mut congested = None;
        for inbox in self.members.inboxes() {
            let local = own.is_some_and(|table| Arc::ptr_eq(inbox, table.inbox()));
            if inbox.push(broadcast, local) {
                congested = Some(Arc::clone(inbox));
            }
        }
        congested
    }

    /// Holds a broadcast back until its message is committed. Returns an inbox that is over its bound, if
    /// there is one.
    pub(super) fn wait(&mut self, broadcast: Arc<Broadcast>) -> Option<Arc<Inbox>> {
        if let Some(log) = &mut self.log {
            log.wait(broadcast);
        }
        self.full_inbox()
    }

    /// An inbox of a member's worker that is over its bound.
    pub(super) fn full_inbox(&self) -> Option<Arc<Inbox>> {
        self.members
            .inboxes()
            .find(|inbox| inbox.is_full())
            .cloned()
    }

    /// The backlog of a new member; `None` without a log.
    ///
    /// # Errors
    /// If some missed messages are only in the database: the pager reads them.
    pub(super) fn backlog(&self, want: Want) -> Result<Option<Backlog>, Pager> {
        let Some(log) = &self.log else {
            return Ok(None);
        };
        match want {
            Want::Nothing => Ok(None),
            Want::History(limit) => Ok(Some(log.history(limit))),
            Want::Resume(last_seen, limit) => log.resume(last_seen, limit).map(Some),
        }
    }

    /// Like [`TopicLog::before`]; also `None` without a log.
    pub(super) fn before(&self, id: MessageId, limit: usize) -> Option<Older> {
        self.log.as_ref()?.before(id, limit)
    }

    pub(super) fn newest(&self, limit: usize) -> Option<Older> {
        self.log.as_ref().map(|log| log.newest(limit))
    }

    pub(super) fn find(&self, id: MessageId) -> Found {
        self.log.as_ref().map_or(Found::Nothing, |log| log.find(id))
    }

    /// Evicts the topic and ends the run of its log.
    pub(super) fn close_log(&mut self) {
        self.evicted = true;
        if let Some(log) = &self.log {
            log.close();
        }
    }

    /// The bytes of the log's tail.
    pub(super) fn log_bytes(&self) -> usize {
        self.log.as_ref().map_or(0, TopicLog::bytes)
    }

    /// The newest message that is not settled.
    pub(super) fn newest_unsettled(&self) -> Option<Seq> {
        self.log.as_ref()?.newest_unsettled(Seq::MAX)
    }

    /// Whether a message before this seq is not settled.
    pub(super) fn is_unsettled_before(&self, seq: Seq) -> bool {
        let log = self.log.as_ref();
        log.is_some_and(|log| log.newest_unsettled(seq).is_some())
    }
}

/// The inboxes of workers with members, and how many members each has. There are few workers, so a list
/// serves as a map.
#[derive(Default)]
pub(super) struct Members(Vec<(Arc<Inbox>, usize)>);

impl Members {
    pub(super) fn add(&mut self, inbox: &Arc<Inbox>) {
        match self
            .0
            .iter_mut()
            .find(|(known, _)| Arc::ptr_eq(known, inbox))
        {
            Some((_, count)) => *count += 1,
            None => self.0.push((Arc::clone(inbox), 1)),
        }
    }

    pub(super) fn remove(&mut self, inbox: &Arc<Inbox>) {
        if let Some(at) = self
            .0
            .iter()
            .position(|(known, _)| Arc::ptr_eq(known, inbox))
        {
            self.0[at].1 -= 1;
            if self.0[at].1 == 0 {
                self.0.swap_remove(at);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn inboxes(&self) -> impl Iterator<Item = &Arc<Inbox>> {
        self.0.iter().map(|(inbox, _)| inbox)
    }
}
