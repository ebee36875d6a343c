//! One topic's state, shared by all worker threads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::OnceCell;

use super::log::{
    Appended, Backlog, Found, LoadError, LogRule, Older, Outcome, Pager, RecentRefs, TopicLog,
};
use super::worker::{Inbox, Table};
use super::{Broadcast, Draft, MessageId, PublishError, Want, lock};
use crate::message::Payload;

/// A topic: its members by worker, and its log.
pub(crate) struct Topic {
    name: Arc<str>,
    rule: Option<Arc<LogRule>>,
    refs: Arc<RecentRefs>,
    /// Set once the log is open; a failed opening leaves it empty for the next one to try.
    opened: OnceCell<()>,
    /// Whether the log has in memory what belongs there.
    filled: AtomicBool,
    state: Mutex<TopicState>,
}

/// What the critical section of `publish` protects.
pub(super) struct TopicState {
    /// Taken out of the registry: whoever still holds it must look the topic up again.
    pub(super) evicted: bool,
    pub(super) members: Members,
    /// Erasures under way: the log must not be given up until they have ended.
    pub(super) erasures: usize,
    log: Option<TopicLog>,
    /// Messages up to this seq may be gone; for a log that is being loaded meanwhile.
    pruned_through: i64,
}

impl Topic {
    /// `refs` are those of all topics.
    pub(super) fn new(name: Arc<str>, rule: Option<Arc<LogRule>>, refs: Arc<RecentRefs>) -> Self {
        Self {
            name,
            rule,
            refs,
            opened: OnceCell::new(),
            filled: AtomicBool::new(false),
            state: Mutex::new(TopicState {
                evicted: false,
                members: Members::default(),
                erasures: 0,
                log: None,
                pruned_through: 0,
            }),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn shared_name(&self) -> &Arc<str> {
        &self.name
    }

    pub(super) fn has_log(&self) -> bool {
        self.rule.is_some()
    }

    /// Whether broadcasts of this event are stored.
    pub(super) fn stores(&self, event: &str) -> bool {
        self.rule.as_ref().is_some_and(|rule| rule.stores(event))
    }

    /// Whether nothing has to be waited for before a join.
    pub(crate) fn is_loaded(&self) -> bool {
        self.rule.is_none() || self.filled.load(Ordering::Acquire)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, TopicState> {
        lock(&self.state)
    }

    /// Opens the log, if there is one and it is not open yet, and reads what belongs into memory;
    /// concurrent callers wait for one opening.
    ///
    /// An open log that cannot be read now does with what came since: the next caller tries again.
    pub(crate) async fn load(self: &Arc<Self>) -> Result<(), LoadError> {
        let Some(rule) = &self.rule else {
            return Ok(());
        };
        self.opened
            .get_or_try_init(async || {
                let (owner, refs) = (Arc::downgrade(self), Arc::clone(&self.refs));
                let mut log = TopicLog::open(&self.name, owner, rule, refs).await?;
                let mut state = self.lock();
                log.prune(state.pruned_through);
                state.log = Some(log);
                Ok(())
            })
            .await?;
        if self.is_loaded() {
            return Ok(());
        }
        match rule.newest(&self.name).await {
            Ok(newest) => {
                let mut state = self.lock();
                // Retention may have deleted what was still read.
                let pruned_through = state.pruned_through;
                if let Some(log) = &mut state.log {
                    log.fill(newest);
                    log.prune(pruned_through);
                }
                // Still locked: a publisher may empty the tail again.
                self.filled.store(true, Ordering::Release);
            }
            Err(error) => {
                tracing::warn!(%error, source = ?error.source, "pubsub.log.unread");
                if let Some(log) = &mut self.lock().log {
                    log.do_without();
                }
            }
        }
        Ok(())
    }

    /// The store has settled a message that members wait for, or that it will not store. Called on
    /// the store's thread.
    pub(super) fn settled(&self, epoch: i64, seq: i64, outcome: Outcome) {
        let mut state = self.lock();
        let due = state
            .log
            .as_mut()
            .and_then(|log| log.settled(epoch, seq, outcome));
        if let Some(broadcast) = due {
            // Publishers wait for a full inbox when they publish the next message.
            state.deliver(&broadcast, None);
        }
    }

    /// Messages up to this seq may be gone from the store.
    pub(super) fn prune(&self, through: i64) {
        let mut state = self.lock();
        state.pruned_through = state.pruned_through.max(through);
        if let Some(log) = &mut state.log {
            log.prune(through);
        }
    }

    /// Takes the next seq for an erasure. `None` when the topic was given up, or has no log.
    pub(super) fn begin_erasure(&self) -> Option<MessageId> {
        let mut state = self.lock();
        if state.evicted {
            return None;
        }
        let id = state.log.as_mut()?.begin_erasure();
        state.erasures += 1;
        Some(id)
    }

    pub(super) fn end_erasure(&self) {
        self.lock().erasures -= 1;
    }

    /// An erasure is done: its seq is one that clients may have.
    pub(super) fn erased(&self, seq: i64) {
        if let Some(log) = &mut self.lock().log {
            log.erased(seq);
        }
    }

    /// Whether messages after this one may be gone from the store.
    pub(crate) fn is_pruned_after(&self, seq: i64) -> bool {
        let state = self.lock();
        state
            .log
            .as_ref()
            .is_some_and(|log| log.is_pruned_after(seq))
    }

    /// The id by which clients know a stored message.
    pub(super) fn id_of(&self, seq: i64) -> Option<MessageId> {
        self.lock().log.as_ref().map(|log| log.id_of(seq))
    }

    /// These messages are gone from the store.
    pub(super) fn erase(&self, seqs: &[i64]) {
        if let Some(log) = &mut self.lock().log {
            log.erase(seqs);
        }
    }
}

impl TopicState {
    /// Takes the next seq for a message that the rule stores, and hands the row to the store.
    /// `None` for one that is not stored.
    pub(super) fn append(
        &mut self,
        topic: &Topic,
        draft: &Draft,
    ) -> Result<Option<Appended>, PublishError> {
        let stored = draft.change.is_some() || topic.stores(&draft.event);
        let (true, Payload::Json(payload)) = (stored, &draft.payload) else {
            return Ok(None);
        };
        let log = self.log.as_mut().ok_or(PublishError::NotLoaded)?;
        let appended = log.append(draft, payload)?;
        if log.is_shed() {
            topic.filled.store(false, Ordering::Release);
        }
        Ok(Some(appended))
    }

    /// Whether the log must be filled again before it can give a new member what it wants.
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

    /// Puts a broadcast into the inbox of every worker that has members; `own` is the table of the
    /// worker that runs this, and drains itself. Returns an inbox that is over its bound.
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

    /// Keeps a broadcast until its message is committed. Returns an inbox that is over its bound.
    pub(super) fn wait(&mut self, broadcast: Arc<Broadcast>) -> Option<Arc<Inbox>> {
        if let Some(log) = &mut self.log {
            log.wait(broadcast);
        }
        self.members
            .inboxes()
            .find(|inbox| inbox.is_full())
            .cloned()
    }

    /// What a new member gets of the log; `None` without one. How to go on when what it missed
    /// begins in the database.
    pub(super) fn backlog(&self, want: Want) -> Result<Option<Backlog>, Pager> {
        let Some(log) = &self.log else {
            return Ok(None);
        };
        match want {
            Want::Nothing => Ok(None),
            Want::History(limit) => Ok(Some(log.history(limit))),
            Want::Resume(last_seen, limit) => match log.resume(last_seen, limit) {
                Some(backlog) => Ok(Some(backlog)),
                None => Err(log.pager()),
            },
        }
    }

    /// As the log's. `None` also without one.
    pub(super) fn before(&self, id: MessageId, limit: usize) -> Option<Older> {
        self.log.as_ref()?.before(id, limit)
    }

    pub(super) fn find(&self, id: MessageId) -> Found {
        self.log.as_ref().map_or(Found::Nothing, |log| log.find(id))
    }

    /// The topic is given up: ends the run of its log.
    pub(super) fn close_log(&mut self) {
        self.evicted = true;
        if let Some(log) = &self.log {
            log.close();
        }
    }

    /// What the log holds in memory.
    pub(super) fn log_bytes(&self) -> usize {
        self.log.as_ref().map_or(0, TopicLog::bytes)
    }

    /// The newest message whose row is not settled.
    pub(super) fn newest_unsettled(&self) -> Option<i64> {
        self.log.as_ref()?.newest_unsettled(i64::MAX)
    }

    /// Whether the row of a message before this seq is not settled.
    pub(super) fn is_unsettled_before(&self, seq: i64) -> bool {
        let log = self.log.as_ref();
        log.is_some_and(|log| log.newest_unsettled(seq).is_some())
    }
}

/// The workers that have members, with their number. There are as many as workers at most, so a
/// list is the right map.
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
