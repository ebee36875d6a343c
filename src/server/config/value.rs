//! Parsers of values, with their bounds.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// The longest timeout: ten years.
const MAX_DURATION: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// The longest delay of a shutdown.
const MAX_DELAY: Duration = Duration::from_secs(3_600);

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

/// A further path of the socket.
pub(super) fn socket_path(text: &str) -> Result<String, String> {
    let segments = text.strip_prefix('/').map(|rest| rest.split('/'));
    let is_plain = |segment: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
        !segment.is_empty() && segment.bytes().all(plain)
    };
    if !segments.is_some_and(|mut segments| segments.all(is_plain)) {
        return Err("must be a path, such as /api/socket".to_owned());
    }
    Ok(text.to_owned())
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
    let duration = number_of_seconds(text)?;
    if duration.is_zero() || duration > MAX_DURATION {
        return Err("must be more than 0 and at most ten years".to_owned());
    }
    Ok(duration)
}

/// Seconds to wait.
pub(super) fn delay(text: &str) -> Result<Duration, String> {
    let duration = number_of_seconds(text)?;
    if duration > MAX_DELAY {
        return Err("must be at most an hour".to_owned());
    }
    Ok(duration)
}

fn number_of_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|error| format!("{error}"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| format!("{error}"))
}
