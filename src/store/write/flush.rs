//! [`FlushCallers`]: callers that wait until all rows are saved.

use tokio::sync::oneshot;

#[derive(Default)]
pub(in crate::store) struct FlushCallers {
    /// Callers that wait until everything is committed.
    for_commit: Vec<oneshot::Sender<()>>,
    /// Callers that wait until everything is committed or safe in the spool.
    for_spool: Vec<oneshot::Sender<()>>,
}

impl FlushCallers {
    /// A caller of a flush; the answer comes through the receiver.
    pub(in crate::store) fn add(&mut self) -> oneshot::Receiver<()> {
        let (caller, answered) = oneshot::channel();
        self.for_commit.push(caller);
        answered
    }

    pub(in crate::store) fn is_empty(&self) -> bool {
        self.for_commit.is_empty() && self.for_spool.is_empty()
    }

    /// Whether a caller waits for the commit, and the spool is not enough.
    pub(in crate::store) fn need_commit(&self) -> bool {
        !self.for_commit.is_empty()
    }

    /// The database is unreachable: the spool is enough.
    pub(in crate::store) fn accept_spool(&mut self) {
        self.for_spool.append(&mut self.for_commit);
    }

    /// Everything is committed.
    pub(in crate::store) fn answer_all(&mut self) {
        self.accept_spool();
        self.answer_spooled();
    }

    /// Everything is safe in the spool.
    pub(in crate::store) fn answer_spooled(&mut self) {
        for caller in self.for_spool.drain(..) {
            // A caller that has given up needs no answer.
            let _ = caller.send(());
        }
    }
}
