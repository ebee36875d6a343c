//! [`RecentRefs`]: the client_refs of a topic's recent messages, by which a retry is known before
//! it is broadcast again. What is older is known to the database alone.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, SystemTime};

use bytestring::ByteString;

use super::entry::Receipt;

/// For how long a client_ref is remembered.
const WINDOW: Duration = Duration::from_secs(600);
/// How many are remembered.
const MAX_REFS: usize = 100_000;

#[derive(Default)]
pub(super) struct RecentRefs {
    /// What the first message with this ref has come to, or will.
    known: HashMap<ByteString, Receipt>,
    /// Oldest first; a ref that was forgotten and came again stands here twice.
    order: VecDeque<(ByteString, i64, SystemTime)>,
}

impl RecentRefs {
    /// The receipt of the message that carried this ref first.
    pub(super) fn get(&self, client_ref: &str) -> Option<Receipt> {
        self.known.get(client_ref).cloned()
    }

    pub(super) fn insert(&mut self, client_ref: ByteString, receipt: Receipt, at: SystemTime) {
        self.order
            .push_back((client_ref.clone(), receipt.id().seq, at));
        self.known.insert(client_ref, receipt);
        while let Some((_, _, since)) = self.order.front()
            && (self.order.len() > MAX_REFS || is_older(*since, at))
        {
            if let Some((oldest, seq, _)) = self.order.pop_front() {
                self.forget(&oldest, seq);
            }
        }
    }

    /// The message with this seq will not be stored: its ref is free again.
    pub(super) fn forget(&mut self, client_ref: &str, seq: i64) {
        if self
            .known
            .get(client_ref)
            .is_some_and(|receipt| receipt.id().seq == seq)
        {
            self.known.remove(client_ref);
        }
    }
}

fn is_older(since: SystemTime, now: SystemTime) -> bool {
    now.duration_since(since).is_ok_and(|age| age > WINDOW)
}

#[cfg(test)]
mod tests {
    use super::super::MessageId;
    use super::*;

    fn receipt(seq: i64) -> Receipt {
        Receipt::stored(MessageId { epoch: 1, seq })
    }

    #[test]
    fn refs_are_known_for_ten_minutes() {
        let start = SystemTime::UNIX_EPOCH;
        let mut refs = RecentRefs::default();
        refs.insert("a".into(), receipt(1), start);
        refs.insert("b".into(), receipt(2), start + WINDOW);
        assert_eq!(refs.get("a").map(|r| r.id().seq), Some(1));
        refs.insert("c".into(), receipt(3), start + WINDOW + WINDOW / 2);
        assert!(refs.get("a").is_none());
        assert_eq!(refs.get("b").map(|r| r.id().seq), Some(2));
    }

    #[test]
    fn a_ref_that_came_again_outlives_its_first_message() {
        let start = SystemTime::UNIX_EPOCH;
        let mut refs = RecentRefs::default();
        refs.insert("a".into(), receipt(1), start);
        refs.forget("a", 1);
        assert!(refs.get("a").is_none());
        refs.insert("a".into(), receipt(2), start + WINDOW);
        refs.insert("b".into(), receipt(3), start + WINDOW + WINDOW / 2);
        assert_eq!(refs.get("a").map(|r| r.id().seq), Some(2));
    }
}
