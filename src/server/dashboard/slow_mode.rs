//! Slow mode: puts a topic into it, and takes it out.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::Dashboard;
use super::audit::Deed;
use super::operator::Operator;
use super::people::lasting;
use super::requests::{Answer, NewSlowMode};
use super::rooms::unix;
use crate::pattern::first_match;
use crate::slow_mode::{MAX_INTERVAL, SlowMode};

impl Dashboard {
    /// The slow mode of a topic; null if it is in none.
    pub(super) fn slow_mode(&self, topic: &str) -> Value {
        let sanctions = self.0.services.sanctions.as_ref();
        let mode = sanctions.and_then(|sanctions| sanctions.slow_mode(topic));
        mode.as_ref().map_or(Value::Null, shown)
    }

    pub(super) async fn slow_down(&self, new: NewSlowMode, operator: Operator) -> Answer {
        let sanctions = self.sanctions()?;
        let NewSlowMode {
            topic,
            interval,
            seconds,
        } = new;
        if !(1..=MAX_INTERVAL).contains(&interval) {
            return Err(
                "The time between two messages must be at least a second and at most an hour."
                    .to_owned(),
            );
        }
        if topic.contains('\0') || first_match(&*self.rooms(), &topic).is_none() {
            return Err(
                "No configured room has this topic: a slow mode has no effect here.".to_owned(),
            );
        }
        let lasts = seconds.map(lasting).transpose()?;
        let ends = lasts.map(|lasts| SystemTime::now() + lasts);
        let deed = Deed {
            topic: Some(&topic),
            interval: Some(interval),
            seconds,
            ..Deed::default()
        };
        let interval = Duration::from_secs(interval);
        let done = sanctions.slow_down(topic.clone(), interval, ends).await;
        let (mode, _) = done.map_err(|error| format!("Nothing was changed: {error}."))?;
        operator.audit("slow mode set", &deed);
        Ok(shown(&mode))
    }

    pub(super) async fn end_slow_mode(&self, topic: String, operator: Operator) -> Answer {
        let ended = self.sanctions()?.end_slow_mode(&topic).await;
        if !ended.map_err(|error| format!("Nothing was changed: {error}."))? {
            return Err("The room is in slow mode no more.".to_owned());
        }
        let deed = Deed {
            topic: Some(&topic),
            ..Deed::default()
        };
        operator.audit("slow mode removed", &deed);
        Ok(json!({}))
    }
}

fn shown(mode: &SlowMode) -> Value {
    json!({ "interval": mode.interval.as_secs(), "until": mode.ends.map(unix) })
}
