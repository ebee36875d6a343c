//! [`Heads`]: the topics that have rows in the spool.

use std::collections::HashMap;
use std::sync::Arc;

use crate::log::Seq;

#[derive(Default)]
pub(super) struct Heads(HashMap<Arc<str>, TopicHead>);

struct TopicHead {
    seq: Seq,
    rows: usize,
}

impl Heads {
    pub(super) fn add(&mut self, topic: &str, seq: Seq) {
        if let Some(head) = self.0.get_mut(topic) {
            head.seq = head.seq.max(seq);
            head.rows += 1;
        } else {
            self.0.insert(topic.into(), TopicHead { seq, rows: 1 });
        }
    }

    /// One row of the topic is removed. The last row has the highest seq, so the head stays until no row is left.
    pub(super) fn remove(&mut self, topic: &str) {
        if let Some(head) = self.0.get_mut(topic) {
            head.rows -= 1;
            if head.rows == 0 {
                self.0.remove(topic);
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The topic's name. All its rows share it.
    pub(super) fn name(&self, topic: &str) -> Arc<str> {
        let known = self.0.get_key_value(topic);
        known.map_or_else(|| topic.into(), |(name, _)| Arc::clone(name))
    }

    pub(super) fn get(&self, topic: &str) -> Option<Seq> {
        self.0.get(topic).map(|head| head.seq)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, Seq)> {
        self.0.iter().map(|(topic, head)| (&**topic, head.seq))
    }
}
