//! [`Trouble`]: the last warnings and errors of the log, for the operators' dashboard.

#![cfg_attr(
    not(feature = "_store"),
    expect(dead_code, reason = "only the assembled server has the dashboard")
)]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use serde_json::{Map, Value};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::Context;

use super::line;
use super::repeats::SUMMARY;
use crate::lock::lock;

/// The most entries. Each has the fields of one log line, whose values are cut as in the line.
pub(crate) const MAX_ENTRIES: usize = 200;

/// The warnings and errors since the start. It remembers nothing until [`remember`](Self::remember) is called.
#[derive(Default)]
pub(crate) struct Trouble {
    remembers: AtomicBool,
    seen: AtomicU64,
    /// The oldest first.
    entries: Mutex<VecDeque<TroubleEntry>>,
}

named_debug!(Trouble);

/// A warning or an error, or several in a row that are alike.
#[derive(Clone, Debug)]
pub(crate) struct TroubleEntry {
    /// The time of the last one.
    pub(crate) at: SystemTime,
    pub(crate) level: Level,
    pub(crate) event: String,
    /// What the line says to do; empty if it says nothing.
    pub(crate) advice: String,
    pub(crate) fields: Map<String, Value>,
    pub(crate) count: u64,
}

impl Trouble {
    /// Remembers what comes from now on.
    pub(crate) fn remember(&self) {
        self.remembers.store(true, Ordering::Relaxed);
    }

    /// The number of warnings and errors.
    pub(crate) fn seen(&self) -> u64 {
        self.seen.load(Ordering::Relaxed)
    }

    /// The newest entries, the newest first.
    pub(crate) fn entries(&self) -> Vec<TroubleEntry> {
        lock(&self.entries).iter().rev().cloned().collect()
    }

    fn add(&self, entry: TroubleEntry) {
        self.seen.fetch_add(entry.count, Ordering::Relaxed);
        let mut entries = lock(&self.entries);
        let alike = entries.back_mut().filter(|last| {
            (last.level, &last.event, &last.fields) == (entry.level, &entry.event, &entry.fields)
        });
        if let Some(last) = alike {
            last.at = entry.at;
            last.count += entry.count;
            return;
        }
        if entries.len() == MAX_ENTRIES {
            entries.pop_front();
        }
        entries.push_back(entry);
    }

    /// Lines of an event that were left out of the log count for its newest entry.
    fn add_repeats(&self, level: Level, event: &str, more: u64) {
        self.seen.fetch_add(more, Ordering::Relaxed);
        let mut entries = lock(&self.entries);
        let known = entries
            .iter_mut()
            .rfind(|entry| entry.event == event && entry.level == level);
        if let Some(entry) = known {
            entry.count += more;
        }
    }
}

/// The layer that sees the events of the log.
pub(super) struct Layer(Arc<Trouble>);

impl Layer {
    pub(super) fn new(trouble: &Arc<Trouble>) -> Self {
        Self(Arc::clone(trouble))
    }
}

impl<S: Subscriber> tracing_subscriber::Layer<S> for Layer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = *event.metadata().level();
        if level > Level::WARN || !self.0.remembers.load(Ordering::Relaxed) {
            return;
        }
        let (message, fields) = line::json_fields(event);
        if event.metadata().target() == SUMMARY
            && let (Some(name), Some(more)) = (fields.get("event"), fields.get("more"))
        {
            let name = name.as_str().unwrap_or_default();
            return self
                .0
                .add_repeats(level, parts(name).0, more.as_u64().unwrap_or_default());
        }
        let (event, advice) = parts(&message);
        self.0.add(TroubleEntry {
            at: SystemTime::now(),
            level,
            event: event.to_owned(),
            advice: advice.to_owned(),
            fields,
            count: 1,
        });
    }
}

/// An event's name, and what it says to do behind a colon.
fn parts(message: &str) -> (&str, &str) {
    message.split_once(": ").unwrap_or((message, ""))
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::registry;

    use super::*;

    #[test]
    fn warnings_and_errors_are_remembered_and_nothing_else() {
        let trouble = Arc::new(Trouble::default());
        tracing::subscriber::with_default(registry().with(Layer::new(&trouble)), || {
            tracing::warn!("too.early");
            trouble.remember();
            tracing::info!("quiet");
            tracing::warn!(rows = 3, file = "a\nb", "store.odd: look at the file");
            for _ in 0..2 {
                tracing::error!(error = %"gone", "store.bad");
            }
            tracing::warn!(target: SUMMARY, event = "store.odd: look", more = 7_u32, "log.repeated");
        });
        assert_eq!(trouble.seen(), 10);
        let entries = trouble.entries();
        let shown: Vec<_> = entries
            .iter()
            .map(|entry| (entry.level, &*entry.event, entry.count))
            .collect();
        let wanted = [
            (Level::ERROR, "store.bad", 2),
            (Level::WARN, "store.odd", 8),
        ];
        assert_eq!(shown, wanted);
        assert_eq!(entries[1].advice, "look at the file");
        assert_eq!(entries[1].fields["rows"], 3);
        assert_eq!(entries[1].fields["file"], "a\nb");
    }

    #[test]
    fn the_oldest_entry_makes_room() {
        let trouble = Trouble::default();
        for number in 0..MAX_ENTRIES + 5 {
            trouble.add(TroubleEntry {
                at: SystemTime::now(),
                level: Level::WARN,
                event: number.to_string(),
                advice: String::new(),
                fields: Map::new(),
                count: 1,
            });
        }
        let entries = trouble.entries();
        assert_eq!(entries.len(), MAX_ENTRIES);
        assert_eq!((&*entries[0].event, &*entries[199].event), ("204", "5"));
    }
}
