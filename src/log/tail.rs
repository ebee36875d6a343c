//! [`Tail`]: the messages of one topic in memory.

use std::collections::VecDeque;
use std::sync::Arc;

use super::entry::LogEntry;
use super::id::Seq;
use super::tail_bytes::TailBytes;
use crate::message::RawJson;

/// Every message of a topic after the *floor*, in order of seq.
pub(super) struct Tail {
    entries: VecDeque<Arc<LogEntry>>,
    bytes: TailBytes,
    floor: Seq,
}

impl Tail {
    /// An empty tail.
    pub(super) fn new(floor: Seq) -> Self {
        Self {
            entries: VecDeque::new(),
            bytes: TailBytes::default(),
            floor,
        }
    }

    pub(super) fn floor(&self) -> Seq {
        self.floor
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.get()
    }

    /// Whether the tail must shrink because the tails of all topics together are too large.
    pub(super) fn is_crowded(&self) -> bool {
        self.bytes.is_too_much()
    }

    /// Adds the newest message.
    pub(super) fn push(&mut self, entry: Arc<LogEntry>) {
        self.bytes.change(0, entry.cost());
        self.entries.push_back(entry);
    }

    /// Adds the newest message at or below the floor, and lowers the floor.
    pub(super) fn push_below(&mut self, entry: Arc<LogEntry>) {
        self.floor = entry.seq.previous();
        self.bytes.change(0, entry.cost());
        self.entries.push_front(entry);
    }

    pub(super) fn get(&self, seq: Seq) -> Option<&Arc<LogEntry>> {
        Some(&self.entries[self.position(seq)?])
    }

    /// The messages after this one, oldest first.
    pub(super) fn after(&self, seq: Seq) -> impl DoubleEndedIterator<Item = &Arc<LogEntry>> {
        let first = self.entries.partition_point(|entry| entry.seq <= seq);
        self.entries.range(first..)
    }

    /// The messages before this one, oldest first.
    pub(super) fn before(&self, seq: Seq) -> impl DoubleEndedIterator<Item = &Arc<LogEntry>> {
        let end = self.entries.partition_point(|entry| entry.seq < seq);
        self.entries.range(..end)
    }

    /// All messages, oldest first.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<LogEntry>> {
        self.entries.iter()
    }

    pub(super) fn remove(&mut self, seq: Seq) {
        if let Some(at) = self.position(seq)
            && let Some(entry) = self.entries.remove(at)
        {
            self.bytes.change(entry.cost(), 0);
        }
    }

    /// Replaces the payload of a message.
    pub(super) fn replace_payload(&mut self, seq: Seq, payload: RawJson) {
        if let Some(at) = self.position(seq) {
            let old = &self.entries[at];
            let new = old.with_payload(payload);
            self.bytes.change(old.cost(), new.cost());
            self.entries[at] = new;
        }
    }

    /// Removes the oldest messages, at most up to `through`, while the tail has more than `messages` or
    /// `bytes`.
    pub(super) fn shrink(&mut self, through: Seq, messages: usize, bytes: usize) {
        while let Some(oldest) = self.entries.front()
            && oldest.seq <= through
            && (self.entries.len() > messages || self.bytes.get() > bytes)
        {
            self.pop_oldest();
        }
    }

    /// Removes every message up to `through`.
    pub(super) fn prune(&mut self, through: Seq) {
        while let Some(oldest) = self.entries.front()
            && oldest.seq <= through
        {
            self.pop_oldest();
        }
    }

    fn pop_oldest(&mut self) {
        if let Some(oldest) = self.entries.pop_front() {
            self.bytes.change(oldest.cost(), 0);
            self.floor = oldest.seq;
        }
    }

    fn position(&self, seq: Seq) -> Option<usize> {
        self.entries
            .binary_search_by_key(&seq, |entry| entry.seq)
            .ok()
    }
}
