//! [`Topic`]: what was published, and [`Track`]: what a client has received of it. Pure.

/// A topic of the load.
pub(super) struct Topic {
    pub(super) name: String,
    pub(super) publishers: Vec<Publisher>,
    /// The publisher of the last message.
    pub(super) turn: usize,
}

/// A client that publishes.
pub(super) struct Publisher {
    /// Its place among all clients.
    pub(super) client: usize,
    /// Messages that it has sent.
    pub(super) sent: u32,
    /// Messages that the server has refused.
    pub(super) refused: u32,
    /// The number behind the highest that anybody has received.
    pub(super) received: u32,
    /// Whether its connection is open.
    pub(super) is_open: bool,
}

impl Publisher {
    pub(super) fn new(client: usize) -> Self {
        Self {
            client,
            sent: 0,
            refused: 0,
            received: 0,
            is_open: true,
        }
    }

    /// The messages that each member has to receive. The last ones of a closed connection may not have reached the
    /// server.
    fn due(&self) -> u64 {
        let sent = if self.is_open {
            self.sent
        } else {
            self.received
        };
        u64::from(sent.saturating_sub(self.refused))
    }
}

impl Topic {
    /// The messages that a member has to receive. `others`: a publisher does not receive its own.
    pub(super) fn due(&self, client: usize, others: bool) -> u64 {
        let publishers = self.publishers.iter();
        publishers
            .filter(|publisher| !others || publisher.client != client)
            .map(Publisher::due)
            .sum()
    }

    /// The next publisher whose connection is open.
    pub(super) fn next(&mut self) -> Option<usize> {
        let count = self.publishers.len();
        for _ in 0..count {
            self.turn = (self.turn + 1) % count;
            if self.publishers[self.turn].is_open {
                return Some(self.turn);
            }
        }
        None
    }
}

/// What a client has received from one publisher.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Track {
    /// The number behind the highest received one.
    next: u32,
    /// A bit for each of the 64 numbers below `next`: whether it was received.
    seen: u64,
}

/// A message among those of its publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    InOrder,
    /// A later one has come before.
    Reordered,
    /// It has come before.
    Doubled,
}

impl Track {
    /// A number that has skipped others is in order; those are lost unless they come later.
    pub(super) fn arrived(&mut self, number: u32) -> Arrival {
        if let Some(skipped) = number.checked_sub(self.next) {
            self.seen = self.seen.checked_shl(skipped + 1).unwrap_or_default() | 1;
            self.next = number + 1;
            return Arrival::InOrder;
        }
        let bit = 1_u64.checked_shl(self.next - 1 - number);
        match bit {
            Some(bit) if self.seen & bit != 0 => Arrival::Doubled,
            Some(bit) => {
                self.seen |= bit;
                Arrival::Reordered
            }
            None => Arrival::Reordered,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Arrival::{Doubled, InOrder, Reordered};
    use super::*;

    #[test]
    fn a_track_tells_order_from_disorder() {
        for (numbers, arrivals) in [
            (&[0, 1, 2][..], &[InOrder, InOrder, InOrder][..]),
            (&[0, 0, 1, 0], &[InOrder, Doubled, InOrder, Doubled]),
            (
                &[0, 3, 1, 1, 4],
                &[InOrder, InOrder, Reordered, Doubled, InOrder],
            ),
            (&[0, 100, 99, 99], &[InOrder, InOrder, Reordered, Doubled]),
            (&[200, 3], &[InOrder, Reordered]),
        ] {
            let mut track = Track::default();
            let found: Vec<_> = numbers.iter().map(|&n| track.arrived(n)).collect();
            assert_eq!(found, arrivals, "{numbers:?}");
        }
    }

    #[test]
    fn what_is_due_leaves_out_what_was_refused_or_not_read() {
        let mut topic = Topic {
            name: "t".to_owned(),
            publishers: vec![Publisher::new(0), Publisher::new(1)],
            turn: 0,
        };
        topic.publishers[0].sent = 10;
        topic.publishers[0].refused = 2;
        topic.publishers[1].sent = 5;
        topic.publishers[1].received = 4;
        assert_eq!(topic.due(9, false), 13);
        assert_eq!(topic.due(0, true), 5);
        topic.publishers[1].is_open = false;
        assert_eq!(topic.due(9, false), 12);
        assert_eq!((topic.next(), topic.next()), (Some(0), Some(0)));
        topic.publishers[0].is_open = false;
        assert_eq!(topic.next(), None);
    }
}
