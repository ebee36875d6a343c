//! The metrics of the channels that match one pattern.

use std::collections::BTreeMap;
use std::sync::Mutex;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use crate::lock::lock;

/// The most patterns with metrics of their own; later ones share `other`.
const MAX_PATTERNS: usize = 64;
/// The pattern of all further ones.
const OTHER: &str = "other";

/// The handles for the routes with one pattern.
pub(crate) struct RouteMetrics {
    /// Joined channels.
    pub(crate) channels: Gauge,
    /// Joins that were answered with ok.
    pub(crate) joined: Counter,
    /// Joins that the channel refused.
    pub(crate) refused: Counter,
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
        let pattern = pattern.to_owned();
        let joins = |result: &'static str| {
            let pattern = pattern.clone();
            counter!("slackir_joins_total", "pattern" => pattern, "result" => result)
        };
        Self {
            channels: gauge!("slackir_channels", "pattern" => pattern.clone()),
            joined: joins("ok"),
            refused: joins("refused"),
            join_crashed: joins("crashed"),
            join_seconds: histogram!("slackir_join_seconds", "pattern" => pattern.clone()),
            handle_in_seconds: histogram!("slackir_handle_in_seconds", "pattern" => pattern.clone()),
            crashes: counter!("slackir_channel_crashes_total", "pattern" => pattern),
        }
    }
}

/// The metrics of the routes with this pattern. They live as long as the process: there are at most 65.
pub(crate) fn route_metrics(pattern: &str) -> &'static RouteMetrics {
    static KNOWN: Mutex<BTreeMap<String, &'static RouteMetrics>> = Mutex::new(BTreeMap::new());
    let mut known = lock(&KNOWN);
    let has_room = known.len() < MAX_PATTERNS;
    let name = match known.get(pattern) {
        Some(metrics) => return metrics,
        None if has_room => pattern,
        None => OTHER,
    };
    known
        .entry(name.to_owned())
        .or_insert_with(|| Box::leak(Box::new(RouteMetrics::new(name))))
}

pub(super) fn describe() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_gauge!("slackir_channels", "Joined channels, by pattern");
    describe_counter!(
        "slackir_joins_total",
        "Answered joins, by pattern and result"
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
    fn patterns_beyond_the_bound_share_their_metrics() {
        let first = route_metrics("bounded:0");
        for n in 0..MAX_PATTERNS {
            route_metrics(&format!("bounded:{n}"));
        }
        assert!(std::ptr::eq(first, route_metrics("bounded:0")));
        let (one, two) = (route_metrics("beyond:1"), route_metrics("beyond:2"));
        assert!(std::ptr::eq(one, two));
    }
}
