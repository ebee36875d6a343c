//! [`LogRule`]: which topics keep a log, and how.

use std::sync::Arc;

use super::{LoadError, MessageStore, Newest};

/// What a history and a tail hold at most, in bytes: it fits into an outbox.
const TAIL_BYTES: usize = 900_000;
/// Messages that stay in memory, so that most resumes need no database.
const TAIL: usize = 1_000;
/// Messages that a resume gives at most.
const RESUME_LIMIT: usize = 10_000;

/// Which topics keep a log, of which events, and how much of it stays in memory.
#[derive(Clone)]
pub struct LogRule {
    pattern: String,
    events: Vec<String>,
    pub(super) history: usize,
    pub(super) resume_limit: usize,
    pub(super) strict: bool,
    pub(in crate::pubsub) store: Arc<dyn MessageStore>,
}

named_debug!(LogRule, pattern, events, history, resume_limit, strict);

impl LogRule {
    /// Topics that match `pattern` (as in a route: `"room:*"`) store the broadcasts of `events`,
    /// and a join can ask for the newest `history` of them, or fewer where they are more than
    /// 900 kB together.
    pub fn new(
        pattern: &str,
        events: &[&str],
        history: usize,
        store: Arc<dyn MessageStore>,
    ) -> Self {
        Self {
            pattern: pattern.to_owned(),
            events: events.iter().map(|&event| event.to_owned()).collect(),
            history,
            resume_limit: RESUME_LIMIT,
            strict: false,
            store,
        }
    }

    /// A message reaches members only once it is committed, so that nobody ever saw one that a
    /// crash takes away. By default it reaches them at once.
    pub fn strict(mut self, strict: bool) -> Self {
        self.strict = strict;
        self
    }

    /// How many missed messages a resume gives at most; beyond, the client gets the ordinary
    /// history. Default 10,000.
    pub fn resume_limit(mut self, messages: usize) -> Self {
        self.resume_limit = messages;
        self
    }

    /// What stays in memory, at most: messages and bytes.
    pub(super) fn tail(&self) -> (usize, usize) {
        (self.history.max(TAIL), TAIL_BYTES)
    }

    /// What is stored and belongs into memory.
    pub(in crate::pubsub) async fn newest(&self, topic: &str) -> Result<Newest, LoadError> {
        let (limit, bytes) = self.tail();
        let limit = limit.min(self.history);
        self.store.newest(topic, limit, bytes).await
    }

    pub(in crate::pubsub) fn matches(&self, topic: &str) -> bool {
        topic_matches(&self.pattern, topic)
    }

    pub(in crate::pubsub) fn stores(&self, event: &str) -> bool {
        self.events.iter().any(|stored| stored == event)
    }
}

/// Whether a pattern means a topic: a prefix where it ends in `*`, else the topic itself.
pub(crate) fn topic_matches(pattern: &str, topic: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => topic.starts_with(prefix),
        None => pattern == topic,
    }
}
