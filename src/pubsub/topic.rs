//! One topic's state, shared by all worker threads.

use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::OnceCell;

use super::log::{History, LoadError, LogRule, StoreFull, TopicLog};
use super::worker::Inbox;
use super::{PublishError, lock};
use crate::message::Payload;

/// A topic: its members by worker, and its log.
pub(crate) struct Topic {
    name: Arc<str>,
    rule: Option<Arc<LogRule>>,
    /// Filled once the log is in memory; a failed load leaves it empty for the next one to try.
    loaded: OnceCell<()>,
    state: Mutex<TopicState>,
}

/// What the critical section of `publish` protects.
pub(super) struct TopicState {
    /// Taken out of the registry: whoever still holds it must look the topic up again.
    pub(super) evicted: bool,
    pub(super) members: Members,
    log: Option<TopicLog>,
}

impl Topic {
    pub(super) fn new(name: Arc<str>, rule: Option<Arc<LogRule>>) -> Self {
        Self {
            name,
            rule,
            loaded: OnceCell::new(),
            state: Mutex::new(TopicState {
                evicted: false,
                members: Members::default(),
                log: None,
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
        self.rule.is_none() || self.loaded.initialized()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, TopicState> {
        lock(&self.state)
    }

    /// Reads the newest stored messages into the tail; concurrent callers wait for one read.
    pub(super) async fn load(&self) -> Result<(), LoadError> {
        let Some(rule) = &self.rule else {
            return Ok(());
        };
        self.loaded
            .get_or_try_init(async || {
                let log = TopicLog::load(&self.name, rule).await?;
                self.lock().log = Some(log);
                Ok(())
            })
            .await
            .copied()
    }
}

impl TopicState {
    /// Takes the next seq for an event that the rule stores, and hands the row to the store.
    pub(super) fn append(
        &mut self,
        topic: &Topic,
        event: &str,
        payload: &Payload,
    ) -> Result<(), PublishError> {
        let (true, Payload::Json(payload)) = (topic.stores(event), payload) else {
            return Ok(());
        };
        let log = self.log.as_mut().ok_or(PublishError::NotLoaded)?;
        log.append(event, payload)
            .map_err(|full: StoreFull| full.into())
    }

    /// The newest messages up to the head; `None` without a log.
    pub(super) fn history(&self) -> Option<History> {
        self.log.as_ref().map(TopicLog::history)
    }

    /// What the log holds in memory.
    pub(super) fn log_bytes(&self) -> usize {
        self.log.as_ref().map_or(0, TopicLog::bytes)
    }

    pub(super) fn has_uncommitted(&self) -> bool {
        self.log.as_ref().is_some_and(TopicLog::has_uncommitted)
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
