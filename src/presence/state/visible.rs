//! The entries that queries see, in the order of lists.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Clock, Diff, Entry};

/// The entries that queries see. Every change is written to a diff, so applying all diffs gives the same
/// entries.
#[derive(Debug)]
pub(super) struct Visible<P, M>(pub(super) BTreeMap<Place, Arc<Entry<P, M>>>);

/// The sort key of an entry: topic, key, then join order. The replica name breaks ties between concurrent
/// changes.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) topic: Arc<str>,
    pub(super) key: Arc<str>,
    pub(super) clock: Clock,
    pub(super) name: Arc<str>,
}

impl Place {
    /// A place before every entry of a topic and key, and of the keys that follow.
    pub(super) fn first(topic: &str, key: &str) -> Self {
        Self {
            topic: topic.into(),
            key: key.into(),
            clock: 0,
            name: Arc::default(),
        }
    }

    pub(super) fn of<P, M>(name: &Arc<str>, clock: Clock, entry: &Entry<P, M>) -> Self {
        Self {
            topic: Arc::clone(&entry.topic),
            key: Arc::clone(&entry.key),
            clock,
            name: Arc::clone(name),
        }
    }
}

impl<P, M> Visible<P, M> {
    pub(super) fn show(
        &mut self,
        name: &Arc<str>,
        clock: Clock,
        entry: &Arc<Entry<P, M>>,
        diff: &mut Diff<P, M>,
    ) {
        self.0
            .insert(Place::of(name, clock, entry), Arc::clone(entry));
        let topic = diff.entry(Arc::clone(&entry.topic)).or_default();
        topic.joins.push(Arc::clone(entry));
    }

    pub(super) fn hide(
        &mut self,
        name: &Arc<str>,
        clock: Clock,
        entry: &Arc<Entry<P, M>>,
        diff: &mut Diff<P, M>,
    ) {
        self.0.remove(&Place::of(name, clock, entry));
        let topic = diff.entry(Arc::clone(&entry.topic)).or_default();
        topic.leaves.push(Arc::clone(entry));
    }

    /// The entries from `first` on, while they are `within` the wanted places.
    pub(super) fn from(
        &self,
        first: Place,
        mut within: impl FnMut(&Place) -> bool,
    ) -> impl Iterator<Item = &Entry<P, M>> {
        let entries = self.0.range(first..);
        let entries = entries.take_while(move |(place, _)| within(place));
        entries.map(|(_, entry)| &**entry)
    }
}
