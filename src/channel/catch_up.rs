//! What a client gets between the answer to its join and the moment its channel goes live, where
//! that takes time: a resume whose missed messages begin in the database, which are read a page at
//! a time and sent at the pace of the client; and messages that the channel intercepts.
//!
//! The join is answered before this begins. Until it ends the channel's callbacks wait, so that
//! neither they nor anything live can come between what was missed.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;

use super::callback::Shared;
use super::join::subscriber;
use super::link::Link;
use super::log::{Form, LogRequest};
use super::replay::{self, intercepts, replay};
use super::{Channel, StopReason};
use crate::message::{Payload, RawJson};
use crate::pubsub::{
    Backlog, LoadError, LogEntry, MessageId, Pager, PubSub, Subscribed, Topic, Want,
};
use crate::serializer::EncodeError;

/// Where a channel stands that is not live yet.
pub(super) struct Behind {
    pub(super) topic: Arc<Topic>,
    /// The message after which the client gets what it has not got.
    pub(super) cursor: MessageId,
    pub(super) next: Next,
}

/// What the client gets next.
pub(super) enum Next {
    /// What is read from the database.
    Pages(Pager),
    /// What the log gave, which the channel intercepts; with the list that stands in the join's
    /// reply, if that is its form.
    Backlog(Backlog, Option<Vec<RawJson>>),
}

impl Behind {
    /// The join reply that says what the client gets.
    pub(super) fn reply(&self, log: &LogRequest, reply: Payload) -> Payload {
        match &self.next {
            Next::Pages(_) => log.reply(reply, Some(&Backlog::resumed()), None),
            Next::Backlog(backlog, list) => log.reply(reply, Some(backlog), list.as_deref()),
        }
    }
}

/// Why a resume came to an early end. The client joins again, and begins where it has come to.
#[derive(Debug, thiserror::Error)]
pub(super) enum CatchUpError {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Encode(#[from] EncodeError),
    #[error("messages that were to be sent are gone")]
    Lost,
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

/// Sends what was missed, and makes the channel a member of its topic.
pub(super) struct CatchUp<C: Channel> {
    pub(super) live: Shared<C>,
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
                Next::Pages(pager) => cursor = self.page(&topic, cursor.seq, pager).await?,
                Next::Backlog(backlog, _) => {
                    self.backlog(&topic, &backlog).await?;
                    cursor = backlog.head.unwrap_or(cursor);
                }
            }
            let subscriber = subscriber::<C>(&self.link, self.log.meta);
            let want = Want::Resume(cursor, Some(0));
            next = match self.pubsub.subscribe(&topic, subscriber, want) {
                Some(Subscribed::Live(subscription, Some(backlog))) if backlog.resumed => {
                    if !backlog.entries.iter().any(|entry| intercepts::<C>(entry)) {
                        self.log.push_each(&backlog.entries, &self.link)?;
                        self.link.attach(subscription);
                        return Ok(());
                    }
                    // More has come meanwhile, and the channel may take its time with it.
                    drop(subscription);
                    Next::Backlog(backlog, None)
                }
                Some(Subscribed::Live(..)) => return Err(CatchUpError::Lost),
                Some(Subscribed::Behind(pager)) => Next::Pages(pager),
                // The topic was given up meanwhile: nobody was in it.
                None => {
                    topic = self.pubsub.topic(&self.link.topic);
                    topic.load().await?;
                    Next::Backlog(Backlog::resumed(), None)
                }
            };
        }
    }

    /// Sends a page of the database. Returns up to where the client has everything.
    async fn page(
        &self,
        topic: &Arc<Topic>,
        after: i64,
        pager: Pager,
    ) -> Result<MessageId, CatchUpError> {
        let page = pager.page(after).await?;
        // Retention deletes what it has announced before.
        if topic.is_pruned_after(after) {
            return Err(CatchUpError::Lost);
        }
        let mut last = None;
        for entry in &page {
            self.send(topic, entry).await?;
            last = Some(entry.seq());
        }
        // Where nothing is left to read, everything below the tail is gone or was sent.
        Ok(pager.id_of(last.unwrap_or(after.max(pager.floor()))))
    }

    /// Sends what the log gave, in the form that the client wants.
    async fn backlog(&self, topic: &Arc<Topic>, backlog: &Backlog) -> Result<(), CatchUpError> {
        match self.log.form(backlog) {
            Form::Each => {
                for entry in &backlog.entries {
                    self.send(topic, entry).await?;
                }
            }
            Form::List => {
                let list = self.list(topic, &backlog.entries).await?;
                self.log.push_list(&list, &self.link)?;
            }
            Form::Nothing | Form::Reply => {}
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
    async fn send(&self, topic: &Arc<Topic>, entry: &Arc<LogEntry>) -> Result<(), CatchUpError> {
        poll_fn(|cx| self.link.outbox.poll_room_for_replay(cx)).await;
        if intercepts::<C>(entry) {
            let live = &mut *self.live.borrow_mut();
            let replayed = replay(live, topic, entry).await;
            replayed.map_err(CatchUpError::Stopped)
        } else {
            let entry = std::slice::from_ref(entry);
            Ok(self.log.push_each(entry, &self.link)?)
        }
    }
}
