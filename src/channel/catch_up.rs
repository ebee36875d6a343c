//! [`CatchUp`]: the missed messages between the answer to a join and the moment its channel goes live, if that
//! takes time: missed messages that begin in the database, read a page at a time and sent at the pace of the client,
//! and messages that the channel intercepts.
//!
//! The join is answered before. The channel's callbacks wait until the end, so that neither they nor live messages
//! come between.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;

use super::callback::SharedLive;
use super::history::{HistoryForm, LogRequest};
use super::join::subscriber;
use super::link::Link;
use super::replay::{self, intercepts, replay};
use super::{Channel, StopReason};
use crate::log::{Backlog, LoadError, LogEntry, MessageId, Pager, Seq};
use crate::message::{Payload, RawJson};
use crate::pubsub::{PubSub, Subscribed, Topic, Want};
use crate::serializer::EncodeError;

/// A channel that is not live yet.
pub(super) struct Behind {
    pub(super) topic: Arc<Topic>,
    /// The client has every message up to this one.
    pub(super) cursor: MessageId,
    pub(super) next: Missed,
}

/// The next messages of the client.
pub(super) enum Missed {
    /// Pages of the database.
    Pages(Pager),
    /// Entries of the log, some of which the channel intercepts; with the list of the join's reply, if the history
    /// has that form.
    Backlog(Backlog, Option<Vec<RawJson>>),
}

impl Behind {
    /// The join reply, with what the log adds to it.
    pub(super) fn reply(&self, log: &LogRequest, reply: Payload) -> Payload {
        match &self.next {
            Missed::Pages(_) => log.reply(reply, Some(&Backlog::resumed()), None),
            Missed::Backlog(backlog, list) => log.reply(reply, Some(backlog), list.as_deref()),
        }
    }
}

/// Why a resume failed. The client joins again, from the last message it has.
#[derive(Debug, thiserror::Error)]
pub(super) enum CatchUpError {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Encode(#[from] EncodeError),
    #[error("messages that were to be sent are gone")]
    Pruned,
    #[error("the channel stopped")]
    Stopped(StopReason),
}

impl CatchUpError {
    /// Why the channel ends.
    pub(super) fn into_reason(self) -> StopReason {
        match self {
            Self::Stopped(reason) => reason,
            error => error.into(),
        }
    }
}

/// Sends the missed messages, and makes the channel a member of its topic.
pub(super) struct CatchUp<C: Channel> {
    pub(super) live: SharedLive<C>,
    pub(super) link: Rc<Link>,
    pub(super) pubsub: PubSub,
    pub(super) log: LogRequest,
}

impl<C: Channel> CatchUp<C> {
    pub(super) async fn run(self, behind: Behind) -> Result<(), CatchUpError> {
        let Behind {
            mut topic,
            mut cursor,
            mut next,
        } = behind;
        loop {
            match next {
                Missed::Pages(pager) => cursor = self.page(&topic, cursor.seq, pager).await?,
                Missed::Backlog(backlog, _) => {
                    self.backlog(&topic, &backlog).await?;
                    cursor = backlog.head.unwrap_or(cursor);
                }
            }
            let subscriber = subscriber::<C>(&self.link, self.log.meta);
            let want = Want::Resume(cursor, Some(0));
            next = match self.pubsub.subscribe(&topic, subscriber, want) {
                Some(Subscribed::Live(subscription, Some(backlog))) if backlog.resumed => {
                    if !backlog.entries.iter().any(|entry| intercepts::<C>(entry)) {
                        self.log.push_each(&backlog.entries, true, &self.link)?;
                        self.link.attach(subscription);
                        return Ok(());
                    }
                    // More was published meanwhile, for callbacks that may take time.
                    drop(subscription);
                    Missed::Backlog(backlog, None)
                }
                Some(Subscribed::Live(..)) => return Err(CatchUpError::Pruned),
                Some(Subscribed::Behind(pager)) => Missed::Pages(pager),
                // The topic was evicted meanwhile: it had no members.
                None => {
                    topic = self.pubsub.topic(self.link.topic());
                    topic.load().await?;
                    Missed::Backlog(Backlog::resumed(), None)
                }
            };
        }
    }

    /// Sends a page of the database. Returns the last message that the client has now.
    async fn page(
        &self,
        topic: &Arc<Topic>,
        after: Seq,
        pager: Pager,
    ) -> Result<MessageId, CatchUpError> {
        let page = pager.page(after).await?;
        // Retention announces before it deletes.
        if topic.is_pruned_after(after) {
            return Err(CatchUpError::Pruned);
        }
        let mut last = None;
        for entry in &page {
            self.send(topic, entry, true).await?;
            last = Some(entry.seq());
        }
        // An empty page: every message below the tail was sent or is gone.
        Ok(pager.id_of(last.unwrap_or(after.max(pager.floor()))))
    }

    /// Sends entries of the log, in the form that the client wants.
    async fn backlog(&self, topic: &Arc<Topic>, backlog: &Backlog) -> Result<(), CatchUpError> {
        match self.log.form(backlog) {
            HistoryForm::Each => {
                for entry in &backlog.entries {
                    self.send(topic, entry, backlog.resumed).await?;
                }
            }
            HistoryForm::List => {
                let list = self.list(topic, &backlog.entries).await?;
                self.log.push_list(&list, &self.link)?;
            }
            HistoryForm::Nothing | HistoryForm::Reply => {}
        }
        Ok(())
    }

    #[expect(clippy::await_holding_refcell_ref, reason = "as in callback::callback")]
    async fn list(
        &self,
        topic: &Arc<Topic>,
        entries: &[Arc<LogEntry>],
    ) -> Result<Vec<RawJson>, CatchUpError> {
        let live = &mut *self.live.borrow_mut();
        let list = replay::list(live, &self.log, topic, entries).await;
        list.map_err(CatchUpError::Stopped)
    }

    /// Sends a message as soon as the outbox has room for it.
    #[expect(clippy::await_holding_refcell_ref, reason = "as in callback::callback")]
    async fn send(
        &self,
        topic: &Arc<Topic>,
        entry: &Arc<LogEntry>,
        resumed: bool,
    ) -> Result<(), CatchUpError> {
        poll_fn(|cx| self.link.outbox.poll_room_for_replay(cx)).await;
        if intercepts::<C>(entry) {
            let live = &mut *self.live.borrow_mut();
            let replayed = replay(live, topic, entry).await;
            replayed.map_err(CatchUpError::Stopped)
        } else {
            let entry = std::slice::from_ref(entry);
            Ok(self.log.push_each(entry, resumed, &self.link)?)
        }
    }
}
