//! Finds out what became of the publishes whose answers were lost with a connection.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};

use super::Shared;
use super::connection::Pair;
use super::error::ConnectError;
use super::publishing::Doubt;
use super::questions::Asking;
use super::reply::within;
use crate::cluster::bus::{Answer, Position};
use crate::cluster::counters::add;
use crate::cluster::wire;
use crate::lock::lock;
use crate::log::MessageId;

/// How many journals are read at once.
const AT_ONCE: usize = 64;

/// The publishes in doubt belong to a process of the server that is gone: nobody can know.
pub(super) fn give_up(shared: &Shared) {
    let in_doubt = lock(&shared.publishes).in_doubt();
    for doubt in in_doubt {
        unconfirmed(shared, doubt.nonce);
    }
}

/// Looks for the publishes in doubt in the journals. Each is answered then, or waits to be sent again. The
/// former connection must be killed before, and no row may be removed from a journal before.
pub(super) async fn settle(shared: &Shared, pair: &Pair) -> Result<(), ConnectError> {
    let in_doubt = lock(&shared.publishes).in_doubt();
    let mut by_topic: HashMap<Arc<str>, Vec<Doubt>> = HashMap::new();
    for doubt in in_doubt {
        let topic = Arc::clone(&doubt.publish.topic);
        by_topic.entry(topic).or_default().push(doubt);
    }
    let asking = &Asking::new(pair, shared.me);
    let limit = shared.options.timing.answer;
    stream::iter(by_topic)
        .map(async |(topic, doubts)| {
            let read = within(limit, asking.read(&topic)).await;
            let position = read.map_err(|error| ConnectError::refused("EVALSHA", error))?;
            Ok((position.flatten(), doubts))
        })
        .buffer_unordered(AT_ONCE)
        .try_for_each(async |(position, doubts)| {
            decide(shared, position, doubts);
            Ok(())
        })
        .await
}

/// Decides about the publishes in doubt of one topic.
fn decide(shared: &Shared, position: Option<Position>, doubts: Vec<Doubt>) {
    // Without a run the topic has no journal, and the publish will be told so when it is sent again.
    let own = position.map(|position| own_rows(shared, &position));
    let own = own.unwrap_or_default();
    for doubt in doubts {
        if let Some(id) = own.get(&doubt.nonce) {
            shared.answer(doubt.nonce, Answer::Taken(*id));
        } else if doubt.again {
            add(&shared.counters.resent, 1);
            lock(&shared.publishes).put_back(doubt.nonce);
        } else {
            unconfirmed(shared, doubt.nonce);
        }
    }
}

/// The ids of this node's messages in a journal, by nonce.
fn own_rows(shared: &Shared, position: &Position) -> HashMap<u64, MessageId> {
    let own = position.journal.iter().filter_map(|(seq, message)| {
        let header = wire::header(message).filter(|header| header.author == shared.me)?;
        Some((header.nonce, MessageId::new(position.epoch, *seq)))
    });
    own.collect()
}

/// Answers that nobody can know.
fn unconfirmed(shared: &Shared, nonce: u64) {
    add(&shared.counters.unconfirmed, 1);
    shared.answer(nonce, Answer::Unconfirmed);
}
