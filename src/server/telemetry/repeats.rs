//! [`Repeats`]: limits how many lines of one kind are written. Lines over the limit are counted, and summed up
//! in one line.
//!
//! A kind is a place in the source, so a client cannot make new ones. Lines of the levels `debug` and `trace`
//! are not limited.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use tracing::callsite::Identifier;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::Context;

use super::line;
use super::queue::Queue;

/// The most lines of one kind in a [`WINDOW`].
pub(crate) const MAX_REPEATS: u32 = 20;

/// The time between two sums.
pub(crate) const WINDOW: Duration = Duration::from_secs(10);

/// The target of lines that name who has changed or erased messages. They are not limited.
pub(crate) const AUDIT: &str = "slackir::audit";

/// The target of the lines `log.repeated`.
pub(super) const SUMMARY: &str = "slackir::log";

/// The time between two updates of the log's metrics.
const TICK: Duration = Duration::from_secs(1);

/// The number of lines of each kind in the current window.
#[derive(Default)]
pub(super) struct Repeats {
    kinds: RwLock<HashMap<Identifier, Arc<LineKind>>>,
}

struct LineKind {
    name: String,
    level: Level,
    /// Lines in the current window.
    seen: AtomicU32,
}

impl Repeats {
    fn allows(&self, event: &Event<'_>) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::INFO || [AUDIT, SUMMARY].contains(&metadata.target()) {
            return true;
        }
        let seen = self.kind(event).seen.fetch_add(1, Ordering::Relaxed);
        seen < MAX_REPEATS
    }

    fn kind(&self, event: &Event<'_>) -> Arc<LineKind> {
        let callsite = event.metadata().callsite();
        let known = self.kinds.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(kind) = known.get(&callsite) {
            return Arc::clone(kind);
        }
        drop(known);
        let mut kinds = self.kinds.write().unwrap_or_else(PoisonError::into_inner);
        let kind = kinds.entry(callsite).or_insert_with(|| {
            Arc::new(LineKind {
                name: line::name(event),
                level: *event.metadata().level(),
                seen: AtomicU32::new(0),
            })
        });
        Arc::clone(kind)
    }

    /// Logs how many lines of each kind were left out, and begins a new window.
    pub(super) fn sum_up(&self) {
        // Logged outside the lock, because a log line takes it.
        let kinds: Vec<_> = self
            .kinds
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect();
        for kind in kinds {
            let seen = kind.seen.swap(0, Ordering::Relaxed);
            let more = seen.saturating_sub(MAX_REPEATS);
            if more > 0 {
                kind.sum_up(more);
            }
        }
    }
}

impl LineKind {
    fn sum_up(&self, more: u32) {
        let (event, seconds) = (&*self.name, WINDOW.as_secs());
        match self.level {
            Level::ERROR => tracing::error!(target: SUMMARY, event, more, seconds, "log.repeated"),
            Level::WARN => tracing::warn!(target: SUMMARY, event, more, seconds, "log.repeated"),
            _ => tracing::info!(target: SUMMARY, event, more, seconds, "log.repeated"),
        }
    }
}

/// The layer that keeps lines over the limit from the layers beside it.
pub(super) struct Layer(Arc<Repeats>);

impl Layer {
    pub(super) fn new(repeats: &Arc<Repeats>) -> Self {
        Self(Arc::clone(repeats))
    }
}

impl<S: Subscriber> tracing_subscriber::Layer<S> for Layer {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        self.0.allows(event)
    }
}

/// Starts a thread that sums up once in each window, until `repeats` is dropped.
pub(super) fn summarize(repeats: &Arc<Repeats>, queue: &Queue) {
    let repeats = Arc::downgrade(repeats);
    let queue = queue.clone();
    let ticks = WINDOW.as_secs() / TICK.as_secs();
    let run = move || {
        for tick in 1u64.. {
            thread::sleep(TICK);
            queue.count_lost();
            let Some(repeats) = repeats.upgrade() else {
                return;
            };
            if tick % ticks == 0 {
                repeats.sum_up();
            }
        }
    };
    let thread = thread::Builder::new().name("slackir-log-sum".to_owned());
    if let Err(error) = thread.spawn(run) {
        tracing::warn!(
            %error,
            "log.no_summaries: repeated lines are not counted; raise the limit of threads"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::registry;

    use super::*;

    /// The names of the lines that passed the layer.
    #[derive(Clone, Default)]
    struct Seen(Arc<Mutex<Vec<String>>>);

    impl<S: Subscriber> tracing_subscriber::Layer<S> for Seen {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            self.0.lock().expect("sound").push(line::name(event));
        }
    }

    #[test]
    fn what_comes_too_often_is_summed_up_and_what_is_audited_is_not() {
        let seen = Seen::default();
        let repeats = Arc::new(Repeats::default());
        let layers = registry().with(Layer::new(&repeats)).with(seen.clone());
        tracing::subscriber::with_default(layers, || {
            for _ in 0..MAX_REPEATS + 5 {
                tracing::info!("often");
                tracing::info!(target: AUDIT, "audited");
                tracing::debug!("asked for");
            }
            tracing::warn!("once");
            repeats.sum_up();
            repeats.sum_up();
            tracing::warn!("once more");
        });
        let seen = seen.0.lock().expect("sound");
        let count = |name| seen.iter().filter(|line| *line == name).count() as u32;
        for (name, lines) in [
            ("often", MAX_REPEATS),
            ("audited", MAX_REPEATS + 5),
            ("asked for", MAX_REPEATS + 5),
            ("once", 1),
            ("log.repeated", 1),
            ("once more", 1),
        ] {
            assert_eq!(count(name), lines, "{name}");
        }
    }
}
