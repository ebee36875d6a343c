//! [`Recent`]: the messages of other nodes that were shown lately.

use std::collections::VecDeque;
use std::time::Duration;

use crate::log::MessageId;

/// How long a message is kept. Longer than it takes to notice that its author has died, and to store its
/// messages from the journal.
const WINDOW: Duration = Duration::from_secs(15);

/// The most messages that are kept.
const MAX_MESSAGES: usize = 10_000;

/// The messages of other nodes that were shown in the last 15 seconds; the newest 10,000 of them. Their
/// authors have stored all earlier ones.
#[derive(Debug)]
pub(super) struct Recent<M>(VecDeque<(Duration, MessageId, M)>);

impl<M> Default for Recent<M> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<M> Recent<M> {
    /// Adds a message that is shown now.
    pub(super) fn push(&mut self, id: MessageId, message: M, now: Duration) {
        self.expire(now);
        if self.0.len() >= MAX_MESSAGES {
            self.0.pop_front();
        }
        self.0.push_back((now, id, message));
    }

    /// Removes what is too old.
    pub(super) fn expire(&mut self, now: Duration) {
        let is_old = |at: Duration| now.saturating_sub(at) > WINDOW;
        while self.0.front().is_some_and(|(at, ..)| is_old(*at)) {
            self.0.pop_front();
        }
    }

    /// Removes and returns all, oldest first.
    pub(super) fn take(&mut self) -> Vec<(MessageId, M)> {
        let messages = self.0.drain(..);
        messages.map(|(_, id, message)| (id, message)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Epoch, Seq};

    fn id(seq: i64) -> MessageId {
        MessageId::new(Epoch::new(1), Seq::new(seq))
    }

    #[test]
    fn messages_leave_after_the_window() {
        let (mut recent, at) = (Recent::default(), Duration::from_secs);
        recent.push(id(1), 'a', at(0));
        recent.push(id(2), 'b', at(10));
        recent.push(id(3), 'c', at(15));
        assert_eq!(recent.0.len(), 3);
        recent.expire(at(25));
        assert_eq!(recent.take(), [(id(2), 'b'), (id(3), 'c')]);
        assert_eq!(recent.take(), []);
    }

    #[test]
    fn the_oldest_leave_at_the_bound() {
        let mut recent = Recent::default();
        for seq in 0..=MAX_MESSAGES as i64 {
            recent.push(id(seq), (), Duration::ZERO);
        }
        assert_eq!(recent.0.len(), MAX_MESSAGES);
        assert_eq!(recent.take().first(), Some(&(id(1), ())));
    }
}
