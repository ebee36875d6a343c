//! [`LogRule`]: which topics keep a log, and how.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{LoadError, MessageStore, Newest};
use crate::pattern::{ForTopics, IntoPattern, TopicPattern};

/// The most bytes of a history and of a tail; so many fit into an outbox.
const TAIL_BYTES: usize = 900_000;
/// Messages to keep in memory, so that most resumes need no database.
const TAIL: usize = 1_000;
/// The most messages of one resume.
const RESUME_LIMIT: usize = 10_000;

/// A rule for topics with a log: which events are stored, and how many messages stay in memory.
#[derive(Clone)]
pub struct LogRule {
    pattern: TopicPattern,
    events: Vec<String>,
    bounds: Arc<Bounds>,
    pub(super) strict: bool,
    store: Arc<dyn MessageStore>,
}

named_debug!(LogRule, pattern, events, bounds, strict);

/// They can change while topics are open.
#[derive(Debug)]
struct Bounds {
    history: AtomicUsize,
    resume_limit: AtomicUsize,
}

impl LogRule {
    /// Topics that match `pattern` (such as `"room:*"`, as in a route) store the broadcasts of `events`. A
    /// join can ask for the newest `history` of them; it gets fewer if they exceed 900 kB together.
    ///
    /// # Panics
    /// If the pattern has a `*` that is not at its end.
    pub fn new(
        pattern: impl IntoPattern,
        events: &[&str],
        history: usize,
        store: Arc<dyn MessageStore>,
    ) -> Self {
        Self {
            pattern: pattern.into_pattern(),
            events: events.iter().map(|&event| event.to_owned()).collect(),
            bounds: Arc::new(Bounds {
                history: AtomicUsize::new(history),
                resume_limit: AtomicUsize::new(RESUME_LIMIT),
            }),
            strict: false,
            store,
        }
    }

    /// Whether members get a message only after its commit, so that no crash can lose a message that was
    /// seen. By default members get it at once.
    pub fn strict(mut self, strict: bool) -> Self {
        self.strict = strict;
        self
    }

    /// The most missed messages of one resume. A client that has missed more gets the ordinary history.
    /// Default: 10,000.
    pub fn resume_limit(self, messages: usize) -> Self {
        self.bounds.resume_limit.store(messages, Ordering::Relaxed);
        self
    }

    /// The most messages of a history.
    pub(crate) fn history(&self) -> usize {
        self.bounds.history.load(Ordering::Relaxed)
    }

    /// The most missed messages that are sent late.
    pub(crate) fn most_missed(&self) -> usize {
        self.bounds.resume_limit.load(Ordering::Relaxed)
    }

    /// Changes the most messages of a history and of a resume, for topics that are open, too. A larger history needs
    /// [`TopicLog::read_again`](super::TopicLog::read_again).
    pub(crate) fn set_bounds(&self, history: usize, resume_limit: usize) {
        self.bounds.history.store(history, Ordering::Relaxed);
        self.bounds
            .resume_limit
            .store(resume_limit, Ordering::Relaxed);
    }

    /// Whether members get committed messages only.
    pub(crate) fn is_strict(&self) -> bool {
        self.strict
    }

    /// The bounds of a tail, in messages and bytes.
    pub(super) fn tail(&self) -> (usize, usize) {
        (self.history().max(TAIL), TAIL_BYTES)
    }

    /// Reads the stored messages that belong in the tail.
    pub(crate) async fn newest(&self, topic: &str) -> Result<Newest, LoadError> {
        let (limit, bytes) = self.tail();
        let limit = limit.min(self.history());
        self.store.newest(topic, limit, bytes).await
    }

    /// The store of these topics.
    pub(crate) fn store(&self) -> &Arc<dyn MessageStore> {
        &self.store
    }

    /// Whether any event is stored: a room of a configuration may store none.
    pub(crate) fn stores_any(&self) -> bool {
        !self.events.is_empty()
    }

    pub(crate) fn stores(&self, event: &str) -> bool {
        self.events.iter().any(|stored| stored == event)
    }
}

impl ForTopics for LogRule {
    fn pattern(&self) -> &TopicPattern {
        &self.pattern
    }
}
