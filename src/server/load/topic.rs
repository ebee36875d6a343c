//! [`Topic`]: what was published, and [`Track`]: what a client has received of it. Pure.

/// A topic of the load.
pub(super) struct Topic {
    pub(super) name: String,
    pub(super) publishers: Vec<Publisher>,
    /// The publisher of the last message.
    pub(super) turn: usize,
    /// Clients that have joined, and are connected.
    pub(super) members: u32,
    /// Messages that not all members have received, if the load has a number of messages in flight.
    pub(super) in_flight: Vec<InFlight>,
}

/// A message that not all members have received.
pub(super) struct InFlight {
    /// The place of its publisher.
    publisher: usize,
    number: u32,
    /// Members that have not received it.
    missing: u32,
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
    pub(super) fn new(name: String, publishers: Vec<Publisher>) -> Self {
        Self {
            name,
            publishers,
            turn: 0,
            members: 0,
            in_flight: Vec::new(),
        }
    }

    /// The next message of a publisher is sent, and so many members have to receive it.
    pub(super) fn fly(&mut self, publisher: usize, missing: u32) {
        self.in_flight.push(InFlight {
            publisher,
            number: self.publishers[publisher].sent,
            missing,
        });
    }

    /// A member has received a message. Returns whether it was the last one to receive it.
    pub(super) fn landed(&mut self, publisher: usize, number: u32) -> bool {
        let mut flying = self.in_flight.iter_mut();
        let place = flying.position(|it| {
            let is_it = (it.publisher, it.number) == (publisher, number);
            it.missing -= u32::from(is_it);
            is_it && it.missing == 0
        });
        place
            .map(|place| self.in_flight.swap_remove(place))
            .is_some()
    }

    /// The server has refused a message.
    pub(super) fn refused(&mut self, publisher: usize, number: &str) {
        self.publishers[publisher].refused += 1;
        let number = number.parse().ok();
        self.in_flight
            .retain(|it| (it.publisher, Some(it.number)) != (publisher, number));
    }

    /// A client has ended, whether or not it was a member.
    pub(super) fn closed(&mut self, client: usize) {
        for publisher in &mut self.publishers {
            publisher.is_open &= publisher.client != client;
        }
    }

    /// A member has ended, and with it what it had to receive. Its own messages may not have reached the server.
    pub(super) fn left(&mut self, client: usize, tracks: &[Track]) {
        self.members -= 1;
        let publishers = &self.publishers;
        self.in_flight.retain_mut(|it| {
            it.missing -= u32::from(!tracks[it.publisher].has(it.number));
            it.missing > 0 && publishers[it.publisher].client != client
        });
    }

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
    /// Whether a number has come; those more than 64 below the highest one count as come.
    fn has(self, number: u32) -> bool {
        match self.next.checked_sub(number + 1) {
            None => false,
            Some(below) => below >= 64 || self.seen >> below & 1 == 1,
        }
    }

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
        let publishers = vec![Publisher::new(0), Publisher::new(1)];
        let mut topic = Topic::new("t".to_owned(), publishers);
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

    #[test]
    fn a_message_is_in_flight_until_all_members_have_it_or_are_gone() {
        let publishers = vec![Publisher::new(0), Publisher::new(1)];
        let mut topic = Topic::new("t".to_owned(), publishers);
        topic.members = 3;
        let mut tracks = [Track::default(); 2];
        topic.fly(0, 3);
        topic.fly(1, 2);
        assert!(!topic.landed(0, 0));
        assert!(!topic.landed(0, 7), "there is no such message");
        tracks[0].arrived(0);
        assert!(!topic.landed(0, 0));
        assert!(topic.landed(0, 0));
        assert_eq!(topic.in_flight.len(), 1);
        // It has not received the other message, which one more has to receive.
        topic.left(2, &tracks);
        assert_eq!((topic.members, topic.in_flight.len()), (2, 1));
        topic.left(1, &tracks);
        assert!(topic.in_flight.is_empty(), "its publisher is gone");
        topic.fly(0, 1);
        topic.refused(0, "0");
        assert!(topic.in_flight.is_empty());
    }

    #[test]
    fn a_track_knows_what_has_come() {
        let mut track = Track::default();
        assert!(!track.has(0));
        track.arrived(0);
        track.arrived(2);
        assert_eq!(
            [0, 1, 2, 3].map(|n| track.has(n)),
            [true, false, true, false]
        );
    }
}
