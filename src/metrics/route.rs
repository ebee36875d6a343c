//! The metrics of the topics and channels that match one pattern.

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock};

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use crate::lock::lock;
use crate::pattern::TopicPattern;

/// The most patterns with metrics of their own; later ones share `other`.
const MAX_PATTERNS: usize = 64;
/// The pattern of all further ones.
const OTHER: &str = "other";

/// The handles for the routes with one pattern.
pub(crate) struct RouteMetrics {
    /// `None`: the topics that no other one matches.
    pattern: Option<TopicPattern>,
    /// Topics with a member or a log in memory.
    pub(crate) topics: Gauge,
    /// Tracked presences.
    pub(crate) presences: Gauge,
    /// Broadcasts to topics.
    pub(crate) broadcasts: Counter,
    /// Joined channels.
    pub(crate) channels: Gauge,
    /// Joins that were answered with ok.
    pub(crate) joined: Counter,
    /// Joins that the channel refused.
    pub(crate) refused: Counter,
    /// Joins that a limit of the connection refused.
    pub(crate) join_limited: Counter,
    /// Joins that crashed.
    pub(crate) join_crashed: Counter,
    /// Seconds from a join to its answer.
    pub(crate) join_seconds: Histogram,
    /// Seconds of `handle_in`.
    pub(crate) handle_in_seconds: Histogram,
    /// Channels ended by a panic or an error.
    pub(crate) crashes: Counter,
}

impl RouteMetrics {
    fn new(pattern: &str) -> Self {
        let parsed = pattern.parse().ok().filter(|_| pattern != OTHER);
        let pattern = pattern.to_owned();
        let joins = |result: &'static str| {
            let pattern = pattern.clone();
            counter!("slackir_joins_total", "pattern" => pattern, "result" => result)
        };
        Self {
            pattern: parsed,
            topics: gauge!("slackir_topics", "pattern" => pattern.clone()),
            presences: gauge!("slackir_presences", "pattern" => pattern.clone()),
            broadcasts: counter!("slackir_broadcasts_total", "pattern" => pattern.clone()),
            channels: gauge!("slackir_channels", "pattern" => pattern.clone()),
            joined: joins("ok"),
            refused: joins("refused"),
            join_limited: joins("limited"),
            join_crashed: joins("crashed"),
            join_seconds: histogram!("slackir_join_seconds", "pattern" => pattern.clone()),
            handle_in_seconds: histogram!("slackir_handle_in_seconds", "pattern" => pattern.clone()),
            crashes: counter!("slackir_channel_crashes_total", "pattern" => pattern),
        }
    }
}

/// The routes with one pattern. A byte, because each channel holds one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RouteId(u8);

/// All of them, by their ids. They live as long as the process.
static KNOWN: [OnceLock<RouteMetrics>; MAX_PATTERNS + 1] =
    [const { OnceLock::new() }; MAX_PATTERNS + 1];

impl RouteId {
    /// The id of the routes with this pattern.
    pub(crate) fn of(pattern: &str) -> Self {
        static IDS: Mutex<BTreeMap<String, u8>> = Mutex::new(BTreeMap::new());
        let mut ids = lock(&IDS);
        if let Some(id) = ids.get(pattern) {
            return Self(*id);
        }
        // At most 64, so it fits.
        let next = u8::try_from(ids.len()).unwrap_or(u8::MAX);
        let has_room = ids.len() < MAX_PATTERNS;
        let (id, name) = if has_room {
            ids.insert(pattern.to_owned(), next);
            (next, pattern)
        } else {
            (MAX_PATTERNS as u8, OTHER)
        };
        KNOWN[usize::from(id)].get_or_init(|| RouteMetrics::new(name));
        Self(id)
    }

    /// The id of the first pattern that matches this topic.
    pub(crate) fn of_topic(topic: &str) -> Self {
        let known = KNOWN[..MAX_PATTERNS].iter().map_while(OnceLock::get);
        let matches = |known: &RouteMetrics| {
            let pattern = known.pattern.as_ref();
            pattern.is_some_and(|pattern| pattern.matches(topic))
        };
        let place = known.enumerate().find(|(_, known)| matches(known));
        // At most 64, so it fits.
        Self(place.map_or(MAX_PATTERNS, |(place, _)| place) as u8)
    }

    /// Its metrics.
    pub(crate) fn metrics(self) -> &'static RouteMetrics {
        KNOWN[usize::from(self.0)].get_or_init(|| RouteMetrics::new(OTHER))
    }
}

pub(super) fn describe() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_gauge!(
        "slackir_topics",
        "Topics with a member or a log in memory, by pattern"
    );
    describe_gauge!("slackir_presences", "Tracked presences, by pattern");
    describe_counter!(
        "slackir_broadcasts_total",
        "Broadcasts to topics, by pattern"
    );
    describe_gauge!("slackir_channels", "Joined channels, by pattern");
    describe_counter!(
        "slackir_joins_total",
        "Answered joins, by pattern and result; limited: a rate or the most channels of a connection refused it"
    );
    describe_histogram!(
        "slackir_join_seconds",
        "Seconds from a join to its answer, by pattern; of one join in 16"
    );
    describe_histogram!(
        "slackir_handle_in_seconds",
        "Seconds of the callback for a message, by pattern; of one message in 16"
    );
    describe_counter!(
        "slackir_channel_crashes_total",
        "Channels ended by a panic or an error, by pattern"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_counts_for_the_first_pattern_that_matches_it() {
        let [narrow, wide] = ["first:of:*", "first:*"].map(RouteId::of);
        for (topic, route) in [
            ("first:of:1", narrow),
            ("first:1", wide),
            ("no:pattern", RouteId(MAX_PATTERNS as u8)),
            (OTHER, RouteId(MAX_PATTERNS as u8)),
        ] {
            assert_eq!(RouteId::of_topic(topic), route, "{topic}");
        }
    }

    #[test]
    fn patterns_beyond_the_bound_share_their_metrics() {
        let first = RouteId::of("bounded:0");
        for n in 0..MAX_PATTERNS {
            RouteId::of(&format!("bounded:{n}"));
        }
        assert_eq!(first, RouteId::of("bounded:0"));
        let (one, two) = (RouteId::of("beyond:1"), RouteId::of("beyond:2"));
        assert_eq!(one, two);
        assert!(!std::ptr::eq(first.metrics(), one.metrics()));
    }
}
