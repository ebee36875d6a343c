//! [`Lives`]: which nodes have given a sign of life lately.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::cluster::bus::NodeId;

/// What a node says of itself to all others, every few seconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Sign {
    pub(super) node: NodeId,
    /// It lives; otherwise it leaves.
    pub(super) lives: bool,
}

impl Sign {
    /// 1 for life or 0, and the node.
    pub(super) fn encode(self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(9);
        bytes.put_u8(self.lives.into());
        bytes.put_u64_le(self.node.get());
        bytes.freeze()
    }

    /// `None` if the bytes are something else. A later release may add some.
    pub(super) fn decode(mut bytes: &[u8]) -> Option<Self> {
        if bytes.len() < 9 {
            return None;
        }
        let lives = bytes.get_u8() != 0;
        let node = NodeId::new(bytes.get_u64_le());
        Some(Self { node, lives })
    }
}

/// The last signs of nodes.
#[derive(Debug)]
pub(super) struct Lives {
    me: NodeId,
    /// A node that is silent for longer is dead.
    limit: Duration,
    /// Since when signs arrive here.
    since: Instant,
    signs: HashMap<NodeId, (Instant, bool)>,
}

impl Lives {
    /// Of the node `me`.
    pub(super) fn new(me: NodeId, limit: Duration, now: Instant) -> Self {
        Self {
            me,
            limit,
            since: now,
            signs: HashMap::new(),
        }
    }

    /// The bus is up: from now on signs arrive.
    pub(super) fn up(&mut self, now: Instant) {
        self.since = now;
    }

    /// A sign of a node.
    pub(super) fn heard(&mut self, sign: Sign, now: Instant) {
        self.signs.insert(sign.node, (now, sign.lives));
    }

    /// Whether a node lives. While this node has listened for less than the limit, one that has given no sign may live.
    pub(super) fn is_alive(&self, node: NodeId, now: Instant) -> bool {
        let is_recent = |at: Instant| now.saturating_duration_since(at) < self.limit;
        match self.signs.get(&node) {
            _ if node == self.me => true,
            Some((_, false)) => false,
            Some((at, true)) if is_recent(*at) => true,
            _ => is_recent(self.since),
        }
    }

    /// Forgets nodes that are dead for long.
    pub(super) fn forget(&mut self, now: Instant) {
        let kept = 10 * self.limit;
        self.signs
            .retain(|_, (at, _)| now.saturating_duration_since(*at) < kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_is_read_as_it_was_written() {
        for lives in [true, false] {
            let node = NodeId::new(0x0123_4567_89ab_cdef);
            let sign = Sign { node, lives };
            assert_eq!(Sign::decode(&sign.encode()), Some(sign));
        }
        assert_eq!(Sign::decode(b"1234"), None);
    }

    #[test]
    fn a_silent_node_is_dead_and_one_that_was_not_awaited_is_not() {
        let (me, other, stranger) = (NodeId::new(1), NodeId::new(2), NodeId::new(3));
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut lives = Lives::new(me, Duration::from_secs(10), begun);
        let sign = |lives| Sign { node: other, lives };
        assert!(lives.is_alive(stranger, at(9)));
        lives.heard(sign(true), at(11));
        assert!(lives.is_alive(other, at(20)) && lives.is_alive(me, at(20)));
        assert!(!lives.is_alive(stranger, at(11)) && !lives.is_alive(other, at(21)));
        lives.heard(sign(false), at(22));
        assert!(!lives.is_alive(other, at(22)));
        lives.up(at(30));
        assert!(lives.is_alive(stranger, at(31)) && !lives.is_alive(other, at(31)));
        lives.forget(at(121));
        assert!(!lives.signs.is_empty());
        lives.forget(at(122));
        assert!(lives.signs.is_empty());
    }
}
