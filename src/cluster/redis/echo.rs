//! [`Echoes`]: finds out that this node's own messages do not come back. Then its subscriptions are on a
//! server to which nobody publishes.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// An own message that the server has taken and that has not arrived.
#[derive(Debug)]
struct Expected {
    topic: Arc<str>,
    /// When the publish was written.
    written: Instant,
    /// When it was answered.
    answered: Instant,
}

/// The echoes that have not arrived.
#[derive(Debug, Default)]
pub(super) struct Echoes {
    expected: HashMap<u64, Expected>,
    /// The nonces in the order of answers. Those that have arrived stay until they are the first.
    order: VecDeque<u64>,
}

impl Echoes {
    /// Expects the message `nonce`, which was written at `written` and is answered now.
    pub(super) fn expect(&mut self, nonce: u64, topic: Arc<str>, written: Instant) {
        let expected = Expected {
            topic,
            written,
            answered: Instant::now(),
        };
        self.expected.insert(nonce, expected);
        self.order.push_back(nonce);
        // Keeps the queue short between two looks at it.
        while let Some(first) = self.order.front()
            && !self.expected.contains_key(first)
        {
            self.order.pop_front();
        }
    }

    /// The message has arrived.
    pub(super) fn arrived(&mut self, nonce: u64) {
        self.expected.remove(&nonce);
    }

    /// Forgets the messages that are overdue, and says whether one of them is of a topic that was subscribed
    /// all the time.
    pub(super) fn is_late(
        &mut self,
        now: Instant,
        limit: Duration,
        was_subscribed_at: impl Fn(&str, Instant) -> bool,
    ) -> bool {
        let mut late = false;
        while let Some(nonce) = self.order.front() {
            if let Some(expected) = self.expected.get(nonce) {
                if now.saturating_duration_since(expected.answered) < limit {
                    break;
                }
                late |= was_subscribed_at(&expected.topic, expected.written);
            }
            self.expected.remove(nonce);
            self.order.pop_front();
        }
        late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_is_late_after_the_limit_only() {
        let limit = Duration::from_secs(2);
        let mut echoes = Echoes::default();
        let written = Instant::now();
        echoes.expect(1, "a".into(), written);
        echoes.expect(2, "a".into(), written);
        echoes.arrived(1);
        assert!(!echoes.is_late(Instant::now(), limit, |_, _| true));
        let later = Instant::now() + limit;
        assert!(echoes.is_late(later, limit, |topic, at| topic == "a" && at == written));
        assert!(!echoes.is_late(later, limit, |_, _| true));
        assert!(echoes.order.is_empty() && echoes.expected.is_empty());
    }

    #[test]
    fn a_topic_that_was_not_subscribed_all_the_time_has_no_late_echo() {
        let mut echoes = Echoes::default();
        echoes.expect(1, "a".into(), Instant::now());
        assert!(!echoes.is_late(Instant::now(), Duration::ZERO, |_, _| false));
    }
}
