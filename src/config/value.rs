//! Values as people write them, and their bounds.

use std::time::Duration;

/// Long enough for any timeout.
const MAX_DURATION: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A history longer than this does not belong into one push.
const MAX_HISTORY: usize = 10_000;

pub(super) fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("must be a whole number of at least 1".to_owned()),
        Ok(number) => Ok(number),
    }
}

pub(super) fn history_limit(text: &str) -> Result<usize, String> {
    let limit = positive(text)?;
    if limit > MAX_HISTORY {
        return Err(format!("must be at most {MAX_HISTORY}"));
    }
    Ok(limit)
}

pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|error| format!("{error}"))?;
    let duration = Duration::try_from_secs_f64(seconds).map_err(|error| format!("{error}"))?;
    if duration.is_zero() || duration > MAX_DURATION {
        return Err("must be more than 0 and at most ten years".to_owned());
    }
    Ok(duration)
}
