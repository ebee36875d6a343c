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
    pub(super) fn new(me: NodeId, limit: Duration) -> Self {
        let (since, signs) = (Instant::now(), HashMap::new());
        Self {
            me,
            limit,
            since,
            signs,
        }
    }

    /// The bus is up: from now on signs arrive.
    pub(super) fn up(&mut self) {
        self.since = Instant::now();
    }

    /// A sign of a node.
    pub(super) fn heard(&mut self, sign: Sign) {
        self.signs.insert(sign.node, (Instant::now(), sign.lives));
    }

    /// Whether a node lives. While this node has listened for less than the limit, one that has given no sign may live.
    pub(super) fn is_alive(&self, node: NodeId) -> bool {
        match self.signs.get(&node) {
            _ if node == self.me => true,
            Some((_, false)) => false,
            Some((at, true)) if at.elapsed() < self.limit => true,
            _ => self.since.elapsed() < self.limit,
        }
    }

    /// Forgets nodes that are dead for long.
    pub(super) fn forget(&mut self) {
        let kept = 10 * self.limit;
        self.signs.retain(|_, (at, _)| at.elapsed() < kept);
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
        let mut lives = Lives::new(me, Duration::from_millis(30));
        assert!(lives.is_alive(stranger));
        std::thread::sleep(Duration::from_millis(40));
        lives.heard(Sign {
            node: other,
            lives: true,
        });
        assert!(!lives.is_alive(stranger) && lives.is_alive(other) && lives.is_alive(me));
        lives.heard(Sign {
            node: other,
            lives: false,
        });
        assert!(!lives.is_alive(other));
        lives.up();
        assert!(lives.is_alive(stranger) && !lives.is_alive(other));
        std::thread::sleep(Duration::from_millis(310));
        lives.forget();
        assert!(lives.signs.is_empty());
    }
}
