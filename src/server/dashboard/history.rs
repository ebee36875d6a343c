//! [`History`]: the last ten minutes, a point a second.

use std::collections::VecDeque;
use std::sync::Mutex;

use serde_json::{Value, json};

use crate::lock::lock;

/// The most points: 40 bytes each.
pub(super) const MAX_POINTS: usize = 600;

/// What the charts show of one second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Point {
    /// In seconds since 1970.
    pub(super) at: u64,
    /// Deliveries a second.
    pub(super) deliveries: f64,
    /// Messages of clients a second.
    pub(super) messages: f64,
    /// `None`: nothing was committed lately.
    pub(super) commit_lag_ms: Option<f64>,
    pub(super) outbox_bytes: usize,
}

/// The points, the oldest first.
#[derive(Default)]
pub(super) struct History(Mutex<VecDeque<Point>>);

impl History {
    /// Adds a point, in place of the oldest one if there are enough.
    pub(super) fn add(&self, point: Point) {
        let mut points = lock(&self.0);
        if points.len() == MAX_POINTS {
            points.pop_front();
        }
        points.push_back(point);
    }

    /// A list for each value, all of one length.
    pub(super) fn to_json(&self) -> Value {
        let points = lock(&self.0);
        let list = |value: fn(&Point) -> Value| points.iter().map(value).collect::<Vec<_>>();
        json!({
            "at": list(|point| point.at.into()),
            "deliveries": list(|point| point.deliveries.into()),
            "messages": list(|point| point.messages.into()),
            "commit_lag_ms": list(|point| point.commit_lag_ms.into()),
            "outbox_bytes": list(|point| point.outbox_bytes.into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_minutes_are_kept() {
        let history = History::default();
        for at in 0..MAX_POINTS as u64 + 5 {
            history.add(Point {
                at,
                ..Point::default()
            });
        }
        let shown = history.to_json();
        for list in [
            "at",
            "deliveries",
            "messages",
            "commit_lag_ms",
            "outbox_bytes",
        ] {
            assert_eq!(
                shown[list].as_array().map(Vec::len),
                Some(MAX_POINTS),
                "{list}"
            );
        }
        assert_eq!(
            (&shown["at"][0], &shown["at"][599]),
            (&json!(5), &json!(604))
        );
    }
}
