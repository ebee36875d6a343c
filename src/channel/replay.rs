//! Stored messages of intercepted events, on their way to one client: they go through the channel, as live ones do,
//! so that a history does not show what `handle_out` would change or hide.

use std::sync::Arc;

use super::callback::Live;
use super::history::LogRequest;
use super::{Channel, StopReason};
use crate::log::LogEntry;
use crate::message::RawJson;
use crate::pubsub::{Broadcast, Topic};

/// Whether a message goes through the channel.
pub(super) fn intercepts<C: Channel>(entry: &LogEntry) -> bool {
    C::intercept().contains(&entry.event())
}

/// Gives a message to the channel, which pushes it in the form that the client may see.
///
/// # Errors
/// If the channel stops.
pub(super) async fn replay<C: Channel>(
    live: &mut Live<C>,
    topic: &Arc<Topic>,
    entry: &LogEntry,
) -> Result<(), StopReason> {
    let Live { channel, ctx } = live;
    let Some(channel) = channel else {
        // Nothing is replayed before the join has made it.
        return Ok(());
    };
    let broadcast = Arc::new(Broadcast::of_entry(topic, entry));
    ctx.passing = Some(Arc::clone(&broadcast));
    let handled = channel.handle_replay(broadcast, ctx).await;
    ctx.passing = None;
    handled
}

/// The payloads of messages; for intercepted ones the channel's pushes.
///
/// # Errors
/// If the channel stops.
pub(super) async fn list<C: Channel>(
    live: &mut Live<C>,
    log: &LogRequest,
    topic: &Arc<Topic>,
    entries: &[Arc<LogEntry>],
) -> Result<Vec<RawJson>, StopReason> {
    let mut list = Vec::with_capacity(entries.len());
    for entry in entries {
        if intercepts::<C>(entry) {
            live.ctx.seldom.begin_list();
            let replayed = replay(live, topic, entry).await;
            list.extend(live.ctx.seldom.take_list().unwrap_or_default());
            replayed?;
        } else {
            list.extend(log.item(entry));
        }
    }
    Ok(list)
}
