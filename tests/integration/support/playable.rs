//! What of a scenario that was recorded over WebSocket has a meaning over long-poll. Decided by kinds of
//! steps and frames, never by names.

use serde_json::{Value, json};

/// The steps to play. Of a scenario
/// - pings and close frames are not sent, because there are none; pongs and close codes are not waited
///   for, while the end that follows a close is: a session ends as well;
/// - nothing is left where raw frames carry what it is about, where the server sends binary, which a
///   polling client cannot read, where headers of the handshake matter, and where it is about HTTP;
/// - nothing is left where nothing is waited for any more.
pub(super) fn over_longpoll(steps: &[Value]) -> Option<Vec<Value>> {
    if steps.iter().any(is_foreign) {
        return None;
    }
    let has_no_frame = |step: &&Value| step.get("ping").is_none() && step.get("close").is_none();
    let steps: Vec<_> = steps
        .iter()
        .filter(has_no_frame)
        .map(without_frames)
        .collect();
    steps.iter().any(waits).then_some(steps)
}

fn is_foreign(step: &Value) -> bool {
    let kinds = ["raw", "http", "headers"];
    kinds.iter().any(|kind| step.get(kind).is_some())
        || frames(step).any(|frame| frame.get("binary").is_some())
}

fn without_frames(step: &Value) -> Value {
    let mut step = step.clone();
    if let Some(frames) = step["got"].as_array_mut() {
        frames.retain(|frame| frame.get("pong").is_none() && frame.get("close").is_none());
        let left = frames.len();
        if let Some(count) = step.get_mut("recv") {
            *count = json!(left);
        }
    }
    step
}

/// Whether a step shows anything: a frame, or a refusal.
fn waits(step: &Value) -> bool {
    let is_refused = step.get("connect").is_some() && step["got"] != json!({"status": 101});
    is_refused || frames(step).next().is_some()
}

/// What a step waits for.
fn frames(step: &Value) -> impl Iterator<Item = &Value> {
    step["got"].as_array().into_iter().flatten()
}
