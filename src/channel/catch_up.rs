//! A resume whose missed messages begin in the database: they are read a page at a time and sent
//! at the pace of the client, and the channel goes live when it has reached what is in memory.
//!
//! The join is answered before this begins. Until it ends the channel's callbacks wait, so that
//! neither they nor anything live can come between what was missed.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;

use super::Channel;
use super::join::subscriber;
use super::link::Link;
use super::log::LogRequest;
use crate::pubsub::{LoadError, LogEntry, MessageId, Pager, PubSub, Subscribed, Topic, Want};
use crate::serializer::EncodeError;

/// Where a resume begins.
pub(super) struct Behind {
    pub(super) topic: Arc<Topic>,
    pub(super) cursor: MessageId,
    pub(super) pager: Pager,
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
}

/// Sends what was missed, and makes the channel a member of its topic.
pub(super) async fn catch_up<C: Channel>(
    link: Rc<Link>,
    pubsub: PubSub,
    log: LogRequest,
    behind: Behind,
) -> Result<(), CatchUpError> {
    let Behind {
        mut topic,
        mut cursor,
        mut pager,
    } = behind;
    loop {
        let page = pager.page(cursor.seq).await?;
        // Retention deletes what it has announced before.
        if topic.is_pruned_after(cursor.seq) {
            return Err(CatchUpError::Lost);
        }
        // A message that is committed but not shown yet will come live.
        let shown = topic.shown();
        let due = page.iter().take_while(|entry| entry.seq() <= shown);
        let sent = send(due, &link, &log).await?;
        // Where nothing is left to read, everything below the tail is gone or was sent.
        cursor.seq = sent.unwrap_or(cursor.seq.max(pager.floor()));
        let subscriber = subscriber::<C>(&link, log.meta);
        match pubsub.subscribe(&topic, subscriber, Want::Resume(cursor, Some(0))) {
            Some(Subscribed::Live(subscription, Some(backlog))) if backlog.resumed => {
                log.push_each(&backlog.entries, &link)?;
                link.attach(subscription);
                return Ok(());
            }
            Some(Subscribed::Live(..)) => return Err(CatchUpError::Lost),
            Some(Subscribed::Behind(next)) => pager = next,
            // The topic was given up meanwhile: nobody was in it.
            None => {
                topic = pubsub.topic(&link.topic);
                topic.load().await?;
            }
        }
    }
}

/// Sends messages as the outbox has room for them. Returns the seq of the last one.
async fn send(
    entries: impl Iterator<Item = &Arc<LogEntry>>,
    link: &Link,
    log: &LogRequest,
) -> Result<Option<i64>, CatchUpError> {
    let mut last = None;
    for entry in entries {
        poll_fn(|cx| link.outbox.poll_room_for_replay(cx)).await;
        log.push_each(std::slice::from_ref(entry), link)?;
        last = Some(entry.seq());
    }
    Ok(last)
}
