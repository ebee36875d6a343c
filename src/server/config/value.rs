//! Parsers of values, with their bounds.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// The longest timeout: ten years.
const MAX_DURATION: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// The longest retention: a hundred years.
const MAX_AGE: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// The most messages of a history, which may be one push.
const MAX_HISTORY: usize = 10_000;

/// An address to listen on. `localhost` is 127.0.0.1.
pub(super) fn address(text: &str) -> Result<IpAddr, String> {
    if text.eq_ignore_ascii_case("localhost") {
        return Ok(Ipv4Addr::LOCALHOST.into());
    }
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    bare.unwrap_or(text)
        .parse()
        .map_err(|_| "must be an IP address, such as 0.0.0.0, or localhost".to_owned())
}

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

/// The age at which messages are pruned: a whole number and its unit.
pub(super) fn age(text: &str) -> Result<Duration, String> {
    let wrong = || "must be a whole number with s, m, h or d, such as \"30d\"".to_owned();
    let unit = text.chars().next_back().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 24 * 3600,
        _ => return Err(wrong()),
    };
    let digits = &text[..text.len() - unit.len_utf8()];
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    // A number that overflows is over the limit as well.
    let age = digits.parse::<u64>().ok();
    let age = age.and_then(|number| number.checked_mul(seconds));
    match age.map(Duration::from_secs) {
        Some(age) if !age.is_zero() && age <= MAX_AGE => Ok(age),
        _ => Err("must be more than 0 and at most a hundred years".to_owned()),
    }
}
