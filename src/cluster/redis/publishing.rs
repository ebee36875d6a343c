//! [`Publishes`]: the publishes that have no answer yet.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::echo::Echoes;
use crate::cluster::counters::Waiting;
use crate::log::MessageId;

/// What is to be published.
#[derive(Debug)]
pub(super) struct Publish {
    /// The topic.
    pub(super) topic: Arc<str>,
    /// The header and the body.
    pub(super) message: Bytes,
    /// The client's name for the message.
    pub(super) client_ref: Option<Box<str>>,
    /// Whether the journal keeps it.
    pub(super) journal: bool,
}

/// A publish without an answer.
#[derive(Debug)]
struct Entry {
    publish: Arc<Publish>,
    /// The place in the order of calls.
    order: u64,
    /// Whether it was written to the connection.
    written: bool,
    /// Its id, if it has arrived from the server before the answer.
    echo: Option<MessageId>,
    /// Whether the journal may have lost it: the server has lost data, or other nodes have taken this one for
    /// dead and emptied the journal.
    unsure: bool,
    /// Whether the caller waits no longer.
    forgotten: bool,
    _waiting: Waiting,
}

/// A publish that was written to a connection which is lost.
#[derive(Debug)]
pub(super) struct Doubt {
    /// The number of the message.
    pub(super) nonce: u64,
    /// What was published.
    pub(super) publish: Arc<Publish>,
    /// Whether it may be sent again if the journal does not have it.
    pub(super) again: bool,
}

/// A publish that has got its answer.
#[derive(Debug)]
pub(super) struct Ended {
    /// What was published.
    pub(super) publish: Arc<Publish>,
    /// Whether it has arrived from the server.
    pub(super) echoed: bool,
}

/// The publishes that have no answer yet, by nonce; and the echoes of the others that are expected.
#[derive(Debug, Default)]
pub(super) struct Publishes {
    entries: HashMap<u64, Entry>,
    calls: u64,
    /// Echoes that are expected after the answer.
    pub(super) echoes: Echoes,
}

impl Publishes {
    /// Adds a publish. Its nonce must not be that of another one without an answer.
    pub(super) fn add(&mut self, nonce: u64, publish: Publish, waiting: Waiting) {
        self.calls += 1;
        let entry = Entry {
            publish: Arc::new(publish),
            order: self.calls,
            written: false,
            echo: None,
            unsure: false,
            forgotten: false,
            _waiting: waiting,
        };
        let replaced = self.entries.insert(nonce, entry);
        debug_assert!(replaced.is_none(), "nonce {nonce} is outstanding twice");
    }

    /// The caller waits no longer. `true`: the publish was not written, and is gone.
    pub(super) fn forget(&mut self, nonce: u64) -> bool {
        match self.entries.get_mut(&nonce) {
            Some(entry) if entry.written => {
                entry.forgotten = true;
                false
            }
            Some(_) => self.entries.remove(&nonce).is_some(),
            None => false,
        }
    }

    /// The publish, if it is to be written now.
    pub(super) fn write(&mut self, nonce: u64) -> Option<Arc<Publish>> {
        let entry = self.entries.get_mut(&nonce)?;
        let first = !std::mem::replace(&mut entry.written, true);
        first.then(|| Arc::clone(&entry.publish))
    }

    /// All publishes that are to be written now, in the order of calls.
    pub(super) fn write_all(&mut self) -> Vec<(u64, Arc<Publish>)> {
        let mut all = self.in_order(|entry| !entry.written);
        all.retain(|(nonce, _)| self.write(*nonce).is_some());
        all
    }

    /// The server has not executed the publish: it is to be written again.
    pub(super) fn put_back(&mut self, nonce: u64) {
        if let Some(entry) = self.entries.get_mut(&nonce) {
            entry.written = false;
        }
    }

    /// Ends a publish, because it has its answer now; `None` if it had one.
    pub(super) fn end(&mut self, nonce: u64) -> Option<Ended> {
        let entry = self.entries.remove(&nonce)?;
        Some(Ended {
            publish: entry.publish,
            echoed: entry.echo.is_some(),
        })
    }

    /// An own message has arrived.
    pub(super) fn echoed(&mut self, nonce: u64, id: MessageId) {
        match self.entries.get_mut(&nonce) {
            Some(entry) => entry.echo = Some(id),
            None => self.echoes.arrived(nonce),
        }
    }

    /// The publishes that were written and have arrived: they are taken, whatever happens to the answer.
    pub(super) fn arrived(&self) -> Vec<(u64, MessageId)> {
        let arrived = |(nonce, entry): (&u64, &Entry)| Some((*nonce, entry.echo?));
        self.entries.iter().filter_map(arrived).collect()
    }

    /// The publishes in doubt, in the order of calls.
    pub(super) fn in_doubt(&self) -> Vec<Doubt> {
        let in_doubt = self.in_order(|entry| entry.written);
        let doubt = |(nonce, publish)| {
            let entry = self.entries.get(&nonce)?;
            Some(Doubt {
                nonce,
                publish,
                again: !entry.unsure && !entry.forgotten,
            })
        };
        in_doubt.into_iter().filter_map(doubt).collect()
    }

    /// From now on a journal without one of the written publishes proves nothing.
    pub(super) fn make_unsure(&mut self) {
        for entry in self.entries.values_mut() {
            entry.unsure |= entry.written;
        }
    }

    /// The connection is lost: no echo is expected any more. Returns how many publishes are in doubt.
    pub(super) fn lost(&mut self) -> usize {
        self.echoes = Echoes::default();
        self.entries.values().filter(|entry| entry.written).count()
    }

    /// Expects the echo of a publish that was written at `written` and has its answer.
    pub(super) fn expect_echo(&mut self, nonce: u64, topic: &Arc<str>, written: Instant) {
        self.echoes.expect(nonce, Arc::clone(topic), written);
    }

    /// The publishes that `which` chooses, in the order of calls.
    fn in_order(&self, which: impl Fn(&Entry) -> bool) -> Vec<(u64, Arc<Publish>)> {
        let chosen = self.entries.iter().filter(|(_, entry)| which(entry));
        let mut chosen: Vec<_> = chosen
            .map(|(nonce, entry)| (entry.order, *nonce, Arc::clone(&entry.publish)))
            .collect();
        chosen.sort_unstable_by_key(|(order, ..)| *order);
        let without_order = |(_, nonce, publish)| (nonce, publish);
        chosen.into_iter().map(without_order).collect()
    }
}
